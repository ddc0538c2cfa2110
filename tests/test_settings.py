"""Where settings come from, and what is said of sources that cannot be read."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from evodiff.deployment.release.rollout_settings import load_rollout_settings
from evodiff.deployment.settings import load_serving_settings
from evodiff.errors import SettingsError
from evodiff.settings import PREFIX, TrainingSettings, load_settings, settings_sources


@pytest.fixture(autouse=True)
def _folder_and_environment_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("os.environ", {})


def test_options_come_before_variables_and_these_before_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("params.yaml").write_text("seed: 1\npopulation: 5\ntraining: {steps: 7, batch_size: 9}\n")
    monkeypatch.setenv("EVODIFF_SEED", "2")
    monkeypatch.setenv("EVODIFF_TRAINING__STEPS", "8")
    monkeypatch.setenv("EVODIFF_OBJECTIVES", '["kid"]')
    settings = load_settings({"seed": 3, "steps": 11})
    assert (settings.seed, settings.population, settings.objectives) == (3, 5, ("kid",))
    assert settings.training == TrainingSettings(steps=11, batch_size=9)
    assert settings_sources({"seed": 3}) == {
        "seed": "option",
        "population": "params.yaml",
        "training.steps": "environment",
        "training.batch_size": "params.yaml",
        "objectives": "environment",
    }
    assert settings_sources({"steps": 11})["training.steps"] == "option"
    assert set(settings_sources({"training": TrainingSettings()}).values()) == {"option", "environment", "params.yaml"}


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"- seed\n- 3\n", "a list"),
        (b"just words", "a str"),
        (b"3: 4\n", "the name 3"),
        (b"seed: \xff\n", "codec"),
        (b"seed: [3\n", "expected ',' or ']'"),
        (None, "Is a directory"),
    ],
)
def test_a_file_of_parameters_that_is_none_is_named(content: bytes | None, found: str, tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    if content is None:
        file.mkdir()
    else:
        file.write_bytes(content)
    with pytest.raises(SettingsError, match="expected a mapping of names to values") as caught:
        load_settings({})
    assert str(file) in caught.value.headline
    assert found in caught.value.headline


@pytest.mark.parametrize("content", ["", "# nothing\n", "seed: 4\n"])
def test_a_file_of_parameters_may_say_little(content: str) -> None:
    Path("params.yaml").write_text(content)
    assert load_settings({}).seed == (4 if content.startswith("seed") else 0)


@pytest.mark.parametrize("content", ["nope: 3\n", "training: {nope: 3}\n", "training: {3: 4}\n", "seed: x\n"])
def test_a_parameter_that_is_no_setting_is_named(content: str) -> None:
    Path("params.yaml").write_text(content)
    with pytest.raises(SettingsError, match=r"Setting (nope|training\.nope|training\.3|seed)"):
        load_settings({})


@pytest.mark.parametrize(
    ("prefix", "load"),
    [
        ("EVODIFF_", lambda: load_settings({})),
        ("EVODIFF_SERVE_", lambda: load_serving_settings({})),
        ("EVODIFF_ROLLOUT_", load_rollout_settings),
    ],
)
def test_wrong_variables_of_all_settings_are_told_alike(
    prefix: str, load: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    number, several = {
        "EVODIFF_": ("population", "objectives"),
        "EVODIFF_SERVE_": ("max_batch", "allowed_hosts"),
        "EVODIFF_ROLLOUT_": ("min_samples", "steps"),
    }[prefix]
    monkeypatch.setenv(f"{prefix}{number.upper()}", "-7")
    with pytest.raises(SettingsError, match=f"Setting {number}: .* found '-7'") as caught:
        load()
    assert prefix in caught.value.remedy
    monkeypatch.setenv(f"{prefix}{number.upper()}", "8")
    monkeypatch.setenv(f"{prefix}{several.upper()}", "[1, ")
    with pytest.raises(SettingsError, match=re.escape(f"{prefix}* variables cannot be read")):
        load()


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("EVODIFF_SED", "did you mean EVODIFF_SEED"),
        ("EVODIFF_TRAINING_STEPS", "did you mean EVODIFF_TRAINING__STEPS"),
        ("EVODIFF_NOPE", "no setting has a name like that"),
    ],
)
def test_a_variable_that_sets_nothing_is_warned_of(name: str, meant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "1")
    with pytest.warns(UserWarning, match=f"The variable {name} sets nothing: {meant}"):
        load_settings({})


def test_no_variable_that_something_reads_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    project = Path(__file__).parents[1]
    places = [project / name for name in ("docker-compose.yaml", "Makefile", "Procfile")]
    for folder in ("evodiff", "dags", "plugins", "deploy", "tests"):
        places += [path for path in (project / folder).rglob("*") if path.suffix in (".py", ".yaml", ".yml", "")]
    texts = [path.read_text() for path in places if path.is_file() and path != Path(__file__)]
    read = {name for text in texts for name in re.findall(rf"\b{PREFIX}([A-Z_]*[A-Z])\b", text)}
    assert {"AIRFLOW_PORT", "RETRY_SECONDS"} <= read
    for name in {*read, "REQUIRE_SERVERS"}:
        monkeypatch.setenv(PREFIX + name, "3")
    with warnings.catch_warnings(), suppress(SettingsError):  # 3 is not a value of everything
        warnings.simplefilter("error")
        load_settings({})
