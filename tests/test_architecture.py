"""The package is arranged as docs/architecture.md says, and its modules import each other in one direction."""

from __future__ import annotations

import ast
import graphlib
import pkgutil
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "probebench"
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def tree(page: str) -> dict[str, str]:
    """The paths in the tree of the page, relative to the package, with what the page says of each."""
    (drawn,) = re.findall(r"```text\nprobebench/\n(.*?)```", page, re.S)
    found: dict[str, str] = {}
    above: list[str] = []
    for line in drawn.splitlines():
        indent, name, text = re.fullmatch(r"( +)(\S+)\s*(.*)", line).groups()
        above[len(indent) // 2 - 1 :] = [name]
        found["".join(above)] = text
    return found


def modules() -> dict[str, Path]:
    """Every module of the package by its name."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        found[name.removesuffix(".__init__")] = path
    return found


def imports(source: str, known: dict[str, Path]) -> Iterator[str]:
    """The modules that a module imports anywhere in it: in functions and for type checkers, too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports in this package are absolute"
            inside = [f"{node.module}.{alias.name}" for alias in node.names]
            found = [name if name in known else str(node.module) for name in inside]
        else:
            continue
        yield from (name for name in found if name in known)


def exists(name: str) -> bool:
    """Whether a dotted name is a module, or leads to an attribute of one, such as a class's method."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            spec = find_spec(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        if spec is not None:
            try:
                pkgutil.resolve_name(f"{'.'.join(parts[:end])}:{'.'.join(parts[end:])}")
            except AttributeError:
                return False
            return True
    return False


def test_the_tree_has_every_room_and_no_other():
    drawn = tree(PAGE)
    assert all(drawn.values()), "every entry says what it is for"
    there = {path.name + "/" * path.is_dir() for path in PACKAGE.iterdir() if path.name != "__pycache__"}
    assert there == {name for name in drawn if "/" not in name.rstrip("/")}
    packages = {module.name for module in pkgutil.walk_packages([str(PACKAGE)], "probebench.") if module.ispkg}
    rooms = {f"probebench.{name.rstrip('/').replace('/', '.')}" for name in drawn if name.endswith("/")}
    assert packages == rooms


def test_every_name_and_path_of_the_page_exists():
    text = re.sub(r"```.*?```", "", PAGE, flags=re.S)
    spans = set(re.findall(r"`([^`\s]+)`", text))
    names = {span for span in spans if re.fullmatch(r"probebench(\.\w+)+", span)}
    paths = {span for span in spans if re.fullmatch(r"(probebench|tests)/[\w./-]+", span)}
    assert len(names) > 20
    assert len(paths) > 20
    assert not sorted(name for name in names if not exists(name))
    assert not sorted(path for path in paths if not (ROOT / path).exists())


def test_names_that_do_not_exist_are_found():
    assert exists("probebench.measure.run.Run.measure")
    assert exists("probebench.run_sweep")
    assert not exists("probebench.measure.run.Run.mesure")
    assert not exists("probebench.measured.run")


def test_the_page_has_the_order_of_the_contract():
    drawn = re.search(r"```text\n(plugin \| cli\n.*?)```", PAGE, re.S)[1]
    contracts = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (layers,) = re.findall(r"^layers = \[\n(.*?)^\]", contracts, re.S | re.M)
    order = re.findall(r'"(.*?)"', layers.replace("probebench.", ""))
    assert [line for line in order if line != "__main__"] == drawn.splitlines()
    for name in re.findall(r'^name = "(.*)"', contracts.partition("[tool.importlinter]")[2], re.M):
        assert f"| {name} |" in PAGE


def test_modules_import_each_other_without_a_cycle():
    known = modules()
    # The facade has names of every room, and no room takes them from it.
    graph = {
        name: set(imports(path.read_text(encoding="utf-8"), known)) - {"probebench"}
        for name, path in known.items()
        if name != "probebench"
    }
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail("modules import each other in a cycle: " + " <- ".join(error.args[1]))


def test_cycles_are_found_wherever_the_import_is():
    known = dict.fromkeys(["p.a", "p.b", "p.c"], Path())
    source = "if TYPE_CHECKING:\n    from p.a import X\ndef f():\n    from p import b\nimport p.c\nimport os\n"
    assert sorted(imports(source, known)) == ["p.a", "p.b", "p.c"]
