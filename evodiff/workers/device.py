"""Which device a worker computes on."""

from __future__ import annotations

import sys
from pathlib import Path

from evodiff.errors import SettingsError

DEVICES = ("mps", "cuda", "cpu")
# Present wherever torch could find a CUDA or ROCm device, also in WSL.
_DRIVER_FILES = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg", "/dev/kfd")


def choose_device(name: str = "auto") -> str:
    """Return "mps", "cuda" or "cpu": the first that is there for "auto", else the one that was named.

    Torch is imported only where an accelerator is named or may be present.

    Raises:
        SettingsError: the device is unknown, or not available here.
    """
    if name not in ("auto", *DEVICES):
        raise SettingsError(
            f"Device: expected one of auto, {', '.join(DEVICES)}, found {name!r}.", remedy="Give --device one of them."
        )
    if name == "cpu" or (name == "auto" and not _may_have_accelerator()):
        return "cpu"
    available = [device for device in DEVICES if _available(device)]
    if name == "auto":
        return available[0]
    if name not in available:
        raise SettingsError(
            f"Device {name} was asked for, but torch finds only {', '.join(available)} here.",
            remedy="Leave --device out, or install a build of torch for that device.",
        )
    return name


def _may_have_accelerator() -> bool:
    return sys.platform != "linux" or any(Path(file).exists() for file in _DRIVER_FILES)


def _available(device: str) -> bool:
    import torch

    if device == "mps":
        return torch.backends.mps.is_available()
    return device == "cpu" or torch.cuda.is_available()
