"""``POST /v1/feedback``: what a client says of the images that it got, by the signed ids of its requests.

Three kinds of body:

- ``{"request": ID, "rating": 4}``: a rating, 1 to 5;
- ``{"request": ID, "other": ID, "better": "request" | "other" | "tie"}``: which of two is better;
- ``{"request": ID, "error": TEXT}``: what went wrong.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

from fastapi import Depends, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field, StrictInt, model_validator

from evodiff.deployment.feedback.deployment_feedback import HIGHEST_RATING, LOWEST_RATING
from evodiff.deployment.feedback.store import AlreadyVoted, TooManyVotes
from evodiff.deployment.feedback.votes import LONGEST_TEXT, Vote, VoteKind
from evodiff.deployment.observation import Arm, RatingObservation
from evodiff.deployment.web.clients import CLIENT_HEADER, CLIENT_PARAMETER, client_name, hashed_key
from evodiff.deployment.web.json_body import body_schema, read_json
from evodiff.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fastapi import FastAPI

    from evodiff.deployment.feedback.store import FeedbackStore

LONGEST_SIGNED: Final = 2048
_SHARES: Final = {"request": 1.0, "other": 0.0, "tie": 0.5}
_RETRY_SECONDS: Final = 3600


class TextSigner(Protocol):
    """Signs small JSON objects; what it did not sign itself is a ValueError."""

    def sign(self, fields: Mapping[str, Any]) -> str:
        """Return the fields as a signed text."""
        ...

    def verify(self, text: str) -> dict[str, Any]:
        """Return the fields of a signed text, or raise ValueError."""
        ...


class CallerTokens(Protocol):
    """Knows who may call."""

    def require(self, scope: Literal["use", "release"]) -> Callable[..., Any]:
        """Return a dependency of FastAPI that gives the caller, who has a ``subject`` and ``scopes``."""
        ...


class FeedbackBody(BaseModel):
    """What a client says: of one request a rating or an error, of two which is better."""

    model_config = ConfigDict(extra="forbid", strict=True)

    request: str = Field(min_length=1, max_length=LONGEST_SIGNED, description="signed id, from the answer's header")
    rating: StrictInt | None = Field(default=None, ge=LOWEST_RATING, le=HIGHEST_RATING)
    other: str | None = Field(default=None, min_length=1, max_length=LONGEST_SIGNED, description="signed id of another")
    better: Literal["request", "other", "tie"] | None = None
    error: str | None = Field(default=None, min_length=1, max_length=LONGEST_TEXT)

    @model_validator(mode="after")
    def _one_kind(self) -> FeedbackBody:
        given = {name for name in ("rating", "other", "better", "error") if getattr(self, name) is not None}
        if given not in ({"rating"}, {"other", "better"}, {"error"}):
            raise ValueError(f"expected a rating, or other and better, or an error; found {sorted(given) or 'none'}")
        return self


class FeedbackAnswer(BaseModel):
    """What was kept."""

    kept: VoteKind


def add_feedback_routes(
    app: FastAPI,
    store: FeedbackStore,
    tokens: CallerTokens,
    signer: TextSigner,
    *,
    on_rating: Callable[[RatingObservation], None] = lambda rating: None,
    clock: Callable[[], float] = time.time,
) -> None:
    """Add ``POST /v1/feedback`` to an app.

    A vote counts for the caller's token, or for the client that it names in ``X-Client-Id``, who may vote on what was
    made for it alone: names cost nothing, images do. ``on_rating`` hears of every rating that was kept, in the order in
    which they were; ``clock`` gives UNIX seconds.
    """

    @app.post(
        "/v1/feedback",
        status_code=201,
        response_model=FeedbackAnswer,
        openapi_extra={**body_schema(FeedbackBody), "parameters": [dict(CLIENT_PARAMETER)]},
        responses={
            code: {"description": text}
            for code, text in {
                401: "No known token.",
                403: "The token has another scope or may not name clients, or the request id was not signed here.",
                409: "A vote on this request is there already.",
                413: "The body is too long.",
                415: "The body is not JSON.",
                422: "The body says nothing that can be kept.",
                429: "This rater has had its votes of the day.",
                503: "Votes cannot be kept now.",
            }.items()
        },
    )
    async def feedback(request: Request, caller: Any = Depends(tokens.require("use"))) -> FeedbackAnswer:  # noqa: B008
        body = await read_json(request, FeedbackBody)
        name = client_name(request, caller)
        named = CLIENT_HEADER in request.headers
        own = hashed_key(name) if named else None
        vote = _vote(body, store.pseudonym(name), signer, clock(), own=own)
        try:
            await run_in_threadpool(store.add, vote)
        except AlreadyVoted as error:
            raise HTTPException(409, str(error)) from error
        except TooManyVotes as error:
            raise HTTPException(429, str(error), headers={"Retry-After": str(_RETRY_SECONDS)}) from error
        if vote.kind is VoteKind.RATING and vote.arm and vote.value is not None:
            on_rating(RatingObservation(vote.source, Arm(vote.arm), vote.version, vote.value, vote.at, vote.rollout))
        return FeedbackAnswer(kept=vote.kind)


def _vote(body: FeedbackBody, rater: str, signer: TextSigner, now: float, *, own: str | None) -> Vote:
    """Return the vote of a body, on requests of the client with the key ``own`` alone where there is one.

    Raises:
        HTTPException: 403 where an id was not signed here, or is of another client, 422 where two requests were
            answered by one version.
    """
    about = _request(body.request, signer, own)
    values: dict[str, Any] = {"rater": rater, "source": rater, "version": about["version"], "at": now}
    try:
        if body.rating is not None:
            values |= {"arm": about["arm"], "rollout": about["rollout"], "value": float(body.rating)}
            return Vote(kind=VoteKind.RATING, subject=about["request"], **values)
        if body.error is not None:
            values |= {"arm": about["arm"], "rollout": about["rollout"], "text": body.error}
            return Vote(kind=VoteKind.ERROR, subject=about["request"], **values)
        rival = _request(body.other or "", signer, own)
        pair = "+".join(sorted((about["request"], rival["request"])))
        values |= {"other": rival["version"], "value": _SHARES[body.better or "tie"]}
        return Vote(kind=VoteKind.COMPARISON, subject=pair, **values)
    except SettingsError as error:
        raise HTTPException(422, str(error)) from error


def _request(text: str, signer: TextSigner, own: str | None) -> dict[str, str]:
    """Return what a signed request id says.

    Raises:
        HTTPException: 403 where this service did not sign it, or for another client than ``own``.
    """
    try:
        fields = signer.verify(text)
        found = {name: fields[name] for name in ("request", "version", "arm", "rollout")}
        if not all(isinstance(value, str) for value in found.values()) or found["arm"] not in ("", *Arm):
            raise ValueError("fields of another kind")
    except (ValueError, KeyError) as error:
        raise HTTPException(
            403, "Expected a request id that this service signed, found another. Send it as the answer's header had it."
        ) from error
    if own is not None and fields.get("client") != own:
        raise HTTPException(403, f"Expected a request of the client that {CLIENT_HEADER} names, found another's.")
    return found
