"""The page of a gate: what was expected of the data, what was found, and pictures of what offends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from evodiff.data.gates import OFFENDING, SAMPLES
from evodiff.reporting.images import data_uri, grid_png
from evodiff.reporting.markup import Child, Markup, element
from evodiff.reporting.notation import number
from evodiff.reporting.page import Section, data_table, page, section, write_page

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from evodiff.data.gate_result import GateResult
    from evodiff.data.judging import Check, Row

PICTURES: Final = 32  # of what offends, for each expectation
COLUMNS: Final = 8
UNLABELLED_COLUMNS: Final = 16

_NAMES: Final = {"dataset": "dataset", "feedback": "batch of feedback", "run": "run"}


def write_gate_page(result: GateResult) -> Path:
    """Write the page of a result beside it, as one HTML file that needs no network, and return its path."""
    return write_page(gate_html(result), result.page)


def gate_html(result: GateResult) -> str:
    """Return the page of a result, with the pictures that are in its folder."""
    return page(
        result.subject,
        _header(result),
        [
            _findings("failures", "Not as expected", "These stop the data.", result, result.failed),
            _findings("warnings", "Warnings", "These let the data pass.", result, result.warnings),
            _samples(result),
            *(_table_section(heading, rows) for heading, rows in result.tables.items() if rows),
            _expectations(result),
            _provenance(result),
        ],
        {"figures": {}, "gate": {"subject": result.subject, "passed": result.passed, "counts": dict(result.counts)}},
    )


def _header(result: GateResult) -> Markup:
    name, total = _NAMES[result.gate], len(result.checks)
    if result.passed:
        met = total - len(result.warnings)
        verdict = f"This {name} passed its gate: {met} of {total} expectations are met."
    else:
        verdict = f"This {name} failed its gate: {len(result.failed)} of {total} expectations are not met."
    tiles = [
        element(
            "div",
            element("span", label.capitalize(), class_="tile-name"),
            element("span", f"{value:,}", class_="tile-value"),
            class_="tile",
        )
        for label, value in result.counts.items()
    ]
    return element(
        "header",
        element("p", "evodiff gate", class_="kicker"),
        element("h1", result.subject),
        element("p", verdict, class_="lead"),
        [
            element("p", element("strong", "Not met: "), check.expectation.meaning, class_="warning")
            for check in result.failed
        ],
        element("div", tiles, class_="tiles"),
        [element("p", note, class_="note") for note in result.notes],
        id="headline",
    )


def _findings(
    identifier: str, heading: str, explanation: str, result: GateResult, checks: Sequence[Check]
) -> Section | None:
    if not checks:
        return None
    return section(identifier, heading, explanation, [_finding(result, check) for check in checks])


def _finding(result: GateResult, check: Check) -> Markup:
    expectation = check.expectation
    found = f"{len(check.offending):,} of {check.rows:,} {expectation.table} are not so. {expectation.remedy}"
    return element(
        "article",
        element("h3", f"{expectation.name[:1].upper()}{expectation.name[1:]}"),
        element("p", element("strong", "Expected: "), expectation.meaning),
        element("p", element("strong", "Found: "), found),
        _rows(check.examples),
        _pictures(result, check),
    )


def _pictures(result: GateResult, check: Check) -> Markup | None:
    """Return pictures of the images that offend, where there are any."""
    stored = _load(result.quarantine / OFFENDING) if check.expectation.table == "images" and not check.passed else None
    if stored is None:
        return None
    images = _as_pictures(stored["images"][np.isin(stored["index"], check.offending)])
    if images is None or not len(images):
        return None
    shown = f"{min(PICTURES, len(images))} of {len(check.offending):,}"
    return element("p", _strip(images[:PICTURES], COLUMNS, f"{shown} that are not so"))


def _samples(result: GateResult) -> Section | None:
    stored = _load(result.folder / SAMPLES) if result.gate == "dataset" else None
    images = None if stored is None else _as_pictures(stored["images"])
    if stored is None or images is None or not len(images):
        return None
    names = [str(row["class"]) for row in result.tables.get("Classes", ())]
    if "labels" not in stored or not names:
        return section("images", "Images", "The first ones.", _strip(images, UNLABELLED_COLUMNS, "images"))
    rows = [
        (element("span", name, class_="class-name"), _strip(images[stored["labels"] == label], COLUMNS, name))
        for label, name in enumerate(names)
        if (stored["labels"] == label).any()
    ]
    explanation = "The first images of each class: are they what the class says?"
    if len(rows) < len(names):
        explanation += f" {len(rows)} of {len(names)} classes are shown."
    return section("images", "Images", explanation, element("div", rows, class_="samples"))


def _strip(images: NDArray[np.uint8], columns: int, text: str) -> Markup:
    png = grid_png(images, min(columns, len(images)))
    return element("img", src=data_uri(png), alt=f"{len(images)} images: {text}", class_="strip", loading="lazy")


def _as_pictures(images: NDArray[Any]) -> NDArray[np.uint8] | None:
    """Return (n, height, width, channels) uint8 of images that may be anything; None of what is no picture at all."""
    if images.ndim != 4 or images.shape[1] not in (1, 3) or 0 in images.shape[1:]:
        return None
    finite = np.nan_to_num(images.astype(np.float64), nan=0.0, posinf=255.0, neginf=0.0)
    pixels: NDArray[np.uint8] = np.clip(finite, 0, 255).astype(np.uint8).transpose(0, 2, 3, 1)
    return pixels


def _load(path: Path) -> dict[str, NDArray[Any]] | None:
    try:
        tensors: dict[str, NDArray[Any]] = load_file(path)
    except (OSError, SafetensorError):  # not stored, or lost since: the page does without
        return None
    return tensors


def _expectations(result: GateResult) -> Section:
    rows: list[list[Child]] = [
        [
            element("strong", _verdict(check)) if not check.passed else _verdict(check),
            check.expectation.meaning,
            f"{check.rows:,}",
            f"{len(check.offending):,}",
            element("code", f"{check.expectation.table}: {check.expectation.kind}"),
        ]
        for check in result.checks
    ]
    head = ["Verdict", "What is expected", "Rows", "Not so", "Judged by"]
    explanation = "All that was looked at, in the words of Great Expectations at the end."
    return section("expectations", "Expectations", explanation, data_table(head, rows, numeric={2, 3}))


def _verdict(check: Check) -> str:
    if check.passed:
        return "met"
    return "not\u00a0met" if check.expectation.severity == "critical" else "warning"


def _table_section(heading: str, rows: Sequence[Row]) -> Section:
    return section(heading.lower(), heading, "", _rows(rows, tall=len(rows) > PICTURES))


def _rows(rows: Sequence[Row], *, tall: bool = False) -> Markup | None:
    if not rows:
        return None
    names = list(rows[0])
    numeric = {index for index, name in enumerate(names) if index and all(_is_number(row[name]) for row in rows)}
    head = [name.replace("_", " ").capitalize() for name in names]
    return data_table(head, [[_cell(row[name]) for name in names] for row in rows], numeric=numeric, tall=tall)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return number(value) if np.isfinite(value) else str(value)
    return "–" if value is None else str(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _provenance(result: GateResult) -> Section:
    facts = {"Digest": result.digest, "Result": f"{result.result.name} beside this page"}
    if not result.passed:
        facts["Set aside"] = "the rows that offend, as they are, in the folder quarantine beside this page"
    entries = [(element("dt", name), element("dd", element("code", text))) for name, text in facts.items()]
    return section("provenance", "Provenance", "", element("dl", entries))
