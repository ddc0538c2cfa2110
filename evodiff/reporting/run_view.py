"""A run as its report shows it: the ledger, and what came after the search."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from evodiff.architecture.zoo import zoo
from evodiff.engine.candidate import candidate_id
from evodiff.engine.convergence import plateaued
from evodiff.errors import LedgerError
from evodiff.hardware.calibration import LOCAL
from evodiff.pipeline.final import champion as champion_of
from evodiff.reporting.ledger_view import random_arm_from_ledger, view_from_ledger
from evodiff.reporting.view import (
    CandidateView,
    ImagesView,
    LatencyCheck,
    MemorisationView,
    NearestPair,
    ProgressPoint,
    ReferenceView,
    RunView,
    ValidationMetric,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from evodiff.pipeline.run import Run

PER_CLASS = 8  # pictures of each class in the gallery
MANIFOLD_METRICS = {
    "precision": "generated images that lie among real ones",
    "recall": "real images that lie among generated ones",
    "density": "how densely real images lie around a generated one; 1 is as densely as around a real one",
    "coverage": "real images with a generated one in their neighbourhood",
}


def view_of_run(run: Run, *, random_arm: Run | None = None) -> RunView:
    """Read a run and what lies in its ``final`` folder; ``random_arm`` is the random search of equal budget, if any."""
    view = view_from_ledger(run.path)
    best = champion_of(run)
    champion = best.id if best else None
    return replace(
        view,
        champion=champion,
        random_arm=random_arm_from_ledger(random_arm.path, beside=run.path) if random_arm else None,
        references=_references(run, view.candidates),
        # A table of other hardware says nothing about this machine's clock.
        latency_checks=_latency_checks(run) if run.settings["target"] == LOCAL else (),
        warnings=(*view.warnings, *_preference_warning(run, champion), *_plateau_warning(run)),
        images=_images(run, champion) if champion else None,
        champion_progress=_progress(run, champion) if champion else (),
        validation=validation_metrics(run, champion) if champion else None,
        memorisation=_memorisation(run, champion) if champion else None,
        telemetry=_telemetry(run),
    )


def _references(run: Run, candidates: tuple[CandidateView, ...]) -> tuple[ReferenceView, ...]:
    """The zoo's networks among the candidates: trained and scored as all others were."""
    names = {candidate_id(genome.canonical()): name for name, genome in zoo(run.shape).items()}
    return tuple(
        ReferenceView(
            name=names[item.id],
            objectives=item.objectives,
            standard_errors=item.standard_errors,
            fitness_score=item.fitness_score,
            parameters=item.parameters,
        )
        for item in candidates
        if item.id in names and item.objectives
    )


def _latency_checks(run: Run) -> tuple[LatencyCheck, ...]:
    rows = _document(run, "final/latency.json").get("front", [])
    return tuple(
        LatencyCheck(row["candidate"], row["predicted_ms"], row["median_ms"], row["low_ms"], row["high_ms"])
        for row in rows
        if row["predicted_ms"] is not None
    )


def _images(run: Run, champion: str) -> ImagesView | None:
    from safetensors.numpy import load_file

    file = run.path / "final" / champion / "pictures.safetensors"
    if not file.exists():
        return None
    dataset = run.dataset()
    images, labels = dataset.part("test")
    generated = load_file(file)
    names = dataset.class_names
    real_order = _by_class(labels, len(images), len(names))
    generated_order = _by_class(generated.get("labels"), len(generated["images"]), len(names))
    return ImagesView(
        real=_last_channel(images[real_order]),
        generated=_last_channel(generated["images"][generated_order]),
        real_labels=_names(labels, real_order, names),
        generated_labels=_names(generated.get("labels"), generated_order, names),
        class_names=names,
        caption=f"Test images, and images by the champion after {_steps(run, champion)} training steps.",
    )


def _by_class(labels: NDArray[np.int64] | None, count: int, classes: int) -> list[int]:
    """Positions of the first few images of each class, class by class."""
    if labels is None:
        return list(range(min(count, 8 * PER_CLASS)))
    return [int(i) for label in range(classes) for i in (labels == label).nonzero()[0][:PER_CLASS]]


def _names(labels: NDArray[np.int64] | None, order: list[int], names: tuple[str, ...]) -> tuple[str, ...]:
    return () if labels is None else tuple(names[int(labels[i])] for i in order)


def _last_channel(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return images.transpose(0, 2, 3, 1)


def _steps(run: Run, champion: str) -> int:
    return int(_document(run, f"final/{champion}/config.json").get("steps", run.training.steps))


def _progress(run: Run, champion: str) -> tuple[ProgressPoint, ...]:
    config = _document(run, f"final/{champion}/config.json")
    curve = config.get("loss_curve", [])
    stretch = config.get("steps", 0) / max(1, len(curve))
    return tuple(ProgressPoint(round((i + 1) * stretch), {"loss": loss}) for i, loss in enumerate(curve))


def validation_metrics(run: Run, candidate: str) -> Mapping[str, ValidationMetric] | None:
    """Read what `evodiff validate` found about a candidate, None where it was not validated."""
    found = _document(run, f"final/{candidate}/validation.json")
    if not found:
        return None
    metrics = {
        "KID": ValidationMetric(
            found["kid"]["value"],
            found["kid"]["standard_error"],
            found["kid_floor"]["value"],
            "lower",
            "kernel distance to test images, in the second feature net",
        ),
        "Fréchet distance": ValidationMetric(
            found["frechet_distance"],
            None,
            found["frechet_floor"]["value"],
            "lower",
            f"in {found['frechet_dimensions']} dimensions, with {found['samples']} samples",
        ),
    }
    for name, explanation in MANIFOLD_METRICS.items():
        value, floor = found["manifold"][name], found["manifold_floor"][name]
        metrics[name] = ValidationMetric(value, None, floor, "higher", explanation)
    memorised = found["memorisation"]
    metrics["memorisation"] = ValidationMetric(
        memorised["share"],
        memorised["standard_error"],
        memorised["expected_share"],
        "lower",
        "generated images as near to a training image as the nearest of real test images"
        + (": more than chance explains" if memorised["copies"] else ""),
    )
    if found.get("label_accuracy") is not None:
        metrics["label accuracy"] = ValidationMetric(
            found["label_accuracy"], better="higher", explanation="images taken for the label they were asked for"
        )
    return metrics


def _memorisation(run: Run, candidate: str) -> MemorisationView | None:
    found = _document(run, f"final/{candidate}/validation.json")
    memorised = found.get("memorisation", {})
    if "closest" not in memorised:  # not validated, or before pairs were kept
        return None
    return MemorisationView(
        samples=found["samples"],
        share=memorised["share"],
        expected_share=memorised["expected_share"],
        standard_error=memorised["standard_error"],
        threshold=memorised["threshold"],
        neighbourhood=memorised["neighbourhood"],
        copies=memorised["copies"],
        pairs=tuple(
            NearestPair(
                base64.b64decode(pair["generated_png"]),
                base64.b64decode(pair["training_png"]),
                pair["distance"],
                pair["relative_distance"],
            )
            for pair in memorised["closest"]
        ),
    )


def _telemetry(run: Run) -> dict[str, Any]:
    """Wall-clock seconds of the trials, from telemetry: what differs on a rerun."""
    events = list(_events(run.ledger.read("telemetry/events.jsonl")))
    seconds = [event["seconds"] for event in events if event.get("event") == "trial"]
    reused = sum(len(event["trials"]) for event in events if event.get("event") == "reused")
    return {
        "trials": len(seconds),
        "trials_taken_over": reused,
        "seconds_in_trials": round(sum(seconds), 1),
        "longest_trial_seconds": round(max(seconds, default=0.0), 1),
    }


def _plateau_warning(run: Run) -> tuple[str, ...]:
    if not plateaued(run.evolution().history()):
        return ()
    return ("The search has plateaued: its hypervolume has hardly grown over the last generations.",)


def _preference_warning(run: Run, champion: str | None) -> tuple[str, ...]:
    prefer = run.settings["prefer"]
    return (f"No candidate of the front is inside the preference {prefer}.",) if prefer and champion is None else ()


def _document(run: Run, name: str) -> dict[str, Any]:
    content = run.ledger.read(name)
    try:
        document: dict[str, Any] = json.loads(content) if content else {}
    except ValueError as error:
        raise LedgerError(
            f"{name} in {run.path} is damaged: expected JSON, found {error}.",
            remedy=f"Remove it and go on: evodiff evolve --resume {run.path}",
        ) from error
    return document


def _events(content: bytes | None) -> Iterator[dict[str, Any]]:
    """Yield the lines of telemetry that can be read; a crash may have cut the last one."""
    for line in (content or b"").splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            continue
