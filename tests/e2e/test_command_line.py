"""Every verb of the command line on a real run, and what it says to bad input."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from quick_search import QUICK, CommandLine

pytestmark = pytest.mark.e2e


@pytest.fixture
def copied_run(finished_run: Path, tmp_path: Path) -> Path:
    """A copy of the finished run that a test may spoil."""
    folder = tmp_path / "copy"
    shutil.copytree(finished_run, folder)
    return folder


def champion_of(run: Path) -> str:
    return str(json.loads((run / "final" / "champion.json").read_text())["champion"])


def test_a_search_leaves_a_report_a_champion_and_its_random_arm(finished_run: Path) -> None:
    assert (finished_run / "report" / "index.html").stat().st_size > 1_000_000  # Plotly is inside
    assert (finished_run / "final" / champion_of(finished_run) / "pictures.safetensors").exists()
    arm = finished_run.with_name("digits-random")
    assert json.loads((arm / "experiment.json").read_text())["strategy"]["name"] == "random"
    assert (arm / "generations" / "0001" / "result.json").exists()


def test_the_random_arm_starts_from_the_same_candidates_with_the_same_results(finished_run: Path) -> None:
    arm = finished_run.with_name("digits-random")
    first = (finished_run / "generations" / "0000" / "evaluations.jsonl").read_bytes()
    assert (arm / "generations" / "0000" / "evaluations.jsonl").read_bytes() == first


def test_an_exported_champion_samples_in_a_process_that_only_imports_evodiff(
    finished_run: Path, evodiff: CommandLine, tmp_path: Path
) -> None:
    folder, grid = tmp_path / "pipeline", tmp_path / "grid.png"
    evodiff("export", finished_run, "champion", "--out", folder)
    evodiff("sample", folder, "--count", 4, "--steps", 3, "--out", grid)
    with Image.open(grid) as picture:
        assert np.asarray(picture).std() > 0
    program = (
        "import evodiff; from diffusers import DiffusionPipeline;"
        f"print(DiffusionPipeline.from_pretrained({str(folder)!r}).unet.__class__.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "EvolvedUNet2DModel"


def test_show_trials_and_compare_speak_of_the_same_numbers(
    finished_run: Path, evodiff: CommandLine, tmp_path: Path
) -> None:
    champion = champion_of(finished_run)
    rows = list(csv.DictReader(io.StringIO(evodiff("trials", finished_run, "--csv").stdout)))
    assert len(rows) == 8
    row = next(row for row in rows if row["candidate"] == champion)
    evaluations = [
        json.loads(line)
        for path in sorted(finished_run.glob("generations/*/evaluations.jsonl"))
        for line in path.read_text().splitlines()
    ]
    stored = next(item for item in evaluations if item["trial"] == row["trial"])
    assert float(row["kid"]) == stored["objectives"]["kid"]
    assert champion in evodiff("show", finished_run, champion[:8], "--svg", tmp_path / "d.svg").stdout
    assert (tmp_path / "d.svg").read_text().startswith("<svg")
    page = tmp_path / "comparison.html"
    evodiff("compare", finished_run, finished_run.with_name("digits-random"), "--out", page)
    assert page.stat().st_size > 1_000_000


def test_validate_uses_the_second_feature_net_and_the_report_shows_it(copied_run: Path, evodiff: CommandLine) -> None:
    printed = evodiff("validate", copied_run, "--samples", 64).stdout
    assert [name for name in ("KID", "precision", "coverage", "memorisation") if name not in printed] == []
    found = json.loads((copied_run / "final" / champion_of(copied_run) / "validation.json").read_text())
    experiment = json.loads((copied_run / "experiment.json").read_text())
    evaluation = json.loads((copied_run / "generations" / "0000" / "evaluations.jsonl").read_text().splitlines()[0])
    assert found["feature_net"] != evaluation["details"]["feature_net"]
    assert found["feature_net"] == experiment["settings"]["digests"]["report_feature_net"]
    page = (copied_run / "report" / "index.html").read_text()
    assert "Fréchet distance" in page
    assert page.count("its nearest training image") == 8


@pytest.mark.slow
def test_validate_holds_a_champion_against_its_rivals_once(copied_run: Path, evodiff: CommandLine) -> None:
    options = ("--rivals", "--seeds", 1, "--steps", 2, "--samples", 64, "--workers", 2)
    printed = evodiff("validate", copied_run, *options).stdout
    champion = champion_of(copied_run)
    found = json.loads((copied_run / "validation" / f"{champion}.json").read_text())
    names = [network["name"] for network in found["networks"]]
    assert names[0] == "champion"
    assert len(names) + len(found["left_out"]) == 1 + 7
    assert f"champion and {len(names) - 1} rivals, 1 seed each" in " ".join(printed.split())
    assert [name for name in names if name not in printed] == []
    for network in found["networks"]:
        trainings = [score for budget in network["budgets"].values() for score in budget["trainings"]]
        assert [name for score in trainings for name in score] == ["kid", "kid_standard_error", "label_accuracy"] * 2
    robustness = json.loads((copied_run / "final" / champion / "robustness.json").read_text())
    assert {item["aspect"] for item in robustness["variants"]} == {"guidance", "steps", "spacing", "precision"}
    page = (copied_run / "report" / "index.html").read_text()
    assert 'id="rivals-equal-compute"' in page
    assert 'id="robustness-precision"' in page

    derived = [*(copied_run / "validation").rglob("*"), *(copied_run / "final").rglob("*.json")]
    before = {path: path.stat().st_mtime_ns for path in derived if path.is_file()}
    again = evodiff("validate", copied_run, *options).stdout
    assert "all trainings are done and judged" in " ".join(again.split())
    assert {path: path.stat().st_mtime_ns for path in before} == before
    tables = [text[text.index("Validation on test images") :] for text in (printed, again)]
    assert tables[0] == tables[1]


def test_a_shorter_training_never_replaces_a_longer_one(copied_run: Path, evodiff: CommandLine) -> None:
    final = copied_run / "final" / champion_of(copied_run)
    before = (final / "weights.safetensors").read_bytes()
    evodiff("validate", copied_run, "champion", "--steps", 3, "--samples", 64)
    assert (final / "weights.safetensors").read_bytes() == before
    evodiff("validate", copied_run, champion_of(copied_run)[:8], "--steps", 9, "--samples", 64)
    assert json.loads((final / "config.json").read_text())["steps"] == 9
    assert (final / "pictures.safetensors").exists()


def test_the_report_of_the_folder_one_stands_in_is_written(copied_run: Path, environment: dict[str, str]) -> None:
    command = [Path(sys.executable).with_name("evodiff"), "report", "."]
    done = subprocess.run(command, cwd=copied_run, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "report/index.html"


def test_resume_takes_no_other_folder_and_no_baseline(finished_run: Path, evodiff: CommandLine) -> None:
    for option in (("--out", "elsewhere"), ("--baseline",)):
        done = evodiff("evolve", "--resume", finished_run, *option, check=False)
        assert (done.returncode, option[0] in done.stderr) == (2, True)


@pytest.mark.parametrize(("name", "value"), [("EVODIFF_OBJECTIVES", "kid"), ("EVODIFF_SEED", "abc")])
def test_a_variable_that_cannot_be_read_is_named(
    name: str, value: str, environment: dict[str, str], tmp_path: Path
) -> None:
    command = [Path(sys.executable).with_name("evodiff"), "evolve", "--out", str(tmp_path / "run")]
    done = subprocess.run(command, env={**environment, name: value}, capture_output=True, text=True)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert name.removeprefix("EVODIFF_").lower() in done.stderr


@pytest.mark.parametrize("name", ["final/champion.json", "inputs/calibration.json", "inputs/dataset.safetensors"])
def test_a_damaged_file_beside_the_ledger_is_named_without_a_traceback(
    name: str, copied_run: Path, evodiff: CommandLine
) -> None:
    (copied_run / name).unlink()  # it may be a hard link into the cache
    (copied_run / name).write_bytes(b"{")
    done = evodiff("evolve", "--resume", copied_run, "--generations", 3, check=False)
    assert "Traceback" not in done.stderr
    if name.startswith("inputs"):
        assert (done.returncode, name in done.stderr) == (2, True)
    else:
        assert done.returncode == 0  # derived, so made again


def test_a_cut_line_of_telemetry_spoils_nothing(copied_run: Path, evodiff: CommandLine) -> None:
    with (copied_run / "telemetry" / "events.jsonl").open("a") as stream:
        stream.write('{"event": "tri')
    evodiff("report", copied_run)


def test_prune_frees_disk_and_the_run_still_resumes(copied_run: Path, evodiff: CommandLine) -> None:
    assert list((copied_run / "scratch").glob("*"))
    evodiff("prune", copied_run)
    assert not (copied_run / "scratch").exists()
    evodiff("evolve", "--resume", copied_run, "--generations", 3, "--champion-steps", 6)
    assert (copied_run / "generations" / "0002" / "result.json").exists()


def test_the_steps_of_a_generation_in_two_shards_give_the_same_bytes_as_evolve(
    finished_run: Path, copied_run: Path, evodiff: CommandLine
) -> None:
    for folder in ("generations/0001", "leases", "final"):
        shutil.rmtree(copied_run / folder)
    assert evodiff("generation", "open", "--run", copied_run, "--holder", "me").stdout.strip() == "1"
    assert evodiff("generation", "open", "--run", copied_run, "--holder", "me").stdout.strip() == "1"
    named = ("--run", copied_run, "--generation", 1)
    planned = evodiff("generation", "plan", *named).stdout
    assert len(planned.splitlines()) == 4
    assert evodiff("generation", "plan", *named).stdout == planned
    early = evodiff("generation", "evaluate", *named, check=False)
    assert early.returncode == 2
    assert "generation train" in early.stderr
    for shard in ("1/2", "2/2", "2/2"):
        evodiff("generation", "train", *named, "--shard", shard, "--workers", 1)
    for shard in ("1/2", "2/2"):
        evodiff("generation", "evaluate", *named, "--shard", shard, "--workers", 1)
    evodiff("generation", "select", *named)
    evodiff("generation", "select", *named)
    for name in ("plan.jsonl", "evaluations.jsonl", "result.json"):
        redone = (copied_run / "generations" / "0001" / name).read_bytes()
        assert redone == (finished_run / "generations" / "0001" / name).read_bytes()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--dataset", "digit"), ("digit", "folder:PATH")),
        (("--dataset", "folder:/no/such/folder"), ("/no/such/folder",)),
        (("--objectives", "kid,speed"), ("speed", "latency_ms")),
        (("--objectives", "latency_ms"), ("kid",)),
        (("--prefer", "latency<2"), ("latency", "latency_ms")),
        (("--target", "m9"), ("m9", "m2-pro")),
        (("--strategy", "genius"), ("genius", "nsga2")),
    ],
)
def test_a_setting_that_cannot_be_used_ends_with_2_and_says_what_to_do(
    arguments: tuple[str, ...], says: tuple[str, ...], evodiff: CommandLine, tmp_path: Path
) -> None:
    done = evodiff("evolve", *arguments, "--out", tmp_path / "run", check=False)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert [word for word in says if word not in done.stderr] == []
    assert not (tmp_path / "run" / "experiment.json").exists()


@pytest.mark.parametrize(
    "option",
    [("--population", "8"), ("--seed", "3"), ("--steps", "9"), ("--objectives", "kid"), ("--dataset", "shapes")],
)
def test_resume_with_another_setting_names_it_and_changes_nothing(
    option: tuple[str, str], finished_run: Path, evodiff: CommandLine
) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished_run.rglob("*")}
    done = evodiff("evolve", "--resume", finished_run, *option, check=False)
    assert done.returncode == 2
    assert option[0] in done.stderr
    assert {path: path.stat().st_mtime_ns for path in finished_run.rglob("*")} == before


def test_a_folder_in_use_is_refused(finished_run: Path, evodiff: CommandLine) -> None:
    done = evodiff("evolve", *QUICK, "--out", finished_run, check=False)
    assert done.returncode == 2
    assert "--resume" in done.stderr


def test_another_format_and_a_damaged_file_are_named_without_a_traceback(
    copied_run: Path, evodiff: CommandLine
) -> None:
    experiment = copied_run / "experiment.json"
    whole = experiment.read_text()
    experiment.write_text(whole.replace("evodiff-ledger-1", "evodiff-ledger-99"))
    other = evodiff("report", copied_run, check=False)
    assert (other.returncode, "Traceback" in other.stderr) == (2, False)
    assert "evodiff-ledger-99" in other.stderr
    experiment.write_text(whole[: len(whole) // 2])
    damaged = evodiff("report", copied_run, check=False)
    assert (damaged.returncode, "Traceback" in damaged.stderr) == (2, False)
    assert "experiment.json" in damaged.stderr
    experiment.write_text(whole)
    (copied_run / "generations" / "0001" / "result.json").write_text("{}\n")
    emptied = evodiff("report", copied_run, check=False)
    assert (emptied.returncode, "Traceback" in emptied.stderr) == (2, False)
    assert "result.json" in emptied.stderr
    nothing = evodiff("report", copied_run / "nothing", check=False)
    assert (nothing.returncode, "Traceback" in nothing.stderr) == (2, False)


def test_a_damaged_evaluation_is_set_aside_and_done_again(copied_run: Path, evodiff: CommandLine) -> None:
    generation = copied_run / "generations" / "0001"
    whole = (generation / "evaluations.jsonl").read_bytes()
    (generation / "result.json").unlink()
    (generation / "evaluations.jsonl").unlink()
    damaged = next((generation / "evaluations").iterdir())
    damaged.write_text("{")
    evodiff("evolve", "--resume", copied_run, "--generations", 2, "--champion-steps", 6)
    assert (generation / "evaluations.jsonl").read_bytes() == whole
    assert list((copied_run / "telemetry" / "damaged").iterdir())


@pytest.mark.slow
def test_a_full_disk_ends_with_2_and_what_was_stored_goes_on(
    environment: dict[str, str], evodiff: CommandLine, tmp_path: Path
) -> None:
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("a file system of a few megabytes needs root to mount it")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", disk], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("this container may not mount a file system")
    try:
        done = evodiff("evolve", *QUICK, "--generations", 2, "--out", disk / "run", check=False)
        assert done.returncode == 2, done.stderr
        assert "Traceback" not in done.stderr
        assert "space" in done.stderr.lower()
        subprocess.run(["mount", "-o", "remount,size=1g", disk], check=True)
        evodiff("evolve", "--resume", disk / "run", "--generations", 2, "--champion-steps", 6)
        lines = [path.read_text() for path in (disk / "run").glob("generations/*/evaluations.jsonl")]
        assert len(lines) == 2
        assert [text for text in lines if "storage" in text] == []
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def test_help_names_every_verb(evodiff: CommandLine) -> None:
    text = evodiff("--help").stdout
    verbs = ("evolve", "generation", "calibrate", "export", "sample", "report", "validate", "show", "compare", "trials")
    assert [verb for verb in (*verbs, "prune") if verb not in text] == []
