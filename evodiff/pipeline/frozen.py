"""What a run froze, against what somebody asks for who goes on with it."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evodiff.errors import SettingsError
from evodiff.settings import PARAMS_FILE, Settings, Source, settings_sources, variable_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from evodiff.pipeline.run import Run

MAY_CHANGE = "--generations, --workers, --time-budget, --champion-steps and --stop-on-plateau may change"
_SIZED = ("photos", "shapes")  # datasets that a run names with their size


@dataclass(frozen=True)
class Contradiction:
    """A setting, named as ``seed`` or ``training.steps``, that is frozen with another value than the one found."""

    name: str
    frozen: Any
    found: Any


def contradictions(run: Run, settings: Settings, names: Iterable[str]) -> list[Contradiction]:
    """Return those of the settings called ``names`` that are not what ``run`` froze; others never contradict it.

    Different words for one thing agree: ``photos`` and ``photos:32`` of a run at 32 pixels, two paths of one folder, a
    device ``auto``, objectives in another order.
    """
    frozen = run.options()
    asked = {name: _value(settings, name) for name in names if name in frozen}
    return [
        Contradiction(name, frozen[name], found)
        for name, found in asked.items()
        if not _agree(run, name, frozen[name], found)
    ]


def check_resume(run: Run, settings: Settings, given: Mapping[str, Any]) -> None:
    """Check that what was chosen agrees with what ``run`` froze: ``given`` options, and variables of the environment.

    What ``params.yaml`` says otherwise is ignored, for it is there for new runs too; what is no default is warned of.

    Raises:
        SettingsError: an option or a variable contradicts the run; the message says which.
    """
    sources = settings_sources(given)
    defaults = Settings.model_construct()
    for item in contradictions(run, settings, sources):
        source = sources[item.name]
        if source == PARAMS_FILE:
            if item.found != _value(defaults, item.name):
                warnings.warn(
                    f"{item.name} of {run.path} is frozen: it stays {item.frozen!r}, though {PARAMS_FILE} says"
                    f" {item.found!r}.",
                    stacklevel=2,
                )
            continue
        raise SettingsError(
            f"{_spelled(item.name, source)} of {run.path} is frozen: expected {item.frozen!r}, found {item.found!r}.",
            remedy=f"Leave it out, or unset it, or start a new run without --resume; {MAY_CHANGE}.",
        )


def _value(settings: Settings, name: str) -> Any:
    found: Any = settings
    for part in name.split("."):
        found = found.get(part) if isinstance(found, dict) else getattr(found, part)
    return found


def _agree(run: Run, name: str, frozen: Any, found: Any) -> bool:
    if name == "dataset":
        return _dataset(run, frozen) == _dataset(run, found)
    if name == "objectives":
        return sorted(frozen) == sorted(found)
    return bool(found == frozen) or (name, found) in (("device", "auto"), ("image_size", None))


def _dataset(run: Run, name: str) -> str:
    kind, _, argument = name.partition(":")
    if kind == "folder":
        return f"{kind}:{Path(argument).expanduser().resolve()}"
    return f"{kind}:{run.shape.size}" if kind in _SIZED and not argument else name


def _spelled(name: str, source: Source) -> str:
    """Return what a person wrote to choose a setting."""
    if source == "environment":
        return variable_name(name)
    if name == "training.steps":
        return "--steps"
    return name if "." in name else f"--{name.replace('_', '-')}"
