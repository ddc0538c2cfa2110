"""Whatever is sent to any route of the OpenAPI page, the router answers, and never by a fault of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from router_process import RouterProcess, bearer
from schemathesis.generation import GenerationMode
from served_models import write_model

pytestmark = pytest.mark.e2e

EXAMPLES = 40
ANSWERS = {200, 400, 401, 403, 404, 405, 408, 413, 415, 422, 429, 503, 504}  # 500 and 502 are faults


@pytest.fixture(scope="module")
def router(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RouterProcess]:
    """A router that allows little work, so that what is allowed is quick."""
    folder = tmp_path_factory.mktemp("fuzzed")
    model = write_model(folder / "model")
    with RouterProcess(folder, model, max_count=2, max_steps=4, body_seconds=2) as process:
        yield process


def fuzz(router: RouterProcess, examples: int) -> set[tuple[str, int]]:
    """Send examples of each operation, of the schema and against it; return the statuses by operation."""
    page = httpx.get(f"{router.url}/openapi.json", headers=bearer()).raise_for_status().json()
    operations = [found.ok() for found in schemathesis.openapi.from_dict(page).get_all_operations()]
    cases = st.one_of(
        *(operation.as_strategy(generation_mode=mode) for operation in operations for mode in GenerationMode)
    )
    seen = set()

    @given(cases)
    @settings(
        max_examples=examples * len(operations),
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    def send(case: Any) -> None:
        status = case.call(base_url=router.url, headers=bearer(), timeout=60).status_code
        assert status in ANSWERS, (case.as_curl_command(), status)
        seen.add((case.operation.label, status))

    send()
    return seen


def test_no_request_of_or_against_the_schema_ends_in_a_fault(router: RouterProcess) -> None:
    seen = fuzz(router, EXAMPLES)
    assert {("POST /v1/generate", 200), ("POST /v1/generate", 422)} <= seen
    assert httpx.get(f"{router.url}/readyz").json() == {"ready": True}


@pytest.mark.slow
def test_no_request_of_many_ends_in_a_fault(router: RouterProcess) -> None:
    fuzz(router, 25 * EXAMPLES)
    assert httpx.get(f"{router.url}/readyz").json() == {"ready": True}
