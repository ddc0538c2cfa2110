"""The search space of diffusion architectures, as the engine sees it."""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from evodiff.architecture import cost
from evodiff.architecture.crossover import crossover
from evodiff.architecture.distance import distance
from evodiff.architecture.families import random_genome, smallest_genome
from evodiff.architecture.features import FEATURE_WEIGHTS, features, features_many
from evodiff.architecture.genome import ArchitectureGenome, ImageShape
from evodiff.architecture.graph import resolve
from evodiff.architecture.informed_mutations import LayerWorth, mutate_informed
from evodiff.architecture.limits import Limits
from evodiff.architecture.operators import MUTATIONS, mutate
from evodiff.architecture.zoo import ddpm_unet, zoo
from evodiff.errors import InvalidGenome, SettingsError
from evodiff.hardware.latency import predict_ms

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

    from evodiff.hardware.calibration import Calibration

COSTS: Final = ("latency_ms", "memory_mb", "parameters", "flops")

# Without caps of its own a space reaches this many times the parameters and operations of the zoo's DDPM U-Net.
DEFAULT_HEADROOM: Final = 1.5
# The caps of generation 0 as a share of the full ones (so that the DDPM U-Net is in from the start), and the generation
# that first has the full ones.
FIRST_SHARE: Final = 0.7
FULL_AT_GENERATION: Final = 3


class ArchitectureSpace:
    """Diffusion architectures for images of one shape, under caps that grow with the generation.

    Args:
        shape: the images.
        calibration: operator times of the serving device; without them there is no ``latency_ms``.
        serving_batch: images in the call whose latency and memory count.
        objectives: which of :data:`COSTS` to tell the engine.
        max_parameters: the cap on parameters; by default 1.5 times those of the zoo's DDPM U-Net.
        max_flops: the cap on operations for one image, a multiply-add as two; by default likewise.
        first_share: the caps of generation 0 as a share of the full ones.
        full_at_generation: the generation from which on the caps are the full ones; in between they grow by a
            constant factor a generation.

    Raises:
        SettingsError: an objective is unknown, or the caps leave no network at all.
    """

    name = "architecture"
    operators: Sequence[str] = tuple(MUTATIONS)

    def __init__(
        self,
        shape: ImageShape,
        *,
        calibration: Calibration | None = None,
        serving_batch: int = 8,
        objectives: Sequence[str] = ("latency_ms", "memory_mb"),
        max_parameters: int | None = None,
        max_flops: float | None = None,
        first_share: float = FIRST_SHARE,
        full_at_generation: int = FULL_AT_GENERATION,
    ) -> None:
        _check_settings(shape, serving_batch, objectives, first_share, full_at_generation)
        reference = resolve(ddpm_unet(shape), shape)
        self.shape = shape
        self.calibration = calibration
        self.serving_batch = serving_batch
        self.objectives = tuple(objectives)
        self.full_limits = Limits(
            shape,
            int(DEFAULT_HEADROOM * cost.parameter_count(reference)) if max_parameters is None else max_parameters,
            DEFAULT_HEADROOM * cost.flops(reference) if max_flops is None else max_flops,
        )
        self.limits = self.full_limits
        self.first_share = first_share
        self.full_at_generation = full_at_generation
        if self.full_limits.excess(resolve(smallest_genome(shape), shape)) > 1:
            raise SettingsError(
                f"Not even the smallest network fits max_parameters={self.full_limits.max_parameters:,} and "
                f"max_flops={self.full_limits.max_flops:.3g} for images of {shape.size} px.",
                remedy="Raise them.",
            )

    def within(self, generation: int) -> ArchitectureSpace:
        """Return the space as ``generation`` may use it: with the caps of that generation."""
        if generation >= self.full_at_generation:
            share = 1.0
        else:
            share = self.first_share ** (1 - max(generation, 0) / self.full_at_generation)
        limited = object.__new__(ArchitectureSpace)
        limited.__dict__.update(self.__dict__)
        limited.limits = _scaled(self.full_limits, share)
        return limited

    def sample(self, rng: np.random.Generator) -> ArchitectureGenome:
        """Return a random genome under the caps; see :func:`evodiff.architecture.families.random_genome`."""
        genome = random_genome(rng, self.limits)
        return mutate(smallest_genome(self.shape), rng, self.limits) if genome is None else genome

    def initial(self, rng: np.random.Generator) -> list[ArchitectureGenome]:
        """Return the architectures of the zoo that are under the caps, smallest first."""
        found = [(self.limits.excess(resolve(genome, self.shape)), genome) for genome in zoo(self.shape).values()]
        return [genome for excess, genome in sorted(found, key=lambda item: item[0]) if excess <= 1]

    def mutate(
        self, genome: ArchitectureGenome, rng: np.random.Generator, operator: str | None = None
    ) -> ArchitectureGenome:
        """Return a valid mutant; the genome itself where the named operator does not apply."""
        return mutate(genome, rng, self.limits, operator)

    def mutate_informed(
        self,
        genome: ArchitectureGenome,
        rng: np.random.Generator,
        operator: str | None,
        details: Mapping[str, Any],
    ) -> ArchitectureGenome:
        """Return a valid mutant, its place chosen by what each layer is worth and by the time that it takes.

        ``details`` are those of the parent's evaluation; its ``sensitivity``, by layer key, is what counts
        (:mod:`evodiff.evaluation.sensitivity`). Without it, and without a calibration as far as time goes, nothing is
        known, and the mutation is a plain one.
        """
        worth = LayerWorth(details.get("sensitivity") or {}, self._layer_milliseconds(genome))
        return mutate_informed(genome, rng, self.limits, operator, worth)

    def _layer_milliseconds(self, genome: ArchitectureGenome) -> dict[str, float]:
        if self.calibration is None:
            return {}
        operations = cost.layer_operations(resolve(genome, self.shape), self.serving_batch)
        return {key: predict_ms(items, self.calibration) for key, items in operations.items()}

    def crossover(
        self, first: ArchitectureGenome, second: ArchitectureGenome, rng: np.random.Generator
    ) -> tuple[ArchitectureGenome, ArchitectureGenome]:
        """Return two valid children, aligned by layer key."""
        return crossover(first, second, rng, self.limits)

    def validate(self, genome: ArchitectureGenome) -> None:
        """Check names, values, shapes and the full caps of a genome that came from outside.

        Raises:
            InvalidGenome: it is none of this space; the message names the gene and the remedy.
        """
        if not isinstance(genome, ArchitectureGenome):
            raise InvalidGenome(
                "Not an architecture",
                where="genome",
                expected="an ArchitectureGenome",
                found=type(genome).__name__,
                remedy="Read it by from_json, or build it from layers, connections and parameters.",
            )
        self.full_limits.check(ArchitectureGenome.from_json(genome.to_json()))

    def canonical(self, genome: ArchitectureGenome) -> str:
        """Return a string in which layer keys and the order of connections have no part."""
        return genome.canonical()

    def features(self, genome: ArchitectureGenome) -> np.ndarray:
        """Return a (d,) float64 array, in the order of ``features.FEATURE_NAMES``."""
        return features(resolve(genome, self.shape))

    def features_many(self, genomes: Sequence[ArchitectureGenome]) -> np.ndarray:
        """Return an (n, d) float64 array, one row a genome."""
        return features_many([resolve(genome, self.shape) for genome in genomes])

    def feature_weights(self) -> np.ndarray:
        """Return a (d,) float64 array: the choices of one setting count together about as much as any other feature."""
        return FEATURE_WEIGHTS

    def costs(self, genome: ArchitectureGenome) -> dict[str, float]:
        """Return the objectives that are known without training, of those that were asked for.

        ``latency_ms`` and ``memory_mb`` are those of one call at the serving batch, ``flops`` that of one image.
        """
        resolved = resolve(genome, self.shape)
        found = {}
        if "latency_ms" in self.objectives and self.calibration is not None:
            found["latency_ms"] = predict_ms(cost.operations(resolved, self.serving_batch), self.calibration)
        if "memory_mb" in self.objectives:
            found["memory_mb"] = cost.memory_mb(resolved, self.serving_batch)
        if "parameters" in self.objectives:
            found["parameters"] = float(cost.parameter_count(resolved))
        if "flops" in self.objectives:
            found["flops"] = cost.flops(resolved)
        return found

    def scores(self, genome: ArchitectureGenome) -> dict[str, float]:
        """Return ``nwot`` and ``synflow`` of the untrained network; see :mod:`evodiff.architecture.zero_cost`.

        Needs torch, and tenths of a second for a genome that was not asked for lately.
        """
        return dict(_scores(genome, self.shape))

    def distance(self, first: ArchitectureGenome, second: ArchitectureGenome) -> float:
        """Return a structural distance in [0, 1]; see :mod:`evodiff.architecture.distance`."""
        return distance(first, second)

    def to_json(self, genome: ArchitectureGenome) -> dict[str, Any]:
        """Return the genome as plain JSON."""
        return genome.to_json()

    def from_json(self, data: Any) -> ArchitectureGenome:
        """Read what :meth:`to_json` wrote.

        Raises:
            InvalidGenome: a part is missing, unknown, or has a value that is not allowed.
        """
        return ArchitectureGenome.from_json(data)

    def describe(self) -> dict[str, Any]:
        """Return the settings of the space, as JSON to be frozen with a run; :meth:`from_description` reads them."""
        return {
            "shape": asdict(self.shape),
            "serving_batch": self.serving_batch,
            "objectives": list(self.objectives),
            "max_parameters": self.full_limits.max_parameters,
            "max_flops": self.full_limits.max_flops,
            "first_share": self.first_share,
            "full_at_generation": self.full_at_generation,
            "calibration": None if self.calibration is None else self.calibration.digest,
        }

    @classmethod
    def from_description(
        cls, description: Mapping[str, Any], *, calibration: Calibration | None = None
    ) -> ArchitectureSpace:
        """Return the space that :meth:`describe` described.

        Raises:
            SettingsError: ``calibration`` is not the one that the description names.
        """
        settings = dict(description)
        named = settings.pop("calibration")
        found = None if calibration is None else calibration.digest
        if named != found:
            raise SettingsError(
                f"The space was described with calibration {named}, and {found} was given.",
                remedy="Give the calibration that was stored with the run.",
            )
        return cls(ImageShape(**settings.pop("shape")), calibration=calibration, **settings)


@lru_cache(maxsize=4096)
def _scores(genome: ArchitectureGenome, shape: ImageShape) -> Mapping[str, float]:
    from evodiff.architecture.zero_cost import zero_cost_scores

    return zero_cost_scores(genome, shape)


def _check_settings(
    shape: ImageShape, serving_batch: int, objectives: Sequence[str], first_share: float, full_at_generation: int
) -> None:
    checks = (
        (shape.size >= 2 and shape.channels >= 1 and shape.classes >= 0, f"{shape} is no shape of images."),
        (serving_batch >= 1, f"serving_batch is {serving_batch}: expected 1 or more."),
        (set(objectives) <= set(COSTS), f"objectives are {list(objectives)}: expected some of {list(COSTS)}."),
        (0 < first_share <= 1, f"first_share is {first_share}: expected more than 0 and at most 1."),
        (full_at_generation >= 0, f"full_at_generation is {full_at_generation}: expected 0 or more."),
    )
    for holds, complaint in checks:
        if not holds:
            raise SettingsError(complaint, remedy="Change that argument of ArchitectureSpace.")


def _scaled(limits: Limits, share: float) -> Limits:
    """Return the caps times ``share``, but never below the smallest network."""
    smallest = resolve(smallest_genome(limits.shape), limits.shape)
    assert limits.max_parameters is not None
    assert limits.max_flops is not None
    return replace(
        limits,
        max_parameters=max(int(limits.max_parameters * share), cost.parameter_count(smallest)),
        max_flops=max(limits.max_flops * share, cost.flops(smallest)),
    )
