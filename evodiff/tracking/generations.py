"""A closed generation in MLflow: a run for the generation, in it one for each candidate."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from evodiff.tracking.artifacts import candidate_files, generation_files
from evodiff.tracking.records import RESULT, Record, RunRecords, experiment_tags, generation_key
from evodiff.tracking.runs import create_run, fill_run, find_experiment, going_on, runs_by_key, search_runs
from evodiff.tracking.server import TrackingError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from evodiff.pipeline.run import Run

_PASSES = 6  # two are enough, one to create and one to fill, unless rivals undo some of it


def open_experiment(client: Any, run: Run) -> str:
    """Return the id of the run's experiment in MLflow, created where there is none.

    Raises:
        TrackingError: the experiment of that name is another run's, or was deleted.
    """
    digest = run.identity
    found = find_experiment(client, run.name, experiment_tags(run, digest))
    if found.tags.get("evodiff.experiment") != digest:
        raise TrackingError(
            f"Experiment {run.name} in MLflow is another run's: expected evodiff.experiment {digest[:12]}, found "
            f"{str(found.tags.get('evodiff.experiment'))[:12]}.",
            remedy=f"Rename the folder {run.path}, or that experiment.",
        )
    return str(found.experiment_id)


def tracked_generations(client: Any, experiment: str, records: RunRecords) -> set[int]:
    """Return the generations of a run that are in MLflow whole.

    Raises:
        TrackingError: MLflow has other results of the last of them: the run was begun anew.
    """
    found = search_runs(client, experiment, "tags.evodiff.kind = 'generation' and attributes.status = 'FINISHED'")
    tags = {int(item.data.tags["evodiff.generation"]): item.data.tags for item in found}
    last = max((generation for generation in tags if generation < records.run.ledger.closed), default=None)
    if last is not None:
        expected, held = records.result_digest(last), tags[last].get(RESULT)
        if held not in (None, expected):
            raise TrackingError(
                f"Experiment {records.run.name} in MLflow is another run's: of generation {last} expected {RESULT} "
                f"{expected[:12]}, found {held[:12]}.",
                remedy=f"If the run was begun anew, rename the folder {records.run.path}, or that experiment.",
            )
    return set(tags)


def track_generation(client: Any, experiment: str, records: RunRecords, generation: int) -> None:
    """Bring a closed generation into MLflow, or complete what is there.

    Raises:
        TrackingError: MLflow refuses a value, or somebody undoes it as fast as it is done.
    """
    parent, children = records.generation(generation), records.candidates(generation)
    refusals: list[str] = []
    for _ in range(_PASSES):
        refusals.clear()
        held = runs_by_key(client, experiment, f"tags.evodiff.generation = '{generation}'", refusals)
        if missing := [record for record in (parent, *children) if record.key not in held]:
            _create(client, experiment, missing, held)
            continue
        _fill(client, records, generation, parent, children, held, refusals)
        if not refusals:
            return
    raise TrackingError(
        f"Generation {generation} of {records.run.name} is not whole in MLflow after {_PASSES} passes; it refused: "
        f"{refusals[-1] if refusals else 'nothing'}",
        remedy="Mend what it refuses; or somebody deletes these runs, or tracks a copy of the run: end that.",
    )


def _create(client: Any, experiment: str, missing: Sequence[Record], held: Mapping[str, Any]) -> None:
    """Create runs, the generation's own before those of its candidates, which lie in it."""
    parents = {key: item.info.run_id for key, item in held.items()}
    for record in missing:
        generation = record.tags["evodiff.generation"]
        key = generation_key(int(generation))
        inside = {} if record.key == key else {"mlflow.parentRunId": parents[key]}
        parents[record.key] = create_run(client, experiment, record, {"evodiff.generation": generation, **inside})


def _fill(
    client: Any,
    records: RunRecords,
    generation: int,
    parent: Record,
    children: Sequence[Record],
    held: Mapping[str, Any],
    refusals: list[str],
) -> None:
    """Send what unfinished runs lack, the generation's own last: once it is finished, all are."""
    new = set(records.new_members(generation))
    inside = {"mlflow.parentRunId": held[parent.key].info.run_id}  # of two doubles the other one may have stayed
    for record in children:
        if held[record.key].info.status == "RUNNING":
            row = records.trial(generation, record.name)
            files = candidate_files(records.run, row, samples=record.name in new)
            with going_on(refusals):
                whole = replace(record, tags={**record.tags, **inside})
                fill_run(client, held[record.key], whole, files, step=generation)
    if not refusals:
        with going_on(refusals):
            fill_run(client, held[parent.key], parent, generation_files(records, generation), step=generation)
