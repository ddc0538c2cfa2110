"""The engine stands alone: numpy, scipy, moocore, threadpoolctl, and no other room of the package."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import evodiff.engine

ALLOWED = {"numpy", "scipy", "moocore", "threadpoolctl"}
ROOMS = {"evodiff.engine", "evodiff.errors"}
SOURCES = sorted(Path(evodiff.engine.__file__).parent.glob("**/*.py"))


def imported(source: Path) -> Iterator[str]:
    """Yield the dotted names of all modules that a file imports, at its head, in a function or for types alone."""
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{source.name} imports relatively"
            assert node.module is not None
            yield node.module


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_a_file_of_the_engine_imports_what_the_engine_needs_and_no_other_room(source: Path) -> None:
    for name in imported(source):
        top = name.partition(".")[0]
        if top == "evodiff":
            assert ".".join(name.split(".")[:2]) in ROOMS, name
        else:
            assert top in ALLOWED or top in sys.stdlib_module_names, name


def test_a_search_with_the_default_strategy_loads_nothing_else() -> None:
    """Beyond what its dependencies load themselves, which is there before."""
    dependencies = sorted(
        {name for source in SOURCES for name in imported(source) if name.partition(".")[0] in ALLOWED}
    )
    assert {name.partition(".")[0] for name in dependencies} == ALLOWED
    code = f"import {', '.join(dependencies)}\n" + (
        "import sys\n"
        "before = {name.partition('.')[0] for name in sys.modules}\n"
        "import evodiff\n"
        "front_door = set(sys.modules)\n"  # the rooms that it opens are not the engine's doing
        "from evodiff.engine import Evolution\n"
        "from evodiff.engine.convergence import diagnose\n"
        "from evodiff.engine.problems import PROBLEMS\n"
        "from evodiff.engine.testing import check_space\n"
        "problem = PROBLEMS[0]\n"
        "check_space(problem)\n"
        "names = [f'f{index + 1}' for index in range(problem.objectives)]\n"
        "search = Evolution(problem, objectives=names, population_size=10, rungs=2, replicate_ties=True)\n"
        "for _ in range(5):\n"
        "    for trial in search.ask(10):\n"
        "        search.tell(trial.id, problem.values(trial.genome))\n"
        "diagnose([[result.hypervolume for result in search.results()]])\n"
        "assert any(result.surrogate for result in search.results()), 'the models had a say'\n"
        "new = {name.partition('.')[0] for name in sys.modules} - before - sys.stdlib_module_names\n"
        "rooms = {name.split('.')[1] for name in set(sys.modules) - front_door if name.startswith('evodiff.')}\n"
        "print(sorted(new), sorted(rooms - {'errors'}))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "['evodiff'] ['engine']"
