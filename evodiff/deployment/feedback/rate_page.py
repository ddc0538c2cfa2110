"""``/rate``: a page on which anybody compares two versions, blind, by pictures of one seed and label.

It needs no token. What is shown is remembered here, so that nobody can vote on what was not shown, and nothing that
goes out says which version drew which picture. A vote counts for the network address that it came from, which may ask
so often a second and no more.
"""

from __future__ import annotations

import ipaddress
import random
import secrets
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final, Literal

from fastapi import APIRouter, Depends, HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.security import APIKeyCookie
from pydantic import BaseModel, ConfigDict, Field

from evodiff.deployment.feedback.gallery import Gallery, gallery_of, read_galleries
from evodiff.deployment.feedback.routes import LONGEST_SIGNED
from evodiff.deployment.feedback.store import AlreadyVoted, Comparison, TooManyVotes, UnknownComparison
from evodiff.deployment.web.json_body import body_schema, read_json
from evodiff.deployment.web.pace import Pace, TooFast
from evodiff.errors import EvodiffError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path

    from fastapi import FastAPI

    from evodiff.deployment.feedback.routes import TextSigner
    from evodiff.deployment.feedback.store import FeedbackStore

COOKIE: Final = "evodiff_rater"
RIVALS: Final = 8  # the newest galleries are compared with the champion's
HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}

_SHARES: Final = {"left": 1.0, "tie": 0.5, "right": 0.0}
_COOKIE_SECONDS: Final = 365 * 86400
_RETRY_SECONDS: Final = 3600
_MEANINGS: Final = {
    401: "No cookie of this page.",
    403: "Not signed here.",
    404: "There are no two to compare, or the comparison is over.",
    409: "Voted on before, or shown long ago.",
    413: "The body is too long.",
    415: "The body is not JSON.",
    422: "The body is no choice.",
    429: "This address asks too often, or has had its votes of the day.",
    503: "Votes cannot be kept now.",
}
_COOKIE: Final = APIKeyCookie(  # for the description alone: a vote looks at it by itself
    name=COOKIE, scheme_name="rater", description="The cookie that `POST /rate/next` sets.", auto_error=False
)
_ASSETS: Final = {
    "/rate": ("rate.html", "text/html; charset=utf-8"),
    "/rate/rate.js": ("rate.js", "text/javascript; charset=utf-8"),
    "/rate/rate.css": ("rate.css", "text/css; charset=utf-8"),
    "/rate/icon.svg": ("icon.svg", "image/svg+xml"),
}


class Shown(BaseModel):
    """Two pictures to compare: ``comparison`` names them when voting, ``left`` and ``right`` are their addresses."""

    comparison: str
    left: str
    right: str
    label: int | None


class Choice(BaseModel):
    """Which of the two that were shown is better."""

    model_config = ConfigDict(extra="forbid", strict=True)

    comparison: str = Field(min_length=1, max_length=LONGEST_SIGNED)
    better: Literal["left", "right", "tie"]


class Kept(BaseModel):
    """That a vote was kept."""

    kept: bool = True


def add_rate_page(
    app: FastAPI,
    store: FeedbackStore,
    signer: TextSigner,
    rater_signer: TextSigner,
    galleries: Path,
    *,
    champion: Callable[[], str | None] = lambda: None,
    clock: Callable[[], float] = time.time,
    rng: random.Random | None = None,
    pace: Pace | None = None,
) -> None:
    """Add the page, its pictures and its votes to an app, all of them below ``/rate``.

    Args:
        app: the app.
        store: where comparisons and votes go.
        signer: signs comparisons; for no other purpose, so that nothing else passes for one.
        rater_signer: signs the cookies of raters, likewise.
        galleries: where galleries are.
        champion: the version, RUN/ID, with which all others are compared where it has a gallery.
        clock: UNIX seconds.
        rng: draws pairs and sides; None is one that nobody can guess.
        pace: how often an address may ask for anything but the page itself; None is the usual.
    """
    for path, (name, kind) in _ASSETS.items():
        _add_asset(app, path, files("evodiff.deployment.feedback").joinpath("assets", name).read_bytes(), kind)
    page = _Page(store, signer, rater_signer, galleries, champion, clock, rng or random.SystemRandom())
    routes = APIRouter(prefix="/rate", dependencies=[Depends(_paced(store, pace or Pace()), scope="function")])
    routes.post("/next", response_model=Shown, responses=_described(404, 429, 503))(page.show)
    picture = "/picture/{comparison}/{side}.png"
    routes.get(picture, response_class=Response, responses=_described(403, 404, 429, 503))(page.picture)
    answers = _described(401, 403, 409, 413, 415, 422, 429, 503)
    body = dict(body_schema(Choice))
    routes.post(
        "/vote",
        status_code=201,
        response_model=Kept,
        openapi_extra=body,
        responses=answers,
        dependencies=[Depends(_COOKIE)],
    )(page.vote)
    app.include_router(routes)


def _paced(store: FeedbackStore, pace: Pace) -> Callable[[Request], AsyncIterator[None]]:
    """Return a dependency of FastAPI that lets an address in as often as it may come.

    It ends with the function that answers, before the answer is sent: who reads slowly keeps nobody out.
    """

    async def paced(request: Request) -> AsyncIterator[None]:
        with ExitStack() as inside:
            try:
                inside.enter_context(pace.entered(_source(request, store)))
            except TooFast as error:
                raise HTTPException(429, str(error), headers={"Retry-After": str(error.retry_after)}) from error
            yield

    return paced


@dataclass(frozen=True)
class _Page:
    """What answers below ``/rate``; the fields are those of :func:`add_rate_page`."""

    store: FeedbackStore
    signer: TextSigner
    rater_signer: TextSigner
    galleries: Path
    champion: Callable[[], str | None]
    clock: Callable[[], float]
    rng: random.Random

    async def show(self, request: Request, response: Response) -> Shown:
        """Draw the next comparison."""
        response.headers.update(HEADERS)
        pair = await run_in_threadpool(_drawn, self.galleries, self.champion(), self.rng)
        if pair is None:
            raise HTTPException(404, "There are no two versions with pictures to compare yet. Come back later.")
        left, right, key, label = pair
        shown = Comparison(secrets.token_hex(16), _source(request, self.store), left, right, key, self.clock())
        await run_in_threadpool(self.store.show, shown)
        if _rater(request, self.rater_signer) is None:
            _set_cookie(request, response, self.rater_signer)
        signed = self.signer.sign({"comparison": shown.id})
        left, right = (f"/rate/picture/{signed}/{side}.png" for side in ("left", "right"))
        return Shown(comparison=signed, left=left, right=right, label=label)

    async def picture(self, comparison: str, side: Literal["left", "right"]) -> Response:
        """Return a picture of a comparison that waits for its vote."""
        found = await run_in_threadpool(self.store.shown, _comparison(comparison, self.signer))
        if found is None:
            raise HTTPException(404, "This comparison is over. Ask for the next one.")
        version = found.left if side == "left" else found.right
        try:
            content = await run_in_threadpool(lambda: gallery_of(self.galleries, version).png(found.image))
        except EvodiffError as error:
            raise HTTPException(404, "This picture is gone. Ask for the next comparison.") from error
        return Response(content, media_type="image/png", headers=HEADERS)

    async def vote(self, request: Request, response: Response) -> Kept:
        """Keep a vote."""
        response.headers.update(HEADERS)
        choice = await read_json(request, Choice)
        rater = _rater(request, self.rater_signer)
        if rater is None:
            raise HTTPException(401, "Expected the cookie that this page sets, found none. Allow cookies and reload.")
        comparison = _comparison(choice.comparison, self.signer)
        try:
            await run_in_threadpool(self.store.decide, comparison, rater, _SHARES[choice.better], self.clock())
        except (UnknownComparison, AlreadyVoted) as error:
            raise HTTPException(409, str(error)) from error
        except TooManyVotes as error:
            raise HTTPException(429, str(error), headers={"Retry-After": str(_RETRY_SECONDS)}) from error
        return Kept()


def _described(*codes: int) -> dict[int | str, dict[str, Any]]:
    return {code: {"description": _MEANINGS[code]} for code in codes}


def _drawn(folder: Path, champion: str | None, rng: random.Random) -> tuple[str, str, str, int | None] | None:
    galleries = read_galleries(folder, RIVALS + 1)
    if champion is not None and champion not in galleries:
        with suppress(EvodiffError):
            galleries[champion] = gallery_of(folder, champion)
    return draw_pair(galleries, champion, rng)


def draw_pair(
    galleries: Mapping[str, Gallery], champion: str | None, rng: random.Random
) -> tuple[str, str, str, int | None] | None:
    """Return two versions, left and right, with the key and the label of what both drew; None where there are no two.

    One is the champion where it has a gallery: so every version is compared with it, and through it with all others.
    """
    every = list(galleries.values())
    first = galleries.get(champion or "") or (rng.choice(every) if every else None)
    rivals = [] if first is None else [item for item in every if item.version != first.version and _common(first, item)]
    if first is None or not rivals:
        return None
    second = rng.choice(rivals)
    key = rng.choice(_common(first, second))
    label = next(picture.label for picture in first.pictures if picture.key == key)
    left, right = rng.sample([first.version, second.version], 2)
    return left, right, key, label


def _common(first: Gallery, second: Gallery) -> list[str]:
    keys = {picture.key for picture in second.pictures}
    return [picture.key for picture in first.pictures if picture.key in keys]


def _add_asset(app: FastAPI, path: str, content: bytes, kind: str) -> None:
    async def asset() -> Response:
        return Response(content, media_type=kind, headers=HEADERS)

    app.get(path, include_in_schema=False)(asset)


def _comparison(text: str, signer: TextSigner) -> str:
    try:
        return str(signer.verify(text)["comparison"])
    except (ValueError, KeyError) as error:
        raise HTTPException(403, "Expected a comparison that this page showed, found another. Reload it.") from error


def _rater(request: Request, signer: TextSigner) -> str | None:
    """Return who the cookie says votes, None where there is none that was signed here."""
    try:
        return str(signer.verify(request.cookies.get(COOKIE, ""))["rater"])
    except (ValueError, KeyError):
        return None


def _set_cookie(request: Request, response: Response, signer: TextSigner) -> None:
    response.set_cookie(
        COOKIE,
        signer.sign({"rater": secrets.token_hex(12)}),
        max_age=_COOKIE_SECONDS,
        path="/rate",
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )


def _source(request: Request, store: FeedbackStore) -> str:
    """Return what stands for the network that a request came from: an IPv4 address, or 64 bits of an IPv6 one."""
    host = request.client.host if request.client is not None else ""
    try:
        address = ipaddress.ip_address(host)
        bits = 64 if address.version == 6 else 32
        host = str(ipaddress.ip_network((address, bits), strict=False))
    except ValueError:  # no network: a socket of this machine
        pass
    return store.pseudonym(f"network:{host}")
