"""The exponential moving average of the weights, which is what a trial publishes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


def ramped_decay(step: int, decay: float) -> float:
    """Return the average's decay at ``step``, counted from 0: min(decay, (1 + step) / (10 + step)).

    The ramp keeps the untrained weights out of a short training, in place of a bias correction: until the cap is
    reached the average spans the last tenth or so of the steps *so far*, the shape of Karras et al. (2024, Analyzing
    and Improving the Training Dynamics of Diffusion Models, section 3.1), and it does not depend on the last step.
    """
    return min(decay, (1 + step) / (10 + step))


@torch.no_grad()
def update_average(average: Sequence[Tensor], weights: Sequence[Tensor], *, step: int, decay: float) -> None:
    """Move ``average`` towards ``weights``, in place."""
    torch._foreach_lerp_(list(average), list(weights), 1 - ramped_decay(step, decay))
