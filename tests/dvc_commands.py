"""DVC and git as a person runs them in a checkout: other processes, evodiff on the path, nothing written elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

BIN = Path(sys.executable).parent


def environment(scratch: Path) -> dict[str, str]:
    """Return the environment of a person's shell whose evodiff is the one under test."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("EVODIFF_", "GIT_"))}
    return {
        **inherited,
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "DVC_NO_ANALYTICS": "1",
        "DVC_SITE_CACHE_DIR": str(scratch / "dvc-site"),
        "EVODIFF_CACHE_DIR": str(scratch / "evodiff-cache"),
        "OMP_NUM_THREADS": "1",
    }


def run(folder: Path, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a command in ``folder``; ``check=False`` to look at a failure."""
    done = subprocess.run(
        command, cwd=folder, env=environment(folder.parent), capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0 or not check, f"{command} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done


def dvc(folder: Path, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run DVC in ``folder``."""
    return run(folder, str(BIN / "dvc"), *arguments, check=check)


def git(folder: Path, *arguments: str) -> str:
    """Run git in ``folder`` and return what it printed."""
    identity = ("-c", "user.name=somebody", "-c", "user.email=somebody@localhost")
    return run(folder, "git", *identity, *arguments).stdout


def clone(archive: Path, target: Path) -> Path:
    """Clone an archive with git."""
    git(target.parent, "clone", "--quiet", str(archive), str(target))
    return target


def outputs(folder: Path) -> dict[str, bytes]:
    """Return every file below ``archive/`` of a checkout, by its path there."""
    root = folder / "archive"
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def assert_clean(folder: Path) -> None:
    """Check that git and DVC, with its remote, see nothing that has changed."""
    assert git(folder, "status", "--porcelain") == ""
    assert "up to date" in dvc(folder, "status").stdout
    assert "in sync" in dvc(folder, "status", "--cloud").stdout
