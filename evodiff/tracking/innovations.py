"""Innovations: what appeared on the front for the first time, and in whom."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from evodiff.architecture.genome import ArchitectureGenome
from evodiff.architecture.motifs import motifs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


@dataclass(frozen=True)
class Innovation:
    """A motif (:mod:`evodiff.architecture.motifs`) or an operator that no front had before that of ``generation``.

    ``candidates`` are the new members of the front that brought it.
    """

    kind: Literal["motif", "operator"]
    name: str
    generation: int
    candidates: tuple[str, ...]


def innovations(
    plans: Sequence[Sequence[Mapping[str, Any]]], fronts: Sequence[Sequence[str]]
) -> list[tuple[Innovation, ...]]:
    """Return the innovations of each closed generation, motifs before operators, by name.

    ``plans`` are the rows of the generations' plans, ``fronts`` the candidates on their fronts. Everything on the first
    front is new, so the innovations of generation 0 say what the search started from.
    """
    records: dict[str, Mapping[str, Any]] = {}
    seen: set[tuple[str, str]] = set()
    front: set[str] = set()
    found = []
    for generation, (plan, members) in enumerate(zip(plans, fronts, strict=True)):
        for record in plan:
            records.setdefault(record["candidate"], record)
        brought: dict[tuple[Literal["motif", "operator"], str], list[str]] = {}
        for candidate in members:
            if candidate not in front:
                for trait in _traits(records[candidate]):
                    brought.setdefault(trait, []).append(candidate)
        found.append(
            tuple(
                Innovation(kind, name, generation, tuple(candidates))
                for (kind, name), candidates in sorted(brought.items())
                if (kind, name) not in seen
            )
        )
        seen |= set(brought)
        front |= set(members)
    return found


def _traits(record: Mapping[str, Any]) -> Iterator[tuple[Literal["motif", "operator"], str]]:
    for motif in motifs(ArchitectureGenome.from_json(record["genome"])):
        yield "motif", motif
    for operator in filter(None, (record["operator"] or "").split("+")):
        yield "operator", operator
