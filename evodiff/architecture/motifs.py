"""The motifs of an architecture: what it is made of, whatever its sizes and wherever in the network."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final

from evodiff.architecture.genome import STEM

if TYPE_CHECKING:
    from evodiff.architecture.genome import ArchitectureGenome, Setting

# Sizes are tuned, not invented.
_SIZES: Final = ("channels", "heads")


def motifs(genome: ArchitectureGenome) -> frozenset[str]:
    """Return the names of the motifs that a genome shows.

    1. a kind of layer with one of its settings, but sizes: ``attention kind linear``;
    2. a kind of layer behind another: ``residual then attention``;
    3. a connection between kinds of layers: ``concat from stem to residual``;
    4. a global parameter that changes the form of the network: ``patch 2``, ``positional true``.
    """
    kinds = {STEM: STEM} | {gene.key: gene.component.value for gene in genome.layers}
    settings = {
        f"{gene.component.value} {name} {_text(value)}"
        for gene in genome.layers
        for name, value in gene.settings.items()
        if name not in _SIZES
    }
    sequences = {f"{first} then {second}" for first, second in pairwise(kinds.values())}
    connections = {f"{edge.merge} from {kinds[edge.source]} to {kinds[edge.target]}" for edge in genome.connections}
    form = {f"patch {genome.parameters.patch}", f"positional {_text(genome.parameters.positional)}"}
    return frozenset(settings | sequences | connections | form)


def _text(value: Setting) -> str:
    return str(value).lower()
