"""The load of the story: every answer is counted, and nothing that was lost passes for one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest

from evodiff.local.load import Counts, Load, make_tokens
from evodiff.local.neighbours import noisy_neighbours
from evodiff.local.stack import wait_for
from evodiff.local.told import AnsweredAlert, Told

PNG = "iVBORw0KGgoAAAANSUhEUg=="
ANSWERS = {0: (200, PNG), 1: (429, PNG), 2: (200, "no image"), 3: (500, PNG), 4: (None, PNG)}


class Router(ThreadingHTTPServer):
    """Answers well, refuses, fails, or hangs up, by the seed that is asked for."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        self.ratings: list[int] = []
        super().__init__(("127.0.0.1", 0), Handler)


class Handler(BaseHTTPRequestHandler):
    """Answers for :class:`Router`."""

    protocol_version = "HTTP/1.1"
    server: Router

    def do_POST(self) -> None:
        """Answer by the seed; keep what is rated."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/v1/feedback":
            self.server.ratings.append(body["rating"])
            return self._answer(201, {})
        self.server.seen[self.headers["Authorization"]] += 1
        status, png = ANSWERS[body["seed"] % len(ANSWERS)]
        if status is None:
            self.close_connection = True
            return None
        return self._answer(status, {"images": [{"seed": body["seed"], "png": png}]})

    def _answer(self, status: int, found: object) -> None:
        content = json.dumps(found).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("X-Model-Version", "run/abc")
        self.send_header("X-Request-Id", "signed")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def router() -> Iterator[Router]:
    server = Router()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_only_answers_with_an_image_count_and_each_client_has_its_turn(router: Router) -> None:
    tokens = [f"token-{number}" for number in range(5)]
    with Load(f"http://127.0.0.1:{router.server_port}", tokens, rate=200, steps=2, rate_every=1) as load:
        wait_for("some requests of each kind", lambda: load.counts.sent >= 50)
        load.pause()
    counts = load.counts
    kinds = Counter(number % len(ANSWERS) for number in range(counts.sent))
    assert counts.answered == {"run/abc": kinds[0]}
    assert counts.lost["status 429"] == kinds[1]
    assert counts.lost["no image"] == kinds[2]
    assert counts.lost["status 500"] == kinds[3]
    assert counts.lost.total() == counts.sent - kinds[0]  # those that were hung up on are lost, too
    assert counts.ratings == {"kept": kinds[0]}
    assert set(router.ratings) <= {4, 5}
    assert set(router.seen) == {f"Bearer {token}" for token in tokens}
    assert len(counts.seconds) == kinds[0]


def test_tokens_are_made_once_for_the_owner_alone(tmp_path: Path) -> None:
    tokens = make_tokens(tmp_path / "secrets", 3)
    assert len(set(tokens)) == 4
    assert make_tokens(tmp_path / "secrets", 3) == tokens
    file = tmp_path / "secrets" / "tokens.json"
    assert file.stat().st_mode & 0o077 == 0
    assert [entry["scopes"] for entry in json.loads(file.read_text())] == [["use", "release"], *[["use"]] * 3]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="processes cannot be kept on a core here")
def test_neighbours_share_one_core_with_a_process_and_are_gone_afterwards() -> None:
    process = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE)
    try:
        before = os.sched_getaffinity(process.pid)
        with noisy_neighbours([process.pid], count=2, seconds=30):
            (core,) = os.sched_getaffinity(process.pid)
            burning = [one for one in psutil.Process().children(recursive=True) if one.pid != process.pid]
            wait_for("both compute", lambda: len(psutil.Process(burning[0].pid).children()) == 1, every=0.05)
            burning = [one for one in psutil.Process().children(recursive=True) if one.pid != process.pid]
            assert [os.sched_getaffinity(one.pid) for one in burning] == [{core}, {core}]
        assert os.sched_getaffinity(process.pid) == before
        assert psutil.wait_procs(burning, timeout=30)[1] == []
    finally:
        process.communicate(b"\n")


def test_a_story_that_went_wrong_says_so() -> None:
    def told() -> Told:
        alerts = [AnsweredAlert("A", "a@1", "r1", (2,), None), AnsweredAlert("B", "b@1", "r2", (3,), 2)]
        answered = Counter({"stock/a": 1, "story/b": 2, "slow/c": 1})
        found = Told("stock/a", "story/b", "slow/c", alerts=alerts, ended="done", counts=Counts(answered=answered))
        assert found.problems() == []
        return found

    for change, word in {
        lambda found: found.counts.lost.update(["status 503"]): "503",
        lambda found: found.counts.ratings.update(["lost"]): "ratings",
        lambda found: found.counts.answered.pop("slow/c"): "slow/c",
        lambda found: found.alerts.append(AnsweredAlert("A", "a@1", "r3", (4,), None)): "a@1 has 2",
        lambda found: found.alerts.append(AnsweredAlert("C", "c@1", "r4", (4, 5), None)): "(4, 5)",
        lambda found: found.alerts.append(AnsweredAlert("C", "c@1", "r4", (), None)): "()",
        lambda found: found.alerts.insert(1, AnsweredAlert("C", "c@1", "r4", (3,), None)): "during generation None",
        lambda found: setattr(found, "ended", ""): "had not ended",
    }.items():
        wrong = told()
        change(wrong)
        (problem,) = wrong.problems()
        assert word in problem
        assert wrong.facts()
