"""AdamW with a learning rate that is fair across widths and families of networks.

The rule
--------
``learning_rate`` is meant for layers of 32 inputs. The weight matrix of a linear layer or convolution that takes in n
channels learns at ``learning_rate`` · 32 / n, at most twice ``learning_rate``. Everything else (biases, norms, embeddings,
depthwise kernels, and layers that see the image itself) learns at ``learning_rate``.

Why: Adam moves every weight by about the learning rate, whatever the gradient's size. In a layer of n inputs those moves
add up, so that what the layer returns changes by about n times the rate; dividing by n keeps that change the same in
narrow and wide networks (Yang et al. 2021, Tensor Programs V, table 3: the rule of μP for Adam, hidden and output weights
1/n, vector-like and input weights constant). A search that compares widths under one rate for all would judge how well
that rate happened to fit, not the architectures. The area of a kernel does not count: it does not grow with the width.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from evodiff.settings import TrainingSettings

BASE_INPUTS = 32
LARGEST_FACTOR = 2.0
_FEWEST_HIDDEN_INPUTS = 8  # fewer channels than the narrowest network has: an image, not features
BETAS = (0.9, 0.99)


def learning_rate_factors(network: nn.Module) -> dict[str, float]:
    """Return for each parameter, by name, what the base learning rate is multiplied with."""
    factors = {name: 1.0 for name, _ in network.named_parameters()}
    for module_name, module in network.named_modules():
        name = f"{module_name}.weight" if module_name else "weight"
        inputs = _inputs(module)
        if name in factors and inputs >= _FEWEST_HIDDEN_INPUTS:
            factors[name] = min(LARGEST_FACTOR, BASE_INPUTS / inputs)
    return factors


def _inputs(module: nn.Module) -> int:
    """Channels that one output of the layer adds up; 0 where the rule has nothing to say."""
    if isinstance(module, nn.Linear):
        return module.in_features
    if isinstance(module, nn.Conv2d):
        return module.in_channels // module.groups
    return 0


def make_optimizer(network: nn.Module, settings: TrainingSettings) -> torch.optim.AdamW:
    """Return the optimiser; a group's ``factor`` is what the warmed-up base rate is multiplied with.

    β₂ is 0.99, not the usual 0.999: a short training is over before the slower average has found its level.
    """
    groups: defaultdict[float, list[nn.Parameter]] = defaultdict(list)
    factors = learning_rate_factors(network)
    for name, parameter in network.named_parameters():
        groups[factors[name]].append(parameter)
    parameter_groups: list[dict[str, Any]] = [
        {"params": parameters, "factor": factor} for factor, parameters in sorted(groups.items())
    ]
    return torch.optim.AdamW(
        parameter_groups, lr=settings.learning_rate, betas=BETAS, weight_decay=settings.weight_decay, fused=True
    )


def set_learning_rate(optimizer: torch.optim.Optimizer, settings: TrainingSettings, step: int) -> None:
    """Set the rate of ``step``, counted from 0: a linear warm-up, then constant.

    Nothing depends on the last step, so that a training which goes on is the same as one that was never cut.
    """
    warmed_up = min(1.0, (step + 1) / settings.warmup_steps) if settings.warmup_steps else 1.0
    for group in optimizer.param_groups:
        group["lr"] = settings.learning_rate * warmed_up * group["factor"]
