"""The smallest search that is a real one, for tests that need a whole run."""

from __future__ import annotations

import subprocess
from typing import Protocol

# Tiny trainings on real digits: a second or two each generation.
QUICK = ("--dataset", "digits", "--population", "4", "--steps", "4", "--workers", "2", "--champion-steps", "6")


class CommandLine(Protocol):
    """Runs ``evodiff ...`` in a process of its own."""

    def __call__(self, *arguments: object, check: bool = True) -> subprocess.CompletedProcess[str]: ...
