"""Buttons beside a task: from a generation's run in Airflow to its candidates in MLflow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator


class CandidatesLink(BaseOperatorLink):
    """The candidates of the generation that a task worked on."""

    @property
    def name(self) -> str:
        """What the button says."""
        return "Candidates in MLflow"

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:
        """Return the address; empty where no tracking server is set or nothing was opened.

        Airflow hands over the task instance itself when the task ends.
        """
        from pathlib import Path

        from evodiff.settings import load_settings
        from evodiff.tracking.pages import generation_page

        settings, opened = load_settings({}), ti_key.xcom_pull(task_ids="open")
        if settings.tracking_uri is None or not opened:
            return ""
        experiment, generation = Path(opened["run"]).name, opened["generation"]
        return generation_page(settings.tracking_uri, experiment, generation, pages=settings.tracking_pages)
