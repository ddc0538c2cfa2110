"""Search space 1: diffusion architectures.

Names are imported when they are first used, so that reading a genome needs neither NumPy nor torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evodiff.architecture.genome import (
        ArchitectureComponent,
        ArchitectureGenome,
        Connection,
        GlobalParameters,
        ImageShape,
        LayerGene,
        layer,
    )
    from evodiff.architecture.graph import ResolvedGenome, resolve
    from evodiff.architecture.limits import Limits
    from evodiff.architecture.network import EvolvedNetwork, build_network
    from evodiff.architecture.operators import MUTATIONS, GeneticOperators
    from evodiff.architecture.space import ArchitectureSpace
    from evodiff.architecture.zoo import ZOO, stock_unet_arguments

_HOMES = {
    "ArchitectureGenome": "genome",
    "ArchitectureComponent": "genome",
    "LayerGene": "genome",
    "layer": "genome",
    "Connection": "genome",
    "GlobalParameters": "genome",
    "ImageShape": "genome",
    "resolve": "graph",
    "ResolvedGenome": "graph",
    "Limits": "limits",
    "GeneticOperators": "operators",
    "MUTATIONS": "operators",
    "ArchitectureSpace": "space",
    "ZOO": "zoo",
    "stock_unet_arguments": "zoo",
    "build_network": "network",
    "EvolvedNetwork": "network",
}

__all__ = [
    "ArchitectureGenome",
    "ArchitectureComponent",
    "LayerGene",
    "layer",
    "Connection",
    "GlobalParameters",
    "ImageShape",
    "resolve",
    "ResolvedGenome",
    "Limits",
    "GeneticOperators",
    "MUTATIONS",
    "ArchitectureSpace",
    "ZOO",
    "stock_unet_arguments",
    "build_network",
    "EvolvedNetwork",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
