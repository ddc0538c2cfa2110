"""Motifs: what a genome is made of, without sizes, positions and names."""

from __future__ import annotations

from dataclasses import replace

from evodiff.architecture.genome import ArchitectureGenome, Connection, GlobalParameters, layer
from evodiff.architecture.motifs import motifs

GENOME = ArchitectureGenome(
    layers=(layer("a", "conv", kernel=5), layer("b", "attention", kind="linear"), layer("c", "norm", kind="rms")),
    connections=(Connection("stem", "b", "add"), Connection("a", "c")),
    parameters=GlobalParameters(patch=2),
)


def test_layers_sequences_connections_and_form_are_motifs() -> None:
    assert {
        "conv kernel 5",
        "conv separable false",
        "attention kind linear",
        "norm kind rms",
        "stem then conv",
        "conv then attention",
        "attention then norm",
        "add from stem to attention",
        "concat from conv to norm",
        "patch 2",
        "positional false",
    } <= motifs(GENOME)


def test_sizes_and_names_are_none() -> None:
    larger = replace(
        GENOME,
        layers=(
            GENOME.layers[0].with_settings(channels=4),
            GENOME.layers[1].with_settings(heads=8),
            replace(GENOME.layers[2], key="another"),
        ),
        connections=(Connection("a", "another"), Connection("stem", "b", "add")),
        parameters=GlobalParameters(patch=2, width=64, time_embedding=1),
    )
    assert motifs(larger) == motifs(GENOME)


def test_a_changed_setting_brings_a_motif() -> None:
    gated = replace(GENOME, layers=(GENOME.layers[0].with_settings(modulation="gated"), *GENOME.layers[1:]))
    assert motifs(gated) - motifs(GENOME) == {"conv modulation gated"}
