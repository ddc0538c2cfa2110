"""Gates with their pages: what a driver calls before it goes on with data, and how the tracking server hears of it.

Each gate writes ``index.html`` and ``result.json`` into the folder of its result, also where it raises
:class:`~evodiff.errors.GateFailed`, whose ``folder`` is that one.
"""

from __future__ import annotations

import importlib.util
from contextlib import contextmanager
from typing import TYPE_CHECKING

from evodiff.data import gates as dataset_gate
from evodiff.data.gate_result import GateResult
from evodiff.errors import EvodiffError, GateFailed
from evodiff.reporting.gate_page import write_gate_page

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from pathlib import Path

    from evodiff.data import ImageDataset
    from evodiff.pipeline.inputs import Announce
    from evodiff.pipeline.prepare import Prepared
    from evodiff.pipeline.run import Run
    from evodiff.settings import Settings
    from evodiff.workers import WorkerPool


def check_dataset(dataset: ImageDataset, *, out: Path) -> GateResult:
    """As :func:`evodiff.data.gates.check_dataset`, with a page."""
    with _page_of_failure():
        return _with_page(dataset_gate.check_dataset(dataset, out=out))


def check_before_search(dataset: ImageDataset, settings: Settings, say: Callable[[str], None]) -> None:
    """Have a dataset pass its gate before a search; one that passed before costs no import of Great Expectations.

    Searches need no more than the plain library: where Great Expectations is not installed, the gate is left out, and
    that is said.

    Raises:
        GateFailed: the dataset is bad.
    """
    if importlib.util.find_spec("great_expectations") is None:
        say("The dataset is not judged: Great Expectations is not installed (pip install great-expectations)")
        return
    for check in check_dataset(dataset, out=settings.cache_dir.expanduser() / "gates").warnings:
        say(f"warning: not met: {check.expectation.meaning}")


def check_feedback(lines: Sequence[str], *, known: Collection[str], out: Path) -> GateResult:
    """As :func:`evodiff.deployment.feedback.gate.check_feedback`, with a page."""
    from evodiff.deployment.feedback import gate as feedback_gate

    with _page_of_failure():
        return _with_page(feedback_gate.check_feedback(lines, known=known, out=out))


def audit_run(run: Run, *, out: Path | None = None) -> GateResult:
    """As :func:`evodiff.pipeline.audit.audit_run`, with a page."""
    from evodiff.pipeline import audit

    with _page_of_failure():
        return _with_page(audit.audit_run(run, out=out))


def prepare(settings: Settings, pool: WorkerPool, announce: Announce = lambda name, content: None) -> Prepared:
    """As :func:`evodiff.pipeline.prepare.prepare`, with the page of the dataset's gate."""
    from evodiff.pipeline import prepare as preparing

    with _page_of_failure():
        prepared = preparing.prepare(settings, pool, announce)
    _with_page(prepared.gate)
    return prepared


def track(result: GateResult, settings: Settings) -> None:
    """Show what a gate found to the tracking server that is set, if one is.

    Raises:
        TrackingError: the server refuses.
    """
    if settings.tracking_uri is not None:
        from evodiff.tracking.gates import track_gate

        track_gate(result, settings.tracking_uri)


def try_to_track(result: GateResult, settings: Settings, say: Callable[[str], None]) -> None:
    """As :func:`track`, but where the server refuses, that is only said.

    For those to whom what was found matters more than whether a server takes it; it is in the result's folder.
    """
    try:
        track(result, settings)
    except EvodiffError as error:
        say(f"The {result.gate} {result.subject} is not tracked: {error}")


@contextmanager
def failure_tracked(settings: Settings, say: Callable[[str], None]) -> Iterator[None]:
    """Try to track a gate that fails here, and let it fail."""
    try:
        yield
    except GateFailed as failure:
        try_to_track(GateResult.load(failure.folder), settings, say)
        raise


def _with_page(result: GateResult) -> GateResult:
    if result.gate != "dataset" or not result.page.exists():  # the folder of a dataset's result is its alone
        write_gate_page(result)
    return result


@contextmanager
def _page_of_failure() -> Iterator[None]:
    try:
        yield
    except GateFailed as failure:
        write_gate_page(GateResult.load(failure.folder))
        raise
