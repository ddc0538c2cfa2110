"""The tasks of a scheduler, each one call: settings are read here, what comes back is JSON.

Archive, tracking and release are told by settings where they are; what is not set up is said and left out.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from evodiff import gates
from evodiff.errors import LedgerError
from evodiff.pipeline import generation as steps
from evodiff.pipeline import shards
from evodiff.pipeline.chain import successor
from evodiff.pipeline.choice import promising_heir
from evodiff.pipeline.control import next_step
from evodiff.pipeline.release import read_release, request_release
from evodiff.pipeline.scratch import retrain_front
from evodiff.pipeline.session import open_workers
from evodiff.pipeline.shards import deal_shards, log_listener
from evodiff.pipeline.steering import end_reason, record_exhausted, steering
from evodiff.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import datetime

    from evodiff.pipeline.chain import Scheduler
    from evodiff.pipeline.inputs import Announce
    from evodiff.pipeline.opening import Form, Opened
    from evodiff.pipeline.prepare import Prepared
    from evodiff.pipeline.run import Run
    from evodiff.settings import Settings
    from evodiff.workers import WorkerPool

    Say = Callable[[str], None]


def open_form(form: Form, holder: str, *, now: datetime, scheduler: Scheduler, say: Say) -> Opened:
    """Open the generation that a form asks for; the gate of a new experiment's dataset has a page and is tracked.

    Raises:
        EvodiffError: as :func:`evodiff.pipeline.opening.open_form`.
    """
    from evodiff.pipeline import opening

    def prepare_tracked(settings: Settings, pool: WorkerPool, announce: Announce) -> Prepared:
        with gates.failure_tracked(settings, say):
            prepared = gates.prepare(settings, pool, announce)
        gates.try_to_track(prepared.gate, settings, say)
        return prepared

    return opening.open_form(form, holder, now=now, scheduler=scheduler, say=say, prepare=prepare_tracked)


def plan(run: Run, generation: int, say: Say) -> list[dict[str, Any]]:
    """Plan a generation; return the shards of its trials, none where the space has nothing left to try."""
    trials = steps.plan(run, generation)
    if not trials:
        say("nothing is left to try")
        record_exhausted(run, generation)
        return []
    for trial in trials:
        say(f"{trial.candidate} by {trial.operator or 'start'} from {' and '.join(trial.parents) or 'nobody'}")
    return deal_shards(run, generation)


def train_shard(run: Run, generation: int, shard: str, say: Say) -> None:
    """Train the trials of a shard, unless another driver closes the generation meanwhile."""
    with _unless_closed(run, generation, say):
        shards.train_shard(run, generation, shard, say)


def evaluate_shard(run: Run, generation: int, shard: str, say: Say) -> None:
    """Judge the trials of a shard, unless another driver closes the generation meanwhile."""
    with _unless_closed(run, generation, say):
        shards.evaluate_shard(run, generation, shard, say)


@contextmanager
def _unless_closed(run: Run, generation: int, say: Say) -> Iterator[None]:
    """Let nobody fail for weights that were dropped because their generation is done."""
    try:
        yield
    except LedgerError as error:
        if generation >= run.ledger.closed:
            raise
        say(f"Generation {generation} was closed by another driver meanwhile: {error.headline}")


def select(run: Run, generation: int, say: Say) -> dict[str, Any]:
    """Close a generation; return its metrics and how many are on the front."""
    result = steps.select(run, generation)
    say(f"survivors {' '.join(result['survivors'])}")
    say(f"front {' '.join(result['front'])}")
    return {"metrics": result["metrics"], "front": len(result["front"])}


def archive(run: Run, say: Say) -> str | None:
    """Archive every closed generation that is not; return the commit of the last."""
    from evodiff.pipeline.archive import archive_run

    commit = archive_run(run, load_settings({}).archive)
    say(f"archived by commit {commit}" if commit else "there was nothing to archive")
    return commit


def register(run: Run, generation: int, say: Say) -> list[dict[str, Any]]:
    """Bring tracking up to date and register new members of the front; return what was registered."""
    from dataclasses import asdict

    from evodiff.tracking import register_front

    uri = load_settings({}).tracking_uri
    if uri is None:
        say("no tracking server is set (EVODIFF_TRACKING_URI); the ledger has everything")
        return []
    registered = register_front(run, generation, uri)  # tracks what is missing first
    for item in registered:
        say(str(item))
    return [asdict(item) for item in registered]


def release(run: Run, generation: int, say: Say) -> dict[str, Any]:
    """Write the candidate that is to be released into the release file, and project the registry's aliases.

    What comes into question is measured again first; where nothing is worth a release, the reason is said. What
    :func:`train_heir` has trained is registered.
    """
    from evodiff.pipeline.remeasure import remeasuring

    settings = load_settings({"device": run.settings["device"]})
    with remeasuring(settings, say) as remeasure:
        wanted = request_release(run, generation, settings.release_file, remeasure=remeasure)
    asked = wanted["asked"]
    say(f"{'to be released' if asked['candidate'] else 'nothing is released'}: {asked['reason']}")
    say(f"release file, revision {wanted['revision']}: pending {wanted['pending']}")
    if settings.tracking_uri is not None:
        from evodiff.tracking import project_aliases

        if run.inherits:
            register(run, generation, say)
        # Until something serves, what waits to is shown as the challenger.
        project_aliases({**wanted, "challenger": wanted["challenger"] or wanted["pending"]}, settings.tracking_uri)
    return wanted


def heirs_to_train(run: Run, say: Say) -> list[str]:
    """Return whom to train from scratch before a release is chosen: of those that inherited weights the most promising.

    One a generation, or nobody. A release file that is damaged is for those to name who write it.
    """
    if not run.inherits:
        return []
    try:
        release = read_release(load_settings({}).release_file)
    except LedgerError as error:
        say(str(error))
        return []
    heir = promising_heir(run, {str(item["version"]) for item in release.get("quarantine") or ()})
    if heir is None:
        return []
    say(f"{run.name}/{heir} inherited weights: it is to be trained from scratch")
    return [heir]


def train_heir(run: Run, heir: str, say: Say) -> None:
    """Train a member of the front from scratch.

    Raises:
        PoolError: a worker was lost, or out of memory; another try may do.
    """
    with open_workers(load_settings({"device": run.settings["device"]}), say, at_most=1) as pool:
        retrain_front(run, pool, only=[heir], listener=log_listener(say))


def next_run(run: Run, *, now: datetime, scheduler: Scheduler, say: Say) -> str | None:
    """Ask for the next generation where the run wants one; return the id of the scheduler's run that is to do it."""
    step = next_step(run, now)
    say(f"{run.name}: {step.reason}")
    if not step.wanted:
        return None
    run_id, reason = successor(run, scheduler)
    say(reason)
    return run_id


def report(run: Run, say: Say) -> str:
    """Write the report of a run; where its search has ended, train the champion on and draw its pictures first.

    Members of the front that inherited weights are trained from scratch then, and registered.
    """
    from evodiff.pipeline.final import final_steps, finish
    from evodiff.search import write_run_report

    ended = end_reason(run, steering(run))
    if ended is not None:
        say(f"{ended}: training the champion on")
        settings = load_settings({"device": run.settings["device"]})
        with open_workers(settings, say, at_most=1) as pool:
            retrain_front(run, pool, listener=log_listener(say))
            finish(run, pool, steps=final_steps(run), listener=log_listener(say))
        if run.inherits and run.ledger.closed:
            register(run, run.ledger.closed - 1, say)
    page = str(write_run_report(run))
    say(f"report {page}")
    return page


def prepare(given: Mapping[str, Any], say: Say) -> dict[str, Any]:
    """Make a dataset ready: gates, feature nets, operator times; return digest, counts and the page of the gates.

    This version of somebody's own images is archived.
    """
    settings = load_settings(given)
    with open_workers(settings, say) as pool, gates.failure_tracked(settings, say):
        prepared = gates.prepare(settings, pool, log_listener(say).progress)
    if settings.dataset.startswith("folder:"):
        from evodiff.pipeline.archive import archive_dataset

        version = archive_dataset(prepared.inputs.files["dataset.safetensors"], settings.archive)
        say(f"archived as {version}")
    gates.track(prepared.gate, settings)
    return prepared.to_json()


def audit(run: Run, say: Say) -> str:
    """Audit everything that a run has on record; return the page."""
    settings = load_settings({})
    with gates.failure_tracked(settings, say):
        result = gates.audit_run(run)
    say(f"{len(result.checks)} expectations, {len(result.warnings)} warnings: {result.page}")
    gates.track(result, settings)
    return str(result.page)
