from __future__ import annotations

import pytest

from evodiff.hardware import Calibration, calibrate


@pytest.fixture(scope="session")
def measured() -> Calibration:
    """A real calibration of this machine's processor, in a tiny budget."""
    return calibrate("cpu", budget_seconds=1)
