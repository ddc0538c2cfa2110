"""``git`` and ``dvc`` as processes of their own, which wait where another process holds their lock."""

from __future__ import annotations

import importlib.util
import os
import random
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evodiff.errors import EvodiffError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

PATIENCE_SECONDS = 120.0

# A person's own settings must not stop a commit, nor change what is read: a hook, a passphrase, a global list of
# ignored files, or of files without a patch.
_GIT = (
    "git",
    *("-c", "user.name=evodiff", "-c", "user.email=evodiff@localhost", "-c", "commit.gpgSign=false"),
    *("-c", "core.hooksPath=/dev/null", "-c", "core.excludesFile=", "-c", "core.autocrlf=false"),
    *("-c", "core.attributesFile=/dev/null", "-c", "log.showRoot=true"),
    # What stays behind in the background would hold our lock.
    *("-c", "gc.autoDetach=false", "-c", "maintenance.autoDetach=false", "-c", "core.fsmonitor=false"),
)
_HELD = (".lock': File exists", "Unable to acquire lock", "is being blocked by")


@dataclass(frozen=True)
class Commands:
    """Runs commands in ``folder``.

    They inherit the descriptor ``lock``, so that the lock is held until the last of them has ended, even where the
    process that began them is killed.
    """

    folder: Path
    lock: int
    patience_seconds: float = PATIENCE_SECONDS

    def git(self, *arguments: str) -> str:
        """Run git and return what it printed.

        Raises:
            EvodiffError: it failed, or its lock was held all the time.
        """
        return self._run([*_GIT, *arguments])

    def dvc(self, *arguments: str) -> str:
        """Run DVC of this interpreter and return what it printed; raises as :meth:`git` does."""
        if importlib.util.find_spec("dvc") is None:
            raise EvodiffError("DVC is not installed.", remedy="pip install 'evodiff-pipeline[pipeline]'")
        return self._run([sys.executable, "-m", "dvc", *arguments])

    def _run(self, command: Sequence[str]) -> str:
        done = None
        for _ in again(self.patience_seconds):
            done = self._once(command)
            if done.returncode == 0:
                return done.stdout
            if not any(sign in done.stderr for sign in _HELD):
                break
        assert done is not None
        name = " ".join(command[3:] if command[0] == sys.executable else command[len(_GIT) :])
        said = " ".join((done.stderr or done.stdout).split())[-500:]
        raise EvodiffError(
            f"Command failed in {self.folder}: {name}. {said}",
            remedy="Mend its cause and archive again; what was archived before is intact.",
        )

    def _once(self, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(  # noqa: S603 - the commands are those above
                command,
                cwd=self.folder,
                env=_environment(self.folder),
                pass_fds=(self.lock,),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
            )
        except FileNotFoundError as error:
            raise EvodiffError(f"{command[0]} is not installed.", remedy="Install git.") from error


def again(patience_seconds: float) -> Iterator[None]:
    """Yield at once, then at random intervals, so that processes that wait do not meet, until patience ends."""
    deadline = time.monotonic() + patience_seconds
    while True:
        yield
        if time.monotonic() > deadline:
            return
        time.sleep(random.uniform(0.1, 0.4))  # noqa: S311 - nothing secret


def _environment(folder: Path) -> dict[str, str]:
    # A hook of git that calls us names its own repository in the environment.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    # The folder may lie in another repository, which is not meant even where this one is not there yet.
    alone = {"GIT_CEILING_DIRECTORIES": str(folder.parent)}
    return {**inherited, **alone, "GIT_TERMINAL_PROMPT": "0", "DVC_NO_ANALYTICS": "1", "LC_ALL": "C"}
