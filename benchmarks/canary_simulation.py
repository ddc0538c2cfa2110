"""How often does the analysis of a rollout err?

Simulates rollouts (1, 5, 20, 50, 100 %) with clients drawn from a Zipf law, queues with batching, autocorrelated
latencies and bursts of errors, asks for a verdict at every sample, and prints the share that is rolled back where the
canary is the stable version (A/A) and where it is worse by exactly the margins, with exact binomial intervals; beside
it fixed thresholds and tests whose unit is the request. Then how many requests it takes to catch a 20 % slowdown.

Ctrl-C ends it with what it has by then.

    OMP_NUM_THREADS=1 python benchmarks/canary_simulation.py
"""

from __future__ import annotations

import argparse
import signal
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy.stats import binomtest

from evodiff.deployment.analysis.baseline_rules import FixedThresholds, RequestLevelTests
from evodiff.deployment.analysis.options import GuardLimits
from evodiff.deployment.analysis.rollout_analysis import RolloutAnalysis
from evodiff.deployment.analysis.simulation import Effect, Judgement, Stream, Traffic, judge, simulate

PROGRESS = Console(stderr=True)
STOP = threading.Event()
Phases = Sequence[tuple[float, int]]
ROLLOUT: Phases = ((1, 400), (5, 400), (20, 2400), (50, 2400), (100, 400))
GUARDS = GuardLimits(p99_seconds=2.0)
SAME = Effect()
# What the margins tolerate, at their very edge, where nothing but the version makes the arms differ.
EDGE = Effect(slowdown=1.1, error_ratio=1.1, rating_drop=0.25)
EDGE_TRAFFIC = Traffic(client_log_sd=0.0, contention=0.0)
SLOW = Effect(slowdown=1.2)
# Requests simulated at each log-sd: enough for all but a few of the slow canaries to be found.
ENOUGH = {0.2: 5000, 0.4: 8000, 0.8: 24000}


def main() -> None:
    """Print one table of false rollbacks and one of power."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rollouts", type=int, default=2000)
    parser.add_argument("--edge", type=int, default=500, help="rollouts with a canary that is worse by the margins")
    parser.add_argument("--power", type=int, default=100, help="rollouts per row of the table of power")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="a few of each, to see that it runs")
    arguments = parser.parse_args()
    if arguments.smoke:
        arguments.rollouts, arguments.edge, arguments.power = 10, 4, 4
    signal.signal(signal.SIGINT, lambda *_: STOP.set())
    console = Console(width=120)
    console.print(Traffic(), GUARDS, ROLLOUT, f"rollouts {arguments.rollouts}, seed {arguments.seed}")
    for title, rows in (
        ("the canary is the stable version", _same(arguments.rollouts, arguments.seed)),
        ("the canary is worse by the margins", _edge(arguments.edge, arguments.seed + 1)),
    ):
        table = Table("rule", "rolled back", "share [95 %]", "by", title=title)
        for row in rows:
            table.add_row(*row)
        console.print(table)
    power = Table("log-sd", "weight", "caught", "share [95 %]", "requests for .5: canary, all", "for .9: canary, all")
    for log_sd, enough in ENOUGH.items():
        for percent in (20, 50):
            power.add_row(*_power(log_sd, percent, enough, arguments.power, arguments.seed))
    power.title = "a canary that is 20 % slower"
    console.print(power)


def _run(traffic: Traffic, effect: Effect, phases: Phases, count: int, seed: int, title: str) -> Iterator[Stream]:
    for number in track(range(count), description=title, console=PROGRESS):
        if STOP.is_set():
            return
        yield simulate(traffic, effect, phases, np.random.default_rng((seed, number)))


def _judge(stream: Stream, guards: GuardLimits = GUARDS) -> Judgement:
    return judge(RolloutAnalysis(stream.steps, guards, rollout="simulated", version="canary"), stream)


def _same(count: int, seed: int) -> Iterator[list[str]]:
    thresholds = FixedThresholds(p99_seconds=1.2 * _usual_p99(seed))
    tests = {"request-level, one look a step": None, "request-level, a look every 100 requests": 100}
    found: dict[str, list[list[str]]] = {rule: [] for rule in ("analysis", "fixed thresholds", *tests)}
    passed = 0
    for stream in _run(Traffic(), SAME, ROLLOUT, count, seed, "A/A"):
        judged = _judge(stream)
        passed += judged.passed_last_test
        found["analysis"].append([judged.cause] if judged.cause else [])
        found["fixed thresholds"].append(["thresholds"] if thresholds.rolls_back(stream) else [])
        for rule, every in tests.items():
            found[rule].append(sorted(RequestLevelTests(every=every).rejected(stream)))
    for rule, causes in found.items():
        yield [rule, *_share(causes)]
    done = len(found["analysis"])
    yield ["analysis passes 50 %", f"{passed} of {done}", _interval(passed, done), ""]


def _edge(count: int, seed: int) -> Iterator[list[str]]:
    judged = [_judge(stream) for stream in _run(EDGE_TRAFFIC, EDGE, ROLLOUT, count, seed, "at the margins")]
    yield ["analysis", *_share([[one.cause] if one.cause else [] for one in judged])]
    passed = sum(one.passed_last_test for one in judged)
    yield ["analysis passes 50 %", f"{passed} of {len(judged)}", _interval(passed, len(judged)), ""]


def _usual_p99(seed: int) -> float:
    """Return the 99th percentile of what clients of the stable version wait, as an operator would know it."""
    stream = simulate(Traffic(), SAME, ((0, 50_000),), np.random.default_rng((seed, 1 << 32)))
    return float(np.quantile(stream.ended - stream.arrived, 0.99))


def _power(log_sd: float, percent: int, enough: int, count: int, seed: int) -> list[str]:
    """Return a row on the test of latency alone: no errors and no absolute limit end a rollout before it does."""
    traffic = replace(Traffic(), log_sd=log_sd, error_rate=0.0)
    guards = GuardLimits(p99_seconds=None)
    needed = []
    for stream in _run(traffic, SLOW, ((percent, enough), (100, 1)), count, seed, f"slow, {log_sd}, {percent} %"):
        judged = _judge(stream, guards)
        missed = judged.cause != "latency"
        needed.append([np.inf if missed else float(seen) for seen in (judged.canary_requests, judged.requests)])
    if not needed:
        return [f"{log_sd}", f"{percent} %", "stopped", "", "", ""]
    caught = int(np.isfinite(needed).all(axis=1).sum())
    half, most = np.quantile(needed, (0.5, 0.9), axis=0, method="higher")
    return [
        f"{log_sd}",
        f"{percent} %",
        f"{caught} of {len(needed)}",
        _interval(caught, len(needed)),
        f"{half[0]:.0f}, {half[1]:.0f}",
        f"{most[0]:.0f}, {most[1]:.0f}",
    ]


def _share(causes: list[list[str]]) -> list[str]:
    rolled = sum(map(bool, causes))
    by = Counter(cause for found in causes for cause in found)
    return [
        f"{rolled} of {len(causes)}",
        _interval(rolled, len(causes)),
        ", ".join(f"{cause} {number}" for cause, number in by.most_common()),
    ]


def _interval(found: int, count: int) -> str:
    if count == 0:
        return "stopped"
    low, high = binomtest(found, count).proportion_ci()
    return f"{found / count:.4f} [{low:.4f}, {high:.4f}]"


if __name__ == "__main__":
    main()
