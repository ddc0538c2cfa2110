"""What untrained networks tell of themselves: closed forms, invariances, and the same numbers everywhere."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from genome_strategies import SHAPES, SPACES, sampled
from torch import nn

from evodiff.architecture import zero_cost
from evodiff.architecture.genome import ArchitectureGenome, Connection, GlobalParameters, ImageShape, layer
from evodiff.architecture.network import build_network
from evodiff.architecture.space import ArchitectureSpace
from evodiff.architecture.zero_cost import INPUTS, nwot, synflow, zero_cost_scores
from evodiff.architecture.zoo import dit, tiny, zoo

DIGITS = SHAPES[0]
PLAIN = ImageShape(1, 8, 0)


def _genome(*layers, width=8, connections=()):
    first = layer("first", "conv", shortcut=False, modulation="add")
    return ArchitectureGenome((first, *layers), tuple(connections), GlobalParameters(width=width))


def _conv(key, **settings):
    return layer(key, "conv", **{"shortcut": False, **settings})


@pytest.mark.parametrize("shape", SHAPES[:2], ids=str)
def test_the_whole_zoo_has_finite_scores_that_differ(shape):
    found = {name: zero_cost_scores(genome, shape) for name, genome in zoo(shape).items()}
    assert all(math.isfinite(value) for scores in found.values() for value in scores.values())
    for name in ("nwot", "synflow"):
        assert len({scores[name] for scores in found.values()}) == len(found)


def test_random_genomes_have_finite_scores_of_six_digits():
    scored = [zero_cost_scores(sampled(DIGITS, seed), DIGITS) for seed in range(50)]
    values = [value for scores in scored for value in scores.values()]
    assert all(math.isfinite(value) for value in values)
    assert all(value == float(f"{value:.6g}") for value in values)
    assert len({scores["nwot"] for scores in scored}) > 40
    assert len({scores["synflow"] for scores in scored}) > 40


def test_scores_depend_on_nothing_but_the_genome():
    genome = sampled(DIGITS, 3)
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    before = zero_cost_scores(genome, DIGITS)
    assert torch.equal(torch.random.get_rng_state(), state), "the global generator is left alone"
    torch.manual_seed(2)
    with torch.no_grad():
        assert zero_cost_scores(genome, DIGITS) == before
    keys = {gene.key: f"x{index}" for index, gene in enumerate(genome.layers)} | {"stem": "stem"}
    renamed = ArchitectureGenome(
        tuple(replace(gene, key=keys[gene.key]) for gene in genome.layers),
        tuple(replace(edge, source=keys[edge.source], target=keys[edge.target]) for edge in genome.connections),
        genome.parameters,
    )
    assert renamed.canonical() == genome.canonical()
    assert zero_cost_scores(renamed, DIGITS) == before


def test_another_process_finds_the_same_with_other_threads_and_imports_torch_only_then():
    code = (
        "import json, sys\n"
        "from evodiff.architecture.genome import ImageShape\n"
        "from evodiff.architecture.space import ArchitectureSpace\n"
        "from evodiff.architecture.zoo import tiny, dit\n"
        "space = ArchitectureSpace(ImageShape(1, 8, 10))\n"
        "assert 'torch' not in sys.modules\n"
        "found = [space.scores(write(space.shape)) for write in (tiny, dit)]\n"
        "print(json.dumps([found, sys.modules['torch'].get_num_threads()]))"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads() % 2 + 1)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    found, threads = json.loads(done.stdout)
    assert threads != torch.get_num_threads()
    assert found == [zero_cost_scores(write(DIGITS), DIGITS) for write in (tiny, dit)]


def test_the_flow_of_convolutions_in_a_row_is_the_sum_over_all_paths():
    genome = _genome(_conv("second", kernel=1))
    network = build_network(genome, PLAIN, seed=zero_cost.SEED).double()
    zero_cost.initialise(network.output, zero_cost.SEED, "output")
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    flow = torch.ones(1, 1, 8, 8, dtype=torch.float64)
    with torch.no_grad():
        for convolution in convolutions:
            flow = nn.functional.conv2d(flow, convolution.weight.abs(), padding=convolution.padding)
    # Every path goes through one weight of each convolution.
    expected = math.log(len(convolutions) * float(flow.sum()))
    assert len(convolutions) == 4
    assert synflow(genome, PLAIN) == pytest.approx(expected, rel=1e-5)


def test_attention_adds_the_flow_of_its_values_whatever_its_kind_and_heads():
    found = {
        synflow(_genome(layer("looks", "attention", kind=kind, heads=heads, norm=norm)), PLAIN)
        for kind in ("full", "linear")
        for heads in (1, 8)
        for norm in ("group", "rms")
    }
    assert len(found) == 1
    assert found.pop() > synflow(_genome(), PLAIN)


def test_what_makes_no_path_changes_no_flow():
    without = synflow(_genome(_conv("second")), PLAIN)
    for settings in ({"norm": "layer"}, {"activation": "mish"}, {"modulation": "scale_shift"}, {"modulation": "gated"}):
        assert synflow(_genome(_conv("second", **settings)), PLAIN) == without
    assert synflow(_genome(_conv("second"), layer("bend", "activation", kind="relu")), PLAIN) == without
    assert synflow(_genome(_conv("second")), ImageShape(1, 8, 10)) == without


def test_wider_deeper_and_more_connected_nets_have_more_flow():
    plain = _genome(_conv("second"))
    flow = synflow(plain, PLAIN)
    assert synflow(_genome(_conv("second"), width=16), PLAIN) > flow
    assert synflow(_genome(_conv("second"), _conv("third")), PLAIN) > flow
    assert synflow(_genome(_conv("second", shortcut=True)), PLAIN) > flow
    skip = Connection("stem", "second", "add")
    assert synflow(_genome(_conv("second"), connections=[skip]), PLAIN) > flow


def test_a_flow_beyond_all_numbers_is_cut_off(monkeypatch):
    def enormous(module, seed, position):
        torch.nn.init.constant_(module.conv.weight, 1e308)

    monkeypatch.setattr(zero_cost, "initialise", enormous)
    assert synflow(tiny(DIGITS), DIGITS) == pytest.approx(math.log(sys.float_info.max), rel=1e-5)


def test_a_flow_of_nothing_is_cut_off(monkeypatch):
    monkeypatch.setattr(zero_cost, "initialise", lambda module, seed, position: None)
    assert synflow(tiny(DIGITS), DIGITS) == pytest.approx(math.log(sys.float_info.min), rel=1e-5)


def test_nwot_is_the_determinant_of_shared_units():
    genome = _genome(layer("bend", "activation", kind="gelu"))
    network = build_network(genome, DIGITS, seed=zero_cost.SEED)
    seen = []
    activations = [module for module in network.layers.modules() if isinstance(module, (nn.GELU, nn.SiLU))]
    for module in activations:
        module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    network.output.norm.register_forward_hook(lambda _, __, output: seen.append(output))
    times = (torch.arange(INPUTS) * 1000 + 500) // INPUTS
    with torch.no_grad():
        network(zero_cost._noise(DIGITS).float(), times, torch.arange(INPUTS) % 10)
    patterns = np.hstack([item.flatten(1).numpy() > 0 for item in seen])
    shared = (patterns[:, None, :] == patterns).sum(axis=2)
    assert len(seen) == 3
    assert shared[0, 0] == 3 * 8 * 8 * 8
    expected = np.linalg.slogdet(shared + np.eye(INPUTS)).logabsdet
    assert nwot(genome, DIGITS) == pytest.approx(expected, rel=1e-5)


def test_nwot_is_lower_where_all_inputs_look_alike(monkeypatch):
    apart = nwot(tiny(DIGITS), DIGITS)

    def deaf(genome, shape, *, seed):
        network = build_network(genome, shape, seed=seed)
        torch.nn.init.zeros_(network.stem.weight)  # neither the image
        for module in network.modules():
            if isinstance(module, zero_cost.Modulation):  # nor time and class come in
                torch.nn.init.zeros_(module.projection.weight)
        return network

    monkeypatch.setattr(zero_cost, "build_network", deaf)
    alike = nwot(tiny(DIGITS), DIGITS)
    units = 8 * 8 * 16 * 5
    assert alike == pytest.approx(math.log(INPUTS * units + 1), rel=1e-5), "one row, sixteen times"
    assert alike < apart / 5


def test_more_units_have_a_higher_nwot():
    assert nwot(_genome(width=16), DIGITS) > nwot(_genome(width=8), DIGITS)


def test_weights_that_are_no_numbers_leave_nwot_finite(monkeypatch):
    def broken(genome, shape, *, seed):
        network = build_network(genome, shape, seed=seed)
        torch.nn.init.constant_(network.stem.weight, math.nan)
        return network

    monkeypatch.setattr(zero_cost, "build_network", broken)
    assert math.isfinite(nwot(dit(DIGITS), DIGITS))


def test_the_space_scores_a_genome_once(monkeypatch):
    calls = []
    monkeypatch.setattr(zero_cost, "zero_cost_scores", lambda *given: calls.append(given) or {"nwot": 1.0})
    space, genome = ArchitectureSpace(ImageShape(1, 4, 3)), sampled(DIGITS, 11)
    first = space.scores(genome)
    first["nwot"] = 2.0
    assert space.within(0).scores(genome) == {"nwot": 1.0}
    assert calls == [(genome, space.shape)]


def test_spaces_of_all_shapes_score_their_samples():
    for space in SPACES.values():
        scores = space.scores(space.sample(np.random.default_rng(5)))
        assert all(math.isfinite(value) for value in scores.values())
