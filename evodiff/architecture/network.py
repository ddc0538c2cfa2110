"""The network of a genome, in plain torch.

:func:`build_network` is the way in. What each layer computes, with its biases, norms and projections, stands in the
docstrings of :mod:`evodiff.architecture.layers`, ``attention`` and ``modulation``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from evodiff.architecture.activations import make_activation
from evodiff.architecture.attention import AttentionLayer
from evodiff.architecture.embedding import TimeEmbedding
from evodiff.architecture.genome import ArchitectureComponent, ArchitectureGenome, ImageShape
from evodiff.architecture.graph import WIDENING, ResolvedGenome, ResolvedLayer, resolve
from evodiff.architecture.initialization import initialise
from evodiff.architecture.layers import (
    ConvLayer,
    Downsample,
    Junction,
    PlainLayer,
    ResidualLayer,
    Upsample,
    convolution,
)
from evodiff.architecture.normalization import make_norm

if TYPE_CHECKING:
    from collections.abc import Callable

# Smallest feature map, in positions a side, for which the channels-last memory format trains faster on a CPU. Below it
# the convolutions take as long either way, and group norms are several times slower with few channels a group.
CHANNELS_LAST_FROM: Final = 32


def build_network(genome: ArchitectureGenome, shape: ImageShape, *, seed: int | None = None) -> EvolvedNetwork:
    """Return the network of ``genome`` for images of ``shape``, on the CPU, in float32.

    Its first weights depend on ``seed`` and the canonical genome alone; without a seed, one is drawn from torch's
    global generator.

    Raises:
        InvalidGenome: the genome makes no network for this shape.
    """
    with torch.device("meta"):  # torch would draw first weights of its own, which costs time and global randomness
        network = EvolvedNetwork(resolve(genome, shape))
    network = network.to_empty(device="cpu")
    network.initialise(int(torch.randint(2**62, ()).item()) if seed is None else seed)
    return network


class EvolvedNetwork(nn.Module):
    """A denoiser: (noisy images, time steps, class labels) to a prediction of the images' shape.

    ``stem``: a 3x3 convolution to ``width`` channels, or a patch x patch convolution of that stride; with bias.
    ``time_embedding``: see :class:`~evodiff.architecture.embedding.TimeEmbedding`, to width * time_embedding channels.
    ``class_embedding``: a table of classes + 1 rows, added to the time embedding; row ``classes`` is the null class,
    which also serves where no labels are given. ``position``: (1, width, size, size) learned, added after the stem.
    ``layers``: one :class:`NetworkLayer` a gene, under :func:`module_name` of its key.
    ``output``: group norm, SiLU, 3x3 convolution with bias to channels * patch^2, pixel shuffle.

    On a CPU, features of :data:`CHANNELS_LAST_FROM` positions a side and more are kept in the channels-last memory
    format.
    """

    def __init__(self, resolved: ResolvedGenome) -> None:
        super().__init__()
        shape, parameters = resolved.shape, resolved.genome.parameters
        self.genome = resolved.genome
        self.shape = shape
        self.gradient_checkpointing = False
        embedding_channels = resolved.time_embedding_channels
        self.stem = _stem(shape, parameters.width, parameters.patch)
        self.time_embedding = TimeEmbedding(parameters.width, embedding_channels)
        self.class_embedding = nn.Embedding(shape.classes + 1, embedding_channels) if shape.classes else None
        size = resolved.stem_size
        self.position = nn.Parameter(torch.empty(1, parameters.width, size, size)) if parameters.positional else None
        self.layers = nn.ModuleDict(
            {module_name(item.gene.key): NetworkLayer(item, embedding_channels) for item in resolved.layers}
        )
        self.output = OutputStage(resolved.out_channels, shape.channels, parameters.patch)
        self._channels_last = size >= CHANNELS_LAST_FROM
        self._last_use = _last_use(resolved)

    def initialise(self, seed: int) -> None:
        """Give every parameter its first value; see :mod:`evodiff.architecture.initialization`."""
        modules: dict[str, nn.Module | None] = {str(index): item for index, item in enumerate(self.layers.values())}
        modules |= {"stem": self.stem, "time_embedding": self.time_embedding, "class_embedding": self.class_embedding}
        modules |= {"output": self.output}
        for position, module in modules.items():
            if module is not None:
                initialise(module, seed, position)
        if self.position is not None:
            initialise(nn.ParameterDict({"position": self.position}), seed, "position")
        nn.init.zeros_(self.output.conv.weight)

    def embed(self, timestep: Tensor, class_labels: Tensor | None) -> Tensor:
        """Return SiLU of the time and class embedding, (batch, embedding channels)."""
        embedding = self.time_embedding(timestep)
        if self.class_embedding is not None:
            if class_labels is None:
                class_labels = torch.full_like(timestep, self.shape.classes, dtype=torch.long)
            embedding = embedding + self.class_embedding(class_labels)
        elif class_labels is not None:
            raise ValueError("This network knows no classes: leave class_labels out.")
        return F.silu(embedding)

    def forward(self, sample: Tensor, timestep: Tensor, class_labels: Tensor | None = None) -> Tensor:
        """Map noisy images to a prediction of their shape.

        ``sample`` is (batch, channels, height, width), ``timestep`` (batch,), integers or floats of 0 to 999, and
        ``class_labels`` (batch,), integers of 0 to ``classes``, the last being the null class.
        """
        embedding = self.embed(timestep, class_labels)
        x = self.stem(sample)
        if self._channels_last and x.device.type == "cpu":
            x = x.contiguous(memory_format=torch.channels_last)
        if self.position is not None:
            x = x + self.position
        kept = {-1: x} if -1 in self._last_use else {}
        for index, layer in enumerate(self.layers.values()):
            assert isinstance(layer, NetworkLayer)
            incoming = [kept[source] for source in layer.sources]
            for source in layer.sources:
                if self._last_use[source] == index:
                    del kept[source]
            x = self._run(layer, x, incoming, embedding)
            if index in self._last_use:
                kept[index] = x
        image: Tensor = self.output(x)
        return image

    def _run(self, layer: NetworkLayer, x: Tensor, incoming: list[Tensor], embedding: Tensor) -> Tensor:
        if self.gradient_checkpointing and torch.is_grad_enabled():
            return _checkpoint(layer, x, incoming, embedding)
        output: Tensor = layer(x, incoming, embedding)
        return output


class NetworkLayer(nn.Module):
    """A ``junction`` (None where no connection arrives) and the ``operation`` of one gene."""

    def __init__(self, resolved: ResolvedLayer, embedding_channels: int) -> None:
        super().__init__()
        self.sources = tuple(edge.source for edge in resolved.edges)
        edges = [(edge.channels, edge.merge) for edge in resolved.edges]
        takes_concatenation = resolved.gene.component in WIDENING
        self.junction = (
            Junction(resolved.trunk_channels, edges, takes_concatenation=takes_concatenation) if edges else None
        )
        self.operation = _OPERATIONS[resolved.gene.component](resolved, embedding_channels)

    def forward(self, x: Tensor, incoming: list[Tensor], embedding: Tensor) -> Tensor:
        """Merge ``incoming``, one tensor a connection, into ``x`` and apply the operation."""
        if self.junction is not None:
            x = self.junction(x, incoming)
            incoming.clear()  # the caller's last references to skip tensors, free during the operation
        output: Tensor = self.operation(x, embedding)
        return output


class OutputStage(nn.Module):
    """Group norm, SiLU, a 3x3 convolution with bias to channels * patch^2, and pixel shuffle where patch > 1."""

    def __init__(self, in_channels: int, channels: int, patch: int) -> None:
        super().__init__()
        self.norm = make_norm("group", in_channels)
        self.conv = convolution(in_channels, channels * patch * patch, 3)
        self.patch = patch

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, in_channels, size, size) to images (batch, channels, size * patch, size * patch)."""
        image: Tensor = self.conv(F.silu(self.norm(x)))
        return (F.pixel_shuffle(image, self.patch) if self.patch > 1 else image).contiguous()


def module_name(key: str) -> str:
    """Return the name under ``layers`` of the layer with this gene key: the key itself, wherever torch allows that.

    A key that is an attribute of :class:`torch.nn.ModuleDict`, such as "items", gets a "-" behind it, which no key has.
    """
    return f"{key}-" if hasattr(nn.ModuleDict(), key) else key


def _stem(shape: ImageShape, width: int, patch: int) -> nn.Conv2d:
    if patch == 1:
        return convolution(shape.channels, width, 3)
    return nn.Conv2d(shape.channels, width, patch, stride=patch)


def _last_use(resolved: ResolvedGenome) -> dict[int, int]:
    """Return, for every position that is the source of a connection, the last position that it goes to."""
    return {edge.source: item.position for item in resolved.layers for edge in item.edges}


def _checkpoint(layer: NetworkLayer, x: Tensor, incoming: list[Tensor], embedding: Tensor) -> Tensor:
    def run(x: Tensor, embedding: Tensor, *incoming: Tensor) -> Tensor:
        output: Tensor = layer(x, list(incoming), embedding)
        return output

    result: Tensor = checkpoint(run, x, embedding, *incoming, use_reentrant=False)
    return result


def _attention(resolved: ResolvedLayer, embedding_channels: int) -> nn.Module:
    settings: dict[str, Any] = dict(resolved.gene.settings)
    return AttentionLayer(resolved.in_channels, embedding_channels=embedding_channels, **settings)


def _conv(resolved: ResolvedLayer, embedding_channels: int) -> nn.Module:
    settings: dict[str, Any] = {name: value for name, value in resolved.gene.settings.items() if name != "channels"}
    return ConvLayer(resolved.in_channels, resolved.out_channels, embedding_channels=embedding_channels, **settings)


def _residual(resolved: ResolvedLayer, embedding_channels: int) -> nn.Module:
    settings: dict[str, Any] = {name: value for name, value in resolved.gene.settings.items() if name != "channels"}
    return ResidualLayer(resolved.in_channels, resolved.out_channels, embedding_channels=embedding_channels, **settings)


_OPERATIONS: dict[ArchitectureComponent, Callable[[ResolvedLayer, int], nn.Module]] = {
    ArchitectureComponent.ATTENTION: _attention,
    ArchitectureComponent.CONV: _conv,
    ArchitectureComponent.RESIDUAL: _residual,
    ArchitectureComponent.NORM: lambda layer, _: PlainLayer(
        make_norm(str(layer.gene.settings["kind"]), layer.in_channels)
    ),
    ArchitectureComponent.ACTIVATION: lambda layer, _: PlainLayer(make_activation(str(layer.gene.settings["kind"]))),
    ArchitectureComponent.DOWNSAMPLE: lambda layer, _: Downsample(
        layer.in_channels, method=str(layer.gene.settings["method"])
    ),
    ArchitectureComponent.UPSAMPLE: lambda layer, _: Upsample(
        layer.in_channels, method=str(layer.gene.settings["method"])
    ),
}
