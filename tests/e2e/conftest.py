"""One stack for all tests that need every service: Airflow, MLflow, router, Prometheus, Alertmanager, started once."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from evodiff.local.load import make_tokens
from evodiff.local.monitoring import monitoring_programs
from evodiff.local.stack import ALL, Stack
from evodiff.local.story_settings import CLIENTS, ENVIRONMENT, HURRY, WATCH

PROJECT = Path(__file__).resolve().parents[2]

# A person who says nothing has spoken after half a minute.
SHARED = {**ENVIRONMENT, "EVODIFF_APPROVAL_HOURS": str(30 / 3600)}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have the tests that share the stack come last, one after another: it takes memory as long as it is there."""
    items.sort(key=lambda item: "whole_stack" in getattr(item, "fixturenames", ()))


@pytest.fixture(scope="session")
def whole_stack(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Iterator[Stack]:
    """All services, ready; nothing is left of them afterwards."""
    if not monitoring_programs() and os.environ.get("EVODIFF_REQUIRE_SERVERS") != "1":
        pytest.skip("Prometheus and Alertmanager are not installed")
    with Stack.below(tmp_path_factory.mktemp("stack"), PROJECT, {**environment, **SHARED}, hurry=HURRY) as stack:
        try:
            stack.prepare()
            make_tokens(stack.place("EVODIFF_SERVE_SECRETS_DIR"), CLIENTS)
            stack.start(*ALL)
            stack.wait_until_ready(*ALL)
            # Whoever wants a generation for each alert unpauses it: a busy machine has alerts of its own.
            stack.api.ask("PATCH", f"/api/v2/dags/{WATCH}", {"is_paused": True})
        except BaseException:
            print(stack.logs())
            raise
        yield stack


@pytest.fixture
def stack(whole_stack: Stack, request: pytest.FixtureRequest) -> Iterator[Stack]:
    """The stack with all services running, on which nothing serves; where the test fails, what the services printed."""
    failures = request.session.testsfailed
    empty_release(whole_stack, None)
    whole_stack.start(*ALL)
    whole_stack.wait_until_ready(*ALL)
    yield whole_stack
    if request.session.testsfailed > failures:
        print(whole_stack.logs())


@pytest.fixture
def release(whole_stack: Stack) -> Callable[[Mapping[str, Any]], None]:
    """Have the release file say something, with no router to rule it."""
    return lambda content: empty_release(whole_stack, content)


def empty_release(stack: Stack, content: Mapping[str, Any] | None) -> None:
    """End the router, and have the release say that nothing serves, or ``content``."""
    stack.end("router")
    file = stack.place("EVODIFF_RELEASE_FILE")
    for old in (file, file.with_name("release.analysis.json")):
        old.unlink(missing_ok=True)
    if content is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content))
