"""The two lists of an archive: ``generations.yaml``, which its stages are unrolled over, and ``dvc.lock``."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

from evodiff.errors import EvodiffError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GENERATIONS = "generations.yaml"
LOCK = "dvc.lock"

_LOCK_HEAD = "schema: '2.0'\nstages:\n"
# libyaml where PyYAML was built with it: ten times as fast.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


@dataclass(frozen=True)
class Entries:
    """What ``generations.yaml`` lists, by key; each entry holds what ``dvc.yaml`` makes stages of."""

    datasets: dict[str, dict[str, Any]] = field(default_factory=dict)
    feature_nets: dict[str, dict[str, Any]] = field(default_factory=dict)
    generations: dict[str, dict[str, Any]] = field(default_factory=dict)

    def stages(self) -> Iterator[str]:
        """Yield the names of the stages."""
        for key in self.datasets:
            yield f"dataset@{key}"
        for key in self.feature_nets:
            yield f"feature_net@{key}"
        for key in self.generations:
            yield from (f"genomes@{key}", f"evaluations@{key}")

    def joined(self, more: Entries) -> Entries:
        """Return these entries and more."""
        return Entries(
            {**self.datasets, **more.datasets},
            {**self.feature_nets, **more.feature_nets},
            {**self.generations, **more.generations},
        )


def read_entries(folder: Path) -> Entries:
    """Read the ``generations.yaml`` of a folder.

    Raises:
        EvodiffError: it is missing or damaged.
    """
    file = folder / GENERATIONS
    try:
        return Entries(**yaml.load(file.read_bytes(), Loader=_Loader)["recorded"])  # noqa: S506 - the safe loader
    except (OSError, yaml.YAMLError, TypeError, KeyError) as error:
        raise EvodiffError(
            f"Expected a list of what is archived in {file}, but it cannot be read: {error}".replace("\n", " ") + ".",
            remedy=f"Restore it: git -C {folder} checkout HEAD -- {GENERATIONS}",
        ) from error


def write_entries(folder: Path, entries: Entries) -> None:
    """Write the ``generations.yaml`` of a folder."""
    text = yaml.dump({"recorded": asdict(entries)}, Dumper=_Dumper, sort_keys=False, default_flow_style=False)
    (folder / GENERATIONS).write_text(text, encoding="utf-8")


def read_lock(folder: Path) -> dict[str, str]:
    """Return the text of each stage in the ``dvc.lock`` of a folder, by the stage's name.

    It is taken as DVC wrote it, since DVC needs a minute to read and write the lock of a thousand generations.
    """
    file = folder / LOCK
    text = file.read_text(encoding="utf-8") if file.exists() else _LOCK_HEAD
    _, *blocks = re.split(r"(?m)^  (?=\S)", text)
    return {block.partition(":\n")[0]: block for block in blocks}


def write_lock(folder: Path, stages: dict[str, str]) -> None:
    """Write the ``dvc.lock`` of a folder out of such texts."""
    text = _LOCK_HEAD + "".join(f"  {block}" for block in stages.values())
    (folder / LOCK).write_text(text, encoding="utf-8")
