"""The life of a worker process: it runs one task after another, until the pool's end of its pipe closes.

The pool starts it as a fresh interpreter that imports nothing of the parent's main module, so it is the same whether
the parent is the command line, pytest, a notebook, or a program read from standard input.
"""

from __future__ import annotations

import faulthandler
import importlib
import os
import queue
import re
import signal
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

from evodiff.errors import EvodiffError, Interrupted, InvalidGenome, TrialFailure
from evodiff.workers.context import WorkerContext
from evodiff.workers.device import choose_device
from evodiff.workers.memory import is_out_of_memory, limit_device_memory, limit_memory, volunteer_for_the_oom_killer
from evodiff.workers.messages import MessageReader, encode, write

# Run by ``python -c``: the module path comes first, for this very package may only be found by it.
BOOTSTRAP = (
    "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); "
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from evodiff.workers.process import main; main(int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))"
)

_PARENT_CHECK_SECONDS = 2.0
_ADDRESS = re.compile(r"0x[0-9a-fA-F]+")
_SHOWN_FRAMES = 4


def main(commands: int, answers: int, parent: int) -> None:
    """Serve the pool whose process id is ``parent``: read ``commands``, write ``answers`` (both file descriptors)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the pool's affair; it asks the tasks to stop
    faulthandler.enable()
    channel = _Channel(commands, answers)
    threading.Thread(target=channel.listen, name="listen", daemon=True).start()
    threading.Thread(target=_end_with, args=(parent,), name="end-with-parent", daemon=True).start()
    setup = channel.inbox.get()
    try:
        device = _prepare(setup)
    except EvodiffError as error:
        channel.send({"kind": "broken", **_telling(error)})
        return
    except Exception as error:
        channel.send({"kind": "broken", "headline": f"A worker cannot start: {_describe(error)}", "remedy": ""})
        return
    channel.send({"kind": "ready", "device": device})
    context = WorkerContext(device, channel.report, channel.stop.is_set)
    while True:
        task = channel.inbox.get()
        channel.write(_answer(task, context))


class _Channel:
    """The worker's end of its two pipes."""

    def __init__(self, commands: int, answers: int) -> None:
        self.inbox: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self.stop = threading.Event()
        self._reader = MessageReader(commands)
        self._answers = answers
        self._writing = threading.Lock()

    def listen(self) -> None:
        """Sort what arrives, and end the process, task or no task, when the pool is gone."""
        try:
            while self._reader.read():
                while (message := self._reader.next_waiting()) is not None:
                    if message["kind"] == "stop":
                        self.stop.set()
                    else:
                        self.inbox.put(message)
        finally:
            os._exit(0)

    def send(self, message: dict[str, Any]) -> None:
        """Write one message, from any thread."""
        self.write(encode(message))

    def write(self, line: bytes) -> None:
        """Write an encoded message, from any thread."""
        with self._writing:
            write(self._answers, line)

    def report(self, data: dict[str, Any]) -> None:
        """Send progress."""
        self.send({"kind": "progress", "data": data})


def _end_with(parent: int) -> None:
    """End when the parent dies, even if something else still holds the pool's end of the pipe."""
    pause = threading.Event()
    while os.getppid() == parent:
        pause.wait(_PARENT_CHECK_SECONDS)
    os._exit(0)


def _prepare(setup: dict[str, Any]) -> str:
    volunteer_for_the_oom_killer()
    for module in setup["preload"]:
        importlib.import_module(module)
    device = choose_device(setup["device"])
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)  # one imported later learns it from OMP_NUM_THREADS
    limit_device_memory(device, setup["device_memory_share"])
    if setup["memory_limit_mb"] is not None and device == "cpu":  # drivers of accelerators reserve what they never use
        limit_memory(setup["memory_limit_mb"])
    return device


def _answer(task: dict[str, Any], context: WorkerContext) -> bytes:
    """Run a task and return the line that says what came of it."""
    try:
        return encode({"kind": "value", "value": _call(task, context)})
    except Interrupted:
        return encode({"kind": "interrupted"})
    except TrialFailure as failure:
        return _failure(failure.cause, failure.detail, "own")
    except (Exception, SystemExit) as error:
        if isinstance(error, EvodiffError) and not isinstance(error, InvalidGenome):  # not about this one trial
            return encode({"kind": "refusal", **_telling(error)})
        if is_out_of_memory(error):
            return _failure("out_of_memory", _describe(error), "environment")
        if isinstance(error, OSError):  # the disk's fault, not the candidate's
            return _failure("storage", _describe(error), "environment")
        return _failure(f"error: {type(error).__name__}", _describe(error), "own")


def _call(task: dict[str, Any], context: WorkerContext) -> dict[str, Any]:
    module, _, name = task["function"].partition(":")
    function = getattr(importlib.import_module(module), name)
    value = function(task["payload"], context)
    if not isinstance(value, dict):
        raise TypeError(f"{task['function']} must return a dictionary, returned {type(value).__name__}")
    return value


def _telling(error: EvodiffError) -> dict[str, str]:
    return {"error": type(error).__name__, "headline": error.headline, "remedy": error.remedy}


def _failure(cause: str, detail: str, kind: str) -> bytes:
    return encode({"kind": "failure", "cause": cause, "detail": detail, "failure_kind": kind})


def _describe(error: BaseException) -> str:
    """Say what was raised and where, without what differs between machines: folders and addresses."""
    frames = traceback.extract_tb(error.__traceback__)[-_SHOWN_FRAMES:]
    places = " > ".join(f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames)
    message = _ADDRESS.sub("0x...", str(error))[:1000]
    return f"{type(error).__name__}: {message} ({places})" if places else f"{type(error).__name__}: {message}"
