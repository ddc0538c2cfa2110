"""What this machine's processor is called."""

from __future__ import annotations

import platform
from pathlib import Path


def processor_name() -> str:
    """Return the model of the processor, or its architecture where the system does not say more."""
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
