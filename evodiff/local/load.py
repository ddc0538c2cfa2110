"""Clients of a router: a bounded rate of requests over kept connections, every answer counted, some of them rated."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import secrets
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

import httpx

from evodiff.deployment.web.secret_files import secret_file
from evodiff.errors import EvodiffError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import TracebackType

CONNECTIONS: Final = 8
MOST_IN_FLIGHT: Final = 32
PATIENCE_SECONDS: Final = 60.0
TOKENS_FILE: Final = "tokens.json"
_PNG: Final = "iVBORw0KGgo"  # how a PNG begins in base64


class LoadError(EvodiffError):
    """The load could not be kept up: the clients themselves failed, not the service."""


@dataclass
class Counts:
    """What came of requests: ``answered`` by version, ``lost`` by what happened, ``ratings`` kept and refused.

    Whatever is not an answer with the image that was asked for is lost: a refusal, an error, a broken connection, no
    answer in a minute.
    """

    sent: int = 0
    answered: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)
    ratings: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)

    def quantile(self, share: float, last: int | None = None) -> float:
        """Return what that share of the last answers took at most, in seconds; 0 without any."""
        times = sorted(self.seconds[-last:] if last else self.seconds)
        return times[min(len(times) - 1, int(share * len(times)))] if times else 0.0


class Load:
    """Sends ``rate`` requests a second, each of another of ``tokens`` in turn, from a thread of its own.

    One answer in ``rate_every`` is rated, with one of ``mood``, which may be set at any time, as may ``rate``. With
    32 requests in flight no further one is sent until one of them has ended.
    """

    def __init__(
        self, url: str, tokens: Sequence[str], *, rate: float, steps: int, rate_every: int = 3, seed: int = 0
    ) -> None:
        self.rate, self.steps, self.rate_every = rate, steps, rate_every
        self.mood: tuple[int, ...] = (4, 5)
        self.counts = Counts()
        self._url, self._tokens = url, itertools.cycle(random.Random(seed).sample(tokens, len(tokens)))  # noqa: S311
        self._rng = random.Random(seed)  # noqa: S311 - who asks next is no secret
        self._stop, self._going = threading.Event(), threading.Event()
        self._going.set()
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)
        self._failed: BaseException | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def pause(self) -> None:
        """Send nothing until :meth:`resume`."""
        self._going.clear()

    def resume(self) -> None:
        """Go on sending."""
        self._going.set()

    def stop(self) -> Counts:
        """Send nothing more, wait for what is in flight, and return the counts.

        Raises:
            LoadError: the clients failed.
        """
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()
        if self._failed is not None:
            raise LoadError(f"The load ended early: {self._failed!r}.", remedy="Look at the clients, not the service.")
        return self.counts

    def _run(self) -> None:
        try:
            asyncio.run(self._send_all())
        except BaseException as error:  # told to whoever asks for the counts
            self._failed = error

    async def _send_all(self) -> None:
        limits = httpx.Limits(max_connections=MOST_IN_FLIGHT, max_keepalive_connections=CONNECTIONS)
        flight: set[asyncio.Task[None]] = set()
        async with httpx.AsyncClient(base_url=self._url, limits=limits, timeout=PATIENCE_SECONDS) as client:
            due = time.monotonic()
            while not self._stop.is_set():
                due = max(due + self._rng.expovariate(self.rate), time.monotonic() - 1.0)
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                if self._going.is_set() and len(flight) < MOST_IN_FLIGHT:
                    task = asyncio.create_task(self._one(client, self.counts.sent))
                    self.counts.sent += 1
                    flight.add(task)
                    task.add_done_callback(flight.discard)
            await asyncio.gather(*flight)

    async def _one(self, client: httpx.AsyncClient, number: int) -> None:
        headers = {"Authorization": f"Bearer {next(self._tokens)}", "Accept": "application/json"}
        body = {"count": 1, "seed": number, "steps": self.steps}
        began = time.monotonic()
        try:
            answer = await client.post("/v1/generate", json=body, headers=headers)
        except httpx.HTTPError as error:
            self.counts.lost[type(error).__name__] += 1
            return
        problem = _problem(answer)
        if problem is not None:
            self.counts.lost[problem] += 1
            return
        self.counts.seconds.append(time.monotonic() - began)
        self.counts.answered[answer.headers["X-Model-Version"]] += 1
        if number % self.rate_every == 0:
            await self._vote(client, answer.headers["X-Request-Id"], headers)

    async def _vote(self, client: httpx.AsyncClient, request: str, headers: dict[str, str]) -> None:
        vote = {"request": request, "rating": self._rng.choice(self.mood)}
        outcome = "lost"
        with contextlib.suppress(httpx.HTTPError):
            answer = await client.post("/v1/feedback", json=vote, headers=headers)
            outcome = "kept" if answer.status_code == httpx.codes.CREATED else f"status {answer.status_code}"
        self.counts.ratings[outcome] += 1


def make_tokens(folder: Path, clients: int) -> list[str]:
    """Return a token to release with and one for each client, in that order, from the file that the router reads.

    Where there is none it is made; the router has to be started afterwards.
    """

    def made() -> str:
        subjects = ["operator", *(f"client {number}" for number in range(clients))]
        return json.dumps(
            [
                {
                    "subject": subject,
                    "scopes": ["use"] if number else ["use", "release"],
                    "token": secrets.token_urlsafe(24),
                }
                for number, subject in enumerate(subjects)
            ]
        )

    return [entry["token"] for entry in json.loads(secret_file(folder / TOKENS_FILE, made))]


def _problem(answer: httpx.Response) -> str | None:
    """Return what is wrong with an answer, None where it holds the image that was asked for."""
    if answer.status_code != httpx.codes.OK:
        return f"status {answer.status_code}"
    content: Any = answer.json()
    images: Any = content.get("images") if isinstance(content, dict) else None
    return None if images and len(images) == 1 and images[0]["png"].startswith(_PNG) else "no image"
