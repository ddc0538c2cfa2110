"""The switch for continuous evolution, and its safety net: starts the runs that experiments want and nobody started."""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from typing import Any

import scheduling
from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import dag, get_current_context, task
from airflow.sdk.exceptions import AirflowFailException

DOC = """
### Keeps experiments going

Every few minutes it asks of each experiment whether it wants its next generation: by its policy (continuous, cron, on
alert), by a request that waits, or because a generation was left unfinished by a failure or a pause. Where nothing
works on it, the run is started. Pausing this DAG switches that off; generations that run now still start their
successors. `name_damage` fails where an experiment could not be asked; the others are not held up by it.
"""


@dag(
    dag_id="keep_evolving",
    schedule=timedelta(seconds=float(os.environ.get("EVODIFF_KEEP_EVOLVING_SECONDS", "120"))),
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    # Once more: a scheduler that has just been started has tasks before Airflow's API answers them.
    default_args={**scheduling.TASK_DEFAULTS, "retries": 1, "execution_timeout": timedelta(minutes=10)},
    is_paused_upon_creation=False,
    doc_md=DOC,
    tags=["evodiff"],
)
def keep_evolving() -> None:
    """Wire the survey to the runs that it starts."""

    @task
    def survey() -> list[dict[str, Any]]:
        from evodiff.pipeline import chain
        from evodiff.settings import load_settings

        found = chain.survey(load_settings({}), now=scheduling.now(), scheduler=scheduling.OWN_RUNS)
        for line in found.lines:
            scheduling.say(line)
        get_current_context()["ti"].xcom_push("damaged", found.damaged)
        return [scheduling.trigger(run["run_id"], run["experiment"]) for run in found.wanted]

    @task
    def name_damage(damaged: list[str]) -> None:
        if damaged:
            raise AirflowFailException("\n".join(damaged))

    surveyed = survey()
    TriggerDagRunOperator.partial(
        task_id="start", trigger_dag_id=scheduling.EVOLVE, skip_when_already_exists=True
    ).expand_kwargs(surveyed)
    name_damage(surveyed["damaged"])


keep_evolving()
