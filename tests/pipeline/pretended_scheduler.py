"""A scheduler whose runs are told by the test."""

from __future__ import annotations

from collections.abc import Sequence


class PretendedScheduler:
    """Runs by what became of them: ``alive``, ``lost`` by a failure, ``done``; ``asked`` counts the questions."""

    def __init__(self, *alive: str, lost: Sequence[str] = (), done: Sequence[str] = ()) -> None:
        self.alive, self.lost, self.done = set(alive), set(lost), set(done)
        self.asked = 0

    def known(self, run_ids: Sequence[str]) -> int:
        """Count those that were ever started."""
        return self._count(run_ids, self.alive | self.lost | self.done)

    def active(self, run_ids: Sequence[str]) -> int:
        """Count those that are alive."""
        return self._count(run_ids, self.alive)

    def failed(self, run_ids: Sequence[str]) -> int:
        """Count those that failed."""
        return self._count(run_ids, self.lost)

    def _count(self, run_ids: Sequence[str], among: set[str]) -> int:
        self.asked += 1
        return len(among & set(run_ids))


NOBODY = PretendedScheduler()
