"""What the tests of the pool have its workers do."""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evodiff import errors
from evodiff.errors import Interrupted, TrialFailure

if TYPE_CHECKING:
    from evodiff.workers import WorkerContext

PAUSE_SECONDS = 0.01

Payload = dict[str, Any]


def echo(payload: Payload, context: WorkerContext) -> dict[str, Any]:
    return {"payload": payload, "process": os.getpid(), "device": context.device}


def surroundings(payload: Payload, context: WorkerContext) -> dict[str, Any]:
    import torch

    return {
        "threads": torch.get_num_threads(),
        "main": sys.modules["__main__"].__dict__.get("__file__"),
        "modules": sorted(set(payload["modules"]) & set(sys.modules)),
        "interrupts_ignored": signal.getsignal(signal.SIGINT) is signal.SIG_IGN,
    }


def modules_at_start(payload: Payload, context: WorkerContext) -> dict[str, Any]:
    return {"modules": sorted(set(payload["modules"]) & set(sys.modules))}


def own_failure(payload: Payload, context: WorkerContext) -> dict[str, Any]:
    raise TrialFailure("non_finite_loss", "the loss of step 3 is nan")


def programming_error(payload: Payload, context: WorkerContext) -> dict[str, Any]:
    raise KeyError(f"missing at {object()}")


def not_json(payload: Payload, context: WorkerContext) -> dict[str, Any]:
    return {"value": float("nan")}


def full_disk(payload: Payload, context: WorkerContext) -> dict[str, Any]:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def refuse(payload: Payload, context: WorkerContext) -> dict[str, Any]:
    raise getattr(errors, payload["error"])("That cannot be used.", remedy="Mend it.")


def invalid_genome(payload: Payload, context: WorkerContext) -> dict[str, Any]:
    raise errors.InvalidGenome("A layer", where="layers.0", expected="one", found="none", remedy="Write one.")


def exit_at_once(payload: Payload, context: WorkerContext) -> dict[str, Any]:
    print("last words", flush=True)
    os._exit(int(payload["code"]))


def signal_itself(payload: Payload, context: WorkerContext) -> dict[str, Any]:
    os.kill(os.getpid(), int(payload["signal"]))
    threading.Event().wait()
    return {}


def die_while_answering(payload: Payload, context: WorkerContext) -> dict[str, Any]:
    answers = int(sys.argv[3])
    os.write(answers, b'{"kind":"value","value":{"half":')
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


def take_memory(payload: Payload, context: WorkerContext) -> dict[str, Any]:
    return {"taken": len(bytearray(int(payload["megabytes"]) << 20))}


def take_torch_memory(payload: Payload, context: WorkerContext) -> dict[str, Any]:
    import torch

    return {"taken": torch.empty(1 << 50, dtype=torch.uint8).numel()}


def fail_as_onednn_without_memory(payload: Payload, context: WorkerContext) -> dict[str, Any]:
    raise RuntimeError("could not create a primitive")


def run_for_ever(payload: Payload, context: WorkerContext) -> dict[str, Any]:
    context.report({"started": os.getpid()})
    while True:
        time.sleep(PAUSE_SECONDS)


def run_until_stopped(payload: Payload, context: WorkerContext) -> dict[str, Any]:
    context.report({"started": os.getpid()})
    while not context.should_stop():
        time.sleep(PAUSE_SECONDS)
    if "checkpoint" in payload:
        Path(payload["checkpoint"]).write_text("done so far")
    raise Interrupted("Stopped.", remedy="Go on.")


def count(payload: Payload, context: WorkerContext) -> dict[str, Any]:
    for number in range(int(payload["to"])):
        context.report({"number": number})
    return {"sum": sum(range(int(payload["to"])))}


def meet(payload: Payload, context: WorkerContext) -> dict[str, Any]:
    """Return once as many tasks as ``expected`` run at the same time."""
    folder = Path(payload["folder"])
    (folder / payload["mark"]).touch()
    while len(list(folder.iterdir())) < payload["expected"]:
        time.sleep(PAUSE_SECONDS)
    return {"process": os.getpid()}
