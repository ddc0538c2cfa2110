"""What may be served, and where it lies: an entry of a release, a registered model, or a folder of one's own.

An entry of a release is ``{"run": NAME, "candidate": ID, "generation": N}``; ``{"model": NAME, "version": N}`` and
``{"model": NAME, "alias": ALIAS}`` name a registered model; ``{"folder": PATH}`` an exported pipeline or a run,
which only the command line may name. With ``"digest"`` the weights must have that SHA-256. In the release a version
that was loaded has besides the run and the candidate that it was found to be, and ``"experiment"``: that run's.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from evodiff.errors import CandidateNotFound

if TYPE_CHECKING:
    from collections.abc import Mapping

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", re.ASCII)
_CANDIDATE: Final = re.compile(r"[0-9a-f]{6,64}", re.ASCII)
_VERSION: Final = re.compile(r"[0-9]{1,9}", re.ASCII)
DIGEST: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_PATTERNS: Final = {
    "run": _NAME,
    "candidate": _CANDIDATE,
    "model": _NAME,
    "version": _VERSION,
    "alias": _NAME,
    "digest": DIGEST,
}
_KINDS: Final = ({"run", "candidate"}, {"model", "version"}, {"model", "alias"})
_REMEDY: Final = (
    "Name a candidate as RUN/ID, a registered model as models:/NAME@ALIAS or models:/NAME/VERSION, or a folder."
)


def check_entry(entry: Mapping[str, Any]) -> dict[str, str]:
    """Return what an entry from outside says of where a model lies; each name is one, never a path.

    Raises:
        CandidateNotFound: it names nothing, or something by a path.
    """
    found = {name: str(entry[name]) for name in _PATTERNS if entry.get(name) is not None}
    if set(found) - {"digest"} not in _KINDS:
        raise CandidateNotFound(f"Expected run and candidate, or a registered model, found {str(dict(entry))[:200]}.")
    for name, value in found.items():
        if not _PATTERNS[name].fullmatch(value) or ".." in value:
            raise CandidateNotFound(f"Expected a name as {name}, found {value[:80]!r}.", remedy=_REMEDY)
    return found


def entry_of(text: str) -> dict[str, str]:
    """Return the entry of ``RUN/ID``, ``models:/NAME@ALIAS``, ``models:/NAME/VERSION``, or a folder.

    A folder is an exported pipeline, or a run, of which the champion is meant; RUN may be a path too.

    Raises:
        CandidateNotFound: it is none of these.
    """
    if text.startswith("models:/"):
        model, at, alias = text.removeprefix("models:/").partition("@")
        if at:
            return check_entry({"model": model, "alias": alias})
        model, _, version = model.partition("/")
        return check_entry({"model": model, "version": version})
    if text and Path(text).is_dir():
        return {"folder": str(Path(text).resolve())}
    run, slash, candidate = text.rpartition("/")
    if slash and _CANDIDATE.fullmatch(candidate):
        if (Path(run) / "experiment.json").is_file():
            return {"folder": str(Path(run).resolve()), "candidate": candidate}
        if _NAME.fullmatch(run):
            return {"run": run, "candidate": candidate}
    raise CandidateNotFound(f"Nothing to serve is called {text!r}.", remedy=_REMEDY)


def version_name(entry: Mapping[str, Any] | None) -> str:
    """Return what an entry of a release is called: RUN/ID, or models:/NAME/VERSION where it was asked for so."""
    if not entry:
        return "nothing"
    if entry.get("model") is not None:
        return f"models:/{entry['model']}/{entry['version']}"
    return f"{entry['run']}/{entry['candidate']}"


def names_of(entry: Mapping[str, Any]) -> frozenset[str]:
    """Return all that an entry is called: what it was asked for as, and the RUN/ID that it was found to be."""
    return frozenset({version_name(entry), served_as(entry) or version_name(entry)})


def served_as(entry: Mapping[str, Any]) -> str | None:
    """Return what a version that was loaded is called where it serves, in metrics, votes and galleries: RUN/ID."""
    known = "run" in entry and "candidate" in entry
    return f"{entry['run']}/{entry['candidate']}" if known else None


def entry_named(text: str) -> dict[str, Any]:
    """Return the entry that :func:`version_name` names so.

    Raises:
        CandidateNotFound: it is no such name.
    """
    model, slash, version = text.removeprefix("models:/").rpartition("/")
    if not slash or not model or not version:
        raise CandidateNotFound(
            f"Expected RUN/ID or models:/NAME/VERSION, found {text[:200]!r}.",
            remedy="`evodiff trials RUN` lists candidates.",
        )
    if text.startswith("models:/"):
        return {"model": model, "version": version}
    return {"run": model, "candidate": version}
