"""What tests of several rooms share: an environment of their own, and small runs made once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings
from quick_search import QUICK, CommandLine

# In CI the same examples every time: what a change did not break, chance must not. Elsewhere they are drawn anew.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of datasets, feature nets and operator times, shared by all test processes of this session."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "cache"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def environment(cache_dir: Path) -> dict[str, str]:
    """Environment of a user's command line with a cache of its own and a short calibration."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("EVODIFF_")}
    return {
        **inherited,
        "EVODIFF_CACHE_DIR": str(cache_dir),
        "EVODIFF_CALIBRATION_SECONDS": "1",
        "EVODIFF_EVALUATION__SAMPLES": "64",
        "EVODIFF_ARCHIVE": str(cache_dir.parent / "no-archive"),  # whatever lies in the working folder
        "OMP_NUM_THREADS": "1",
    }


@pytest.fixture(scope="session")
def evodiff(environment: dict[str, str]) -> CommandLine:
    """Run ``evodiff ...`` in a process of its own; ``check=False`` to look at a failure."""

    def run(*arguments: object, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [Path(sys.executable).with_name("evodiff"), *map(str, arguments)],
            capture_output=True,
            text=True,
            env=environment,
            timeout=300,
        )
        if check and done.returncode != 0:
            pytest.fail(f"evodiff {' '.join(map(str, arguments))} ended with {done.returncode}:\n{done.stderr}")
        return done

    return run


@pytest.fixture(scope="session")
def finished_run(evodiff: CommandLine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished search of two generations with its random-search arm; tests must not change it."""
    folder = tmp_path_factory.mktemp("runs") / "digits"
    evodiff("evolve", *QUICK, "--generations", 2, "--baseline", "--out", folder)
    return folder
