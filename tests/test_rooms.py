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


def rooms_of(package: Path, name: str) -> dict[str, set[str]]:
    """Return which rooms the modules of each room of a package import; a module beside them is one by itself."""
    rooms: dict[str, set[str]] = defaultdict(set)
    for file in package.rglob("*.py"):
        room = file.relative_to(package).parts[0].removesuffix(".py")
        for imported in imported_at_loading(ast.parse(file.read_text(encoding="utf-8"))):
            inner = imported.removeprefix(f"{name}.").split(".")[0]
            if imported.startswith(f"{name}.") and inner != room:
                rooms[room].add(inner)
    return rooms


def test_no_room_imports_one_that_imports_it() -> None:
    rooms = rooms_of(PACKAGE, "evodiff")
    del rooms["gates"]  # no room: a door to the checks of several
    assert rooms["deployment"] > {"pipeline", "errors"}  # what is looked for is found
    order = list(TopologicalSorter(rooms).static_order())  # a CycleError names the rooms of a cycle
    assert order.index("deployment") > order.index("pipeline")


def test_no_room_of_the_deployment_imports_one_that_imports_it() -> None:
    rooms = rooms_of(PACKAGE / "deployment", "evodiff.deployment")
    assert rooms["router"] > {"release", "web", "worker"}
    order = list(TopologicalSorter(rooms).static_order())
    assert order.index("router") > order.index("release") > order.index("analysis")
