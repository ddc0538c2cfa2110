"""The page of blind comparisons, by its routes: who can vote on what, and what goes out."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient
from feedback_app import TextSigner, create_app, draw_gallery

from evodiff.deployment.feedback.gallery import read_galleries
from evodiff.deployment.feedback.rate_page import COOKIE, draw_pair
from evodiff.deployment.feedback.store import FeedbackStore, StoreLimits
from evodiff.deployment.web.pace import Pace


@pytest.fixture
def store(tmp_path: Path) -> FeedbackStore:
    return FeedbackStore(tmp_path / "feedback.sqlite", StoreLimits(votes_a_day=6))


@pytest.fixture
def galleries(tmp_path: Path) -> Path:
    folder = tmp_path / "galleries"
    for candidate, grey in (("a", 50), ("b", 100), ("c", 150)):
        draw_gallery(folder, candidate, grey)
    return folder


@pytest.fixture
def client(store: FeedbackStore, galleries: Path) -> TestClient:
    return TestClient(create_app(store, galleries, champion="run/a"))


def show(client: TestClient) -> dict[str, str]:
    answer = client.post("/rate/next", json={})
    assert answer.status_code == 200, answer.text
    shown: dict[str, str] = answer.json()
    return shown


def vote(client: TestClient, comparison: str, better: str = "left") -> int:
    return client.post("/rate/vote", json={"comparison": comparison, "better": better}).status_code


def test_a_vote_on_what_is_shown_is_kept_once(client: TestClient, store: FeedbackStore) -> None:
    shown = show(client)
    assert vote(client, shown["comparison"], "right") == 201
    (kept,) = store.votes()
    assert kept.value == 0.0
    assert "run/a" in (kept.version, kept.other)
    assert vote(client, shown["comparison"], "left") == 409
    assert store.votes() == [kept]


def test_what_goes_out_does_not_tell_the_versions(client: TestClient) -> None:
    for _ in range(5):
        answer = client.post("/rate/next", json={})
        shown = answer.json()
        fields = TextSigner("comparison").verify(shown["comparison"])
        pictures = [client.get(shown[side]) for side in ("left", "right")]
        everything = answer.text + str(fields) + "".join(str(dict(item.headers)) for item in pictures)
        assert "run/" not in everything
        assert [item.headers["content-type"] for item in pictures] == ["image/png"] * 2
        assert pictures[0].content != pictures[1].content
        assert all(b"run" not in item.content for item in pictures)


def test_sides_and_rivals_are_drawn_at_random_and_the_champion_is_always_one(galleries: Path) -> None:
    found = read_galleries(galleries, 9)
    rng = random.Random(0)
    drawn = [draw_pair(found, "run/a", rng) for _ in range(400)]
    assert all(pair is not None and "run/a" in pair[:2] for pair in drawn)
    left = sum(pair is not None and pair[0] == "run/a" for pair in drawn)
    rival = sum(pair is not None and "run/b" in pair[:2] for pair in drawn)
    assert 150 < left < 250
    assert 150 < rival < 250
    assert len({pair[2] for pair in drawn if pair is not None}) == 8
    without = [draw_pair(found, None, rng) for _ in range(100)]
    assert {frozenset(pair[:2]) for pair in without if pair is not None} == {
        frozenset(pair) for pair in (("run/a", "run/b"), ("run/a", "run/c"), ("run/b", "run/c"))
    }


def test_only_pictures_of_one_seed_and_label_are_compared(tmp_path: Path, store: FeedbackStore) -> None:
    draw_gallery(tmp_path / "g", "a", 50)
    draw_gallery(tmp_path / "g", "other", 90, classes=0)
    assert TestClient(create_app(store, tmp_path / "g")).post("/rate/next", json={}).status_code == 404
    draw_gallery(tmp_path / "g", "b", 100, classes=3)  # of seeds 0, 1 and 2 the labels agree
    found = read_galleries(tmp_path / "g", 9)
    rng = random.Random(1)
    keys = {(pair[2], pair[3]) for _ in range(100) if (pair := draw_pair(found, None, rng))}
    assert keys == {("0/0", 0), ("1/1", 1), ("2/2", 2)}


def test_the_older_champion_is_compared_though_many_are_newer(tmp_path: Path, store: FeedbackStore) -> None:
    for number in range(12):
        draw_gallery(tmp_path / "g", f"n{number:02d}", 20 * number)
    client = TestClient(create_app(store, tmp_path / "g", champion="run/n00"))
    for _ in range(6):
        assert vote(client, show(client)["comparison"]) == 201
    assert all("run/n00" in (kept.version, kept.other) for kept in store.votes())


def test_a_vote_needs_the_cookie_and_a_comparison_that_was_shown(client: TestClient, store: FeedbackStore) -> None:
    shown = show(client)
    other = TestClient(client.app)
    assert vote(other, shown["comparison"]) == 401
    other.cookies.set(COOKIE, "forged", path="/rate")
    assert vote(other, shown["comparison"]) == 401
    invented = TextSigner("comparison").sign({"comparison": "invented"})
    assert vote(client, invented) == 409
    for forged in ("x", TextSigner("rater").sign({"comparison": "c"}), TextSigner("comparison").sign({"other": "c"})):
        assert vote(client, forged) == 403
        assert client.get(f"/rate/picture/{forged}/left.png").status_code == 403
    assert client.get(f"/rate/picture/{invented}/left.png").status_code == 404
    assert client.get(shown["left"].replace("left", "middle")).status_code == 422
    assert store.votes() == []


def test_new_cookies_do_not_make_new_voters_of_one_address(client: TestClient, store: FeedbackStore) -> None:
    answers = []
    for _ in range(10):
        fresh = TestClient(client.app)
        answers.append(vote(fresh, show(fresh)["comparison"]))
    assert answers == [201] * 6 + [429] * 4
    assert len({kept.rater for kept in store.votes()}) == 6
    assert len({kept.source for kept in store.votes()}) == 1


def test_an_address_that_asks_too_often_is_asked_to_wait_and_others_are_not(
    store: FeedbackStore, galleries: Path
) -> None:
    app = create_app(store, galleries, champion="run/a", pace=Pace(per_second=0.01, burst=4))
    flooding, other = (TestClient(app, client=(host, 50000)) for host in ("198.51.100.7", "198.51.100.8"))
    shown = show(flooding)
    assert flooding.get(shown["left"]).status_code == 200
    assert vote(flooding, shown["comparison"]) == 201
    statuses = [flooding.post("/rate/next", json={}).status_code for _ in range(5)]
    assert statuses == [200] + [429] * 4
    refused = flooding.get(shown["left"])
    assert refused.status_code == 429
    assert int(refused.headers["Retry-After"]) >= 1
    assert vote(flooding, shown["comparison"]) == 429
    assert flooding.get("/rate").status_code == 200
    assert vote(other, show(other)["comparison"]) == 201


def test_who_does_not_read_the_answer_keeps_nobody_out(store: FeedbackStore, galleries: Path) -> None:
    app = create_app(store, galleries, champion="run/a", pace=Pace(at_once=1))
    headers = [(b"host", b"testserver"), (b"content-type", b"application/json")]
    scope = {"type": "http", "http_version": "1.1", "method": "POST", "scheme": "http", "path": "/rate/next"}
    scope |= {"raw_path": b"/rate/next", "query_string": b"", "headers": headers, "client": ("198.51.100.7", 50000)}

    async def story() -> int:
        answering, never = asyncio.Event(), asyncio.Event()

        async def receive() -> dict[str, Any]:
            if answering.is_set():
                await never.wait()
            return {"type": "http.request", "body": b"{}", "more_body": False}

        async def send(message: Any) -> None:
            answering.set()
            await never.wait()

        unread = asyncio.create_task(app(scope, receive, send))
        try:
            async with asyncio.timeout(60):
                await answering.wait()
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
                return (await client.post("/rate/next", json={})).status_code
        finally:
            unread.cancel()
            await asyncio.gather(unread, return_exceptions=True)

    assert asyncio.run(story()) == 200


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("198.51.100.7", "198.51.100.8", False),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
    ],
)
def test_addresses_are_told_apart_as_networks_give_them_out(
    client: TestClient, store: FeedbackStore, first: str, second: str, same: bool
) -> None:
    for host in (first, second):
        there = TestClient(client.app, client=(host, 50000))
        assert vote(there, show(there)["comparison"]) == 201
    assert (len({kept.source for kept in store.votes()}) == 1) is same


@pytest.mark.parametrize("body", ["", "[]", '{"comparison": 1, "better": "left"}', '{"better": "left"}', "[" * 50_000])
def test_a_body_that_is_no_choice_is_refused(client: TestClient, body: str) -> None:
    show(client)
    assert client.post("/rate/vote", content=body, headers={"Content-Type": "application/json"}).status_code == 422
    assert client.post("/rate/vote", content=body, headers={"Content-Type": "text/plain"}).status_code == 415


def test_the_page_needs_nothing_from_elsewhere_and_allows_nothing(client: TestClient) -> None:
    page = client.get("/rate")
    assert page.status_code == 200
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "unsafe" not in page.headers["content-security-policy"]
    for path in ("/rate", "/rate/rate.js", "/rate/rate.css"):
        content = client.get(path).text
        assert "http" not in content.replace("http://www.w3.org", "")
        assert "style=" not in content
        assert "onclick" not in content


def test_a_gallery_that_was_tampered_with_is_not_shown(client: TestClient, galleries: Path) -> None:
    shown = show(client)
    for file in galleries.glob("*/*/*.png"):
        file.write_bytes(file.read_bytes() + b"more")
    assert client.get(shown["left"]).status_code == 404
    for index in galleries.glob("*/*/index.json"):
        index.write_text(index.read_text().replace('"s000', '"../s000'))
    assert client.post("/rate/next", json={}).status_code == 404


def test_pictures_come_as_they_were_drawn(client: TestClient, galleries: Path, store: FeedbackStore) -> None:
    import io

    from PIL import Image

    shown = show(client)
    pixels = {side: np.asarray(Image.open(io.BytesIO(client.get(shown[side]).content))) for side in ("left", "right")}
    assert vote(client, shown["comparison"], "left") == 201
    (kept,) = store.votes()
    grey = {"run/a": 50, "run/b": 100, "run/c": 150}
    seed = int(pixels["left"][0, 0]) - grey[kept.version]
    assert 0 <= seed < 8
    assert int(pixels["right"][0, 0]) - grey[kept.other] == seed
    assert seed % 4 == int(shown["label"])
