"""One real search with everything a report can show, made once."""

from __future__ import annotations

import pytest
from report_examples import whole_view

from evodiff.reporting import RunView


@pytest.fixture(scope="session")
def view(tmp_path_factory: pytest.TempPathFactory) -> RunView:
    return whole_view(tmp_path_factory.mktemp("runs"))
