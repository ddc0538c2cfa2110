"""What an archive holds of a run: what was recorded for its stages, and what they put out.

Archiving a run and rebuilding a generation write the outputs by the same functions, so equal results are equal files.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from evodiff.engine.encoding import digest as content_digest
from evodiff.engine.encoding import encode_document
from evodiff.engine.layout import evaluations_name, plan_name, result_name
from evodiff.engine.layout import generation_folder as ledger_folder
from evodiff.errors import DatasetError, LedgerError
from evodiff.pipeline.archive.layout import DATASET_FILE, FEATURE_NET_FILE, NET_VARIANTS, RECORDED
from evodiff.pipeline.create import file_digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from evodiff.engine.ledger import Ledger
    from evodiff.pipeline.run import Run

_WEIGHTS_FILES = ("weights.safetensors", "config.json", "digests.json")


def record_dataset(file: Path, digest: str, folder: Path) -> None:
    """Copy a dataset's file, of the given SHA-256, into ``folder``, with what it takes to make it again.

    Raises:
        DatasetError: it is no dataset.
        LedgerError: it has another digest.
    """
    name, size = describe_dataset(file)
    _write(folder / "dataset.json", encode_document({"name": name, "image_size": size, "digest": digest}))
    _copy_checked(file, digest, folder / DATASET_FILE)


def describe_dataset(file: Path) -> tuple[str, int]:
    """Return the name of the dataset in a file, and pixels a side.

    Raises:
        DatasetError: it is no dataset.
    """
    try:
        with safe_open(file, framework="numpy") as content:
            return json.loads(content.metadata()["evodiff"])["name"], content.get_slice("images").get_shape()[-1]
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(
            f"Expected a dataset in {file}, but it cannot be read: {error}.", remedy="Prepare the dataset again."
        ) from error


def record_feature_net(file: Path, digest: str, folder: Path, *, variant: str, dataset: str) -> None:
    """Copy a feature net's file, of the given SHA-256, into ``folder``, with what it takes to train it again.

    ``dataset`` is the key of the images that it knows.

    Raises:
        LedgerError: it has another digest.
    """
    about = {"variant": variant, "dataset": dataset, "digest": digest}
    _write(folder / "feature_net.json", encode_document(about))
    _copy_checked(file, digest, folder / FEATURE_NET_FILE)


def record_experiment(run: Run, folder: Path) -> None:
    """Copy what a run froze into ``folder``; dataset and feature nets have places of their own."""
    _write(folder / "experiment.json", _content(run.ledger, "experiment.json"))
    elsewhere = {DATASET_FILE, *(f"{name}.safetensors" for name in NET_VARIANTS)}
    _copy_files((file for file in run.inputs.iterdir() if file.name not in elsewhere), folder / "inputs")


def record_generation(run: Run, generation: int, folder: Path, *, weights: Iterable[str]) -> None:
    """Copy what a generation took from outside into ``folder/inputs``, beside ``recorded.json``.

    That says which ``weights`` the archive keeps, and why the generation cannot be rebuilt, where it cannot.
    """
    outside = run.path / ledger_folder(generation) / "inputs"
    _copy_files(outside.iterdir() if outside.is_dir() else (), folder / "inputs")
    recorded = {"weights": sorted(weights), "pull_only": pull_only(run, generation)}
    _write(folder / "inputs" / RECORDED, encode_document(recorded))


def pull_only(run: Run, generation: int) -> str | None:
    """Return why computing a closed generation again may give other bytes; None where it gives the same."""
    device = run.settings["device"]
    if device != "cpu":
        return f"it was computed on {device}, which does not give the same bytes twice"
    failures = _result(run.ledger, generation)["environment_failures"]
    return f"trials were given up for their environment: {', '.join(failures)}" if failures else None


def export_genomes(ledger: Ledger, generation: int, folder: Path) -> None:
    """Write what the stage ``genomes`` puts out."""
    _write(folder / "plan.jsonl", _content(ledger, plan_name(generation)))


def export_evaluations(ledger: Ledger, generation: int, folder: Path) -> None:
    """Write what the stage ``evaluations`` puts out, but for the weights; what another attempt left there goes."""
    shutil.rmtree(folder / "evaluations", ignore_errors=True)
    for name in (evaluations_name(generation), result_name(generation)):
        _write(folder / "evaluations" / Path(name).name, _content(ledger, name))
    _write(folder / "evaluations" / "history.json", encode_history(ledger, generation))
    result = _result(ledger, generation)
    figures = {**result["metrics"], "hypervolume": result["hypervolume"], "front": len(result["front"])}
    _write(folder / "metrics.json", encode_document(figures))


def export_weights(ledger: Ledger, generation: int, folder: Path, wanted: Iterable[str] | None = None) -> list[str]:
    """Copy weights of a generation's trials to ``folder/evaluations/weights``; return the names of those copied.

    By default they are those of the front and the survivors that the generation decided on. Weights that were pruned,
    or are being pruned meanwhile, are left out.
    """
    names = kept_weights(ledger, generation) if wanted is None else wanted
    return [name for name in names if _copy_weights(ledger, generation, folder, name)]


def kept_weights(ledger: Ledger, generation: int) -> list[str]:
    """Return the names of the weights of a closed generation's trials that an archive keeps."""
    result = _result(ledger, generation)
    kept = {*result["front"], *result["survivors"]}
    rows = (row for row in ledger.plan(generation) if row["candidate"] in kept)
    return sorted({ledger.weights_folder(row).name for row in rows})


def encode_history(ledger: Ledger, generation: int) -> bytes:
    """Return ``history.json``: digests of what a closed generation left, and of the history before it.

    So it stands for the whole run up to there, and the next generation need depend on no other file.
    """
    before = _content(ledger, "experiment.json")
    for index in range(generation + 1):
        names = plan_name(index), evaluations_name(index), result_name(index)
        files = {Path(name).name: content_digest(_content(ledger, name)) for name in names}
        before = encode_document({"generation": index, "before": content_digest(before), "files": files})
    return before


def _copy_weights(ledger: Ledger, generation: int, folder: Path, name: str) -> bool:
    assert ledger.path is not None
    source = ledger.path / ledger_folder(generation) / "weights" / name
    target = folder / "evaluations" / "weights" / name
    target.mkdir(parents=True, exist_ok=True)
    try:
        for file in _WEIGHTS_FILES:
            shutil.copyfile(source / file, target / file)
    except FileNotFoundError:
        shutil.rmtree(target)
        return False
    return True


def _copy_checked(file: Path, digest: str, target: Path) -> None:
    shutil.copyfile(file, target)
    found = file_digest(target)
    if found != digest:
        raise LedgerError(
            f"{file} is not what the run was created with: expected digest {digest}, found {found}.",
            remedy="Restore it from a copy; nothing was archived.",
        )


def _copy_files(files: Iterable[Path], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        if file.is_file():
            shutil.copyfile(file, folder / file.name)


def _result(ledger: Ledger, generation: int) -> Mapping[str, Any]:
    result = ledger.result(generation)
    if result is None:
        raise LedgerError(
            f"Generation {generation} of {ledger.label} is not closed.", remedy="Archive it once it is selected."
        )
    return result


def _content(ledger: Ledger, name: str) -> bytes:
    content = ledger.read(name)
    if content is None:
        raise LedgerError(
            f"{name} of {ledger.label} is missing.", remedy="Restore it from a copy; nothing was archived."
        )
    return content


def _write(file: Path, content: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.unlink(missing_ok=True)  # what DVC left there may be a read-only link into its cache
    file.write_bytes(content)
