"""What a served model refuses before it draws anything: one row must not hold a server for hours."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from evodiff.errors import SettingsError
from evodiff.tracking import served_model
from evodiff.tracking.served_model import MOST_IMAGES, MOST_STEPS, ServedPipeline


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> ServedPipeline:
    """A model that draws black images of one pixel."""

    def draw(pipeline: object, count: int, **request: Any) -> Any:
        return np.zeros((count, 1, 1, 1), dtype=np.uint8)

    monkeypatch.setattr(served_model, "sample_pipeline", draw)
    model = ServedPipeline()
    model._pipeline = None
    return model


@pytest.mark.parametrize(
    "row",
    [
        {"count": 0},
        {"count": MOST_IMAGES + 1},
        {"seed": -1},
        {"steps": 1},
        {"steps": MOST_STEPS + 1},
        {"steps": float("inf")},
    ],
    ids=str,
)
def test_a_row_that_asks_for_too_little_or_too_much_is_refused(served: ServedPipeline, row: dict[str, Any]) -> None:
    with pytest.raises(
        SettingsError, match=f"1 to {MOST_IMAGES} images, a seed from 0, at least 2 steps and at most {MOST_STEPS}"
    ):
        served.predict(None, pd.DataFrame([row]))


def test_rows_within_the_bounds_are_answered_with_the_images_of_all(served: ServedPipeline) -> None:
    rows = pd.DataFrame([{"count": 2, "steps": MOST_STEPS}, {"count": 3, "steps": 2}])
    assert len(served.predict(None, rows)) == 5
