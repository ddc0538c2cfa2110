"""The plan of a generation: which trials it asks."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Generic, TypeVar

from evodiff.engine.candidate import Trial, candidate_id
from evodiff.engine.encoding import encode_line
from evodiff.engine.fidelity import ANCHORS, promotions
from evodiff.engine.randomness import generator, trial_seed
from evodiff.engine.replication import replicates
from evodiff.engine.space import space_within
from evodiff.engine.variation import INITIAL, WARM_START, Proposal, samples
from evodiff.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from evodiff.engine.baselines import Strategy
    from evodiff.engine.history import History
    from evodiff.engine.space import SearchSpace
    from evodiff.engine.transfer import Transferred

G = TypeVar("G")


def plan_generation(
    history: History[G],
    strategy: Strategy,
    *,
    seed: int,
    size: int,
    rungs: int = 1,
    replicate_ties: bool = False,
    warm_start: Sequence[Transferred[G]] = (),
    inherit: bool = False,
) -> bytes:
    """Return ``plan.jsonl`` of the next generation: at most ``size`` trials, in the order in which they are asked.

    1. First come the promotions of a run of several rungs (:mod:`evodiff.engine.fidelity`), and with
       ``replicate_ties`` the replicates (:mod:`evodiff.engine.replication`), unless the strategy proposes such trials
       itself.
    2. Proposals come from the strategy; in generation 0 from the warm start, then ``space.initial``, and the first of
       them begin on the highest rung.
    3. A proposal of a trial that was asked before, or is in the plan already, is dropped.
    4. With ``inherit``, the first trial of a child, on the lowest rung, names the trials of its parents whose weights
       are kept.
    5. When too many in a row were dropped, samples fill up; when those are known too, the plan is shorter, or empty:
       the space, or what sampling reaches of it, is exhausted.

    The plan is a function of closed generations and the seed.

    Raises:
        SettingsError: the strategy proposes a rung that the run does not have, or a genome has no plain JSON.
    """
    generation = history.generations
    space = space_within(history.space, generation) if getattr(strategy, "growing", True) else history.space
    plan = _Plan(history, generation, seed=seed, size=size, rungs=rungs, inherit=inherit)
    promotes = getattr(strategy, "promotes", False)
    if generation == 0:
        fresh = samples(space, generator(seed, generation, "sample"))
        plan.take(_anchored(chain(_starts(space, warm_start, seed), fresh), plan, rungs if promotes else 1))
    else:
        if promotes:
            plan.take(promotions(history, strategy, rungs, size))
            plan.take(replicates(history, size, len(plan.lines)) if replicate_ties else ())
        if len(plan.lines) < size:  # a promotion may be all of a generation of one
            rng = generator(seed, generation, "propose")
            plan.take(strategy.propose(history, space, rng, generation, size - len(plan.lines)))
        plan.take(samples(space, generator(seed, generation, "sample")))
    return b"".join(plan.lines.values())


def _starts(space: SearchSpace[G], warm_start: Sequence[Transferred[G]], seed: int) -> Iterable[Proposal[G]]:
    initial = getattr(space, "initial", None)
    known_good: list[G] = [] if initial is None else initial(generator(seed, 0, "initial"))
    return chain(
        (
            Proposal(item.genome, parents=() if item.source is None else (item.source,), operator=WARM_START)
            for item in warm_start
        ),
        (Proposal(genome, operator=INITIAL) for genome in known_good),
    )


def _anchored(proposals: Iterable[Proposal[G]], plan: _Plan[G], rungs: int) -> Iterable[Proposal[G]]:
    """Move the first ones that the plan takes to the highest rung."""
    for proposal in proposals:
        yield replace(proposal, rung=rungs - 1 if len(plan.lines) < ANCHORS else 0)


class _Plan(Generic[G]):
    """A plan that fills up; ``lines`` by trial id."""

    def __init__(
        self, history: History[G], generation: int, *, seed: int, size: int, rungs: int, inherit: bool
    ) -> None:
        self.lines: dict[str, bytes] = {}
        self._history = history
        self._generation = generation
        self._seed = seed
        self._size = size
        self._rungs = rungs
        self._inherit = inherit
        self._patience = 100 + 10 * size
        self._planned: set[tuple[str, int]] = set()

    def take(self, proposals: Iterable[Proposal[G]]) -> None:
        """Take proposals until the plan is full, they end, or too many in a row are known."""
        if len(self.lines) >= self._size:
            return
        dropped = 0
        for proposal in proposals:
            dropped = 0 if self._add(proposal) else dropped + 1
            if len(self.lines) >= self._size or dropped >= self._patience:
                return

    def _add(self, proposal: Proposal[G]) -> bool:
        if not 0 <= proposal.rung < self._rungs:
            raise SettingsError(
                f"Expected proposals for rungs below {self._rungs}, found one for rung {proposal.rung}.",
                remedy=f"Start the run with rungs={proposal.rung + 1}.",
            )
        candidate = candidate_id(self._history.space.canonical(proposal.genome))
        trial = Trial(
            candidate=candidate,
            genome=proposal.genome,
            generation=self._generation,
            rung=proposal.rung,
            replicate=proposal.replicate,
            protocol=proposal.protocol,
            seed=trial_seed(self._seed, candidate, proposal.replicate),
            parents=proposal.parents,
            operator=proposal.operator,
            inherits_from=proposal.inherits_from or self._inheritance(proposal),
            predicted=proposal.predicted,
        )
        if trial.id in self.lines or self._history.told(trial.id) or self._tried_longer(proposal, candidate):
            return False
        known = self._history.asked(candidate)
        genome = self._history.genome(candidate) if known else proposal.genome
        data = self._history.space.to_json(genome)
        try:
            self.lines[trial.id] = encode_line(trial.to_json(data))
            self._planned.add((candidate, trial.rung))
        except (TypeError, ValueError) as error:
            raise SettingsError(
                f"Expected {self._history.space.name}.to_json to return plain JSON, found {data!r}: {error}.",
                remedy="Run evodiff.engine.testing.check_space on the space.",
            ) from error
        return True

    def _tried_longer(self, proposal: Proposal[G], candidate: str) -> bool:
        """Whether a candidate is on a higher rung already, or in this plan, than a proposal would try it on."""
        if proposal.protocol != "search" or proposal.replicate != 0:
            return False
        above = range(proposal.rung + 1, self._rungs)
        rungs = self._history.rungs(candidate) if self._history.asked(candidate) else ()
        return any(rung in rungs or (candidate, rung) in self._planned for rung in above)

    def _inheritance(self, proposal: Proposal[G]) -> tuple[str, ...]:
        first = proposal.protocol == "search" and proposal.rung == proposal.replicate == 0
        if not self._inherit or not first:
            return ()
        return tuple(trial for parent in proposal.parents if (trial := self._history.heritable(parent)) is not None)
