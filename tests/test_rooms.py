"""The rooms of the package: none imports one that imports it, directly or by a third, when modules are loaded."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "evodiff"


def imported_at_loading(node: ast.AST) -> Iterator[str]:
    """Yield the modules of evodiff that a module's body imports: not those of functions, nor those for types alone."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        if isinstance(child, ast.ImportFrom) and child.module:
            yield from [child.module] if child.module != "evodiff" else [f"evodiff.{name.name}" for name in child.names]
        elif isinstance(child, ast.Import):
            yield from (name.name for name in child.names)
        yield from imported_at_loading(child)


def test_no_room_imports_one_that_imports_it() -> None:
    rooms: dict[str, set[str]] = defaultdict(set)
    for file in PACKAGE.rglob("*.py"):
        room = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for name in imported_at_loading(ast.parse(file.read_text(encoding="utf-8"))):
            package, _, inner = name.partition(".")
            if package == "evodiff" and inner.split(".")[0] != room:
                rooms[room].add(inner.split(".")[0])
    del rooms["gates"]  # no room: a door to the checks of several
    assert rooms["deployment"] > {"pipeline", "errors"}  # what is looked for is found
    order = list(TopologicalSorter(rooms).static_order())  # a CycleError names the rooms of a cycle
    assert order.index("deployment") > order.index("pipeline")
