"""Random architectures for property tests: drawn by seed from the space itself, and out of shape on purpose."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from evodiff.architecture.genome import (
    GENES,
    GLOBALS,
    MERGES,
    STEM,
    ArchitectureComponent,
    ArchitectureGenome,
    Connection,
    GlobalParameters,
    ImageShape,
    LayerGene,
)
from evodiff.architecture.space import ArchitectureSpace

SHAPES = (ImageShape(1, 8, 10), ImageShape(3, 16, 2), ImageShape(3, 32, 0))
SPACES = {shape: ArchitectureSpace(shape, objectives=("memory_mb", "parameters", "flops")) for shape in SHAPES}

seeds = st.integers(0, 2**32 - 1)
spaces = st.sampled_from(list(SPACES.values()))


def sampled(shape: ImageShape, seed: int) -> ArchitectureGenome:
    """Return a random valid genome for ``shape``."""
    return SPACES[shape].sample(np.random.default_rng(seed))


@st.composite
def layer_genes(draw: st.DrawFn, key: str) -> LayerGene:
    """Draw a layer with any settings."""
    component = draw(st.sampled_from(list(ArchitectureComponent)))
    settings = {name: draw(st.sampled_from(choices)) for name, choices in GENES[component].items()}
    return LayerGene(key, component, settings)


@st.composite
def wild_genomes(draw: st.DrawFn) -> ArchitectureGenome:
    """Draw a genome of permitted values that mostly makes no network: unbalanced, misconnected, with repeated keys."""
    keys = draw(st.lists(st.sampled_from([*"abcdefghijkl", STEM]), max_size=14))
    ends = st.sampled_from([*"abcdefghijklz", STEM])
    connections = draw(st.lists(st.builds(Connection, ends, ends, st.sampled_from(MERGES)), max_size=8))
    parameters = GlobalParameters(**{name: draw(st.sampled_from(choices)) for name, choices in GLOBALS.items()})
    return ArchitectureGenome(tuple(draw(layer_genes(key)) for key in keys), tuple(connections), parameters)
