"""Evolve diffusion models for quality, latency and memory on the hardware that will serve them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from evodiff import models as models  # diffusers looks for our classes in sys.modules["evodiff.models"]

if TYPE_CHECKING:
    from evodiff.architecture.genome import ArchitectureComponent, ArchitectureGenome
    from evodiff.architecture.operators import GeneticOperators
    from evodiff.architecture.pipeline import EvolvedPipeline
    from evodiff.architecture.unet import EvolvedUNet2DModel
    from evodiff.deployment import DeploymentFeedback
    from evodiff.engine import EvolutionMetrics
    from evodiff.search import EvolutionaryDiffusionSearch

__all__ = [
    "ArchitectureGenome",
    "ArchitectureComponent",
    "GeneticOperators",
    "EvolutionaryDiffusionSearch",
    "EvolutionMetrics",
    "DeploymentFeedback",
    "EvolvedUNet2DModel",
    "EvolvedPipeline",
]

_HOMES = {
    "ArchitectureGenome": "evodiff.architecture.genome",
    "ArchitectureComponent": "evodiff.architecture.genome",
    "GeneticOperators": "evodiff.architecture.operators",
    "EvolutionaryDiffusionSearch": "evodiff.search",
    "EvolutionMetrics": "evodiff.engine",
    "DeploymentFeedback": "evodiff.deployment",
    "EvolvedUNet2DModel": "evodiff.architecture.unet",
    "EvolvedPipeline": "evodiff.architecture.pipeline",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
