"""Make a dataset ready for searches: its gate, then feature nets and operator times, all of it cached."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evodiff.data.gates import check_dataset
from evodiff.pipeline.inputs import Announce, Inputs, gather_inputs

if TYPE_CHECKING:
    from evodiff.data import ImageDataset
    from evodiff.data.gate_result import GateResult
    from evodiff.settings import Settings
    from evodiff.workers import WorkerPool


@dataclass(frozen=True)
class Prepared:
    """What a search over a dataset starts from, and what its gate found."""

    inputs: Inputs
    gate: GateResult

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON: digest, counts and paths."""
        return {
            "dataset": self.gate.subject,
            "digest": self.gate.digest,
            "counts": dict(self.gate.counts),
            "warnings": [check.expectation.meaning for check in self.gate.warnings],
            "page": str(self.gate.page),
            "result": str(self.gate.result),
            "files": {name: str(path) for name, path in self.inputs.files.items()},
        }


def prepare(settings: Settings, pool: WorkerPool, announce: Announce = lambda name, content: None) -> Prepared:
    """Open the dataset, have it pass its gate, then make or fetch what searches over it need.

    Results of gates are in ``gates`` of the cache; what is there already is not made again. It writes no page; for one
    call it by :mod:`evodiff.gates`.

    Raises:
        GateFailed: the dataset is bad; nothing was made of it.
        DatasetError: it is unknown, empty or too damaged.
        Interrupted: the pool was asked to stop.
    """
    found: list[GateResult] = []

    def inspect(dataset: ImageDataset) -> None:
        announce("gate", {})
        found.append(check_dataset(dataset, out=settings.cache_dir.expanduser() / "gates"))

    inputs = gather_inputs(settings, pool, announce, inspect=inspect)
    return Prepared(inputs, found[0])
