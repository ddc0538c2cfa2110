"""The pool's handle on one worker process."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any

from evodiff.workers.messages import MessageReader, send
from evodiff.workers.process import BOOTSTRAP

_ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
_LOG_TAIL_BYTES = 6000
_DULL = "Extension modules: "  # a long list at the end of what Python's fault handler prints
_DEATH_SECONDS = 5.0  # from the end of its pipe to the end of the process


class WorkerDied(Exception):  # noqa: N818 - the fact, which the pool turns into a failure of the task
    """The process ended without an answer."""


class Worker:
    """A process, the two pipes to it, and a file without a name that holds what it prints.

    The process inherits these pipes only, so that it sees at once when the pool dies.
    """

    def __init__(self, setup: dict[str, Any]) -> None:
        commands_read, self._commands = os.pipe()
        self._answers, answers_write = os.pipe()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the worker
        arguments = [json.dumps(sys.path), str(commands_read), str(answers_write), str(os.getpid())]
        try:
            self._process = subprocess.Popen(  # noqa: S603 - this interpreter, with a program of our own
                [sys.executable, "-c", BOOTSTRAP, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=subprocess.STDOUT,
                env=_environment(),
                pass_fds=(commands_read, answers_write),
            )
        finally:
            os.close(commands_read)
            os.close(answers_write)
        self._reader = MessageReader(self._answers)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._answers, selectors.EVENT_READ)
        with contextlib.suppress(WorkerDied):  # found out when its first answer is awaited
            self.send({"kind": "setup", **setup})

    def send(self, message: dict[str, Any]) -> None:
        """Send one message.

        Raises:
            WorkerDied: there is nobody to read it.
        """
        try:
            send(self._commands, message)
        except BrokenPipeError as error:
            raise WorkerDied from error

    def receive(self, seconds: float) -> dict[str, Any] | None:
        """Wait at most ``seconds`` for a message; None when none came.

        Raises:
            WorkerDied: the process ended, and all that it had sent has been received.
        """
        deadline = time.monotonic() + seconds
        while (message := self._reader.next_waiting()) is None:
            ended = self._process.poll() is not None
            if self._selector.select(0 if ended else max(0.0, deadline - time.monotonic())):
                if not self._reader.read():
                    raise WorkerDied
            elif ended:
                raise WorkerDied
            elif time.monotonic() >= deadline:
                return None
        return message

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()

    def death(self) -> str:
        """Say how the process ended, with the last that it printed."""
        try:
            code = self._process.wait(_DEATH_SECONDS)
        except subprocess.TimeoutExpired:  # it closed its pipe and lives on: of no use any more
            self._process.kill()
            code = self._process.wait()
        how = f"exit code {code}"
        if code < 0:
            how = f"killed by signal {-code} ({signal.Signals(-code).name})"
        if code == -signal.SIGKILL:
            how += ", which is how Linux ends a process when memory runs out"
        printed = self._printed()
        return f"{how}; it had printed: {printed}" if printed else how

    def close(self, grace_seconds: float = 2.0) -> None:
        """End the process, let go of the pipes, and leave no zombie."""
        self._selector.close()
        os.close(self._commands)  # the worker ends when it sees this
        try:
            self._process.wait(grace_seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._answers)
        self._log.close()

    def _printed(self) -> str:
        size = os.fstat(self._log.fileno()).st_size
        tail = os.pread(self._log.fileno(), _LOG_TAIL_BYTES, max(0, size - _LOG_TAIL_BYTES))
        return tail.decode(errors="replace").partition(_DULL)[0].strip()


def _environment() -> dict[str, str]:
    """Return the environment of a worker: one thread, and no silent detour from MPS to the CPU.

    Two processes of two threads each on two cores wait for one another and are many times slower than one thread each.
    """
    environment = {**os.environ, **dict.fromkeys(_ONE_THREAD, "1")}
    environment.pop("PYTORCH_ENABLE_MPS_FALLBACK", None)
    return environment
