"""Where things lie in the folder of a run.

::

    experiment.json                          frozen settings (evodiff.engine.experiment)
    inputs/                                  what its digests name
    generations/0003/plan.jsonl              trials asked, one a line
    generations/0003/inputs/                 what it took from outside (evodiff.engine.ratings)
    generations/0003/evaluations/ID.json     what one trial brought back
    generations/0003/evaluations.jsonl       the same lines in plan order, once the generation is closed
    generations/0003/weights/ID.r0/          weights
    generations/0003/result.json             what the generation decided; it is closed when this exists
    telemetry/  scratch/                     what may differ on a rerun
"""

from __future__ import annotations


def generation_folder(generation: int) -> str:
    """Return the name of a generation's folder."""
    return f"generations/{generation:04d}"


def plan_name(generation: int) -> str:
    """Return the name of a generation's plan."""
    return f"{generation_folder(generation)}/plan.jsonl"


def input_name(generation: int, name: str) -> str:
    """Return the name of what a generation took from outside."""
    return f"{generation_folder(generation)}/inputs/{name}"


def evaluation_name(generation: int, trial: str) -> str:
    """Return the name of a trial's evaluation file."""
    return f"{generation_folder(generation)}/evaluations/{trial}.json"


def evaluations_name(generation: int) -> str:
    """Return the name of what a closed generation's trials brought back."""
    return f"{generation_folder(generation)}/evaluations.jsonl"


def result_name(generation: int) -> str:
    """Return the name of a generation's result."""
    return f"{generation_folder(generation)}/result.json"
