"""The light door through which diffusers finds the classes of evodiff.

``model_index.json`` of a saved pipeline names this module, and diffusers asks ``sys.modules`` for it, then it for the
class and for ``ModelMixin``. ``import evodiff`` loads this module; it loads the heavy ones when a name is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evodiff.architecture.pipeline import EvolvedPipeline
    from evodiff.architecture.unet import EvolvedUNet2DModel

__all__ = ["EvolvedPipeline", "EvolvedUNet2DModel"]

_HOMES = {
    "EvolvedUNet2DModel": "evodiff.architecture.unet",
    "ModelMixin": "evodiff.architecture.unet",
    "EvolvedPipeline": "evodiff.architecture.pipeline",
    "DiffusionPipeline": "evodiff.architecture.pipeline",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
