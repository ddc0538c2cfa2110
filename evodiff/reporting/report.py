"""The page of one run."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from evodiff.reporting import evidence, sections
from evodiff.reporting.figures import (
    diversity_figure,
    fitness_figure,
    hypervolume_figure,
    latency_figure,
    progress_figures,
)
from evodiff.reporting.front_figure import front_figure
from evodiff.reporting.gallery import gallery
from evodiff.reporting.leaderboard import failures, leaderboard
from evodiff.reporting.memorisation import memorisation
from evodiff.reporting.page import page, write_page
from evodiff.reporting.provenance import provenance
from evodiff.reporting.retrained import retrained
from evodiff.reporting.rivals import rivals_section
from evodiff.reporting.rivals_figure import rivals_figures
from evodiff.reporting.robustness import robustness_figures, robustness_section
from evodiff.reporting.statistics import noise_rows, operator_rows

if TYPE_CHECKING:
    from pathlib import Path

    from evodiff.reporting.figure_style import Figure
    from evodiff.reporting.view import CandidateView, MemorisationView, RunView


def write_report(view: RunView, path: Path | str) -> Path:
    """Write the report of a run as one HTML file that needs no network, and return its path."""
    return write_page(report_html(view), path)


def report_html(view: RunView) -> str:
    """Return the report of a run as HTML."""
    return page(
        view.name,
        sections.headline(view),
        [
            sections.front(view),
            gallery(view),
            sections.architecture(view),
            sections.progress(view),
            leaderboard(view),
            retrained(view),
            sections.lineage(view),
            evidence.noise(view),
            evidence.surrogate(view),
            evidence.rungs(view),
            evidence.operators(view),
            evidence.latency(view),
            evidence.training(view),
            evidence.validation(view),
            rivals_section(view.rivals),
            robustness_section(view.robustness),
            memorisation(view),
            failures(view),
            provenance(view),
        ],
        {"run": run_data(view), "figures": figures(view)},
    )


def figures(view: RunView) -> dict[str, Figure]:
    """Return the figures of the report by the ids of their places."""
    found: dict[str, Figure] = {}
    if any(item.objectives for item in view.candidates):
        found["front-figure"] = front_figure(view)
    if view.generations:
        found["fitness-figure"] = fitness_figure(view)
        found["diversity-figure"] = diversity_figure(view)
        found["hypervolume-figure"] = hypervolume_figure(view)
    if view.latency_checks:
        found["latency-figure"] = latency_figure(view)
    for index, figure in enumerate(progress_figures(view).values()):
        found[f"training-{index}"] = figure
    if view.rivals is not None:
        found |= rivals_figures(view.rivals)
    if view.robustness is not None:
        found |= robustness_figures(view.robustness)
    return found


def run_data(view: RunView) -> dict[str, Any]:
    """Return the numbers of the report as plain data, for programs that read the page; genomes of the front only."""
    return {
        "name": view.name,
        "champion": view.champion,
        "objectives": [{"name": item.name, "maximise": item.maximise, "unit": item.unit} for item in view.objectives],
        "candidates": [_candidate_data(item) for item in view.candidates],
        "generations": [{name: getattr(item, name) for name in item.__dataclass_fields__} for item in view.generations],
        "floors": {
            name: {"value": floor.value, "explanation": floor.explanation} for name, floor in view.floors.items()
        },
        "noise": {
            row.objective.name: {
                "standard_error": row.standard_error,
                "spread": row.spread,
                "smallest_difference": row.smallest_difference,
            }
            for row in noise_rows(view)
        },
        "operators": {
            row.operator: {
                "children": row.children,
                "failed": row.failed,
                "survived": row.survived,
                "on_front": row.on_front,
                "compared": row.compared,
                "improved": row.improved,
                "mean_gain": row.mean_gain,
            }
            for row in operator_rows(view.candidates)
        },
        "random_arm": None
        if view.random_arm is None
        else [_candidate_data(item) for item in view.random_arm.candidates],
        "references": {item.name: dict(item.objectives) for item in view.references},
        "retrained": {
            item.candidate: {
                "objectives": dict(item.objectives),
                "fitness_score": item.fitness_score,
                "failure": item.failure,
            }
            for item in view.retrained
        },
        "validation": {
            name: {"value": metric.value, "standard_error": metric.standard_error, "floor": metric.floor}
            for name, metric in (view.validation or {}).items()
        },
        "rivals": None if view.rivals is None else asdict(view.rivals),
        "robustness": None if view.robustness is None else asdict(view.robustness),
        "memorisation": None if view.memorisation is None else _memorisation_data(view.memorisation),
        "digests": dict(view.digests),
        "versions": dict(view.versions),
        "warnings": list(view.warnings),
    }


def _memorisation_data(item: MemorisationView) -> dict[str, Any]:
    return {
        "samples": item.samples,
        "share": item.share,
        "expected_share": item.expected_share,
        "standard_error": item.standard_error,
        "copies": item.copies,
        "closest": [{"distance": pair.distance, "relative_distance": pair.relative_distance} for pair in item.pairs],
    }


def _candidate_data(item: CandidateView) -> dict[str, Any]:
    return {
        "id": item.id,
        "generation": item.generation,
        "operator": item.operator,
        "parents": list(item.parents),
        "objectives": dict(item.objectives),
        "standard_errors": dict(item.standard_errors),
        "violations": dict(item.violations),
        "rung": item.rung,
        "fitness_score": item.fitness_score,
        "on_front": item.on_front,
        "survivor_generations": list(item.survivor_generations),
        "failure": item.failure,
        "parameters": item.parameters,
        "flops": item.flops,
        "genome": item.genome if item.on_front else None,
    }
