"""The genetic operators on architectures: every mutation by its name, and :class:`GeneticOperators` for use by hand."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np

from evodiff.architecture.connection_mutations import (
    add_connection,
    change_merge,
    remove_connection,
    retarget_connection,
)
from evodiff.architecture.crossover import crossover
from evodiff.architecture.depth_mutations import deepen_stage, insert_level, remove_level
from evodiff.architecture.genome import ArchitectureGenome, ImageShape
from evodiff.architecture.global_mutations import global_width, patch_size, positional, time_embedding
from evodiff.architecture.layer_mutations import (
    activation,
    add_layer,
    attention_heads,
    attention_kind,
    channels,
    duplicate_block,
    modify_layer,
    modulation,
    move_layer,
    norm,
    remove_block,
    remove_layer,
    replace_layer,
)
from evodiff.architecture.limits import Limits
from evodiff.architecture.mutation import Mutation, pick
from evodiff.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

DIGITS: Final = ImageShape(channels=1, size=8, classes=10)
Individual = TypeVar("Individual")

MUTATIONS: Final[MappingProxyType[str, Mutation]] = MappingProxyType(
    {
        "add_layer": add_layer,
        "remove_layer": remove_layer,
        "modify_layer": modify_layer,
        "replace_layer": replace_layer,
        "move_layer": move_layer,
        "duplicate_block": duplicate_block,
        "remove_block": remove_block,
        "add_connection": add_connection,
        "remove_connection": remove_connection,
        "retarget_connection": retarget_connection,
        "change_merge": change_merge,
        "attention_kind": attention_kind,
        "attention_heads": attention_heads,
        "norm": norm,
        "activation": activation,
        "modulation": modulation,
        "channels": channels,
        "insert_level": insert_level,
        "remove_level": remove_level,
        "deepen_stage": deepen_stage,
        "global_width": global_width,
        "patch_size": patch_size,
        "time_embedding": time_embedding,
        "positional": positional,
    }
)


def mutate(
    genome: ArchitectureGenome, rng: np.random.Generator, limits: Limits, operator: str | None = None
) -> ArchitectureGenome:
    """Return a valid mutant by the mutation named ``operator``, or by a random one.

    A named mutation that does not apply returns the genome unchanged; without a name, others are tried.

    Raises:
        SettingsError: there is no mutation of that name.
    """
    if operator is not None:
        if operator not in MUTATIONS:
            raise SettingsError(f"Unknown mutation {operator!r}.", remedy=f"Take one of: {', '.join(MUTATIONS)}.")
        return MUTATIONS[operator](genome, rng, limits)
    names = list(MUTATIONS)
    while names:
        name = pick(names, rng)
        child = MUTATIONS[name](genome, rng, limits)
        if child is not genome:
            return child
        names.remove(name)
    return genome


class GeneticOperators:
    """Crossover, mutation and selection of architectures, to be used directly, as in a notebook.

    A search does not need it: it goes through ``ArchitectureSpace``, which calls the same functions.

    Args:
        mutation_rate: the chance of each layer to set off one mutation in :meth:`mutate`.
        crossover_rate: the chance that :meth:`crossover` recombines; otherwise the children are the parents.
        shape: the images that every child must make a network for.
        limits: caps on size besides; its shape replaces ``shape``.
        seed: an integer, or the generator to draw from.

    Raises:
        SettingsError: a rate is not between 0 and 1.
    """

    def __init__(
        self,
        mutation_rate: float = 0.1,
        crossover_rate: float = 0.8,
        *,
        shape: ImageShape = DIGITS,
        limits: Limits | None = None,
        seed: int | np.random.Generator = 0,
    ) -> None:
        for name, rate in (("mutation_rate", mutation_rate), ("crossover_rate", crossover_rate)):
            if not 0 <= rate <= 1:
                raise SettingsError(f"{name} is {rate}, not a probability.", remedy="Give a number from 0 to 1.")
        self.mutation_rate = mutation_rate
        self.crossover_rate = crossover_rate
        self.limits = limits or Limits(shape)
        self.rng = np.random.default_rng(seed)

    def crossover(
        self, parent1: ArchitectureGenome, parent2: ArchitectureGenome
    ) -> tuple[ArchitectureGenome, ArchitectureGenome]:
        """Return two valid children, see :func:`evodiff.architecture.crossover.crossover`, or else the parents."""
        if self.rng.random() >= self.crossover_rate:
            return parent1, parent2
        return crossover(parent1, parent2, self.rng, self.limits)

    def mutate(self, genome: ArchitectureGenome) -> ArchitectureGenome:
        """Return a valid genome after as many mutations as layers were struck, none included."""
        for _ in range(int(self.rng.binomial(len(genome.layers), self.mutation_rate))):
            genome = mutate(genome, self.rng, self.limits)
        return genome

    def selection(
        self, population: Sequence[Individual], fitness_scores: Sequence[float], selection_size: int
    ) -> list[Individual]:
        """Return ``selection_size`` of the population: the fittest first, then winners of tournaments of two.

        Larger scores are better, and one that is not a number, as of a failed individual, is the worst. An individual
        may be chosen more than once.

        Raises:
            SettingsError: there is no score for each individual, nobody to choose from, or a negative number asked.
        """
        if len(population) != len(fitness_scores):
            raise SettingsError(
                f"{len(fitness_scores)} scores for {len(population)} individuals.", remedy="Give one score for each."
            )
        if selection_size < 0 or (selection_size and not population):
            raise SettingsError(
                f"Cannot select {selection_size} of {len(population)} individuals.",
                remedy="Give a population, and a size of 0 or more.",
            )
        if selection_size == 0:
            return []
        scores = np.asarray(fitness_scores, dtype=np.float64)
        scores = np.where(np.isnan(scores), -np.inf, scores)
        rivals = self.rng.integers(len(population), size=(selection_size - 1, 2))
        winners = np.where(scores[rivals[:, 0]] >= scores[rivals[:, 1]], rivals[:, 0], rivals[:, 1])
        return [population[int(np.argmax(scores))], *(population[int(index)] for index in winners)]
