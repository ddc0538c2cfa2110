"""The release on disk: read, change under the lock that all writers share, and what the analysis knew beside it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from evodiff.deployment.release.state import ReleaseState
from evodiff.pipeline.release import read_release, release_locked, write_durably, write_release

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path


class ReleaseFile:
    """``release.json`` as a :class:`ReleaseState`, and a second file with the state of the rollout's analysis.

    The second changes with every look at the traffic and decides nothing by itself, so it stands apart.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._analysis = path.with_name(f"{path.stem}.analysis.json")

    def read(self) -> ReleaseState:
        """Return what is stored.

        Raises:
            LedgerError: the file is damaged, or of another format.
        """
        return ReleaseState.from_json(read_release(self.path))

    def change(self, transition: Callable[[ReleaseState], ReleaseState]) -> ReleaseState:
        """Apply a transition to what is stored; when this returns, the result has reached the disk.

        One that changes nothing waits for no other writer. One that changes something is applied twice, to what is read
        before the lock is there and to what is read under it.

        Raises:
            LedgerError: the file cannot be read or written, or another writer keeps it locked.
        """
        seen = self.read()
        if transition(seen) is seen:
            return seen
        with release_locked(self.path):
            before = self.read()
            after = transition(before)
            if after is not before:
                write_release(self.path, after.to_json())
            return after

    def write_analysis(self, rollout: str, step: int, analysis: Mapping[str, Any]) -> None:
        """Keep what the analysis of a rollout knows at a step."""
        content = {"rollout": rollout, "step": step, "analysis": dict(analysis)}
        write_durably(self._analysis, json.dumps(content, separators=(",", ":")).encode() + b"\n")

    def read_analysis(self, rollout: str) -> tuple[int, dict[str, Any]] | None:
        """Return step and state of a rollout's analysis; None where nothing of that rollout can be read."""
        try:
            content = json.loads(self._analysis.read_bytes())
            if content["rollout"] != rollout or not isinstance(content["analysis"], dict):
                return None
            return int(content["step"]), content["analysis"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
