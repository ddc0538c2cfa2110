"""Whether the watcher of alerts does its work, in words: it is silent when it fails, so somebody has to look."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

PATIENCE: Final = 4.0  # polls that may be missed
LEAST_SECONDS: Final = 60.0


@dataclass(frozen=True)
class WatcherHealth:
    """``well`` says whether an alert that begins to fire now would be heard; ``polled_at`` is in UNIX seconds."""

    well: bool
    headline: str
    lines: tuple[str, ...]
    polled_at: float | None
    paused: bool | None

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        return asdict(self)


def watcher_health(heartbeat: Mapping[str, Any] | None, *, paused: bool | None, now: float) -> WatcherHealth:
    """Judge by what the watcher said last and by whether its DAG is paused (None: there is no such DAG)."""
    said = heartbeat or {}
    at, trouble = said.get("at"), said.get("trouble")
    patience = max(LEAST_SECONDS, PATIENCE * float(said.get("every") or 0.0))
    silent = at is None or now - float(at) > patience
    lines = [_polled(at, now)]
    if at is not None:
        lines.append(f"Alerts that fired then: {said.get('firing', 0)}")
    if trouble:
        lines.append(f"What went wrong last: {trouble}")
    headline = _headline(paused, silent, bool(trouble))
    return WatcherHealth(headline == _WELL, headline, tuple(lines), None if at is None else float(at), paused)


_WELL: Final = "It listens: an alert that begins to fire starts a generation."


def _headline(paused: bool | None, silent: bool, trouble: bool) -> str:
    if paused is None:
        return "The DAG reoptimize_on_alert is not known to Airflow: nobody listens for alerts."
    if paused:
        return "The DAG reoptimize_on_alert is paused, and so is the watcher: no alert is heard. Unpause it."
    if trouble:
        return (
            "It cannot ask Alertmanager: no alert is heard. Correct the connection evodiff_alertmanager, or start it."
        )
    if silent:
        return "It has not polled lately: is the triggerer running?"
    return _WELL


def _polled(at: float | None, now: float) -> str:
    if at is None:
        return "It has never polled."
    moment = datetime.fromtimestamp(float(at), UTC).isoformat(timespec="seconds")
    return f"It polled last at {moment}, {max(0.0, now - float(at)):.0f} seconds ago."
