"""Gather what a run rests on: dataset, two feature nets, operator times. All of it is cached, and made by workers."""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from evodiff.data import ImageDataset, open_dataset
from evodiff.errors import EvodiffError, Interrupted, PoolError
from evodiff.hardware.calibration import LOCAL, Calibration, load_or_calibrate, roofline
from evodiff.hardware.memory import working_set_mb
from evodiff.hardware.profiles import target_profile
from evodiff.workers import Outcome, Task, WorkerPool

if TYPE_CHECKING:
    from evodiff.settings import Settings
    from evodiff.workers import WorkerContext

PATIENCE_SECONDS: Final = 3600.0  # predicted for work of unknown length: no time-out is meant

Announce = Callable[[str, Mapping[str, Any]], None]  # (what is prepared, how far)
Inspect = Callable[[ImageDataset], object]  # looks at a dataset before anything is made of it; may raise


@dataclass(frozen=True)
class Inputs:
    """Files of the cache, by the name that they get in ``RUN/inputs``, and what is known of them.

    ``device`` is what candidates are trained on, ``working_set_mb`` the memory that a network may take on the target
    (None where nothing is known of it).
    ``noise_floors`` holds value, standard error and explanation of each scored objective; ``feature_accuracy`` the
    validation accuracy of each feature net where there are labels.
    """

    dataset: ImageDataset
    calibration: Calibration
    files: Mapping[str, Path]
    device: str
    working_set_mb: float | None
    noise_floors: Mapping[str, Mapping[str, Any]]
    feature_accuracy: Mapping[str, float | None]


def gather_inputs(
    settings: Settings,
    pool: WorkerPool,
    announce: Announce = lambda name, content: None,
    *,
    inspect: Inspect = lambda dataset: None,
) -> Inputs:
    """Make or fetch the inputs that ``settings`` ask for; what ``inspect`` raises about the dataset stops it.

    Raises:
        DatasetError: the dataset is unknown, empty or too damaged.
        PoolError: a worker was lost; another try may do.
        Interrupted: the pool was asked to stop.
    """
    cache = settings.cache_dir.expanduser()
    request = {"cache": str(cache), "dataset": settings.dataset, "image_size": settings.image_size}
    file = Path(_run(pool, {"dataset": ("prepare_dataset", request)}, announce)["dataset"]["file"])
    dataset = ImageDataset.load(file)
    inspect(dataset)
    nets = {
        name: ("prepare_feature_net", {"cache": str(cache), "dataset": str(file), "variant": variant})
        for name, variant in (("feature_net", "search"), ("report_feature_net", "report"))
    }
    made = _run(pool, nets, announce)
    # On its own: nothing else may run while operators are timed.
    target = {"cache": str(cache), "target": settings.target, "seconds": settings.calibration_seconds}
    calibrated = _run(pool, {"calibration": ("prepare_calibration", target)}, announce)["calibration"]
    return Inputs(
        dataset=dataset,
        calibration=Calibration.from_json(calibrated["calibration"]),
        files={
            "dataset.safetensors": file,
            **{f"{name}.safetensors": Path(value["file"]) for name, value in made.items()},
        },
        device=calibrated["device"],
        working_set_mb=calibrated["working_set_mb"],
        noise_floors={"kid": made["feature_net"]["floor"]},
        feature_accuracy={name: value["accuracy"] for name, value in made.items()},
    )


def prepare_dataset(payload: Mapping[str, Any], context: WorkerContext) -> dict[str, Any]:
    """Read a dataset and store it in the cache under its digest."""
    dataset = open_dataset(
        payload["dataset"],
        image_size=payload["image_size"],
        progress=lambda done, total: context.report({"done": done, "total": total}),
    )
    # Named by content, name and notes: folders of equal images have files of their own.
    about = json.dumps([dataset.digest, dataset.name, dataset.skipped, dataset.notes])
    file = Path(payload["cache"]) / "datasets" / f"{hashlib.sha256(about.encode()).hexdigest()}.safetensors"
    if not file.exists():
        dataset.save(file)
    return {"file": str(file)}


def prepare_feature_net(payload: Mapping[str, Any], context: WorkerContext) -> dict[str, Any]:
    """Train a feature net for a dataset, or fetch it from the cache; measure the noise floor of KID in it."""
    from evodiff.evaluation.feature_net import load_or_train
    from evodiff.evaluation.score import noise_floor

    dataset = ImageDataset.load(Path(payload["dataset"]))
    net = load_or_train(
        Path(payload["cache"]),
        dataset,
        payload["variant"],
        progress=lambda done, total: context.report({"done": done, "total": total}),
    )
    floor = noise_floor(dataset, net)
    return {
        "file": str(net.path),
        "accuracy": net.accuracy,
        "floor": {
            "value": floor.value,
            "standard_error": floor.standard_error,
            "explanation": "KID of the training images against the validation images",
        },
    }


def prepare_calibration(payload: Mapping[str, Any], context: WorkerContext) -> dict[str, Any]:
    """Time the operators of the device at hand, or fetch the table; derive one for hardware that is not in the room.

    Of several at once on a machine one times, the others wait and fetch: beside each other their times would be wrong.
    """
    if payload["target"] == LOCAL:
        cache = Path(payload["cache"])
        cache.mkdir(parents=True, exist_ok=True)
        with (cache / "calibration.lock").open("w") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            calibration = load_or_calibrate(
                cache,
                context.device,
                budget_seconds=payload["seconds"],
                progress=lambda share: context.report({"done": round(100 * share), "total": 100}),
            )
    else:
        calibration = roofline(target_profile(payload["target"]))
    return {
        "calibration": calibration.to_json(),
        "device": context.device,
        "working_set_mb": working_set_mb(payload["target"], context.device),
    }


def _run(
    pool: WorkerPool, work: Mapping[str, tuple[str, Mapping[str, Any]]], announce: Announce
) -> dict[str, dict[str, Any]]:
    """Have functions of this module run by workers, by name, and return what each returned."""
    for name in work:
        announce(name, {})
    tasks = [
        Task(id=name, function=f"{__name__}:{function}", payload=payload, predicted_seconds=PATIENCE_SECONDS)
        for name, (function, payload) in work.items()
    ]
    return {outcome.id: _value(outcome) for outcome in pool.run(tasks, on_progress=announce)}


def _value(outcome: Outcome) -> dict[str, Any]:
    if outcome.interrupted:
        raise Interrupted("Stopped while the inputs were prepared.", remedy="Start again: what was made is cached.")
    if outcome.failure is not None:
        raise (PoolError if outcome.failure.kind == "environment" else EvodiffError)(
            f"Preparing {outcome.id} failed: {outcome.failure.cause}. {outcome.failure.detail}",
            remedy="Look at the cause above; nothing was stored.",
        )
    return outcome.value or {}
