"""Every night: is what the runs have on record whole, linked, finite, and what its digests say?"""

from __future__ import annotations

import os

import scheduling
from airflow.sdk import dag, get_current_context, task

DOC = """
### Audits every run

A task for each run; one that fails names what is not as expected, sets the rows that offend aside and leaves a page,
`RUN/report/audit/index.html`. Nothing in a run is changed. By hand: `evodiff audit RUN`.
"""


@dag(
    dag_id="audit",
    schedule=os.environ.get("EVODIFF_AUDIT_CRON", "0 2 * * *"),
    doc_md=DOC,
    **scheduling.NIGHTLY,
)
def audit() -> None:
    """Wire the audits."""

    @task
    def find_runs() -> list[str]:
        from evodiff.pipeline.chain import experiments
        from evodiff.settings import load_settings

        return [str(path) for path in experiments(load_settings({}).runs_dir)]

    @task(map_index_template="{{ run_name }}", max_active_tis_per_dagrun=1)
    def audit_run(run: str) -> str:
        from evodiff.pipeline import driver
        from evodiff.pipeline.run import Run

        opened = Run.open(run)
        get_current_context()["run_name"] = opened.name  # type: ignore[typeddict-unknown-key]  # the template asks
        return driver.audit(opened, scheduling.say)

    audit_run.expand(run=find_runs())


audit()
