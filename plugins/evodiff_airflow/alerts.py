"""Hear of alerts: a trigger that starts DAGs when one begins to fire, and a sensor that waits for a state."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from airflow.sdk import BaseSensorOperator
from airflow.triggers.base import BaseEventTrigger, BaseTrigger, TriggerEvent

from evodiff_airflow.connections import ALERTMANAGER, alertmanager, alertmanager_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from airflow.sdk import Context

    from evodiff.monitoring.alerts import Alert
    from evodiff.monitoring.watch import AlertWatch

log = logging.getLogger(__name__)

State = Literal["firing", "resolved"]
# Keys of the store that Airflow keeps for an asset, durable and shared by watcher and tasks.
TOLD, ACKNOWLEDGED, HEARTBEAT = "alerts-told", "alerts-acknowledged", "heartbeat"
MOST_ACKNOWLEDGED = 200


class PrometheusAlertTrigger(BaseEventTrigger):
    """Tells of each alert when it begins to fire: at least once, and as a rule once.

    ``matchers`` such as ``arm="stable"`` must all match. What was told is remembered in the store of the asset, written
    one poll after it was told: a triggerer that dies in between tells it again. With ``acknowledged`` an alert is told
    again, later each time, until a task has called :func:`acknowledge`, for Airflow may merge or drop events.
    """

    def __init__(
        self,
        matchers: Sequence[str] = (),
        conn_id: str = ALERTMANAGER,
        poll_interval: float = 15.0,
        acknowledged: bool = False,
    ) -> None:
        super().__init__()
        self.matchers, self.conn_id = list(matchers), conn_id
        self.poll_interval, self.acknowledged = poll_interval, acknowledged
        self._trouble: str | None = None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return class path and arguments."""
        arguments = {
            "matchers": self.matchers,
            "conn_id": self.conn_id,
            "poll_interval": self.poll_interval,
            "acknowledged": self.acknowledged,
        }
        return f"{__name__}.{type(self).__name__}", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Poll for ever; yield an event, with the alert as its payload, for each that is to be told."""
        from evodiff.monitoring.watch import AlertWatch

        remembered = await self._recall(TOLD, {})
        watch = AlertWatch.from_json(remembered)
        while True:
            for alert in await self._news(watch):
                yield TriggerEvent(alert.to_json())
            await asyncio.sleep(self.poll_interval)
            if (told := watch.to_json()) != remembered:
                await self._keep(TOLD, told)
                remembered = told

    async def _news(self, watch: AlertWatch) -> list[Alert]:
        from evodiff.monitoring.watch import write_heartbeat

        now = time.time()
        try:
            client = await alertmanager_async(self.conn_id)
            firing = await client.firing_async(self.matchers)
            settled = await self._recall(ACKNOWLEDGED, []) if self.acknowledged else None
        except Exception as error:  # whatever it is, it must not end the watch: it may be over at the next poll
            await self._complain(f"{type(error).__name__}: {error}")
            return []
        self._trouble = None
        await self._keep(HEARTBEAT, {"at": now, "firing": len(firing), "every": self.poll_interval, "trouble": None})
        if runs := os.environ.get("EVODIFF_RUNS_DIR"):
            with suppress(OSError):  # a full disk does not keep alerts from being heard
                write_heartbeat(Path(runs), now, len(firing))
        return watch.news(firing, now, settled)

    async def _complain(self, trouble: str) -> None:
        if trouble != self._trouble:
            self._trouble = trouble
            log.warning("The alerts cannot be asked for: %s", trouble)
            before = await self._recall(HEARTBEAT, {})
            await self._keep(HEARTBEAT, {"at": None, "every": self.poll_interval, **before, "trouble": trouble})

    async def _recall(self, key: str, default: Any) -> Any:
        return default if self.asset_state_store is None else await self.asset_state_store.aget(key, default)

    async def _keep(self, key: str, value: Any) -> None:
        if self.asset_state_store is not None:
            await self.asset_state_store.aset(key, value)


def acknowledge(store: Any, identities: Sequence[str]) -> None:
    """Say in the store of an asset that alerts were seen to; one task at a time may."""
    before = [known for known in store.get(ACKNOWLEDGED, []) if known not in identities]
    store.set(ACKNOWLEDGED, [*before, *identities][-MOST_ACKNOWLEDGED:])


class AlertStateTrigger(BaseTrigger):
    """Ends when an alert that ``matchers`` match fires, or when none does; its event holds those that fire."""

    def __init__(self, matchers: Sequence[str], state: State, conn_id: str, poll_interval: float) -> None:
        super().__init__()
        self.matchers, self.state, self.conn_id, self.poll_interval = list(matchers), state, conn_id, poll_interval

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return class path and arguments."""
        names = ("matchers", "state", "conn_id", "poll_interval")
        return f"{__name__}.{type(self).__name__}", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Poll until the state is there; an Alertmanager that does not answer says nothing."""
        from evodiff.monitoring.alerts import AlertmanagerError

        while True:
            try:
                firing = await (await alertmanager_async(self.conn_id)).firing_async(self.matchers)
            except AlertmanagerError as error:
                log.warning("%s", error)
            else:
                if holds(self.state, firing):
                    yield TriggerEvent({"alerts": [alert.to_json() for alert in firing]})
                    return
            await asyncio.sleep(self.poll_interval)


class PrometheusAlertSensor(BaseSensorOperator):
    """Waits until an alert that all ``matchers`` match is firing, or until none is: as it is now, not what began.

    It brings the alerts that fire, as JSON. ``timeout`` is in seconds, as of every sensor; while Alertmanager does not
    answer it waits.
    """

    template_fields: Sequence[str] = ("matchers",)

    def __init__(
        self,
        *,
        matchers: Sequence[str],
        state: State = "firing",
        conn_id: str = ALERTMANAGER,
        poll_interval: float = 15.0,
        deferrable: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(poke_interval=poll_interval, **kwargs)
        if state not in ("firing", "resolved"):
            raise ValueError(f'state: expected "firing" or "resolved", found {state!r}')
        self.matchers, self.state, self.conn_id = list(matchers), state, conn_id
        self.poll_interval, self.deferrable = poll_interval, deferrable

    def execute(self, context: Context) -> Any:
        """Look once, then wait: in the triggerer where it is deferrable."""
        if not self.deferrable:
            return super().execute(context)
        found = self.poke(context)
        if not found:
            self.defer(
                trigger=AlertStateTrigger(self.matchers, self.state, self.conn_id, self.poll_interval),
                method_name="execute_complete",
                timeout=timedelta(seconds=self.timeout),
            )
        return found.xcom_value

    def execute_complete(self, context: Context, event: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the alerts that the trigger saw."""
        alerts: list[dict[str, Any]] = event["alerts"]
        return alerts

    def poke(self, context: Context) -> Any:
        """Look once."""
        from airflow.sdk import PokeReturnValue

        from evodiff.monitoring.alerts import AlertmanagerError

        try:
            firing = alertmanager(self.conn_id).firing(self.matchers)
        except AlertmanagerError as error:
            log.warning("%s", error)
            return PokeReturnValue(is_done=False)
        return PokeReturnValue(holds(self.state, firing), [alert.to_json() for alert in firing])


def holds(state: State, firing: Sequence[Alert]) -> bool:
    """Return whether the alerts that fire are what is waited for."""
    return bool(firing) == (state == "firing")
