"""Innovations: the first appearance on the front, by definition and over a real search."""

from __future__ import annotations

from pathlib import Path

from tracked_runs import told_run

from evodiff.architecture.genome import ArchitectureGenome, layer
from evodiff.architecture.motifs import motifs
from evodiff.engine import Trial
from evodiff.tracking.innovations import Innovation, innovations
from evodiff.tracking.records import RunRecords

PLAIN = ArchitectureGenome(layers=(layer("a", "conv"),))
LINEAR = ArchitectureGenome(layers=(layer("a", "conv"), layer("b", "attention", kind="linear")))
RMS = ArchitectureGenome(layers=(layer("a", "conv", norm="rms"),))


def found_in(*generations: tuple[dict[str, tuple[ArchitectureGenome, str]], list[str]]) -> list[tuple[Innovation, ...]]:
    """Return the innovations of generations given by their candidates, with genome and operator, and their fronts."""
    plans = [
        [
            Trial(name, genome, generation, operator=operator).to_json(genome.to_json())
            for name, (genome, operator) in candidates.items()
        ]
        for generation, (candidates, _) in enumerate(generations)
    ]
    return innovations(plans, [front for _, front in generations])


def test_only_what_no_front_had_before_is_new() -> None:
    start, second, third = found_in(
        ({"a": (PLAIN, "initial"), "b": (RMS, "initial")}, ["a"]),  # b is not on the front: its norm is no news yet
        ({"c": (LINEAR, "add_layer"), "d": (RMS, "norm")}, ["a", "c"]),
        ({"e": (RMS, "add_layer+norm"), "f": (LINEAR, "add_layer")}, ["a", "e", "f"]),
    )
    assert {item.name for item in start} == {"initial", *motifs(PLAIN)}
    assert {item.name for item in second} == {"add_layer", *(motifs(LINEAR) - motifs(PLAIN))}
    assert third == (
        Innovation("motif", "conv norm rms", 2, ("e",)),
        Innovation("operator", "norm", 2, ("e",)),
    )


def test_all_that_bring_the_same_at_once_are_named() -> None:
    (start,) = found_in(({"a": (PLAIN, "initial"), "b": (RMS, "initial")}, ["a", "b"]))
    by_name = {item.name: item.candidates for item in start}
    assert by_name["initial"] == ("a", "b")
    assert by_name["conv norm rms"] == ("b",)


def test_a_search_has_each_innovation_once_and_every_motif_of_its_last_front(tmp_path: Path) -> None:
    run = told_run(tmp_path / "search", generations=3)
    records = RunRecords(run)
    found = [item for generation in range(3) for item in records.innovations(generation)]
    names = [(item.kind, item.name) for item in found]
    assert len(names) == len(set(names))
    on_front = set().union(*(motifs(candidate.genome) for candidate in run.evolution().front()))
    assert on_front <= {name for kind, name in names if kind == "motif"}
