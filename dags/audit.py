"""Every night: is what the runs have on record whole, linked, finite, and what its digests say?"""

from __future__ import annotations

import os
from datetime import timedelta

import scheduling
from airflow.sdk import dag, get_current_context, task

DOC = """
### Audits every run

A task for each run; one that fails names what is not as expected, sets the rows that offend aside and leaves a page,
`RUN/report/audit/index.html`. Nothing in a run is changed. By hand: `evodiff audit RUN`.
"""


@dag(
    dag_id="audit",
    # Without a start date a new installation waits for the first night instead of making up for the last one.
    schedule=os.environ.get("EVODIFF_AUDIT_CRON", "0 2 * * *"),
    catchup=False,
    max_active_runs=1,
    default_args={**scheduling.TASK_DEFAULTS, "execution_timeout": timedelta(hours=2)},
    is_paused_upon_creation=False,
    doc_md=DOC,
    tags=["evodiff"],
)
def audit() -> None:
    """Wire the audits."""

    @task
    def find_runs() -> list[str]:
        from evodiff.settings import load_settings

        return [str(path.parent) for path in sorted(load_settings({}).runs_dir.glob("*/experiment.json"))]

    @task(map_index_template="{{ run_name }}", max_active_tis_per_dagrun=1)
    def audit_run(run: str) -> str:
        from evodiff import gates
        from evodiff.pipeline.run import Run

        opened = Run.open(run)
        get_current_context()["run_name"] = opened.name  # type: ignore[typeddict-unknown-key]  # the template asks
        result = gates.audit_run(opened)
        scheduling.say(f"{len(result.checks)} expectations met: {result.page}")
        return str(result.page)

    audit_run.expand(run=find_runs())


audit()
