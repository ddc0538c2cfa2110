"""What the DAGs share: what the scheduler knows of its own runs, and which failures are worth another try."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import ExceptionRetryPolicy, RetryAction, RetryRule, get_current_context

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

EVOLVE = "evolve_architecture"
ALIVE = ["queued", "running"]

# Bad input stays bad; what the surroundings did to a task (no memory, a lost worker, a time-out) may not happen again.
RETRY_BY_CAUSE = ExceptionRetryPolicy(
    rules=[
        RetryRule("evodiff.errors.Interrupted", action=RetryAction.RETRY, reason="the work was interrupted"),
        RetryRule("evodiff.errors.PoolError", action=RetryAction.RETRY, reason="a worker could not be had"),
        RetryRule("evodiff.errors.EvodiffError", action=RetryAction.FAIL, reason="trying again changes nothing"),
    ]
)
TASK_DEFAULTS: dict[str, Any] = {
    "retries": 2,
    "retry_delay": timedelta(seconds=float(os.environ.get("EVODIFF_RETRY_SECONDS", "20"))),
    "retry_policy": RETRY_BY_CAUSE,
    "execution_timeout": timedelta(hours=6),
}

# Where slots are few, the next generation goes before what is done beside it: archive, registration, report. A priority
# counts among tasks that are ready; the pool dvc, of one slot, keeps a slot free for those that are about to be.
FIRST: dict[str, Any] = {"weight_rule": "absolute", "priority_weight": 10}
BESIDE: dict[str, Any] = {"weight_rule": "absolute", "priority_weight": 1}

# Without a start date a new installation waits for its first night instead of making up for the last one.
NIGHTLY: dict[str, Any] = {
    "catchup": False,
    "max_active_runs": 1,
    "default_args": {**TASK_DEFAULTS, "execution_timeout": timedelta(hours=2)},
    "is_paused_upon_creation": False,
    "tags": ["evodiff"],
}


def now() -> datetime:
    """Return the time that decisions go by."""
    return datetime.now(UTC)


def say(text: str) -> None:
    """Write a line into the log of the task."""
    print(text, flush=True)


def trigger(run_id: str, experiment: str) -> dict[str, Any]:
    """Return the arguments that start a run for the next generation of an experiment."""
    return {"trigger_run_id": run_id, "conf": {"experiment": experiment, "chain": True}}


class OwnRuns:
    """What Airflow knows of the runs of ``evolve_architecture``: an :class:`evodiff.pipeline.chain.Scheduler`."""

    def known(self, run_ids: Sequence[str]) -> int:
        """Count those that were ever started."""
        return _count(run_ids)

    def active(self, run_ids: Sequence[str]) -> int:
        """Count those that are running or wait to."""
        return _count(run_ids, ALIVE)

    def failed(self, run_ids: Sequence[str]) -> int:
        """Count those that failed."""
        return _count(run_ids, ["failed"])


OWN_RUNS = OwnRuns()


def _count(run_ids: Sequence[str], states: list[str] | None = None) -> int:
    count: Callable[..., int] = get_current_context()["ti"].get_dr_count
    return count(dag_id=EVOLVE, run_ids=list(run_ids), states=states)
