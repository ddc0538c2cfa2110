"""The router's end of one model worker: its process, its socket, and the requests that it holds."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import tempfile
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psutil

from evodiff.deployment.smoke_report import LoadingFailed, SmokeTestFailure
from evodiff.deployment.worker.frames import Frame, FrameError, encode, read_frame
from evodiff.deployment.worker.process import BOOTSTRAP

if TYPE_CHECKING:
    from collections.abc import Mapping

_ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
_LOG_TAIL_BYTES = 2000
_GRACE_SECONDS = 5.0


class WorkerDied(Exception):  # noqa: N818 - the fact; whoever waited tries elsewhere
    """The process ended before it answered; ``asked`` tells that somebody else had asked it to."""

    def __init__(self, how: str, *, asked: bool = False) -> None:
        super().__init__(how)
        self.asked = asked


@dataclass
class _Pending:
    answer: asyncio.Future[Frame]
    since: float
    judged: bool


class WorkerHandle:
    """A process that runs :mod:`evodiff.deployment.worker.process`, started by :meth:`start`."""

    def __init__(self, process: asyncio.subprocess.Process, writer: asyncio.StreamWriter, log: Any) -> None:
        self._process = process
        self._writer = writer
        self._log = log
        self._pending: dict[str, _Pending] = {}
        self._loaded: asyncio.Future[Frame] | None = None
        self._listening: asyncio.Task[None] | None = None
        self.heard_at = time.monotonic()
        self.died = asyncio.Event()
        self.ready = False

    @classmethod
    async def start(cls) -> WorkerHandle:
        """Start a process that waits for a version to load."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the worker
        with theirs:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                BOOTSTRAP,
                json.dumps(sys.path),
                str(theirs.fileno()),
                str(os.getpid()),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **dict.fromkeys(_ONE_THREAD, "1")},
                pass_fds=(theirs.fileno(),),
            )
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        handle = cls(process, writer, log)
        handle._listening = asyncio.create_task(handle._listen(reader))
        return handle

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    @property
    def holds(self) -> int:
        """How many requests it holds."""
        return len(self._pending)

    def in_flight_seconds(self, *, judged: bool = False) -> tuple[float, ...]:
        """Return how long each request that it holds has waited so far, or each of those that it is judged by."""
        now = time.monotonic()
        return tuple(now - pending.since for pending in self._pending.values() if pending.judged or not judged)

    def rss_bytes(self) -> int:
        """Return the process's resident memory, 0 where it is gone."""
        try:
            return int(psutil.Process(self.pid).memory_info().rss)
        except psutil.Error:
            return 0

    async def load(self, header: Mapping[str, Any], seconds: float) -> Frame:
        """Have a version loaded and tested.

        Raises:
            SmokeTestFailure: it was refused, or ended the process.
            LoadingFailed: it took too long, or the process was asked to end before it could refuse.
        """
        self._loaded = asyncio.get_running_loop().create_future()
        self._write(Frame({"kind": "load", **header}))
        try:
            async with asyncio.timeout(seconds):
                answer = await self._loaded
        except TimeoutError as error:
            raise LoadingFailed(
                f"Smoke test: expected an answer in {seconds:g} s, found none then.",
                remedy="Load it when the machine is less busy, or raise EVODIFF_SERVE_LOAD_SECONDS.",
            ) from error
        except WorkerDied as error:
            what = f"Smoke test: the process ended while it loaded: {error}"
            if error.asked:
                raise LoadingFailed(what, remedy="Load the version again.") from error
            raise SmokeTestFailure(what, remedy="Release another version.") from error
        if answer.header["kind"] == "refused":
            raise SmokeTestFailure(answer.header["headline"], remedy=answer.header["remedy"])
        self.ready = True
        return answer

    async def generate(self, identifier: str, header: Mapping[str, Any], *, judged: bool = True) -> Frame:
        """Have images generated; cancelling this call takes the request back.

        ``judged`` says that how long it takes speaks for or against the version.

        Raises:
            WorkerDied: the process ended before it answered.
        """
        if self.died.is_set():
            raise WorkerDied("it had ended before")
        pending = _Pending(asyncio.get_running_loop().create_future(), time.monotonic(), judged)
        if not self._pending:
            self.heard_at = pending.since
        self._pending[identifier] = pending
        try:
            self._write(Frame({"kind": "generate", "id": identifier, **header}))
            return await pending.answer
        except asyncio.CancelledError:
            self._write(Frame({"kind": "cancel", "id": identifier}))
            raise
        finally:
            self._pending.pop(identifier, None)

    def kill(self) -> None:
        """End the process at once."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def close(self) -> None:
        """End the process, and leave no zombie."""
        self.ready = False
        self._writer.close()  # the worker ends when it sees this
        try:
            async with asyncio.timeout(_GRACE_SECONDS):
                await self._process.wait()
        except TimeoutError:
            self.kill()
            await self._process.wait()
        if self._listening is not None:
            await self._listening
        self._log.close()

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        try:
            while True:
                self._take(await read_frame(reader))
        except (asyncio.IncompleteReadError, OSError):
            pass
        except (FrameError, KeyError) as error:
            self._log.write(f"\n{error}".encode())
        self.ready = False
        self.kill()  # one that closed its socket, or sends what is no frame, is of no use
        code = await self._process.wait()
        self._end(WorkerDied(self._how_it_ended(code), asked=-code in (signal.SIGINT, signal.SIGTERM)))

    def _take(self, frame: Frame) -> None:
        self.heard_at = time.monotonic()
        if frame.header["kind"] == "alive":
            return
        if frame.header["kind"] != "done":
            if self._loaded is not None and not self._loaded.done():
                self._loaded.set_result(frame)
            return
        pending = self._pending.get(frame.header["id"])
        if pending is not None and not pending.answer.done():
            pending.answer.set_result(frame)

    def _end(self, death: WorkerDied) -> None:
        self.died.set()
        waiting = [pending.answer for pending in self._pending.values()]
        for answer in [*waiting, *([self._loaded] if self._loaded is not None else [])]:
            if not answer.done():
                answer.set_exception(death)

    def _write(self, frame: Frame) -> None:
        if not self.died.is_set():
            self._writer.write(encode(frame))

    def _how_it_ended(self, code: int) -> str:
        how = f"killed by signal {-code} ({signal.Signals(-code).name})" if code < 0 else f"exit code {code}"
        size = os.fstat(self._log.fileno()).st_size
        tail = os.pread(self._log.fileno(), _LOG_TAIL_BYTES, max(0, size - _LOG_TAIL_BYTES))
        printed = tail.decode(errors="replace").strip()
        return f"{how}; it had printed: {printed}" if printed else how
