"""The cost model against real networks."""

from __future__ import annotations

import subprocess
import sys
import weakref
from collections import Counter

import numpy as np
import pytest
import torch
from genome_strategies import SHAPES, sampled, seeds, spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.flop_counter import FlopCounterMode

from evodiff.architecture import cost, network
from evodiff.architecture.genome import (
    STEM,
    ArchitectureGenome,
    Connection,
    GlobalParameters,
    ImageShape,
    layer,
)
from evodiff.architecture.graph import resolve
from evodiff.architecture.layers import ChannelScale
from evodiff.architecture.network import build_network
from evodiff.architecture.space import ArchitectureSpace
from evodiff.architecture.zoo import ZOO
from evodiff.hardware import predict_ms, roofline, target_profile

# What is outside the model (numbers a position in an attention of one head) is below this in 600 random genomes.
MEMORY_TOLERANCE = 0.005
# Embeddings and statistics of norms, a few kilobytes, are not all followed; the smallest networks feel them.
SMALL_TENSORS_MB = 0.004
BATCH = 8

M2_PRO = roofline(target_profile("m2-pro"))

zoo_cases = pytest.mark.parametrize(("name", "shape"), [(name, shape) for name in ZOO for shape in SHAPES])


class LiveStorages(TorchDispatchMode):
    """Adds up the bytes of all storages that tensors made under it keep alive."""

    def __init__(self, known: nn.Module) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._seen = {parameter.untyped_storage()._cdata for parameter in known.parameters()}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for item in tree_iter(result):
            if isinstance(item, torch.Tensor):
                self.add(item)
        return result

    def add(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._seen:
            return
        self._seen.add(key)
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.live -= size


def inputs(shape: ImageShape, batch: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    labels = torch.zeros(batch, dtype=torch.long) if shape.classes else None
    return torch.randn(batch, shape.channels, shape.size, shape.size), torch.full((batch,), 500), labels


@torch.no_grad()
def measured_memory_mb(genome: ArchitectureGenome, shape: ImageShape) -> float:
    model = build_network(genome, shape, seed=0)
    sample, timestep, labels = inputs(shape, BATCH)
    storages = LiveStorages(model)
    storages.add(sample)
    with storages:
        model(sample, timestep, labels)
    parameters = sum(parameter.numel() * 4 for parameter in model.parameters())
    return (storages.peak + parameters) / 1e6


@torch.no_grad()
def measured_flops(genome: ArchitectureGenome, shape: ImageShape, batch: int) -> int:
    model = build_network(genome, shape, seed=0)
    # The counter has no formula for the fused attention of CPUs, but it knows the products that attention is made of.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        model(*inputs(shape, batch))
    return counter.get_total_flops()


def evolved(space: ArchitectureSpace, seed: int) -> ArchitectureGenome:
    """Return a sample, mutated five times: stranger than a sample."""
    rng = np.random.default_rng(seed)
    genome = space.sample(rng)
    for _ in range(5):
        genome = space.mutate(genome, rng)
    return genome


@zoo_cases
def test_parameters_of_the_zoo_are_counted_exactly(name, shape):
    genome = ZOO[name](shape)
    real = sum(parameter.numel() for parameter in build_network(genome, shape, seed=0).parameters())
    assert cost.parameter_count(resolve(genome, shape)) == real


@settings(max_examples=80, deadline=None)
@given(spaces, seeds)
def test_parameters_of_any_genome_are_counted_exactly(space, seed):
    genome = evolved(space, seed)
    real = sum(parameter.numel() for parameter in build_network(genome, space.shape, seed=0).parameters())
    assert cost.parameter_count(resolve(genome, space.shape)) == real


@settings(max_examples=40, deadline=None)
@given(spaces, seeds, st.integers(1, 3))
def test_flops_are_those_that_torch_counts(space, seed, batch):
    genome = evolved(space, seed)
    assert cost.flops(resolve(genome, space.shape), batch) == measured_flops(genome, space.shape, batch)


@zoo_cases
def test_memory_of_the_zoo_is_what_its_networks_hold_at_most(name, shape):
    genome = ZOO[name](shape)
    predicted = cost.memory_mb(resolve(genome, shape), BATCH)
    assert predicted == pytest.approx(measured_memory_mb(genome, shape), rel=MEMORY_TOLERANCE, abs=SMALL_TENSORS_MB)


@settings(max_examples=60, deadline=None)
@given(spaces, seeds)
def test_memory_of_any_genome_is_what_its_network_holds_at_most(space, seed):
    genome = evolved(space, seed)
    predicted = cost.memory_mb(resolve(genome, space.shape), BATCH)
    assert predicted == pytest.approx(
        measured_memory_mb(genome, space.shape), rel=MEMORY_TOLERANCE, abs=SMALL_TENSORS_MB
    )


@settings(max_examples=30, deadline=None)
@given(spaces, seeds)
def test_kinds_of_operations_are_those_of_the_modules(space, seed):
    genome = evolved(space, seed)
    modules = list(build_network(genome, space.shape, seed=0).modules())
    convolutions = [item for item in modules if isinstance(item, nn.Conv2d)]
    counted = Counter(item.kind for item in cost.operations(resolve(genome, space.shape), 2))
    assert counted["depthwise"] == sum(item.groups > 1 and item.kernel_size > (1, 1) for item in convolutions)
    assert counted["conv"] + counted["stem"] == sum(item.groups == 1 for item in convolutions)
    assert counted["linear"] == sum(isinstance(item, nn.Linear) for item in modules)
    # An activation module may be called twice, so attention and linear layers are the countable rest.
    assert counted["attention"] == sum(type(item).__name__ == "AttentionLayer" for item in modules)


@settings(max_examples=40, deadline=None)
@given(spaces, seeds)
def test_memory_formats_are_followed_through_the_network(space, seed):
    genome = evolved(space, seed)
    model = build_network(genome, space.shape, seed=0)
    found: list[tuple[int, int, bool]] = []

    def note(module: nn.Conv2d, arguments: tuple[torch.Tensor]) -> None:
        (x,) = arguments
        last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
        found.append((module.in_channels, module.out_channels, last))

    for module in model.modules():
        if isinstance(module, nn.Conv2d) and not isinstance(module, ChannelScale) and module is not model.stem:
            module.register_forward_pre_hook(note)
    with torch.no_grad():
        model(*inputs(space.shape, 2))
    predicted = [
        (item.in_channels, item.out_channels, item.channels_last)
        for item in cost.operations(resolve(genome, space.shape), 2)
        if item.kind in ("conv", "depthwise")
    ]
    # A module of one channel is in both formats at once; torch then calls it row-major.
    assert [item for item in predicted if item[0] > 1] == [item for item in found if item[0] > 1]


@settings(max_examples=40, deadline=None)
@given(spaces, seeds, st.integers(1, 3))
def test_flops_are_counted_alike_with_and_without_a_list_of_the_operations(space, seed, batch):
    resolved = resolve(evolved(space, seed), space.shape)
    operations = cost.operations(resolved, batch)
    assert sum(item.flops for item in operations) == cost.flops(resolved, batch)
    assert cost._ends_channels_last(resolved) == [item for item in operations if item.kind == "conv"][-1].channels_last


@pytest.mark.parametrize("size", [8, 32])
def test_vectors_of_the_time_step_have_no_memory_format(size):
    shape = ImageShape(3, size, classes=10)
    resolved = resolve(ZOO["tiny"](shape), shape)
    assert not any(item.channels_last for item in cost._operations(resolved, 2)[0])


def test_the_cost_model_knows_where_networks_turn_to_channels_last():
    assert cost.CHANNELS_LAST_FROM == network.CHANNELS_LAST_FROM


@settings(max_examples=20, deadline=None)
@given(spaces, seeds, st.integers(2, 9))
def test_activations_and_flops_grow_with_the_batch_and_parameters_do_not(space, seed, batch):
    resolved = resolve(evolved(space, seed), space.shape)
    assert cost.peak_activation_elements(resolved, batch) == batch * cost.peak_activation_elements(resolved, 1)
    assert cost.flops(resolved, batch) == batch * cost.flops(resolved, 1)


def test_a_connection_keeps_its_tensor_alive_until_its_last_use():
    shape = ImageShape(1, 16)
    layers = (
        layer("first", "conv", kernel=1, modulation="add"),
        layer("middle", "conv", kernel=1, channels=4, expansion=4),
        layer("narrow", "conv", kernel=1),
        layer("last", "norm"),
    )
    plain = ArchitectureGenome(layers, (), GlobalParameters(width=32))
    connected = ArchitectureGenome(layers, (Connection(STEM, "last", "add"),), GlobalParameters(width=32))
    kept = BATCH * 32 * 16 * 16
    difference = cost.peak_activation_elements(resolve(connected, shape), BATCH) - cost.peak_activation_elements(
        resolve(plain, shape), BATCH
    )
    assert difference == kept


def test_a_training_takes_as_long_as_three_forward_passes_a_step():
    shape = SHAPES[0]
    resolved = resolve(sampled(shape, 0), shape)
    forward_ms = predict_ms(cost.operations(resolved, 64), M2_PRO)
    assert cost.predict_training_seconds(resolved, 120, 64, M2_PRO) == pytest.approx(3 * 120 * forward_ms / 1000)
    assert cost.training_flops(resolved, 64) == 3 * cost.flops(resolved, 64)


def test_costs_are_known_without_torch():
    program = "import sys; import evodiff.architecture.cost, evodiff.hardware; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
