"""What a report shows of a run, as plain data: filled by the pipeline, read by the pages and the tables.

Nothing here computes, opens files or imports torch. Whatever is absent (``None`` or empty) is left out of the page.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from evodiff.reporting.rivals_view import RivalsView
    from evodiff.reporting.robustness_view import RobustnessView


@dataclass(frozen=True)
class ObjectiveView:
    """One objective: smaller is better unless ``maximise``; ``unit`` such as ``ms`` or ``MB`` may be empty."""

    name: str
    maximise: bool = False
    unit: str = ""


@dataclass(frozen=True)
class TrialView:
    """One trial of a candidate; ``place`` is where it stands among all of its run, from 0."""

    place: int
    generation: int
    rung: int = 0
    failed: bool = False
    training_flops: float | None = None


@dataclass(frozen=True)
class CandidateView:
    """One candidate of a run with the evaluation that counts.

    ``objectives`` is empty for a failed one, whose ``failure`` says why. ``violations`` above 0 make it infeasible.
    ``rung`` is the highest that it was tried on; ``trials`` are all that it took, in their order.
    ``flops`` is one forward pass of one image, ``genome`` the genome's JSON. ``training_flops`` is what its training
    cost, by the steps that were planned: a failed trial is charged for all of them too, which is too much where it was
    stopped early, for the ledger says only in words how far it came.
    """

    id: str
    generation: int
    operator: str | None = None
    parents: tuple[str, ...] = ()
    objectives: Mapping[str, float] = field(default_factory=dict)
    standard_errors: Mapping[str, float] = field(default_factory=dict)
    violations: Mapping[str, float] = field(default_factory=dict)
    fitness_score: float | None = None
    on_front: bool = False
    survivor_generations: tuple[int, ...] = ()
    failure: str | None = None
    parameters: int | None = None
    flops: float | None = None
    training_flops: float | None = None
    genome: Mapping[str, Any] | None = None
    rung: int = 0
    trials: tuple[TrialView, ...] = ()

    @property
    def replicates(self) -> int:
        """How many trials its values are the mean of: those on its highest rung that did not fail."""
        return sum(trial.rung == self.rung and not trial.failed for trial in self.trials)

    @property
    def feasible(self) -> bool:
        """Whether it was evaluated and keeps every constraint."""
        return self.failure is None and bool(self.objectives) and all(value <= 0 for value in self.violations.values())


@dataclass(frozen=True)
class GenerationView:
    """Progress after one closed generation.

    ``hypervolume`` is a share of the run's frozen box, in [0, 1]; ``evaluations`` counts the trials that are done by
    then; ``best_fitness`` and ``average_fitness`` are of whole trainings (:mod:`evodiff.engine.fitness_course`);
    ``rank_correlations`` are those of the surrogate's predictions with what came, by objective, in [-1, 1].
    """

    generation: int
    evaluations: int
    hypervolume: float | None = None
    best_fitness: float | None = None
    average_fitness: float | None = None
    diversity_score: float | None = None
    convergence_rate: float | None = None
    rank_correlations: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class RungView:
    """How a rung of ``steps`` training steps ranks candidates: ``tried`` were trained so far and ``promoted`` went on.

    ``rank_correlations`` are those with the next rung, by objective, over ``pairs`` that were tried on both; ``share``
    is how much of the rung is promoted. Both are empty for the full rung.
    """

    rung: int
    steps: int | None
    tried: int
    promoted: int = 0
    pairs: int = 0
    rank_correlations: Mapping[str, float] = field(default_factory=dict)
    share: float | None = None


@dataclass(frozen=True)
class Floor:
    """The value of an objective that nothing beats except by luck, and where it comes from in one sentence."""

    value: float
    explanation: str = ""


@dataclass(frozen=True)
class RandomArm:
    """The random search of equal budget; hypervolumes are in the box of the run that it stands beside."""

    candidates: tuple[CandidateView, ...] = ()
    generations: tuple[GenerationView, ...] = ()


@dataclass(frozen=True)
class ReferenceView:
    """A hand-designed network, trained and scored as the candidates were; ``rung`` is the highest it was tried on."""

    name: str
    objectives: Mapping[str, float]
    standard_errors: Mapping[str, float] = field(default_factory=dict)
    fitness_score: float | None = None
    parameters: int | None = None
    rung: int = 0


@dataclass(frozen=True)
class RetrainedView:
    """What a member of the front that inherited weights reached from scratch, or the ``failure`` that it ended in."""

    candidate: str
    objectives: Mapping[str, float] = field(default_factory=dict)
    standard_errors: Mapping[str, float] = field(default_factory=dict)
    fitness_score: float | None = None
    failure: str | None = None


@dataclass(frozen=True)
class LatencyCheck:
    """Latency of one candidate by the table and by the clock; ``low_ms`` and ``high_ms`` bound the measurements."""

    candidate: str
    predicted_ms: float
    measured_ms: float
    low_ms: float
    high_ms: float


@dataclass(frozen=True)
class ImagesView:
    """Real and generated images, uint8 arrays (n, height, width, channels) with 1 or 3 channels, and their class names.

    Labels are empty where the data has none; ``class_names`` gives the order of the classes.
    """

    real: NDArray[np.uint8]
    generated: NDArray[np.uint8]
    real_labels: tuple[str, ...] = ()
    generated_labels: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ()
    caption: str = ""


@dataclass(frozen=True)
class ProgressPoint:
    """Where the champion's final training stood after ``step`` steps: values by name, such as ``loss`` or ``kid``."""

    step: int
    values: Mapping[str, float]


@dataclass(frozen=True)
class ValidationMetric:
    """One number of `evodiff validate`; ``floor`` is what real images against real images give.

    ``better`` is ``lower``, ``higher`` or empty where neither is meant.
    """

    value: float
    standard_error: float | None = None
    floor: float | None = None
    better: str = "lower"
    explanation: str = ""


@dataclass(frozen=True)
class NearestPair:
    """A generated image and the training image nearest to it, both as PNG, with their distance by the second feature
    net, and with that distance relative to the mean one of the nearest few training images."""

    generated: bytes
    training: bytes
    distance: float
    relative_distance: float


@dataclass(frozen=True)
class MemorisationView:
    """How many of ``samples`` generated images look like copies of training images.

    ``share`` of them have a relative distance, to their ``neighbourhood`` nearest training images, below ``threshold``,
    as ``expected_share`` of the test images have. ``standard_error`` is that of ``share`` where nothing is memorised;
    ``copies`` says whether more is than chance explains. ``pairs`` are the likeliest copies, the worst first.
    """

    samples: int
    share: float
    expected_share: float
    standard_error: float
    threshold: float
    neighbourhood: int
    copies: bool
    pairs: tuple[NearestPair, ...]


@dataclass(frozen=True)
class RunView:
    """A run as its report shows it. ``candidates`` are in the order of evaluation; ``objectives`` in the run's order,
    quality first. ``rungs`` is empty for a run of one. ``shape`` is (channels, size, classes) of the images that the
    networks denoise."""

    name: str
    objectives: tuple[ObjectiveView, ...]
    candidates: tuple[CandidateView, ...] = ()
    generations: tuple[GenerationView, ...] = ()
    rungs: tuple[RungView, ...] = ()
    champion: str | None = None
    shape: tuple[int, int, int] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    floors: Mapping[str, Floor] = field(default_factory=dict)
    random_arm: RandomArm | None = None
    references: tuple[ReferenceView, ...] = ()
    retrained: tuple[RetrainedView, ...] = ()
    latency_checks: tuple[LatencyCheck, ...] = ()
    images: ImagesView | None = None
    champion_progress: tuple[ProgressPoint, ...] = ()
    validation: Mapping[str, ValidationMetric] | None = None
    memorisation: MemorisationView | None = None
    rivals: RivalsView | None = None
    robustness: RobustnessView | None = None
    warnings: tuple[str, ...] = ()
    telemetry: Mapping[str, Any] = field(default_factory=dict)
    commands: tuple[tuple[str, str], ...] = ()

    def candidate(self, identifier: str | None) -> CandidateView | None:
        """Return the candidate of that id, or ``None``."""
        return next((item for item in self.candidates if item.id == identifier), None)

    @property
    def front(self) -> tuple[CandidateView, ...]:
        """The candidates on the front, largest fitness first."""
        members = (item for item in self.candidates if item.on_front)
        return tuple(sorted(members, key=lambda item: (-(item.fitness_score or 0.0), item.id)))

    @property
    def failed(self) -> tuple[CandidateView, ...]:
        """The candidates whose trial failed for good."""
        return tuple(item for item in self.candidates if item.failure is not None)
