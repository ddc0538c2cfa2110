"""The files that tracking keeps of generations and candidates, as bytes by name."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from evodiff.architecture.genome import ArchitectureGenome
from evodiff.engine.encoding import encode_document
from evodiff.reporting.diagram import diagram_svg

if TYPE_CHECKING:
    from collections.abc import Mapping

    from evodiff.pipeline.run import Run
    from evodiff.tracking.records import RunRecords

SAMPLES = 16


def generation_files(records: RunRecords, generation: int) -> dict[str, bytes]:
    """Return what a generation decided, its front with objectives, and its innovations, as JSON."""
    result = records.result(generation)
    front = [
        {
            "candidate": candidate,
            "fitness_score": records.fitness_score(generation, candidate),
            "objectives": dict(records.standing(generation, candidate).objectives),
        }
        for candidate in result["front"]
    ]
    return {
        "result.json": encode_document(result),
        "front.json": encode_document(front),
        "innovations.json": encode_document([asdict(item) for item in records.innovations(generation)]),
    }


def candidate_files(run: Run, row: Mapping[str, Any], *, samples: bool) -> dict[str, bytes]:
    """Return the genome of a trial's candidate, its diagram, and with ``samples`` a grid of images.

    There is no grid where the trial's weights are gone.
    """
    genome = ArchitectureGenome.from_json(row["genome"])
    title = f"{run.name}/{row['candidate']}"
    files = {
        "genome.json": encode_document(row["genome"]),
        "diagram.svg": str(diagram_svg(genome, run.shape, title=title)).encode(),
    }
    if samples and (run.ledger.weights_folder(row) / "config.json").exists():
        files["samples.png"] = _sample_grid(run, row)
    return files


def _sample_grid(run: Run, row: Mapping[str, Any]) -> bytes:
    """Images by the scoring sampler, classes in turn: what the trial was judged by, the first few."""
    import torch

    from evodiff.data import unscale
    from evodiff.evaluation.score import generate_like, reproducible
    from evodiff.pipeline.trial import load_network
    from evodiff.reporting.images import grid_png

    network, _ = load_network(run.ledger.weights_folder(row))
    shape = run.shape
    with reproducible():
        images, _ = generate_like(
            network,
            torch.empty(1, shape.channels, shape.size, shape.size),
            torch.arange(shape.classes) if shape.classes else None,
            training=run.training,
            evaluation=run.evaluation,
            seed=run.experiment["seed"],
            samples=SAMPLES,
        )
    return grid_png(unscale(images.numpy()).transpose(0, 2, 3, 1), columns=8)
