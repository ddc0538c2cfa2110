"""Checkpoints: a training's state in one safetensors file, so that it goes on in the middle with the same bytes."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from evodiff.training.state import TrainingState, tensors_digest

if TYPE_CHECKING:
    from pathlib import Path

FORMAT = 1


def save_checkpoint(path: Path, state: TrainingState, identity: str) -> None:
    """Replace the checkpoint at ``path`` in one move; a reader sees the old one or the new one, whole.

    ``identity`` names the training it belongs to.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    header = {
        "format": FORMAT,
        "identity": identity,
        "step": state.step,
        "digest": tensors_digest(state.tensors),
    }
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        save_file(dict(state.tensors), temporary, metadata={"evodiff": json.dumps(header, sort_keys=True)})
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def load_checkpoint(path: Path, identity: str) -> tuple[TrainingState | None, str]:
    """Return the state stored at ``path`` and "", or None and a note on why there is none to go on from.

    A damaged checkpoint, or one of another training, costs the steps it held and nothing else.
    """
    if not path.exists():
        return None, ""
    try:
        with safe_open(path, framework="pt") as file:
            header: dict[str, Any] = json.loads((file.metadata() or {}).get("evodiff", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (OSError, SafetensorError, ValueError) as error:
        return None, f"Checkpoint {path.name} cannot be read ({error}); training starts again."
    if header.get("format") != FORMAT or header.get("identity") != identity:
        return None, f"Checkpoint {path.name} belongs to another training; training starts again."
    if header.get("digest") != tensors_digest(tensors):
        return None, f"Checkpoint {path.name} is damaged; training starts again."
    return TrainingState(int(header["step"]), tensors), ""
