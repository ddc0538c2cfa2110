"""Random numbers from ``SeedSequence(seed, subject, purpose)``: there is no generator state to save."""

from __future__ import annotations

import hashlib

import numpy as np


def seed_sequence(seed: int, *subject: int | str) -> np.random.SeedSequence:
    """Return the sequence of a run's seed and a subject, such as a generation and a purpose, or a candidate id."""
    return np.random.SeedSequence([seed, *(_number(part) for part in subject)])


def generator(seed: int, *subject: int | str) -> np.random.Generator:
    """Return a fresh generator of :func:`seed_sequence`."""
    return np.random.default_rng(seed_sequence(seed, *subject))


def trial_seed(seed: int, candidate: str, replicate: int) -> int:
    """Return the seed of a trial, below 2**53 so that every reader of JSON keeps it exact.

    Rung and protocol have no part in it: a trial that goes on from a lower rung goes on with the same seed.
    """
    return int(seed_sequence(seed, candidate, replicate, "trial").generate_state(1, np.uint64)[0] >> np.uint64(11))


def _number(part: int | str) -> int:
    if isinstance(part, int):
        return part
    return int.from_bytes(hashlib.sha256(part.encode()).digest()[:8], "big")
