"""Genomes as data: JSON in and out, canonical strings, and what is said about bad input."""

from __future__ import annotations

import copy
import json
import pickle
import random

import pytest
from genome_strategies import SHAPES, sampled, seeds
from hypothesis import given, settings
from hypothesis import strategies as st

from evodiff.architecture.genome import (
    GENES,
    STEM,
    ArchitectureGenome,
    Connection,
    LayerGene,
    layer,
)
from evodiff.architecture.zoo import ZOO, ddpm_unet
from evodiff.errors import InvalidGenome

DIGITS = SHAPES[0]


@given(seeds, st.sampled_from(SHAPES))
@settings(max_examples=60, deadline=None)
def test_a_genome_read_from_its_own_json_text_is_the_same_genome(seed, shape):
    genome = sampled(shape, seed)
    again = ArchitectureGenome.from_json(json.loads(json.dumps(genome.to_json())))
    assert again == genome
    assert hash(again) == hash(genome)
    assert again.canonical() == genome.canonical()


@given(seeds)
@settings(max_examples=40, deadline=None)
def test_names_of_layers_and_order_of_connections_have_no_part_in_the_canonical_string(seed):
    genome = sampled(SHAPES[1], seed)
    names = {gene.key: f"renamed{index}" for index, gene in enumerate(reversed(genome.layers))} | {STEM: STEM}
    connections = [Connection(names[edge.source], names[edge.target], edge.merge) for edge in genome.connections]
    random.Random(seed).shuffle(connections)
    renamed = ArchitectureGenome(
        tuple(LayerGene(names[gene.key], gene.component, gene.settings) for gene in genome.layers),
        tuple(connections),
        genome.parameters,
    )
    assert renamed.canonical() == genome.canonical()


@pytest.mark.parametrize("name", ZOO)
def test_any_other_setting_of_any_layer_makes_another_canonical_string(name):
    genome = ZOO[name](DIGITS)
    found = {genome.canonical()}
    variants = 1
    for index, gene in enumerate(genome.layers):
        for setting, choices in GENES[gene.component].items():
            for value in choices:
                if value != gene.settings[setting]:
                    layers = [*genome.layers]
                    layers[index] = gene.with_settings(**{setting: value})
                    found.add(ArchitectureGenome(tuple(layers), genome.connections, genome.parameters).canonical())
                    variants += 1
    assert len(found) == variants


def test_a_value_of_another_type_leaves_no_trace_in_what_equals_it():
    layer("a", "conv", channels=2.0, kernel=5).kind  # noqa: B018 - looked up, so that it is remembered
    assert '"channels":2,' in ArchitectureGenome((layer("a", "conv", channels=2, kernel=5),)).canonical()


def test_a_genome_crosses_process_boundaries_unchanged():
    genome = ddpm_unet(DIGITS)
    hash(genome)
    genome.canonical()
    again = pickle.loads(pickle.dumps(genome))
    assert again == genome
    assert "_hash" not in again.__dict__, "a hash of strings is another one in another process"
    assert copy.deepcopy(genome) == genome


def test_a_layer_takes_the_first_value_of_each_setting_that_is_not_given():
    gene = layer("a", "conv", kernel=5)
    assert gene.settings["kernel"] == 5
    assert all(gene.settings[name] == choices[0] for name, choices in GENES[gene.component].items() if name != "kernel")


def _changed(path, value):
    """Return the JSON of the DDPM U-Net with the value at ``path`` replaced, or removed where it is ``...``."""
    data = ddpm_unet(DIGITS).to_json()
    place = data
    for step in path[:-1]:
        place = place[step]
    if value is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return data


@pytest.mark.parametrize(
    ("data", "where", "named"),
    [
        (None, "genome", "None"),
        ([], "genome", "[]"),
        ({}, "genome", "layers"),
        (_changed(["more"], 1), "genome", "more"),
        (_changed(["layers"], {}), "layers", "{}"),
        (_changed(["layers", 2], "conv"), "layers[2]", "component"),
        (_changed(["layers", 2, "component"], "transformer"), "layers[2].component", "transformer"),
        (_changed(["layers", 2, "component"], ...), "layers[2].component", "None"),
        (_changed(["layers", 0, "kernel"], 4), "layers[0].kernel", "4"),
        (_changed(["layers", 0, "kernel"], ["3"]), "layers[0].kernel", "3"),
        (_changed(["layers", 0, "kernel"], 3.0), "layers[0].kernel", "3.0"),
        (_changed(["layers", 0, "channels"], True), "layers[0].channels", "True"),
        (_changed(["layers", 0, "norm"], ...), "layers[0]", "norm"),
        (_changed(["layers", 0, "heads"], 4), "layers[0]", "heads"),
        (_changed(["layers", 0, "key"], 7), "layers[0].key", "7"),
        (_changed(["connections"], "none"), "connections", "none"),
        (_changed(["connections", 1, "merge"], "multiply"), "connections[1].merge", "multiply"),
        (_changed(["connections", 1, "source"], ""), "connections[1].source", "''"),
        (_changed(["connections", 1, "target"], ...), "connections[1]", "target"),
        (_changed(["parameters", "width"], 33), "parameters.width", "33"),
        (_changed(["parameters", "positional"], 1), "parameters.positional", "1"),
        (_changed(["parameters", "depth"], 1), "parameters", "depth"),
    ],
)
def test_impossible_json_is_refused_with_the_gene_and_a_remedy(data, where, named):
    with pytest.raises(InvalidGenome) as refusal:
        ArchitectureGenome.from_json(data)
    assert refusal.value.where == where
    assert named in str(refusal.value)
    assert "expected" in str(refusal.value)
    assert refusal.value.remedy


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)
places = st.sampled_from(
    [
        ["layers"],
        ["connections"],
        ["parameters"],
        ["layers", 3],
        ["layers", 3, "component"],
        ["layers", 3, "key"],
        ["layers", 3, "norm"],
        ["connections", 0],
        ["connections", 0, "source"],
        ["parameters", "patch"],
    ]
)


@given(places, json_values)
@settings(max_examples=150, deadline=None)
def test_whatever_stands_in_the_json_it_is_read_or_refused_as_a_genome(place, value):
    try:
        genome = ArchitectureGenome.from_json(_changed(place, value))
    except InvalidGenome:
        return
    assert ArchitectureGenome.from_json(genome.to_json()) == genome


@pytest.mark.parametrize("value", [1, 1.0, "true", [True]])
def test_a_layer_that_was_read_before_lets_no_look_alike_pass(value):
    good = layer("first", "conv", separable=True, modulation="add")
    data = ArchitectureGenome((good,)).to_json()
    assert ArchitectureGenome.from_json(data).layers == (good,)
    data["layers"][0]["separable"] = value
    with pytest.raises(InvalidGenome) as refusal:
        ArchitectureGenome.from_json(data)
    assert refusal.value.where == "layers[0].separable"


def test_parts_that_may_be_left_out_get_their_defaults():
    genome = ArchitectureGenome.from_json(
        {"layers": [{"key": "a", **layer("a", "residual").settings} | {"component": "residual"}]}
    )
    assert genome == ArchitectureGenome((layer("a", "residual"),))
