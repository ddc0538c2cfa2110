"""The README's Python example, and the facade around it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

README = Path(__file__).parents[2] / "README.md"


def test_the_five_lines_of_the_readme_run_as_they_stand(environment: dict[str, str], tmp_path: Path) -> None:
    example = next(
        block for block in re.findall(r"```python\n(.*?)```", README.read_text(), re.S) if "evolve_generation" in block
    )
    assert len([line for line in example.splitlines() if line.strip()]) <= 5
    quick = {**environment, "EVODIFF_WORKERS": "2"}
    program = example.replace("steps=120", "steps=3") + (
        "\nfirst = population[0]"
        "\nassert search.evaluate_fitness(first.genome) == dict(first.evaluation.objectives)"
        "\nassert [m.generation for m in search.metrics] == [0]"
        "\nassert {c.id for c in search.front()} <= {c.id for c in search.population}"
    )
    # From standard input, as in a notebook: there is no main module that workers could import.
    done = subprocess.run(
        [sys.executable, "-"], input=program, env=quick, cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs" / "notebook" / "report" / "index.html").exists()
