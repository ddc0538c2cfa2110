"""Train and score one given genome as a search would, through a ledger of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evodiff.engine.candidate import candidate_id
from evodiff.errors import EvodiffError
from evodiff.pipeline.create import create_run
from evodiff.pipeline.generation import plan, train_and_evaluate
from evodiff.pipeline.inputs import Inputs
from evodiff.pipeline.run import Run
from evodiff.settings import Settings

if TYPE_CHECKING:
    from evodiff.architecture.genome import ArchitectureGenome
    from evodiff.workers import WorkerPool


def evaluate_genome(run: Run, genome: ArchitectureGenome, pool: WorkerPool) -> dict[str, float]:
    """Return the objectives of ``genome`` under the settings that ``run`` froze, whatever others hold now.

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
        single = create_run(_settings(run), path, _inputs(run), warm_start=[genome])
    (trial,) = plan(single, 0)
    train_and_evaluate(single, 0, pool)
    evaluation = single.ledger.evaluations(0)[trial.id]
    if evaluation.failure is not None:
        raise EvodiffError(
            f"Candidate {candidate} failed: {evaluation.failure.cause}. {evaluation.failure.detail}".strip(),
            remedy="Change the genome, or the training settings.",
        )
    return dict(evaluation.objectives)


def _settings(run: Run) -> Settings:
    """Return the settings of a run like this one, of a single trial; nothing is read from anywhere else."""
    chosen = {name: value for name, value in run.options().items() if "." not in name}
    return Settings.model_construct(
        **{**chosen, "population": 1, "rungs": 1, "inherit": False}, training=run.training, evaluation=run.evaluation
    )


def _inputs(run: Run) -> Inputs:
    names = ("dataset", "feature_net", "report_feature_net")
    return Inputs(
        dataset=run.dataset(),
        calibration=run.calibration,
        files={f"{name}.safetensors": run.inputs / f"{name}.safetensors" for name in names},
        device=run.settings["device"],
        working_set_mb=run.settings.get("working_set_mb"),
        noise_floors=run.settings["noise_floors"],
        feature_accuracy=run.settings["feature_accuracy"],
    )
