"""A calibration: what is known of a target's speed, as readable JSON that is named by its digest."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from evodiff.errors import SettingsError
from evodiff.hardware.operation import Operation
from evodiff.hardware.profiles import TargetProfile

# Timings of another format stand for other calls. A run goes on with the table that it froze; a cache needs a new one.
FORMAT: Final = 2
READABLE_FORMATS: Final = (1, FORMAT)
THREADS: Final = 1
BUDGET_SECONDS: Final = 15.0
# The target that is the machine at hand; all others are names of profiles.
LOCAL: Final = "local"

Progress = Callable[[float], None]


@dataclass(frozen=True)
class Timing:
    """An operation and the milliseconds that it took."""

    operation: Operation
    milliseconds: float


@dataclass(frozen=True, eq=False)
class Calibration:
    """Measured ``timings`` of operations, or the ``profile`` of a target that is not in the room.

    Two calibrations are equal when their digests are. Predictions depend on nothing else.
    """

    device: str
    device_name: str
    torch_version: str
    threads: int = THREADS
    timings: tuple[Timing, ...] = ()
    profile: TargetProfile | None = None
    format: int = FORMAT

    @property
    def measured(self) -> bool:
        """Whether this was timed on the device itself."""
        return bool(self.timings)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the content."""
        return hashlib.sha256(json.dumps(self._content(), sort_keys=True).encode()).hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Calibration) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def to_json(self) -> dict[str, Any]:
        """Return plain data, with the digest."""
        return {**self._content(), "digest": self.digest}

    @classmethod
    def from_json(cls, data: Any) -> Calibration:
        """Read what :meth:`to_json` returned.

        Raises:
            SettingsError: it is no calibration of a known format, or was changed after it was made.
        """
        try:
            if data["format"] not in READABLE_FORMATS:
                raise ValueError(f"format {data['format']}")
            timings = [Timing(Operation(**item["operation"]), item["milliseconds"]) for item in data["timings"]]
            calibration = cls(
                device=data["device"],
                device_name=data["device_name"],
                torch_version=data["torch_version"],
                threads=data["threads"],
                timings=tuple(timings),
                profile=TargetProfile(**data["profile"]) if data["profile"] else None,
                format=data["format"],
            )
            if calibration.digest != data["digest"]:
                raise ValueError("the digest of another content")
        except (KeyError, TypeError, ValueError) as error:
            raise SettingsError(
                f"Not a calibration: expected format {FORMAT} with the digest of its content, found {error}.",
                remedy="Remove the file and run `evodiff calibrate`.",
            ) from error
        return calibration

    def _content(self) -> dict[str, Any]:
        return {
            "format": self.format,
            "device": self.device,
            "device_name": self.device_name,
            "torch_version": self.torch_version,
            "threads": self.threads,
            "timings": [
                {"operation": item.operation._asdict(), "milliseconds": item.milliseconds} for item in self.timings
            ],
            "profile": asdict(self.profile) if self.profile else None,
        }


def roofline(profile: TargetProfile) -> Calibration:
    """Return a calibration for a target that cannot be measured here, from its profile alone."""
    return Calibration(profile.device, profile.name, "", profile=profile)


def calibrate(
    device: str = "cpu", *, budget_seconds: float = BUDGET_SECONDS, progress: Progress | None = None
) -> Calibration:
    """Time operations on this machine's ``device`` for about ``budget_seconds``; see :mod:`evodiff.hardware.timing`.

    ``progress`` is called with the share of the budget that is used, 0 to 1. A smaller budget times fewer shapes fewer
    times; from about one second on, every kind of operation is among them.
    """
    from evodiff.hardware import timing  # imports torch

    timings = timing.time_operations(device, budget_seconds=budget_seconds, progress=progress)
    return Calibration(
        device=device,
        device_name=timing.device_name(device),
        torch_version=timing.torch_version(),
        timings=tuple(Timing(item, milliseconds) for item, milliseconds in timings),
    )


def load_or_calibrate(
    cache_dir: Path | str,
    device: str = "cpu",
    *,
    budget_seconds: float = BUDGET_SECONDS,
    refresh: bool = False,
    progress: Progress | None = None,
) -> Calibration:
    """Return the calibration of this machine's ``device`` out of ``cache_dir``, measured now if there is none.

    There is one for each name of a device, version of torch and number of threads. Of two processes that calibrate at
    once the first to finish wins, and both return its table. ``refresh`` measures anew and replaces it.
    """
    path = calibration_path(cache_dir, device)
    if not refresh:
        stored = _read(path)
        if stored is not None:
            return stored
    fresh = calibrate(device, budget_seconds=budget_seconds, progress=progress)
    return _publish(path, fresh, replace=refresh)


def calibration_path(cache_dir: Path | str, device: str) -> Path:
    """Return where the calibration of this machine's ``device`` is stored."""
    from evodiff.hardware import timing  # imports torch

    name = f"{device}-{timing.device_name(device)}-torch-{timing.torch_version()}-threads-{THREADS}"
    slug = re.sub(r"[^a-z0-9.+]+", "-", name.lower()).strip("-")
    return Path(cache_dir).expanduser() / "calibrations" / f"{slug}.json"


def _read(path: Path) -> Calibration | None:
    try:
        stored = Calibration.from_json(json.loads(path.read_text(encoding="utf-8")))
        if stored.format != FORMAT:
            raise ValueError(f"format {stored.format}, expected {FORMAT}")
        return stored
    except FileNotFoundError:
        return None
    except (SettingsError, ValueError) as error:
        warnings.warn(f"{path} cannot be used and is measured anew: {error}", stacklevel=3)
        path.unlink(missing_ok=True)
        return None


def _publish(path: Path, calibration: Calibration, *, replace: bool) -> Calibration:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".part", delete=False, encoding="utf-8") as file:
        json.dump(calibration.to_json(), file, sort_keys=True, indent=1)
        file.write("\n")
    temporary = Path(file.name)
    if replace:
        temporary.replace(path)
        return calibration
    try:
        os.link(temporary, path)
    except FileExistsError:
        return _read(path) or calibration
    finally:
        temporary.unlink()
    return calibration
