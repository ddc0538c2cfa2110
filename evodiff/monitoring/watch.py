"""Which alerts are new: what the watcher of alerts remembers, so that one that goes on firing is told once.

An alert is told when it begins to fire. Where its listener acknowledges what it has seen to, an alert that it has not
is told again, later each time, also after it has ended: a lost message is not a lost alert.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from evodiff.monitoring.alerts import Alert, AlertmanagerError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import Path

RETELL_SECONDS: Final = 60.0  # then twice as long each time
MOST_TELLS: Final = 9  # the last four hours after the first
FORGET_SECONDS: Final = 30 * 24 * 3600.0
MOST_REMEMBERED: Final = 100
HEARTBEAT_FILE: Final = "alert-watcher.json"


@dataclass
class Told:
    """An alert that was told ``times`` times, last at ``at``; it was last seen firing at ``seen`` (UNIX seconds)."""

    alert: Alert
    at: float
    times: int
    seen: float


@dataclass
class AlertWatch:
    """What was told, by the identity of alerts."""

    told: dict[str, Told] = field(default_factory=dict)

    def news(self, firing: Iterable[Alert], now: float, acknowledged: Collection[str] | None = None) -> list[Alert]:
        """Return the alerts that are to be told now, and remember them as told.

        ``acknowledged`` are the identities that the listener has seen to, None where it does not say.
        """
        found = []
        for alert in firing:
            if alert.identity in self.told:
                self.told[alert.identity].seen = now
            else:
                self.told[alert.identity] = Told(alert, now, 1, now)
                found.append(alert)
        if acknowledged is not None:
            found += [self._again(told, now) for told in self.told.values() if _is_due(told, now, acknowledged)]
        self._forget(now)
        return found

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {
            key: {"alert": told.alert.to_json(), "at": told.at, "times": told.times, "seen": told.seen}
            for key, told in self.told.items()
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> AlertWatch:
        """Read what :meth:`to_json` wrote; what cannot be read is forgotten, and so told again."""
        told = {}
        for key, item in data.items():
            try:
                alert = Alert.from_json(item["alert"])
                told[key] = Told(alert, float(item["at"]), int(item["times"]), float(item["seen"]))
            except (AlertmanagerError, KeyError, TypeError, ValueError):
                continue
        return cls(told)

    def _again(self, told: Told, now: float) -> Alert:
        told.at, told.times = now, told.times + 1
        return told.alert

    def _forget(self, now: float) -> None:
        kept = [(key, told) for key, told in self.told.items() if now - told.seen < FORGET_SECONDS]
        kept.sort(key=lambda item: item[1].seen)
        self.told = dict(kept[-MOST_REMEMBERED:])


def _is_due(told: Told, now: float, acknowledged: Collection[str]) -> bool:
    if told.alert.identity in acknowledged or told.times >= MOST_TELLS:
        return False
    return now - told.at >= RETELL_SECONDS * 2.0 ** (told.times - 1)


def write_heartbeat(folder: Path, at: float, firing: int) -> None:
    """Leave word in a folder, where there is one, that the watcher polled at ``at`` and how many alerts fired then.

    Raises:
        OSError: the file system refuses.
    """
    if folder.is_dir():
        temporary = folder / f".{HEARTBEAT_FILE}.{os.getpid()}"
        temporary.write_text(json.dumps({"at": at, "firing": firing}, sort_keys=True) + "\n", encoding="utf-8")
        temporary.replace(folder / HEARTBEAT_FILE)
