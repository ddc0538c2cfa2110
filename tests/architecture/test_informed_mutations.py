"""Mutations that know what layers are worth: valid, tilted the right way, and plain where nothing is known."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from genome_strategies import SHAPES

from evodiff.architecture import cost
from evodiff.architecture.genome import ArchitectureGenome, GlobalParameters, layer
from evodiff.architecture.graph import resolve
from evodiff.architecture.informed_mutations import INFORMED, LayerWorth
from evodiff.architecture.operators import MUTATIONS
from evodiff.architecture.space import ArchitectureSpace
from evodiff.architecture.zoo import ddpm_unet
from evodiff.hardware.calibration import roofline
from evodiff.hardware.latency import predict_ms
from evodiff.hardware.profiles import target_profile

DIGITS = SHAPES[0]
SPACE = ArchitectureSpace(DIGITS, calibration=roofline(target_profile("m1")))
BLIND = ArchitectureSpace(DIGITS)  # no times: layers count alike

STACK = ArchitectureGenome(
    tuple(layer(f"l{index}", "residual", channels=2) for index in range(5)), (), GlobalParameters(width=8)
)
# l3 is worth least, l1 most
WORTH = {"sensitivity": {"l0": 0.5, "l1": 2.0, "l2": 0.4, "l3": 0.01, "l4": 0.7}}


def mutants(operator, details, space=BLIND, genome=STACK, count=800):
    rng = np.random.default_rng(0)
    return [space.mutate_informed(genome, rng, operator, details) for _ in range(count)]


@pytest.mark.parametrize("operator", [None, *MUTATIONS])
def test_mutants_are_valid_whatever_is_known(operator):
    rng = np.random.default_rng(3)
    for seed in range(12):
        genome = SPACE.sample(rng)
        values = {gene.key: float(rng.normal()) for gene in genome.layers if rng.random() < 0.7}
        again = [
            SPACE.mutate_informed(genome, np.random.default_rng(seed), operator, {"sensitivity": values})
            for _ in range(2)
        ]
        SPACE.validate(again[0])
        assert again[0] == again[1]


@pytest.mark.parametrize("operator", MUTATIONS)
@pytest.mark.parametrize("details", [{}, {"sensitivity": {}}, {"loss_curve": [1.0]}])
def test_without_anything_known_they_are_the_plain_ones(operator, details):
    genome = ddpm_unet(DIGITS)
    informed, plain = (
        [mutate(seed) for seed in range(5)]
        for mutate in (
            lambda seed: SPACE.mutate_informed(genome, np.random.default_rng(seed), operator, details),
            lambda seed: SPACE.mutate(genome, np.random.default_rng(seed), operator),
        )
    )
    assert informed == plain


def gone(child):
    return {gene.key for gene in STACK.layers} - {gene.key for gene in child.layers}


@pytest.mark.parametrize("operator", ["remove_layer", "replace_layer"])
def test_the_layer_of_least_worth_goes_most_often_and_every_layer_may(operator):
    counts = Counter(key for child in mutants(operator, WORTH) for key in gone(child))
    whole = sum(1 / rank for rank in range(1, 6))
    expected = {key: 1 / rank / whole for rank, key in enumerate(("l3", "l2", "l0", "l4", "l1"), start=1)}
    assert {key: count / counts.total() for key, count in counts.items()} == pytest.approx(expected, abs=0.07)


def test_a_removed_block_begins_where_little_is_lost():
    counts = Counter(min(gone(child)) for child in mutants("remove_block", WORTH) if gone(child))
    assert counts.most_common(1)[0][0] == "l3"


def test_what_takes_long_for_its_worth_goes_first():
    genome = ArchitectureGenome(
        (
            layer("slow", "residual", channels=4, kernel=5),
            layer("fast", "residual", channels=4, kernel=3),
            layer("last", "norm"),
        ),
        (),
        GlobalParameters(width=16),
    )
    values = {"slow": 0.2, "fast": 0.2, "last": 5.0}
    counts = Counter(
        key
        for child in mutants("remove_layer", {"sensitivity": values}, SPACE, genome)
        for key in values.keys() - {gene.key for gene in child.layers}
    )
    assert counts["slow"] > counts["fast"] > counts["last"]


def test_of_layers_without_which_the_network_is_better_the_slowest_goes_first():
    worth = LayerWorth({"a": -0.5, "b": -0.1, "c": 0.3}, {"a": 1.0, "b": 4.0, "c": 9.0})
    order = sorted("abc", key=lambda key: -worth.low(layer(key, "norm")))
    assert order == ["b", "a", "c"]
    assert worth.high(layer("unknown", "norm")) == -0.1


def test_layers_are_added_beside_what_matters():
    added = Counter()
    for child in mutants("add_layer", WORTH):
        keys = [gene.key for gene in child.layers]
        (new,) = (index for index, key in enumerate(keys) if key not in WORTH["sensitivity"])
        added.update(keys[max(new - 1, 0) : new] + keys[new + 1 : new + 2])
    assert added.most_common(1)[0][0] == "l1"


def test_what_matters_is_widened_and_what_does_not_is_narrowed():
    wider, narrower = Counter(), Counter()
    before = {gene.key: gene.settings["channels"] for gene in STACK.layers}
    for child in mutants("channels", WORTH):
        for gene in child.layers:
            change = gene.settings["channels"] - before[gene.key]
            (wider if change > 0 else narrower).update([gene.key] * (change != 0))
    assert wider.most_common(1)[0][0] == "l1"
    assert narrower.most_common(1)[0][0] == "l3"
    assert wider.total() == pytest.approx(narrower.total(), rel=0.25)


def test_every_informed_mutation_is_one_of_the_space():
    assert set(INFORMED) <= set(MUTATIONS)


def test_the_operations_of_layers_are_those_of_the_network_but_for_its_ends():
    resolved = resolve(ddpm_unet(DIGITS), DIGITS)
    found = cost.layer_operations(resolved, 8)
    assert list(found) == [gene.key for gene in resolved.genome.layers]
    whole = Counter(cost.operations(resolved, 8))
    assert not Counter(item for items in found.values() for item in items) - whole
    times = [predict_ms(items, SPACE.calibration) for items in found.values()]
    assert 0.5 < sum(times) / SPACE.costs(ddpm_unet(DIGITS))["latency_ms"] < 1
