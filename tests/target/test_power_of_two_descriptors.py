"""Descriptors that cite shifts: every scale that meets them is a power of two."""

from __future__ import annotations

from pathlib import Path

import pytest

from qcompiler.errors import QCompilerError
from qcompiler.target import load_target

POWER = '{ scale = "power-of-two" }'


def write(folder: Path, types: str, ops: str) -> Path:
    """tpu-int8 with other types and rows."""
    head = 'schema = 1\nextends = "tpu-int8"\nname = "chip"\nsummary = "A chip"\nsource = "A test"\n'
    (folder / "chip.toml").write_text(f"{head}[types]\n{types}\n[ops]\n{ops}\n")
    return folder / "chip.toml"


@pytest.mark.parametrize(
    ("types", "row"),
    [
        (f"act = {POWER}\nwt = {POWER}", 'requantize = { arithmetic = "shift{rounding=floor}" }'),
        ("act = { scale = 0.25 }\nwt = { scale = 2.0 }", 'requantize = { arithmetic = "shift" }'),
        (f"act = {POWER}", 'add = { arithmetic = "shift-add" }'),
        (f"act = {POWER}", 'mean = { arithmetic = "shift-mean" }'),
        # Averages keep their scale, whatever it is.
        ("", 'average_pool2d = { arithmetic = "average" }'),
    ],
)
def test_what_goes_together(types: str, row: str, tmp_path: Path) -> None:
    assert load_target(write(tmp_path, types, row)).name == "chip"


@pytest.mark.parametrize(
    ("types", "row", "entry", "free"),
    [
        ("", 'requantize = { arithmetic = "shift" }', "requantize", "act"),
        # The scale of a sum of products is that of both factors.
        (f"act = {POWER}", 'requantize = { arithmetic = "shift" }', "requantize", "wt"),
        (f"wt = {POWER}", 'requantize = { in = ["acc"], out = "act", arithmetic = "shift" }', "requantize", "act"),
        ("", 'sub = { arithmetic = "shift-add" }', "sub", "act"),
        ("", 'mul = { arithmetic = "shift-mul" }', "mul", "act"),
        ("", 'reduce_sum = { arithmetic = "shift-sum" }', "reduce_sum", "act"),
        (f"act = {POWER}", 'mean = { in = ["act"], out = "act{scale=0.3}", arithmetic = "shift-mean" }', "mean",
         "act{scale=0.3}"),
        ("act = { scale = 0.75 }", 'add = { arithmetic = "shift-add" }', "add", "act"),
        # A sum in fixed point that rounds by shifts alone.
        ("", 'add = { arithmetic = "litert-add{rounding=shift}" }', "add", "act"),
    ],
)
def test_what_contradicts(types: str, row: str, entry: str, free: str, tmp_path: Path) -> None:
    with pytest.raises(QCompilerError) as caught:
        load_target(write(tmp_path, types, row))
    assert f"chip.toml, line 9: ops.{entry}.arithmetic: " in caught.value.problem
    assert caught.value.problem.endswith(f"needs scales that are powers of two, but those of {free!r} need not be")
    assert 'scale = "power-of-two"' in (caught.value.fix or "")
