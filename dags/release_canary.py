"""Follows a rollout: registry aliases, a person's word where one is waited for, and what is kept of it."""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from typing import Any

import scheduling
from airflow.sdk import Param, dag, get_current_context, task
from airflow.sdk.exceptions import AirflowSkipException
from evodiff_airflow.rollouts import MOVED, PROMOTE, AskToPromote, FollowRollout

DOC = """
### Follows the rollout that is on

Every few minutes it has the registry's aliases say what serves, keeps what was decided on rollouts that are over, looks
whether the router rolls something out, and follows that, in the triggerer, until it is over or waits for a person. The
router decides and never waits for this DAG: pausing it stops nothing but the aliases in the registry, what is kept, and
the question.

Where the rollout waits and `approval` says so, a person is asked (*Required actions*): *Promote*, or *Reject*, which is
the answer of who says nothing in `EVODIFF_APPROVAL_HOURS` (24). The question is put at one revision: whatever happens
to the rollout meanwhile, a command to the router included, ends it.
"""
POLL_SECONDS = float(os.environ.get("EVODIFF_RELEASE_POLL_SECONDS", "10"))


@dag(
    dag_id="release_canary",
    schedule=timedelta(seconds=float(os.environ.get("EVODIFF_RELEASE_CANARY_SECONDS", "120"))),
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    params={
        "approval": Param(True, type="boolean", description="Ask a person where the rollout waits for one"),
    },
    default_args=scheduling.TASK_DEFAULTS,
    is_paused_upon_creation=False,
    render_template_as_native_obj=True,
    doc_md=DOC,
    tags=["evodiff"],
)
def release_canary() -> None:
    """Wire the wait for the rollout to the question, and both to what is kept."""

    @task(retries=1)  # a scheduler that has just been started has tasks before Airflow's API answers them
    def find() -> dict[str, Any]:
        from evodiff_airflow.connections import ROUTER, router

        from evodiff.deployment.release.following import keep_ended_rollouts, rollout_id
        from evodiff.errors import EvodiffError
        from evodiff.settings import load_settings

        try:
            release = router(ROUTER).release()
        except EvodiffError as error:
            raise AirflowSkipException(str(error)) from error  # nothing serves, or not yet
        if release["decisions"]:
            project(release)  # also where nothing is on: what was decided between two looks is to be seen there too
        try:
            for kept in keep_ended_rollouts(load_settings({}).runs_dir, release, router(ROUTER).metrics):
                scheduling.say(f"{kept} is over")
        except EvodiffError as error:  # a folder that cannot be written keeps no rollout from being followed
            scheduling.say(str(error))
        found = rollout_id(release)
        if found is None:
            raise AirflowSkipException("nothing is rolled out")
        return {"rollout": found}

    @task.short_circuit(ignore_downstream_trigger_rules=False)
    def is_to_ask(followed: dict[str, Any]) -> bool:
        return followed["stage"] == "waiting" and bool(get_current_context()["params"]["approval"])

    @task
    def tell(found: dict[str, Any], followed: dict[str, Any], answered: dict[str, Any]) -> None:
        from evodiff_airflow.connections import ROUTER, router

        from evodiff.deployment.release.following import has_moved
        from evodiff.deployment.release.router_client import StaleCommand

        scheduling.say(f"{answered['by']}: {answered['answer']}")
        client = router(ROUTER)
        if answered["answer"] == MOVED or has_moved(client.release(), found["rollout"], followed["revision"]):
            scheduling.say("the release has moved on")
            return
        promoted = answered["answer"] == PROMOTE
        key = f"{found['rollout']}-{followed['revision']}-{answered['answer']}".lower()
        said = {} if promoted else {"reason": f"rejected by {answered['by']}"}
        try:
            done = client.command("promote" if promoted else "rollback", key=key, revision=followed["revision"], **said)
        except StaleCommand as error:
            scheduling.say(f"too late: {error}")
        else:
            scheduling.say(f"revision {done.get('revision')}: {done.get('reason')}")

    @task(trigger_rule="none_failed_min_one_success")
    def keep(found: dict[str, Any]) -> str | None:
        from evodiff_airflow.connections import ROUTER, router

        from evodiff.deployment.release.following import keep_rollout, outcome
        from evodiff.settings import load_settings

        client = router(ROUTER)
        release = client.release()
        project(release)
        scheduling.say(outcome(release, found["rollout"]))
        kept = keep_rollout(load_settings({}).runs_dir, release, found["rollout"], client.metrics())
        return None if kept is None else str(kept)

    found = find()
    followed = FollowRollout(
        task_id="follow", rollout="{{ ti.xcom_pull('find')['rollout'] }}", poll_interval=POLL_SECONDS
    )
    asked = AskToPromote(
        task_id="ask",
        subject="Promote the canary of rollout {{ ti.xcom_pull('find')['rollout'] }}?",
        rollout="{{ ti.xcom_pull('find')['rollout'] }}",
        revision="{{ ti.xcom_pull('follow')['revision'] }}",
        poll_interval=POLL_SECONDS,
        execution_timeout=None,
        response_timeout=timedelta(hours=float(os.environ.get("EVODIFF_APPROVAL_HOURS", "24"))),
    )
    told = tell(found, followed.output, asked.output)
    found >> followed
    is_to_ask(followed.output) >> asked >> told
    [followed, told] >> keep(found)


def project(release: dict[str, Any]) -> None:
    """Have the registry's aliases say what the release says; a registry that refuses is told again the next time."""
    from evodiff.errors import EvodiffError
    from evodiff.settings import load_settings
    from evodiff.tracking import project_aliases

    uri = load_settings({}).tracking_uri
    if uri is None:
        return
    try:
        project_aliases({**release, "challenger": release["challenger"] or release["pending"]}, uri)
    except EvodiffError as error:
        scheduling.say(str(error))


release_canary()
