"""The whole loop told by real processes: released, evolved, promoted, rolled back, degraded, heard, evolved again.

``make story`` runs it on free ports in a folder of its own and prints the time line. What makes it fast is settings:
small networks, few samples, steps of 5, 50 and 100 %, and rules of Prometheus whose times are divided by
:data:`HURRY`. All decisions are the services' own. What is done to them is real too:

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
import secrets
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Final

import psutil

from evodiff.deployment.router_client import RouterClient
from evodiff.errors import EvodiffError
from evodiff.local.load import Load, make_tokens
from evodiff.local.neighbours import noisy_neighbours
from evodiff.local.stack import ALL, ALL_BUT_ROUTER, EVOLVE, wait_for
from evodiff.local.story_models import predicted_ms, slower_model, stock_model, train_models
from evodiff.local.told import AnsweredAlert, Told
from evodiff.monitoring.alerts import Alertmanager, AlertmanagerError
from evodiff.monitoring.watch import HEARTBEAT_FILE
from evodiff.pipeline.alerts import alert_cause
from evodiff.pipeline.chain import experiments
from evodiff.pipeline.lease import leases
from evodiff.pipeline.requests import request_id, requests
from evodiff.pipeline.run import Run
from evodiff.pipeline.steering import end_reason, steering
from evodiff.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from evodiff.local.chronicle import Chronicle
    from evodiff.local.stack import Stack
    from evodiff.monitoring.alerts import Alert

HURRY: Final = 30.0
EXPERIMENT: Final = "story"
WATCH: Final = "reoptimize_on_alert"
CLIENTS: Final = 400
REQUESTS_A_SECOND: Final = 6.0
SAMPLER_STEPS: Final = 8
TIMES_SLOWER: Final = 3.0
LATENCY_LIMIT_SECONDS: Final = 1.0
NEIGHBOURS: Final = 16  # at first; as many again until clients wait too long
MOST_NEIGHBOURS: Final = 256
NEIGHBOURS_SECONDS: Final = 300.0
FINER_STEPS: Final = 40
REPEATS: Final = 50
LATENCY_ALERT, RATING_ALERT = "LatencyOverLimit", "RatingDropped"
OF_INTEREST: Final = ('arm="stable"', 'degraded=~".+"')
SEARCH: Final[dict[str, Any]] = {"dataset": "digits", "population": 4, "steps": 12}
GENERATIONS: Final = 2
ENVIRONMENT: Final = {
    "EVODIFF_CALIBRATION_SECONDS": "1",
    "EVODIFF_EVALUATION__SAMPLES": "64",
    "EVODIFF_WORKERS": "2",
    "EVODIFF_RETRY_SECONDS": "2",
    "EVODIFF_KEEP_EVOLVING_SECONDS": "120",
    "EVODIFF_RELEASE_CANARY_SECONDS": "60",
    "EVODIFF_RELEASE_POLL_SECONDS": "1",
    "EVODIFF_ALERT_POLL_SECONDS": "0.5",
    "EVODIFF_ALERT_COOLDOWN_MINUTES": "2",
    "EVODIFF_ROLLOUT_STEPS": "[5, 50, 100]",
    "EVODIFF_ROLLOUT_POLL_INTERVAL_SECONDS": "0.5",
    "EVODIFF_ROLLOUT_BAKE_SECONDS": "5",
    "EVODIFF_ROLLOUT_MIN_SAMPLES": "5",
    "EVODIFF_ROLLOUT_SYNTHETIC_REQUESTS": "20",
    "EVODIFF_ROLLOUT_BLOCK_SECONDS": "1",
    "EVODIFF_ROLLOUT_STEP_SECONDS": "300",
    "EVODIFF_ROLLOUT_P99_SECONDS": str(LATENCY_LIMIT_SECONDS),
    "EVODIFF_ROLLOUT_RETRY_SECONDS": "5",
}
SETTINGS: Final[dict[str, Any]] = {**SEARCH, "calibration_seconds": 1.0, "evaluation": {"samples": 64}, "workers": 2}


class StoryError(EvodiffError):
    """The story took another turn than it should have."""


class Story:
    """The story over a stack: :meth:`tell` runs all acts. The stack's home is used up by it."""

    def __init__(self, stack: Stack, chronicle: Chronicle) -> None:
        self.stack, self.chronicle, self.told = stack, chronicle, Told()
        self.runs_dir = stack.place("EVODIFF_RUNS_DIR")
        tokens = make_tokens(stack.place("EVODIFF_SERVE_SECRETS_DIR"), CLIENTS)
        self.router = RouterClient(stack.router_url, token=tokens[0])
        self.alertmanager = Alertmanager(stack.site.alertmanager_url)
        self.load = Load(stack.router_url, tokens[1:], rate=REQUESTS_A_SECOND, steps=SAMPLER_STEPS)
        cache = stack.environment.get("EVODIFF_CACHE_DIR")
        self.settings = load_settings({**SETTINGS, **({} if cache is None else {"cache_dir": cache})})

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

    def note(self, text: str) -> None:
        """Note a moment."""
        self.chronicle.note(text)

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
        self.note(f"{self.told.evolved} is champion")

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
        """The champion is starved, and people get cross: two alerts, the second during the generation of the first."""
        self.chronicle.begin("The champion grows slow, and a generation starts by itself")
        wait_for("no alert fires", lambda: not self.firing())
        seen: set[str] = set()
        self.watch(True)
        with self.starved():
            self.load.mood = (1, 2)
            self.note("people get cross, and rate what they get 1 and 2")
            first = self.await_alert(LATENCY_ALERT, seen)
            request = self.await_request(first)
            wait_for("a generation took it", lambda: self.taken_by(request))
            self.note(f"generation {self.taken_by(request)[0]} has begun by itself")
            self.told.repeats = self.hear_again(first, REPEATS)
            self.note(f"the watcher heard {LATENCY_ALERT} {self.told.repeats} times more")
        second = self.await_alert(RATING_ALERT, seen)
        self.await_request(second)
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

    @contextmanager
    def starved(self) -> Iterator[None]:
        """Have clients ask for more steps of a champion beside which others compute, until they wait too long."""
        self.load.steps, workers, count = FINER_STEPS, self.workers(), 0
        with ExitStack() as neighbours:
            while self.load.counts.quantile(0.5, last=20) < 2 * LATENCY_LIMIT_SECONDS and count < MOST_NEIGHBOURS:
                more = noisy_neighbours(workers, count=max(NEIGHBOURS, count), seconds=NEIGHBOURS_SECONDS)
                neighbours.enter_context(more)
                count += max(NEIGHBOURS, count)
                time.sleep(5.0)
            waits = self.load.counts.quantile(0.5, last=20)
            self.note(
                f"{count} noisy neighbours compute on the champion's core: half of the clients wait {waits:.1f} s"
            )
            yield
        self.load.steps = SAMPLER_STEPS
        self.note("the neighbours are gone")

    def watch(self, wanted: bool) -> None:
        """Have the watcher of alerts listen, or not."""
        self.stack.api.ask("PATCH", f"/api/v2/dags/{WATCH}", {"is_paused": not wanted})
        self.note(f"{WATCH} {'listens' if wanted else 'is paused'}")

    def await_alert(self, name: str, seen: set[str]) -> Alert:
        """Wait until an alert fires that was not seen before."""

        def fires() -> Alert | None:
            return next((alert for alert in self.firing(name) if alert.identity not in seen), None)

        alert: Alert = wait_for(f"{name} fires", fires, 300)
        self.note(f"Alertmanager tells {name}: {alert.annotations.get('summary')}")
        return alert

    def await_request(self, alert: Alert) -> str:
        """Wait for the request of an alert; return its id."""
        identifier = request_id(alert_cause(alert))

        def known() -> bool:
            return any(item.id == identifier for item in requests(self.serving_run()))

        wait_for(f"{alert.name} has its request", known)
        self.note(f"it wrote request {identifier} of {self.serving_run().name}")
        return identifier

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
        """Return every alert that wrote a request of any run; those of the story first."""
        ids = [request_id(alert_cause(alert)) for alert in first]
        found = []
        for path in experiments(self.runs_dir):
            run = Run.open(path)
            for item in (item for item in requests(run) if "alert" in item.cause):
                identity = f"{item.cause['fingerprint']}@{item.cause['starts_at']}"
                taken = tuple(lease.generation for lease in leases(run) if item.id in lease.requests)
                found.append(AnsweredAlert(str(item.cause["alert"]), identity, item.id, taken, _open_at(run, item.at)))
        return sorted(found, key=lambda item: ids.index(item.request) if item.request in ids else len(ids))

    def hear_again(self, alert: Alert, times: int) -> int:
        """Wait until the watcher has polled so often, with success, while an alert went on firing; return how often."""
        heard: set[float] = set()
        file = self.runs_dir / HEARTBEAT_FILE

        def enough() -> bool:
            beat = json.loads(file.read_bytes()) if file.exists() else {"firing": 0}
            if beat["firing"] and alert.identity in {item.identity for item in self.firing(alert.name)}:
                heard.add(beat["at"])
            return len(heard) >= times

        wait_for(f"{alert.name} is heard {times} times", enough, 240, every=0.2)
        return len(heard)

    def start_rollout(self, run: str, candidate: str) -> None:
        """Start the rollout of a candidate, as a person would."""
        entry = {"run": run, "candidate": candidate}
        self.router.command("start", key=secrets.token_hex(8), revision=self.release()["revision"], entry=entry)
        self.note(f"the rollout of {run}/{candidate} is asked for")

    def follow_until(self, condition: Callable[[], Any], seconds: float) -> None:
        """Wait for a condition, and note every decision of the router meanwhile."""
        known = self.release()["revision"]

        def met() -> bool:
            nonlocal known
            release = self.release()
            for item in release["decisions"]:
                if item["revision"] > known:
                    self.note(f"{item['action']} {item['version']} at {item['weight']:.0%}: {item['reason']}")
            known = max(known, release["revision"])
            return bool(condition())

        wait_for("the release gets there", met, seconds)

    def registered_aliases(self) -> dict[str, str]:
        """Wait until the registry calls champion what serves; return all of its aliases as RUN/ID."""

        def project() -> dict[str, str] | None:
            found = _aliases(self.stack.site.mlflow_url)
            return found if found.get("champion") == self.champion() else None

        found: dict[str, str] = wait_for("the registry has the champion", project)
        self.note(f"the registry's aliases: {found}")
        return found

    def release(self) -> dict[str, Any]:
        """Return the router's view of the release."""
        return self.router.release()

    def champion(self) -> str:
        """Return what serves, RUN/ID, "" where nothing does."""
        found = self.release()["champion"]
        return "" if found is None else f"{found['run']}/{found['candidate']}"

    def quarantine(self) -> list[str]:
        """Return the versions that were rolled back."""
        return [item["version"] for item in self.release()["quarantine"]]

    def last_decision(self) -> dict[str, Any]:
        """Return what was decided last."""
        decision: dict[str, Any] = self.release()["decisions"][-1]
        return decision

    def is_at_rest(self) -> bool:
        """Return whether nothing is rolled out or waits to be, and no generation runs."""
        release, states = self.release(), self.stack.api.runs(EVOLVE).values()
        return not release["rollout"] and not release["pending"] and not {"running", "queued"} & set(states)

    def firing(self, name: str | None = None) -> list[Alert]:
        """Return the alerts on the stable arm that fire, as the watcher asks for them."""
        try:
            found = self.alertmanager.firing(OF_INTEREST)
        except AlertmanagerError:
            return []
        return [alert for alert in found if name in (None, alert.name)]

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

    def workers(self) -> list[int]:
        """Return the process ids of the router's model workers."""
        family = psutil.Process(self.stack.process_id("router")).children(recursive=True)
        return [process.pid for process in family if "worker_process" in " ".join(process.cmdline())]


def _aliases(mlflow_url: str) -> dict[str, str]:
    """Return what each alias of the experiment's registered model names, as RUN/ID."""
    import httpx

    with httpx.Client(base_url=f"{mlflow_url}/api/2.0/mlflow", timeout=60.0) as client:
        model = client.get("/registered-models/get", params={"name": EXPERIMENT}).raise_for_status().json()
        found = {}
        for item in model["registered_model"].get("aliases", ()):
            asked = {"name": EXPERIMENT, "version": item["version"]}
            version = client.get("/model-versions/get", params=asked).raise_for_status().json()["model_version"]
            tags = {tag["key"]: tag["value"] for tag in version["tags"]}
            found[item["alias"]] = f"{tags['evodiff.run']}/{tags['evodiff.candidate']}"
    return found


def _steering(generation: int) -> str:
    return f"generations/{generation:04d}/inputs/steering.json"


def _open_at(run: Run, at: str) -> int | None:
    """Return the generation that was open at a time (ISO 8601), None where none was."""
    from datetime import datetime

    when = datetime.fromisoformat(at).timestamp()
    for lease in leases(run):
        began = (run.path / _steering(lease.generation)).stat().st_mtime
        result = run.path / f"generations/{lease.generation:04d}/result.json"
        if began <= when and (not result.exists() or when < result.stat().st_mtime):
            return lease.generation
    return None


def main() -> int:
    """Tell the story on a terminal; return 0 where it came out as it should."""
    import os
    import shutil
    import tempfile
    from pathlib import Path

    from evodiff.local.chronicle import Chronicle
    from evodiff.local.stack import Stack

    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("EVODIFF_") or name == "EVODIFF_CACHE_DIR"
    }
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
