"""From a network to images: noise by image, conversion of the output, guidance, batches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from evodiff.errors import TrialFailure
from evodiff.sampling.solver import dpm_solver_pp_2m

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from evodiff.sampling.noise import NoiseSchedule
    from evodiff.sampling.solver import Denoise
    from evodiff.settings import Prediction

    Network = Callable[[Tensor, Tensor, Tensor | None], Tensor]  # (x_t, t, labels or None) -> output, like x_t


def initial_noise(seed: int, count: int, shape: tuple[int, int, int], *, first: int = 0) -> Tensor:
    """Standard normal noise, (count, channels, height, width) float32 on the CPU.

    Image i has a random stream of its own, that of (seed, first + i), by a counter-based generator (Salmon et al.
    2011): image 7 starts from the same bytes whether 8 or 8000 are drawn and in whatever batches.
    """
    key = np.random.SeedSequence(seed).generate_state(2, np.uint64)
    noise = np.empty((count, *shape), np.float32)
    for i in range(count):
        # The two low words of the counter advance while numbers are drawn; the third keeps the images apart.
        stream = np.random.Philox(key=key, counter=np.array([0, 0, first + i, 0], np.uint64))
        np.random.Generator(stream).standard_normal(dtype=np.float32, out=noise[i])
    return torch.from_numpy(noise)


def balanced_labels(labels: Tensor, count: int) -> Tensor:
    """Return ``count`` labels, long, with the class balance of ``labels`` and without chance.

    Each class gets its share by largest remainders (ties to the smaller label), and classes are spread evenly over
    the result, so that its first images too are a fair sample of the classes.
    """
    classes, sizes = np.unique(labels.numpy(), return_counts=True)
    quota = sizes * count / sizes.sum()
    counts = np.floor(quota).astype(int)
    remainders = np.argsort(counts - quota, kind="stable")
    counts[remainders[: count - counts.sum()]] += 1
    position = np.concatenate([(np.arange(size) + 0.5) / size for size in counts])
    return torch.from_numpy(np.repeat(classes, counts)[np.argsort(position, kind="stable")].astype(np.int64))


def denoiser(
    network: Network,
    schedule: NoiseSchedule,
    prediction: Prediction,
    labels: Tensor | None = None,
    *,
    guidance: float = 1.0,
) -> Denoise:
    """Wrap a network into a prediction of x_0.

    With labels and ``guidance`` g other than 1 it is classifier-free guidance (Ho & Salimans 2022): the prediction
    without labels plus g times what the labels change, for twice the cost.
    """

    def denoise(x_t: Tensor, t: Tensor) -> Tensor:
        output = network(x_t, t, labels)
        if labels is not None and guidance != 1:
            unconditional = network(x_t, t, None)
            output = unconditional + guidance * (output - unconditional)
        return schedule.to_x0(prediction, output, x_t, t)

    return denoise


@torch.inference_mode()
def generate(
    network: Network,
    noise: Tensor,
    labels: Tensor | None,
    *,
    schedule: NoiseSchedule,
    prediction: Prediction,
    timesteps: Sequence[int],
    guidance: float = 1.0,
    batch_size: int = 250,
    device: str | torch.device = "cpu",
) -> Tensor:
    """Generate one image for each row of ``noise``, (n, channels, height, width) float32 on the CPU, in [-1, 1].

    An image depends on its own noise and label alone. Arithmetic is another matter: a matrix product may add in
    another order at another batch size, so another ``batch_size`` agrees to float32 rounding (about 1e-5), the same
    one byte for byte.

    Raises:
        TrialFailure: a pixel is infinite or not a number.
    """
    schedule = schedule.to(device)
    images = torch.empty_like(noise)
    for start in range(0, len(noise), batch_size):
        rows = slice(start, start + batch_size)
        batch_labels = None if labels is None else labels[rows].to(device)
        denoise = denoiser(network, schedule, prediction, batch_labels, guidance=guidance)
        images[rows] = dpm_solver_pp_2m(denoise, noise[rows].to(device), schedule, timesteps).cpu()
        broken = int((~images[rows].isfinite()).flatten(1).any(dim=1).sum())
        if broken:
            raise TrialFailure("non-finite samples", f"{broken} of {len(images[rows])} generated images")
    return images.clamp_(-1, 1)
