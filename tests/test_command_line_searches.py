"""Before a search: ``evodiff smoke`` takes what decides a generation, ``evodiff strategies`` lists every option."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import NoReturn

import pytest
from typer.testing import CliRunner

from evodiff.cli import app, searching
from evodiff.engine.strategies import STRATEGIES, options_of
from evodiff.errors import SettingsError
from evodiff.reporting.strategy_options import MEANINGS
from evodiff.settings import Settings, load_settings

# How long a search goes on, where it lies and what else is done; nothing that a generation would do otherwise.
AROUND_GENERATIONS = {
    "generations",
    "out",
    "warm_start",
    "time_budget",
    "stop_on_plateau",
    "champion_steps",
    "baseline",
    "resume",
}


def test_smoke_takes_every_option_of_evolve_that_decides_what_a_generation_does() -> None:
    whole, small = (inspect.signature(verb).parameters for verb in (searching.evolve, searching.smoke))
    assert set(whole) - AROUND_GENERATIONS == set(small)


def test_smoke_tries_the_settings_that_it_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[Settings] = []

    def stopped(settings: Settings, **_: object) -> NoReturn:
        tried.append(settings)
        raise SettingsError("seen")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("evodiff.smoke.smoke", stopped)
    for option in ("--inherit", "--replicate-ties"):
        done = CliRunner().invoke(app, ["smoke", option])
        assert isinstance(done.exception, SettingsError), done.output
    assert [(settings.inherit, settings.replicate_ties) for settings in tried] == [(True, False), (False, True)]


def test_smoke_refuses_replicates_of_heirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("evodiff.smoke.open_workers", lambda *_: pytest.fail("it was refused too late"))
    done = CliRunner().invoke(app, ["smoke", "--inherit", "--replicate-ties"])
    assert isinstance(done.exception, SettingsError), done.output


def test_the_strategies_are_listed_with_every_option_its_default_and_its_meaning() -> None:
    done = CliRunner().invoke(app, ["strategies"], env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    rows = [line.split(maxsplit=1) for line in done.output.splitlines() if line.strip()]
    for strategy in STRATEGIES:
        assert sum(first == strategy for first, *_ in rows) == 1
        for option, value in options_of(strategy).items():
            shown = rf"\b{option} +{json.dumps(value)} +{re.escape(MEANINGS[option])}"
            assert re.search(shown, done.output), f"{option} of {strategy}"


def test_a_default_is_listed_as_params_yaml_takes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for strategy in STRATEGIES:
        shown = json.dumps(options_of(strategy))
        Path("params.yaml").write_text(f"strategy: {strategy}\nstrategy_options: {shown}\n", encoding="utf-8")
        assert load_settings({}).strategy_options == options_of(strategy)


def test_no_meaning_is_of_an_option_that_no_strategy_has() -> None:
    assert set(MEANINGS) == {option for strategy in STRATEGIES for option in options_of(strategy)}
