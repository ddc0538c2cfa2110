"""What chance decides in training step k: batch, timesteps, noise and dropped labels, from (trial seed, k) alone.

Drawn by numpy on the CPU, so that every device trains on the same numbers and training can go on at any step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

# Purposes of the random streams of one trial; the network's initial weights are drawn elsewhere.
_STEP = 1
_EPOCH = 2


@dataclass(frozen=True)
class StepDraw:
    """The chances of one step.

    ``images`` and ``timesteps`` are (batch,) int64, ``noise`` is (batch, channels, height, width) float32 standard
    normal, ``dropped`` is (batch,) bool: whose label is withheld.
    """

    images: Tensor
    timesteps: Tensor
    noise: Tensor
    dropped: Tensor


class StepDraws:
    """Draws for a training set of ``count`` images of ``shape`` (channels, height, width).

    Images come in epochs, each a permutation of its own, so that few steps already see them evenly. Timesteps are
    stratified over the batch with one common offset (Kingma et al. 2021, Variational Diffusion Models, appendix I):
    every batch covers all noise levels, and the loss of a batch varies less.
    """

    def __init__(
        self,
        seed: int,
        *,
        count: int,
        shape: tuple[int, ...],
        batch_size: int,
        timesteps: int,
        label_dropout: float,
    ) -> None:
        self._seed = seed
        self._count = count
        self._shape = shape
        self._batch_size = batch_size
        self._timesteps = timesteps
        self._label_dropout = label_dropout
        self._epoch: tuple[int, np.ndarray[tuple[int], np.dtype[np.int64]]] | None = None

    def step(self, k: int) -> StepDraw:
        """Return the draws of step ``k``, counted from 0."""
        rng = _generator(self._seed, _STEP, k)
        offset = rng.random()
        strata = (np.arange(self._batch_size) + offset) / self._batch_size
        timesteps = np.minimum((strata * self._timesteps).astype(np.int64), self._timesteps - 1)
        dropped = rng.random(self._batch_size) < self._label_dropout
        noise = rng.standard_normal((self._batch_size, *self._shape), dtype=np.float32)
        return StepDraw(
            torch.from_numpy(self._images(k)),
            torch.from_numpy(timesteps),
            torch.from_numpy(noise),
            torch.from_numpy(dropped),
        )

    def _images(self, k: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """(batch,) int64: the next stretch of the endless row of shuffled epochs."""
        start = k * self._batch_size
        stop = start + self._batch_size
        stretches = []
        while start < stop:
            epoch, position = divmod(start, self._count)
            stretch = self._permutation(epoch)[position : position + stop - start]
            stretches.append(stretch)
            start += len(stretch)
        return np.concatenate(stretches)

    def _permutation(self, epoch: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        if self._epoch is None or self._epoch[0] != epoch:
            self._epoch = epoch, _generator(self._seed, _EPOCH, epoch).permutation(self._count)
        return self._epoch[1]


def _generator(seed: int, purpose: int, index: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(seed, spawn_key=(purpose, index))))
