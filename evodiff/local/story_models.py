"""The two models of the story that no scheduler evolves: what has served so far, and one three times as slow.

Both are real: genomes of this search space, trained and scored in run folders of their own by the same code as any
candidate, over the same images. What is poor about them is their cost.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

from evodiff.architecture.cost import operations
from evodiff.architecture.genome import GlobalParameters, ImageShape
from evodiff.architecture.graph import resolve
from evodiff.architecture.repair import repair
from evodiff.architecture.skeletons import UNetPlan, unet
from evodiff.architecture.zoo import ddpm_unet, level_multipliers
from evodiff.errors import EvodiffError, InvalidGenome
from evodiff.hardware.latency import predict_ms
from evodiff.pipeline.create import create_run
from evodiff.pipeline.evolve import evolve_generation
from evodiff.pipeline.inputs import gather_inputs
from evodiff.pipeline.session import open_workers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from evodiff.architecture.genome import ArchitectureGenome
    from evodiff.pipeline.run import Run
    from evodiff.settings import Settings

SERVING_IMAGES: Final = 1  # of a request of the story


def train_models(
    settings: Settings, path: Path, genomes: Callable[[ImageShape], list[ArchitectureGenome]]
) -> tuple[Run, list[str]]:
    """Train genomes in a new run, as its first generation; return it and the ids of the candidates, in order.

    Raises:
        EvodiffError: one of them could not be trained, or as in :func:`~evodiff.pipeline.create.create_run`.
    """
    with open_workers(settings, lambda line: None, at_most=2) as pool:
        inputs = gather_inputs(settings, pool, lambda name, content: None)
        wanted = genomes(ImageShape(*inputs.dataset.shape))
        changed = settings.model_copy(update={"population": max(2, len(wanted))})
        run = create_run(changed, path, inputs, warm_start=wanted)
        evolve_generation(run, pool, f"{path.name}-models")
    rows = run.ledger.plan(0)
    told = run.ledger.evaluations(0)
    found = []
    for genome in wanted:
        row = next(row for row in rows if run.space.from_json(row["genome"]) == genome)
        if (failure := told[row["id"]].failure) is not None:
            raise EvodiffError(f"{path.name}/{row['candidate']} failed: {failure}.", remedy="Read its run folder.")
        found.append(str(row["candidate"]))
    return run, found


def stock_model(shape: ImageShape) -> list[ArchitectureGenome]:
    """Return what has served so far: the stock U-Net of the zoo, four times as slow as its smallest network."""
    return [ddpm_unet(shape)]


def slower_model(run: Run, candidate: str, factor: float) -> ArchitectureGenome:
    """Return the smallest U-Net that is predicted to take ``factor`` times as long as a candidate of a run, or more.

    Raises:
        EvodiffError: the space has none.
    """
    wanted = factor * predicted_ms(run, _genome_of(run, candidate))
    costs = [(predicted_ms(run, genome), genome) for genome in _unets(run)]
    fitting = [item for item in costs if item[0] >= wanted]
    if not fitting:
        raise EvodiffError(
            f"Expected a U-Net of {wanted:.3g} ms, found at most {max(cost for cost, _ in costs):.3g} ms.",
            remedy="Ask for a smaller factor.",
        )
    return min(fitting, key=lambda item: item[0])[1]


def predicted_ms(run: Run, genome: ArchitectureGenome) -> float:
    """Return what a call at the story's batch takes, by the run's table of operators."""
    return predict_ms(operations(resolve(genome, run.shape), SERVING_IMAGES), run.calibration)


def _genome_of(run: Run, candidate: str) -> ArchitectureGenome:
    genome: ArchitectureGenome = run.evolution().candidate(candidate).genome
    return genome


def _unets(run: Run) -> Iterator[ArchitectureGenome]:
    """Yield U-Nets of the run's space, narrow ones of many blocks: calls grow slower without growing large."""
    multipliers = level_multipliers(run.shape.size)
    for blocks in range(1, 11):
        for width in (8, 16):
            plan = UNetPlan(
                multipliers=multipliers,
                blocks_per_level=blocks,
                attention_levels=frozenset({len(multipliers) - 1}),
                attention_settings={"heads": 4},
                parameters=GlobalParameters(width=width),
            )
            genome = repair(unet(plan), run.shape)
            with suppress(InvalidGenome):  # over the caps of the space
                run.space.validate(genome)
                yield genome
