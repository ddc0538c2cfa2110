"""One run is one generation: open, plan, train, evaluate, select, archive, register, release, ask for the next."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

import evodiff_links
import evodiff_notifications
import scheduling
from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import AsyncCallback, DeadlineAlert, DeadlineReference, Param, dag, get_current_context, task

DOC = """
### One run is one generation

Trigger it with a form: a new name starts an experiment, a name that exists goes on with it. Blank fields mean the
default for a new experiment, and *as it is* for one that exists. What an experiment was begun with (dataset,
population, steps, objectives, target, seed) cannot change; policy, generations and budgets can.

The last task asks for the next generation and starts its run, `EXPERIMENT-g0007`; a failed or lost run is begun again
by `keep_evolving`, until three runs for one generation failed.

* `evodiff pause RUN`, `evodiff resume RUN` and `evodiff stop RUN` hold or end one experiment between generations; a
  form for it has it go on.
* Pausing this DAG freezes *every* experiment between two tasks, wherever they are; unpausing goes on in the middle.
* A backfill is meaningless: generations follow each other, not the calendar.
* Marking a run failed ends its workers; they leave checkpoints, and `keep_evolving` begins the generation again. To end
  the experiment, use `evodiff stop RUN`.
"""


def optional(kind: str, description: str, **limits: Any) -> Param:
    """Return a field of the form that may be left blank."""
    return Param(None, type=["null", kind], description=description, **limits)


NEW = "A new experiment"
STEERING = "What may change later"

PARAMS = {
    "experiment": Param(
        "digits",
        type="string",
        pattern="^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
        description="Its name: a folder below runs/, an experiment in MLflow.",
    ),
    "dataset": optional(
        "string",
        "digits, photos[:SIZE], shapes[:SIZE] or folder:PATH. Blank: digits",
        section=NEW,
    ),
    "population": optional("integer", "Candidates a generation. Blank: 8", minimum=2, maximum=1000, section=NEW),
    "steps": optional("integer", "Training steps of a candidate. Blank: 120", minimum=1, section=NEW),
    "rungs": optional(
        "integer",
        "Fidelities: each trains a third of the steps of the next, and the best candidates go on. Blank: 1",
        minimum=1,
        maximum=5,
        section=NEW,
    ),
    "inherit": optional(
        "boolean",
        "Children start from the weights of their parents; the front is trained from scratch at the end. Off: no",
        section=NEW,
    ),
    "replicate_ties": optional(
        "boolean", "Try front members again that are within an error of each other. Off: no", section=NEW
    ),
    "objectives": Param(
        None,
        type=["null", "array"],
        items={"type": "string", "enum": ["kid", "denoising_loss", "latency_ms", "memory_mb", "parameters", "flops"]},
        examples=["kid", "denoising_loss", "latency_ms", "memory_mb", "parameters", "flops"],
        description="All minimised. Blank: kid, latency_ms, memory_mb",
        section=NEW,
    ),
    "target": optional("string", "Hardware that will serve: local, m1, m2-pro, ... Blank: local", section=NEW),
    "seed": optional("integer", "Seed of everything. Blank: 0", minimum=0, section=NEW),
    "transfer_from": optional("string", "Another experiment, whose front is tried first. Blank: none", section=NEW),
    "policy": Param(
        None,
        type=["null", "string"],
        enum=[None, "continuous", "cron", "on alert"],
        values_display={"null": "(blank)"},
        description="When a generation follows. Blank: as it is, continuous for a new one",
        section=STEERING,
    ),
    "cron": optional("string", 'For the policy cron: five fields, UTC, such as "0 3 * * *"', section=STEERING),
    "generations": optional(
        "integer",
        "Generations in all, after which it ends. Blank: as it is, no such end for a new one",
        minimum=1,
        section=STEERING,
    ),
    "compute_budget_tflop": optional(
        "number",
        "Training in all (10^12 multiply-adds), after which it ends. Blank: as it is, no such end for a new one",
        exclusiveMinimum=0,
        section=STEERING,
    ),
    "stop_on_plateau": Param(
        None,
        type=["null", "boolean"],
        description="End when the search has converged. Off: as it is, no for a new one",
        section=STEERING,
    ),
    "prefer": optional(
        "string",
        'Limits for what is released, such as "latency_ms<2". Blank: as it is, none for a new one',
        section=STEERING,
    ),
}


@dag(
    dag_id=scheduling.EVOLVE,
    schedule=None,
    catchup=False,
    params=PARAMS,
    default_args={**scheduling.TASK_DEFAULTS, **scheduling.FIRST},
    max_active_runs=16,
    is_paused_upon_creation=False,
    on_failure_callback=evodiff_notifications.generation_failed,
    deadline=DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=timedelta(minutes=float(os.environ.get("EVODIFF_GENERATION_DEADLINE_MINUTES", "360"))),
        callback=AsyncCallback(evodiff_notifications.generation_hangs),
    ),
    doc_md=DOC,
    tags=["evodiff"],
)
def evolve_architecture() -> None:
    """Wire the steps of one generation."""

    @task(task_id="open")
    def open_generation() -> dict[str, Any]:
        from airflow.sdk.exceptions import AirflowSkipException

        from evodiff.pipeline import driver, opening

        context = get_current_context()
        form, asker = opening.Form.of(context["params"]), context["run_id"]
        clock = {"now": scheduling.now(), "scheduler": scheduling.OWN_RUNS}
        if not (context["dag_run"].conf or {}).get("chain"):
            return driver.open_form(form, asker, **clock, say=scheduling.say).to_json()
        try:
            return opening.open_chained(form.experiment, asker, **clock).to_json()
        except (opening.NothingToDo, opening.AlreadyLooping) as answer:
            raise AirflowSkipException(str(answer)) from answer

    @task
    def plan(opened: dict[str, Any]) -> list[dict[str, Any]]:
        from evodiff.pipeline import driver
        from evodiff.pipeline.run import Run

        return driver.plan(Run.open(opened["run"]), opened["generation"], scheduling.say)

    @task(pool="training", map_index_template="{{ shard_name }}")
    def train_proxy(opened: dict[str, Any], shard: dict[str, Any]) -> None:
        from evodiff.pipeline import driver
        from evodiff.pipeline.run import Run

        name_shard(shard)
        driver.train_shard(Run.open(opened["run"]), opened["generation"], shard["shard"], scheduling.say)

    @task(pool="mps", map_index_template="{{ shard_name }}")
    def evaluate(opened: dict[str, Any], shard: dict[str, Any]) -> None:
        from evodiff.pipeline import driver
        from evodiff.pipeline.run import Run

        name_shard(shard)
        driver.evaluate_shard(Run.open(opened["run"]), opened["generation"], shard["shard"], scheduling.say)

    @task
    def select(opened: dict[str, Any]) -> list[str]:
        from evodiff.pipeline import driver
        from evodiff.pipeline.run import Run

        run = Run.open(opened["run"])
        found = driver.select(run, opened["generation"], scheduling.say)
        get_current_context()["ti"].xcom_push(key="generation", value=found)
        return driver.heirs_to_train(run, scheduling.say)

    @task(pool="dvc", **scheduling.BESIDE)
    def archive(opened: dict[str, Any]) -> str | None:
        from evodiff.pipeline import driver
        from evodiff.pipeline.run import Run

        return driver.archive(Run.open(opened["run"]), scheduling.say)

    @task(pool="dvc", **scheduling.BESIDE)
    def register(opened: dict[str, Any]) -> list[dict[str, Any]]:
        from evodiff.pipeline import driver
        from evodiff.pipeline.run import Run

        return driver.register(Run.open(opened["run"]), opened["generation"], scheduling.say)

    @task(pool="training", **scheduling.BESIDE)
    def train_heir(opened: dict[str, Any], heir: str) -> None:
        from evodiff.pipeline import driver
        from evodiff.pipeline.run import Run

        driver.train_heir(Run.open(opened["run"]), heir, scheduling.say)

    # Where no heir is to be trained, nearly always, that task is skipped, and this one is not.
    @task(pool="dvc", trigger_rule="none_failed_min_one_success", **scheduling.BESIDE)
    def canary_deploy(opened: dict[str, Any]) -> dict[str, Any]:
        from evodiff.pipeline import driver
        from evodiff.pipeline.run import Run

        return driver.release(Run.open(opened["run"]), opened["generation"], scheduling.say)

    @task
    def request_next(opened: dict[str, Any]) -> list[dict[str, Any]]:
        from evodiff.pipeline import driver
        from evodiff.pipeline.run import Run

        run = Run.open(opened["run"])
        run_id = driver.next_run(run, now=scheduling.now(), scheduler=scheduling.OWN_RUNS, say=scheduling.say)
        return [scheduling.trigger(run_id, run.name)] if run_id else []

    # Where nothing was left to try, all between plan and here is skipped, and the search has ended.
    @task(pool="training", trigger_rule="none_failed", **scheduling.BESIDE)
    def report(opened: dict[str, Any] | None) -> str:
        from airflow.sdk.exceptions import AirflowSkipException

        from evodiff.pipeline import driver
        from evodiff.pipeline.run import Run

        if opened is None:
            raise AirflowSkipException("No generation was opened.")
        return driver.report(Run.open(opened["run"]), scheduling.say)

    opened = open_generation()
    shards = plan(opened)
    trained = train_proxy.partial(opened=opened).expand(shard=shards)
    judged = evaluate.partial(opened=opened).expand(shard=shards)
    selected = select(opened)
    registered, following = register(opened), request_next(opened)
    archived, deployed = archive(opened), canary_deploy(opened)
    trained_again = train_heir.partial(opened=opened).expand(heir=selected)
    trained >> judged >> selected >> [archived, registered, following]
    [registered, trained_again] >> deployed
    # It times the front last of all, when registration, half as long as the training before that, has ended.
    [archived, following, trained_again] >> report(opened)
    for linked in (shards, selected, registered):
        linked.operator.operator_extra_links = (evodiff_links.CandidatesLink(),)
    TriggerDagRunOperator.partial(
        task_id="start_next", trigger_dag_id=scheduling.EVOLVE, skip_when_already_exists=True
    ).expand_kwargs(following)


def name_shard(shard: dict[str, Any]) -> None:
    """Show shard and size in the grid, the candidates in the log."""
    get_current_context()["shard_name"] = f"{shard['shard']}: {shard['size']} candidates"
    scheduling.say(f"Candidates {' '.join(shard['candidates'])}")


evolve_architecture()
