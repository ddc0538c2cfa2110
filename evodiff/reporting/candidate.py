"""One candidate for a terminal: what it scored, where it came from, its layers; and its diagram as a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from evodiff.architecture.graph import resolve
from evodiff.errors import CandidateNotFound
from evodiff.pipeline.final import named_candidate
from evodiff.reporting.diagram import diagram_svg
from evodiff.reporting.ledger_view import view_from_ledger
from evodiff.reporting.notation import axis_title, operator_title, with_error

if TYPE_CHECKING:
    from pathlib import Path

    from evodiff.architecture.graph import ResolvedLayer
    from evodiff.pipeline.run import Run
    from evodiff.reporting.view import CandidateView, RunView


def candidate_tables(run: Run, name: str) -> tuple[Table, Table]:
    """Return the facts and the layers of the candidate that ``name`` stands for (``champion``, an id, a prefix).

    Raises:
        CandidateNotFound: there is no such candidate, or it has no result yet.
    """
    view, item = _find(run, name)
    return _facts(view, item), _layers(run, item)


def save_diagram(run: Run, name: str, path: Path) -> Path:
    """Draw a candidate's diagram into an SVG file and return its path."""
    _, item = _find(run, name)
    genome = run.space.from_json(dict(item.genome or {}))
    path.write_text(str(diagram_svg(genome, run.shape, title=f"{run.name}/{item.id}")), encoding="utf-8")
    return path


def _find(run: Run, name: str) -> tuple[RunView, CandidateView]:
    identifier = named_candidate(run, name)
    view = view_from_ledger(run.path)
    item = view.candidate(identifier)
    if item is None:
        raise CandidateNotFound(
            f"{identifier} has no result yet.", remedy=f"Finish the generation: evodiff evolve --resume {run.path}"
        )
    return view, item


def _facts(view: RunView, item: CandidateView) -> Table:
    table = Table(title=f"{view.name}/{item.id}", box=box.SIMPLE, show_header=False, title_justify="left")
    table.add_row("from", operator_title(item.operator))
    table.add_row("generation", str(item.generation))
    table.add_row("parents", ", ".join(item.parents) or "none")
    table.add_row("state", item.failure or ("on the front" if item.on_front else "done"))
    for objective in view.objectives:
        if objective.name in item.objectives:
            text = with_error(item.objectives[objective.name], item.standard_errors.get(objective.name))
            table.add_row(axis_title(objective), text)
    if item.fitness_score is not None:
        table.add_row("fitness", f"{item.fitness_score:.3f}")
    if item.parameters is not None:
        table.add_row("parameters", f"{item.parameters:,}")
    for name, value in dict(item.genome or {}).get("parameters", {}).items():
        table.add_row(name.replace("_", " "), str(value))
    return table


def _layers(run: Run, item: CandidateView) -> Table:
    table = Table(title="Layers", box=box.SIMPLE_HEAD, title_justify="left")
    for title in ("key", "layer", "channels", "size", "settings", "also reads"):
        table.add_column(title, overflow="fold")
    resolved = resolve(run.space.from_json(dict(item.genome or {})), run.shape)
    keys = {-1: "stem"} | {layer.position: layer.gene.key for layer in resolved.layers}
    for layer in resolved.layers:
        table.add_row(*_layer_row(layer, keys))
    return table


def _layer_row(layer: ResolvedLayer, keys: dict[int, str]) -> tuple[str, ...]:
    settings = ", ".join(f"{name} {value}" for name, value in layer.gene.settings.items() if name != "channels")
    return (
        layer.gene.key,
        layer.gene.component.value,
        f"{layer.in_channels} to {layer.out_channels}",
        f"{layer.in_size} to {layer.out_size}" if layer.in_size != layer.out_size else str(layer.in_size),
        settings,
        ", ".join(f"{keys[edge.source]} ({edge.merge})" for edge in layer.edges),
    )
