"""Pipelines: text that parses and prints back, options, errors, and verification after each pass."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from float_programs import FloatProgram, N, run_passes

import qcompiler
from qcompiler.errors import QCompilerError
from qcompiler.ir import ConstantArray, Graph, TensorType, clone
from qcompiler.ir.scalar import F32
from qcompiler.ops.activation import Relu
from qcompiler.ops.binary import Mul
from qcompiler.ops.constant import Constant
from qcompiler.ops.contraction import Matmul
from qcompiler.pipeline import ALIASES, PASSES, Context, Pass, PassResult, Pipeline, compiler_pass, option
from qcompiler.target import load_target


@pytest.fixture
def spoilers() -> Iterator[None]:
    """Two passes that do wrong, registered for one test."""

    @compiler_pass("spoil-type")
    class SpoilType(Pass):
        """Leaves a malformed program."""

        def run(self, graph: Graph, context: Context) -> PassResult:
            node = next(graph.nodes)
            node.result.type = TensorType((7,), F32)
            return PassResult(graph, True)

    @compiler_pass("spoil-weights")
    class SpoilWeights(Pass):
        """Changes the meaning of a program."""

        factor: float = option(1.25, "what weights are multiplied by")
        twice: bool = option(False, "do it twice")

        def run(self, graph: Graph, context: Context) -> PassResult:
            for node in graph.nodes:
                if isinstance(node.op, Constant):
                    factor = self.factor**2 if self.twice else self.factor
                    node.set_op(Constant(ConstantArray(node.op.value.array * np.float32(factor))))
            return PassResult(graph, True)

    yield
    del PASSES["spoil-type"], PASSES["spoil-weights"]


TEXTS = [
    ("dce", "dce"), (" dce , cse ", "dce,cse"), ("", ""), ("calibrate{method=minmax}", "calibrate"),
    ("calibrate{cut-ratio=2}", "calibrate{cut-ratio=2.0}"), ("recognize{max-nodes=4}", "recognize{max-nodes=4}"),
    ("fold-constants{max-bytes=16},dce", "fold-constants{max-bytes=16},dce"), ("simplify", ALIASES["simplify"]),
]


@pytest.mark.parametrize(("text", "printed"), TEXTS)
def test_text_parses_and_prints_back(text: str, printed: str) -> None:
    pipeline = Pipeline.parse(text)
    assert str(pipeline) == printed
    assert Pipeline.parse(str(pipeline)) == pipeline


@pytest.mark.parametrize("name", sorted(PASSES))
def test_every_pass_has_a_reference_entry(name: str) -> None:
    assert Pipeline.parse(name).passes[0].options() == {
        f: getattr(PASSES[name](), f) for f in PASSES[name].__dataclass_fields__  # type: ignore[attr-defined]
    }
    assert PASSES[name].__doc__
    for field in PASSES[name].__dataclass_fields__.values():  # type: ignore[attr-defined]
        assert field.metadata["help"]


@pytest.mark.parametrize(
    ("text", "problem", "fix"),
    [
        ("dec", "unknown pass 'dec'", "dce"), ("simplifi", "unknown pass 'simplifi'", "simplify"),
        ("calibrate{methods=minmax}", "no option 'methods'", "method"),
        ("calibrate{method=minmex}", "unknown value 'minmex'", "minmax"),
        ("calibrate{cut-ratio=x}", "option 'cut-ratio'", ""), ("recognize{max-nodes=1.5}", "option 'max-nodes'", ""),
        ("calibrate{method}", "option 'method' of pass 'calibrate' has no value", ""),
        ("dce,,cse", "malformed pipeline", ""),
        ("dce;cse", "malformed pipeline", ""), ("calibrate{method=minmax", "malformed pipeline", ""),
        ("simplify{x=1}", "unknown pass 'simplify'", ""), ("dce{x=1}", "no option 'x'", ""),
    ],
)
def test_malformed_pipelines(text: str, problem: str, fix: str) -> None:
    with pytest.raises(QCompilerError, match=problem) as caught:
        Pipeline.parse(text)
    assert fix in str(caught.value.fix)


def test_a_pipeline_is_recorded() -> None:
    p = FloatProgram()
    graph = p.finish(p(Relu(), p.input(N, 4)))
    after = Pipeline.parse("cse,recognize{max-nodes=3}").run(clone(graph), Context())
    assert after.pipeline == "cse,recognize{max-nodes=3}"


def test_passes_that_need_a_target_say_so() -> None:
    p = FloatProgram()
    graph = p.finish(p(Relu(), p.input(N, 4)))
    for name in ("layout", "legalize", "annotate", "calibrate", "realize", "fuse-requantize", "verify-legal"):
        with pytest.raises(QCompilerError, match=f"pass '{name}' needs a target"):
            Pipeline.parse(name).run(clone(graph), Context())


@pytest.mark.usefixtures("spoilers")
def test_a_pass_that_leaves_a_malformed_program_is_named() -> None:
    p = FloatProgram()
    graph = p.finish(p(Relu(), p.input(N, 4), layer="act"))
    with pytest.raises(QCompilerError, match="layer 'act': pass 'spoil-type' left a malformed program"):
        Pipeline.parse("cse,spoil-type,dce").run(clone(graph), Context())


@pytest.mark.usefixtures("spoilers")
def test_boolean_options() -> None:
    assert str(Pipeline.parse("spoil-weights{twice=true factor=1.5}")) == "spoil-weights{factor=1.5 twice=true}"
    assert str(Pipeline.parse("spoil-weights{twice=false}")) == "spoil-weights"
    with pytest.raises(QCompilerError, match="option 'twice'"):
        Pipeline.parse("spoil-weights{twice=yes}")


@pytest.mark.usefixtures("spoilers")
def test_the_float_check_catches_a_pass_that_changes_meaning() -> None:
    p = FloatProgram()
    graph = p.finish(p(Matmul(), p(Mul(), p.input(N, 4), p.normal(1, 4)), p.normal(4, 3)))
    data = {"x": np.random.default_rng(0).normal(0, 1, (9, 4)).astype(np.float32)}
    pipeline = load_target("tpu-int8").descriptor.pipeline
    qcompiler.compile(graph, target="tpu-int8", data=data, check_float=True)
    for factor in ("1.25", "1.003"):
        spoiled = f"spoil-weights{{factor={factor}}},{pipeline}"
        with pytest.raises(QCompilerError, match="does not equal the float model"):
            qcompiler.compile(graph, target="tpu-int8", data=data, pipeline=spoiled, check_float=True)


def test_a_name_is_taken_once() -> None:
    with pytest.raises(QCompilerError, match="'dce' is defined twice"):
        compiler_pass("dce")(PASSES["cse"])
    assert PASSES["dce"] is not PASSES["cse"]
    assert PASSES["cse"].name == "cse"


def test_the_default_pipeline_runs_on_a_program_that_does_nothing() -> None:
    p = FloatProgram()
    graph = p.finish(p.input(N, 4))
    data = np.ones((2, 4), np.float32)
    compiled = qcompiler.compile(graph, target="tpu-int8", data=data)
    np.testing.assert_array_equal(compiled.run(data)["y0"], data)
    assert len(run_passes(graph, "simplify")) == 0
