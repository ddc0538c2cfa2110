"""A child network starts from its parents' weights.

1. Layers are aligned by the keys of their genes. Each comes from the parent whose gene of that key equals the child's;
   where both do, or neither, from the first that has a layer of that key and component. Stem and embeddings come from
   the first parent whose global parameters equal the child's, else from the first; the output stage from the parent of
   the last layer.
2. Where shapes agree, tensors are copied. Where the child is wider, its layers compute what the parent's did (Net2Net,
   Chen et al. 2016; :mod:`evodiff.architecture.layer_inheritance`). Where no such way exists, or the child is narrower,
   what overlaps is taken.
3. A layer that no parent has keeps its first weights, but with a silent branch where it has a shortcut: it starts as
   the identity.

No way exists where normalisation sees other statistics: channels grow by a factor that is no integer, or a layer that
normalises a concatenation sees its parts grow by different factors. Nor where a layer without a shortcut, a norm, an
activation or a change of resolution comes in, something is added to the trunk without a projection, or heads are split.
Linear attention with larger heads starts exact, but repeated features of its queries and keys learn in step.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch

from evodiff.architecture.genome import STEM
from evodiff.architecture.graph import resolve
from evodiff.architecture.layer_inheritance import LayerPair, inherit_layer, start_as_identity
from evodiff.architecture.network import EvolvedNetwork, module_name
from evodiff.architecture.transfer import Transfer
from evodiff.architecture.widening import NEW, ChannelMap, padded, spread
from evodiff.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from evodiff.architecture.genome import ArchitectureGenome, LayerGene
    from evodiff.architecture.graph import ResolvedGenome, ResolvedLayer


@dataclass(frozen=True)
class Parent:
    """A genome and the state dict of its network."""

    genome: ArchitectureGenome
    weights: Mapping[str, Tensor]


@dataclass(frozen=True)
class Inheritance:
    """What a child got, by names of its modules.

    ``copied``: every tensor and the gene are the parent's. ``widened``: the module computes what the parent's did.
    ``overlapped``: part of the parent's tensors, another function. ``new``: nothing of any parent's. ``share`` of the
    child's parameters are the parents', repeated ones included. ``preserves_function``: the child returns what the
    parent returns, up to rounding.
    """

    copied: tuple[str, ...]
    widened: tuple[str, ...]
    overlapped: tuple[str, ...]
    new: tuple[str, ...]
    share: float
    preserves_function: bool

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


def inherit(network: EvolvedNetwork, parents: Sequence[Parent]) -> Inheritance:
    """Let a freshly initialised network, on the CPU, start from the weights of one or two parents; say what it got.

    ``parents`` are for images of the network's shape. The result depends on the arguments alone: what is new comes out
    of the network's own first weights.

    Raises:
        SettingsError: the weights of a parent are not those of its genome, or there is no parent.
    """
    heir = _Heir(network, parents)
    heir.inherit()
    network.load_state_dict(heir.tensors)
    return heir.report()


class _Line:
    """A parent with its shapes, and which position of its own each position of the child carries on."""

    def __init__(self, parent: Parent, child: ResolvedGenome) -> None:
        self.genome = parent.genome
        self.resolved = resolve(parent.genome, child.shape)
        self.weights = parent.weights
        self.position = {gene.key: index for index, gene in enumerate(parent.genome.layers)}
        self.embedding = padded(self.resolved.time_embedding_channels, child.time_embedding_channels)
        self.carried: dict[int, int] = {}
        _check_weights(self.resolved, parent.weights)

    def gene(self, key: str) -> LayerGene | None:
        """Return the gene of this key, None where the parent has none."""
        index = self.position.get(key)
        return None if index is None else self.genome.layers[index]

    def key(self, position: int) -> str:
        """Return the key of the layer at a position, -1 for the stem."""
        return STEM if position < 0 else self.genome.layers[position].key

    def channels(self, position: int) -> int:
        """Return the channels that leave a position."""
        return self.resolved.width if position < 0 else self.resolved.layers[position].out_channels


class _Heir:
    """The child while it is put together."""

    def __init__(self, network: EvolvedNetwork, parents: Sequence[Parent]) -> None:
        if not parents:
            raise SettingsError("Expected one or two parents to inherit from, found none.", remedy="Name a parent.")
        self.child = resolve(network.genome, network.shape)
        self.tensors = dict(network.state_dict())
        self.lines = [_Line(parent, self.child) for parent in parents]
        ours = self.child.genome.parameters
        self.founder = next((line for line in self.lines if line.genome.parameters == ours), self.lines[0])
        self.inherited = 0
        self.names: dict[str, list[str]] = {"copied": [], "widened": [], "overlapped": [], "new": []}
        self.preserves_function = False

    def inherit(self) -> None:
        """Inherit every module, in the order of the forward pass."""
        embedded = self._embeddings()
        if self._stem():
            self.founder.carried[-1] = -1
        for item in self.child.layers:
            self._layer(item)
        self.preserves_function = self._output() and embedded

    def report(self) -> Inheritance:
        """Return what was inherited."""
        return Inheritance(
            **{name: tuple(modules) for name, modules in self.names.items()},
            share=self.inherited / sum(tensor.numel() for tensor in self.tensors.values()),
            preserves_function=self.preserves_function,
        )

    def _embeddings(self) -> bool:
        line = self.founder
        parent, child = line.resolved.width, self.child.width
        time = self._transfer("time_embedding", line)
        time.require(child % parent == 0)
        time.matrix("linear1", line.embedding, _frequencies(parent, child))
        time.matrix("linear2", line.embedding, line.embedding)
        exact = self._store("time_embedding", time)
        if self.child.shape.classes:
            classes = self._transfer("class_embedding", line)
            classes.table("weight", line.embedding)
            exact = self._store("class_embedding", classes) and exact
        return exact

    def _stem(self) -> bool:
        line, ours, theirs = self.founder, self.child.genome.parameters, self.founder.genome.parameters
        width = spread(theirs.width, ours.width)
        stem = self._transfer("stem", line)
        stem.require(ours.patch == theirs.patch)
        if stem.exact:
            stem.matrix("", width, _identity(self.child.shape.channels))
        exact = self._store("stem", stem)
        if ours.positional:
            position = self._transfer("position", line)
            position.position("", width)
            exact = self._store("position", position) and exact
        return exact and theirs.positional <= ours.positional

    def _layer(self, item: ResolvedLayer) -> None:
        """Inherit one layer, or let it start as the identity where no parent has it."""
        name = f"layers.{module_name(item.gene.key)}"
        line = self._source(item.gene)
        if line is None:
            transfer = self._transfer(name, None)
            passes = start_as_identity(item, transfer)
            self._store(name, transfer)
            for each in self.lines if passes else ():
                _pass_on(each, item)
            return
        theirs = line.resolved.layers[line.position[item.gene.key]]
        matches = self._matches(item, theirs, line)
        transfer = self._transfer(name, line)
        inherit_layer(LayerPair(item, theirs, matches, line.embedding), transfer)
        exact = self._store(name, transfer, same_gene=item.gene == theirs.gene)
        arrives = line.carried.get(item.position - 1) == theirs.position - 1 and all(
            match is None or line.carried.get(edge.source) == theirs.edges[match].source
            for edge, match in zip(item.edges, matches, strict=True)
        )
        if exact and arrives:
            line.carried[item.position] = theirs.position

    def _output(self) -> bool:
        """Inherit the output stage from the parent of the last layer; return whether it gives the founder's images."""
        last = self.child.layers[-1]
        line = self._source(last.gene) or self.founder
        patch = self.child.genome.parameters.patch
        channels = spread(line.resolved.out_channels, self.child.out_channels)
        transfer = self._transfer("output", line)
        transfer.norm("norm", channels)
        if patch == line.genome.parameters.patch:
            transfer.matrix("conv", _identity(self.child.shape.channels * patch**2), channels)
        else:
            transfer.require(False)
        exact = self._store("output", transfer)
        return exact and line is self.founder and line.carried.get(last.position) == len(line.genome.layers) - 1

    def _source(self, gene: LayerGene) -> _Line | None:
        having = [line for line in self.lines if (found := line.gene(gene.key)) and found.component is gene.component]
        return next((line for line in having if line.gene(gene.key) == gene), having[0] if having else None)

    def _matches(self, ours: ResolvedLayer, theirs: ResolvedLayer, line: _Line) -> list[int | None]:
        """Return for each connection to a layer that of the parent from the same source, by the same merge."""
        there = {(line.key(edge.source), edge.merge): index for index, edge in enumerate(theirs.edges)}
        layers = self.child.genome.layers
        keys = (layers[edge.source].key if edge.source >= 0 else STEM for edge in ours.edges)
        return [there.get((key, edge.merge)) for key, edge in zip(keys, ours.edges, strict=True)]

    def _transfer(self, name: str, line: _Line | None) -> Transfer:
        """Return the transfer of the module ``name``; the layers of a key have one name in child and parent."""
        return Transfer(_under(name, self.tensors), {} if line is None else _under(name, line.weights))

    def _store(self, name: str, transfer: Transfer, *, same_gene: bool = True) -> bool:
        """Keep what a transfer brought; return whether it is exact."""
        for part, tensor in transfer.tensors.items():
            self.tensors[f"{name}.{part}" if part else name] = tensor
        self.inherited += transfer.inherited
        self.names[transfer.kind(same_gene=same_gene)].append(name)
        return transfer.exact


def _pass_on(line: _Line, item: ResolvedLayer) -> None:
    """Note that a new layer carries on what its trunk carries, where its channels let it."""
    carried = line.carried.get(item.position - 1)
    if carried is None:
        return
    channels = line.channels(carried)
    covers = item.trunk_channels % channels == 0 and item.out_channels >= channels
    if covers or item.trunk_channels == item.out_channels:
        line.carried[item.position] = carried


def _check_weights(resolved: ResolvedGenome, weights: Mapping[str, Tensor]) -> None:
    with torch.device("meta"):
        expected = {name: tensor.shape for name, tensor in EvolvedNetwork(resolved).state_dict().items()}
    found = {name: tensor.shape for name, tensor in weights.items()}
    if found != expected:
        odd = sorted({*expected.items(), *found.items()} ^ (expected.items() & found.items()))
        raise SettingsError(
            f"Expected the weights of a parent's genome, found others: {odd[0][0]} is missing, unknown or misshapen.",
            remedy="Give a parent's genome and weights as they were published together.",
        )


def _under(name: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a module under their names in it; one that is the module itself under no name."""
    inner = {key[len(name) + 1 :]: tensor for key, tensor in tensors.items() if key.startswith(f"{name}.")}
    return {"": tensors[name]} if name in tensors else inner


def _identity(channels: int) -> ChannelMap:
    return spread(channels, channels)


def _frequencies(parent: int, child: int) -> ChannelMap:
    """Return which sinusoid of the parent each of the child's is, or is next to: cosines first, then sines."""
    ours, theirs = child // 2, parent // 2
    sources = [NEW] * ours
    for index in range(min(ours, theirs)):
        mine, its = (index * ours // theirs, index) if ours >= theirs else (index, index * theirs // ours)
        sources[mine] = its
    return ChannelMap((*sources, *(NEW if source == NEW else source + theirs for source in sources)), parent)
