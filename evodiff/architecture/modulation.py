"""How a layer hears the time and class embedding.

The embedding e arrives as (batch, embedding channels) with SiLU already applied, once for the whole network. A layer of
modulation m has one ``projection``, a linear layer with bias, whose output rows are, in this order:

==============  =====================================================  =========================================
modulation      rows                                                   effect
==============  =====================================================  =========================================
``add``         shift (n)                                              h + shift
``scale_shift``  scale (n), shift (n)                                  h (1 + scale) + shift
``gated``       scale (n), shift (n), gate (m)                         the same, then the branch times its gate
==============  =====================================================  =========================================

n are the channels of h, the tensor modulated, and m those of the branch's output. The rows of the gate start at zero,
weight and bias: a layer with a shortcut starts as its shortcut (adaLN-Zero of DiT, Peebles & Xie 2023). Where there is
no shortcut the factor is 1 + gate, for a branch of zero would cut the network in two.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_SHIFTED_PARTS = {"none": 0, "add": 1, "scale_shift": 2, "gated": 2}


class Modulation(nn.Module):
    """The linear ``projection`` of one layer's modulation and what its rows do.

    ``channels`` are those of the tensor modulated, ``gate_channels`` those of the branch's output; ``gate_offset`` is 1
    where there is no shortcut. ``row_parts`` gives the number of rows of each part, in order.
    """

    def __init__(
        self, kind: str, embedding_channels: int, channels: int, gate_channels: int, *, shortcut: bool
    ) -> None:
        super().__init__()
        self.kind = kind
        self.gate_offset = 0.0 if shortcut else 1.0
        self.gate_channels = gate_channels if kind == "gated" else 0
        self.row_parts = (channels,) * _SHIFTED_PARTS[kind] + ((gate_channels,) if self.gate_channels else ())
        self.projection = nn.Linear(embedding_channels, sum(self.row_parts))

    def parts(self, embedding: Tensor) -> list[Tensor]:
        """Return the parts as (batch, channels, 1, 1) tensors: [shift], [scale, shift] or [scale, shift, gate]."""
        rows = self.projection(embedding)[:, :, None, None]
        return [rows] if self.kind == "add" else list(rows.split(self.row_parts, dim=1))

    def shift(self, h: Tensor, parts: list[Tensor]) -> Tensor:
        """Return the modulated tensor."""
        if self.kind == "add":
            return h + parts[0]
        return torch.addcmul(parts[1], h, parts[0] + 1)

    def gate(self, branch: Tensor, parts: list[Tensor]) -> Tensor:
        """Return the branch times its gate; the branch itself where the kind has none."""
        if not self.gate_channels:
            return branch
        return branch * (parts[2] + self.gate_offset if self.gate_offset else parts[2])


def make_modulation(
    kind: str, embedding_channels: int, channels: int, gate_channels: int, *, shortcut: bool
) -> Modulation | None:
    """Return the modulation ``kind`` of a layer, None for "none"."""
    if kind == "none":
        return None
    return Modulation(kind, embedding_channels, channels, gate_channels, shortcut=shortcut)
