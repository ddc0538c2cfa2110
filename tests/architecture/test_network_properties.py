"""Whatever the space gives, a network comes of it: right shape, finite, and the same after saving and loading."""

from __future__ import annotations

import tempfile

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evodiff.architecture.cost import parameter_count
from evodiff.architecture.genome import ArchitectureGenome, ImageShape
from evodiff.architecture.graph import resolve
from evodiff.architecture.space import ArchitectureSpace
from evodiff.architecture.unet import EvolvedUNet2DModel

SHAPE = ImageShape(1, 8, 3)
# Networks small enough to build, save and load 500 of them on one core in well under two minutes.
SPACE = ArchitectureSpace(SHAPE, objectives=("parameters",), max_parameters=150_000, max_flops=2e7, first_share=1.0)


@st.composite
def genomes(draw: st.DrawFn) -> ArchitectureGenome:
    """Draw a random genome, a mutant of the fourth generation, or a child of two mutants."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kind = draw(st.sampled_from(["random", "mutant", "child"]))
    if kind == "random":
        return SPACE.sample(rng)
    genome, other = (_mutant(rng) for _ in range(2))
    return genome if kind == "mutant" else SPACE.crossover(genome, other, rng)[int(rng.integers(2))]


def _mutant(rng: np.random.Generator) -> ArchitectureGenome:
    genome = SPACE.sample(rng)
    for _ in range(4):
        genome = SPACE.mutate(genome, rng)
    return genome


@pytest.fixture(scope="module")
def inputs():
    generator = torch.Generator().manual_seed(0)
    sample = torch.randn(2, SHAPE.channels, SHAPE.size, SHAPE.size, generator=generator)
    return sample, torch.tensor([3, 900]), torch.tensor([1, SHAPE.classes])


@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(genome=genomes(), seed=st.integers(0, 2**31))
def test_every_genome_builds_runs_and_survives_save_and_load_bit_for_bit(genome, seed, inputs):
    SPACE.validate(genome)
    model = EvolvedUNet2DModel(genome.to_json(), SHAPE.size, SHAPE.channels, SHAPE.channels, SHAPE.classes, seed)
    torch.nn.init.uniform_(model.network.output.conv.weight, -0.1, 0.1)  # it starts at zero, and would hide the rest
    sample, timestep, labels = inputs
    with torch.no_grad():
        prediction = model(sample, timestep, labels).sample
    assert prediction.shape == sample.shape
    assert prediction.isfinite().all()
    assert prediction.std() > 0
    assert sum(parameter.numel() for parameter in model.parameters()) == parameter_count(resolve(genome, SHAPE))

    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        loaded = EvolvedUNet2DModel.from_pretrained(folder, low_cpu_mem_usage=False)
    with torch.no_grad():
        assert torch.equal(loaded(sample, timestep, labels).sample, prediction)
    assert loaded.genome.canonical() == genome.canonical()
    assert SPACE.canonical(loaded.genome) == SPACE.canonical(genome)
