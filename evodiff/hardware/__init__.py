"""Targets: what they are, how long operations take on them, and how much memory they have.

``operation`` is the language in which a network's cost is told. ``profiles`` knows Apple's chips by their
specifications; ``calibration`` measures the machine at hand (``design`` says what, ``timing`` and ``kernels`` how);
``latency`` predicts from either; ``memory`` says what fits. Nothing here imports torch before something is measured.
"""

from evodiff.hardware.calibration import Calibration, Timing, calibrate, calibration_path, load_or_calibrate, roofline
from evodiff.hardware.latency import predict_ms
from evodiff.hardware.memory import physical_memory_mb, working_set_mb
from evodiff.hardware.operation import KINDS, Operation
from evodiff.hardware.profiles import TARGETS, TargetProfile, target_profile

__all__ = [
    "Operation",
    "KINDS",
    "TargetProfile",
    "TARGETS",
    "target_profile",
    "Calibration",
    "Timing",
    "calibrate",
    "load_or_calibrate",
    "calibration_path",
    "roofline",
    "predict_ms",
    "working_set_mb",
    "physical_memory_mb",
]
