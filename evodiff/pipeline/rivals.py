"""Whom a champion is held against: the networks of the zoo, trained from scratch on equal steps and on equal compute.

What a contest leaves lies under ``RUN/validation``; it is derived, and may differ on a rerun::

    scores/ID.stepsN.seedS.json   one training: its scores on test images, by the second feature net, or its failure
    weights/ID.stepsN.seedS/      its weights, so that more samples need no new training; `evodiff prune` drops them
    latency.json                  the networks' latency, measured in turns
    ID.json                       the contest of candidate ID: what the report shows
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final, Literal

from evodiff.architecture.cost import training_flops
from evodiff.architecture.graph import resolve
from evodiff.architecture.zoo import ZOO
from evodiff.engine.candidate import candidate_id
from evodiff.engine.randomness import trial_seed
from evodiff.errors import InvalidGenome
from evodiff.pipeline.final import champion, named_candidate, trial_row
from evodiff.pipeline.sampling_cost import sampling_seconds

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from evodiff.architecture.genome import ArchitectureGenome
    from evodiff.pipeline.run import Run
    from evodiff.settings import TrainingSettings

VALIDATION: Final = "validation"
CHAMPION: Final = "champion"

Budget = Literal["equal_steps", "equal_compute"]
BUDGETS: Final[tuple[Budget, ...]] = ("equal_steps", "equal_compute")

_WARM_UP_SHARE = 3  # a training warms up for at most one step in so many


@dataclass(frozen=True)
class Rival:
    """A network of a contest; ``stock`` says whether diffusers' ``UNet2DModel`` can be it."""

    name: str
    candidate: str
    genome: ArchitectureGenome
    stock: bool

    @classmethod
    def of(cls, name: str, genome: ArchitectureGenome) -> Rival:
        """Name a genome."""
        from evodiff.architecture.stock import stock_unet  # its sizes come with torch, which reports do without

        return cls(name, candidate_id(genome.canonical()), genome, stock_unet(genome) is not None)


@dataclass(frozen=True)
class Contest:
    """Who is trained, for how long and how often. The candidate in question is the first of ``rivals``.

    ``left_out`` says of other networks why they do not take part. ``steps`` are those of every network at equal steps;
    ``seeds`` how many trainings of each; ``samples`` the images that each training is judged by.
    """

    run: Run
    rivals: tuple[Rival, ...]
    left_out: Mapping[str, str]
    steps: int
    seeds: int
    samples: int

    @property
    def candidate(self) -> str:
        """The id of the candidate in question."""
        return self.rivals[0].candidate

    @property
    def budget_flops(self) -> float:
        """Training compute of the candidate in question, which equal compute gives to all."""
        return self.steps * self.step_flops(self.rivals[0])

    def step_flops(self, rival: Rival) -> float:
        """Return what one training step of a network costs."""
        return training_flops(resolve(rival.genome, self.run.shape), self.run.training.batch_size)

    def steps_of(self, rival: Rival) -> dict[Budget, int]:
        """Return the training steps of a network under each budget, at least one."""
        affordable = max(1, round(self.budget_flops / self.step_flops(rival)))
        return {"equal_steps": self.steps, "equal_compute": affordable}

    def open_stages(self, rival: Rival, seed: int) -> list[int]:
        """Return after how many steps a training is still to be judged, fewest first."""
        wanted = sorted(set(self.steps_of(rival).values()))
        return [steps for steps in wanted if stored_score(self.run, rival, steps, seed, self.samples) is None]

    def open_trainings(self) -> list[tuple[Rival, int, list[int]]]:
        """Return what is left to do: network, seed and stages, seed by seed."""
        found = [(rival, seed, self.open_stages(rival, seed)) for seed in range(self.seeds) for rival in self.rivals]
        return [(rival, seed, stages) for rival, seed, stages in found if stages]

    def seconds(self, rival: Rival, stages: Iterable[int]) -> float:
        """Predict how long training and judging one network takes, on one worker."""
        run, stages = self.run, sorted(stages)
        # Stages of one warm-up are one training that goes on.
        longest = [max(group) for _, group in groupby(stages, lambda steps: warm_up_steps(run.training, steps))]
        calls = run.evaluation.sampler_steps * (1 if run.evaluation.guidance == 1 else 2)
        judging = len(stages) * sampling_seconds(run, rival.genome, self.samples, calls)
        return judging + sum(run.predicted_seconds(rival.genome, steps) for steps in longest)

    def predicted_seconds(self, workers: int) -> float:
        """Predict how long what is left to do takes on so many workers."""
        each = [self.seconds(rival, stages) for rival, _, stages in self.open_trainings()]
        return max(sum(each) / workers, max(each, default=0.0))


def plan_contest(
    run: Run, candidate: str = CHAMPION, *, steps: int | None = None, seeds: int = 3, samples: int = 2000
) -> Contest:
    """Hold a candidate (``champion``, an id or a prefix of one) against every network of the zoo that fits.

    ``steps`` are by default those of the run's full rung. A network of the zoo that is the candidate itself, makes no
    network for the images or needs more memory than the target has, is left out.

    Raises:
        CandidateNotFound: there is no such candidate, or there are several.
    """
    identifier = named_candidate(run, candidate)
    best = champion(run)
    name = CHAMPION if best is not None and best.id == identifier else identifier[:8]
    rivals = [Rival.of(name, run.space.from_json(trial_row(run, identifier)["genome"]))]
    left_out = {}
    for known, write in ZOO.items():
        try:
            rival = Rival.of(known, write(run.shape))
            resolve(rival.genome, run.shape)
        except InvalidGenome as error:
            left_out[known] = str(error)
            continue
        broken = [limit for limit, value in run.violations(rival.genome).items() if value > 0]
        if rival.candidate == identifier:
            left_out[known] = f"it is the {name} itself"
        elif broken:
            left_out[known] = f"it breaks {', '.join(broken)}"
        else:
            rivals.append(rival)
    return Contest(run, tuple(rivals), left_out, steps or run.training.steps, seeds, samples)


def training_seed(run: Run, seed: int) -> int:
    """Return the seed of a contest's training number ``seed``: the same for all networks, and new to the search."""
    return trial_seed(run.experiment["seed"], "rivals", seed)


def warm_up_steps(training: TrainingSettings, steps: int) -> int:
    """Return how many of ``steps`` steps warm up: as the run says, but at most a third of so short a training."""
    return min(training.warmup_steps, steps // _WARM_UP_SHARE)


def training_name(candidate: str, steps: int, seed: int) -> str:
    """Return what files of one training are called."""
    return f"{candidate}.steps{steps}.seed{seed}"


def score_file(candidate: str, steps: int, seed: int) -> str:
    """Return where, from the run's folder, the score of one training is."""
    return f"{VALIDATION}/scores/{training_name(candidate, steps, seed)}.json"


def weights_folder(run: Run, candidate: str, steps: int, seed: int) -> Path:
    """Return where the weights of one training are."""
    return run.path / VALIDATION / "weights" / training_name(candidate, steps, seed)


def contest_file(candidate: str) -> str:
    """Return where, from the run's folder, the contest of a candidate is."""
    return f"{VALIDATION}/{candidate}.json"


def stored_score(run: Run, rival: Rival, steps: int, seed: int, samples: int) -> dict[str, Any] | None:
    """Return the score of one training by so many samples, or its failure; None where there is none."""
    found = stored_document(run, score_file(rival.candidate, steps, seed))
    return found if "failure" in found or found.get("samples") == samples else None


def stored_document(run: Run, name: Path | str) -> dict[str, Any]:
    """Return a derived document of the run; empty where there is none that can be read."""
    try:
        found = json.loads(run.ledger.read(name) or b"{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
