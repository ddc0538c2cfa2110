"""Metrics of searches, of what MLflow has yet to hear, and of the watcher of alerts: read from folders at a scrape.

Only names, times and small files are read, at most once in :data:`CACHE_SECONDS`, and a closed generation once. A
folder that cannot be read counts as damaged and hides no other.
"""

from __future__ import annotations

import json
import re
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from evodiff.monitoring.watch import HEARTBEAT_FILE
from evodiff.pipeline.chain import experiments
from evodiff.tracking.outbox import FOLDER as OUTBOX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from prometheus_client.core import Metric

CACHE_SECONDS: Final = 15.0
MOST_EXPERIMENTS: Final = 50  # those that moved last; each is a handful of time series
_NUMBERED = re.compile(r"(\d{4,})")


@dataclass(frozen=True)
class SearchState:
    """What a run folder says: times are in UNIX seconds, ``hypervolume`` in units of the fitness box.

    ``in_progress`` says that somebody took a generation that is not closed; ``progress`` is when a file of it changed
    last, ``closed_at`` when the last generation was closed (None: none was).
    """

    generations: int
    closed_at: float | None
    hypervolume: float | None
    trials: int
    failed: int
    in_progress: bool
    progress: float
    requests: int
    notes: int
    oldest_note: float | None


class RunsCollector:
    """Collects the metrics of every search below a folder, for a registry of prometheus-client.

    Where a watcher of alerts is expected, one that has never asked has asked at time 0, however often this is started
    again.
    """

    def __init__(
        self, runs_dir: Path, clock: Callable[[], float] = time.monotonic, *, watcher_expected: bool = False
    ) -> None:
        self._runs_dir = runs_dir
        self._never = 0.0 if watcher_expected else None
        self._clock = clock
        self._lock = threading.Lock()
        self._collected: tuple[float, list[Metric]] | None = None
        self._counts: dict[Path, tuple[int, int]] = {}  # trials and failures of closed generations: they stay

    def describe(self) -> Iterator[Metric]:
        """Return nothing: a registry need not read the disk to know the names."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Return the metrics, as they were at most :data:`CACHE_SECONDS` ago."""
        with self._lock:
            now = self._clock()
            if self._collected is None or now - self._collected[0] >= CACHE_SECONDS:
                self._collected = now, list(self._families())
            return iter(self._collected[1])

    def _families(self) -> Iterator[Metric]:
        states, damaged = self._read_all()
        gauges = _Gauges()
        trials = CounterMetricFamily("evodiff_search_trials", _HELP["trials"], labels=["experiment", "outcome"])
        for name, state in states.items():
            gauges.add_search(name, state)
            trials.add_metric([name, "ok"], state.trials - state.failed)
            trials.add_metric([name, "failed"], state.failed)
        yield from gauges.families()
        yield trials
        yield GaugeMetricFamily("evodiff_search_damaged_runs", "Run folders that cannot be read.", value=damaged)
        heartbeat = read_heartbeat(self._runs_dir / HEARTBEAT_FILE)
        polled = self._never if heartbeat is None else heartbeat
        if polled is not None:
            yield GaugeMetricFamily(
                "evodiff_alert_watcher_last_poll_timestamp_seconds",
                "When the watcher of alerts last asked Alertmanager with success; 0 where an expected one never has.",
                value=polled,
            )

    def _read_all(self) -> tuple[dict[str, SearchState], int]:
        states, damaged = {}, 0
        for path in sorted(experiments(self._runs_dir), key=_changed, reverse=True)[:MOST_EXPERIMENTS]:
            try:
                states[path.name] = self._read(path)
            except (OSError, ValueError, KeyError, TypeError, AttributeError):
                damaged += 1
        return states, damaged

    def _read(self, path: Path) -> SearchState:
        json.loads((path / "experiment.json").read_bytes())
        generations = sorted(folder for folder in _listed(path / "generations") if _NUMBERED.fullmatch(folder.name))
        closed = [folder for folder in generations if (folder / "result.json").exists()]
        counts = [self._counted(folder) for folder in closed]
        last = closed[-1] / "result.json" if closed else None
        taken = [file.stem for file in _listed(path / "leases") if file.stem.partition(".")[0] == f"{len(closed):04d}"]
        open_one = path / "generations" / f"{len(closed):04d}"
        notes = [file for file in _listed(path / OUTBOX) if file.suffix == ".json" and not _waits_on_purpose(file)]
        return SearchState(
            generations=len(closed),
            closed_at=last.stat().st_mtime if last else None,
            hypervolume=float(json.loads(last.read_bytes())["hypervolume"]) if last else None,
            trials=sum(trials for trials, _ in counts),
            failed=sum(failed for _, failed in counts),
            in_progress=bool(taken) and not (open_one / "inputs" / "exhausted.json").exists(),
            progress=_latest([path / "leases", *closed[-1:], open_one, open_one / "evaluations", open_one / "weights"]),
            requests=len(_listed(path / "requests")),
            notes=len(notes),
            oldest_note=min((note.stat().st_mtime for note in notes), default=None),
        )

    def _counted(self, folder: Path) -> tuple[int, int]:
        if folder not in self._counts:
            lines = (folder / "evaluations.jsonl").read_bytes().splitlines()
            failures = [json.loads(line).get("failure") for line in lines]
            self._counts[folder] = len(failures), sum(failure is not None for failure in failures)
        return self._counts[folder]


_HELP: Final = {
    "trials": "Trials of closed generations, by whether they have a value.",
    "evodiff_search_generations": "Generations that are closed.",
    "evodiff_search_last_generation_timestamp_seconds": "When the last generation was closed.",
    "evodiff_search_hypervolume": "Hypervolume of the front, in units of the run's fitness box.",
    "evodiff_search_in_progress": "Whether somebody took a generation that is not closed.",
    "evodiff_search_last_progress_timestamp_seconds": "When a generation was last taken, or one of its trials moved.",
    "evodiff_search_requests": "Requests for generations that were ever written.",
    "evodiff_outbox_notes": "What MLflow has yet to hear of a run, in notes; not what waits on purpose.",
    "evodiff_outbox_oldest_note_timestamp_seconds": "Since when the oldest of them waits.",
}


class _Gauges:
    """Gauges of searches, one family a name."""

    def __init__(self) -> None:
        self._families = {
            name: GaugeMetricFamily(name, text, labels=["experiment"])
            for name, text in _HELP.items()
            if name.startswith("evodiff_")
        }

    def add_search(self, name: str, state: SearchState) -> None:
        """Add what is known of one search; what is None is left out."""
        values: dict[str, float | None] = {
            "evodiff_search_generations": state.generations,
            "evodiff_search_last_generation_timestamp_seconds": state.closed_at,
            "evodiff_search_hypervolume": state.hypervolume,
            "evodiff_search_in_progress": state.in_progress,
            "evodiff_search_last_progress_timestamp_seconds": state.progress,
            "evodiff_search_requests": state.requests,
            "evodiff_outbox_notes": state.notes,
            "evodiff_outbox_oldest_note_timestamp_seconds": state.oldest_note,
        }
        for metric, value in values.items():
            if value is not None:
                self._families[metric].add_metric([name], value)

    def families(self) -> Iterator[Metric]:
        """Return all of them."""
        return iter(self._families.values())


def read_heartbeat(file: Path) -> float | None:
    """Return when the watcher of alerts last polled with success (UNIX seconds), None where it never did."""
    try:
        content: Any = json.loads(file.read_bytes())
        return float(content["at"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def serve_metrics(
    runs_dir: Path, port: int, host: str = "127.0.0.1", *, watcher_expected: bool = False
) -> tuple[int, Callable[[], None]]:
    """Answer scrapes in a thread; return the port, a free one where 0 was given, and what ends it."""
    registry = CollectorRegistry()
    registry.register(RunsCollector(runs_dir, watcher_expected=watcher_expected))
    server, thread = start_http_server(port, addr=host, registry=registry)

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return server.server_port, stop


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except FileNotFoundError:
        return []


def _waits_on_purpose(note: Path) -> bool:
    try:
        return bool(json.loads(note.read_bytes()).get("on_purpose"))
    except (OSError, ValueError, AttributeError):  # delivered meanwhile, or no note: somebody has to look
        return False


def _latest(paths: list[Path]) -> float:
    return max((_changed(path) for path in paths), default=0.0)


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
