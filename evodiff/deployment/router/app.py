"""The router's app: its routes, what every answer has in common, and how errors are told."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any, Final

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from evodiff.deployment.feedback.store import StoreUnavailable
from evodiff.deployment.generation import DeadlineExceeded, GenerationFailed, NotServing, RequestRefused
from evodiff.deployment.metrics import CONTENT_TYPE, Metrics
from evodiff.deployment.observation import Arm
from evodiff.deployment.router.admission import QueueFull
from evodiff.deployment.router.generate_route import add_generate_route
from evodiff.deployment.web.guarded_api import GuardedApi
from evodiff.deployment.web.limits import Limits
from evodiff.deployment.web.openapi_page import add_openapi_page
from evodiff.errors import EvodiffError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from fastapi import FastAPI

    from evodiff.deployment.router.fleet import Fleet
    from evodiff.deployment.settings import ServingSettings
    from evodiff.deployment.web.signing import Signer
    from evodiff.deployment.web.tokens import Tokens

    RouteGroup = Callable[[FastAPI], None]

_LOG: Final = logging.getLogger(__name__)
_STATUS: Final[dict[type[EvodiffError], int]] = {
    RequestRefused: 422,
    QueueFull: 429,
    GenerationFailed: 502,
    NotServing: 503,
    StoreUnavailable: 503,
    DeadlineExceeded: 504,
}


def create_app(
    fleet: Fleet,
    *,
    tokens: Tokens,
    signer: Signer,
    settings: ServingSettings,
    metrics: Metrics | None = None,
    groups: Iterable[RouteGroup] = (),
) -> FastAPI:
    """Return the app over a fleet, with further ``groups`` of routes, each a function that adds them.

    It starts and ends nothing; whoever runs it closes the fleet.
    """
    app = GuardedApi(
        title="evodiff",
        description="Images by an evolved diffusion model. Every route asks for a token but health, metrics and /rate. "
        "Any of them may answer 408, 413 or 421: the body comes too slowly, is too long, or the Host is foreign.",
        docs_url=None,
        redoc_url=None,
    )
    metrics = metrics or Metrics()
    fleet.observers.append(metrics.observe_request)
    _add_condition(app, fleet, metrics)
    add_generate_route(app, fleet, tokens, signer, settings)
    add_openapi_page(app)
    for add in groups:
        add(app)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(EvodiffError, _told)
    app.add_middleware(Limits, settings=settings, tokens=tokens)
    return app


def _add_condition(app: FastAPI, fleet: Fleet, metrics: Metrics) -> None:
    @app.get("/healthz", summary="Whether the router lives")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz", summary="Whether a version answers", responses={503: {"description": "none does"}})
    async def ready() -> JSONResponse:
        return JSONResponse({"ready": fleet.ready}, status_code=200 if fleet.ready else 503)

    @app.get("/metrics", summary="Metrics for Prometheus", response_class=Response)
    async def show_metrics() -> Response:
        seen = {worker.arm: worker for worker in fleet.workers()}
        for arm in Arm:
            version = fleet.version(arm)
            if arm in seen and version is not None:
                metrics.observe_worker(seen[arm])
                if version.report.kid is not None:
                    metrics.set_smoke_test_kid(arm, version.report.kid)
            else:
                metrics.forget_arm(arm)
        return Response(metrics.render(), media_type=CONTENT_TYPE)


async def _invalid(request: Request, error: Any) -> Response:
    """Say what is wrong, without what was sent: it may be large, or no text that can be sent back."""
    places = [
        {"where": ".".join(str(part)[:80] for part in item["loc"]), "what": str(item["msg"])[:200]}
        for item in error.errors()[:10]
    ]
    return _detail(places, 422)


async def _told(request: Request, error: Any) -> Response:
    status = next((code for kind, code in _STATUS.items() if isinstance(error, kind)), 500)
    if status == 500:
        _LOG.error("%s %s failed", request.method, request.url.path, exc_info=error)
    headers = {"Retry-After": str(error.retry_after)} if isinstance(error, QueueFull) else {}
    if status == 503:
        headers = {"Retry-After": "1"}
    return _detail(str(error), status, headers)


def _detail(content: Any, status: int, headers: Mapping[str, str] | None = None) -> Response:
    # In ASCII: what a client sent may hold halves of surrogate pairs, which no encoding takes.
    body = json.dumps({"detail": content}).encode()
    return Response(body, status_code=status, headers=dict(headers or {}), media_type="application/json")
