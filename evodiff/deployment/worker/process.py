"""The life of a model worker: it loads one version, then answers requests until its socket closes.

The main thread reads frames, one thread computes, and a third loads. Niceness is a property of threads on Linux, so the
computing thread is nicer than what reads and than the router, and the loading one nicer still; no right to raise a
priority is needed. Elsewhere the whole process is as nice as the computing thread.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evodiff.deployment.worker.batching import Batcher, Job
from evodiff.deployment.worker.frames import Frame, FrameError, encode, receive_frame
from evodiff.errors import EvodiffError
from evodiff.workers.memory import limit_memory, volunteer_for_the_oom_killer

if TYPE_CHECKING:
    from evodiff.deployment.worker.served_network import ServedNetwork

# Run by ``python -c``: the module path comes first, for this very package may only be found by it.
BOOTSTRAP = (
    "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from evodiff.deployment.worker.process import main; main(int(sys.argv[2]), int(sys.argv[3]))"
)

_PARENT_CHECK_SECONDS = 2.0
_NICENESS = 5  # of what computes, beside the router's own
_SWITCH_SECONDS = 0.0005  # until a thread that computes gives way to the one that reads; Python's own is 5 ms
_ALIVE_SECONDS = 1.0  # between two words of being alive


def main(descriptor: int, parent: int) -> None:
    """Serve the router whose process id is ``parent`` over a connected Unix socket.

    It computes a little less urgently than the router works, which takes milliseconds for a request: they would
    otherwise wait behind the whole time slices of workers that compute.
    """
    if sys.platform != "linux":
        os.nice(_NICENESS)
    sys.setswitchinterval(_SWITCH_SECONDS)
    for number in (signal.SIGINT, signal.SIGTERM):  # the router's affair, also where a whole group is asked to end
        signal.signal(number, signal.SIG_IGN)  # it lets requests finish, then closes the socket
    faulthandler.enable()
    volunteer_for_the_oom_killer()
    threading.Thread(target=_end_with, args=(parent,), name="end-with-parent", daemon=True).start()
    try:
        ModelWorker(socket.socket(fileno=descriptor)).run()
    finally:
        os._exit(0)  # whatever is being computed: nobody is there to read it


class ModelWorker:
    """One end of the socket, the requests that wait, and the version that answers them."""

    def __init__(self, peer: socket.socket) -> None:
        self._peer = peer
        self._writing = threading.Lock()
        self._waiting = threading.Condition()
        self._batcher = Batcher(1)
        self._network: ServedNetwork | None = None
        self._told = 0.0

    def run(self) -> None:
        """Read frames until the router is gone."""
        threading.Thread(target=self._compute, name="compute", daemon=True).start()
        while (frame := receive_frame(self._peer)) is not None:
            kind = frame.header.get("kind")
            if kind == "generate":
                with self._waiting:
                    self._batcher.add(Job.from_header(frame.header, time.monotonic()))
                    self._waiting.notify()
            elif kind == "cancel":
                with self._waiting:
                    self._batcher.remove(frame.header["id"])
            elif kind == "load":
                threading.Thread(target=self._load, args=(frame.header,), name="load", daemon=True).start()
            else:
                raise FrameError(f"Frame: expected generate, cancel or load, found {kind!r}.")

    def _load(self, header: dict[str, Any]) -> None:
        _be_nice(_NICENESS + header["niceness"])
        try:
            frame = self._loaded(header)
        except EvodiffError as error:
            frame = Frame({"kind": "refused", "headline": error.headline, "remedy": error.remedy})
        except Exception as error:
            frame = Frame({"kind": "refused", "headline": f"{type(error).__name__}: {error}"[:500], "remedy": ""})
        self._send(frame)

    def _loaded(self, header: dict[str, Any]) -> Frame:
        from evodiff.deployment.worker.model_checks import check_model_folder

        folder, limit = Path(header["folder"]), header["max_memory_mb"]
        model = check_model_folder(folder, max_bytes=header["max_model_bytes"], digest=header["digest"])
        import torch

        from evodiff.deployment.worker.served_network import ServedNetwork
        from evodiff.deployment.worker.smoke import smoke_test

        torch.set_num_threads(1)
        if limit is not None:
            limit_memory(limit)
        network = ServedNetwork.load(model)
        report, body = smoke_test(network, max_batch=header["max_batch"], images=header["smoke_images"])
        with self._waiting:
            self._batcher.max_images = header["max_batch"]
            self._network = network
            self._waiting.notify()
        return Frame({"kind": "loaded", "digest": model.digest, **report}, body)

    def _compute(self) -> None:
        _be_nice(_NICENESS)
        while True:
            with self._waiting:
                self._waiting.wait_for(lambda: self._network is not None and len(self._batcher) > 0)
                late = self._batcher.expired(time.monotonic())
                batch = self._batcher.next_batch()
            for job in late:
                self._send(Frame({"kind": "done", "id": job.id, "status": "expired"}))
            if batch:
                self._answer(batch)

    def _answer(self, batch: list[tuple[Job, int]]) -> None:
        from evodiff.deployment.worker.answers import answer, compute

        assert self._network is not None
        jobs, answered = {job.id: job for job, _ in batch}, set[str]()
        try:
            compute(self._network, batch, self._tell_alive)
            for job in jobs.values():
                if len(job.images) == job.count:
                    self._send(answer(job))  # at once: the next one is encoded while this one is on its way
                    answered.add(job.id)
            os.sched_yield()  # to the router, which this has woken, and which may wait for this very core
        except Exception as error:  # a fault of this version: told, and the worker goes on
            failed = [identifier for identifier in jobs if identifier not in answered]
            with self._waiting:
                for identifier in failed:
                    self._batcher.remove(identifier)
            detail = f"{type(error).__name__}: {error}"[:300]
            for identifier in failed:
                self._send(Frame({"kind": "done", "id": identifier, "status": "failed", "detail": detail}))

    def _tell_alive(self) -> None:
        """Have the router know that something is being computed, however long it takes."""
        if time.monotonic() - self._told > _ALIVE_SECONDS:
            self._told = time.monotonic()
            self._send(Frame({"kind": "alive"}))

    def _send(self, frame: Frame) -> None:
        with self._writing:
            try:
                self._peer.sendall(encode(frame))
            except OSError:
                os._exit(0)  # the router is gone


def _be_nice(more: int) -> None:
    """Make this thread so much nicer than the one that started it."""
    if sys.platform == "linux":
        os.nice(more)


def _end_with(parent: int) -> None:
    """End when the router dies, even if something else still holds its end of the socket."""
    pause = threading.Event()
    while os.getppid() == parent:
        pause.wait(_PARENT_CHECK_SECONDS)
    os._exit(0)
