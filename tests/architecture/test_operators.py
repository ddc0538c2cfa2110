"""Every mutation gives a valid child that differs in what its name says, or returns the genome itself."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from genome_strategies import SHAPES, SPACES, sampled, seeds
from hypothesis import given, settings
from hypothesis import strategies as st

from evodiff.architecture import cost
from evodiff.architecture.genome import ArchitectureComponent, ArchitectureGenome, ImageShape, layer
from evodiff.architecture.graph import resolve
from evodiff.architecture.limits import Limits
from evodiff.architecture.operators import MUTATIONS, GeneticOperators, mutate
from evodiff.architecture.zoo import ZOO, ddpm_unet, tiny, uvit
from evodiff.errors import SettingsError

DIGITS = SHAPES[0]
FREE = Limits(DIGITS)


def _mutants(name, genome, count=20, limits=FREE):
    return [MUTATIONS[name](genome, np.random.default_rng(seed), limits) for seed in range(count)]


@pytest.mark.parametrize("name", MUTATIONS)
@given(st.sampled_from(SHAPES), seeds, seeds)
@settings(max_examples=30, deadline=None)
def test_a_mutant_of_a_random_genome_is_valid_and_under_the_cap_and_another_network(name, shape, seed, mutation_seed):
    space = SPACES[shape]
    genome = sampled(shape, seed)
    child = space.mutate(genome, np.random.default_rng(mutation_seed), name)
    space.validate(child)
    if child is not genome:
        assert child.canonical() != genome.canonical()


@pytest.mark.parametrize("name", MUTATIONS)
def test_each_mutation_applies_to_the_ddpm_unet(name):
    genome = ddpm_unet(DIGITS)
    assert all(child is not genome for child in _mutants(name, genome, 5))


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_mutation_depends_on_the_genome_and_the_seed_alone(name):
    assert _mutants(name, ddpm_unet(DIGITS), 5) == _mutants(name, ddpm_unet(DIGITS), 5)


@pytest.mark.parametrize(
    "name", ["attention_kind", "attention_heads", "remove_connection", "change_merge", "remove_level", "deepen_stage"]
)
def test_a_mutation_that_does_not_apply_returns_the_genome_itself(name):
    genome = tiny(DIGITS)
    assert all(child is genome for child in _mutants(name, genome, 3))


@pytest.mark.parametrize("name", MUTATIONS)
def test_layers_keep_their_keys_through_a_mutation(name):
    genome = ddpm_unet(DIGITS)
    components = {gene.key: gene.component for gene in genome.layers}
    for child in _mutants(name, genome):
        for gene in child.layers:
            assert components.get(gene.key, gene.component) is gene.component


def _settings_changed(genome, child):
    before = {gene.key: gene.settings for gene in genome.layers}
    return {name for gene in child.layers for name, value in gene.settings.items() if before[gene.key][name] != value}


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("attention_kind", {"kind"}),
        ("attention_heads", {"heads"}),
        ("norm", {"norm"}),
        ("activation", {"activation"}),
        ("modulation", {"modulation"}),
        ("channels", {"channels"}),
    ],
)
def test_a_mutation_of_a_setting_changes_that_setting_alone(name, changed):
    genome = ddpm_unet(DIGITS)
    for child in _mutants(name, genome):
        assert _settings_changed(genome, child) == changed
        assert child.connections == genome.connections
        assert child.parameters == genome.parameters


@pytest.mark.parametrize(
    ("name", "parameter"),
    [("global_width", "width"), ("patch_size", "patch"), ("time_embedding",) * 2, ("positional",) * 2],
)
def test_a_mutation_of_a_global_parameter_changes_that_one_alone(name, parameter):
    genome = tiny(DIGITS)
    for child in _mutants(name, genome):
        before, after = genome.to_json()["parameters"], child.to_json()["parameters"]
        assert {key for key in before if before[key] != after[key]} == {parameter}
        assert child.layers == genome.layers


@pytest.mark.parametrize(
    ("name", "layers", "connections"),
    [
        ("add_layer", 1, 0),
        ("add_connection", 0, 1),
        ("remove_connection", 0, -1),
        ("retarget_connection", 0, 0),
        ("change_merge", 0, 0),
        ("insert_level", 2, None),
        ("remove_level", -2, None),
        ("deepen_stage", 2, 1),
        ("remove_layer", -1, None),
    ],
)
def test_a_mutation_of_structure_changes_the_count_that_it_names(name, layers, connections):
    genome = ddpm_unet(ImageShape(1, 16, 10))
    for child in _mutants(name, genome, limits=Limits(ImageShape(1, 16, 10))):
        assert len(child.layers) - len(genome.layers) == layers
        if connections is not None:
            assert len(child.connections) - len(genome.connections) == connections


def test_a_new_layer_keeps_the_channels_that_flow_there():
    genome = ddpm_unet(DIGITS)
    before = {item.gene.key: item.trunk_channels for item in resolve(genome, DIGITS).layers}
    for child in _mutants("add_layer", genome, 40):
        after = {item.gene.key: item.trunk_channels for item in resolve(child, DIGITS).layers}
        assert all(after[key] == channels for key, channels in before.items())


def test_deepening_keeps_both_sides_of_a_u_net_at_the_same_depth():
    genome = ddpm_unet(DIGITS)
    for child in _mutants("deepen_stage", genome, 3):
        new = [gene.key for gene in child.layers if gene.key not in {old.key for old in genome.layers}]
        assert any((edge.source, edge.target) == tuple(new) for edge in child.connections)


def test_a_child_of_a_genome_over_the_cap_is_no_larger_than_its_parent():
    genome = ddpm_unet(DIGITS)
    size = cost.parameter_count(resolve(genome, DIGITS))
    limits = Limits(DIGITS, max_parameters=size // 2)
    rng = np.random.default_rng(0)
    sizes = {cost.parameter_count(resolve(mutate(genome, rng, limits), DIGITS)) for _ in range(100)}
    assert max(sizes) <= size
    assert min(sizes) < size


def test_long_walks_meet_every_component_and_drift_neither_to_bloat_nor_to_nothing():
    space = SPACES[DIGITS]
    start = ddpm_unet(DIGITS)
    seen: Counter[ArchitectureComponent] = Counter()
    lengths = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        genome = start
        for _ in range(60):
            genome = space.mutate(genome, rng)
        seen.update(gene.component for gene in genome.layers)
        lengths.append(len(genome.layers))
    assert set(seen) == set(ArchitectureComponent)
    assert len(start.layers) / 2 < np.median(lengths) < 2 * len(start.layers)


def test_an_unknown_mutation_is_refused_with_the_names_that_there_are():
    with pytest.raises(SettingsError, match=r"'wider'.*global_width"):
        mutate(tiny(DIGITS), np.random.default_rng(0), FREE, "wider")


def test_operators_by_hand_give_valid_children():
    operators = GeneticOperators(mutation_rate=0.3, crossover_rate=1.0, seed=1)
    for _ in range(20):
        for child in operators.crossover(ddpm_unet(DIGITS), uvit(DIGITS)):
            resolve(operators.mutate(child), DIGITS)


def test_rates_of_zero_leave_everything_as_it_is():
    operators = GeneticOperators(0.0, 0.0)
    genome, other = ddpm_unet(DIGITS), uvit(DIGITS)
    assert operators.mutate(genome) is genome
    assert operators.crossover(genome, other) == (genome, other)


def test_the_mutation_rate_is_the_chance_of_each_layer():
    genome = ArchitectureGenome(tuple(layer(f"a{index}", "residual") for index in range(20)))
    unchanged = sum(GeneticOperators(0.1, seed=seed).mutate(genome) is genome for seed in range(300))
    assert 0.05 < unchanged / 300 < 0.22  # (1 - .1) ** 20 = .12


def test_selection_takes_the_fittest_first_and_prefers_the_fitter():
    population = list("abcdefgh")
    scores = [float(index) for index in range(8)]
    operators = GeneticOperators(seed=0)
    chosen = Counter(individual for _ in range(100) for individual in operators.selection(population, scores, 5))
    assert operators.selection(population, scores, 1) == ["h"]
    assert operators.selection(population, scores, 0) == []
    assert len(operators.selection(population, scores, 20)) == 20
    assert chosen["g"] > chosen["d"] > chosen["b"]
    assert chosen["h"] >= 100


def test_selection_takes_a_score_that_is_no_number_for_the_worst():
    operators = GeneticOperators(seed=0)
    assert operators.selection(["failed", "weak", "fit"], [float("nan"), 0.1, 0.9], 1) == ["fit"]
    chosen = Counter(operators.selection(["failed", "weak", "fit"], [float("nan"), 0.1, 0.9], 300))
    assert chosen["fit"] > chosen["weak"] > chosen["failed"] > 0
    assert operators.selection(["failed"], [float("nan")], 2) == ["failed"] * 2


@pytest.mark.parametrize(
    ("population", "scores", "size", "complaint"),
    [(["a"], [], 1, "0 scores for 1"), ([], [], 1, "Cannot select 1 of 0"), (["a"], [1.0], -1, "Cannot select -1")],
)
def test_a_selection_that_makes_no_sense_is_refused(population, scores, size, complaint):
    with pytest.raises(SettingsError, match=complaint):
        GeneticOperators().selection(population, scores, size)


@pytest.mark.parametrize("rates", [(1.5, 0.5), (0.5, -0.1)])
def test_a_rate_that_is_no_probability_is_refused(rates):
    with pytest.raises(SettingsError, match="not a probability"):
        GeneticOperators(*rates)


def test_the_zoo_has_something_for_every_mutation():
    applied = {
        name
        for name in MUTATIONS
        for write in ZOO.values()
        if (genome := write(DIGITS)) is not MUTATIONS[name](genome, np.random.default_rng(0), FREE)
    }
    assert applied == set(MUTATIONS)
