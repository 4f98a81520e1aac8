"""What passes need is checked before any runs; what they leave, behind each."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from sample_passes import FLOAT, float_program, sample_passes

import qcompiler
from qcompiler.calibration.data import open_data
from qcompiler.errors import QCompilerError
from qcompiler.ir import Graph, clone, parse, print_graph, print_with_constants
from qcompiler.pipeline import PASSES, Context, Instrument, Pass, Pipeline, Stage, stage_of
from qcompiler.target import built_in_targets, load_target

SAMPLES = np.random.default_rng(0).normal(size=(6, 2)).astype(np.float32)

INDEX_ONLY = """// qir 1
graph @index(%x: i64[N,4]) -> (y: i64[4,N]) {
  %t = transpose %x {permutation = [1, 0]} -> i64[4,N]
  return %t
}
"""
NOTHING = """// qir 1
graph @nothing(%x: f32[N,4]) -> (y: f32[N,4]) {
  return %x
}
"""
CONSTANT = """// qir 1
graph @constant() -> (y: f32[2]) {
  %c = constant {value = dense<f32[2]>[1.0, -1.0]} -> f32[2] original("c") loc("c")
  %r = relu %c -> f32[2] original("r") loc("r")
  return %r
}
"""
UNUSED = """// qir 1
graph @unused(%x: f32[N,4]) -> (y: f32[N,4]) {
  %r = relu %x -> f32[N,4] original("r") loc("r")
  return %x
}
"""


@pytest.fixture(autouse=True)
def _passes() -> Iterator[None]:
    with sample_passes():
        yield


class Ran(Instrument):
    """Records which passes began."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def before_pass(self, index: int, current: Pass, graph: Graph) -> None:
        self.names.append(current.name)


def context(graph: Graph, *, data: bool = True) -> Context:
    return Context(load_target("tpu-int8"), open_data(SAMPLES, graph) if data else None)


def run(text: str) -> Graph:
    graph = float_program()
    return Pipeline.parse(text).run(graph, context(graph))


@pytest.mark.parametrize(
    ("passes", "stage"),
    [
        ("", Stage.FLOAT), ("simplify", Stage.FLOAT), ("annotate", Stage.ANNOTATED),
        ("annotate,calibrate", Stage.CALIBRATED), ("annotate,calibrate,calibrate", Stage.CALIBRATED),
        ("annotate,calibrate,realize", Stage.INTEGER),
        ("annotate,calibrate,realize,fuse-requantize,dce", Stage.INTEGER),
    ],
)
def test_the_stage_is_measured_from_the_program(passes: str, stage: Stage) -> None:
    graph = run(passes)
    assert stage_of(graph) is stage
    # A program that is read from a file, with or without its history, has the same.
    assert stage_of(parse(*print_with_constants(graph))) is stage
    graph.pipeline = ""
    assert stage_of(parse(*print_with_constants(graph))) is stage


def test_one_value_without_scale_makes_a_program_annotated() -> None:
    graph = run("annotate,calibrate")
    last = [node for node in graph.nodes if node.op.name == "fake_quant"][-1]
    last.set_op(last.op.replace(scale=None, zero_point=None))
    assert stage_of(graph) is Stage.ANNOTATED


@pytest.mark.parametrize(
    ("passes", "problem", "fix"),
    [
        ("realize", "pass 'realize' needs a calibrated program, and gets a float one",
         "run 'annotate,calibrate' before it"),
        ("annotate,dce,realize", "pass 'realize' needs a calibrated program, and gets an annotated one from 'annotate'",
         "run 'calibrate' before it"),
        ("calibrate", "pass 'calibrate' needs an annotated or calibrated program, and gets a float one",
         "run 'annotate' before it"),
        ("fuse-requantize", "pass 'fuse-requantize' needs an integer program, and gets a float one",
         "run 'annotate,calibrate,realize' before it"),
        ("annotate,calibrate,annotate",
         "pass 'annotate' needs a float program, and gets a calibrated one from 'calibrate'",
         "put it before 'annotate'"),
        ("annotate,calibrate,realize,calibrate",
         "pass 'calibrate' needs an annotated or calibrated program, and gets an integer one from 'realize'",
         "put it before 'realize'"),
        ("annotate,layout", "pass 'layout' needs a float program, and gets an annotated one from 'annotate'",
         "put it before 'annotate'"),
    ],
)
def test_the_first_pass_that_cannot_run_is_refused_before_any_runs(passes: str, problem: str, fix: str) -> None:
    graph, ran = float_program(), Ran()
    before = print_graph(graph)
    with pytest.raises(QCompilerError) as caught:
        Pipeline.parse(f"dce,{passes},cse,annotate").run(graph, context(graph), [ran])
    assert (caught.value.problem, caught.value.fix) == (problem, fix)
    assert ran.names == []
    assert print_graph(graph) == before


def test_the_stage_of_the_program_given_counts() -> None:
    calibrated = run("annotate,calibrate")
    Pipeline.parse("realize,fuse-requantize").check(calibrated, context(calibrated))
    with pytest.raises(QCompilerError, match="pass 'annotate' needs a float program") as caught:
        Pipeline.parse("annotate").check(calibrated, context(calibrated))
    assert caught.value.fix == "give an earlier stage of the program"


def test_pipelines_can_be_checked_without_a_program() -> None:
    ready = context(float_program())
    for name in built_in_targets():
        Pipeline.parse(load_target(name).descriptor.pipeline).check(Stage.FLOAT, ready)
    with pytest.raises(QCompilerError, match="needs a calibrated program"):
        Pipeline.parse("realize").check(Stage.FLOAT, ready)
    Pipeline.parse("realize").check(Stage.CALIBRATED, ready)


@pytest.mark.parametrize(
    "name", ["layout", "legalize", "annotate", "calibrate", "realize", "fuse-requantize", "verify-legal"]
)
def test_passes_that_need_a_target_say_so_before_any_runs(name: str) -> None:
    ran = Ran()
    with pytest.raises(QCompilerError, match=f"pass '{name}' needs a target"):
        Pipeline.parse(f"dce,{name}").run(float_program(), Context(), [ran])
    assert ran.names == []


def test_data_are_asked_for_before_any_pass_runs() -> None:
    graph, ran = float_program(), Ran()
    with pytest.raises(QCompilerError, match="pass 'calibrate' needs calibration data"):
        Pipeline.parse("dce,annotate,calibrate").run(graph, context(graph, data=False), [ran])
    assert ran.names == []


@pytest.mark.parametrize(
    ("needs", "leaves", "names"),
    [
        (Stage.FLOAT, None, ["canonicalize", "fold-batch-norm", "fold-pad", "recognize", "layout", "legalize"]),
        (Stage.FLOAT, Stage.ANNOTATED, ["annotate"]),
        (Stage.ANNOTATED | Stage.CALIBRATED, Stage.CALIBRATED, ["calibrate"]),
        (Stage.CALIBRATED, Stage.INTEGER, ["realize"]), (Stage.INTEGER, None, ["fuse-requantize"]),
        (Stage.ANY, None, ["cse", "dce", "fold-constants", "verify-legal"]),
    ],
)
def test_stages_of_the_built_in_passes(needs: Stage, leaves: Stage | None, names: list[str]) -> None:
    assert {(PASSES[name].needs, PASSES[name].leaves) for name in names} == {(needs, leaves)}


def test_declarations_of_the_built_in_passes() -> None:
    """Every pass that reads target or data declares it: run alone at its stage, without either, it is refused."""
    stages = {
        Stage.FLOAT: float_program(), Stage.ANNOTATED: run("annotate"), Stage.CALIBRATED: run("annotate,calibrate"),
        Stage.INTEGER: run("annotate,calibrate,realize"),
    }
    for name, cls in PASSES.items():
        if not cls.__module__.startswith("qcompiler."):
            continue
        for stage, graph in stages.items():
            if stage in cls.needs and not cls.needs_target:
                after = cls().run(clone(graph), Context()).graph
                assert stage_of(after) is (cls.leaves or stage), name
            elif stage in cls.needs:
                with pytest.raises(QCompilerError, match=f"pass {name!r} needs a target"):
                    cls().run(clone(graph), Context())


@pytest.mark.parametrize("name", sorted(built_in_targets()))
@pytest.mark.parametrize("text", [INDEX_ONLY, NOTHING, CONSTANT, UNUSED, FLOAT])
def test_programs_with_nothing_to_quantize_go_through_every_default_pipeline(name: str, text: str) -> None:
    graph = parse(text)
    data = {v.name: np.ones([3, *v.type.shape[1:]], v.type.storage.dtype) for v in graph.inputs}  # type: ignore[list-item]
    compiled = qcompiler.compile(graph, target=name, data=data or None, native=False)
    assert len(compiled.run(data)) == 1 if data else compiled.graph.outputs


def test_stages_of_a_program_with_nothing_to_quantize_follow_the_passes() -> None:
    graph = parse(INDEX_ONLY)
    ready = Context(load_target("tpu-int8"), open_data({"x": np.ones((2, 4), np.int64)}, graph))
    assert stage_of(graph) is Stage.FLOAT
    with pytest.raises(QCompilerError, match="needs a calibrated program"):
        Pipeline.parse("realize").run(graph, ready)
    graph = Pipeline.parse("annotate,calibrate,dce").run(graph, ready)
    assert stage_of(graph) is Stage.CALIBRATED
    # Read from a file, it goes on from there.
    assert stage_of(Pipeline.parse("realize,cse").run(parse(print_graph(graph)), ready)) is Stage.INTEGER


def test_folding_may_leave_nothing_quantized() -> None:
    graph = parse(CONSTANT.replace("()", "(%x: f32[N,2])", 1))
    after = Pipeline.parse("annotate,calibrate,realize,fold-constants,fuse-requantize,verify-legal").run(
        graph, context(graph)
    )
    assert [node.op.name for node in after.nodes] == ["constant"]
    assert stage_of(after) is Stage.INTEGER


def test_a_header_that_is_no_pipeline_says_nothing() -> None:
    graph = parse(NOTHING)
    graph.pipeline = "annotate,{{"
    assert stage_of(graph) is Stage.FLOAT
    graph.pipeline = "annotate,pass-of-a-plugin{x=1}"
    assert stage_of(graph) is Stage.ANNOTATED


@pytest.mark.parametrize(
    ("name", "found"),
    [("calibrate-nothing", "an annotated one"), ("strip-marks", "one without quantized types and fake_quant")],
)
def test_a_pass_that_leaves_another_stage_than_it_declares_is_named(name: str, found: str) -> None:
    ran = Ran()
    graph = float_program()
    with pytest.raises(QCompilerError, match=f"pass '{name}' leaves a program of another stage") as caught:
        Pipeline.parse(f"annotate,{name},dce").run(graph, context(graph), [ran])
    assert caught.value.expected == "a calibrated program"
    assert caught.value.found == found
    assert ran.names == ["annotate", name]


def test_a_pass_that_declares_nothing_must_keep_the_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PASSES["annotate"], "leaves", None)
    graph = float_program()
    with pytest.raises(QCompilerError, match="pass 'annotate' leaves a program of another stage") as caught:
        Pipeline.parse("annotate").run(graph, context(graph))
    assert (caught.value.expected, caught.value.found) == ("a float program", "an annotated one")


def test_removing_the_last_value_without_scale_is_no_lie() -> None:
    graph = run("annotate,calibrate")
    marks = [node for node in graph.nodes if node.op.name == "fake_quant"]
    unused = next(m for m in marks if not m.result.uses)
    unused.set_op(unused.op.replace(scale=None, zero_point=None))
    assert stage_of(graph) is Stage.ANNOTATED
    assert stage_of(Pipeline.parse("dce").run(graph, Context())) is Stage.CALIBRATED


def test_words_of_stages() -> None:
    assert Stage.ANY.words == "any"
    assert (Stage.ANNOTATED | Stage.CALIBRATED).words == "annotated or calibrated"
    assert Stage.FLOAT.words == "float"
