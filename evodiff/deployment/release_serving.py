"""The serving process under a release: what serves is what the release file says, and changes by rollouts alone."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import signal
from typing import TYPE_CHECKING

import uvloop

from evodiff.deployment.app import create_app
from evodiff.deployment.assignment import arm_of
from evodiff.deployment.feedback_store import FeedbackStore
from evodiff.deployment.fleet import Fleet
from evodiff.deployment.hearing import Hearing
from evodiff.deployment.release_file import ReleaseFile
from evodiff.deployment.release_routes import add_release_routes
from evodiff.deployment.rollout import RolloutController
from evodiff.deployment.serving import bind, listen, run_app
from evodiff.deployment.signing import Signer
from evodiff.deployment.tokens import Tokens
from evodiff.errors import EvodiffError
from evodiff.monitoring.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from evodiff.deployment.rollout_settings import RolloutSettings
    from evodiff.deployment.settings import ServingSettings


def serve_release(
    settings: ServingSettings,
    rollouts: RolloutSettings,
    *,
    file: Path,
    votes: Path,
    runs_dir: Path,
    tracking_uri: str | None,
    tell: Callable[[str], None],
) -> None:
    """Serve what the release ``file`` says until a signal, and roll out what waits in it; keep ``votes`` in a file.

    Raises:
        EvodiffError: a file cannot be read, another router rules the release, or the port is taken.
    """
    with (
        sole_ruler(file),
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError),
    ):
        runner.run(_serve(settings, rollouts, file, votes, runs_dir, tracking_uri, tell))


async def _serve(
    settings: ServingSettings,
    rollouts: RolloutSettings,
    file: Path,
    votes: Path,
    runs_dir: Path,
    tracking_uri: str | None,
    tell: Callable[[str], None],
) -> None:
    serving = asyncio.current_task()
    assert serving is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, serving.cancel)
    tokens, signer = Tokens.from_settings(settings), Signer.from_settings(settings)
    listening = bind(settings)
    fleet = Fleet(settings, arm_of, runs_dir=runs_dir, tracking_uri=tracking_uri)
    metrics, going_on = Metrics(), list[asyncio.Task[None]]()
    store = FeedbackStore(votes)
    try:
        controller = RolloutController(
            ReleaseFile(file), fleet, rollouts.analyses(), rollouts.options(), probe=fleet.probe
        )
        metrics.set_latency_limit(rollouts.p99_seconds or 0.0)
        hearing = Hearing(fleet, controller, metrics, store, settings.galleries.expanduser(), tell)
        app = create_app(
            fleet,
            tokens=tokens,
            signer=signer,
            settings=settings,
            metrics=metrics,
            groups=[
                lambda app: add_release_routes(app, controller, tokens),
                lambda app: hearing.add_routes(app, tokens, signer),
            ],
        )
        listen(listening, settings, tell)
        going_on = [
            asyncio.create_task(controller.run(), name="rollouts"),
            asyncio.create_task(hearing.keep_production(), name="production"),
        ]

        def end() -> None:
            for task in going_on:  # what happens from now on says nothing about a version: others are being ended too
                task.cancel()

        await run_app(app, listening, settings, ending=end)
        await hearing.store_production()
    finally:
        for task in going_on:
            task.cancel()
        await asyncio.gather(*going_on, return_exceptions=True)
        listening.close()
        await fleet.close()
        store.close()


@contextlib.contextmanager
def sole_ruler(file: Path) -> Iterator[None]:
    """Be the only router that rules a release file.

    Raises:
        EvodiffError: another process is it.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.with_name(f".{file.name}.router").open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise EvodiffError(
                f"Another router rules {file}.", remedy="End it, or name another by EVODIFF_RELEASE_FILE."
            ) from error
        yield
