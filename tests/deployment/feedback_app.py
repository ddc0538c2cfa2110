"""A small service of the feedback routes alone, with signed ids and two tokens."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from fastapi import FastAPI, HTTPException, Request
from itsdangerous import BadData, URLSafeSerializer

from evodiff.deployment.feedback.gallery import write_gallery
from evodiff.deployment.feedback.rate_page import add_rate_page
from evodiff.deployment.feedback.routes import add_feedback_routes
from evodiff.deployment.feedback.store import FeedbackStore
from evodiff.deployment.observation import RatingObservation
from evodiff.deployment.web.pace import Pace

KEY = "k" * 32


class Caller:
    def __init__(self, subject: str, scopes: set[str]) -> None:
        self.subject = subject
        self.scopes = scopes


class KnownTokens:
    """Tokens in clear text, as a dependency of FastAPI."""

    callers: ClassVar = {
        "Bearer for-use": Caller("ann", {"use"}),
        "Bearer for-bob": Caller("bob", {"use"}),
        "Bearer for-others": Caller("app", {"use", "clients"}),
        "Bearer for-release": Caller("carl", {"release"}),
    }

    def require(self, scope: str) -> Callable[[Request], Caller]:
        def permitted(request: Request) -> Caller:
            caller = self.callers.get(request.headers.get("authorization", ""))
            if caller is None:
                raise HTTPException(401, "no token")
            if scope not in caller.scopes:
                raise HTTPException(403, "another scope")
            return caller

        return permitted


class TextSigner:
    def __init__(self, purpose: str = "request", key: str = KEY) -> None:
        self._serializer = URLSafeSerializer(key, salt=purpose)

    def sign(self, fields: Mapping[str, Any]) -> str:
        return str(self._serializer.dumps(dict(fields)))

    def verify(self, text: str) -> dict[str, Any]:
        try:
            found: dict[str, Any] = self._serializer.loads(text)
        except BadData as error:
            raise ValueError("not signed here") from error
        return found


def signed(request: str, version: str = "run/a", **changes: Any) -> str:
    fields = {"request": request, "version": version, "arm": "stable", "rollout": "", "client": "c"}
    return TextSigner().sign(fields | changes)


def create_app(
    store: FeedbackStore,
    galleries: Path,
    *,
    champion: str | None = None,
    heard: list[RatingObservation] | None = None,
    seed: int = 0,
    pace: Pace | None = None,
) -> FastAPI:
    app = FastAPI()
    listener = (lambda rating: None) if heard is None else heard.append
    add_feedback_routes(app, store, KnownTokens(), TextSigner(), on_rating=listener)
    add_rate_page(
        app,
        store,
        TextSigner("comparison"),
        TextSigner("rater"),
        galleries,
        champion=lambda: champion,
        rng=random.Random(seed),
        pace=pace,
    )
    return app


def draw_gallery(folder: Path, candidate: str, grey: int, *, size: int = 8, classes: int = 4) -> Path:
    """Write a gallery of 8 pictures in one grey each, the lighter the higher their seed."""
    images = np.zeros((8, size, size, 1), dtype=np.uint8)
    images += (grey + np.arange(8, dtype=np.uint8))[:, None, None, None]
    labels = [seed % classes for seed in range(8)] if classes else None
    return write_gallery(folder, {"run": "run", "candidate": candidate, "generation": 0}, images, range(8), labels)
