"""What is known of a target without measuring it: peak arithmetic, bandwidth and memory.

Apple's chips share one memory between CPU and GPU. Peak numbers are single-precision GPU figures of the makers'
specifications; fp16 arithmetic on M1 and M2 GPUs is no faster, and the Neural Engine is not reached from PyTorch. What
software reaches in the long run is about 0.6 of peak compute and 0.8 of peak bandwidth. ``dispatch_us``, the cost of
issuing one operation, is an assumption, not a measurement: nothing in this package has been run on Apple hardware. So a
prediction for such a target ranks candidates; it does not promise milliseconds. On the machine itself, ``evodiff
calibrate`` replaces it by measurements.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from evodiff.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

SUSTAINED_COMPUTE: Final = 0.6
SUSTAINED_BANDWIDTH: Final = 0.8

# Seconds become milliseconds, and gigabytes bytes.
TERA: Final = 1e12
GIGA: Final = 1e9


@dataclass(frozen=True)
class TargetProfile:
    """A kind of hardware: peaks in units of their names, ``memory_gb`` the largest configuration sold.

    ``device`` is the PyTorch device that it is reached by. ``dispatch_us`` is the time to issue one operation.
    """

    name: str
    device: str
    peak_tflops: float
    bandwidth_gb_per_second: float
    memory_gb: float
    dispatch_us: float = 8.0
    sustained_compute: float = SUSTAINED_COMPUTE
    sustained_bandwidth: float = SUSTAINED_BANDWIDTH

    @property
    def flops_per_ms(self) -> float:
        """Multiply-adds counted as two, that the target sustains in a millisecond."""
        return self.peak_tflops * TERA * self.sustained_compute / 1e3

    @property
    def bytes_per_ms(self) -> float:
        """Bytes that the target sustains in a millisecond."""
        return self.bandwidth_gb_per_second * GIGA * self.sustained_bandwidth / 1e3

    def working_set_mb(self, memory_gb: float | None = None) -> float:
        """Return the megabytes (10^6 bytes) that a process may use of ``memory_gb`` (by default the largest sold).

        Unified memory is shared with the system: 0.66 of it below 16 GB, 0.74 to 64 GB, 0.84 above. On a Mac itself,
        :func:`evodiff.hardware.memory.working_set_mb` asks the driver.
        """
        memory = self.memory_gb if memory_gb is None else memory_gb
        if self.device != "mps":
            return memory * 1e3
        share = 0.66 if memory < 16 else 0.74 if memory <= 64 else 0.84
        return memory * share * 1e3


# (fp32 TFLOPS, largest memory in GB, GB/s)
_APPLE: Final[dict[str, tuple[float, float, float]]] = {
    "m1": (2.6, 16, 68),
    "m1-pro": (5.2, 32, 200),
    "m1-max": (10.4, 64, 400),
    "m1-ultra": (21, 128, 800),
    "m2": (3.6, 24, 100),
    "m2-pro": (6.8, 32, 200),
    "m2-max": (13.5, 96, 400),
    "m2-ultra": (27.2, 192, 800),
    "m3": (4.1, 24, 100),
    "m3-pro": (7.4, 36, 150),
    "m3-max": (14.2, 128, 400),
    "m3-ultra": (28.4, 512, 819),
    "m4": (4.6, 32, 120),
    "m4-pro": (9.2, 64, 273),
    "m4-max": (18.4, 128, 546),
}

# One core of a recent server, and a workstation GPU: places to start where the machine itself cannot be timed.
_OTHERS: Final = (
    TargetProfile("cpu", "cpu", 0.15, 20, 8, dispatch_us=4.0),
    TargetProfile("cuda", "cuda", 20, 600, 16, dispatch_us=6.0),
)

TARGETS: Final[Mapping[str, TargetProfile]] = MappingProxyType(
    {
        name: TargetProfile(name, "mps", tflops, bandwidth, memory)
        for name, (tflops, memory, bandwidth) in _APPLE.items()
    }
    | {profile.name: profile for profile in _OTHERS}
)


def target_profile(name: str) -> TargetProfile:
    """Return the profile called ``name``, in any case, with spaces or underscores for hyphens.

    Raises:
        SettingsError: no profile has this name.
    """
    wanted = name.strip().lower().removeprefix("apple ").replace(" ", "-").replace("_", "-")
    if wanted not in TARGETS:
        raise SettingsError(
            f"Unknown target {name!r}: expected 'local' or one of {', '.join(TARGETS)}.",
            remedy="Name a profile, or calibrate on the machine itself with `evodiff calibrate`.",
        )
    return TARGETS[wanted]
