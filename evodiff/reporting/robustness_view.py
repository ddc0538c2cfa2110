"""How a champion bears other sampling, as the report shows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from evodiff.engine.statistics import Interval
from evodiff.pipeline.final import ROBUSTNESS_FILE
from evodiff.pipeline.rivals import stored_document

if TYPE_CHECKING:
    from collections.abc import Mapping

    from evodiff.pipeline.run import Run

ASPECTS: Final = {
    "guidance": "Guidance scale",
    "steps": "Sampler steps",
    "spacing": "Spacing of the steps",
    "precision": "Number format",
}
_NORMAL_95 = 1.96  # standard errors of hundreds of images


@dataclass(frozen=True)
class VariantView:
    """One way to sample, named by what it changes; None where nothing is known. ``problem`` says why there is no KID.

    ``difference`` is its KID minus the default's with its paired 95 % interval; ``image_difference`` the root mean
    square of the change of pixels in [-1, 1], ``output_difference`` that of the network's output, relative to it.
    """

    aspect: str
    name: str
    default: bool
    kid: float | None
    standard_error: float | None
    difference: Interval | None
    image_difference: float | None
    output_difference: float | None
    label_accuracy: float | None
    problem: str


@dataclass(frozen=True)
class RobustnessView:
    """All variants, aspect by aspect, judged by ``samples`` images each after ``steps`` steps of training."""

    samples: int
    steps: int
    device: str
    variants: tuple[VariantView, ...]

    @property
    def margin(self) -> float:
        """Differences in KID below this do not matter: the standard error of the default's."""
        return next((item.standard_error or 0.0 for item in self.variants if item.default), 0.0)

    @property
    def aspects(self) -> dict[str, list[VariantView]]:
        """The variants by what they change, in order."""
        found: dict[str, list[VariantView]] = {}
        for variant in self.variants:
            found.setdefault(variant.aspect, []).append(variant)
        return found


def read_robustness(run: Run, candidate: str) -> RobustnessView | None:
    """Read what a candidate's other samplings scored, None where they were not tried.

    Raises:
        LookupError, TypeError, ValueError: the file is damaged.
    """
    file = run.final_folder(candidate) / ROBUSTNESS_FILE
    if not run.ledger.exists(file):
        return None
    found = stored_document(run, file)
    return RobustnessView(
        samples=int(found["samples"]),
        steps=int(found["steps"]),
        device=str(found["device"]),
        variants=tuple(_variant(item, found["default"]) for item in found["variants"]),
    )


def _variant(item: Mapping[str, Any], default: Mapping[str, Any]) -> VariantView:
    aspect, kid, difference = str(item["aspect"]), item["kid"], item["kid_difference"]
    value = item["sampling"][aspect]
    return VariantView(
        aspect=aspect,
        name=f"{value:g}" if isinstance(value, float) else str(value),
        default=item["sampling"] == default,
        kid=None if kid is None else float(kid["value"]),
        standard_error=None if kid is None else float(kid["standard_error"]),
        difference=None if difference is None else _interval(difference),
        image_difference=item["image_difference"],
        output_difference=item["output_difference"],
        label_accuracy=item["label_accuracy"],
        problem=str(item["problem"]),
    )


def _interval(estimate: Mapping[str, float]) -> Interval:
    value, half = float(estimate["value"]), _NORMAL_95 * float(estimate["standard_error"])
    return Interval(value, value - half, value + half)
