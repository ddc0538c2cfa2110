"""Follow a rollout from outside, as whoever answers for it would: is it on, does it wait for a person, how did it end?

What a release says is read from ``GET /v1/release``; nothing here changes traffic.
"""

from __future__ import annotations

import json
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from evodiff.deployment.release.entries import version_name
from evodiff.errors import LedgerError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

FOLDER: Final = "telemetry/rollouts"
_MOST_EVIDENCE: Final = 4000  # characters that a person is shown


class Stage(StrEnum):
    """Where a rollout is: going on by itself, waiting for a person, or over."""

    ON = "on"
    WAITING = "waiting"
    OVER = "over"


def rollout_id(release: Mapping[str, Any]) -> str | None:
    """Return the id of the rollout that is on, None where none is."""
    rollout = release.get("rollout")
    return None if not rollout else str(rollout["id"])


def stage(release: Mapping[str, Any], rollout: str) -> Stage:
    """Return where a rollout is."""
    if rollout_id(release) != rollout:
        return Stage.OVER
    return Stage.WAITING if release["rollout"].get("waits_for") else Stage.ON


def has_moved(release: Mapping[str, Any], rollout: str, revision: int) -> bool:
    """Return whether a question that was put to a person at a revision is no longer one.

    A decision of somebody else, or of a guard, raises the revision.
    """
    return stage(release, rollout) is not Stage.WAITING or int(release["revision"]) != revision


def question(release: Mapping[str, Any]) -> str:
    """Return what a person is asked about a rollout that waits: who replaces whom, why it waits, what is known."""
    rollout = release["rollout"]
    decisions = [item for item in release.get("decisions", ()) if item.get("rollout") == rollout["id"]]
    lines = [
        f"**{version_name(release.get('challenger'))}** is to replace **{version_name(release.get('champion'))}**.",
        f"It waits for {rollout['waits_for']} with {float(rollout.get('weight', 0)):.0%} of the clients, "
        f"at revision {release['revision']}. Its guards go on meanwhile.",
        *(f"* {item.get('action')}: {item.get('reason')}" for item in decisions[-5:]),
    ]
    evidence = release.get("evidence") or (decisions[-1].get("evidence") if decisions else None)
    if evidence:
        lines.append(f"```\n{json.dumps(evidence, indent=1, sort_keys=True)[:_MOST_EVIDENCE]}\n```")
    return "\n\n".join(lines)


def outcome(release: Mapping[str, Any], rollout: str) -> str:
    """Return what was decided last on a rollout, in words."""
    decisions = [item for item in release.get("decisions", ()) if item.get("rollout") == rollout]
    return f"{decisions[-1]['action']}: {decisions[-1]['reason']}" if decisions else "nothing was decided"


def keep_rollout(runs_dir: Path, release: Mapping[str, Any], rollout: str, metrics: str) -> Path | None:
    """Keep the decisions on a rollout with their evidence, and the router's metrics then, with the run it came from.

    Returns the file; None where that run is not here. One rollout is one file, and the last word holds.

    Raises:
        LedgerError: it cannot be written.
    """
    from evodiff.engine.storage import FolderStorage  # not where rollouts are only followed: it imports the engine

    decisions = [item for item in release.get("decisions", ()) if item.get("rollout") == rollout]
    path = _run_folder(runs_dir, decisions)
    if path is None:
        return None
    content = {"rollout": rollout, "decisions": decisions, "metrics": metrics.splitlines()}
    file = _file_of(rollout)
    FolderStorage(path).replace(file, json.dumps(content, sort_keys=True, indent=1).encode() + b"\n")
    return path / file


def keep_ended_rollouts(runs_dir: Path, release: Mapping[str, Any], metrics: Callable[[], str]) -> list[Path]:
    """Keep, likewise, those rollouts that have ended and that nobody followed to their end; return their files.

    The metrics are those of now: what an arm did in them may be another version's by then.

    Raises:
        LedgerError: one cannot be written.
    """
    decisions = release.get("decisions", ())
    ended = dict.fromkeys(item["rollout"] for item in decisions if item.get("rollout"))
    ended.pop(rollout_id(release), None)
    found = []
    for rollout in ended:
        told = [item for item in decisions if item.get("rollout") == rollout]
        path = _run_folder(runs_dir, told)
        if path is None or _has_all(path / _file_of(rollout), told):
            continue
        file = keep_rollout(runs_dir, release, rollout, metrics())
        found += [] if file is None else [file]
    return found


def _has_all(file: Path, decisions: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether a file of a rollout has the last decision on it; one that has may have more, from longer ago."""
    try:
        kept = json.loads(file.read_bytes())["decisions"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return bool(kept) and kept[-1] == json.loads(json.dumps(decisions[-1]))


def _file_of(rollout: str) -> str:
    if not rollout.replace("-", "").replace("_", "").isalnum():
        raise LedgerError(f"Not the id of a rollout: {rollout!r}.", remedy="Name a router of evodiff.")
    return f"{FOLDER}/{rollout}.json"


def _run_folder(runs_dir: Path, decisions: Sequence[Mapping[str, Any]]) -> Path | None:
    """Return the run that decisions are about; a registered model's smoke test says which that is."""
    tested = [item["evidence"].get("version") for item in decisions if item.get("evidence")]
    names = [str(name).partition("/")[0] for name in (*tested, *(item.get("version") for item in decisions)) if name]
    places = [runs_dir / name for name in names if name and not name.startswith((".", "models:"))]
    return next((place for place in places if (place / "experiment.json").exists()), None)
