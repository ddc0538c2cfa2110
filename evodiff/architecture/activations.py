"""The non-linearities of a genome: silu, gelu (exact), relu and mish. None has parameters."""

from __future__ import annotations

from typing import Final

from torch import nn

ACTIVATIONS: Final[dict[str, type[nn.Module]]] = {"silu": nn.SiLU, "gelu": nn.GELU, "relu": nn.ReLU, "mish": nn.Mish}


def make_activation(kind: str) -> nn.Module:
    """Return the non-linearity called ``kind`` in a genome."""
    return ACTIVATIONS[kind]()
