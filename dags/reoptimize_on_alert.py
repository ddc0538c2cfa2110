"""An alert on what serves starts a generation of the search that it came from."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

import scheduling
from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import Asset, AssetWatcher, dag, get_current_context, task
from airflow.sdk.exceptions import AirflowFailException
from evodiff_airflow.alerts import PrometheusAlertTrigger, acknowledge

DOC = """
### Starts again when what serves degrades

The watcher asks Alertmanager for alerts of the stable variant that say what `degraded`, and starts a run when one
begins to fire; silenced and inhibited ones are not told. The run writes a request into the run that the champion came
from, once for each alert however often it is told, grants it a generation beyond every end, tightens the latency limit
where latency degraded, and starts `evolve_architecture`. An alert that ends and begins again within
`EVODIFF_ALERT_COOLDOWN_MINUTES` (60) waits; a different one does not.

**Pausing this DAG ends the watch**: alerts that fire meanwhile and go on firing are heard when it is unpaused. The page
*Alert watcher* shows when it last asked. `name_trouble` fails where an alert could not be answered.
"""

ALERTS = Asset(
    "evodiff-alerts",
    uri="evodiff://alerts",
    watchers=[
        AssetWatcher(
            name="prometheus-alerts",
            trigger=PrometheusAlertTrigger(
                matchers=['arm="stable"', 'degraded=~".+"'],
                poll_interval=float(os.environ.get("EVODIFF_ALERT_POLL_SECONDS", "15")),
                acknowledged=True,
            ),
        )
    ],
)
COOLDOWN = timedelta(minutes=float(os.environ.get("EVODIFF_ALERT_COOLDOWN_MINUTES", "60")))


@dag(
    dag_id="reoptimize_on_alert",
    schedule=[ALERTS],
    catchup=False,
    max_active_runs=1,  # acknowledgements are read, then written
    default_args={**scheduling.TASK_DEFAULTS, "execution_timeout": timedelta(minutes=10)},
    is_paused_upon_creation=False,
    doc_md=DOC,
    tags=["evodiff"],
)
def reoptimize_on_alert() -> None:
    """Wire alerts to requests, and those to the runs that answer them."""

    @task(inlets=[ALERTS])
    def answer() -> list[dict[str, Any]]:
        from evodiff.monitoring.alerts import Alert
        from evodiff.pipeline.alerts import answer_alerts
        from evodiff.settings import load_settings

        context = get_current_context()
        events = [event for found in context["triggering_asset_events"].values() for event in found]
        told = [Alert.from_json(event.extra["payload"]) for event in events if "payload" in (event.extra or {})]
        clock = {"now": scheduling.now(), "scheduler": scheduling.OWN_RUNS}
        answers = answer_alerts(told, load_settings({}), **clock, cooldown=COOLDOWN)
        for item in answers:
            scheduling.say(item.reason)
        context["ti"].xcom_push("trouble", [item.reason for item in answers if item.failed])
        acknowledge(context["asset_state_store"][ALERTS], [item.alert for item in answers if item.settled])
        runs = {item.run_id: item.experiment for item in answers if item.run_id is not None}
        return [scheduling.trigger(run_id, str(experiment)) for run_id, experiment in runs.items()]

    @task
    def name_trouble(trouble: list[str]) -> None:
        if trouble:
            raise AirflowFailException("\n".join(trouble))

    answered = answer()
    TriggerDagRunOperator.partial(
        task_id="start", trigger_dag_id=scheduling.EVOLVE, skip_when_already_exists=True
    ).expand_kwargs(answered)
    name_trouble(answered["trouble"])


reoptimize_on_alert()
