"""The switch for continuous evolution, and its safety net: starts the runs that experiments want and nobody started."""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from typing import Any

import scheduling
from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import dag, task

DOC = """
### Keeps experiments going

Every few minutes it asks of each experiment whether it wants its next generation: by its policy (continuous, cron, on
alert), by a request that waits, or because a generation was left unfinished by a failure or a pause. Where nothing
works on it, the run is started. Pausing this DAG switches that off; generations that run now still start their
successors.
"""


@dag(
    dag_id="keep_evolving",
    schedule=timedelta(seconds=float(os.environ.get("EVODIFF_KEEP_EVOLVING_SECONDS", "120"))),
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    default_args={**scheduling.TASK_DEFAULTS, "retries": 0, "execution_timeout": timedelta(minutes=10)},
    is_paused_upon_creation=False,
    doc_md=DOC,
    tags=["evodiff"],
)
def keep_evolving() -> None:
    """Wire the survey to the runs that it starts."""

    @task
    def survey() -> list[dict[str, Any]]:
        from evodiff.pipeline.chain import wanted_runs
        from evodiff.settings import load_settings

        wanted, lines = wanted_runs(
            load_settings({}), now=scheduling.now(), is_active=scheduling.is_active, is_known=scheduling.is_known
        )
        for line in lines:
            scheduling.say(line)
        return [scheduling.trigger(run["run_id"], run["experiment"]) for run in wanted]

    TriggerDagRunOperator.partial(
        task_id="start", trigger_dag_id=scheduling.EVOLVE, skip_when_already_exists=True
    ).expand_kwargs(survey())


keep_evolving()
