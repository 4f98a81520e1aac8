"""Who may import whom: read from the import statements of every module."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import qcompiler

PACKAGE = Path(qcompiler.__file__).parent

LEVELS: tuple[tuple[str, ...], ...] = (
    ("errors",),
    ("registry",),
    ("numerics",),
    ("ir",),
    ("ops",),
    ("target",),
    ("analysis", "pipeline"),
    ("rewrite",),
    ("backends", "frontends", "calibration"),
    ("compare", "passes", "native_code"),
    ("program", "plugins", "pass_comparison", "report", "value_measurement", "accumulator_report"),
    ("exporters", "benchmark", "layer_verdicts"),
    ("compilation", "legality_report"),
    ("cli", "demo", "__main__"),
)
"""Each part may import those of its own level and of the levels before it. ``targets`` holds no code."""

OWNERS = {
    "networkx": ("analysis",), "tvm": ("backends.tvm",), "onnx": ("frontends", "backends"),
    "onnxruntime": ("frontends", "backends", "demo", "benchmark"), "bokeh": ("report",), "jinja2": ("report",),
}
"""Third-party packages that only these parts may import. The demo runs the float model as its user would."""

TYPE_CHECKING_ONLY = {("compilation", "onnx"), ("legality_report", "onnx")}
"""Imports that may stand under ``if TYPE_CHECKING`` alone."""


def modules(package: Path = PACKAGE) -> dict[str, Path]:
    """Every module below ``qcompiler`` by its name within it, such as ``ir.graph``; passes included."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = path
    # A glob does not follow the links to the folders that stand at top level.
    for linked in ("passes", "targets"):
        for path in sorted((package / linked).glob("*.py")):
            found[linked if path.stem == "__init__" else f"{linked}.{path.stem}"] = path
    return found


def imports(source: str, name: str, is_package: bool) -> list[tuple[str, bool, int]]:
    """What a module imports: full names, whether only for type checking, and lines."""
    found: list[tuple[str, bool, int]] = []

    def visit(node: ast.AST, checking: bool) -> None:
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            for statement in node.body:
                visit(statement, True)
            for statement in node.orelse:
                visit(statement, checking)
            return
        if isinstance(node, ast.Import):
            found.extend((alias.name, checking, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = ["qcompiler", *name.split(".")]
                parents = package[: len(package) - node.level + is_package]
                base = ".".join([*parents, *([base] if base else [])])
            # ``from qcompiler import x`` imports the module x, ``from qcompiler.x import y`` the module x.
            names = [f"{base}.{a.name}" for a in node.names] if base == "qcompiler" else [base]
            found.extend((full, checking, node.lineno) for full in names)
        for child in ast.iter_child_nodes(node):
            visit(child, checking)

    visit(ast.parse(source), False)
    return found


def level(part: str) -> int:
    """The position of a part in the table.

    Raises:
        LookupError: the table does not know it.
    """
    for index, parts in enumerate(LEVELS):
        if part in parts:
            return index
    raise LookupError(f"qcompiler.{part} has no level: add it to the table")


def violations(name: str, source: str, is_package: bool = False) -> list[str]:
    """Imports of one module that the table forbids."""
    part = name.split(".")[0]
    own = level(part)
    broken = []
    for full, checking, line in imports(source, name, is_package):
        top, *rest = full.split(".")
        if top in OWNERS and not any(f"{name}.".startswith(f"{owner}.") for owner in OWNERS[top]):
            if not (checking and (part, top) in TYPE_CHECKING_ONLY):
                broken.append(f"{name}, line {line}: imports {full}")
            continue
        if top != "qcompiler" or not rest or rest[0] == part:
            continue
        other = level(rest[0])
        if other > own:
            broken.append(f"{name}, line {line}: imports {full}, which stands above it")
    return broken


NAMES = [name for name in modules() if name and name != "targets"]


@pytest.mark.parametrize("name", NAMES)
def test_imports_go_one_way(name: str) -> None:
    path = modules()[name]
    assert not violations(name, path.read_text(encoding="utf-8"), path.name == "__init__.py")


def test_every_part_has_a_level_and_every_level_a_part() -> None:
    parts = {name.split(".")[0] for name in NAMES}
    assert parts == {part for parts in LEVELS for part in parts}


def test_passes_are_among_the_modules() -> None:
    assert "passes.realize" in NAMES
    assert "ir.graph" in NAMES


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("ir.graph", "import qcompiler.ops"), ("numerics.affine", "from qcompiler import ir"),
        ("numerics.affine", "from qcompiler.ir import Graph"), ("ir.graph", "from ..ops import shape"),
        ("ops.shape", "from qcompiler.passes.layout import Layout"),
        ("ops.shape", "def f():\n    from qcompiler.backends import reference"),
        ("passes.cse", "import networkx as nx"), ("ops.shape", "from tvm import relax"),
        ("backends.reference", "import tvm"), ("compilation", "import onnx"), ("cli.main", "import onnxruntime"),
        ("errors", "from qcompiler.ir import Graph"), ("compare", "from qcompiler.program import Program"),
        ("ir.graph", "if TYPE_CHECKING:\n    from qcompiler.ops.shape import Reshape"),
    ],
)
def test_forbidden_imports_are_found(name: str, source: str) -> None:
    assert len(violations(name, source)) == 1


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("ops.shape", "from qcompiler.ir import Graph\nfrom qcompiler import numerics"),
        ("analysis.scale_groups", "import networkx as nx"), ("backends.tvm", "import tvm"),
        ("backends.tvm.build", "from tvm import relax"), ("compilation", "if TYPE_CHECKING:\n    import onnx"),
        ("pipeline.pipeline", "from qcompiler.target import Target"), ("ir.graph", "from . import value"),
        ("analysis.batching", "from qcompiler.pipeline import Pass"), ("cli.main", "from qcompiler import plugins"),
    ],
)
def test_allowed_imports_pass(name: str, source: str) -> None:
    assert not violations(name, source)


def test_an_unknown_part_is_an_error() -> None:
    with pytest.raises(LookupError, match=r"qcompiler\.helpers has no level"):
        violations("helpers.text", "")
    with pytest.raises(LookupError, match=r"qcompiler\.helpers has no level"):
        violations("cli.main", "from qcompiler.helpers import text")
