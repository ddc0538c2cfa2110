"""A router with its workers as processes of their own, on a free port of the loopback."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

USE, RELEASE = "use-token-of-the-tests", "release-token-of-the-tests"
FOR_OTHERS = "token-of-an-application-with-clients"
TOKENS = [
    {"subject": "app", "scopes": ["use"], "token": USE},
    {"subject": "other", "scopes": ["use"], "token": f"{USE}-2"},
    {"subject": "application", "scopes": ["use", "clients"], "token": FOR_OTHERS},
    {"subject": "operator", "scopes": ["release"], "token": RELEASE},
]
SIGNING_KEY = "signing key of the tests, long enough"
STARTING_SECONDS = 500.0


def bearer(token: str = USE) -> dict[str, str]:
    """Return the header that shows a token."""
    return {"Authorization": f"Bearer {token}"}


class RouterProcess:
    """``evodiff serve MODEL ...`` with what it prints in ``folder``; ``settings`` are EVODIFF_SERVE_ variables,
    None for one that is not set."""

    def __init__(self, folder: Path, *arguments: object, **settings: object) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.url = ""
        self.log = folder / "router.log"
        self.folder = folder
        self._command = [sys.executable, "-m", "evodiff", "serve", *map(str, arguments), "--port", "0"]
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("EVODIFF_")}
        ours = {
            "secrets_dir": folder / "secrets",
            "cache_dir": folder / "cache",
            "galleries": folder / "galleries",
            "tokens": json.dumps(TOKENS),
            "signing_key": SIGNING_KEY,
            **settings,
        }
        self._environment = {
            **inherited,
            **{f"EVODIFF_SERVE_{name.upper()}": str(value) for name, value in ours.items() if value is not None},
            "OMP_NUM_THREADS": "1",
            "PYTHONUNBUFFERED": "1",
        }
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(self._command, stdout=log, stderr=log, env=self._environment)
        deadline = time.monotonic() + STARTING_SECONDS
        while not (found := re.search(r"Serving on (\S+)", self.log.read_text())):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.end()
                raise RuntimeError(f"evodiff serve did not start:\n{self.log.read_text()[-2000:]}")
            time.sleep(0.1)
        self.url = found[1]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.url.rpartition(":")[2])

    def client(self, token: str | None = USE) -> httpx.Client:
        """Return a client that shows a token."""
        return httpx.Client(base_url=self.url, headers={} if token is None else bearer(token), timeout=60)

    def end(self) -> int:
        """Ask it to end, as a service manager does, and return its exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
