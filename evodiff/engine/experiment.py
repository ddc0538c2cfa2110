"""``experiment.json``: what a run froze at its start, and whether what is given on reopening agrees."""

from __future__ import annotations

import importlib.metadata
import json
import warnings
from typing import TYPE_CHECKING, Any

from evodiff.engine.encoding import encode_document
from evodiff.engine.ledger import FORMAT
from evodiff.errors import LedgerError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from evodiff.engine.ledger import Ledger

_NOTHING = object()

# What is left out where it has this value, as it is where a run was frozen before the option came.
_USUAL = {"inherit": False, "replicate_ties": False}


def code_version() -> str:
    """Return the version of the installed evodiff."""
    try:
        return importlib.metadata.version("evodiff-pipeline")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def check_sizes(**sizes: tuple[int, int]) -> None:
    """Check that each value is an integer of at least its minimum.

    Raises:
        SettingsError: it names the value that is not.
    """
    for name, (value, minimum) in sizes.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
            raise SettingsError(
                f"{name}: expected an integer of at least {minimum}, found {value!r}.", remedy=f"Give {name}={minimum}."
            )


def describe_space(space: Any) -> dict[str, Any]:
    """Return the name of a space and what it says about itself."""
    describe = getattr(space, "describe", None)
    return {"name": space.name, "description": {} if describe is None else describe()}


def freeze(ledger: Ledger, content: Mapping[str, Any]) -> dict[str, Any]:
    """Publish ``experiment.json`` with ``content``, or compare with the one that is there; return what is frozen.

    A ``settings`` or ``warm_start`` of None agrees with whatever is frozen.

    Raises:
        SettingsError: a value is not JSON, or is frozen with another value, which the message names.
        LedgerError: the folder holds generations without an experiment, a damaged one, or another format.
    """
    given = _plain({"format": FORMAT, "evodiff": code_version(), **content})
    if ledger.read("experiment.json") is None:
        if ledger.started(0):
            raise LedgerError(
                f"{ledger.label} holds generations, but expected experiment.json beside them and found none.",
                remedy="Restore it from a copy, or start a new run in an empty folder.",
            )
        content = {name: value for name, value in given.items() if name not in _USUAL or value != _USUAL[name]}
        ledger.publish("experiment.json", encode_document({**content, "settings": given.get("settings") or {}}))
    frozen = ledger.experiment
    _compare(ledger, frozen, given)
    return frozen


def _compare(ledger: Ledger, frozen: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    if frozen.get("evodiff") != given["evodiff"]:
        ledger.telemetry("version", frozen=frozen.get("evodiff"), found=given["evodiff"])
        warnings.warn(
            f"{ledger.label} was started by evodiff {frozen.get('evodiff')} and goes on under {given['evodiff']}:"
            " decisions may differ from those the older version would have made.",
            stacklevel=2,
        )
    for name, value in given.items():
        if name in ("format", "evodiff") or value is None:
            continue
        for path, old, new in _differences(name, frozen.get(name, _USUAL.get(name, _NOTHING)), value):
            raise SettingsError(
                f"{path} of {ledger.label} is frozen: expected {_show(old)}, found {_show(new)}.",
                remedy=f"Resume with {path} as it was, or start a new run in another folder.",
            )


def _differences(path: str, old: Any, new: Any) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted({*old, *new}):
            yield from _differences(f"{path}.{name}", old.get(name, _NOTHING), new.get(name, _NOTHING))
    elif old != new:
        yield path, old, new


def _show(value: Any) -> str:
    return "nothing" if value is _NOTHING else json.dumps(value, sort_keys=True)[:200]


def _plain(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return what reading the content back from a file would give, so that tuples compare equal to lists."""
    try:
        plain: dict[str, Any] = json.loads(json.dumps(content, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise SettingsError(
            f"Expected settings and a space description that are plain JSON, found one that is not: {error}.",
            remedy="Use dictionaries, lists, strings, finite numbers and booleans.",
        ) from error
    return plain
