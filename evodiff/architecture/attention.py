"""Self-attention over the positions of a feature map, full or linear."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evodiff.architecture.modulation import make_modulation
from evodiff.architecture.normalization import make_norm


def full_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Softmax attention, softmax(q k^T / sqrt(d)) v, of (batch, heads, positions, d) tensors."""
    return F.scaled_dot_product_attention(query, key, value)


def linear_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Efficient attention (Shen et al. 2021, eq. 5) of (batch, heads, positions, d) tensors, linear in the positions.

    q is softmaxed over its d features and k over the positions; k^T v, a d x d matrix a head, comes first.
    """
    context = key.softmax(dim=-2).transpose(-1, -2) @ value
    return query.softmax(dim=-1) @ context


_KINDS = {"full": full_attention, "linear": linear_attention}


def project(linear: nn.Linear, tokens: Tensor) -> Tensor:
    """Apply a linear layer with bias to (batch, positions, channels) tokens.

    Tokens of a row-major feature map are a strided view. ``nn.Linear`` copies it, and adds the bias in a pass of its
    own; on a CPU, without gradients, the view goes into the product as it is. With gradients the copy pays: backward,
    one product over the whole batch is faster than one an image.
    """
    if tokens.is_contiguous() or tokens.device.type != "cpu" or torch.is_grad_enabled():
        projected: Tensor = linear(tokens)
        return projected
    return torch.baddbmm(linear.bias, tokens, linear.weight.t().expand(len(tokens), -1, -1))


class AttentionLayer(nn.Module):
    """x + out(attend(modulate(norm(x)))): channels stay, and so does the resolution.

    ``norm`` over the channels; ``qkv`` a linear layer channels -> 3 channels with bias, its rows query, key and value
    (``row_parts``), each split into ``heads`` heads; ``out`` a linear layer channels -> channels with bias. Modulation
    acts on the normalised tensor, its gate on what ``out`` returns.
    """

    def __init__(
        self, channels: int, *, kind: str, heads: int, norm: str, modulation: str, embedding_channels: int
    ) -> None:
        super().__init__()
        self.heads = heads
        self.attend = _KINDS[kind]
        self.row_parts = (channels, channels, channels)
        self.norm = make_norm(norm, channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)
        self.modulation = make_modulation(modulation, embedding_channels, channels, channels, shortcut=True)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Map (batch, channels, height, width) to the same shape; ``embedding`` is (batch, embedding channels)."""
        h = self.norm(x)
        if self.modulation is None:
            return x + self._mix(h)
        parts = self.modulation.parts(embedding)
        return x + self.modulation.gate(self._mix(self.modulation.shift(h, parts)), parts)

    def _mix(self, h: Tensor) -> Tensor:
        batch, channels, height, width = h.shape
        tokens = h.permute(0, 2, 3, 1).reshape(batch, height * width, channels)
        qkv = project(self.qkv, tokens).view(batch, height * width, 3, self.heads, channels // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each (batch, heads, positions, channels a head)
        attended = self.attend(query, key, value).transpose(1, 2).reshape(batch, height * width, channels)
        return project(self.out, attended).view(batch, height, width, channels).permute(0, 3, 1, 2)
