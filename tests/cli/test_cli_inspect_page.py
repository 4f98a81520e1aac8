"""``qcompiler inspect --html``."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from cli.command_line import images, refuse, succeed


def test_a_page_of_every_kind_of_program() -> None:
    succeed("compile", "model.onnx", "--target", "tpu-int8", "--data", "calib.npz", "-o", "build")
    for place in ("model.onnx", "build", "build/program.qir"):
        assert succeed("inspect", place, "--html", "page.html").strip() == "wrote page.html"
        page = Path("page.html").read_text(encoding="utf-8")
        assert page.startswith("<!DOCTYPE html>")
        assert '"Conv_0"' in page


def test_two_stages_with_errors() -> None:
    succeed("compile", "model.onnx", "--target", "tpu-int8", "--data", "calib.npz", "-o", "build")
    succeed("inspect", "build", "--html", "page.html", "--against", "model.onnx")
    page = Path("page.html").read_text(encoding="utf-8")
    assert '"change":"added"' in page
    assert '"sqnr_db"' not in page
    succeed("inspect", "build", "--html", "page.html", "--against", "model.onnx", "--data", "calib.npz")
    assert '"sqnr_db"' in Path("page.html").read_text(encoding="utf-8")


def test_options_without_what_they_need() -> None:
    refuse("inspect", "model.onnx", "--against", "model.onnx", naming=("--against", "--html"))
    refuse("inspect", "model.onnx", "--data", "calib.npz", naming=("--data", "--html"))
    refuse("inspect", "model.onnx", "--html", "o.html", "--data", "calib.npz", naming=("--against",))
    refuse("inspect", "model.onnx", "--html", "none/o.html", naming=("none/o.html",))
    refuse("inspect", "model.onnx", "--html", "o.html", "--against", "gone.onnx", naming=("gone.onnx",))


def test_errors_need_a_float_program_with_the_same_inputs() -> None:
    succeed("compile", "model.onnx", "--target", "tpu-int8", "--data", "calib.npz", "-o", "build")
    against = ("--html", "o.html", "--data", "calib.npz", "--against")
    refuse("inspect", "model.onnx", *against, "build", naming=("not float", "quantize"))
    Path("other.qir").write_text(
        '// qir 1\ngraph @g(%z: f32[N,4] original("z")) -> (y: f32[N,4]) {\n  %0 = relu %z -> f32[N,4] original("y")\n'
        "  return %0\n}\n"
    )
    refuse("inspect", "model.onnx", *against, "other.qir", naming=("different inputs", "image"))
    np.savez("wrong.npz", image=images(2)[:, :1])
    refuse("inspect", "build", "--html", "o.html", "--data", "wrong.npz", "--against", "model.onnx", naming=("shape",))


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bokeh", None)
    refuse("inspect", "model.onnx", "--html", "o.html", naming=("bokeh", "qcompiler-legalizer[report]"))
