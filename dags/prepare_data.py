"""A dataset made ready: images read and checked, feature nets trained, operators timed; all of it cached."""

from __future__ import annotations

from typing import Any

import scheduling
from airflow.sdk import Asset, Param, dag, get_current_context, task

DOC = """
### Makes a dataset ready

Reads the images, passes them through the gates, trains the feature nets, times this machine's operators. An experiment
on that dataset then opens in seconds. The page of the gates is named in the log of `check`.
"""


@dag(
    dag_id="prepare_data",
    schedule=None,
    catchup=False,
    params={
        "dataset": Param("digits", type="string", description="digits, photos[:SIZE], shapes[:SIZE] or folder:PATH"),
        "image_size": Param(
            None, type=["null", "integer"], minimum=4, maximum=256, description="Pixels a side. Blank: its own"
        ),
    },
    default_args=scheduling.TASK_DEFAULTS,
    max_active_runs=1,
    is_paused_upon_creation=False,
    doc_md=DOC,
    tags=["evodiff"],
)
def prepare_data() -> None:
    """Wire the preparation of a dataset."""

    @task(pool="training", outlets=[Asset("evodiff://datasets")])
    def prepare() -> dict[str, Any]:
        from evodiff.pipeline import driver

        given = {name: value for name, value in get_current_context()["params"].items() if value is not None}
        return driver.prepare(given, scheduling.say)

    prepare()


prepare_data()
