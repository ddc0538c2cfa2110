"""A run as its report shows it: the ledger, and what came after the search."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from evodiff.architecture.zoo import zoo
from evodiff.engine.candidate import candidate_id
from evodiff.engine.convergence import plateaued
from evodiff.errors import EvodiffError
from evodiff.hardware.calibration import LOCAL
from evodiff.pipeline.final import LATENCY_FILE, PICTURES_FILE, ROBUSTNESS_FILE, pictures, trained_steps
from evodiff.pipeline.final import champion as champion_of
from evodiff.pipeline.rivals import contest_file
from evodiff.pipeline.scratch import front_from_scratch, heirs_of_front
from evodiff.pipeline.steering import preference
from evodiff.reporting.ledger_view import random_arm_from_ledger, view_from_ledger
from evodiff.reporting.rivals_view import read_rivals
from evodiff.reporting.robustness_view import read_robustness
from evodiff.reporting.view import (
    CandidateView,
    ImagesView,
    LatencyCheck,
    MemorisationView,
    NearestPair,
    ProgressPoint,
    ReferenceView,
    RetrainedView,
    RunView,
    ValidationMetric,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

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
    damaged: dict[str, str] = {}
    shown: dict[str, Any] = {}
    if run.settings["target"] == LOCAL:  # a table of other hardware says nothing about this machine's clock
        shown["latency_checks"] = _derived(damaged, LATENCY_FILE, (), lambda: _latency_checks(run))
    if champion is not None:
        folder = f"final/{champion}"
        config, validation = f"{folder}/config.json", f"{folder}/validation.json"
        shown["images"] = _derived(damaged, f"{folder}/{PICTURES_FILE}", None, lambda: _images(run, champion))
        shown["champion_progress"] = _derived(damaged, config, (), lambda: _progress(run, champion))
        shown["validation"] = _derived(damaged, validation, None, lambda: validation_metrics(run, champion))
        shown["memorisation"] = _derived(damaged, validation, None, lambda: _memorisation(run, champion))
        robustness = f"{folder}/{ROBUSTNESS_FILE}"
        shown["robustness"] = _derived(damaged, robustness, None, lambda: read_robustness(run, champion))
        shown["rivals"] = _derived(damaged, contest_file(champion), None, lambda: read_rivals(run, champion))
    return replace(
        view,
        **shown,
        champion=champion,
        random_arm=random_arm_from_ledger(random_arm.path, beside=run.path) if random_arm else None,
        references=_references(run, view.candidates),
        retrained=_retrained(run),
        warnings=(
            *view.warnings,
            *_preference_warning(run, champion),
            *_plateau_warning(run),
            *(f"{name} is left out, for it cannot be read: {found}" for name, found in damaged.items()),
        ),
        telemetry=_telemetry(run),
    )


def _derived(damaged: dict[str, str], name: str, otherwise: Any, read: Callable[[], Any]) -> Any:
    """Return what ``read`` makes of a derived file; where it cannot, ``otherwise``, and a line in ``damaged``."""
    try:
        return read()
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, EvodiffError):  # about the run itself
            raise
        damaged[name] = f"{type(error).__name__}: {error}"
        return otherwise


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
            rung=item.rung,
        )
        for item in candidates
        if item.id in names and item.objectives
    )


def _retrained(run: Run) -> tuple[RetrainedView, ...]:
    """The members of the front that inherited weights and were trained from scratch since, the fittest then first."""
    heirs = heirs_of_front(run)
    found = []
    for candidate in front_from_scratch(run) if heirs else ():
        if candidate.id in heirs and candidate.evaluation is not None:
            evaluation, failure = candidate.evaluation, candidate.evaluation.failure
            errors = {name: evaluation.details.get(f"{name}_standard_error") for name in evaluation.objectives}
            found.append(
                RetrainedView(
                    candidate.id,
                    evaluation.objectives,
                    {name: float(error) for name, error in errors.items() if error is not None},
                    None if failure else candidate.fitness_score,
                    failure.cause if failure else None,
                )
            )
    return tuple(sorted(found, key=lambda item: (-(item.fitness_score or 0.0), item.candidate)))


def _latency_checks(run: Run) -> tuple[LatencyCheck, ...]:
    rows = _document(run, LATENCY_FILE).get("front", [])
    return tuple(
        LatencyCheck(
            str(row["candidate"]), *(float(row[name]) for name in ("predicted_ms", "median_ms", "low_ms", "high_ms"))
        )
        for row in rows
        if row["predicted_ms"] is not None
    )


def _images(run: Run, champion: str) -> ImagesView | None:
    if not run.ledger.exists(run.final_folder(champion) / PICTURES_FILE):
        return None
    generated = pictures(run, champion)
    if generated is None:
        raise ValueError("no images of the run's shape")
    steps = trained_steps(run, champion)
    dataset = run.dataset()
    images, labels = dataset.part("test")
    names = dataset.class_names
    real_order = _by_class(labels, len(images), len(names))
    generated_order = _by_class(generated.get("labels"), len(generated["images"]), len(names))
    return ImagesView(
        real=_last_channel(images[real_order]),
        generated=_last_channel(generated["images"][generated_order]),
        real_labels=_names(labels, real_order, names),
        generated_labels=_names(generated.get("labels"), generated_order, names),
        class_names=names,
        caption=f"Test images, and images by the champion{f' after {steps} training steps' if steps else ''}.",
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


def _progress(run: Run, champion: str) -> tuple[ProgressPoint, ...]:
    config = _document(run, f"final/{champion}/config.json")
    curve = config.get("loss_curve", [])
    stretch = config.get("steps", 0) / max(1, len(curve))
    return tuple(ProgressPoint(round((i + 1) * stretch), {"loss": float(loss)}) for i, loss in enumerate(curve))


def validation_metrics(run: Run, candidate: str) -> Mapping[str, ValidationMetric] | None:
    """Read what `evodiff validate` found about a candidate, None where it was not validated."""
    found = _document(run, f"final/{candidate}/validation.json")
    if not found:
        return None
    metrics = {
        "KID": ValidationMetric(
            float(found["kid"]["value"]),
            float(found["kid"]["standard_error"]),
            float(found["kid_floor"]["value"]),
            "lower",
            "kernel distance to test images, in the second feature net",
        ),
        "Fréchet distance": ValidationMetric(
            float(found["frechet_distance"]),
            None,
            float(found["frechet_floor"]["value"]),
            "lower",
            f"in {found['frechet_dimensions']} dimensions, with {found['samples']} samples",
        ),
    }
    for name, explanation in MANIFOLD_METRICS.items():
        value, floor = found["manifold"][name], found["manifold_floor"][name]
        metrics[name] = ValidationMetric(float(value), None, float(floor), "higher", explanation)
    memorised = found["memorisation"]
    metrics["memorisation"] = ValidationMetric(
        float(memorised["share"]),
        float(memorised["standard_error"]),
        float(memorised["expected_share"]),
        "lower",
        "generated images as near to a training image as the nearest of real test images"
        + (": more than chance explains" if memorised["copies"] else ""),
    )
    if found.get("label_accuracy") is not None:
        metrics["label accuracy"] = ValidationMetric(
            float(found["label_accuracy"]),
            better="higher",
            explanation="images taken for the label they were asked for",
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
    prefer = preference(run)
    return (f"No candidate of the front is inside the preference {prefer}.",) if prefer and champion is None else ()


def _document(run: Run, name: str) -> dict[str, Any]:
    content = run.ledger.read(name)
    document: dict[str, Any] = {} if content is None else json.loads(content)
    return document


def _events(content: bytes | None) -> Iterator[dict[str, Any]]:
    """Yield the lines of telemetry that can be read; a crash may have cut the last one."""
    for line in (content or b"").splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            continue
