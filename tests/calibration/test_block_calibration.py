"""Calibration of block floating point: cheap, and without a word of slow ops."""

from __future__ import annotations

import math
from typing import Any

import models
import numpy as np
import pytest
from numpy.typing import NDArray

import qcompiler
from qcompiler import plugins
from qcompiler.backends.ort import Bypass, FloatSession
from qcompiler.calibration import data
from qcompiler.compilation import read_model
from qcompiler.errors import QCompilerError
from qcompiler.ir import Graph, clone
from qcompiler.ops.activation import Clip
from qcompiler.ops.block_conversion import FakeBlock
from qcompiler.passes import calibrate
from qcompiler.pipeline import Context, Instrument, Pass, Pipeline
from qcompiler.target import load_target

Array = NDArray[Any]
plugins.load()
TARGETS = ["dsp-bfp16", "npu-bfp16", "mx-int8"]
NO_TABLE, TABLE = "residual_cnn", "branching_net"
"""Networks without and with a function that becomes a table, whose operand needs a fixed exponent."""


def annotated(name: str, target: str) -> Graph:
    graph = clone(read_model(models.model(name)))
    return Pipeline.parse("simplify,legalize,simplify,annotate").run(graph, Context(load_target(target)))


def calibrated(name: str, target: str, samples: dict[str, Array]) -> Graph:
    graph = annotated(name, target)
    context = Context(load_target(target), data.open_data(samples, graph))
    return Pipeline.parse("calibrate").run(graph, context)


@pytest.mark.parametrize("target", TARGETS)
def test_no_data_are_run_where_no_exponent_is_fixed(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def run_nothing(*arguments: Any) -> None:
        raise AssertionError("the data were run")

    monkeypatch.setattr(calibrate, "observe", run_nothing)
    graph = calibrated(NO_TABLE, target, models.samples(NO_TABLE, 3))
    marks = [n.op for n in graph.nodes if isinstance(n.op, FakeBlock)]
    assert marks
    assert all(mark.is_calibrated and not mark.is_fixed for mark in marks)
    with pytest.raises(AssertionError, match="the data were run"):
        calibrated(TABLE, target, models.samples(TABLE, 3))


@pytest.mark.parametrize("target", TARGETS)
def test_fixed_exponents_come_from_the_float_program_in_onnx_runtime(
    target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qcompiler.backends.ort.FloatInterpreter", None)
    feeds = models.samples(TABLE, 9)
    graph = calibrated(TABLE, target, feeds)
    fixed = [n for n in graph.nodes if isinstance(n.op, FakeBlock) and n.op.is_fixed]
    assert fixed
    session = FloatSession(
        graph, [n.operands[0] for n in fixed], bypass=Bypass(weights=True, activations=True)
    )
    for node, seen in zip(fixed, session.run(feeds), strict=True):
        assert isinstance(node.op, FakeBlock)
        exponent, largest = node.op.exponent, float(np.abs(seen).max())
        assert exponent is not None
        # 16 bits hold it at this exponent, and not at the next smaller one.
        assert round(largest / 2.0**exponent) <= 32767 < round(largest / 2.0 ** (exponent - 1))


@pytest.mark.parametrize("name", [NO_TABLE, TABLE])
def test_nobody_is_told_of_slow_ops(name: str) -> None:
    program = qcompiler.compile(
        models.model(name), target="npu-bfp16", data=models.samples(name, 6), check_float=True, native=False
    )
    assert program.warnings == []
    figures = program.figures["check_float"]
    assert min(figures["bypassed_db"], figures["wide_db"]) > 100
    assert math.isfinite(min(program.figures["sqnr_db"].values()))


def test_the_float_check_finds_a_program_that_changed() -> None:
    class Spoil(Instrument):
        def after_pass(self, index: int, current: Pass, graph: Graph, changed: bool) -> None:
            if current.name == "annotate":
                next(n for n in graph.nodes if n.op.name == "relu").set_op(Clip(0.0, 0.1))

    with pytest.raises(QCompilerError, match="simulation with quantization bypassed does not equal the float model"):
        qcompiler.compile(
            models.model(NO_TABLE), target="npu-bfp16", data=models.samples(NO_TABLE, 6), check_float=True,
            native=False, instruments=[Spoil()],
        )
