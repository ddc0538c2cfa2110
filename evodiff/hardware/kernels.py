"""Every operation as something that can be run and timed: the very calls of a network, on tensors of its shapes.

Imports torch, and so is imported only by functions that measure. Only the CPU knows memory formats: elsewhere features
are row-major.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from evodiff.hardware.operation import Operation

Kernel = Callable[[], Tensor]

EPSILON = 1e-5
GROUPS = 8
# Features of the largest size that an arena has room for: a few are alive at a time.
FEATURE_BUFFERS = 2


class Arena:
    """Memory on ``device`` from which the tensors of a page of operations are cut, laid out as a network's would be.

    Parameters follow one another, each read once a pass. Features are cut at random places of a small part, for an
    allocator hands a network the same few buffers again and again. Operations only read, so their tensors may overlap.
    """

    def __init__(self, device: str, elements: int = 4_000_000) -> None:
        self.device = device
        generator = torch.Generator().manual_seed(0)
        self._memory = (torch.rand(elements, generator=generator) - 0.5).to(device)
        self._places = random.Random(0)  # noqa: S311 - places in memory, not secrets
        self._window = elements
        self._next = 0

    def open_page(self, page: Sequence[Operation]) -> None:
        """Lay out what follows for the operations of ``page``."""
        largest = max(item.batch * item.size**2 * item.in_channels for item in page)
        self._window = FEATURE_BUFFERS * largest
        self._next = 0

    def tensor(self, *shape: int) -> Tensor:
        """Return a row-major tensor of features or rows, uniform random numbers."""
        elements = math.prod(shape)
        window = min(max(elements, self._window), self._memory.numel())
        return self._cut(self._places.randrange(max(1, window - elements + 1)) // 16 * 16, shape)

    def parameter(self, *shape: int) -> Tensor:
        """Return a row-major tensor of uniform random numbers, behind the parameter before."""
        place = self._next if self._next + math.prod(shape) <= self._memory.numel() else 0
        self._next = place + -(-math.prod(shape) // 16) * 16
        return self._cut(place, shape)

    def features(self, operation: Operation, channels: int | None = None, *, other_format: bool = False) -> Tensor:
        """Return a (batch, channels, size, size) tensor in the operation's memory format, or in the other one."""
        batch, size = operation.batch, operation.size
        channels = operation.in_channels if channels is None else channels
        if self.device == "cpu" and operation.channels_last != other_format:
            return self.tensor(batch, size, size, channels).permute(0, 3, 1, 2)
        return self.tensor(batch, channels, size, size)

    def fill(self, module: nn.Module) -> nn.Module:
        """Give every parameter of a module that has none values from the arena."""
        for name, parameter in list(module.named_parameters()):
            setattr(module, name, nn.Parameter(self.parameter(*parameter.shape), requires_grad=False))
        return module

    def _cut(self, place: int, shape: tuple[int, ...]) -> Tensor:
        elements = math.prod(shape)
        if place + elements > self._memory.numel():  # larger than the whole arena
            return torch.zeros(shape, device=self.device).uniform_(-0.5, 0.5)
        return self._memory[place : place + elements].view(shape)


def make_kernel(operation: Operation, arena: Arena) -> Kernel:
    """Return a function without arguments that runs ``operation`` once, on tensors of ``arena``."""
    return _MAKERS[operation.kind](operation, arena)


def _conv(operation: Operation, arena: Arena) -> Kernel:
    padding = operation.kernel // 2 if operation.kernel != operation.stride else 0
    module = arena.fill(
        nn.Conv2d(
            operation.in_channels, operation.out_channels, operation.kernel, operation.stride, padding, device="meta"
        )
    )
    if operation.kind == "stem":
        image = arena.tensor(operation.batch, operation.in_channels, operation.size, operation.size)
        memory_format = torch.channels_last if operation.channels_last else torch.contiguous_format
        return lambda: module(image).contiguous(memory_format=memory_format)
    x = arena.features(operation)
    return lambda: module(x)


def _depthwise(operation: Operation, arena: Arena) -> Kernel:
    channels, kernel = operation.in_channels, operation.kernel
    module = arena.fill(
        nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels, bias=False, device="meta")
    )
    x = arena.features(operation)
    return lambda: module(x)


def _linear(operation: Operation, arena: Arena) -> Kernel:
    module = nn.Linear(operation.in_channels, operation.out_channels, device="meta")
    arena.fill(module)
    batch, size, channels = operation.batch, operation.size, operation.in_channels
    if size == 1:
        x = arena.tensor(batch, channels)
        return lambda: module(x)
    features = arena.features(operation)

    def of_positions() -> Tensor:
        tokens = features.permute(0, 2, 3, 1).reshape(batch, size * size, channels)
        if tokens.is_contiguous() or arena.device != "cpu":
            projected: Tensor = module(tokens)
            return projected
        return torch.baddbmm(module.bias, tokens, module.weight.t().expand(batch, -1, -1))

    return of_positions


def _attention(operation: Operation, arena: Arena) -> Kernel:
    batch, channels, size, heads = operation.batch, operation.in_channels, operation.size, operation.heads
    projected = arena.tensor(batch, size * size, 3 * channels)

    def run() -> Tensor:
        heads_apart = projected.view(batch, size * size, 3, heads, channels // heads)
        query, key, value = heads_apart.permute(2, 0, 3, 1, 4).unbind(0)
        if operation.variant == "full":
            attended = F.scaled_dot_product_attention(query, key, value)
        else:
            attended = query.softmax(dim=-1) @ (key.softmax(dim=-2).transpose(-1, -2) @ value)
        return attended.transpose(1, 2).reshape(batch, size * size, channels)

    return run


def _norm(operation: Operation, arena: Arena) -> Kernel:
    channels = operation.in_channels
    x = arena.features(operation)
    weight, bias = arena.parameter(channels), arena.parameter(channels)
    if operation.variant == "group":
        return lambda: F.group_norm(x, GROUPS, weight, bias, EPSILON)
    if operation.variant == "layer":
        return lambda: F.layer_norm(x.permute(0, 2, 3, 1), (channels,), weight, bias, EPSILON).permute(0, 3, 1, 2)

    def rms() -> Tensor:
        inverse = torch.rsqrt(x.square().mean(dim=1, keepdim=True) + EPSILON)
        return x * (inverse * weight.view(1, -1, 1, 1))

    return rms


_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"silu": F.silu, "gelu": F.gelu, "relu": F.relu, "mish": F.mish}


def _activation(operation: Operation, arena: Arena) -> Kernel:
    x = arena.features(operation)
    function = _ACTIVATIONS[operation.variant]
    return lambda: function(x)


def _elementwise(operation: Operation, arena: Arena) -> Kernel:
    x = arena.features(operation)
    if operation.variant in ("add", "add_mixed"):
        other = arena.features(operation, other_format=operation.variant == "add_mixed")
        return lambda: x + other
    first, second = (arena.tensor(operation.batch, operation.in_channels, 1, 1) for _ in range(2))
    if operation.variant == "shift":
        return lambda: x + first
    if operation.variant == "gate":
        return lambda: x * first
    return lambda: torch.addcmul(second, x, first + 1)


def _concat(operation: Operation, arena: Arena) -> Kernel:
    x = arena.features(operation)
    other = arena.features(operation, operation.out_channels - operation.in_channels)
    return lambda: torch.cat([x, other], dim=1)


def _resample(operation: Operation, arena: Arena) -> Kernel:
    x = arena.features(operation)
    if operation.variant == "average":
        return lambda: F.avg_pool2d(x, 2)
    if operation.variant == "nearest":
        return lambda: F.interpolate(x, scale_factor=2.0, mode="nearest")
    if operation.stride == 1:
        return lambda: x.contiguous()
    return lambda: F.pixel_shuffle(x, operation.stride).contiguous()


def _embedding(operation: Operation, arena: Arena) -> Kernel:
    batch, channels = operation.batch, operation.in_channels
    timestep = torch.arange(batch, device=arena.device)
    if operation.variant == "class":
        table = arena.parameter(batch, channels)
        return lambda: F.embedding(torch.full_like(timestep, batch - 1), table)

    def sinusoids() -> Tensor:
        exponent = torch.arange(channels // 2, dtype=torch.float32, device=arena.device) * -0.1
        phase = timestep.float()[:, None] * torch.exp(exponent)[None, :]
        return torch.cat([phase.cos(), phase.sin()], dim=-1)

    return sinusoids


_MAKERS: dict[str, Callable[[Operation, Arena], Kernel]] = {
    "conv": _conv,
    "stem": _conv,
    "depthwise": _depthwise,
    "linear": _linear,
    "attention": _attention,
    "norm": _norm,
    "activation": _activation,
    "elementwise": _elementwise,
    "concat": _concat,
    "resample": _resample,
    "embedding": _embedding,
}
