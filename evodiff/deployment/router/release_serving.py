"""The serving process under a release: what serves is what the release file says, and changes by rollouts alone."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

import uvloop

from evodiff.deployment.feedback.store import FeedbackStore
from evodiff.deployment.metrics import Metrics
from evodiff.deployment.release.assignment import arm_of
from evodiff.deployment.release.controller import RolloutController
from evodiff.deployment.release.file import ReleaseFile
from evodiff.deployment.release.routes import add_release_routes
from evodiff.deployment.router.app import create_app
from evodiff.deployment.router.fleet import Fleet
from evodiff.deployment.router.hearing import Hearing
from evodiff.deployment.router.online_kid import OnlineKid
from evodiff.deployment.router.serving import bind, listen, run_app
from evodiff.deployment.web.signing import Signer
from evodiff.deployment.web.tokens import Tokens
from evodiff.errors import EvodiffError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from evodiff.deployment.release.rollout_settings import RolloutSettings
    from evodiff.deployment.settings import ServingSettings


@dataclass(frozen=True)
class ReleaseService:
    """A router that serves what the release ``file`` says and rolls out what waits there; ``votes`` are in a file."""

    settings: ServingSettings
    rollouts: RolloutSettings
    file: Path
    votes: Path
    runs_dir: Path
    tracking_uri: str | None
    tell: Callable[[str], None]

    def serve(self) -> None:
        """Serve until a signal.

        Raises:
            EvodiffError: a file cannot be read, another router rules the release, or the port is taken.
        """
        with (
            sole_ruler(self.file),
            asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
            contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError),
        ):
            runner.run(self._serve())

    async def _serve(self) -> None:
        serving, settings, rollouts = asyncio.current_task(), self.settings, self.rollouts
        assert serving is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, serving.cancel)
        tokens, signer = Tokens.from_settings(settings), Signer.from_settings(settings)
        listening = bind(settings)
        fleet = Fleet(settings, arm_of, runs_dir=self.runs_dir, tracking_uri=self.tracking_uri)
        metrics, going_on = Metrics(), list[asyncio.Task[None]]()
        store = FeedbackStore(self.votes)

        def end() -> None:
            for task in going_on:  # what is seen from now on speaks against no version: others are being ended too
                task.cancel()

        try:
            controller = RolloutController(
                ReleaseFile(self.file), fleet, rollouts.analyses(), rollouts.options(), probe=fleet.probe
            )
            metrics.set_latency_limit(rollouts.p99_seconds or 0.0)
            if (rollouts.p99_seconds or 0.0) >= settings.deadline_seconds:
                self.tell(
                    f"EVODIFF_ROLLOUT_P99_SECONDS ({rollouts.p99_seconds:g}) is not below the usual deadline "
                    f"({settings.deadline_seconds:g} s): who waits longer has no answer, so this guard sees nobody."
                )
            hearing = Hearing(fleet, controller, metrics, store, settings.galleries.expanduser(), self.tell)
            online_kid = OnlineKid(fleet, settings)
            online_kid.told.append(hearing.hear_quality)
            app = create_app(
                fleet,
                tokens=tokens,
                signer=signer,
                settings=settings,
                metrics=metrics,
                groups=[
                    lambda app: add_release_routes(app, controller, tokens, quality=online_kid.view),
                    lambda app: hearing.add_routes(app, tokens, signer),
                ],
            )
            listen(listening, settings, self.tell)
            going_on = [
                asyncio.create_task(controller.run(), name="rollouts"),
                asyncio.create_task(hearing.keep_production(), name="production"),
                asyncio.create_task(online_kid.run(), name="online KID"),
            ]
            await run_app(app, listening, settings, ending=end)
            await hearing.store_production()
        finally:
            end()
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
