"""``qcompiler inspect --accumulators``."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import qcompiler
from cli.command_line import refuse, succeed
from qcompiler.analysis.accumulators import contraction_sums
from qcompiler.ir import walk
from qcompiler.ops.contraction import Contraction

TARGET = """schema = 1
extends = "tpu-int8"
name = "narrow"
summary = "tpu-int8 with narrow accumulators"
source = "a test"
pipeline = "simplify,legalize,simplify,annotate,calibrate,realize,fold-constants,narrow-accumulators,verify-legal"

[limits]
accumulator = { bits = 17, overflow = "forbidden", home = "i32" }
"""


@pytest.fixture
def build() -> str:
    succeed("compile", "model.onnx", "--target", "tpu-int8", "--data", "calib.npz", "-o", "build")
    return "build"


def test_the_table_names_layers_and_bits(build: str) -> None:
    table = succeed("inspect", build, "--accumulators")
    assert re.search(r"^layer +op +terms +bits worst case +bits calibrated +bits of target +how$", table, re.MULTILINE)
    assert re.search(r"^Conv_0 +conv2d +18 +\d\d +- +32 +fits$", table, re.MULTILINE)
    measured = succeed("inspect", build, "--accumulators", "--data", "calib.npz")
    assert re.search(r"^Conv_0 +conv2d +18 +\d\d +\d\d +32 +fits$", measured, re.MULTILINE)


def test_json_holds_the_bounds(build: str) -> None:
    rows = json.loads(succeed("inspect", build, "--accumulators", "--data", "calib.npz", "--json"))
    program = qcompiler.load(build)
    assert len(rows) == sum(isinstance(node.op, Contraction) for node in walk(program.graph)) == 2
    for row in rows:
        assert row["low"] <= row["seen_low"] <= 0 <= row["seen_high"] <= row["high"]
        assert row["calibrated_bits"] <= row["worst_case_bits"] <= row["accumulator_bits"] == 32
        assert -(2 ** (row["worst_case_bits"] - 1)) <= row["low"]
        assert row["high"] < 2 ** (row["worst_case_bits"] - 1)
        assert row["how"] == "fits"


def test_a_target_of_ones_own_is_named() -> None:
    Path("narrow.toml").write_text(TARGET)
    succeed("compile", "model.onnx", "--target", "narrow.toml", "--data", "calib.npz", "-o", "split")
    unknown = succeed("inspect", "split", "--accumulators")
    assert "target unknown" in unknown
    rows = json.loads(succeed("inspect", "split", "--accumulators", "--target", "narrow.toml", "--json"))
    conv = next(row for row in rows if row["op"] == "conv2d")
    assert conv["worst_case_bits"] > 17
    assert conv["how"] == f"split into {len(conv['parts'])}"
    assert sum(conv["parts"]) == conv["terms"] == 18
    assert (conv["accumulator_bits"], conv["home_bits"]) == (17, 32)


@pytest.mark.parametrize(
    ("overflow", "how"),
    [('"forbidden"', "does not fit: "), ('"saturate", proof = "calibrated"', "saturates only for inputs never seen")],
)
def test_what_does_not_fit_is_said(build: str, overflow: str, how: str) -> None:
    rows = json.loads(succeed("inspect", build, "--accumulators", "--data", "calib.npz", "--json"))
    bits = rows[0]["calibrated_bits"]
    text = TARGET.replace('bits = 17, overflow = "forbidden", home = "i32"', f"bits = {bits}, overflow = {overflow}")
    Path("other.toml").write_text(text)
    table = succeed("inspect", build, "--accumulators", "--data", "calib.npz", "--target", "other.toml")
    assert how in table
    program = qcompiler.load(build)
    wide = [n for n in walk(program.graph) if isinstance(n.op, Contraction)]
    assert contraction_sums(wide[0]).all.bits > bits


def test_weights_made_coarser_show() -> None:
    home = TARGET.replace(', home = "i32"', "").replace(",narrow-accumulators", "")
    Path("narrow.toml").write_text(home.replace("calibrate,", "calibrate,narrow-accumulators,"))
    result = qcompiler.compile("model.onnx", target="narrow.toml", data="calib.npz")
    assert "'Conv_0" in result.warnings[0]
    result.save("coarse")
    table = succeed("inspect", "coarse", "--accumulators", "--target", "narrow.toml")
    assert re.search(r"^Conv_0.* fits, shift raised by \d(\.\d)? bits$", table, re.MULTILINE)


def test_a_program_without_sums() -> None:
    assert "no sums of products" in succeed("inspect", "model.onnx", "--accumulators")


def test_options_that_do_not_go_together(build: str) -> None:
    accumulators = ("inspect", build, "--accumulators")
    refuse(*accumulators, "--text", naming=("--accumulators does not go with --text",))
    refuse(*accumulators, "--value", "x", naming=("--accumulators does not go with --value",))
    refuse(*accumulators, "--html", "x.html", naming=("--accumulators does not go with --html",))
    refuse(*accumulators, "--target", "nonsense", naming=("unknown target 'nonsense'",))
    refuse("inspect", build, "--target", "tpu-int8", naming=("--target belongs to --accumulators",))
