"""The serving process: a fleet, the app over it, and the server that both run in."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import resource
import signal
import socket
from typing import TYPE_CHECKING

import uvicorn
import uvloop

from evodiff.deployment.observation import Arm
from evodiff.deployment.release.assignment import arm_of
from evodiff.deployment.router.app import create_app
from evodiff.deployment.router.fleet import Fleet
from evodiff.deployment.web.loop_lag import LoopLag
from evodiff.deployment.web.signing import Signer
from evodiff.deployment.web.slow_clients import bounded_protocol
from evodiff.deployment.web.tokens import Tokens
from evodiff.errors import EvodiffError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from fastapi import FastAPI

    from evodiff.deployment.settings import ServingSettings

    Entry = Mapping[str, str]

_OTHER_FILES = 256  # of the router: workers, libraries, the votes' store, models that are copied
GRACE_SECONDS = 10  # for requests that are being answered when the server is asked to end


def serve(
    settings: ServingSettings,
    *,
    stable: Entry,
    canary: Entry | None = None,
    weight: float = 0.0,
    runs_dir: Path,
    tracking_uri: str | None,
    tell: Callable[[str], None],
) -> None:
    """Load what is to be served, answer requests until a signal, then let those at work finish.

    Raises:
        EvodiffError: what is to be served cannot be, or the port is taken.
    """
    with (
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError),
    ):
        runner.run(_serve(settings, stable, canary, weight, runs_dir, tracking_uri, tell))


async def _serve(
    settings: ServingSettings,
    stable: Entry,
    canary: Entry | None,
    weight: float,
    runs_dir: Path,
    tracking_uri: str | None,
    tell: Callable[[str], None],
) -> None:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    tokens, signer = Tokens.from_settings(settings), Signer.from_settings(settings)
    listening = bind(settings)
    fleet = Fleet(settings, arm_of, runs_dir=runs_dir, tracking_uri=tracking_uri)
    try:
        for arm, entry in ((Arm.STABLE, stable), (Arm.CANARY, canary)):
            if entry is not None:
                report = await fleet.load(entry, arm)
                tell(f"{arm}: {report.version}, {report.peak_rss_bytes / 1e6:.0f} MB, {report.seconds:.1f} s to load")
        fleet.route("command-line" if canary is not None else "", weight if canary is not None else 0.0)
        listen(listening, settings, tell)
        await run_app(create_app(fleet, tokens=tokens, signer=signer, settings=settings), listening, settings)
    finally:
        listening.close()
        await fleet.close()


def bind(settings: ServingSettings) -> socket.socket:
    """Return a socket that has the address in the settings; :func:`listen` opens it to clients.

    Raises:
        EvodiffError: the address is taken, or none of this machine.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((settings.host, settings.port))
    except OSError as error:
        listening.close()
        raise EvodiffError(
            f"Nothing can listen on {settings.host}:{settings.port}: {error.strerror}.", remedy="Give another --port."
        ) from error
    return listening


def listen(listening: socket.socket, settings: ServingSettings, tell: Callable[[str], None]) -> None:
    """Let clients connect, and tell where; they wait until :func:`run_app` answers."""
    _allow_files(settings.max_connections + _OTHER_FILES)
    listening.listen(settings.max_connections)
    host, port = listening.getsockname()[:2]
    tell(f"Serving on http://{f'[{host}]' if ':' in host else host}:{port} (tokens: {settings.secrets_dir})")


async def run_app(
    app: FastAPI,
    listening: socket.socket,
    settings: ServingSettings,
    *,
    ending: Callable[[], None] = lambda: None,
) -> None:
    """Answer requests on a socket until SIGINT or SIGTERM, of which ``ending`` hears before the last are answered.

    Meanwhile what was there before is not looked through for garbage: of a router's modules that takes a tenth of a
    second, in which every request would wait.
    """
    lag = LoopLag()
    config = uvicorn.Config(
        app,
        http=bounded_protocol(settings, lag),
        ws="none",
        lifespan="off",
        access_log=False,
        log_level="warning",
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=list(settings.trusted_proxies),
        server_header=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    server = _Server(config, ending)
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, server.end)
    measuring = asyncio.create_task(lag.measure(), name="lag of the loop")
    gc.collect()
    gc.freeze()
    try:
        await server.serve(sockets=[listening])
    finally:
        gc.unfreeze()
        measuring.cancel()


def _allow_files(count: int) -> None:
    """Let this process have so many files open, as far as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < count:
        with contextlib.suppress(ValueError, OSError):  # more than the system gives: clients then wait to be taken in
            resource.setrlimit(
                resource.RLIMIT_NOFILE, (count if hard == resource.RLIM_INFINITY else min(count, hard), hard)
            )


class _Server(uvicorn.Server):
    """A server that leaves signals to its caller: uvicorn's raises them again, before workers could be ended."""

    def __init__(self, config: uvicorn.Config, ending: Callable[[], None]) -> None:
        super().__init__(config)
        self._ending = ending

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield

    def end(self) -> None:
        """Answer what has come, and nothing more."""
        self._ending()
        self.should_exit = True
