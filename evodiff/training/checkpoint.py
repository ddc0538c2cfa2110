"""Checkpoints: a training's state in one safetensors file, so that it goes on in the middle with the same bytes."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from evodiff.training.files import remove_abandoned, staged
from evodiff.training.state import TrainingState, tensors_digest

if TYPE_CHECKING:
    from pathlib import Path

FORMAT = 1


def save_checkpoint(path: Path, state: TrainingState, identity: str) -> None:
    """Replace the checkpoint at ``path`` in one move; a reader sees the old one or the new one, whole.

    ``identity`` names the training it belongs to.

    Raises:
        LedgerError: the disk is full or read-only.
    """
    header = {"format": FORMAT, "identity": identity, "step": state.step, "digest": tensors_digest(state.tensors)}
    content = save(dict(state.tensors), metadata={"evodiff": json.dumps(header, sort_keys=True)})
    with staged(path) as temporary:
        temporary.write_bytes(content)  # not flushed: what a power cut damages is trained again
        with suppress(FileNotFoundError):  # a twin took it for abandoned; it has a checkpoint of its own
            temporary.replace(path)


def load_checkpoint(path: Path, identity: str) -> tuple[TrainingState | None, str]:
    """Return the state stored at ``path`` and "", or None and a note on why there is none to go on from.

    A damaged checkpoint, or one of another training, costs the steps it held and nothing else.
    """
    remove_abandoned(path)
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
