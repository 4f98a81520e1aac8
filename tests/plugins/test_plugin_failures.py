"""Plugins that cannot be loaded: what the user reads, and what is left of them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from plugins.plugin_folder import install_small, refuse, run_command
from qcompiler import plugins, registry
from qcompiler.errors import QCompilerError
from qcompiler.ir import OPS
from qcompiler.pipeline import PASSES

PASS = """
from qcompiler.pipeline import Pass, PassResult, compiler_pass

@compiler_pass("{name}")
class P(Pass):
    \"\"\"Does nothing.\"\"\"

    def run(self, graph, context):
        return PassResult(graph, False)
"""
OP = """
from qcompiler.ir import op
from qcompiler.ops.activation import UnaryFunction

@op("{name}")
class F(UnaryFunction):
    \"\"\"x.\"\"\"
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on the module path of this process; what is loaded from it is forgotten."""
    plugins.load()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(plugins, "_loaded", dict(plugins._loaded))
    modules = set(sys.modules)
    with registry.temporary():
        yield tmp_path
    for name in set(sys.modules) - modules:
        if getattr(sys.modules[name], "__file__", "") and str(tmp_path) in str(sys.modules[name].__file__):
            del sys.modules[name]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("import missing_dependency", "ModuleNotFoundError: No module named 'missing_dependency'"),
        ("1 / 0", "ZeroDivisionError: division by zero"), ("def f(:", "SyntaxError"),
        ("import sys\nsys.exit(3)", "SystemExit: 3"),
    ],
)
def test_a_broken_plugin_is_named_with_its_error(folder: Path, text: str, found: str) -> None:
    install_small(folder, "bad-parts", "bad = bad_parts", {"bad_parts.py": text})
    with pytest.raises(QCompilerError) as caught:
        plugins.load()
    error = str(caught.value)
    assert "plugin 'bad' (bad-parts 0.1) cannot be loaded" in error
    assert found in error
    assert "uninstall bad-parts; --no-plugins or QCOMPILER_NO_PLUGINS=1" in error


@pytest.mark.parametrize("value", ["bad_parts:missing", "bad_parts:answer", "no_such_module"])
def test_an_entry_point_names_a_module(folder: Path, value: str) -> None:
    install_small(folder, "bad-parts", f"bad = {value}", {"bad_parts.py": "answer = 42"})
    with pytest.raises(QCompilerError, match=r"plugin 'bad' \(bad-parts 0\.1\) cannot be loaded"):
        plugins.load()


def test_the_line_of_the_failure_is_told(folder: Path) -> None:
    install_small(folder, "bad-parts", "bad = bad_parts", {"bad_parts.py": "x = 1\n\nraise OSError('no licence')\n"})
    with pytest.raises(QCompilerError, match=r"OSError: no licence \(.*bad_parts\.py, line 3\)"):
        plugins.load()


def test_no_broken_plugin_locks_the_user_out(tmp_path: Path) -> None:
    install_small(tmp_path, "bad-parts", "bad = bad_parts", {"bad_parts.py": "1 / 0"})
    assert run_command(tmp_path, "--no-plugins", "targets").returncode == 0
    assert run_command(tmp_path, "targets", QCOMPILER_NO_PLUGINS="1").returncode == 0
    assert "not loaded" in run_command(tmp_path, "--no-plugins", "plugins").stdout
    assert "plugin 'bad' (bad-parts 0.1) cannot be loaded" in refuse(tmp_path, "plugins", QCOMPILER_NO_PLUGINS="0")


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (PASS.format(name="dce"), "pass 'dce' is defined twice"),
        (OP.format(name="relu"), "op 'relu' is defined twice"),
        ("from qcompiler.numerics import arithmetic\n@arithmetic('add', 'litert-add')\nclass A: pass\n",
         "arithmetic 'litert-add' of 'add' is defined twice"),
        ("from qcompiler.target import predicate\n@predicate('kernel-in')\ndef p(node, target):\n    'x'\n",
         "predicate 'kernel-in' is defined twice"),
        ("from qcompiler.target import register_target\nregister_target('tpu-int8.toml')\n",
         "target 'tpu-int8' is defined twice"),
        ("from qcompiler.backends import ort\nfrom qcompiler.backends.onnx_emitter import elementwise\n"
         "@elementwise('relu')\ndef f(e, n, names): ...\n", "lowering 'relu' of 'onnx' is defined twice"),
        ("from qcompiler.frontends.onnx import importer\nfrom qcompiler.frontends.onnx.layer import handles\n"
         "@handles('Relu')\ndef f(layer): ...\n", "ONNX operator 'Relu' is defined twice"),
    ],
)
def test_a_built_in_name_is_taken(folder: Path, text: str, kind: str) -> None:
    install_small(folder, "twice", "two = twice_parts", {"twice_parts.py": text, "tpu-int8.toml": ""})
    with pytest.raises(QCompilerError) as caught:
        plugins.load()
    message = str(caught.value)
    assert kind in message
    assert "plugin 'two' (twice 0.1) cannot be loaded" in message
    assert "module 'qcompiler." in message
    assert "module 'twice_parts' of plugin 'two' (twice 0.1)" in message
    assert "rename one" in message


def test_two_plugins_with_one_name_are_both_named(folder: Path) -> None:
    for name in ("one", "two"):
        install_small(folder, f"{name}-parts", f"{name} = {name}_parts", {f"{name}_parts.py": PASS.format(name="p")})
    with pytest.raises(QCompilerError) as caught:
        plugins.load()
    error = str(caught.value)
    assert "pass 'p' is defined twice" in error
    for name in ("one", "two"):
        assert f"module '{name}_parts' of plugin '{name}' ({name}-parts 0.1)" in error


def test_nothing_of_a_failed_plugin_remains_and_it_can_be_mended(folder: Path) -> None:
    package = {
        "half/__init__.py": "from half import passes, ops\nfrom half.missing import x\n",
        "half/passes.py": PASS.format(name="half-pass"), "half/ops.py": OP.format(name="half_op"),
    }
    install_small(folder, "half", "half = half", package)
    ops, passes = dict(OPS), dict(PASSES)
    for _ in range(2):
        with pytest.raises(QCompilerError, match="plugin 'half'"):
            plugins.load()
        assert (dict(OPS), dict(PASSES)) == (ops, passes)
    (folder / "half" / "missing.py").write_text("x = 1\n")
    plugins.load()
    assert "half-pass" in PASSES
    assert "half_op" in OPS
    (loaded,) = [p for p in plugins.installed() if p.name == "half"]
    assert plugins.registered_by(loaded) == {"ops": ["half_op"], "passes": ["half-pass"]}


def test_a_plugin_that_another_one_imports_survives_its_failure(folder: Path) -> None:
    install_small(folder, "z-base", "base = z_base", {"z_base.py": PASS.format(name="base-pass")})
    install_small(folder, "a-user", "user = a_user", {"a_user.py": "import z_base\n1 / 0\n"})
    with pytest.raises(QCompilerError, match="plugin 'user'"):
        plugins.load()
    (folder / "a_user.py").write_text("import z_base\n" + PASS.format(name="user-pass"))
    plugins.load()
    owned = {p.name: plugins.registered_by(p) for p in plugins.installed() if p.name in ("base", "user")}
    assert owned == {"base": {"passes": ["base-pass"]}, "user": {"passes": ["user-pass"]}}


def test_loading_again_does_nothing(folder: Path) -> None:
    install_small(folder, "fine", "fine = fine_parts", {"fine_parts.py": PASS.format(name="fine-pass")})
    plugins.load()
    cls = PASSES["fine-pass"]
    plugins.load()
    assert PASSES["fine-pass"] is cls


def test_disabled_is_a_scope(folder: Path) -> None:
    install_small(folder, "fine", "fine = fine_parts", {"fine_parts.py": PASS.format(name="fine-pass")})
    with plugins.disabled():
        plugins.load()
        assert "fine-pass" not in PASSES
    plugins.load()
    assert "fine-pass" in PASSES
