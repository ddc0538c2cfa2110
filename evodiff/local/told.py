"""What a telling of the story came to, and what speaks against it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from evodiff.local.load import Counts

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class AnsweredAlert:
    """An alert, the request that it wrote, and what came of that.

    ``generations`` are those that consumed the request, ``during`` the one that was open when it was written.
    """

    name: str
    identity: str
    request: str
    generations: tuple[int, ...]
    during: int | None


@dataclass
class Told:
    """What happened, with versions as RUN/ID.

    ``first`` served at first, ``evolved`` was promoted, ``slow`` was rolled back by ``guard_or_metric``; ``repeats`` is
    how often the watcher heard the first alert again, ``ended`` why the search wanted no more before the last alert.
    ``alerts`` are all that wrote a request, those of the story first.
    """

    first: str = ""
    evolved: str = ""
    slow: str = ""
    times_slower: float = 0.0
    rolled_back: str = ""
    guard_or_metric: str = ""
    alerts: list[AnsweredAlert] = field(default_factory=list)
    repeats: int = 0
    ended: str = ""
    aliases: dict[str, str] = field(default_factory=dict)
    counts: Counts = field(default_factory=Counts)

    def problems(self) -> list[str]:
        """Return what is not as it should be; nothing where all of it is."""
        return [*self._of_requests(), *self._of_alerts()]

    def _of_requests(self) -> Iterator[str]:
        if self.counts.lost:
            yield f"requests were lost: {dict(self.counts.lost)}"
        if set(self.counts.ratings) - {"kept"}:
            yield f"ratings were lost: {dict(self.counts.ratings)}"
        for version in (self.first, self.evolved, self.slow):
            if not self.counts.answered[version]:
                yield f"{version or 'one version'} has answered nothing"

    def _of_alerts(self) -> Iterator[str]:
        for identity, times in Counter(item.identity for item in self.alerts).items():
            if times != 1:
                yield f"{identity} has {times} requests"
        for item in self.alerts:
            if len(item.generations) != 1:
                yield f"request {item.request} of {item.name} was consumed by generations {item.generations}"
        if len(self.alerts) > 1 and self.alerts[1].during not in self.alerts[0].generations:
            yield f"{self.alerts[1].name} came during generation {self.alerts[1].during}, not that of the first alert"
        if not self.ended:
            yield "the search had not ended before the last alert"

    def facts(self) -> dict[str, str]:
        """Return it in words, a line each."""
        counts = self.counts
        shares = ", ".join(f"{number} by {version}" for version, number in counts.answered.items())
        return {
            "served at first": self.first,
            "evolved and promoted": self.evolved,
            "rolled back": f"{self.slow}, {self.times_slower:.1f} times as slow, by {self.guard_or_metric}",
            **{
                f"alert {number}": f"{item.name}: request {item.request}, generation {item.generations}"
                for number, item in enumerate(self.alerts, 1)
            },
            "heard again": f"{self.repeats} times, without another generation",
            "ended before": self.ended,
            "aliases": ", ".join(f"{alias} {version}" for alias, version in self.aliases.items()),
            "requests": f"{counts.sent} sent, {counts.lost.total()} lost; {shares}",
            "waits": f"median {counts.quantile(0.5):.3f} s, 99 % {counts.quantile(0.99):.2f} s",
            "ratings": f"{counts.ratings['kept']} kept",
        }
