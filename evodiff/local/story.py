"""The whole loop told by real processes: released, evolved, promoted, rolled back, degraded, heard, evolved again.

``make story`` runs it on free ports in a folder of its own and prints the time line. What makes it fast is settings:
small networks, few samples, steps of 5, 50 and 100 %, and rules of Prometheus whose times are divided by
:data:`~evodiff.local.story_settings.HURRY`. All decisions are the services' own. What is done to them is real too:

- What serves at first is the stock U-Net, which is slower than what a search finds.
- The slow candidate is a network that costs three times as much as the champion, trained like any other.
- The champion is made slow by noisy neighbours on its core (:mod:`evodiff.local.neighbours`), more and more of them
  until clients, who ask for finer pictures then, wait longer than they may.
- The watch on alerts begins when the champion grows slow: a machine of few cores, on which generations run beside what
  serves, has alerts of its own before.
- People get cross: what clients rate falls from 4 and 5 to 1 and 2.
"""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from evodiff.errors import EvodiffError
from evodiff.local.stack import ALL, ALL_BUT_ROUTER, EVOLVE, wait_for
from evodiff.local.stage import Stage
from evodiff.local.story_models import predicted_ms, slower_model, stock_model, train_models
from evodiff.local.story_settings import (
    ENVIRONMENT,
    EXPERIMENT,
    GENERATIONS,
    HURRY,
    LATENCY_ALERT,
    RATING_ALERT,
    REPEATS,
    SEARCH,
    TIMES_SLOWER,
)
from evodiff.local.told import AnsweredAlert, Told
from evodiff.pipeline.alerts import alert_cause
from evodiff.pipeline.chain import experiments
from evodiff.pipeline.lease import leases
from evodiff.pipeline.requests import request_id, requests
from evodiff.pipeline.run import Run
from evodiff.pipeline.steering import end_reason, steering

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evodiff.local.chronicle import Chronicle
    from evodiff.local.stack import Stack
    from evodiff.monitoring.alerts import Alert


class StoryError(EvodiffError):
    """The story took another turn than it should have."""


class Story(Stage):
    """The story over a stack: :meth:`tell` runs all acts. The stack's home is used up by it."""

    def __init__(self, stack: Stack, chronicle: Chronicle) -> None:
        super().__init__(stack, chronicle)
        self.told = Told()
        self.began = datetime.now(UTC)

    def tell(self) -> Told:
        """Run all acts; the services go on running.

        Raises:
            EvodiffError: something did not come about.
        """
        self.open_the_stage()
        try:
            self.a_better_one_is_evolved()
            self.a_slow_one_is_rolled_back()
            first, second = self.the_champion_grows_slow()
            third = self.after_the_end()
            self.told.alerts = self.answered_alerts([first, second, third])
            self.told.aliases = self.registered_aliases()
        finally:
            self.told.counts = self.load.stop()
        self.note(f"{self.told.counts.sent} requests were sent, {self.told.counts.lost.total()} lost")
        return self.told

    def open_the_stage(self) -> None:
        """Start everything, and have the stock U-Net serve under load."""
        self.chronicle.begin("A champion serves traffic")
        self.stack.prepare()
        self.stack.start(*ALL)
        self.note("Airflow, MLflow, router, Prometheus and Alertmanager are starting")
        run, (candidate,) = train_models(self.settings, self.runs_dir / "stock", stock_model)
        self.told.first = f"{run.name}/{candidate}"
        self.note(f"{self.told.first}, a stock U-Net, is trained")
        self.stack.wait_until_ready(*ALL)
        self.watch(False)
        self.note("all of them answer")
        self.start_rollout(run.name, candidate)
        wait_for("the first champion serves", lambda: self.champion() == self.told.first)
        self.note(f"{self.told.first} is champion: {self.last_decision()['reason']}")
        self.load.start()

    def a_better_one_is_evolved(self) -> None:
        """A form starts an experiment; what its front has is released, step by step, under load."""
        self.chronicle.begin("A better one is evolved and promoted")
        form = {"experiment": EXPERIMENT, "generations": GENERATIONS, "policy": "continuous", **SEARCH}
        self.stack.api.trigger(EVOLVE, form, f"{EXPERIMENT}-form")
        self.note(f"the form of {EXPERIMENT} was sent: {GENERATIONS} generations of {SEARCH['population']}")
        self.follow_until(lambda: self.closed() >= GENERATIONS and self.is_at_rest(), 900)
        if not self.champion().startswith(f"{EXPERIMENT}/"):
            raise StoryError(
                f"Expected a candidate of {EXPERIMENT} as champion, found {self.champion()}: "
                f"{self.release()['asked'] or self.last_decision()}.",
                remedy="Read the time line.",
            )
        self.told.evolved = self.champion()
        run, candidate = Run.open(self.runs_dir / EXPERIMENT), self.told.evolved.rpartition("/")[2]
        row = next(
            row for number in range(GENERATIONS) for row in run.ledger.plan(number) if row["candidate"] == candidate
        )
        self.note(f"{self.told.evolved}, by {row['operator']}, is champion")

    def a_slow_one_is_rolled_back(self) -> None:
        """A network three times as slow is started by hand; nothing but the router is there to judge it."""
        self.chronicle.begin("One three times slower is rolled back while all else is stopped")
        run = Run.open(self.runs_dir / EXPERIMENT)
        champion = self.champion().rpartition("/")[2]
        genome = slower_model(run, champion, TIMES_SLOWER)
        slow_run, (slow,) = train_models(self.settings, self.runs_dir / "slow", lambda shape: [genome])
        self.told.slow = f"{slow_run.name}/{slow}"
        costs = [predicted_ms(run, item) for item in (genome, run.evolution().candidate(champion).genome)]
        self.told.times_slower = costs[0] / costs[1]
        self.note(f"trained {self.told.slow}, which costs {self.told.times_slower:.1f} times as much a call")
        self.stack.end(*ALL_BUT_ROUTER)
        self.note("Airflow, MLflow, Prometheus and Alertmanager are stopped")
        self.start_rollout(slow_run.name, slow)
        self.follow_until(lambda: self.told.slow in self.quarantine(), 300)
        decision = self.last_decision()
        evidence = decision["evidence"]
        guard = (evidence.get("guard") or {}).get("name")
        self.told.rolled_back = decision["reason"]
        self.told.guard_or_metric = f"the guard {guard}" if guard else f"the metric {evidence.get('failed_metric')}"
        if self.champion() != self.told.evolved or self.release()["weight"] != 0:
            raise StoryError(f"{self.champion()} serves after the roll-back.", remedy="Read the time line.")
        self.stack.start(*ALL_BUT_ROUTER)
        self.stack.wait_until_ready(*ALL_BUT_ROUTER)
        self.note("all of them answer again")

    def the_champion_grows_slow(self) -> tuple[Alert, Alert]:
        """The champion is starved, and people get cross: two alerts, the second during the generation of the first.

        So that it comes then on any machine, the second is silenced until that generation has begun.
        """
        self.chronicle.begin("The champion grows slow, and a generation starts by itself")
        wait_for("no alert fires", lambda: not self.firing())
        seen: set[str] = set()
        self.watch(True)
        silence = self.silence(RATING_ALERT)
        self.load.mood = (1, 2)
        self.note("people get cross, and rate what they get 1 and 2")
        with self.starved():
            first = self.await_alert(LATENCY_ALERT, seen)
            request = self.await_request(first)
            wait_for("a generation took it", lambda: self.taken_by(request))
            self.note(f"generation {self.taken_by(request)[0]} has begun by itself")
            self.lift(silence)
            second = self.await_alert(RATING_ALERT, seen)
            self.await_request(second)
            self.told.repeats = self.hear_again(first, REPEATS)
            self.note(f"the watcher heard {LATENCY_ALERT} {self.told.repeats} times more")
        self.load.mood = (4, 5)
        for alert in (first, second):
            self.settle(alert)
        return first, second

    def after_the_end(self) -> Alert:
        """An alert grants a generation to a search that had ended."""
        self.chronicle.begin("An alert after the search has ended")
        self.follow_until(self.is_at_rest, 300)
        run = self.serving_run()
        self.told.ended = end_reason(run, steering(run)) or ""
        self.note(f"{run.name}: {self.told.ended or 'it has not ended'}")
        wait_for(f"{LATENCY_ALERT} has ended", lambda: not self.firing(LATENCY_ALERT))
        before = {alert.identity for alert in self.firing()}
        with self.starved():
            third = self.await_alert(LATENCY_ALERT, before)
            self.await_request(third)
        self.settle(third)
        return third

    def settle(self, alert: Alert) -> None:
        """Wait until the generation that an alert asked for is closed."""
        identifier = request_id(alert_cause(alert))
        wait_for(f"a generation took {alert.name}", lambda: self.taken_by(identifier), 600)
        generation = self.taken_by(identifier)[0]
        wait_for(f"generation {generation} is closed", lambda: self.closed() > generation, 600)
        inputs = json.loads((self.serving_run().path / _steering(generation)).read_bytes())
        if [item["fingerprint"] for item in inputs["alerts"]].count(alert.fingerprint) != 1:
            raise StoryError(
                f"Expected {alert.name} once in the inputs of generation {generation}, found {inputs['alerts']}.",
                remedy="Read the time line.",
            )
        self.note(f"generation {generation}, asked for by {alert.name}, is closed, with the alert in its inputs")

    def answered_alerts(self, first: Sequence[Alert]) -> list[AnsweredAlert]:
        """Return every alert that wrote a request of any run since the story began; those that it awaited first."""
        ids = [request_id(alert_cause(alert)) for alert in first]
        found = []
        for path in experiments(self.runs_dir):
            run = Run.open(path)
            for item in requests(run):
                if "alert" not in item.cause or datetime.fromisoformat(item.at) < self.began:
                    continue  # of somebody else, before this story
                identity = f"{item.cause['fingerprint']}@{item.cause['starts_at']}"
                taken = tuple(lease.generation for lease in leases(run) if item.id in lease.requests)
                found.append(AnsweredAlert(str(item.cause["alert"]), identity, item.id, taken, _open_at(run, item.at)))
        return sorted(found, key=lambda item: ids.index(item.request) if item.request in ids else len(ids))

    def await_request(self, alert: Alert) -> str:
        """Wait for the request of an alert; return its id."""
        identifier = request_id(alert_cause(alert))

        def known() -> bool:
            return any(item.id == identifier for item in requests(self.serving_run()))

        wait_for(f"{alert.name} has its request", known)
        self.note(f"it wrote request {identifier} of {self.serving_run().name}")
        return identifier

    def serving_run(self) -> Run:
        """Return the run that alerts go to."""
        return Run.open(self.runs_dir / EXPERIMENT)

    def closed(self) -> int:
        """Return how many generations of the experiment are closed."""
        path = self.runs_dir / EXPERIMENT
        return Run.open(path).ledger.closed if (path / "experiment.json").exists() else 0

    def taken_by(self, request: str) -> list[int]:
        """Return the generations that consumed a request."""
        return [item.generation for item in leases(self.serving_run()) if request in item.requests]


def _steering(generation: int) -> str:
    return f"generations/{generation:04d}/inputs/steering.json"


def _open_at(run: Run, at: str) -> int | None:
    """Return the generation that was open at a time (ISO 8601), None where none was."""
    when = datetime.fromisoformat(at).timestamp()
    for lease in leases(run):
        folder = run.path / f"generations/{lease.generation:04d}"
        result = folder / "result.json"
        written = (folder / "inputs/steering.json", folder / "plan.jsonl")  # the first of them as it was opened
        began = min((file.stat().st_mtime for file in written if file.exists()), default=math.inf)
        if began <= when and (not result.exists() or when < result.stat().st_mtime):
            return lease.generation
    return None


def main() -> int:
    """Tell the story on a terminal; return 0 where it came out as it should."""
    import os
    import shutil
    import signal
    import sys
    import tempfile
    from pathlib import Path

    from evodiff.local.chronicle import Chronicle
    from evodiff.local.stack import Stack

    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("EVODIFF_") or name == "EVODIFF_CACHE_DIR"
    }
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("it was asked to end"))  # the services end with it
    folder, chronicle = Path(tempfile.mkdtemp(prefix="evodiff-story-")), Chronicle()
    with Stack.below(folder, Path.cwd(), {**environment, **ENVIRONMENT}, hurry=HURRY) as stack:
        try:
            told = Story(stack, chronicle).tell()
        except BaseException as error:
            chronicle.note(f"it ended here: {error}")
            chronicle.console.print(f"What the services wrote is in {folder}; remove it when you have looked.")
            if isinstance(error, EvodiffError):
                return 1
            raise
    chronicle.console.print(*chronicle.tables(told.facts()))
    for problem in told.problems():
        chronicle.console.print(f"This is not as it should be: {problem}", style="bold red")
    shutil.rmtree(folder, ignore_errors=True)
    return 1 if told.problems() else 0


if __name__ == "__main__":
    raise SystemExit(main())
