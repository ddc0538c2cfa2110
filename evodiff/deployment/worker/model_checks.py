"""What a folder must be before its weights are loaded: safetensors and JSON only, of the shapes that its genome says.

Nothing here imports torch, and nothing trusts a length that a file claims.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import stat
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from evodiff.architecture.cost import parameter_count
from evodiff.architecture.genome import ArchitectureGenome, ImageShape
from evodiff.architecture.graph import resolve
from evodiff.architecture.pipeline_folder import WEIGHTS
from evodiff.errors import EvodiffError, InvalidGenome

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from evodiff.settings import NoiseScheduleName, Prediction

MODEL_CLASS: Final = "EvolvedUNet2DModel"

_ALLOWED = (".json", ".safetensors")
_MOST_FILES = 32
_MOST_JSON_BYTES = 1 << 20
_MOST_HEADER_BYTES = 1 << 22
_FLOAT32_BYTES = 4
_PREFIX = "network."
_PREDICTIONS: dict[str, Prediction] = {"v_prediction": "v_prediction", "epsilon": "epsilon"}
_SCHEDULES: dict[str, NoiseScheduleName] = {
    "linear": "linear",
    "scaled_linear": "scaled_linear",
    "squaredcos_cap_v2": "cosine",
}
_RANGES = {"sample_size": (4, 256), "in_channels": (1, 3), "classes": (0, 10_000)}


class ModelRefused(EvodiffError, ValueError):  # noqa: N818 - reads as the fact it states
    """A folder is none that may be served; nothing of it was loaded."""


@dataclass(frozen=True)
class CheckedModel:
    """A folder that was checked: what its network is and does, and the SHA-256 of its weights.

    ``tensors`` are the shapes by name, as in :class:`~evodiff.architecture.network.EvolvedNetwork`.
    """

    folder: Path
    genome: ArchitectureGenome
    shape: ImageShape
    prediction: Prediction
    noise_schedule: NoiseScheduleName
    tensors: dict[str, tuple[int, ...]]
    digest: str

    @property
    def weights(self) -> Path:
        """The file of weights."""
        return self.folder / "unet" / WEIGHTS


def check_model_folder(folder: Path, *, max_bytes: int, digest: str | None = None) -> CheckedModel:
    """Check a folder that `evodiff export` wrote, from its files to the header of its weights.

    Args:
        max_bytes: size that its weights may have.
        digest: SHA-256 that they must have, where it is known.

    Raises:
        ModelRefused: the folder is another, damaged, or made to do harm.
    """
    _check_files(folder, max_bytes)
    model = _read_json(folder / "unet" / "config.json")
    genome, shape = _network(folder, model)
    prediction, noise_schedule = _sampling(folder, _read_json(folder / "scheduler" / "scheduler_config.json"))
    file = folder / "unet" / WEIGHTS
    tensors = read_header(file)
    expected = parameter_count(resolve(genome, shape))
    found = sum(math.prod(shape) for shape in tensors.values())
    if found != expected:
        raise _refused(file, f"{expected} parameters, as its genome makes", str(found))
    computed = _digest(file)
    if digest is not None and computed != digest:
        raise _refused(file, f"SHA-256 {digest}", computed)
    return CheckedModel(folder, genome, shape, prediction, noise_schedule, tensors, computed)


def read_header(file: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the tensors that a file of safetensors holds, by name without ``network.``.

    The header must describe the file to the byte: float32 alone, one tensor after another, no gap, nothing left over.

    Raises:
        ModelRefused: it does not.
    """
    size = file.stat().st_size
    with file.open("rb") as stream:
        start = stream.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= min(_MOST_HEADER_BYTES, size - 8):
            raise _refused(file, f"a header of 2 to {min(_MOST_HEADER_BYTES, max(size - 8, 2))} bytes", str(length))
        content = stream.read(length)
    try:
        header = json.loads(content, object_pairs_hook=_without_doubles)
        header.pop("__metadata__", None)
        spans = {name: _span(entry) for name, entry in header.items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise _refused(file, "a header of safetensors in float32", f"{type(error).__name__}: {error}"[:200]) from error
    end = 0
    for name, (first, last, _) in sorted(spans.items(), key=lambda item: item[1][:2]):
        if first != end:
            raise _refused(file, f"tensor {name[:80]!r} to begin at byte {end}", str(first))
        end = last
    if 8 + length + end != size:
        raise _refused(file, f"{8 + length + end} bytes, as its header says", str(size))
    return {name.removeprefix(_PREFIX): shape for name, (_, _, shape) in spans.items()}


def _span(entry: dict[str, Any]) -> tuple[int, int, tuple[int, ...]]:
    first, last = entry["data_offsets"]
    shape = tuple(entry["shape"])
    if entry["dtype"] != "F32":
        raise ValueError(f"dtype {entry['dtype']!r}"[:80])
    if not all(type(number) is int and 0 <= number < 2**48 for number in (first, last, *shape)):
        raise ValueError("offsets or shape that are no sizes")
    if last - first != math.prod(shape) * _FLOAT32_BYTES:
        raise ValueError(f"{last - first} bytes for shape {list(shape)[:8]}")
    return first, last, shape


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name that stands there twice")
    return found


def _check_files(folder: Path, max_bytes: int) -> None:
    files = list(_walk(folder))
    if len(files) > _MOST_FILES:
        raise _refused(folder, f"at most {_MOST_FILES} files", "more")
    for entry in files:
        status = entry.stat(follow_symlinks=False)
        if not stat.S_ISREG(status.st_mode):
            raise _refused(folder, "plain files and folders", f"{entry.name}, a link or a device")
        if not entry.name.endswith(_ALLOWED):
            raise _refused(folder, f"only {' and '.join(_ALLOWED)} files", f"{entry.name}, which may hold code")
        most = _MOST_JSON_BYTES if entry.name.endswith(".json") else max_bytes
        if status.st_size > most:
            raise _refused(folder, f"{entry.name} of at most {most} bytes", str(status.st_size))


def _walk(folder: Path, depth: int = 0) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            for count, entry in enumerate(entries):
                if count > _MOST_FILES:
                    raise _refused(folder, f"at most {_MOST_FILES} files", "more")
                if entry.is_dir(follow_symlinks=False) and depth < 2:
                    yield from _walk(folder / entry.name, depth + 1)
                else:
                    yield entry
    except OSError as error:
        raise _refused(folder, "a folder that `evodiff export` wrote", f"{error.strerror}") from error


def _network(folder: Path, model: dict[str, Any]) -> tuple[ArchitectureGenome, ImageShape]:
    if model.get("_class_name") != MODEL_CLASS:
        raise _refused(folder, f"a model of class {MODEL_CLASS}", repr(model.get("_class_name"))[:80])
    for name, (least, most) in _RANGES.items():
        value = model.get(name)
        if type(value) is not int or not least <= value <= most:
            raise _refused(folder, f"{name} of {least} to {most}", repr(value)[:80])
    if model.get("out_channels") != model["in_channels"]:
        raise _refused(folder, "as many channels out as in", repr(model.get("out_channels"))[:80])
    shape = ImageShape(model["in_channels"], model["sample_size"], model["classes"])
    try:
        genome = ArchitectureGenome.from_json(model.get("genome"))
        resolve(genome, shape)
    except InvalidGenome as error:
        raise _refused(folder, "a genome that makes a network", error.headline[:300]) from error
    return genome, shape


def _sampling(folder: Path, scheduler: dict[str, Any]) -> tuple[Prediction, NoiseScheduleName]:
    prediction, schedule = str(scheduler.get("prediction_type")), str(scheduler.get("beta_schedule"))
    if prediction not in _PREDICTIONS or schedule not in _SCHEDULES:
        raise _refused(
            folder,
            f"prediction {' or '.join(_PREDICTIONS)} and schedule {' or '.join(_SCHEDULES)}",
            f"{prediction[:40]!r} and {schedule[:40]!r}",
        )
    return _PREDICTIONS[prediction], _SCHEDULES[schedule]


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise _refused(file, "JSON", f"{type(error).__name__}") from error
    if not isinstance(content, dict):
        raise _refused(file, "a JSON object", type(content).__name__)
    return content


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _refused(place: Path, expected: str, found: str) -> ModelRefused:
    return ModelRefused(
        f"{place} is not served: expected {expected}, found {found}.",
        remedy="Export it again by `evodiff export RUN ID --out DIR`, and trust no folder of unknown origin.",
    )
