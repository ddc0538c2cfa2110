"""Runs of MLflow that are created once and filled whole.

MLflow has no names that are unique, so a run is found again by its tag ``evodiff.key``. Creating is followed by
looking: of two runs with one key, as two machines or a request sent twice may leave them, the older stays and the other
is deleted. A run is finished when everything it should hold has been sent; what is not finished is sent again, whole.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from evodiff.tracking.server import SERVER_ERROR, TrackingError, is_error, status_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from evodiff.tracking.records import Record

_PAGE = 1000


def find_experiment(client: Any, name: str, tags: Mapping[str, str]) -> Any:
    """Return the experiment of a name, created with ``tags`` where there is none.

    Raises:
        TrackingError: it was deleted.
    """
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            client.create_experiment(name, tags=dict(tags))
        except MlflowException as error:
            if not is_error(error, "RESOURCE_ALREADY_EXISTS"):
                raise
        found = client.get_experiment_by_name(name)
    if found.lifecycle_stage != "active":
        raise TrackingError(
            f"Experiment {name} was deleted from MLflow.",
            remedy=f"Restore it: mlflow experiments restore --experiment-id {found.experiment_id}",
        )
    return found


def search_runs(client: Any, experiment: str, condition: str) -> list[Any]:
    """Return all runs of an experiment, but deleted ones, that meet a condition in MLflow's search language."""
    found: list[Any] = []
    token = None
    while True:
        page = client.search_runs([experiment], condition, max_results=_PAGE, page_token=token)
        found += page
        token = page.token
        if not token:
            return found


def runs_by_key(client: Any, experiment: str, condition: str, refusals: list[str]) -> dict[str, Any]:
    """Return the runs that meet a condition by key, the oldest of each, after deleting the others."""
    found: dict[str, Any] = {}
    for item in sorted(search_runs(client, experiment, condition), key=_age):
        key = item.data.tags["evodiff.key"]
        if key in found:
            with going_on(refusals):
                client.delete_run(item.info.run_id)
        else:
            found[key] = item
    return found


def run_of_key(client: Any, experiment: str, key: str) -> Any:
    """Return the run of a key.

    Raises:
        TrackingError: there is none.
    """
    found = search_runs(client, experiment, f"tags.evodiff.key = '{key}'")
    if not found:
        raise TrackingError(f"MLflow has no run with evodiff.key {key}.", remedy="Restore it, if it was deleted there.")
    return min(found, key=_age)


def create_run(client: Any, experiment: str, record: Record, tags: Mapping[str, str]) -> str:
    """Create a run that holds no more than its key and ``tags``, by which it is found; return its id."""
    begin = record.span[0] if record.span else time.time()
    found_by = {**tags, "evodiff.key": record.key, "evodiff.created": str(time.time_ns())}
    made = client.create_run(experiment, start_time=round(1000 * begin), tags=found_by, run_name=record.name)
    return str(made.info.run_id)


def fill_run(client: Any, held: Any, record: Record, files: Mapping[str, bytes], *, step: int = 0) -> None:
    """Send all that a run should hold, and finish it, unless it is.

    Doing so again changes nothing, for time stamps are those of the run.
    """
    from mlflow.entities import Metric, Param, RunTag
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    info = held.info
    if info.status != "RUNNING":
        return
    values = [(name, step, value) for name, value in record.metrics.items()]
    values += [(name, at, value) for name, curve in record.curves.items() for at, value in curve.items()]
    client.log_batch(
        info.run_id,
        metrics=[Metric(name, value, info.start_time, at) for name, at, value in values],
        params=[Param(name, value) for name, value in record.params.items()],
        tags=[RunTag(name, value) for name, value in record.tags.items()],
    )
    repository: Any = get_artifact_repository(info.artifact_uri, tracking_uri=client.tracking_uri)
    with TemporaryDirectory(prefix="evodiff-") as folder:
        for name, content in files.items():
            (Path(folder) / name).write_bytes(content)
        repository.log_artifacts(folder)
    end = record.span[1] if record.span else time.time()
    client.set_terminated(info.run_id, "FAILED" if record.failed else "FINISHED", round(1000 * end))


@contextmanager
def going_on(refusals: list[str]) -> Iterator[None]:
    """Note what the server refuses and go on: a rival may have deleted the run, or be writing the same to it.

    The next look tells what is missing still.
    """
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if status_of(error) >= SERVER_ERROR:
            raise
        refusals.append(str(error).partition("\n")[0][:300])


def _age(item: Any) -> tuple[int, str]:
    return int(item.data.tags["evodiff.created"]), item.info.run_id
