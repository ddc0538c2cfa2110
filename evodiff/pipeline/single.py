"""Train and score one given genome as a search would, through a ledger of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evodiff.engine.candidate import candidate_id
from evodiff.errors import EvodiffError
from evodiff.pipeline.create import create_run
from evodiff.pipeline.generation import plan, train_and_evaluate
from evodiff.pipeline.run import Run

if TYPE_CHECKING:
    from evodiff.architecture.genome import ArchitectureGenome
    from evodiff.pipeline.inputs import Inputs
    from evodiff.settings import Settings
    from evodiff.workers import WorkerPool


def evaluate_genome(
    run: Run, genome: ArchitectureGenome, settings: Settings, inputs: Inputs, pool: WorkerPool
) -> dict[str, float]:
    """Return the objectives of ``genome`` under the settings of ``run``.

    The ledger is ``RUN/single/ID``, a run of one trial. A trial's seed comes from the run's seed and the candidate's
    id, so the values are those that the search itself would find.

    Raises:
        InvalidGenome: the genome makes no network for the images of the run.
        EvodiffError: the trial failed; the message gives the cause.
    """
    run.space.validate(genome)
    candidate = candidate_id(run.space.canonical(genome))
    path = run.path / "single" / candidate
    if (path / "experiment.json").exists():
        single = Run.open(path)
    else:
        alone = settings.model_copy(update={"population": 1})
        single = create_run(alone, path, inputs, warm_start=[genome])
    (trial,) = plan(single, 0)
    train_and_evaluate(single, 0, pool)
    evaluation = single.ledger.evaluations(0)[trial.id]
    if evaluation.failure is not None:
        raise EvodiffError(
            f"Candidate {candidate} failed: {evaluation.failure.cause}. {evaluation.failure.detail}".strip(),
            remedy="Change the genome, or the training settings.",
        )
    return dict(evaluation.objectives)
