"""What the stages of ``dvc.yaml`` run: each makes its outputs again from what was recorded, the same bytes.

``folder`` is that of a dataset, a feature net or an experiment in a checkout of an archive. A stage that cannot make
the same bytes says so, and leaves what is there alone.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evodiff.engine.candidate import read_inheritance
from evodiff.engine.encoding import digest
from evodiff.engine.experiment import code_version
from evodiff.engine.layout import evaluations_name, plan_name, result_name
from evodiff.engine.layout import generation_folder as ledger_folder
from evodiff.errors import DatasetError, EvodiffError, Interrupted
from evodiff.pipeline.archive.contents import export_evaluations, export_genomes, export_weights
from evodiff.pipeline.archive.layout import (
    DATASET_FILE,
    DATASETS,
    FEATURE_NET_FILE,
    FEATURE_NETS,
    RECORDED,
    generation_folder,
    generation_key,
    history_file,
    run_dataset_key,
    run_feature_net_key,
)
from evodiff.pipeline.create import file_digest, link_or_copy
from evodiff.pipeline.generation import QUIET, Listener, plan, select, train_and_evaluate
from evodiff.pipeline.run import Run

if TYPE_CHECKING:
    from collections.abc import Callable

    from evodiff.workers import WorkerPool


def check_version(pinned: str) -> None:
    """Check that the installed evodiff is the one that a stage is pinned to.

    Raises:
        EvodiffError: it is another.
    """
    if pinned != code_version():
        raise EvodiffError(
            f"This is pinned to evodiff {pinned}, and {code_version()} is installed, which may give other bytes.",
            remedy=f"Fetch it by `dvc pull`, or install evodiff-pipeline=={pinned}; to compute it anew, change its "
            "evodiff_version in generations.yaml.",
        )


def rebuild_dataset(folder: Path) -> None:
    """Open a dataset again by its name, and write its file.

    Raises:
        DatasetError: it cannot be opened, or its images are not those that were recorded.
    """
    from evodiff.data import open_dataset

    about = _read(folder / "dataset.json")
    remedy = f"Fetch them by `dvc pull dataset@{folder.name}`."
    try:
        dataset = open_dataset(about["name"], image_size=about["image_size"])
    except DatasetError as error:
        raise DatasetError(f"The images of {folder.name} are not here. {error.headline}", remedy=remedy) from error
    if not _write_recorded(dataset.save, folder / DATASET_FILE, about["digest"]):
        raise DatasetError(f"The images of {about['name']} are not those of {folder.name} any more.", remedy=remedy)


def rebuild_feature_net(folder: Path) -> None:
    """Train a feature net again, and write its file.

    Raises:
        EvodiffError: it is not the one that was recorded.
    """
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped] # ships none

    from evodiff.data import ImageDataset
    from evodiff.evaluation.feature_net import train_feature_net

    about = _read(folder / "feature_net.json")
    dataset = ImageDataset.load(folder.parents[1] / DATASETS / about["dataset"] / DATASET_FILE)
    with threadpool_limits(1, user_api="blas"):
        net = train_feature_net(dataset, variant=about["variant"])
    if not _write_recorded(lambda file: file.write_bytes(net.content), folder / FEATURE_NET_FILE, about["digest"]):
        raise EvodiffError(
            f"Trained anew, {folder.name} is another net: this type of CPU, or these versions of torch and numpy, give "
            "other bytes.",
            remedy=f"Take the recorded one: git checkout -- {folder / FEATURE_NET_FILE}",
        )


def rebuild_genomes(folder: Path, generation: int) -> None:
    """Plan a generation again from what the generations before it left."""
    with tempfile.TemporaryDirectory() as scratch:
        run = _assemble(folder, generation, Path(scratch) / folder.name)
        plan(run, generation)
        export_genomes(run.ledger, generation, folder / generation_folder(generation))


def scratch_run(folder: Path, generation: int) -> Run:
    """Return a run in which the trials of a generation can be worked on again, with what was done before a stop.

    Raises:
        EvodiffError: computing it again would not give the same bytes; the message says why.
    """
    place = folder / generation_folder(generation)
    why = _read(place / "inputs" / RECORDED)["pull_only"]
    if why is not None:
        key = generation_key(folder.name, generation)
        raise EvodiffError(
            f"{key} cannot be rebuilt: {why}.",
            remedy=f"Fetch it by `dvc pull evaluations@{key}`, or all that is missing by `dvc repro --pull`.",
        )
    rests_on = [folder / history_file(generation), place / "plan.jsonl", *sorted((place / "inputs").iterdir())]
    state = digest("".join(file_digest(file) for file in rests_on).encode())
    path = folder / ".rebuild" / f"{place.name}-{state[:16]}"
    inputs = folder.parent / DATASETS, folder.parent / FEATURE_NETS
    run = _assemble(folder, generation, path)
    _link(inputs[0] / run_dataset_key(run.experiment) / DATASET_FILE, path / "inputs" / DATASET_FILE)
    _link(inputs[1] / run_feature_net_key(run.experiment) / FEATURE_NET_FILE, path / "inputs" / FEATURE_NET_FILE)
    _link(place / "plan.jsonl", path / plan_name(generation))
    _link_inherited(folder, run, generation)
    return run


def rebuild_evaluations(run: Run, folder: Path, generation: int, pool: WorkerPool, listener: Listener = QUIET) -> None:
    """Train, judge and select the trials of a generation again, in its :func:`scratch_run`.

    Raises:
        Interrupted: the pool was asked to stop; the next call goes on from there.
    """
    place = folder / generation_folder(generation)
    try:
        train_and_evaluate(run, generation, pool, listener=listener)
    except Interrupted as stop:
        raise Interrupted(stop.headline, remedy="Go on with: dvc repro") from stop
    select(run, generation)
    export_evaluations(run.ledger, generation, place)
    export_weights(run.ledger, generation, place, _read(place / "inputs" / RECORDED)["weights"])
    for path in run.path.parent.glob(f"{place.name}-*"):
        shutil.rmtree(path)
    with suppress(OSError):  # where another generation is being rebuilt
        run.path.parent.rmdir()


def _assemble(folder: Path, generation: int, path: Path) -> Run:
    """Put together at ``path`` what a run held when ``generation`` was opened."""
    _link(folder / "experiment.json", path / "experiment.json")
    for file in (folder / "inputs").iterdir():
        _link(file, path / "inputs" / file.name)
    for index in range(generation + 1):
        for file in (folder / generation_folder(index) / "inputs").iterdir():
            if file.name != RECORDED:
                _link(file, path / ledger_folder(index) / "inputs" / file.name)
    for index in range(generation):
        place = folder / generation_folder(index)
        _link(place / "plan.jsonl", path / plan_name(index))
        for name in (evaluations_name(index), result_name(index)):
            _link(place / "evaluations" / Path(name).name, path / name)
    return Run.open(path)


def _link_inherited(folder: Path, run: Run, generation: int) -> None:
    """Put the weights that trials of a generation start from into their places in a run.

    Raises:
        EvodiffError: the archive does not have them here.
    """
    sources = {name for row in run.ledger.plan(generation) for name in read_inheritance(row["inherits_from"])}
    for index in range(generation):
        for row in run.ledger.plan(index):
            if row["id"] in sources:
                target = run.ledger.weights_folder(row)
                kept = folder / generation_folder(index) / "evaluations" / "weights" / target.name
                if not kept.is_dir():
                    key = generation_key(folder.name, generation)
                    raise EvodiffError(
                        f"{key} cannot be rebuilt: {row['id']} is inherited from, and its weights are not in {kept}.",
                        remedy=f"Fetch them by `dvc pull evaluations@{generation_key(folder.name, index)}`, "
                        f"or the generation itself by `dvc pull evaluations@{key}`.",
                    )
                for file in kept.iterdir():
                    _link(file, target / file.name)


def _link(source: Path, target: Path) -> None:
    """Give a file a second name, unless an attempt before has done so."""
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.partial")
        partial.unlink(missing_ok=True)
        link_or_copy(source, partial)
        partial.replace(target)


def _write_recorded(save: Callable[[Path], object], target: Path, expected: str) -> bool:
    """Save a file in the place of ``target`` if it has the SHA-256 that was recorded; return whether it has."""
    partial = target.with_name(f".{target.name}.partial")
    partial.unlink(missing_ok=True)
    save(partial)
    same = file_digest(partial) == expected
    if same:
        partial.replace(target)
    else:
        partial.unlink()
    return same


def _read(file: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise EvodiffError(
            f"Expected what was recorded for a stage in {file}, but it cannot be read: {error}.",
            remedy="Name a folder of an archive, or restore the file: git checkout -- that file",
        ) from error
    return content
