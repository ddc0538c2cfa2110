"""The page of comparisons as a person with a phone sees it: a vote by touch and one by key, in a real browser."""

from __future__ import annotations

import base64
import itertools
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvicorn
from websockets.sync.client import ClientConnection, connect

sys.path.insert(0, str(Path(__file__).parents[1] / "deployment"))
from feedback_app import create_app

from evodiff.deployment.feedback.gallery import write_gallery
from evodiff.deployment.feedback.store import FeedbackStore
from evodiff.deployment.feedback.votes import VoteKind

pytestmark = pytest.mark.e2e

WIDTH, HEIGHT = 390, 844  # of a phone, in CSS pixels
SMALLEST_TARGET = 44
PATIENCE_SECONDS = 60.0


@pytest.fixture(scope="module")
def chromium() -> str:
    """Path of a Chromium; without one tests are skipped, in CI they fail."""
    names = ("chromium", "google-chrome", "chromium-browser")
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found is None:
        if os.environ.get("EVODIFF_REQUIRE_SERVERS") == "1":
            pytest.fail("Chromium is missing; install it (Debian: apt-get install chromium)")
        pytest.skip("Chromium is not installed")
    return found


class Tab:
    """One page of a browser, by the DevTools protocol."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self.events: list[dict[str, Any]] = []

    def do(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(timeout=PATIENCE_SECONDS))
            if message.get("id") == number:
                assert "error" not in message, message
                result: dict[str, Any] = message["result"]
                return result
            self.events.append(message)

    def ask(self, expression: str) -> Any:
        found = self.do("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait_for(self, condition: str) -> None:
        waiting = f"""new Promise((resolve) => {{
            const look = () => ({condition}) ? resolve(true) : setTimeout(look, 20);
            setTimeout(() => resolve(false), {PATIENCE_SECONDS * 1000 - 5000});
            look();
        }})"""
        assert self.ask(waiting), (condition, self.ask("document.body.innerText"))

    def touch(self, selector: str) -> None:
        box = self.ask(
            f"(() => {{const b = document.querySelector('{selector}').getBoundingClientRect();"
            " return [b.x + b.width / 2, b.y + b.height / 2]})()"
        )
        self.do("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": box[0], "y": box[1]}])
        self.do("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    def press(self, key: str, code: int) -> None:
        for kind in ("rawKeyDown", "keyUp"):
            self.do("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)

    def complaints(self) -> list[dict[str, Any]]:
        kinds = ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled")
        return [event for event in self.events if event.get("method") in kinds]


@pytest.fixture
def tab(chromium: str, tmp_path: Path) -> Iterator[Tab]:
    profile = tmp_path / "profile"
    browser = subprocess.Popen(
        [
            chromium,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--remote-debugging-port=0",
            f"--user-data-dir={profile}",
            f"--window-size={WIDTH},{HEIGHT}",
            "about:blank",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        port = _eventually(lambda: (profile / "DevToolsActivePort").read_text().splitlines()[0])
        with connect(_eventually(lambda: _page_address(port)), max_size=2**25) as socket:
            page = Tab(socket)
            for domain in ("Page", "Runtime", "Log", "Network"):
                page.do(f"{domain}.enable")
            page.do("Emulation.setDeviceMetricsOverride", width=WIDTH, height=HEIGHT, deviceScaleFactor=2, mobile=True)
            page.do("Emulation.setTouchEmulationEnabled", enabled=True)
            yield page
    finally:
        browser.terminate()
        browser.wait(timeout=PATIENCE_SECONDS)


def _page_address(port: str) -> str:
    from urllib.request import urlopen

    with urlopen(f"http://127.0.0.1:{port}/json/list", timeout=PATIENCE_SECONDS) as answer:
        pages = [item for item in json.load(answer) if item["type"] == "page"]
    return str(pages[0]["webSocketDebuggerUrl"])


def _eventually(look: Callable[[], str]) -> str:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return look()
        except (OSError, IndexError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


@pytest.fixture
def store(tmp_path: Path) -> FeedbackStore:
    return FeedbackStore(tmp_path / "feedback.sqlite")


@pytest.fixture
def service(store: FeedbackStore, tmp_path: Path) -> Iterator[str]:
    """The address of a service whose two versions drew rings and stripes."""
    across = np.arange(16)
    stripes = np.broadcast_to(127 + 120 * np.sin(across), (16, 16))
    rings = 127 + 120 * np.sin(np.hypot(across[:, None] - 7.5, across[None] - 7.5))
    for candidate, pattern in (("stripes", stripes), ("rings", rings)):
        images = np.stack([np.roll(pattern, seed, axis=0) for seed in range(6)]).astype(np.uint8)[..., None]
        write_gallery(
            tmp_path / "g", {"run": "run", "candidate": candidate}, images, range(6), [s % 3 for s in range(6)]
        )
    server = uvicorn.Server(
        uvicorn.Config(create_app(store, tmp_path / "g", champion="run/rings"), port=0, log_level="error")
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield _eventually(
            lambda: f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}" if server.started else [][0]
        )
    finally:
        server.should_exit = True
        thread.join(timeout=PATIENCE_SECONDS)


READY = "document.getElementById('left').getAttribute('aria-disabled') === 'false'"


def test_votes_by_touch_and_by_key_are_kept_once_each_on_a_phone(
    tab: Tab, service: str, store: FeedbackStore, tmp_path: Path
) -> None:
    tab.do("Page.navigate", url=f"{service}/rate")
    tab.wait_for(f"document.readyState === 'complete' && {READY}")
    assert tab.ask("document.getElementById('status').textContent") == "Choose one."
    assert tab.ask("document.documentElement.scrollWidth") <= WIDTH
    assert tab.ask("document.documentElement.scrollHeight") <= HEIGHT
    sizes = tab.ask(
        "[...document.querySelectorAll('button')].map((b) => [b.getBoundingClientRect().width,"
        " b.getBoundingClientRect().height])"
    )
    assert len(sizes) == 3
    assert all(min(size) >= SMALLEST_TARGET for size in sizes)
    assert tab.ask("[...document.images].every((i) => i.naturalWidth === 16)")
    _picture(tab, "rate-page.png", tmp_path)

    tab.touch("#left")
    tab.wait_for(f"document.getElementById('status').textContent.includes('1 vote ') && {READY}")
    tab.press("ArrowRight", 39)
    tab.wait_for(f"document.getElementById('status').textContent.includes('2 votes') && {READY}")
    tab.press("ArrowDown", 40)
    tab.wait_for(f"document.getElementById('status').textContent.includes('3 votes') && {READY}")
    found = store.votes()
    assert [vote.value for vote in found] == [1.0, 0.0, 0.5]
    assert all(vote.kind is VoteKind.COMPARISON for vote in found)
    assert all({vote.version, vote.other} == {"run/rings", "run/stripes"} for vote in found)
    assert len({vote.rater for vote in found}) == 1
    assert len({vote.subject for vote in found}) == 3
    assert tab.complaints() == []
    asked = [
        event["params"]["request"]["url"] for event in tab.events if event["method"] == "Network.requestWillBeSent"
    ]
    assert asked
    assert all(url.startswith(service) for url in asked)


def test_a_second_touch_while_a_vote_is_under_way_is_no_second_vote(
    tab: Tab, service: str, store: FeedbackStore
) -> None:
    tab.do("Page.navigate", url=f"{service}/rate")
    tab.wait_for(f"document.readyState === 'complete' && {READY}")
    tab.ask("for (const side of ['left', 'right', 'tie', 'left']) document.getElementById(side).click()")
    tab.wait_for(f"document.getElementById('status').textContent.includes('1 vote ') && {READY}")
    assert [vote.value for vote in store.votes()] == [1.0]


def test_the_page_can_be_used_without_seeing_it(tab: Tab, service: str) -> None:
    tab.do("Page.navigate", url=f"{service}/rate")
    tab.wait_for(f"document.readyState === 'complete' && {READY}")
    nodes = tab.do("Accessibility.getFullAXTree")["nodes"]
    found = {
        (node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if not node.get("ignored")
    }
    assert ("heading", "Which picture is better?") in found
    assert {name for role, name in found if role == "button"} == {
        "Left picture Left",
        "Right picture Right",
        "Equally good",
    }
    assert any(role == "status" for role, _ in found)
    assert tab.ask("document.documentElement.lang") == "en"
    for expected in ("left", "right", "tie"):
        tab.press("Tab", 9)
        assert tab.ask("document.activeElement.id") == expected
    tab.ask("document.getElementById('right').click()")
    tab.wait_for(f"document.getElementById('status').textContent.includes('1 vote ') && {READY}")
    assert tab.ask("document.activeElement.id") == "tie"  # where it was: the next vote needs no search
    tab.press("ArrowLeft", 37)
    tab.wait_for(f"document.getElementById('status').textContent.includes('2 votes') && {READY}")


def _picture(tab: Tab, name: str, folder: Path) -> None:
    """Keep what the browser shows, for a person to look at."""
    place = Path(os.environ.get("SCREENSHOTS_FOLDER", folder))
    place.mkdir(parents=True, exist_ok=True)
    (place / name).write_bytes(base64.b64decode(tab.do("Page.captureScreenshot")["data"]))
