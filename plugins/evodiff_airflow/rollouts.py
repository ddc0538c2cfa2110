"""Wait for a rollout, and for a person to speak on it: neither takes a slot while it waits."""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import BaseOperator
from airflow.sdk.execution_time.hitl import upsert_hitl_detail
from airflow.triggers.base import BaseTrigger, TriggerEvent

from evodiff_airflow.connections import ROUTER, router, router_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from airflow.sdk import Context

log = logging.getLogger(__name__)

PROMOTE, REJECT, MOVED = "Promote", "Reject", "moved"


class RolloutTrigger(BaseTrigger):
    """Ends when a rollout is over or waits for a person; with ``revision``, when it has moved on from there.

    ``until`` (UNIX seconds) ends it too; the event says which: ``over``, ``waiting``, ``moved`` or ``timed out``.
    """

    def __init__(
        self, rollout: str, conn_id: str, poll_interval: float, revision: int | None = None, until: float | None = None
    ) -> None:
        super().__init__()
        self.rollout, self.conn_id, self.poll_interval = rollout, conn_id, poll_interval
        self.revision, self.until = revision, until

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return class path and arguments."""
        names = ("rollout", "conn_id", "poll_interval", "revision", "until")
        return f"{__name__}.{type(self).__name__}", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Poll; a router that does not answer says nothing."""
        from evodiff.errors import EvodiffError

        while True:
            try:
                release = await (await router_async(self.conn_id)).release_async()
            except EvodiffError as error:
                log.warning("%s", error)
            else:
                if (found := self._found(release)) is not None:
                    yield TriggerEvent({"stage": found, "revision": release["revision"]})
                    return
            if self.until is not None and time.time() >= self.until:
                yield TriggerEvent({"stage": "timed out", "revision": self.revision})
                return
            await asyncio.sleep(self.poll_interval)

    def _found(self, release: dict[str, Any]) -> str | None:
        from evodiff.deployment.release.following import Stage, has_moved, stage

        if self.revision is not None:
            return MOVED if has_moved(release, self.rollout, self.revision) else None
        found = stage(release, self.rollout)
        return None if found is Stage.ON else str(found)


class FollowRollout(BaseOperator):
    """Waits in the triggerer until a rollout is over or waits for a person; brings the stage and the revision."""

    template_fields: Sequence[str] = ("rollout",)

    def __init__(self, *, rollout: Any, conn_id: str = ROUTER, poll_interval: float = 10.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rollout, self.conn_id, self.poll_interval = rollout, conn_id, poll_interval

    def execute(self, context: Context) -> None:
        """Wait."""
        trigger = RolloutTrigger(str(self.rollout), self.conn_id, self.poll_interval)
        self.defer(trigger=trigger, method_name="execute_complete")

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Return what the trigger saw."""
        return event


class AskToPromote(HITLOperator):
    """Asks a person whether a rollout that waits goes on, as required actions of Airflow are; who says nothing rejects.

    The question is put at one revision. It is no longer one, and brings ``moved``, as soon as the release has moved on:
    by a command to the router, or by a guard. Where Airflow tries the task again, it is asked again: Airflow drops the
    answer to an earlier try.
    """

    template_fields: Sequence[str] = ("subject", "body", "rollout", "revision")

    def __init__(
        self, *, rollout: Any, revision: Any, conn_id: str = ROUTER, poll_interval: float = 10.0, **kwargs: Any
    ) -> None:
        super().__init__(options=[PROMOTE, REJECT], defaults=REJECT, **kwargs)
        self.rollout, self.revision = rollout, revision
        self.conn_id, self.poll_interval = conn_id, poll_interval

    def execute(self, context: Context) -> Any:
        """Ask, then wait for the answer, for the release to move on, or for the time to be up."""
        from evodiff.deployment.release.following import has_moved, question

        release = router(self.conn_id).release()
        rollout, revision = str(self.rollout), int(self.revision)
        if not has_moved(release, rollout, revision):
            self._ask(context, question(release), rollout, revision)
        return self.execute_complete(context, {"stage": MOVED})

    def _ask(self, context: Context, body: str, rollout: str, revision: int) -> NoReturn:
        self.body = body
        upsert_hitl_detail(
            ti_id=context["task_instance"].id,
            options=self.options,
            subject=self.subject,
            body=self.body,
            defaults=self.defaults,
            multiple=False,
            params=self.serialized_params,
            assigned_users=self.assigned_users,
        )
        until = time.time() + (self.response_timeout or timedelta(days=7)).total_seconds()
        self.defer(
            trigger=RolloutTrigger(rollout, self.conn_id, self.poll_interval, revision, until),
            method_name="execute_complete",
        )

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Return ``{"answer": ..., "by": ...}``; a person's answer comes from Airflow itself, without the trigger."""
        if event.get("stage") == MOVED:
            return {"answer": MOVED, "by": "the release"}
        if "stage" in event:
            return {"answer": REJECT, "by": "nobody, in time"}
        found = super().execute_complete(context, event)
        return {"answer": found["chosen_options"][0], "by": (found["responded_by_user"] or {}).get("name", "somebody")}
