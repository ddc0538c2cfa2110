"""Workers under every kind of parent program, and what becomes of them when the parent ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

HERE = Path(__file__).parent
DEADLINE_SECONDS = 60.0
PAUSE_SECONDS = 0.02

# A program without the guard `if __name__ == "__main__"`, as a notebook or a beginner has it.
PROGRAM = f"""
import sys
sys.path.insert(0, {str(HERE)!r})
from evodiff.workers import Task, WorkerPool
with WorkerPool(2, device="cpu") as pool:
    for outcome in pool.run([Task("a", "worker_tasks:count", {{"to": 4}}, 1.0)]):
        print(outcome.value)
"""

LONG_PROGRAM = f"""
import signal, sys
sys.path.insert(0, {str(HERE)!r})
from evodiff.workers import Task, WorkerPool
tasks = [Task(name, "worker_tasks:FUNCTION", {{}}, 1.0) for name in "ab"]
with WorkerPool(2, device="cpu") as pool:
    signal.signal(signal.SIGINT, lambda *_: pool.request_stop())
    for outcome in pool.run(tasks, on_progress=lambda name, data: print(data["started"], flush=True)):
        print(outcome.id, "interrupted" if outcome.interrupted else outcome, flush=True)
"""


def alive(process_id: int) -> bool:
    try:
        return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def start(program: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, start_new_session=True)


@pytest.mark.parametrize("way", ["standard input", "command", "file", "script without suffix"])
def test_a_program_needs_no_main_guard(way: str, tmp_path: Path) -> None:
    arguments, given = [sys.executable, "-"], None
    if way == "standard input":
        given = PROGRAM
    elif way == "command":
        arguments = [sys.executable, "-c", PROGRAM]
    else:
        file = tmp_path / ("program.py" if way == "file" else "program")
        file.write_text(PROGRAM)
        arguments = [sys.executable, str(file)]
    done = subprocess.run(arguments, input=given, capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=True)
    assert done.stdout == "{'sum': 6}\n"
    assert done.stderr == ""


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks processes up in /proc")
def test_workers_end_when_their_parent_is_killed() -> None:
    with start(LONG_PROGRAM.replace("FUNCTION", "run_for_ever")) as parent:
        assert parent.stdout is not None
        workers = [int(parent.stdout.readline()) for _ in range(2)]
        assert all(alive(worker) for worker in workers)
        parent.kill()
    deadline = time.monotonic() + DEADLINE_SECONDS
    while any(alive(worker) for worker in workers):
        assert time.monotonic() < deadline, "workers outlived their parent"
        time.sleep(PAUSE_SECONDS)


def test_ctrl_c_reaches_the_tasks_as_a_wish_to_stop() -> None:
    with start(LONG_PROGRAM.replace("FUNCTION", "run_until_stopped")) as parent:
        assert parent.stdout is not None
        for _ in range(2):
            parent.stdout.readline()
        os.killpg(parent.pid, signal.SIGINT)  # a terminal sends it to the workers as well
        lines, _ = parent.communicate(timeout=DEADLINE_SECONDS)
    assert sorted(lines.splitlines()) == ["a interrupted", "b interrupted"]
    assert parent.returncode == 0
