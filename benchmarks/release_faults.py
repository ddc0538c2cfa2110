"""Faults in the middle of rollouts: how soon a bad version loses its traffic, whether a killed router goes on right.

A router is a process of its own, with the real controller, analysis, release file and routes. By default its workers
are pretended, answer 200 requests a second of 500 clients by themselves, and load at once, so that faults and kills
are many; ``--fleet real`` serves networks by ``evodiff serve``, under a load of requests by HTTP of so many clients
that each arm has some at every step.

1. A canary at one step of a rollout turns bad (pretended: an image that is not finite; real: its worker dies). The time
   until ``GET /v1/release`` shows weight 0 for it is to be at most the poll interval and 1 s.
2. The router is killed (SIGKILL) at a random moment while versions are rolled out, and started again. It is right if
   the decisions that were on the disk are still the first of its record, champion and rollout are those that they
   leave, the canary has the weight of its step as soon as it is loaded, and the evidence of that step is not less than
   what was kept; and if some rollout was promoted in the end, with nobody's help.

    python benchmarks/release_faults.py
    python benchmarks/release_faults.py --fleet real --rounds 5
    python benchmarks/release_faults.py --smoke
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import httpx
import psutil
from rich.console import Console
from rich.table import Table

from evodiff.deployment.release.entries import version_name
from evodiff.deployment.release.file import ReleaseFile
from evodiff.local.environment import free_ports
from evodiff.pipeline.release import read_release, release_locked, write_release

POLL_SECONDS = 1.0
TOKEN = "token-of-the-benchmark-of-faults"
PATIENCE_SECONDS = {"pretended": 120.0, "real": 300.0}
CLIENTS, REQUESTS_A_SECOND = 500, 200
HTTP_CLIENTS = 200  # that none of them is in the canary at 5 % happens once in 30,000 rollouts


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--fleet", choices=("pretended", "real"), default="pretended")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=("rollbacks", "restarts"), help="one of the two parts")
    parser.add_argument("--smoke", action="store_true", help="two rounds of each")
    parser.add_argument("--be-router", metavar="FOLDER", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.be_router:
        asyncio.run(pretended_router(Path(options.be_router)))
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the router is ended too
    rounds, rng = (2 if options.smoke else options.rounds), random.Random(options.seed)
    rollbacks, restarts = [], []
    with tempfile.TemporaryDirectory() as folder:
        if options.only != "restarts":
            rollbacks = measure_rollbacks(Path(folder) / "rollbacks", rounds, rng, options.fleet)
        if options.only != "rollbacks":
            restarts = try_restarts(Path(folder) / "restarts", rounds, rng, options.fleet)
    return report(rollbacks, restarts, options.fleet)


class Router:
    """A router process that is started, killed and asked; ``entry(n)`` is the n-th version that it may serve."""

    def __init__(self, folder, fleet):
        folder.mkdir(parents=True)
        self.folder, self.fleet, self.file = folder, fleet, folder / "release.json"
        (self.port,) = free_ports(1)
        self.process = None
        self.client = httpx.Client(
            base_url=f"http://127.0.0.1:{self.port}", headers={"Authorization": f"Bearer {TOKEN}"}, timeout=30
        )
        self.log = (folder / "router.log").open("wb")

    def start(self):
        rollout = {
            "steps": [5, 20, 50, 100],
            "poll_interval_seconds": POLL_SECONDS,
            "bake_seconds": 1,
            "synthetic_requests": 5,
            "min_samples": 10,
            "metrics": [],
            "retry_seconds": 1,
        }
        tokens = [{"subject": "benchmark", "scopes": ["use", "clients", "release"], "token": TOKEN}]
        serve = {
            "port": self.port,
            "secrets_dir": str(self.folder / "secrets"),
            "cache_dir": str(self.folder / "cache"),
            "galleries": str(self.folder / "galleries"),
            "tokens": json.dumps(tokens),
        }
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "EVODIFF_RELEASE_FILE": str(self.file),
            "EVODIFF_RUNS_DIR": str(self.folder),
            "EVODIFF_FEEDBACK_STORE": str(self.folder / "feedback.sqlite"),
            **{f"EVODIFF_ROLLOUT_{name.upper()}": text_of(value) for name, value in rollout.items()},
            **{f"EVODIFF_SERVE_{name.upper()}": text_of(value) for name, value in serve.items()},
        }
        pretended = [sys.executable, __file__, "--be-router", str(self.folder)]
        command = pretended if self.fleet == "pretended" else [sys.executable, "-m", "evodiff", "serve"]
        self.process = subprocess.Popen(command, env=environment, stdout=self.log, stderr=self.log)

    def kill(self):
        """End the process at once, and wait until its workers have noticed."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        self.process.kill()
        self.process.wait()
        psutil.wait_procs(children, timeout=30)

    def end(self):
        self.process.terminate()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.client.close()
        self.log.close()

    def release(self):
        """Return what the router shows, None where it does not answer."""
        with contextlib.suppress(httpx.HTTPError):
            answer = self.client.get("/v1/release")
            return answer.json() if answer.status_code == 200 else None

    def wait(self, condition):
        """Return the first release that meets a condition."""
        until = time.monotonic() + PATIENCE_SECONDS[self.fleet]
        while time.monotonic() < until:
            release = self.release()
            if release is not None and condition(release):
                return release
            time.sleep(0.01)
        raise TimeoutError(f"{self.release()}\n{(self.folder / 'router.log').read_text()[-3000:]}")

    def entry(self, number):
        if self.fleet == "pretended":
            return {"run": "pretended", "candidate": f"{number:016x}"}
        return real_entry(self.folder / "models" / f"m{number}", number)

    def request(self, number):
        """Write a version as pending, as a pipeline does."""
        with release_locked(self.file):
            release = read_release(self.file)
            write_release(self.file, {**release, "revision": release["revision"] + 1, "pending": self.entry(number)})

    def spoil_canary(self):
        if self.fleet == "pretended":
            self.process.send_signal(signal.SIGUSR1)
            return
        workers = [item for item in psutil.Process(self.process.pid).children() if item.is_running()]
        max(workers, key=lambda item: item.create_time()).kill()


def real_entry(folder, number):
    from evodiff.architecture.genome import ImageShape
    from evodiff.architecture.network import build_network
    from evodiff.architecture.pipeline_folder import write_pipeline_folder
    from evodiff.architecture.zoo import ddpm_unet

    shape = ImageShape(channels=1, size=8, classes=10)
    if not folder.exists():
        import torch

        chance = torch.Generator().manual_seed(number)
        network = build_network(ddpm_unet(shape, "ddpm_unet_small"), shape, seed=number)
        weights = {
            name: (tensor + 0.05 * torch.randn(tensor.shape, generator=chance)).numpy()
            for name, tensor in network.state_dict().items()
        }
        genome = network.genome.to_json()
        write_pipeline_folder(folder, weights, genome, shape, prediction="v_prediction", noise_schedule="linear")
    (file,) = folder.rglob("*.safetensors")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    return {"run": folder.name, "candidate": digest[:16], "folder": str(folder)}


@contextlib.contextmanager
def load(router):
    """Keep a real router busy with small requests, one after another, of each client in turn."""
    ended = threading.Event()

    def send():
        turns = itertools.cycle([{"X-Client-Id": f"client-{number}"} for number in range(HTTP_CLIENTS)])
        known = {"Authorization": f"Bearer {TOKEN}"}
        with httpx.Client(base_url=router.client.base_url, headers=known, timeout=60) as client:
            while not ended.is_set():
                with contextlib.suppress(httpx.HTTPError):
                    if client.post("/v1/generate", json={"steps": 2}, headers=next(turns)).status_code == 200:
                        continue
                time.sleep(0.1)

    thread = threading.Thread(target=send, daemon=True)
    if router.fleet == "real":
        thread.start()
    try:
        yield
    finally:
        ended.set()
        if router.fleet == "real":
            thread.join(60)


def measure_rollbacks(folder, rounds, rng, fleet):
    """Return the seconds from each fault to weight 0, as the router shows it."""
    router = Router(folder, fleet)
    router.request(0)
    router.start()
    try:
        with load(router):
            router.wait(lambda release: release["champion"] is not None and "stable" in release["loaded"])
            return [measure_rollback(router, number, rng) for number in range(1, rounds + 1)]
    finally:
        router.end()


def measure_rollback(router, number, rng):
    router.request(number)
    wanted = version_name(router.entry(number))
    step = rng.randrange(3)
    router.wait(lambda release: is_running(release, wanted) and release["rollout"]["step"] >= step)
    time.sleep(rng.uniform(0, POLL_SECONDS / 2))
    router.spoil_canary()
    began = time.monotonic()
    router.wait(lambda release: release["weight"] == 0)
    seconds = time.monotonic() - began
    say(f"fault {number}: weight 0 after {seconds:.2f} s")
    quarantine = [item["version"] for item in router.wait(lambda seen: seen["rollout"] is None)["quarantine"]]
    assert wanted in quarantine, f"{wanted} is not in quarantine: {quarantine}"
    return seconds


def say(line):
    """Print progress beside the result."""
    print(line, file=sys.stderr, flush=True)


def is_running(release, version):
    rollout = release["rollout"]
    return rollout is not None and rollout["phase"] == "running" and version_name(release["challenger"]) == version


def try_restarts(folder, rounds, rng, fleet):
    """Return, for each kill, where it struck and what was wrong after it, an empty text where nothing was."""
    router = Router(folder, fleet)
    found, number = [], 0
    router.request(0)
    router.start()
    try:
        with load(router):
            router.wait(lambda release: release["champion"] is not None and "stable" in release["loaded"])
            while len(found) < rounds:
                if read_release(router.file)["pending"] is None:
                    number += 1
                    router.request(number)
                if fleet == "real" and rng.random() < 0.7:  # their loading takes longest: strike at the other steps too
                    router.wait(lambda release: (release["rollout"] or {}).get("phase") == "running")
                time.sleep(rng.uniform(0, 3 * POLL_SECONDS))
                router.kill()
                found.append(check_restart(router))
                say(f"kill {len(found)}: {found[-1][0]}: {found[-1][1] or 'right'}")
            promoted = router.wait(
                lambda release: release["champion"] != router.entry(0) and release["rollout"] is None
            )
            assert "promote" in [item["action"] for item in promoted["decisions"]]
    finally:
        router.end()
    return found


def check_restart(router):
    before = ReleaseFile(router.file).read()
    told, rollout = json.loads(json.dumps(before.to_json())), before.rollout
    kept = None if rollout is None else ReleaseFile(router.file).read_analysis(rollout.id)
    router.start()
    after = router.wait(lambda release: "stable" in release["loaded"] and (rollout is None or has_begun(release)))
    wrong = []
    if after["decisions"][: len(before.decisions)] != told["decisions"]:
        wrong.append("decisions were lost")
    later = after["decisions"][len(before.decisions) :]
    if not later:
        wrong += check_standing(before, told, after, kept)
    if any(item["action"] in ("roll back", "withdraw") for item in later):
        wrong.append(f"a good version was rolled back: {later[-1]['reason']}")
    if after["rollout"] is not None and after["weight"] not in (0, after["rollout"]["weight"]):
        wrong.append(f"weight {after['weight']} at {after['rollout']}")
    where = "no rollout" if rollout is None else f"{rollout.phase}, step {rollout.step + 1}"
    return where, "; ".join(wrong)


def has_begun(release):
    """Whether the canary is back; or was never there, for the rollout is over or loads."""
    rollout = release["rollout"]
    if rollout is None or rollout["phase"] != "running":
        return True
    return release["evidence"] is not None and release["weight"] > 0


def check_standing(before, told, after, kept):
    """Compare what nobody has decided on since."""
    for role in ("champion", "challenger", "previous", "rollout", "quarantine"):
        if told[role] != after[role]:
            yield f"{role}: {told[role]} became {after[role]}"
    if before.rollout is not None and before.rollout.step >= 0:
        if after["weight"] != before.rollout.weight:
            yield f"weight {after['weight']} where {before.rollout.weight} was decided"
        if kept is not None and kept[0] == before.rollout.step:
            counts = kept[1]["step"]["samples"]
            if any(after["evidence"]["requests"][arm] < count for arm, count in counts.items()):
                yield f"evidence was lost: {counts} became {after['evidence']['requests']}"


async def pretended_router(folder):
    """Be a router whose workers are pretended: the real controller and routes, on the port that the settings name."""
    import uvicorn
    from fastapi import FastAPI

    from evodiff.deployment.release.controller import RolloutController
    from evodiff.deployment.release.rollout_settings import load_rollout_settings
    from evodiff.deployment.release.routes import add_release_routes
    from evodiff.deployment.settings import load_serving_settings
    from evodiff.deployment.web.tokens import Tokens

    settings, rollouts = load_serving_settings({}), load_rollout_settings()
    fleet = PretendedFleet()
    controller = RolloutController(
        ReleaseFile(folder / "release.json"), fleet, rollouts.analyses(), rollouts.options(), probe=fleet.probe
    )
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, fleet.spoil)
    app = FastAPI()
    add_release_routes(app, controller, Tokens.from_settings(settings))
    server = uvicorn.Server(uvicorn.Config(app, port=settings.port, log_level="warning", lifespan="off"))
    beside = [asyncio.create_task(controller.run()), asyncio.create_task(fleet.answer_clients())]
    await server.serve()
    for task in beside:
        task.cancel()
    await asyncio.gather(*beside, return_exceptions=True)


class PretendedFleet:
    """Loads in up to 0.3 s; clients ask by themselves, and a spoilt version answers with images that are not finite."""

    def __init__(self):
        self.observers, self.arms, self.routed, self.spoilt = [], {}, ("", 0.0), set()
        self.rng = random.Random(os.getpid())

    async def load(self, entry, arm):
        from evodiff.deployment.smoke_report import SmokeReport

        await asyncio.sleep(self.rng.uniform(0, 0.3))
        name = version_name(entry)
        digest = hashlib.sha256(name.encode()).hexdigest()
        self.arms[arm] = name
        return SmokeReport(name, digest, (8, 8, 1), 0, 1, 1, 1, 0.01, 0.1)

    async def swap(self):
        from evodiff.deployment.observation import Arm

        other = {Arm.STABLE: Arm.CANARY, Arm.CANARY: Arm.STABLE}
        self.arms = {other[arm]: name for arm, name in self.arms.items()}
        self.routed = ("", 0.0)

    async def unload(self, arm):
        self.arms.pop(arm, None)

    def route(self, rollout_id, weight):
        self.routed = (rollout_id, weight)

    def workers(self):
        from evodiff.deployment.observation import WorkerObservation

        return [WorkerObservation(arm, name, time.time(), True, 1) for arm, name in self.arms.items()]

    def spoil(self):
        from evodiff.deployment.observation import Arm

        self.spoilt.add(self.arms[Arm.CANARY])
        self.answer(Arm.CANARY, "client", self.routed[0])

    async def probe(self, rollout, requests):
        from evodiff.deployment.observation import Arm

        for number in range(requests):
            self.answer(Arm.CANARY, f"probe {number}", rollout)

    async def answer_clients(self):
        from evodiff.deployment.observation import Arm
        from evodiff.deployment.release.assignment import arm_of

        began, answered = time.monotonic(), 0
        while True:
            await asyncio.sleep(1 / REQUESTS_A_SECOND)
            due = int((time.monotonic() - began) * REQUESTS_A_SECOND)
            for _ in range(due - answered):
                client, (rollout, weight) = f"client {self.rng.randrange(CLIENTS)}", self.routed
                arm = arm_of(rollout, client, weight) if Arm.CANARY in self.arms else Arm.STABLE
                if arm in self.arms:
                    self.answer(arm, client, rollout)
            answered = due

    def answer(self, arm, client, rollout):
        from evodiff.deployment.observation import Outcome, RequestObservation

        outcome = Outcome.NOT_FINITE if self.arms[arm] in self.spoilt else Outcome.OK
        seen = RequestObservation(
            request=f"{self.rng.random()}", arm=arm, version=self.arms[arm], client=client, at=time.time(),
            outcome=outcome, compute_seconds=0.01, total_seconds=0.02, rollout=rollout, weight=self.routed[1],
        )  # fmt: skip
        for observer in self.observers:
            observer(seen)


def text_of(value):
    return value if isinstance(value, str) else json.dumps(value)


def report(rollbacks, restarts, fleet):
    limit = POLL_SECONDS + 1
    fast = sum(seconds <= limit for seconds in rollbacks)
    right = sum(not wrong for _, wrong in restarts)
    table = Table(title=f"Faults in the middle of rollouts, {fleet} workers, poll interval {POLL_SECONDS:g} s")
    for column in ("what", "found", "wanted"):
        table.add_column(column)
    if rollbacks:
        spread = f"median {sorted(rollbacks)[len(rollbacks) // 2]:.2f} s, longest {max(rollbacks):.2f} s"
        found = f"{fast} of {len(rollbacks)} in time; {spread}"
        table.add_row("weight 0 after a fault", found, f"all within {limit:g} s")
    if restarts:
        table.add_row("right after a kill", f"{right} of {len(restarts)}", "all")
        places = sorted({where for where, _ in restarts})
        counts = ", ".join(f"{where} {sum(found == where for found, _ in restarts)}" for where in places)
        table.add_row("kills struck at", counts, "")
    console = Console()
    console.print(table)
    for where, wrong in restarts:
        if wrong:
            console.print(f"{where}: {wrong}", markup=False)
    return 0 if fast == len(rollbacks) and right == len(restarts) else 1


if __name__ == "__main__":
    sys.exit(main())
