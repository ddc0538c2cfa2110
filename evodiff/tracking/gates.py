"""What the gates of the data found, in an experiment of its own: a run for each result, with its page."""

from __future__ import annotations

import hashlib
import warnings
from typing import TYPE_CHECKING, Final

from evodiff.tracking.records import LONGEST_TAG, Record
from evodiff.tracking.runs import create_run, fill_run, find_experiment, runs_by_key
from evodiff.tracking.server import TrackingError, TrackingUnreachable, connected

if TYPE_CHECKING:
    from evodiff.data.gate_result import GateResult

EXPERIMENT: Final = "evodiff gates"  # with a space, which no run has in its name
_KIND: Final = {"evodiff.kind": "gates"}


def track_gate(result: GateResult, tracking_uri: str) -> bool:
    """Log what a gate found, with its page, unless that very result is in MLflow.

    Returns False, with a warning, where MLflow cannot be reached; the result stays in its folder.

    Raises:
        SettingsError: ``tracking_uri`` is no address of a server.
        TrackingError: the server refuses, or somebody else's experiment has the name of ours.
    """
    files = {path.name: path.read_bytes() for path in (result.result, result.page) if path.exists()}
    digest = hashlib.sha256(files[result.result.name]).hexdigest()
    record = Record(
        key=f"{result.gate}/{digest[:16]}",
        name=f"{result.gate} {result.subject}",
        tags={
            "evodiff.kind": "gate",
            "evodiff.gate": result.gate,
            "evodiff.subject": result.subject,
            "evodiff.digest": result.digest,
            "evodiff.failed": ", ".join(check.expectation.name for check in result.failed)[:LONGEST_TAG],
        },
        metrics={
            **dict(result.counts),
            "checks": len(result.checks),
            "failed_checks": len(result.failed),
            "warnings": len(result.warnings),
        },
        failed=not result.passed,
    )
    condition = f"tags.evodiff.key = '{record.key}'"
    try:
        with connected(tracking_uri) as client:
            found = find_experiment(client, EXPERIMENT, _KIND)
            if not _KIND.items() <= found.tags.items():
                raise TrackingError(
                    f"Experiment {EXPERIMENT} in MLflow is somebody else's: expected the tag evodiff.kind with gates, "
                    f"found {found.tags.get('evodiff.kind')}.",
                    remedy="Rename that experiment in MLflow.",
                )
            experiment = found.experiment_id
            if not runs_by_key(client, experiment, condition, []):
                create_run(client, experiment, record, {})
            fill_run(client, runs_by_key(client, experiment, condition, [])[record.key], record, files)
    except TrackingUnreachable as error:
        warnings.warn(f"The {result.gate} {result.subject} is not tracked: {error.headline}", stacklevel=2)
        return False
    return True
