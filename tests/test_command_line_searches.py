"""``evodiff smoke`` tries what ``evodiff evolve`` will do: it takes the options that decide what a generation does."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import NoReturn

import pytest
from typer.testing import CliRunner

from evodiff.cli import app, searching
from evodiff.errors import SettingsError
from evodiff.settings import Settings

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
