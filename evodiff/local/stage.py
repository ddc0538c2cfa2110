"""The stage of the story: what its acts ask the services, and do to them, by their own interfaces alone."""

from __future__ import annotations

import json
import secrets
import time
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx
import psutil

from evodiff.deployment.release.router_client import RouterClient
from evodiff.deployment.worker.process import BOOTSTRAP
from evodiff.errors import EvodiffError
from evodiff.local.load import Load, make_tokens
from evodiff.local.neighbours import noisy_neighbours
from evodiff.local.stack import EVOLVE, wait_for
from evodiff.local.story_settings import (
    CLIENTS,
    EXPERIMENT,
    FINER_STEPS,
    LATENCY_LIMIT_SECONDS,
    MOST_NEIGHBOURS,
    NEIGHBOURS,
    NEIGHBOURS_SECONDS,
    OF_INTEREST,
    REQUESTS_A_SECOND,
    SAMPLER_STEPS,
    SETTINGS,
    WATCH,
)
from evodiff.monitoring.alerts import Alertmanager, AlertmanagerError
from evodiff.monitoring.watch import HEARTBEAT_FILE
from evodiff.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from evodiff.local.chronicle import Chronicle
    from evodiff.local.stack import Stack
    from evodiff.monitoring.alerts import Alert


class Stage:
    """A stack with clients, asked and spoken to as operators and people do; what happens is noted."""

    def __init__(self, stack: Stack, chronicle: Chronicle) -> None:
        self.stack, self.chronicle = stack, chronicle
        self.runs_dir = stack.place("EVODIFF_RUNS_DIR")
        tokens = make_tokens(stack.place("EVODIFF_SERVE_SECRETS_DIR"), CLIENTS)
        self.router = RouterClient(stack.site.router_url, token=tokens[0])
        self.alertmanager = Alertmanager(stack.site.alertmanager_url)
        self.load = Load(stack.site.router_url, tokens[1:], rate=REQUESTS_A_SECOND, steps=SAMPLER_STEPS)
        cache = stack.environment.get("EVODIFF_CACHE_DIR")
        self.settings = load_settings({**SETTINGS, **({} if cache is None else {"cache_dir": cache})})

    def note(self, text: str) -> None:
        """Note a moment."""
        self.chronicle.note(text)

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
        """Return whether nothing is rolled out or waits to be, and no generation of the experiment runs."""
        release, runs = self.release(), self.stack.api.runs(EVOLVE)
        busy = [
            run for run, state in runs.items() if run.startswith(f"{EXPERIMENT}-") and state in ("running", "queued")
        ]
        return not release["rollout"] and not release["pending"] and not busy

    def registered_aliases(self) -> dict[str, str]:
        """Wait until the registry calls champion what serves; return all of its aliases as RUN/ID."""

        def project() -> dict[str, str] | None:
            found = _aliases(self.stack.site.mlflow_url)
            return found if found.get("champion") == self.champion() else None

        found: dict[str, str] = wait_for("the registry has the champion", project)
        self.note(f"the registry's aliases: {found}")
        return found

    @contextmanager
    def starved(self) -> Iterator[None]:
        """Have clients ask for more steps of a champion beside which others compute, until they wait too long."""
        self.load.steps, workers, count = FINER_STEPS, self.workers(), 0
        with ExitStack() as neighbours:
            while self.wait_of_clients() < 2 * LATENCY_LIMIT_SECONDS and count < MOST_NEIGHBOURS:
                more = noisy_neighbours(workers, count=max(NEIGHBOURS, count), seconds=NEIGHBOURS_SECONDS)
                neighbours.enter_context(more)
                count += max(NEIGHBOURS, count)
            self.note(
                f"{count} noisy neighbours compute on the champion's core, and clients ask for {FINER_STEPS} steps "
                f"instead of {SAMPLER_STEPS}: half of them wait over {self.wait_of_clients(0):.1f} s"
            )
            yield
        self.load.steps = SAMPLER_STEPS
        self.note("the neighbours are gone")

    def wait_of_clients(self, answers: int = 25) -> float:
        """Return what the median of the last 20 clients waited, once so many more have been answered, or 15 s later."""
        times = self.load.counts.seconds
        before, deadline = len(times), time.monotonic() + 15.0
        while len(times) < before + answers and time.monotonic() < deadline:
            time.sleep(0.2)
        return self.load.counts.quantile(0.5, last=20)

    def watch(self, wanted: bool) -> None:
        """Have the watcher of alerts listen, or not."""
        self.stack.api.ask("PATCH", f"/api/v2/dags/{WATCH}", {"is_paused": not wanted})
        self.note(f"{WATCH} {'listens' if wanted else 'is paused'}")

    def firing(self, name: str | None = None) -> list[Alert]:
        """Return the alerts on the stable arm that fire, as the watcher asks for them."""
        try:
            found = self.alertmanager.firing(OF_INTEREST)
        except AlertmanagerError:
            return []
        return [alert for alert in found if name in (None, alert.name)]

    def silence(self, name: str) -> str:
        """Silence an alert for an hour, as a person does on Alertmanager's page; return the silence's id."""
        now = datetime.now(UTC)
        content = {
            "matchers": [{"name": "alertname", "value": name, "isRegex": False, "isEqual": True}],
            "startsAt": now.isoformat(),
            "endsAt": (now + timedelta(hours=1)).isoformat(),
            "createdBy": "story",
            "comment": "known",
        }
        answer = httpx.post(f"{self.alertmanager.url}/api/v2/silences", json=content, timeout=60.0)
        self.note(f"somebody silences {name}")
        return str(answer.raise_for_status().json()["silenceID"])

    def lift(self, silence: str) -> None:
        """End a silence."""
        url = f"{self.alertmanager.url}/api/v2/silence/{silence}"
        httpx.delete(url, timeout=60.0).raise_for_status()
        self.note("the silence is lifted")

    def await_alert(self, name: str, seen: set[str]) -> Alert:
        """Wait until an alert fires that was not seen before."""

        def fires() -> Alert | None:
            return next((alert for alert in self.firing(name) if alert.identity not in seen), None)

        alert: Alert = wait_for(f"{name} fires", fires, 300)
        self.note(f"Alertmanager tells {name}: {alert.annotations.get('summary')}")
        return alert

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

    def workers(self) -> list[int]:
        """Return the process ids of the router's model workers."""
        family = psutil.Process(self.stack.process_id("router")).children(recursive=True)
        found = [process.pid for process in family if BOOTSTRAP in process.cmdline()]
        if not found:
            raise EvodiffError("Expected model workers below the router, found none.", remedy="Read the router's log.")
        return found


def _aliases(mlflow_url: str) -> dict[str, str]:
    """Return what each alias of the experiment's registered model names, as RUN/ID."""
    with httpx.Client(base_url=f"{mlflow_url}/api/2.0/mlflow", timeout=60.0) as client:
        model = client.get("/registered-models/get", params={"name": EXPERIMENT}).raise_for_status().json()
        found = {}
        for item in model["registered_model"].get("aliases", ()):
            asked = {"name": EXPERIMENT, "version": item["version"]}
            version = client.get("/model-versions/get", params=asked).raise_for_status().json()["model_version"]
            tags = {tag["key"]: tag["value"] for tag in version["tags"]}
            found[item["alias"]] = f"{tags['evodiff.run']}/{tags['evodiff.candidate']}"
    return found
