"""Simulated traffic of a rollout, to measure how often its analysis errs: sticky clients, queues, load, bursts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from evodiff.deployment.observation import Arm, Outcome, RatingObservation, RequestObservation

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from evodiff.deployment.analysis.rollout_analysis import RolloutAnalysis, Verdict

# Sampling steps, guidance and what they cost relative to the first.
KINDS: Final = ((20, False, 1.0), (20, True, 2.0), (50, False, 2.5))


@dataclass(frozen=True)
class Traffic:
    """Clients and machine. Spreads are standard deviations of logarithms.

    Defaults are those of a small model on one machine: about 60 % busy at 1 percent, 30 % each at 50. ``clients`` send
    ``rate`` requests a second in all, shared by a Zipf law with exponent ``zipf``; each has its own mix of request
    kinds, slowness (``client_log_sd``), proneness to errors (gamma distributed, mean 1, shape ``error_shape``) and
    generosity in ratings (``rater_sd``, points). A batch takes ``base_seconds`` for one image of the cheapest kind,
    with noise ``log_sd``; times wander with the machine's load, which both workers share, and with each one's speed:
    autoregressive, with spreads and time constants ``load_*`` and ``worker_*``. A worker is ``contention`` slower while
    the other computes. Errors come with ``error_rate``, in bursts that both arms share. ``refused`` and ``rated`` are
    shares of requests.
    """

    clients: int = 300
    zipf: float = 1.1
    rate: float = 20.0
    base_seconds: float = 0.025
    log_sd: float = 0.2
    client_log_sd: float = 0.02
    load_log_sd: float = 0.2
    load_seconds: float = 60.0
    worker_log_sd: float = 0.05
    worker_seconds: float = 2.0
    contention: float = 0.03
    most_in_a_batch: int = 4
    error_rate: float = 0.005
    error_shape: float = 0.5
    burst_log_sd: float = 1.0
    burst_seconds: float = 30.0
    refused: float = 0.02
    rated: float = 0.1
    rater_sd: float = 0.8


@dataclass(frozen=True)
class Effect:
    """What the canary does differently: ratios of compute seconds and of error rates, points lost in ratings."""

    slowdown: float = 1.0
    error_ratio: float = 1.0
    rating_drop: float = 0.0


@dataclass
class Stream:
    """Requests in order of their end: columns of the same length, times in seconds.

    ``ratings`` are NaN where none was given; ``kind`` is an index in ``KINDS``, ``phase`` one in ``steps``, which are
    percentages, and in ``began``.
    """

    arrived: NDArray[np.float64]
    ended: NDArray[np.float64]
    canary: NDArray[np.bool_]
    client: NDArray[np.int64]
    phase: NDArray[np.int64]
    kind: NDArray[np.int64]
    batch: NDArray[np.int64]
    compute: NDArray[np.float64]
    failed: NDArray[np.bool_]
    refused: NDArray[np.bool_]
    ratings: NDArray[np.float64]
    steps: tuple[float, ...]
    began: tuple[float, ...]

    def observations(self) -> Iterator[tuple[RequestObservation, RatingObservation | None]]:
        """Yield each request, with its rating if it has one, in order of their end."""
        columns = (
            self.ended, self.arrived, self.canary, self.client, self.phase, self.kind, self.batch, self.compute,
            self.failed, self.refused, self.ratings,
        )  # fmt: skip
        rows = zip(*(column.tolist() for column in columns), strict=True)
        for number, (at, arrived, canary, client, phase, kind, batch, compute, failed, refused, rating) in enumerate(
            rows
        ):
            arm = Arm.CANARY if canary else Arm.STABLE
            steps, guided, _ = KINDS[kind]
            outcome = Outcome.REFUSED if refused else Outcome.FAILED if failed else Outcome.OK
            version = "canary" if canary else "stable"
            request = RequestObservation(
                str(number), arm, version, str(client), at, outcome, compute, at - arrived, batch, steps, guided,
                "simulated", self.steps[phase] / 100.0,
            )  # fmt: skip
            rated = None
            if rating == rating:  # not NaN
                rated = RatingObservation(str(client), arm, version, rating, at, "simulated")
            yield request, rated


def simulate(traffic: Traffic, effect: Effect, phases: Sequence[tuple[float, int]], rng: np.random.Generator) -> Stream:
    """Simulate a rollout.

    Args:
        traffic: clients and machine.
        effect: what the canary does differently.
        phases: percent of clients on the canary, and requests, of each step.
        rng: the source of chance.
    """
    total = sum(count for _, count in phases)
    arrived = np.cumsum(rng.exponential(1.0 / traffic.rate, total))
    phase = np.repeat(np.arange(len(phases)), [count for _, count in phases])
    weight = np.array([percent for percent, _ in phases])[phase] / 100.0
    popularity = np.arange(1, traffic.clients + 1) ** -traffic.zipf
    client = rng.choice(traffic.clients, size=total, p=popularity / popularity.sum())
    canary = rng.random(traffic.clients)[client] < weight
    kind = _kinds(traffic, client, rng)
    speeds = np.exp(_speeds(traffic, arrived, client, rng))
    speeds[canary] *= effect.slowdown
    ended, compute, batch = _serve(traffic, arrived, canary, kind, speeds, rng)
    proneness = rng.gamma(traffic.error_shape, 1.0 / traffic.error_shape, traffic.clients)[client]
    bursts = np.exp(_wander(arrived, traffic.burst_log_sd, traffic.burst_seconds, rng) - traffic.burst_log_sd**2 / 2)
    errors = traffic.error_rate * proneness * bursts * np.where(canary, effect.error_ratio, 1.0)
    generosity = rng.normal(3.6, traffic.rater_sd, traffic.clients)[client]
    opinion = generosity + rng.normal(0.0, 0.8, total) - np.where(canary, effect.rating_drop, 0.0)
    ratings = np.where(rng.random(total) < traffic.rated, np.clip(np.rint(opinion), 1, 5), np.nan)
    order = np.argsort(ended, kind="stable")
    first = np.concatenate(([0], np.cumsum([count for _, count in phases])[:-1]))
    return Stream(
        arrived[order], ended[order], canary[order], client[order], phase[order], kind[order], batch[order],
        compute[order], (rng.random(total) < errors)[order], (rng.random(total) < traffic.refused)[order],
        ratings[order], tuple(percent for percent, _ in phases), tuple(arrived[first].tolist()),
    )  # fmt: skip


def _kinds(traffic: Traffic, client: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw each request's kind from its client's own mix: (requests,)."""
    mixes = rng.dirichlet((1.4, 0.3, 0.3), traffic.clients).cumsum(axis=1)[client]
    kinds: NDArray[np.int64] = (rng.random(len(client))[:, None] > mixes[:, :-1]).sum(axis=1)
    return kinds


def _speeds(
    traffic: Traffic, arrived: NDArray[np.float64], client: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return what load and clients add to log-seconds: (requests,)."""
    load = _wander(arrived, traffic.load_log_sd, traffic.load_seconds, rng)
    return load + rng.normal(0.0, traffic.client_log_sd, traffic.clients)[client]


def _wander(at: NDArray[np.float64], sd: float, seconds: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return a stationary first-order autoregressive process at those times, interpolated: (len(at),)."""
    grid = np.arange(0.0, at[-1] + seconds / 4, seconds / 8)
    keep = math.exp(-1 / 8)
    values = rng.normal(0.0, sd * math.sqrt(1 - keep**2), len(grid)).tolist()
    values[0] = rng.normal(0.0, sd)
    for index in range(1, len(values)):
        values[index] += keep * values[index - 1]
    return np.asarray(np.interp(at, grid, values))


def _serve(
    traffic: Traffic,
    arrived: NDArray[np.float64],
    canary: NDArray[np.bool_],
    kind: NDArray[np.int64],
    speeds: NDArray[np.float64],
    rng: np.random.Generator,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Run both workers' queues; first come first served, requests of one kind that wait together make a batch.

    Returns:
        when each request ended, the compute seconds of its batch, and the images in it: (requests,) each.
    """
    total = len(arrived)
    ended, compute, batch = [0.0] * total, [0.0] * total, [0] * total
    queues = (np.flatnonzero(~canary).tolist(), np.flatnonzero(canary).tolist())
    factors = [_factors(traffic, arrived, speeds, rng) for _ in queues]
    times, kinds = arrived.tolist(), kind.tolist()
    head, free = [0, 0], [0.0, 0.0]
    starts = [times[queue[0]] if queue else math.inf for queue in queues]
    while min(starts) < math.inf:
        arm = 0 if starts[0] <= starts[1] else 1
        start, queue, first = starts[arm], queues[arm], head[arm]
        member = queue[first]
        wanted, last = kinds[member], first + 1
        end = min(len(queue), first + traffic.most_in_a_batch)
        while last < end and times[queue[last]] <= start and kinds[queue[last]] == wanted:
            last += 1
        seconds = traffic.base_seconds * KINDS[wanted][2] * 0.5 * (1 + last - first) * factors[arm][member]
        if free[1 - arm] > start:
            seconds *= 1.0 + traffic.contention
        head[arm], free[arm] = last, start + seconds
        for member in queue[first:last]:
            ended[member], compute[member], batch[member] = free[arm], seconds, last - first
        starts[arm] = max(free[arm], times[queue[last]]) if last < len(queue) else math.inf
    return np.array(ended), np.array(compute), np.array(batch)


def _factors(
    traffic: Traffic, arrived: NDArray[np.float64], speeds: NDArray[np.float64], rng: np.random.Generator
) -> list[float]:
    """Return what a worker's computation of each request is multiplied by: its own speed, noise, and ``speeds``."""
    own = _wander(arrived, traffic.worker_log_sd, traffic.worker_seconds, rng)
    factors: list[float] = (speeds * np.exp(own + rng.normal(0.0, traffic.log_sd, len(arrived)))).tolist()
    return factors


@dataclass(frozen=True)
class Judgement:
    """What an analysis held of a simulated rollout.

    ``verdict`` is the last one, ``cause`` the metric or guard that failed. ``requests`` and ``canary_requests`` are
    those at steps with soft tests until then, of both arms and of the canary, without refused ones.
    ``passed_last_test`` says whether the last step below 100 percent was ever passed.
    """

    verdict: Verdict
    cause: str | None
    requests: int
    canary_requests: int
    passed_last_test: bool


def judge(analysis: RolloutAnalysis, stream: Stream) -> Judgement:
    """Show a stream to an analysis and ask for its verdict at every sample; stop at the first fail."""
    step, passed, at = -1, False, 0.0
    counts = {Arm.STABLE: 0, Arm.CANARY: 0}
    for request, rating in stream.observations():
        at = request.at
        while step + 1 < len(stream.began) and at >= stream.began[step + 1]:
            step += 1
            analysis.begin_step(step, stream.began[step])
        analysis.observe(request)
        if rating is not None:
            analysis.observe(rating)
        counts[request.arm] += request.outcome is not Outcome.REFUSED and analysis.tests_soft_metrics
        verdict, _ = analysis.verdict(at)
        passed = passed or (verdict == "pass" and analysis.must_show_latency)
        if verdict == "fail":
            break
    tripped = analysis.guards.tripped
    cause = f"guard {tripped.name}" if tripped else analysis.failed_metric
    return Judgement(analysis.verdict(at)[0], cause, sum(counts.values()), counts[Arm.CANARY], passed)
