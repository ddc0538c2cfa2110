"""``POST /v1/generate``: images on request."""

# No postponed annotations here: FastAPI reads those of a route, which name what belongs to its app.

import asyncio
import base64
import json
import math
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, HTTPException, Request, Response
from pydantic import BaseModel, ConfigDict, Field, create_model

from evodiff.deployment.generation import GenerationRequest, RequestRefused
from evodiff.deployment.router.admission import LONGEST_WAIT, QueueFull
from evodiff.deployment.router.fleet import Fleet
from evodiff.deployment.web.clients import CLIENT_PARAMETER, client_name, hashed_key
from evodiff.deployment.web.json_body import body_schema, read_json
from evodiff.deployment.web.slow_clients import lagged, waited
from evodiff.deployment.web.tokens import Tokens

if TYPE_CHECKING:
    from evodiff.deployment.generation import Generated
    from evodiff.deployment.settings import ServingSettings
    from evodiff.deployment.web.signing import Signer

LARGEST_SEED = 2**62  # a torch generator takes more, which leaves room for the images after the first
PNG, JSON = "image/png", "application/json"
DEADLINE_HEADER = "X-Deadline-Seconds"
# Of the usual deadline. Who takes more of it to send a request, or waits longer for the router, cannot blame a version.
FAIR_SHARE = 0.9

_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"content": {PNG: {}}, "description": "Images as JSON, or all in one PNG, as Accept says."},
    403: {"description": "The token has another scope, or may not name clients."},
    415: {"description": "The body is not JSON."},
    422: {"description": "Body or deadline ask for what cannot be."},
    429: {"description": "This would wait too long, or the client has its share of the queue."},
    502: {"description": "The version failed."},
    503: {"description": "No version can answer now."},
    504: {"description": "The time ran out."},
}
_DEADLINE_PARAMETER = {
    "name": DEADLINE_HEADER,
    "in": "header",
    "required": False,
    "schema": {"type": "number", "exclusiveMinimum": 0},
}


class Image(BaseModel):
    """One image of an answer."""

    seed: int
    png: str = Field(description="a PNG in base64")


class Images(BaseModel):
    """The answer as JSON."""

    request_id: str = Field(description="signed; give it back with a rating")
    version: str
    images: list[Image]


def add_generate_route(
    app: FastAPI, fleet: Fleet, tokens: Tokens, signer: "Signer", settings: "ServingSettings"
) -> None:
    """Add the route to an app.

    Of FastAPI it takes the page of the API alone: what FastAPI does to find and check a function's arguments was the
    greatest part of what the router spent on a request.
    """
    body_model, permitted = _body(settings), tokens.require("use")

    @app.post(
        "/v1/generate",
        summary="Generate images",
        response_model=Images,
        responses=_ANSWERS,
        openapi_extra={**body_schema(body_model), "parameters": [_DEADLINE_PARAMETER, dict(CLIENT_PARAMETER)]},
    )
    async def generate(request: Request) -> Response:
        _check_lag(request, settings)
        client = client_name(request, await permitted(request))
        wanted: Any = await read_json(request, body_model)
        usual, most = settings.deadline_seconds, settings.max_deadline_seconds
        asked = [value for value in (wanted.deadline_seconds, _deadline(request)) if value is not None]
        seconds = min([*asked, most]) if asked else usual
        png = _wants_png(request.headers.get("accept", ""))
        _check_work(fleet, wanted, settings)
        left = max(0.0, seconds - waited(request.scope))
        generation = GenerationRequest(
            count=wanted.count,
            seed=wanted.seed,
            steps=wanted.steps,
            label=wanted.label,
            guidance=wanted.guidance,
            png=png,
            seconds=left,
            impatient=seconds < usual or left < FAIR_SHARE * usual,
            allowed_seconds=seconds,
            patient=seconds > usual,
        )
        key = hashed_key(client)
        found = await _unless_gone(request, fleet.generate(generation, key))
        if found is None:
            return Response(status_code=499)  # nobody reads it
        return _response(found, wanted.seed, key, signer, png)


def _body(settings: "ServingSettings") -> type[BaseModel]:
    """Return the model of a request's body within the limits of this service."""
    return create_model(
        "GenerateRequest",
        __config__=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False),
        count=(int, Field(default=1, ge=1, le=settings.max_count, description="images")),
        seed=(int, Field(default=0, ge=0, le=LARGEST_SEED, description="of the first image; the next has the next")),
        steps=(int, Field(default=20, ge=2, le=settings.max_steps, description="of the sampler")),
        label=(int | None, Field(default=None, ge=0, le=100_000, description="class; null takes them in turn")),
        guidance=(float, Field(default=1.0, ge=1, le=50, description="1 is no guidance")),
        deadline_seconds=(
            float | None,
            Field(default=None, gt=0, description="for the answer; the header X-Deadline-Seconds says the same"),
        ),
    )


def _deadline(request: Request) -> float | None:
    """Return the seconds in the header, None where there is none."""
    text = request.headers.get(DEADLINE_HEADER)
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise HTTPException(422, f"{DEADLINE_HEADER}: expected a number of seconds above 0. Correct it.")
    return seconds


def _check_lag(request: Request, settings: "ServingSettings") -> None:
    """Refuse what spends half of the usual deadline waiting for this process, before it costs more."""
    seconds = lagged(request.scope)
    if seconds > settings.deadline_seconds / 2:
        wait = min(LONGEST_WAIT, math.ceil(seconds))
        raise QueueFull(f"The router is too busy: for it alone an answer would wait {seconds:.1f} s.", wait)


def _check_work(fleet: Fleet, wanted: Any, settings: "ServingSettings") -> None:
    pixels = max(fleet.pixels(), 1)
    work = wanted.count * wanted.steps * pixels * (1 if wanted.guidance == 1 else 2)
    if work > settings.max_work:
        raise RequestRefused(
            f"count x steps x pixels: expected at most {settings.max_work:.3g}, found {work:.3g}.",
            remedy="Ask for fewer images or steps.",
        )


async def _unless_gone(request: Request, generation: Any) -> "Generated | None":
    """Wait for an answer; where the client disconnects meanwhile, take the request back and return None."""
    answering = asyncio.ensure_future(generation)
    gone = asyncio.ensure_future(_disconnect(request))
    try:
        await asyncio.wait({answering, gone}, return_when=asyncio.FIRST_COMPLETED)
        return answering.result() if answering.done() else None
    finally:
        gone.cancel()
        answering.cancel()


async def _disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _wants_png(accept: str) -> bool:
    """Tell whether an Accept header asks for PNG rather than JSON; the first of the two that it names wins."""
    kinds = [part.partition(";")[0].strip().lower() for part in accept.split(",")]
    known = [kind for kind in kinds if kind in (PNG, "image/*", JSON, "application/*", "*/*")]
    return bool(known) and known[0] in (PNG, "image/*")


def _response(found: "Generated", seed: int, client: str, signer: "Signer", png: bool) -> Response:
    signed = signer.sign(
        {
            "request": found.request,
            "version": found.version,
            "arm": str(found.arm),
            "rollout": found.rollout,
            "client": client,
        }
    )
    headers = {
        "X-Request-Id": signed,
        "X-Model-Version": found.version,
        "Server-Timing": f"queue;dur={found.queue_seconds * 1e3:.3f}, compute;dur={found.compute_seconds * 1e3:.3f}, "
        f"encode;dur={found.encode_seconds * 1e3:.3f}",
        "Vary": "Accept",
        "Cache-Control": "no-store",
    }
    if png:
        return Response(found.parts[0], media_type=PNG, headers=headers)
    images = [{"seed": seed + index, "png": base64.b64encode(part).decode()} for index, part in enumerate(found.parts)]
    body = json.dumps({"request_id": signed, "version": found.version, "images": images}).encode()
    return Response(body, media_type=JSON, headers=headers)
