"""Every night: what is older than the retention settings say is removed, so that the disk stays bounded."""

from __future__ import annotations

import os

import scheduling
from airflow.sdk import dag, task

DOC = """
### Removes what nobody will want any more

A task for each chore: weights of runs at rest, large artifacts in MLflow of candidates that left the front, data that
no commit of the archive names, log files, and old records of Airflow. What is older than `EVODIFF_RETENTION_DAYS` (30)
goes, and artifacts only of who was on none of the last `EVODIFF_RETENTION_GENERATIONS` (5) fronts. Results, genomes and
the entries of the registry stay.
`evodiff housekeeping --dry-run` lists what would go.
"""

CHORES = {"weights": "default_pool", "tracking": "default_pool", "archive": "dvc", "logs": "default_pool"}


@dag(
    dag_id="housekeeping",
    schedule=os.environ.get("EVODIFF_HOUSEKEEPING_CRON", "30 3 * * *"),
    doc_md=DOC,
    **scheduling.NIGHTLY,
)
def housekeeping() -> None:
    """Wire a task for each chore; the records of Airflow go last, for they name what the others did."""

    @task
    def clean(chore: str) -> None:
        from evodiff.pipeline.housekeeping import do_chore
        from evodiff.settings import load_settings

        do_chore(load_settings({}), chore, now=scheduling.now(), say=scheduling.say)

    done = [clean.override(task_id=chore, pool=pool)(chore) for chore, pool in CHORES.items()]
    done >> clean.override(task_id="database", trigger_rule="all_done")("database")


housekeeping()
