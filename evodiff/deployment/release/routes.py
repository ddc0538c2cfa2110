"""``/v1/release``: what serves, where a rollout stands and why, and the commands that a person may give."""

# No postponed annotations here: FastAPI reads those of a route, which name what belongs to its app.

import secrets
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, HTTPException
from pydantic import BaseModel, ConfigDict, Field

from evodiff.deployment.release.commands import Command
from evodiff.deployment.release.controller import RolloutController
from evodiff.deployment.release.entries import check_entry
from evodiff.deployment.release.state import ReleaseConflict
from evodiff.deployment.web.tokens import Caller, Tokens
from evodiff.errors import CandidateNotFound, EvodiffError

_LONGEST = 200
_KEY = Header(alias="Idempotency-Key", min_length=1, max_length=_LONGEST, description="a command is done once a key")
_REVISION = Field(ge=0, description="of the release that the command rests on; 409 where it has moved on")


class Body(BaseModel):
    """What all commands have in common."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Entry(Body):
    """A version: run and candidate, or a registered model and its version number."""

    run: str | None = Field(default=None, max_length=_LONGEST)
    candidate: str | None = Field(default=None, max_length=_LONGEST)
    generation: int | None = Field(default=None, ge=0, lt=10**9)
    model: str | None = Field(default=None, max_length=_LONGEST)
    version: str | None = Field(default=None, max_length=_LONGEST)
    digest: str | None = Field(default=None, max_length=_LONGEST, description="SHA-256 that the weights must have")


class Start(Body):
    """Have a version wait for its rollout; the newest waits, and begins where none goes on."""

    revision: int = _REVISION
    entry: Entry
    approval: bool | None = Field(default=None, description="ask a person before all traffic goes over")
    replace: bool = Field(default=False, description="end the rollout that goes on")
    despite_quarantine: bool = Field(default=False, description="start a version that was rolled back before")


class Promote(Body):
    """Go on to the next step, whatever holds it; from the last one the version becomes the champion."""

    revision: int = _REVISION


class Rollback(Body):
    """End the rollout, or go back to the version before, whatever the revision is; or only at the one that is given."""

    revision: int | None = Field(default=None, ge=0, description="409 where the release has moved on from it")
    reason: str | None = Field(default=None, min_length=1, max_length=_LONGEST)


class Pause(Body):
    """Hold a rollout at its step, or let it go on; guards go on in either case."""

    revision: int = _REVISION
    paused: bool = True


class Answer(BaseModel):
    """What a command did: the release's revision and the canary's share of clients after it."""

    revision: int
    action: str
    reason: str
    weight: float


_ERRORS: dict[int | str, dict[str, Any]] = {
    403: {"description": "the token has another scope"},
    409: {"description": "the release has moved on, or the command does not fit it"},
    503: {"description": "it could not be written down"},
}


def add_release_routes(
    app: FastAPI,
    controller: RolloutController,
    tokens: Tokens,
    *,
    quality: Callable[[], dict[str, Any]] = lambda: {"off": "this service computes none"},
) -> None:
    """Add the routes to an app; reading takes any known token, commanding one of scope ``release``.

    ``quality`` says what is known of the arms' online KID, or why nothing is.
    """

    Known = Annotated[Caller, Depends(tokens.require(None))]
    Permitted = Annotated[Caller, Depends(tokens.require("release"))]
    Key = Annotated[str, _KEY]

    @app.get("/v1/release", summary="What serves, where the rollout stands, and why")
    async def show(caller: Known) -> dict[str, Any]:
        return {**release_view(controller), "quality": quality()}

    @app.post("/v1/release/start", summary="Start a rollout", responses=_ERRORS)
    async def start(body: Start, caller: Permitted, key: Key) -> Answer:
        entry = body.entry.model_dump(exclude_none=True)
        if "model" in entry:  # as an entry of the release has it; what it is, is found again when it is loaded
            entry = {name: value for name, value in entry.items() if name not in ("run", "candidate")}
        try:
            check_entry({name: value for name, value in entry.items() if name != "generation"})
        except CandidateNotFound as error:
            raise HTTPException(422, str(error)) from error
        given = {} if body.approval is None else {"approval": body.approval}
        fields = {
            "entry": {**entry, **given},
            "replace": body.replace,
            "despite_quarantine": body.despite_quarantine,
        }
        return await _obey(controller, Command("start", key, caller.subject, body.revision, fields))

    @app.post("/v1/release/promote", summary="Go on to the next step", responses=_ERRORS)
    async def promote(body: Promote, caller: Permitted, key: Key) -> Answer:
        return await _obey(controller, Command("promote", key, caller.subject, body.revision))

    @app.post("/v1/release/rollback", summary="Roll back", responses=_ERRORS)
    async def rollback(body: Rollback, caller: Permitted, key: Annotated[str | None, _KEY] = None) -> Answer:
        fields = {} if body.reason is None else {"reason": f"{caller.subject}: {body.reason}"}
        key = key or secrets.token_hex(16)
        return await _obey(controller, Command("rollback", key, caller.subject, body.revision, fields))

    @app.post("/v1/release/pause", summary="Hold a rollout, or let it go on", responses=_ERRORS)
    async def pause(body: Pause, caller: Permitted, key: Key) -> Answer:
        fields = {"paused": body.paused}
        return await _obey(controller, Command("pause", key, caller.subject, body.revision, fields))


def release_view(controller: RolloutController) -> dict[str, Any]:
    """Return the release as ``GET /v1/release`` shows it: the state without stored answers, and what is known now.

    ``evidence`` is what the analysis says now, ``loaded`` what the arms hold, ``trouble`` why the last look failed.
    """
    state = controller.state.to_json()
    del state["answers"]
    found = controller.evidence()
    now = None
    if found is not None:
        now = {"verdict": str(found.verdict), "reason": found.reason, "guard": found.guard, **dict(found.evidence)}
    return {
        **state,
        "weight": controller.arms.weight,
        "loaded": controller.loaded(),
        "evidence": now,
        "last_poll_at": controller.last_poll_at,
        "poll_interval_seconds": controller.options.poll_interval_seconds,
        "trouble": controller.trouble,
    }


async def _obey(controller: RolloutController, command: Command) -> Answer:
    try:
        return Answer(**await controller.command(command))
    except ReleaseConflict as error:
        raise HTTPException(409, str(error)) from error
    except (EvodiffError, OSError) as error:
        raise HTTPException(503, str(error)) from error
