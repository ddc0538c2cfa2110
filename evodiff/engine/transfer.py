"""Warm start: genomes of other origin that generation 0 tries first, with their provenance on record."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from evodiff.engine.encoding import digest, encode_document
from evodiff.engine.ledger import Ledger
from evodiff.errors import InvalidGenome, LedgerError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evodiff.engine.space import SearchSpace

G = TypeVar("G")


@dataclass(frozen=True)
class Transferred(Generic[G]):
    """A genome and where it comes from, as ``RUN/ID``; None for a genome that was simply given."""

    genome: G
    source: str | None = None


def front_of_run(space: SearchSpace[G], run: Path | str, *, limit: int | None = None) -> list[Transferred[G]]:
    """Return the genomes of another run's front that are valid in ``space``, the first found first, at most ``limit``.

    Give them to ``Evolution(warm_start=...)``. Genomes that this space refuses are left out, with a warning.

    Raises:
        LedgerError: the run has no closed generation, nobody on its front, or its folder cannot be read.
        SettingsError: none of its front is valid in ``space``.
    """
    ledger = Ledger(Path(run))
    label = Path(run).resolve().name
    stored = ledger.experiment["space"]["name"]
    result = ledger.result(ledger.closed - 1) if ledger.closed else None
    if result is None:
        raise LedgerError(
            f"{run} has no closed generation: expected a front to start from, found none.",
            remedy="Let it close its first generation, or name another run.",
        )
    if not result["front"]:
        raise LedgerError(
            f"Expected a front to start from in {run}, found that none of its candidates is feasible.",
            remedy="Name another run.",
        )
    genomes: dict[str, Any] = {}
    for generation in range(ledger.closed):
        for record in ledger.plan(generation):
            genomes.setdefault(record["candidate"], record["genome"])
    found: list[Transferred[G]] = []
    for candidate in result["front"]:
        try:
            genome = space.from_json(genomes[candidate])
            space.validate(genome)
        except (InvalidGenome, ValueError, KeyError, TypeError) as error:
            warnings.warn(f"{label}/{candidate} is not valid here and is left out: {error}", stacklevel=2)
            continue
        found.append(Transferred(genome, f"{label}/{candidate}"))
    if not found:
        raise SettingsError(
            f"Expected a front with genomes of {space.name!r} in {run}, found one of {stored!r} without a valid one.",
            remedy="Name a run over the same space.",
        )
    return found[:limit]


def as_transferred(space: SearchSpace[G], warm_start: Sequence[G | Transferred[G]]) -> list[Transferred[G]]:
    """Return validated warm-start genomes; raises what ``space.validate`` raises."""
    items: list[Transferred[G]] = [item if isinstance(item, Transferred) else Transferred(item) for item in warm_start]
    for item in items:
        space.validate(item.genome)
    return items


def warm_start_digest(space: SearchSpace[G], items: Sequence[Transferred[G]]) -> str | None:
    """Return the digest that a run freezes for its warm start; None for none."""
    return digest(_encode(space, items)) if items else None


def publish_warm_start(ledger: Ledger, space: SearchSpace[G], items: Sequence[Transferred[G]]) -> None:
    """Publish the genomes as an input of the run."""
    if items:
        content = _encode(space, items)
        ledger.publish(_file(digest(content)), content)


def read_warm_start(ledger: Ledger, space: SearchSpace[G], expected: str | None) -> list[Transferred[G]]:
    """Return the genomes that were published with the run.

    Raises:
        LedgerError: they are gone or not those whose digest the run froze.
    """
    if expected is None:
        return []
    name = _file(expected)
    content = ledger.read(name)
    if content is None or digest(content) != expected:
        raise LedgerError(
            f"{name} of {ledger.label} was expected to have the digest {expected[:12]}..., found"
            f" {'none' if content is None else digest(content)[:12] + '...'}.",
            remedy="Restore it from a copy: generation 0 was planned from it.",
        )
    return [Transferred(space.from_json(item["genome"]), item["source"]) for item in json.loads(content)]


def _file(content_digest: str) -> str:
    return f"inputs/warm_start-{content_digest[:12]}.json"


def _encode(space: SearchSpace[G], items: Sequence[Transferred[G]]) -> bytes:
    return encode_document([{"genome": space.to_json(item.genome), "source": item.source} for item in items])
