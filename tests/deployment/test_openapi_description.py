"""What the OpenAPI description and its page say of tokens is what the whole router does."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from router_process import FOR_OTHERS, SIGNING_KEY, TOKENS, bearer

from evodiff.deployment.feedback.store import FeedbackStore
from evodiff.deployment.metrics import Metrics
from evodiff.deployment.release.assignment import arm_of
from evodiff.deployment.release.controller import RolloutController
from evodiff.deployment.release.file import ReleaseFile
from evodiff.deployment.release.rollout_settings import RolloutSettings
from evodiff.deployment.release.routes import add_release_routes
from evodiff.deployment.router.app import create_app
from evodiff.deployment.router.fleet import Fleet
from evodiff.deployment.router.hearing import Hearing
from evodiff.deployment.settings import ServingSettings
from evodiff.deployment.web.signing import Signer
from evodiff.deployment.web.tokens import Tokens

HERE = "http://127.0.0.1:8090"
STRANGER = "token-of-who-may-do-nothing"
BODY = {"comparison": "x", "better": "left"}  # nothing but /rate/vote takes it, and there the cookie comes after it


@pytest.fixture
def app(tmp_path: Path) -> Iterator[FastAPI]:
    """The app as under a release, with no version in it."""
    settings, rollouts = ServingSettings(cache_dir=tmp_path), RolloutSettings()
    fleet, metrics, store = Fleet(settings, arm_of, runs_dir=tmp_path), Metrics(), FeedbackStore(tmp_path / "votes")
    known = [*TOKENS, {"subject": "stranger", "scopes": [], "token": STRANGER}]
    tokens, signer = Tokens.from_json(json.dumps(known), "the test"), Signer(SIGNING_KEY)
    controller = RolloutController(
        ReleaseFile(tmp_path / "release.json"), fleet, rollouts.analyses(), rollouts.options(), probe=fleet.probe
    )
    hearing = Hearing(fleet, controller, metrics, store, tmp_path / "galleries", print)
    groups = [
        lambda app: add_release_routes(app, controller, tokens),
        lambda app: hearing.add_routes(app, tokens, signer),
    ]
    yield create_app(fleet, tokens=tokens, signer=signer, settings=settings, metrics=metrics, groups=groups)
    store.close()
    asyncio.run(fleet.close())


@pytest.fixture
def client(app: FastAPI) -> TestClient:
    return TestClient(app, base_url=HERE)


def operations(client: TestClient) -> list[tuple[str, str, dict[str, Any]]]:
    """Return method, path and what is said of each operation."""
    paths = client.get("/openapi.json", headers=bearer()).json()["paths"]
    return [(method, path, said) for path, methods in paths.items() for method, said in methods.items()]


def ask(client: TestClient, method: str, path: str, **headers: str) -> int:
    body = BODY if method == "post" else None
    return client.request(method, path.format(comparison="x", side="left"), json=body, headers=headers).status_code


def ask_in_words(client: TestClient, method: str, path: str, headers: dict[str, str]) -> str:
    """Return the text of an answer to what is a request of an image, or of a vote, as far as its form goes."""
    body = {"request": "x", "rating": 5} if path == "/v1/feedback" else {"steps": 2}
    sent = body if method == "post" else None
    return client.request(method, path.format(comparison="x", side="left"), json=sent, headers=headers).text


def test_each_operation_that_answers_401_without_a_token_says_so_and_no_other(client: TestClient) -> None:
    found = operations(client)
    assert {"/v1/generate", "/v1/release", "/v1/feedback", "/rate/vote", "/metrics"} <= {path for _, path, _ in found}
    for method, path, said in found:
        kept_out = ask(client, method, path) == 401
        assert kept_out == ("401" in said["responses"]) == bool(said.get("security")), (method, path)


def test_the_ways_that_an_operation_names_let_a_caller_in_and_no_other(client: TestClient) -> None:
    schemes = client.get("/openapi.json", headers=bearer()).json()["components"]["securitySchemes"]
    password = "Basic eDp1c2UtdG9rZW4tb2YtdGhlLXRlc3Rz"  # x:use-token-of-the-tests
    for method, path, said in operations(client):
        ways = {name for way in said.get("security", []) for name in way}
        assert ways <= set(schemes)
        if "401" in said["responses"] and not path.startswith("/rate"):
            assert ask(client, method, path, **bearer()) != 401
            assert (ask(client, method, path, Authorization=password) != 401) == ("password" in ways), (method, path)


def test_each_operation_that_tells_clients_apart_by_a_header_says_so_and_no_other(client: TestClient) -> None:
    """Who may not name clients is refused for it, before anything else, where the header is read, and only there."""
    for method, path, said in operations(client):
        named = {item["name"]: item for item in said.get("parameters", []) if item["in"] == "header"}
        read = "X-Client-Id" in ask_in_words(client, method, path, {**bearer(), "X-Client-Id": "somebody"})
        assert read == ("X-Client-Id" in named) == (path in ("/v1/generate", "/v1/feedback")), (method, path)
        if read:
            assert "scope clients" in named["X-Client-Id"]["description"]
            assert named["X-Client-Id"]["required"] is False
            pattern = named["X-Client-Id"]["schema"]["pattern"]
            for given in ("somebody", "two words", "", "x" * 128, "x" * 129):
                shown = {**bearer(FOR_OTHERS), "X-Client-Id": given}
                refused = "visible ASCII" in ask_in_words(client, method, path, shown)
                assert refused == (re.fullmatch(pattern, given) is None), (path, given)


def test_each_operation_that_asks_for_a_scope_says_so(client: TestClient) -> None:
    for method, path, said in operations(client):
        if not path.startswith("/rate"):
            refused = ask(client, method, path, **bearer(STRANGER)) == 403
            assert refused == ("403" in said["responses"]), (method, path)


def test_a_browser_finds_the_way_that_it_knows_in_a_header_of_its_own(client: TestClient) -> None:
    assert [way.partition(" ")[0] for way in client.get("/docs").headers.get_list("www-authenticate")] == [
        "Bearer",
        "Basic",
    ]
    assert client.post("/v1/generate").headers.get_list("www-authenticate") == ["Bearer"]


def test_the_page_shows_the_ways_and_who_asks_for_them(client: TestClient) -> None:
    page = client.get("/docs", headers=bearer()).text
    _, *shown = page.split("<h2>")
    by_name = {text.partition("</h2>")[0]: text for text in shown}
    for method, path, said in operations(client):
        text = by_name[f"<code>{method.upper()} {path}</code>"]
        ways = " or ".join(name for way in said.get("security", []) for name in way)
        assert f"Asks for: {ways or 'nothing'}." in text
        assert ("<code>401</code>" in text) == bool(ways)
    assert "Authorization: Bearer TOKEN" in page
