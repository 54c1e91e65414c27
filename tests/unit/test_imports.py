"""Imports point one way, nowhere in a circle, and `import behavior_llava` is cheap."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = "behavior_llava"
SRC = Path(__file__).parents[2] / "src"
MODULES = {
    ".".join(path.relative_to(SRC).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((SRC / PACKAGE).rglob("*.py"))
}

# core < models < data < training < evaluation < reporting, serving < stages < pipeline < public names < cli
FLOORS = {
    "core": 0,
    "models": 1,
    "data": 2,
    "training": 3,
    "evaluation": 4,
    "reporting": 5,
    "serving": 5,
    "stages": 6,
    "pipeline": 7,
    "forgetting": 6,
    "checking": 7,
    "showing": 7,
    "evaluating": 7,
    "comparing": 7,
    "results": 8,
    "ablation": 9,
    "forecast": 8,
    "": 8,
    "cli": 10,
    "__main__": 11,
}


def room(module: str) -> str:
    """The first name under the package; empty for the package itself."""
    return module.split(".")[1] if "." in module else ""


def imported(source: str, module: str, modules: set[str], *, is_package: bool) -> set[str]:
    """All of `modules` that a source text imports: at the top, in a function, for types, by discovery."""
    found: set[str] = set()
    package = module.split(".") if is_package else module.split(".")[:-1]
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                found |= {alias.name for alias in names}
            case ast.ImportFrom(module=name, names=names, level=level):
                base = package[: len(package) - level + 1] if level else []
                origin = ".".join([*base, *(name.split(".") if name else [])])
                for alias in names:
                    whole = f"{origin}.{alias.name}"
                    found.add(whole if whole in modules else origin)
            case ast.Call(func=ast.Attribute(attr="import_module"), args=[ast.Constant(value=str(name)), *_]):
                found.add(name)
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id="discover"), attr="find" | "get"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                found.add(f"{PACKAGE}.{name}")
    return (found & modules) - {module}


def circle(graph: dict[str, set[str]]) -> list[str]:
    """One circle of the graph, from a module round to itself; empty where there is none."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return []


def upward(graph: dict[str, set[str]]) -> list[str]:
    """The imports that point to a higher floor, or to the other room of the same floor."""
    return [
        f"{module} imports {target}"
        for module, targets in sorted(graph.items())
        for target in sorted(targets)
        if room(target) != room(module) and FLOORS[room(target)] >= FLOORS[room(module)]
    ]


@pytest.fixture(scope="module")
def graph() -> dict[str, set[str]]:
    names = set(MODULES)
    return {
        module: imported(path.read_text("utf-8"), module, names, is_package=path.name == "__init__.py")
        for module, path in MODULES.items()
    }


def test_all_files_were_seen(graph: dict[str, set[str]]) -> None:
    assert len(graph) >= 50
    assert sum(len(targets) for targets in graph.values()) >= 50
    assert {room(module) for module in graph} <= set(FLOORS)


def test_imports_point_one_way(graph: dict[str, set[str]]) -> None:
    assert upward(graph) == []


def test_no_circles(graph: dict[str, set[str]]) -> None:
    assert circle(graph) == []


@pytest.mark.parametrize(
    "line",
    [
        "from behavior_llava.data import splits",
        "import behavior_llava.data.splits",
        "from behavior_llava.data.splits import split",
        "from ..data import splits",
        "from ..data.splits import split",
        "def late():\n    from behavior_llava.data import splits",
        "if TYPE_CHECKING:\n    from behavior_llava.data import splits",
        "importlib.import_module('behavior_llava.data.splits')",
    ],
)
def test_every_way_of_importing_is_seen(line: str) -> None:
    names = {"behavior_llava.data", "behavior_llava.data.splits", "behavior_llava.core.media"}
    found = imported(line, "behavior_llava.core.media", names, is_package=False)
    assert found == {"behavior_llava.data.splits"}
    assert upward({"behavior_llava.core.media": found})


def test_discovery_is_seen() -> None:
    found = imported(
        "discover.find('data.filters', 'FILTER')",
        "behavior_llava.core.x",
        {"behavior_llava.data.filters"},
        is_package=False,
    )
    assert found == {"behavior_llava.data.filters"}


def test_rooms_of_one_floor_and_circles_are_refused() -> None:
    page, app = f"{PACKAGE}.reporting.page", f"{PACKAGE}.serving.app"
    assert upward({page: {app}})
    assert not upward({app: {f"{PACKAGE}.core.media"}})
    assert circle({page: {app}, app: {page}})


def test_import_is_quick_and_without_torch() -> None:
    code = f"""
import sys, time
start = time.perf_counter()
import {PACKAGE}
sys.stdout.write(f"{{time.perf_counter() - start}} {{'torch' in sys.modules}}")
"""
    # The best of three: a machine that is busy elsewhere must not fail it.
    runs = [
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.split()
        for _ in range(3)
    ]
    assert {loaded for _, loaded in runs} == {"False"}
    assert min(float(seconds) for seconds, _ in runs) < 1
