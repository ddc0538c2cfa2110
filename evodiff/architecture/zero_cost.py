"""Zero-cost scores: what a network tells of itself before it is trained.

Both are of one network with the first weights of :data:`SEED`, computed on the CPU in float64 and rounded to six
digits, so that they depend neither on the order of summation nor on the type of the processor. Both are always finite.
"""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor, nn

from evodiff.architecture.activations import ACTIVATIONS
from evodiff.architecture.attention import AttentionLayer
from evodiff.architecture.initialization import initialise, parameter_generator
from evodiff.architecture.modulation import Modulation
from evodiff.architecture.network import build_network
from evodiff.architecture.normalization import ChannelLayerNorm, ChannelRMSNorm

if TYPE_CHECKING:
    from evodiff.architecture.genome import ArchitectureGenome, ImageShape
    from evodiff.architecture.network import EvolvedNetwork

SEED: Final = 0
INPUTS: Final = 16  # of nwot
TIMESTEPS: Final = 1000
# What enters an activation counts as positive above this. A zero that rounding blurred lies below it, and hardly
# anything lies near it.
POSITIVE: Final = 1e-6

_ACTIVATIONS: Final = tuple(ACTIVATIONS.values())
_NORMS: Final = (nn.GroupNorm, ChannelLayerNorm, ChannelRMSNorm)


def zero_cost_scores(genome: ArchitectureGenome, shape: ImageShape) -> dict[str, float]:
    """Return :func:`nwot` and :func:`synflow` of the untrained network of ``genome`` for images of ``shape``.

    Raises:
        InvalidGenome: the genome makes no network for this shape.
    """
    return {"nwot": nwot(genome, shape), "synflow": synflow(genome, shape)}


def nwot(genome: ArchitectureGenome, shape: ImageShape) -> float:
    """Return how well the untrained network tells inputs apart (Mellor et al. 2021, Neural Architecture Search without
    Training): log det (K + 1), with K[i, j] the number of units that are both active or both not for inputs i and j.

    A unit is an element of what enters an activation: of the layers, and the SiLU before the last convolution. It is
    active where it is positive, which is where ReLU passes it on; for SiLU, GELU and mish the same sign is taken.
    The embedding's own SiLU never sees an image and is left out. The identity matrix, as if each input had one unit of
    its own, keeps the score finite and at 0 or more where inputs cannot be told apart.

    Inputs are :data:`INPUTS` images of uniform noise of deviation 1 from a fixed seed, each with a time step of its
    own, spread evenly, and the classes in turn.
    """
    network = build_network(genome, shape, seed=SEED).double()
    kernel = torch.eye(INPUTS, dtype=torch.float64)

    def count(entering: Tensor) -> None:
        active = (entering.flatten(1) > POSITIVE).float()  # sums of ones are exact below 2^24
        each = active.sum(dim=1)
        both = active @ active.T
        kernel.add_(2 * both - each[:, None] - each[None, :] + active.shape[1])

    for module in network.layers.modules():
        if isinstance(module, _ACTIVATIONS):
            module.register_forward_pre_hook(lambda _, inputs: count(inputs[0]))
    network.output.norm.register_forward_hook(lambda _, __, normalised: count(normalised))
    timesteps = ((torch.arange(INPUTS, dtype=torch.float64) + 0.5) * (TIMESTEPS / INPUTS)).floor()
    _hear_exactly(network, timesteps)
    labels = torch.arange(INPUTS) % shape.classes if shape.classes else None
    with torch.no_grad():
        network(_noise(shape), timesteps, labels)
    return _rounded(float(torch.linalg.slogdet(kernel).logabsdet))


def synflow(genome: ArchitectureGenome, shape: ImageShape) -> float:
    """Return the logarithm of the synaptic flow (Tanaka et al. 2020, Pruning neural networks without any data by
    iteratively conserving synaptic flow; as a score Abdelfattah et al. 2021, Zero-Cost Proxies for Lightweight NAS).

    With R the sum of the outputs for an image of ones, all weights made positive, the flow is the sum over all weights
    of w dR/dw: every path from input to output counts with the product of its weights, times the number of them.

    R has to be linear in each layer, so the network is made so. Norms are left out, as Abdelfattah et al. leave out
    batch norm, and activations too (for ReLU, as there, that changes nothing: all is positive). Attention of either
    kind takes the mean of the values over the positions, which is what it does where all queries and keys are alike;
    so queries and keys carry no flow. The image alone flows: embeddings, modulation, gates and positions are left out.
    The last convolution has the weights that its kind starts with, instead of zeros.
    """
    network = build_network(genome, shape, seed=SEED).double()
    initialise(network.output, SEED, "output")
    _linearise(network)
    last: list[Tensor] = []
    network.output.norm.register_forward_hook(lambda _, __, trunk: last.append(trunk))
    with torch.enable_grad():
        network(torch.ones(1, shape.channels, shape.size, shape.size, dtype=torch.float64), torch.zeros(1))
        network.output.conv(last[0]).sum().backward()
    flow = 0.0
    for weight in network.parameters():
        if weight.grad is not None:
            flow += float((weight.detach() * weight.grad).sum())
    # Out of range is not a number too: an infinite flow through a weight of zero.
    return _rounded(math.log(max(flow, sys.float_info.min) if math.isfinite(flow) else sys.float_info.max))


def _linearise(network: EvolvedNetwork) -> None:
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.abs_()
    network.position = None
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, (*_ACTIVATIONS, *_NORMS)):
                setattr(module, name, nn.Identity())
            elif isinstance(child, Modulation):
                setattr(module, name, None)
        if isinstance(module, AttentionLayer):
            module.attend = _mean_of_values


def _mean_of_values(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return value.mean(dim=-2, keepdim=True).expand_as(value)


def _hear_exactly(network: EvolvedNetwork, timesteps: Tensor) -> None:
    """Give the time embedding its sinusoids in float64; those of training are float32, and rounded by the processor."""
    half = network.time_embedding.channels // 2
    frequencies = torch.exp(torch.arange(half, dtype=torch.float64) * (-math.log(10000.0) / half))
    phase = timesteps[:, None] * frequencies
    sinusoids = torch.cat([phase.cos(), phase.sin()], dim=1)
    network.time_embedding.linear1.register_forward_pre_hook(lambda _, __: (sinusoids,))


def _noise(shape: ImageShape) -> Tensor:
    size = (INPUTS, shape.channels, shape.size, shape.size)
    uniform = torch.rand(size, generator=parameter_generator(SEED, "zero-cost", "inputs"))
    return (uniform.double() * 2 - 1) * math.sqrt(3)


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")
