"""Whatever is sent to any route of the OpenAPI page under a release, the router answers, and never by a fault."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from feedback_app import draw_gallery
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from router_process import RELEASE, bearer
from schemathesis.generation import GenerationMode
from served_models import write_model
from test_release_router import ReleasedRouter

from evodiff.deployment.web.tokens import SCOPES

pytestmark = pytest.mark.e2e

EXAMPLES = 16  # of an operation to which something is sent; a quarter of the others
ANSWERS = {200, 201, 400, 401, 403, 404, 405, 408, 409, 413, 415, 422, 429, 503, 504}  # 500 and 502 are faults
COMMANDS = {f"POST /v1/release/{name}" for name in ("start", "promote", "rollback", "pause")}
PICTURE = "GET /rate/picture/{comparison}/{side}.png"
KNOWN = ("comparison", "entry", "other", "request", "revision")  # fields whose values no generator finds


@pytest.fixture(scope="module")
def router(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReleasedRouter]:
    """A router that allows little work, so that what is allowed is quick, to one who may do everything."""
    folder = tmp_path_factory.mktemp("fuzzed")
    for candidate, grey in (("a", 50), ("b", 100)):
        draw_gallery(folder / "router" / "galleries", candidate, grey)
    everything = json.dumps([{"subject": "anybody", "scopes": SCOPES, "token": RELEASE}])
    released = ReleasedRouter(folder / "router", tokens=everything, max_count=2, max_steps=4, body_seconds=2)
    released.request(write_model(folder / "model"))
    with released as process:
        process.wait(lambda release: "stable" in release["loaded"], "the first champion")
        yield process


class Sender:
    """Sends cases to a router, with values that it gave out itself, and keeps the statuses by operation."""

    def __init__(self, router: ReleasedRouter) -> None:
        self.seen: set[tuple[str, int]] = set()
        self._url = router.url
        with router.client(RELEASE) as client:
            first, second = (client.post("/v1/generate", json={"steps": 2}).raise_for_status() for _ in range(2))
            shown = client.post("/rate/next").raise_for_status()
        self._cookies = dict(shown.cookies)
        self._known = {
            "comparison": shown.json()["comparison"],
            "entry": {"run": "nothing", "candidate": "0123456789abcdef"},
            "request": first.headers["X-Request-Id"],
            "other": second.headers["X-Request-Id"],
        }

    def send(self, case: Any, kept: set[str]) -> None:
        """Send a case, with known values for the fields that it has, but for those that are ``kept`` as they are."""
        known = {name: value for name, value in self._known.items() if name not in kept}
        label = case.operation.label
        if label in COMMANDS and "revision" not in kept:
            release = httpx.get(f"{self._url}/v1/release", headers=bearer(RELEASE)).raise_for_status().json()
            known["revision"] = release["revision"]
        for part in (case.body, case.path_parameters):
            if isinstance(part, dict):
                part.update({name: value for name, value in known.items() if name in part})
        answer = case.call(base_url=self._url, headers=bearer(RELEASE), cookies=self._cookies, timeout=60)
        assert answer.status_code in ANSWERS, (case.as_curl_command(), answer.status_code)
        self.seen.add((label, answer.status_code))


def fuzz(router: ReleasedRouter, examples: int) -> set[tuple[str, int]]:
    """Send examples of each operation, of the schema and against it; return the statuses by operation."""
    page = httpx.get(f"{router.url}/openapi.json", headers=bearer(RELEASE)).raise_for_status().json()
    operations = [found.ok() for found in schemathesis.openapi.from_dict(page).get_all_operations()]
    assert {operation.label for operation in operations} >= {*COMMANDS, PICTURE, "POST /v1/feedback", "POST /rate/vote"}
    sender = Sender(router)
    for operation in operations:
        takes = len(operation.body) + len(operation.path_parameters) > 0
        for mode in GenerationMode if takes else [GenerationMode.POSITIVE]:
            limits = settings(
                max_examples=examples // (2 if takes else 4),
                deadline=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
                database=None,
            )

            @limits
            @given(operation.as_strategy(generation_mode=mode), st.sets(st.sampled_from(KNOWN)))
            def send(case: Any, kept: set[str]) -> None:
                sender.send(case, kept)

            send()
    assert {label for label, _ in sender.seen} == {operation.label for operation in operations}
    return sender.seen


def test_no_request_of_or_against_the_schema_ends_in_a_fault(router: ReleasedRouter) -> None:
    seen = fuzz(router, EXAMPLES)
    assert {("POST /v1/generate", 200), ("POST /v1/generate", 422), (PICTURE, 200), ("POST /rate/vote", 201)} <= seen
    assert httpx.get(f"{router.url}/readyz").json() == {"ready": True}


@pytest.mark.slow
def test_no_request_of_many_ends_in_a_fault(router: ReleasedRouter) -> None:
    fuzz(router, 25 * EXAMPLES)
    assert httpx.get(f"{router.url}/readyz").json() == {"ready": True}
