"""The architecture space as the engine uses it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from genome_strategies import SHAPES, SPACES, seeds
from hypothesis import given, settings
from hypothesis import strategies as st

from evodiff.architecture import cost
from evodiff.architecture.genome import ArchitectureComponent, ArchitectureGenome, GlobalParameters, ImageShape, layer
from evodiff.architecture.graph import resolve
from evodiff.architecture.space import ArchitectureSpace
from evodiff.architecture.zoo import ddpm_unet, ddpm_unet_deep
from evodiff.engine.testing import check_space
from evodiff.errors import InvalidGenome, SettingsError
from evodiff.hardware.calibration import roofline
from evodiff.hardware.profiles import target_profile

DIGITS = SHAPES[0]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_space_keeps_the_promises_of_a_search_space(shape):
    space = ArchitectureSpace(shape, calibration=roofline(target_profile("m1")))
    assert set(space.costs(ddpm_unet(shape))) == {"latency_ms", "memory_mb"}
    check_space(space, samples=12)


@given(st.sampled_from(SHAPES), seeds, st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_samples_are_valid_under_the_cap_of_their_generation(shape, seed, generation):
    limited = SPACES[shape].within(generation)
    genome = limited.sample(np.random.default_rng(seed))
    limited.limits.check(genome)
    SPACES[shape].validate(genome)


@given(seeds)
@settings(max_examples=30, deadline=None)
def test_mutants_and_children_stay_under_the_cap_of_their_generation(seed):
    limited = SPACES[DIGITS].within(0)
    rng = np.random.default_rng(seed)
    first, second = limited.sample(rng), limited.sample(rng)
    for genome in (limited.mutate(first, rng), *limited.crossover(first, second, rng)):
        limited.limits.check(genome)


def test_caps_grow_with_the_generation_up_to_the_full_ones():
    space = ArchitectureSpace(DIGITS, first_share=0.25, full_at_generation=4)
    caps = [space.within(generation).limits.max_parameters for generation in range(7)]
    full = space.full_limits.max_parameters
    assert caps[0] == full // 4
    assert caps == sorted(caps)
    assert caps[3] < caps[4] == caps[5] == full
    assert caps[2] == pytest.approx(full / 2, rel=1e-4)
    assert space.within(2).within(0).limits == space.within(0).limits
    assert space.limits == space.full_limits


def test_the_ddpm_unet_is_in_from_the_first_generation():
    for space in SPACES.values():
        starts = space.within(0).initial(np.random.default_rng(0))
        assert ddpm_unet(space.shape) in starts
        sizes = [space.limits.excess(resolve(genome, space.shape)) for genome in starts]
        assert sizes == sorted(sizes)


def test_starts_over_the_cap_are_left_out():
    space = ArchitectureSpace(DIGITS, max_parameters=200_000)
    starts = space.initial(np.random.default_rng(0))
    assert starts
    assert all(cost.parameter_count(resolve(genome, DIGITS)) <= 200_000 for genome in starts)


def test_sizes_of_samples_spread_over_orders_of_magnitude():
    rng = np.random.default_rng(0)
    for space in SPACES.values():
        shares = np.array([space.limits.excess(resolve(space.sample(rng), space.shape)) for _ in range(150)])
        assert (shares < 1 / 16).sum() > 20
        assert ((shares > 1 / 16) & (shares < 1 / 4)).sum() > 20
        assert (shares > 1 / 4).sum() > 20


def test_samples_come_from_several_families_and_hardly_ever_twice():
    rng = np.random.default_rng(0)
    genomes = [SPACES[DIGITS].sample(rng) for _ in range(150)]
    traits: Counter[str] = Counter()
    for genome in genomes:
        components = {gene.component for gene in genome.layers}
        traits["levels"] += ArchitectureComponent.DOWNSAMPLE in components
        traits["attention"] += ArchitectureComponent.ATTENTION in components
        traits["flat and attending"] += traits_of_a_transformer(components)
        traits["connected"] += bool(genome.connections)
        traits["residual"] += ArchitectureComponent.RESIDUAL in components
    assert all(15 < count < 140 for count in traits.values()), traits
    assert len({genome.canonical() for genome in genomes}) >= 148


def traits_of_a_transformer(components):
    return ArchitectureComponent.ATTENTION in components and ArchitectureComponent.DOWNSAMPLE not in components


def test_costs_are_those_that_were_asked_for():
    genome = ddpm_unet(DIGITS)
    resolved = resolve(genome, DIGITS)
    space = ArchitectureSpace(
        DIGITS,
        calibration=roofline(target_profile("m1")),
        serving_batch=4,
        objectives=("latency_ms", "memory_mb", "parameters", "flops"),
    )
    costs = space.costs(genome)
    assert costs["parameters"] == 702_753
    assert costs["flops"] == cost.flops(resolved)
    assert costs["memory_mb"] == cost.memory_mb(resolved, 4)
    assert costs["latency_ms"] > 0
    assert set(ArchitectureSpace(DIGITS).costs(genome)) == {"memory_mb"}
    assert ArchitectureSpace(DIGITS, objectives=()).costs(genome) == {}


def test_a_slower_target_and_a_larger_batch_take_longer():
    genome = ddpm_unet(DIGITS)

    def latency(target, batch):
        return ArchitectureSpace(DIGITS, calibration=roofline(target_profile(target)), serving_batch=batch).costs(
            genome
        )["latency_ms"]

    assert latency("m1", 64) > latency("m1", 8)
    assert latency("m1", 64) > latency("m4-max", 64)


def test_the_description_is_json_and_makes_the_space_again():
    calibration = roofline(target_profile("m1"))
    space = ArchitectureSpace(SHAPES[1], calibration=calibration, max_parameters=300_000, first_share=0.3)
    description = json.loads(json.dumps(space.describe()))
    again = ArchitectureSpace.from_description(description, calibration=calibration)
    assert again.describe() == space.describe()
    assert again.limits == space.limits
    with pytest.raises(SettingsError, match="calibration"):
        ArchitectureSpace.from_description(description)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"objectives": ("latency",)}, "latency_ms"),
        ({"serving_batch": 0}, "serving_batch"),
        ({"max_parameters": 100}, "max_parameters=100"),
        ({"max_flops": 10.0}, "max_flops=10"),
        ({"first_share": 0}, "first_share"),
        ({"first_share": 1.5}, "first_share"),
        ({"full_at_generation": -1}, "full_at_generation"),
        ({"shape": ImageShape(3, 1, 0)}, "ImageShape"),
    ],
)
def test_settings_that_leave_no_space_are_refused(arguments, named):
    with pytest.raises(SettingsError, match=named):
        ArchitectureSpace(**{"shape": DIGITS, **arguments})


def test_genomes_over_the_full_cap_are_refused_with_a_remedy():
    with pytest.raises(InvalidGenome, match=r"1,003,137.*raise max_parameters"):
        ArchitectureSpace(DIGITS, max_parameters=1_000_000).validate(ddpm_unet_deep(DIGITS))
    with pytest.raises(InvalidGenome, match=r"Too many operations.*raise max_flops"):
        ArchitectureSpace(DIGITS, max_flops=1e6).validate(ddpm_unet_deep(DIGITS))


def test_genomes_built_by_hand_with_impossible_values_are_refused():
    space = SPACES[DIGITS]
    with pytest.raises(InvalidGenome, match="kernel"):
        space.validate(ArchitectureGenome((layer("a", "residual", kernel=4),)))
    with pytest.raises(InvalidGenome, match="width"):
        space.validate(ArchitectureGenome((layer("a", "residual"),), parameters=GlobalParameters(width=33)))
    with pytest.raises(InvalidGenome, match="ArchitectureGenome"):
        space.validate({"layers": []})


def test_a_genome_for_larger_images_may_be_none_for_smaller_ones():
    genome = ddpm_unet(SHAPES[2])
    SPACES[SHAPES[2]].validate(genome)
    with pytest.raises(InvalidGenome, match="downsample"):
        SPACES[DIGITS].validate(genome)


def test_a_warm_start_over_the_caps_of_its_generation_can_still_be_varied():
    space = ArchitectureSpace(DIGITS, first_share=0.1)
    limited = space.within(0)
    large = ddpm_unet(DIGITS)
    rng = np.random.default_rng(0)
    assert any(limited.mutate(large, rng) is not large for _ in range(5))
    for child in limited.crossover(large, replace(large, parameters=GlobalParameters(width=16)), rng):
        space.validate(child)


def test_no_features_make_an_empty_table():
    space = SPACES[DIGITS]
    assert space.features_many([]).shape == (0, len(space.features(ddpm_unet(DIGITS))))


def test_neither_the_space_nor_its_operators_need_torch():
    code = (
        "import sys; from evodiff.architecture.space import ArchitectureSpace; import evodiff.architecture.zoo;"
        "assert 'torch' not in sys.modules; assert 'diffusers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
