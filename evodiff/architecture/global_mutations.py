"""Mutations of the global parameters."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, cast

from evodiff.architecture.genome import GLOBALS, ArchitectureGenome
from evodiff.architecture.mutation import mutation, pick_other

if TYPE_CHECKING:
    import numpy as np

    from evodiff.architecture.limits import Limits

WIDTHS = tuple(sorted(cast("tuple[int, ...]", GLOBALS["width"])))
LONGEST_STEP = 2


@mutation
def global_width(genome: ArchitectureGenome, rng: np.random.Generator, limits: Limits) -> ArchitectureGenome | None:
    """Widen or narrow the whole network by one or two steps of the permitted widths."""
    step = int(rng.integers(1, LONGEST_STEP + 1)) * (1 if rng.random() < 0.5 else -1)
    index = min(max(WIDTHS.index(genome.parameters.width) + step, 0), len(WIDTHS) - 1)
    parameters = replace(genome.parameters, width=WIDTHS[index])
    return ArchitectureGenome(genome.layers, genome.connections, parameters)


@mutation
def patch_size(genome: ArchitectureGenome, rng: np.random.Generator, limits: Limits) -> ArchitectureGenome | None:
    """Change the patch of the stem; levels and connections for which there is no room any more go."""
    return _with_global(genome, "patch", rng)


@mutation
def time_embedding(genome: ArchitectureGenome, rng: np.random.Generator, limits: Limits) -> ArchitectureGenome | None:
    """Change the size of the time embedding."""
    return _with_global(genome, "time_embedding", rng)


@mutation
def positional(genome: ArchitectureGenome, rng: np.random.Generator, limits: Limits) -> ArchitectureGenome | None:
    """Add the learned position, or take it away."""
    return _with_global(genome, "positional", rng)


def _with_global(genome: ArchitectureGenome, name: str, rng: np.random.Generator) -> ArchitectureGenome:
    value = pick_other(GLOBALS[name], getattr(genome.parameters, name), rng)
    # The name is one of GLOBALS, which a type checker cannot match with the field's type.
    parameters = replace(genome.parameters, **{name: value})  # type: ignore[arg-type]
    return ArchitectureGenome(genome.layers, genome.connections, parameters)
