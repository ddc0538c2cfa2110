"""Archive what a run has closed and the archive does not hold yet: one git commit a generation."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING

from evodiff.engine.experiment import code_version
from evodiff.engine.fitness_course import generation_fitness
from evodiff.errors import EvodiffError
from evodiff.pipeline.archive import contents
from evodiff.pipeline.archive.commands import PATIENCE_SECONDS
from evodiff.pipeline.archive.entries import (
    GENERATIONS,
    LOCK,
    Entries,
    read_entries,
    read_lock,
    write_entries,
    write_lock,
)
from evodiff.pipeline.archive.layout import (
    DATASET_FILE,
    DATASETS,
    FEATURE_NET_FILE,
    FEATURE_NETS,
    NET_VARIANTS,
    ROOT,
    dataset_key,
    experiment_key,
    generation_folder,
    generation_key,
    history_file,
    run_dataset_key,
    run_feature_net_key,
)
from evodiff.pipeline.archive.repository import Repository, opened
from evodiff.pipeline.archive.staging import Staging
from evodiff.pipeline.create import file_digest, link_or_copy

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from evodiff.pipeline.run import Run


def archive_run(run: Run, archive: Path, *, patience_seconds: float = PATIENCE_SECONDS) -> str | None:
    """Archive every closed generation of ``run`` that is not archived; create the archive where there is none.

    A generation is archived once a commit of the archive lists it; by then DVC has its outputs and has pushed them.
    What a killed call left half done is done again. ``patience_seconds`` bounds how long a held lock is waited for.

    Returns:
        The id of the commit that archived the last generation; None where the run has no closed one.

    Raises:
        EvodiffError: ``archive`` is something else, or holds another experiment of this name; a lock stayed held; git
            or DVC failed. What was archived before is intact.
    """
    if run.ledger.closed == 0:
        return None
    experiment = experiment_key(run.name)
    with opened(archive, patience_seconds=patience_seconds) as repository:
        known = read_entries(repository.path).generations
        closed = range(run.ledger.closed)
        pending = [item for item in closed if generation_key(experiment, item) not in known]
        _check_same_experiment(run, repository, experiment)
        _check_same_history(run, repository, experiment, [item for item in closed if item not in pending])
        if pending:
            _archive_generations(run, experiment, pending, Staging.create(repository))
        return repository.last_commit(f"{ROOT}/{experiment}")


def archive_dataset(file: Path, archive: Path, *, patience_seconds: float = PATIENCE_SECONDS) -> str:
    """Archive a dataset's file, unless this version of it is there; return what the archive calls it.

    Raises:
        DatasetError: ``file`` is not a dataset, or damaged.
        EvodiffError: as :func:`archive_run`.
    """
    digest = file_digest(file)
    key = dataset_key(contents.describe_dataset(file)[0], digest)
    with opened(archive, patience_seconds=patience_seconds) as repository:
        if key not in read_entries(repository.path).datasets:
            staging = Staging.create(repository)
            new = _stage_dataset(file, digest, key, staging, Entries())
            _publish(staging, new, staging.commit(new), f"Add dataset {key}", [f"{ROOT}/{DATASETS}/{key}"])
            staging.remove()
    return key


def _check_same_experiment(run: Run, repository: Repository, experiment: str) -> None:
    name = f"{ROOT}/{experiment}/experiment.json"
    archived = repository.path / name
    # What no commit holds, a process left there that was killed before its first.
    if not repository.tracks(name) or not archived.exists():
        return
    if archived.read_bytes() != (run.path / "experiment.json").read_bytes():
        raise EvodiffError(
            f"{repository.path} holds another experiment called {experiment}: its experiment.json is not that of "
            f"{run.path}.",
            remedy="Rename the folder of the run, or archive it elsewhere.",
        )


def _check_same_history(run: Run, repository: Repository, experiment: str, known: Sequence[int]) -> None:
    """Check that a run did what is archived of it: one that was begun anew has the same ``experiment.json``."""
    if not known:
        return
    archived = repository.path / ROOT / experiment / history_file(known[-1] + 1)
    if archived.exists() and archived.read_bytes() != contents.encode_history(run.ledger, known[-1]):
        raise EvodiffError(
            f"{repository.path} holds another run of the experiment {experiment}: up to generation {known[-1]} it did "
            f"not do what {run.path} did.",
            remedy="If that run was begun anew, rename its folder, or archive it elsewhere; else restore its files.",
        )


def _archive_generations(run: Run, experiment: str, pending: Sequence[int], staging: Staging) -> None:
    folder = f"{ROOT}/{experiment}"
    inputs = _stage_inputs(run, staging, read_entries(staging.archive.path))
    contents.record_experiment(run, staging.path / folder)
    if pending[0] > 0:
        history = staging.path / folder / history_file(pending[0])
        history.parent.mkdir(parents=True)
        history.write_bytes(contents.encode_history(run.ledger, pending[0] - 1))
    generations = [_stage_generation(run, experiment, generation, staging) for generation in pending]
    lock = staging.commit(reduce(Entries.joined, generations, inputs))
    for generation, entries in zip(pending, generations, strict=True):
        moved = [f"{folder}/{generation_folder(generation)}"]
        if generation == pending[0]:
            entries = inputs.joined(entries)
            moved += [f"{folder}/experiment.json", f"{folder}/inputs", *_folders(inputs)]
        _publish(staging, entries, lock, _message(run, experiment, generation), moved)
    staging.remove()


def _stage_inputs(run: Run, staging: Staging, known: Entries) -> Entries:
    """Put dataset and feature nets into the staging; return the entries of those that the archive does not know."""
    digests = run.settings["digests"]
    dataset = run_dataset_key(run.experiment)
    new = _stage_dataset(run.inputs / DATASET_FILE, digests["dataset"], dataset, staging, known)
    for name, variant in NET_VARIANTS.items():
        key = run_feature_net_key(run.experiment, name)
        source, folder = run.inputs / f"{name}.safetensors", staging.path / ROOT / FEATURE_NETS / key
        if key in known.feature_nets:
            folder.mkdir(parents=True)
            link_or_copy(source, folder / FEATURE_NET_FILE)
        else:
            contents.record_feature_net(source, digests[name], folder, variant=variant, dataset=dataset)
            new.feature_nets[key] = {"dataset": dataset, "evodiff_version": code_version()}
    return new


def _stage_dataset(file: Path, digest: str, key: str, staging: Staging, known: Entries) -> Entries:
    folder = staging.path / ROOT / DATASETS / key
    if key in known.datasets:
        folder.mkdir(parents=True)
        link_or_copy(file, folder / DATASET_FILE)
        return Entries()
    contents.record_dataset(file, digest, folder)
    return Entries(datasets={key: {"evodiff_version": code_version()}})


def _stage_generation(run: Run, experiment: str, generation: int, staging: Staging) -> Entries:
    folder = staging.path / ROOT / experiment / generation_folder(generation)
    contents.export_genomes(run.ledger, generation, folder)
    contents.export_evaluations(run.ledger, generation, folder)
    weights = contents.export_weights(run.ledger, generation, folder)
    contents.record_generation(run, generation, folder, weights=weights)
    entry = {
        "experiment": experiment,
        "generation": generation,
        "folder": generation_folder(generation),
        "after": history_file(generation),
        "dataset": run_dataset_key(run.experiment),
        "feature_net": run_feature_net_key(run.experiment),
        "evodiff_version": code_version(),
    }
    return Entries(generations={generation_key(experiment, generation): entry})


def _folders(inputs: Entries) -> list[str]:
    return [
        *(f"{ROOT}/{DATASETS}/{key}" for key in inputs.datasets),
        *(f"{ROOT}/{FEATURE_NETS}/{key}" for key in inputs.feature_nets),
    ]


def _publish(staging: Staging, new: Entries, lock: dict[str, str], message: str, moved: Sequence[str]) -> None:
    """Move files from the staging to the archive, list them, and commit."""
    archive = staging.archive
    for name in moved:
        staging.move(name)
    write_entries(archive.path, read_entries(archive.path).joined(new))
    write_lock(archive.path, {**read_lock(archive.path), **{stage: lock[stage] for stage in new.stages()}})
    archive.commit(message, GENERATIONS, LOCK, ".dvc/config", *moved)


def _message(run: Run, experiment: str, generation: int) -> str:
    """Say what a generation brought, as a headline and its new members of the front."""
    result = run.ledger.result(generation) or {}
    before = (run.ledger.result(generation - 1) if generation else None) or {"front": []}
    new = [item for item in result["front"] if item not in before["front"]]
    rows = {row["candidate"]: row for row in run.ledger.plan(generation)}
    lines = [
        f"{item} by {rows[item]['operator'] or 'start'}"
        + (f" from {' and '.join(rows[item]['parents'])}" if rows[item]["parents"] else "")
        for item in new
        if item in rows
    ]
    fitness = generation_fitness(run.ledger, result)
    headline = (
        f"{experiment}: generation {generation}, best fitness {fitness.best:.3f}, "
        f"{len(new)} of {len(result['front'])} new on the front"
    )
    return "\n\n".join([headline, "\n".join(lines)]) if lines else headline
