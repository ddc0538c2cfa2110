"""How much memory a network may take on a target."""

from __future__ import annotations

import os
from typing import Final

from evodiff.hardware.calibration import LOCAL
from evodiff.hardware.profiles import TARGETS, target_profile

MEGABYTE: Final = 1e6


def working_set_mb(target: str = LOCAL, device: str = "cpu") -> float:
    """Return the megabytes (10^6 bytes) that one process may use on ``target``.

    For a named profile these are the limits of its largest configuration. For "local" the driver of ``device`` is asked
    (``torch.mps.recommended_max_memory``, or the memory of the CUDA device); on the CPU it is the physical memory.

    Raises:
        SettingsError: no profile has this name.
    """
    if target != LOCAL:
        return target_profile(target).working_set_mb()
    if device == "mps":
        import torch

        return float(torch.mps.recommended_max_memory()) / MEGABYTE
    if device == "cuda":
        import torch

        return float(torch.cuda.get_device_properties(0).total_memory) / MEGABYTE
    return physical_memory_mb()


def physical_memory_mb() -> float:
    """Return the memory of this machine in 10^6 bytes; an assumption where the system does not tell it."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / MEGABYTE
    except (AttributeError, ValueError, OSError):  # not told by this system
        return TARGETS["cpu"].working_set_mb()
