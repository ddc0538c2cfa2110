"""A closed generation as runs of MLflow: one for the generation, one in it for each candidate.

MLflow has no names that are unique, so a run is found again by its tag ``evodiff.key``. Creating is followed by
looking: of two runs with one key, as two machines or a request sent twice may leave them, the older stays and the other
is deleted. A run is finished when everything it should hold has been sent; what is not finished is sent again, whole.
"""

from __future__ import annotations

import hashlib
import time
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from evodiff.tracking.artifacts import candidate_files, generation_files
from evodiff.tracking.records import Record, RunRecords, experiment_tags, generation_key
from evodiff.tracking.server import SERVER_ERROR, TrackingError, is_error, status_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from evodiff.pipeline.run import Run

_PAGE = 1000
_PASSES = 6  # two are enough, one to create and one to fill, unless rivals undo some of it


def open_experiment(client: Any, run: Run) -> str:
    """Return the id of the run's experiment in MLflow, created where there is none.

    Raises:
        TrackingError: the experiment of that name is another run's, or was deleted.
    """
    from mlflow.exceptions import MlflowException

    digest = hashlib.sha256(run.ledger.read("experiment.json") or b"").hexdigest()
    found = client.get_experiment_by_name(run.name)
    if found is None:
        try:
            client.create_experiment(run.name, tags=experiment_tags(run, digest))
        except MlflowException as error:
            if not is_error(error, "RESOURCE_ALREADY_EXISTS"):
                raise
        found = client.get_experiment_by_name(run.name)
    if found.lifecycle_stage != "active":
        raise TrackingError(
            f"Experiment {run.name} was deleted from MLflow.",
            remedy=f"Restore it: mlflow experiments restore --experiment-id {found.experiment_id}",
        )
    if found.tags.get("evodiff.experiment") != digest:
        raise TrackingError(
            f"Experiment {run.name} in MLflow is another run's: expected evodiff.experiment {digest[:12]}, found "
            f"{str(found.tags.get('evodiff.experiment'))[:12]}.",
            remedy=f"Rename the folder {run.path}, or that experiment.",
        )
    return str(found.experiment_id)


def tracked_generations(client: Any, experiment: str) -> set[int]:
    """Return the generations of an experiment that are in MLflow whole."""
    found = search_runs(client, experiment, "tags.evodiff.kind = 'generation' and attributes.status = 'FINISHED'")
    return {int(item.data.tags["evodiff.generation"]) for item in found}


def track_generation(client: Any, experiment: str, records: RunRecords, generation: int) -> None:
    """Bring a closed generation into MLflow, or complete what is there.

    Raises:
        TrackingError: MLflow refuses a value, or somebody undoes it as fast as it is done.
    """
    parent, children = records.generation(generation), records.candidates(generation)
    refusals: list[str] = []
    for _ in range(_PASSES):
        refusals.clear()
        held = _held(client, experiment, generation, refusals)
        if missing := [record for record in (parent, *children) if record.key not in held]:
            _create(client, experiment, missing, held)
            continue
        _fill(client, records, generation, (*children, parent), held, refusals)
        if not refusals:
            return
    raise TrackingError(
        f"Generation {generation} of {records.run.name} is not whole in MLflow after {_PASSES} passes; it refused: "
        f"{refusals[-1] if refusals else 'nothing'}",
        remedy="Mend what it refuses; or somebody deletes these runs, or tracks a copy of the run: end that.",
    )


def candidate_run(client: Any, experiment: str, key: str) -> Any:
    """Return the run of MLflow with a key.

    Raises:
        TrackingError: there is none.
    """
    found = search_runs(client, experiment, f"tags.evodiff.key = '{key}'")
    if not found:
        raise TrackingError(f"MLflow has no run with evodiff.key {key}.", remedy="Restore it, if it was deleted there.")
    return min(found, key=_age)


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


def _held(client: Any, experiment: str, generation: int, refusals: list[str]) -> dict[str, Any]:
    """Return the runs of a generation by key, after deleting doubles."""
    found: dict[str, Any] = {}
    runs = search_runs(client, experiment, f"tags.evodiff.generation = '{generation}'")
    for item in sorted(runs, key=_age):
        key = item.data.tags["evodiff.key"]
        if key in found:
            with _going_on(refusals):
                client.delete_run(item.info.run_id)
        else:
            found[key] = item
    return found


def _age(item: Any) -> tuple[int, str]:
    return int(item.data.tags["evodiff.created"]), item.info.run_id


def _create(client: Any, experiment: str, missing: Sequence[Record], held: Mapping[str, Any]) -> None:
    """Create runs that hold no more than what they are found by; those of candidates lie in their generation's."""
    parents = {key: item.info.run_id for key, item in held.items()}
    for record in missing:
        generation = generation_key(int(record.tags["evodiff.generation"]))
        tags = {
            "evodiff.key": record.key,
            "evodiff.generation": record.tags["evodiff.generation"],
            "evodiff.created": str(time.time_ns()),
            **({"mlflow.parentRunId": parents[generation]} if generation != record.key else {}),
        }
        begin = record.span[0] if record.span else time.time()
        made = client.create_run(experiment, start_time=round(1000 * begin), tags=tags, run_name=record.name)
        parents[record.key] = made.info.run_id


def _fill(
    client: Any,
    records: RunRecords,
    generation: int,
    wanted: Sequence[Record],
    held: Mapping[str, Any],
    refusals: list[str],
) -> None:
    """Send what unfinished runs lack, the generation's own last: once it is finished, all are."""
    new = set(records.new_members(generation))
    parent = held[generation_key(generation)].info.run_id
    for record in wanted:
        info = held[record.key].info
        if info.status != "RUNNING" or (record.key == generation_key(generation) and refusals):
            continue
        tags = dict(record.tags)
        if info.run_id == parent:
            files = generation_files(records, generation)
        else:
            tags["mlflow.parentRunId"] = parent  # of two doubles the other one may have stayed
            row = records.trial(generation, record.name)
            files = candidate_files(records.run, row, samples=record.name in new)
        with _going_on(refusals):
            _send(client, info, generation, record, tags, files)


def _send(
    client: Any, info: Any, step: int, record: Record, tags: Mapping[str, str], files: Mapping[str, bytes]
) -> None:
    """Send all that a run holds; doing so again changes nothing, for time stamps are those of the run."""
    from mlflow.entities import Metric, Param, RunTag
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    values = [(name, step, value) for name, value in record.metrics.items()]
    values += [(name, at, value) for name, curve in record.curves.items() for at, value in curve.items()]
    client.log_batch(
        info.run_id,
        metrics=[Metric(name, value, info.start_time, at) for name, at, value in values],
        params=[Param(name, value) for name, value in record.params.items()],
        tags=[RunTag(name, value) for name, value in tags.items()],
    )
    repository: Any = get_artifact_repository(info.artifact_uri, tracking_uri=client.tracking_uri)
    with TemporaryDirectory(prefix="evodiff-") as folder:
        for name, content in files.items():
            (Path(folder) / name).write_bytes(content)
        repository.log_artifacts(folder)
    end = record.span[1] if record.span else time.time()
    client.set_terminated(info.run_id, "FAILED" if record.failed else "FINISHED", round(1000 * end))


@contextmanager
def _going_on(refusals: list[str]) -> Iterator[None]:
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
