"""AdamW with a learning rate that is fair across widths and families of networks.

The rule
--------
``learning_rate`` is that of a hidden layer of 32 inputs. The weights of a linear layer or convolution that takes in n
channels learn at ``learning_rate`` · √(32 / n). Everything else (biases, norms, embeddings, depthwise kernels, and
layers that see the image itself) learns at twice ``learning_rate``, whatever the width.

Why: Adam moves every weight by about the learning rate, whatever the gradient. In a layer of n inputs such moves add
up, by √n where they are independent and by n where they agree, while what is no sum over channels has no n to divide
by. The theory of very wide networks (Yang et al. 2021, Tensor Programs V, table 3: the rates of Adam under μP) takes
the second case, 1 / n for hidden weights and a constant for the rest. Here, on digits after 120 steps, that was too
much: under 1 / n the best rate of a U-Net rose between widths 16 and 64, under one rate for all it fell, and under the
root it was near 0.004 at widths 16 and 48; transformers would take up to twice that. A search under one rate for all
would judge how well that rate happened to fit a width. Counting a kernel's area among the inputs was no better for
U-Nets, and worse for transformers.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from torch import Tensor

    from evodiff.settings import TrainingSettings
    from evodiff.training.flat import FlatParameters

BASE_INPUTS = 32
OTHER_FACTOR = 2.0
_FEWEST_HIDDEN_INPUTS = 8  # fewer channels than the narrowest network has: an image, not features
# β₂ is 0.99, not the usual 0.999: a short training is over before the slower average has found its level.
_BETA1, _BETA2, _EPSILON = 0.9, 0.99, 1e-8


def learning_rate_factors(network: nn.Module) -> dict[str, float]:
    """Return for each parameter, by name, what the base learning rate is multiplied with."""
    factors = {name: OTHER_FACTOR for name, _ in network.named_parameters()}
    for module_name, module in network.named_modules():
        name = f"{module_name}.weight" if module_name else "weight"
        inputs = _inputs(module)
        if name in factors and inputs >= _FEWEST_HIDDEN_INPUTS:
            factors[name] = math.sqrt(BASE_INPUTS / inputs)
    return factors


def learning_rate(settings: TrainingSettings, step: int) -> float:
    """Return the base rate of ``step``, counted from 0: a linear warm-up, then constant.

    Nothing depends on the last step, so that a training which goes on is the same as one that was never cut.
    """
    warmed_up = min(1.0, (step + 1) / settings.warmup_steps) if settings.warmup_steps else 1.0
    return settings.learning_rate * warmed_up


class FairAdamW:
    """AdamW (Loshchilov and Hutter 2019) over parameters that are grouped by their learning rate factor.

    ``moments1`` and ``moments2`` are one long tensor a group. It does without ``torch.optim``, which imports torch's
    compiler for seconds of every worker's life.
    """

    def __init__(self, parameters: FlatParameters, settings: TrainingSettings) -> None:
        self._groups = list(parameters.groups.items())
        self._settings = settings
        self.moments1 = [torch.zeros_like(long) for _, long in self._groups]
        self.moments2 = [torch.zeros_like(long) for _, long in self._groups]

    @torch.no_grad()
    def step(self, k: int) -> None:
        """Update the parameters, in place, by their gradients in step ``k``, counted from 0."""
        rate = learning_rate(self._settings, k)
        for (factor, long), moment1, moment2 in zip(self._groups, self.moments1, self.moments2, strict=True):
            assert long.grad is not None
            _adamw(long, long.grad, moment1, moment2, k + 1, rate * factor, self._settings.weight_decay)


def _adamw(
    weights: Tensor, gradient: Tensor, moment1: Tensor, moment2: Tensor, count: int, rate: float, weight_decay: float
) -> None:
    """One update of one tensor, all in one pass over memory (the kernel behind ``torch.optim.AdamW(fused=True)``)."""
    torch._fused_adamw_(
        [weights],
        [gradient],
        [moment1],
        [moment2],
        [],
        [torch.tensor(float(count), device=weights.device)],
        lr=rate,
        beta1=_BETA1,
        beta2=_BETA2,
        weight_decay=weight_decay,
        eps=_EPSILON,
        amsgrad=False,
        maximize=False,
    )


def _inputs(module: nn.Module) -> int:
    """Channels that one output of the layer adds up; 0 where the rule has nothing to say."""
    if isinstance(module, nn.Linear):
        return module.in_features
    if isinstance(module, nn.Conv2d):
        return module.in_channels // module.groups
    return 0
