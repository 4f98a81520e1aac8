"""Compare names the pass and the layer that moved the numbers: sabotaged passes on two networks, random layers."""

from __future__ import annotations

import gc
import math
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import models
import numpy as np
import pytest
from numpy.typing import NDArray

import qcompiler
from qcompiler import plugins
from qcompiler.analysis.requantization import requantize_constants
from qcompiler.backends import reference
from qcompiler.calibration.data import open_data
from qcompiler.compare import activations
from qcompiler.compilation import read_model
from qcompiler.errors import QCompilerError
from qcompiler.ir import (
    Affine,
    Arithmetic,
    Builder,
    ConstantArray,
    Constants,
    Graph,
    Node,
    Original,
    Value,
    clone,
    parse,
    verify,
    walk,
)
from qcompiler.ir.scalar import F32, I8
from qcompiler.ir.types import TensorType
from qcompiler.ops.activation import Clip
from qcompiler.ops.constant import Constant
from qcompiler.ops.contraction import Contraction, Matmul
from qcompiler.ops.quantization import Clamp, Dequantize, FakeQuant, Quantize, Requantize
from qcompiler.ops.shape import Transpose
from qcompiler.pass_comparison import Compare, ComparisonReport, IntegerChange, ValueComparison
from qcompiler.pass_comparison.report import HEADER
from qcompiler.pipeline import Context, Instrument, Pass, PassResult, Pipeline
from qcompiler.target import load_target

Array = NDArray[Any]
Rng = np.random.Generator
NETWORKS = ["depthwise_net", "mnist_dscnn"]
plugins.load()
TARGET = load_target("tpu-int8")


@cache
def network(name: str) -> tuple[Graph, dict[str, Array]]:
    """A float program and calibration samples."""
    if name in models.MODELS:
        return read_model(models.model(name)), models.samples(name, 24)
    folder = Path(str(resources.files("qcompiler.demo")))
    with np.load(folder / "mnist.npz") as archive:
        samples = archive["calibration"][:24].astype(np.float32) / 255
    return read_model(folder / "mnist_dscnn.onnx"), {"x": samples}


def passes_with(extra: Pass | None, after: str) -> list[Pass]:
    """The target's pipeline with a pass behind the last one called ``after``; then without ``verify-legal``.

    That pass refuses constants of a requantize that do not follow from its scales.
    """
    passes = list(Pipeline.parse(TARGET.descriptor.pipeline).passes)
    if extra:
        passes = [current for current in passes if current.name != "verify-legal"]
        last = max(i for i, current in enumerate(passes) if current.name == after)
        passes.insert(last + 1, extra)
    return passes


def watch(name: str, passes: list[Pass]) -> ComparisonReport:
    """Run passes under Compare. Without the verifier, which refuses some of the sabotage."""
    original, data = network(name)
    context = Context(TARGET, open_data(data, original))
    graph = clone(original)
    compare = Compare(data)
    compare.begin(graph, passes)
    for index, current in enumerate(passes):
        compare.before_pass(index, current, graph)
        result = current.run(graph, context)
        graph = result.graph
        compare.after_pass(index, current, graph, result.changed)
    compare.end(graph)
    return compare.report


@dataclass(frozen=True)
class Spoiled:
    """What a sabotage did: the layers of the node that it spoiled, and the first original value behind it."""

    layers: tuple[str, ...]
    value: str


Spoil = Callable[[Graph, Rng], Spoiled]


def sabotage(spoil: Spoil, rng: Rng, done: list[Spoiled]) -> Pass:
    """A pass that spoils one layer."""

    @dataclass(frozen=True)
    class Sabotage(Pass):
        name = "sabotage"

        def run(self, graph: Graph, context: Context) -> PassResult:
            done.append(spoil(graph, rng))
            return PassResult(graph, True)

    return Sabotage()


def spoiled(node: Node) -> Spoiled:
    value = node.result
    while not isinstance(value.origin, Original):
        (user,) = value.users
        value = user.result
    return Spoiled(node.loc, value.origin.name)


def pick(nodes: list[Node], rng: Rng) -> Node:
    assert nodes
    return nodes[rng.integers(len(nodes))]


def contraction(graph: Graph, rng: Rng, with_bias: bool = False) -> tuple[Node, list[Value]]:
    """A random contraction with constant weights, and its operands outside of any fused body."""
    found = []
    for outer in graph.nodes:
        body = getattr(outer.op, "body", None)
        for node in body.nodes if isinstance(body, Graph) else [outer]:
            if not isinstance(node.op, Contraction) or (with_bias and len(node.operands) < 3):
                continue
            inside = body.inputs if isinstance(body, Graph) else []
            found.append((node, [outer.operands[inside.index(v)] if v in inside else v for v in node.operands]))
    assert found
    return found[rng.integers(len(found))]


def set_constant(value: Value, change: Callable[[Array], Array]) -> None:
    """Change a constant, or the one behind a fake_quant."""
    node = value.producer
    assert node is not None
    if isinstance(node.op, FakeQuant):
        node = node.operands[0].producer
    assert node is not None
    assert isinstance(node.op, Constant)
    before = node.op.value.array
    after = change(before.copy())
    assert not np.array_equal(before, after)
    node.set_op(Constant(ConstantArray(after)))


def drop_bias(graph: Graph, rng: Rng) -> Spoiled:
    node, operands = contraction(graph, rng, with_bias=True)
    set_constant(operands[2], np.zeros_like)
    return spoiled(node)


def swap_channels(graph: Graph, rng: Rng) -> Spoiled:
    node, operands = contraction(graph, rng)
    assert isinstance(node.op, Contraction)
    axis = node.op.weight_channel_axis(operands[1].type.rank)

    def swap(weights: Array) -> Array:
        channels = np.moveaxis(weights, axis, 0)
        first, second = rng.choice(len(channels), 2, replace=False)
        channels[[first, second]] = channels[[second, first]]
        return weights

    set_constant(operands[1], swap)
    return spoiled(node)


def move_clip(graph: Graph, rng: Rng) -> Spoiled:
    node = pick([n for n in graph.nodes if isinstance(n.op, Clip)], rng)
    assert isinstance(node.op, Clip)
    moved = {"maximum": 1.0} if rng.integers(2) else {"minimum": 0.125}
    node.set_op(node.op.replace(**moved))
    return spoiled(node)


def move_clamp(graph: Graph, rng: Rng) -> Spoiled:
    node = pick([n for n in walk(graph) if isinstance(n.op, Clamp)], rng)
    op = node.op
    assert isinstance(op, Clamp)
    lower = Clamp(op.minimum, (op.minimum + op.maximum) // 2)
    # A step from the lower bound: what was zero is one.
    node.set_op(lower if rng.integers(2) else Clamp(op.minimum + 1, op.maximum))
    return spoiled(node)


def scale_fake_quant(graph: Graph, rng: Rng) -> Spoiled:
    marks = [n for n in graph.nodes if isinstance(n.op, FakeQuant) and n.operands[0].producer is not None]
    node = pick(marks, rng)
    assert isinstance(node.op, FakeQuant)
    assert node.op.scale is not None
    node.set_op(node.op.replace(scale=ConstantArray(node.op.scale.array * np.float32(1.5))))
    if isinstance(node.operands[0].producer.op, Constant):  # type: ignore[union-attr]
        # A weight stands for no computed value: what its contraction computes moves.
        return spoiled(node.result.users[0])
    return spoiled(node)


def requantizes(graph: Graph) -> list[Node]:
    return [n for n in walk(graph) if isinstance(n.op, Requantize)]


def scale_requantize(graph: Graph, rng: Rng) -> Spoiled:
    node = pick(requantizes(graph), rng)
    assert isinstance(node.op, Requantize)
    arrays = node.op.constants.arrays()
    multiplier = arrays["multiplier"].astype(np.int64) * 3 // 4
    node.set_op(node.op.replace(constants=Constants({**arrays, "multiplier": multiplier.astype(np.int32)})))
    return spoiled(node)


def feeds_of(graph: Graph) -> dict[str, Array]:
    """The samples on which Compare runs a program of one of the networks."""
    name = "mnist_dscnn" if graph.inputs[0].name == "x" else "depthwise_net"
    return {key: array[:8] for key, array in network(name)[1].items()}


def stored(graph: Graph) -> dict[str, Array]:
    """Stored integers by original name; those at the end of a kernel win."""
    found = {}

    def observe(value: Value, tensor: Any) -> None:
        if isinstance(value.origin, Original) and tensor.data.dtype == np.int8:
            found[value.origin.name] = tensor.data

    reference.run(graph, feeds_of(graph), observe)
    return found


def change_rounding(graph: Graph, rng: Rng) -> Spoiled:
    """Another rounding in one requantize, such that some integer of its layer changes."""
    before = stored(graph)
    nodes = requantizes(graph)
    for index in rng.permutation(len(nodes)):
        node = nodes[index]
        op = node.op
        assert isinstance(op, Requantize)
        arrays = op.constants.arrays()
        forms = [op.replace(arithmetic=Arithmetic("single")), op.replace(arithmetic=Arithmetic("ruy"))]
        for exponent in (0, 6, 12):
            nudged = (arrays["multiplier"] + (1 << exponent)).astype(np.int32)
            forms.append(op.replace(constants=Constants({**arrays, "multiplier": nudged})))
        for form in rng.permutation(len(forms)):
            node.set_op(forms[form])
            verify(graph)
            found = spoiled(node)
            if not np.array_equal(before[found.value], stored(graph)[found.value]):
                return found
        node.set_op(op)
    raise AssertionError("no rounding changes an integer")


FLOAT = [drop_bias, swap_channels, move_clip]
INTEGER = [scale_requantize, drop_bias, swap_channels, move_clamp, change_rounding]
CASES: list[tuple[str, Spoil]] = [
    *(("fold-pad", s) for s in FLOAT), *(("legalize", s) for s in FLOAT),
    *(("calibrate", s) for s in (*FLOAT, scale_fake_quant)),
    *(("realize", s) for s in INTEGER), *(("fuse-requantize", s) for s in INTEGER),
]


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(("after", "spoil"), CASES, ids=[f"{a}-{s.__name__}" for a, s in CASES])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_sabotaging_pass_and_its_layer_are_named_and_no_other(
    name: str, after: str, spoil: Spoil, seed: int
) -> None:
    done: list[Spoiled] = []
    rng = np.random.default_rng([seed, *f"{name}{after}{spoil.__name__}".encode()])
    report = watch(name, passes_with(sabotage(spoil, rng, done), after))
    # calibrate introduces rounding; it is there in every report.
    assert sorted(p.name for p in report.moving) == ["calibrate", "sabotage"], report
    (entry,) = (p for p in report.moving if p.name == "sabotage")
    (root,) = entry.roots
    assert root.name == done[0].value
    assert set(done[0].layers) <= set(root.layers)
    assert not entry.introduces_rounding
    assert list(entry.named()) == [root]
    assert f"sabotage: {root}" in str(report)
    assert root.name in str(root)
    assert all(layer in str(root) for layer in done[0].layers)
    assert next(row[:4] for row in report.rows() if row[1] == "sabotage") == (
        f"{entry.number:03d}", "sabotage", " + ".join(root.layers), root.name
    )


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", NETWORKS)
def test_a_rounding_that_differs_in_the_last_place_is_counted_exactly(name: str, seed: int) -> None:
    rng = np.random.default_rng([seed, *name.encode()])
    programs: list[Graph] = []
    done: list[Spoiled] = []

    def spoil(graph: Graph, rng: Rng) -> Spoiled:
        programs.append(clone(graph))
        found = change_rounding(graph, rng)
        programs.append(clone(graph))
        return found

    report = watch(name, passes_with(sabotage(spoil, rng, done), "fuse-requantize"))
    (entry,) = (p for p in report.moving if p.name == "sabotage")
    (root,) = entry.roots
    before, after = (stored(program)[root.name].astype(int) for program in programs)
    difference = np.abs(after - before)
    assert root.integers == IntegerChange(int(np.count_nonzero(difference)), before.size, 1)
    assert difference.max() == 1
    # So small a change that the error against float hardly shows it.
    assert abs(root.after_db - root.before_db) < 1
    assert str(root.integers) in str(report)


@pytest.mark.parametrize("name", [*models.MODELS, "mnist_dscnn"])
def test_of_the_targets_passes_only_calibrate_moves_anything(name: str) -> None:
    report = watch(name, passes_with(None, ""))
    assert [p.name for p in report.moving] == ["calibrate"], str(report)
    (entry,) = report.moving
    assert entry.introduces_rounding
    assert all(v.before_db > 100 for v in entry.roots)
    assert all(20 < v.after_db < 60 for v in entry.roots)
    assert len(report.passes) == len(passes_with(None, ""))
    assert [p.index for p in report.passes] == list(range(len(report.passes)))
    # Each pass starts where the one before it ended.
    for first, second in zip(report.passes, report.passes[1:], strict=False):
        ended = {v.name: v.after_db for v in first.values}
        if not second.introduces_rounding:
            assert {v.name: v.before_db for v in second.values}.items() <= ended.items()
    outputs = {o.value.origin.name for o in network(name)[0].outputs if isinstance(o.value.origin, Original)}
    assert outputs <= {v.name for v in report.passes[-1].values}


def spoiling(base: str, spoil: Spoil, rng: Rng, done: list[Spoiled]) -> Pass:
    """The pass ``base`` with a mistake in it."""
    (inner,) = Pipeline.parse(base).passes

    @dataclass(frozen=True)
    class Mistaken(Pass):
        name = "mistaken"

        def run(self, graph: Graph, context: Context) -> PassResult:
            result = inner.run(graph, context)
            done.append(spoil(result.graph, rng))
            return result

    return Mistaken()


def coarse_activation(graph: Graph, rng: Rng) -> Spoiled:
    node = pick([n for n in graph.nodes if isinstance(n.op, FakeQuant) and n.op.is_calibrated
                 and n.operands[0].producer is not None and not isinstance(n.operands[0].producer.op, Constant)
                 and n.loc and n.op.fixed_scale is None], rng)
    assert isinstance(node.op, FakeQuant)
    assert node.op.scale is not None
    node.set_op(node.op.replace(scale=ConstantArray(node.op.scale.array * np.float32(16))))
    return spoiled(node)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(("base", "spoil"), [("calibrate", coarse_activation), ("realize", scale_requantize)])
def test_a_mistake_of_a_pass_that_moves_values_by_nature_is_named(
    name: str, base: str, spoil: Spoil, seed: int
) -> None:
    done: list[Spoiled] = []
    rng = np.random.default_rng([seed, *f"{name}{base}".encode()])
    mistaken = spoiling(base, spoil, rng, done)
    passes = [mistaken if p.name == base else p for p in passes_with(None, "") if p.name != "verify-legal"]
    report = watch(name, passes)
    (entry,) = (p for p in report.moving if p.name == "mistaken")
    named = {v.name: v for v in entry.named()}
    assert done[0].value in named, str(report)
    assert set(done[0].layers) <= set(named[done[0].value].layers)
    if base == "realize":
        assert [v.name for v in entry.roots] == [done[0].value]


def test_two_sabotaged_layers_are_two_roots_where_neither_feeds_the_other() -> None:
    original, data = models.model("two_inputs_fixed_batch"), models.samples("two_inputs_fixed_batch", 24)
    graph = read_model(original)
    compare = Compare(data)
    compare.begin(graph, [])
    layers = [n for n in graph.nodes if isinstance(n.op, Contraction)]
    for node in layers[:2]:
        set_constant(node.operands[2], np.zeros_like)
    compare.after_pass(0, Pipeline.parse("dce").passes[0], graph, True)
    (entry,) = compare.report.passes
    assert [v.name for v in entry.roots] == [spoiled(n).value for n in layers[:2]]
    assert len(entry.moved) > 2
    assert "more moved behind them" in str(entry)


def watched(graph: Graph, change: Callable[[Graph], None], samples: Mapping[str, Array]) -> ComparisonReport:
    """One pass that changes ``graph`` in place."""
    compare = Compare(dict(samples), samples=len(next(iter(samples.values()))))
    compare.begin(graph, [])
    change(graph)
    compare.after_pass(0, Pipeline.parse("dce").passes[0], graph, True)
    return compare.report


def product(weights: Array) -> Graph:
    """y = x @ weights."""
    graph = Graph()
    x = graph.add_input("x", TensorType((4, len(weights)), F32), Original("x"))
    build = Builder(graph)
    constant = build(Constant(ConstantArray(weights)), elem=F32)
    graph.set_outputs([("y", build(Matmul(), x, constant, loc=("layer",), origin=Original("y")))])
    return graph


@pytest.mark.parametrize(("decibels", "moved"), [(70, True), (78, True), (82, False), (100, False)])
def test_float_noise_is_no_movement(decibels: float, moved: bool) -> None:
    rng = np.random.default_rng(5)
    weights = rng.normal(0, 1, (8, 8)).astype(np.float32)
    factor = np.float32(1 + 10 ** (-decibels / 20))

    def change(graph: Graph) -> None:
        set_constant(next(n for n in graph.nodes if isinstance(n.op, Matmul)).operands[1], lambda w: w * factor)

    report = watched(product(weights), change, {"x": rng.normal(0, 1, (4, 8)).astype(np.float32)})
    (entry,) = report.passes
    assert [v.name for v in entry.moved] == (["y"] if moved else [])
    assert {v.name: v.after_db for v in entry.values}["y"] == pytest.approx(decibels, abs=2)
    assert str(report).startswith("001 dce: 7" if moved else "no pass moved a value")


def test_what_is_no_number_has_moved() -> None:
    weights = np.ones((8, 8), np.float32)

    def change(graph: Graph) -> None:
        set_constant(next(n for n in graph.nodes if isinstance(n.op, Matmul)).operands[1], lambda w: w * np.nan)

    report = watched(product(weights), change, {"x": np.ones((4, 8), np.float32)})
    assert [v.name for v in report.passes[0].roots] == ["y"]
    assert str(report) == "001 dce: not a number at y in layer (was exact)"


def test_infinities_that_stay_have_not_moved() -> None:
    weights = np.full((8, 8), np.inf, np.float32)
    weights[0] = -np.inf
    weights[:, 1] = 1

    def change(graph: Graph) -> None:
        node = next(n for n in graph.nodes if isinstance(n.op, Matmul))
        node.loc = ("renamed",)

    report = watched(product(weights), change, {"x": np.ones((4, 8), np.float32)})
    assert not report.moving
    assert {v.after_db for v in report.passes[0].values} == {math.inf}


def test_a_program_that_does_not_run_is_reported_and_the_comparison_goes_on() -> None:
    graph, data = clone(network("depthwise_net")[0]), network("depthwise_net")[1]
    compare = Compare(data)
    compare.begin(graph, [])
    dce = Pipeline.parse("dce").passes[0]
    broken = clone(graph)
    # The samples no longer fit.
    broken.inputs[0].type = TensorType((7, *broken.inputs[0].type.shape[1:]), F32)
    compare.after_pass(0, dce, broken, True)
    compare.after_pass(1, dce, graph, True)
    first, second = compare.report.passes
    assert "does not run" in first.problem
    assert not second.problem
    assert not second.moved
    assert compare.report.moving == (first,)
    assert str(compare.report).startswith("001 dce: the program does not run: ")
    (row,) = compare.report.rows()
    assert (row[0], row[1], row[-1]) == ("001", "dce", first.problem)


def test_what_rounding_hides_has_moved_before_it() -> None:
    rng = np.random.default_rng(6)
    graph = product(rng.normal(0, 1, (8, 8)).astype(np.float32))
    (output,) = graph.outputs
    mark = FakeQuant(I8, -128, 127, scale=ConstantArray(np.float32(100)), zero_point=ConstantArray(np.int64(0)))
    graph.set_outputs([("y", Builder(graph, loc=("mark",))(mark, output.value, origin=Original("y")))])

    def change(graph: Graph) -> None:
        set_constant(next(n for n in graph.nodes if isinstance(n.op, Matmul)).operands[1], lambda w: w * 1.001)

    report = watched(graph, change, {"x": rng.normal(0, 1, (4, 8)).astype(np.float32)})
    (root,) = report.passes[0].roots
    # The original holds y behind its rounding; there it is still exact.
    assert (root.name, root.layers, root.after_db) == ("y", ("layer",), math.inf)


def test_integers_are_compared_in_the_axis_order_of_the_original() -> None:
    graph = Graph()
    x = graph.add_input("x", TensorType((2, 3, 4), F32), Original("x"))
    build = Builder(graph)
    held = build(
        Quantize(Arithmetic("affine", (("rounding", "half-even"),))), x, elem=Affine.per_tensor(I8, 0.5, 3),
        loc=("layer",), origin=Original("q"),
    )
    end = build(Dequantize(), held, origin=Original("q"))
    graph.set_outputs([("y", end)])

    def change(graph: Graph) -> None:
        assert end.producer is not None
        moved = Builder(graph, end.producer)(
            Transpose((2, 0, 1)), held, origin=Original("q").transposed((2, 0, 1)), loc=("layer",)
        )
        graph.set_outputs([("y", Builder(graph)(Dequantize(), moved, origin=moved.origin))])
        graph.erase(end.producer)
        verify(graph)

    rng = np.random.default_rng(7)
    report = watched(graph, change, {"x": rng.normal(0, 8, (2, 3, 4)).astype(np.float32)})
    assert not report.moving, str(report)
    (entry,) = (v for v in report.passes[0].values if v.name == "q")
    assert entry.layers == ("layer",)


def test_in_a_chain_of_layers_each_inherits_the_noise_of_the_one_before() -> None:
    report = watch("mnist_dscnn", passes_with(None, ""))
    (entry,) = (p for p in report.passes if p.name == "calibrate")
    assert entry.values[0].sources_db == math.inf
    for before, value in zip(entry.values, entry.values[1:], strict=False):
        assert value.sources_db == before.after_db, value
        assert value.loss_db == max(before.after_db - value.after_db, 0)
    assert [v.loss_db for v in entry.losses] == sorted((v.loss_db for v in entry.losses), reverse=True)


def test_an_integer_type_that_changes_is_compared_by_its_real_numbers() -> None:
    """A result at a coarser scale is the same to within rounding, and has moved."""
    name = "mnist_dscnn"
    original, data = network(name)
    integer = qcompiler.compile(original, target="tpu-int8", data=data).graph
    compare = Compare(data, original)
    compare.begin(integer, [])
    program = clone(integer)
    last = list(program.nodes)[-1]
    build = Builder(program, last, ("output",))
    held = last.operands[0]
    elem = held.type.elem
    assert isinstance(elem, Affine)
    coarse = Affine.per_tensor(elem.storage, 2 * float(elem.scale.array), 0)
    form = Requantize(Arithmetic("double"))
    op = form.replace(constants=Constants(requantize_constants(form.form(), held, coarse)))
    last.set_operand(0, build(op, held, elem=coarse, origin=held.origin))
    verify(program)
    compare.after_pass(0, Pipeline.parse("dce").passes[0], program, True)
    (root,) = compare.report.passes[0].roots
    assert (root.name, root.layers, root.integers) == ("y", ("output",), None)
    assert 20 < root.after_db < root.before_db < 60


def test_passes_that_change_nothing_are_not_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, data = network("depthwise_net")
    compare = Compare(data)
    compare.begin(graph, [])
    monkeypatch.setattr("qcompiler.pass_comparison.instrument.measure", None)
    dce = Pipeline.parse("dce").passes[0]
    compare.after_pass(0, dce, graph, False)
    (entry,) = compare.report.passes
    assert not entry.moved
    assert len(entry.values) == len(activations(graph))
    assert {v.before_db for v in entry.values} == {math.inf}


def test_no_program_is_kept() -> None:
    original, data = network("depthwise_net")
    graph = clone(original)
    compare = Compare(data)
    compare.begin(graph, [])
    compare.after_pass(0, Pipeline.parse("dce").passes[0], graph, True)
    gone = weakref.ref(graph)
    del graph
    gc.collect()
    assert gone() is None
    assert compare.report.passes[0].values


def test_samples_that_do_not_fit_are_refused() -> None:
    with pytest.raises(QCompilerError, match="lack input 'image'"):
        Compare({"picture": np.ones((2, 3, 12, 12), np.float32)}).begin(network("depthwise_net")[0], [])


def test_a_pipeline_runs_under_compare() -> None:
    original, data = network("depthwise_net")
    compare = Compare(iter([{"image": data["image"][:4]}, {"image": data["image"][4:]}]), samples=5)
    rng, done = np.random.default_rng(11), list[Spoiled]()
    passes = passes_with(sabotage(swap_channels, rng, done), "legalize")
    # The samples come from an iterator, which a second run cannot read again.
    for _ in range(2):
        Pipeline(tuple(passes)).run(clone(original), Context(TARGET, open_data(data, original)), (compare,))
        assert len(compare.report.passes) == len(passes)
    assert [p.name for p in compare.report.moving] == ["sabotage", "calibrate"]
    assert [v.name for v in compare.report.moving[0].roots] == [done[-1].value]
    assert compare.report.samples == 5


def test_the_table_names_what_moved() -> None:
    rng, done = np.random.default_rng(2), list[Spoiled]()
    report = watch("mnist_dscnn", passes_with(sabotage(drop_bias, rng, done), "fuse-requantize"))
    rows = [dict(zip(HEADER, row, strict=True)) for row in report.rows()]
    (row,) = (row for row in rows if row["pass"] == "sabotage" and row["what moved"].startswith("moved first"))
    assert row["value"] == done[0].value
    assert done[0].layers[0] in row["layers"]
    assert "integers changed, by at most" in row["what moved"]
    assert any(row["pass"] == "calibrate" and row["before"] == "exact" for row in rows)
    assert ComparisonReport(()).rows() == []
    assert str(ComparisonReport(())) == "no pass moved a value"


def test_the_title_says_what_the_decibels_refer_to() -> None:
    original, data = network("depthwise_net")
    stages: list[Graph] = []

    class Keep(Instrument):
        def after_pass(self, index: int, current: Pass, graph: Graph, changed: bool) -> None:
            if current.name in ("calibrate", "realize"):
                stages.append(clone(graph))

    passes = "simplify,legalize,annotate,calibrate,realize"
    Pipeline.parse(passes).run(clone(original), Context(TARGET, open_data(data, original)), [Keep()])
    titles = []
    for start in (original, *stages):
        compare = Compare(data, samples=3)
        Pipeline.parse("dce").run(clone(start), Context(), [compare])
        titles.append(compare.report.title)
    given = Compare(data, original, samples=3)
    Pipeline.parse("dce").run(clone(stages[-1]), Context(), [given])
    assert titles == [
        f"SQNR to the {kind} program at the start on 3 samples, by pass" for kind in ("float", "simulated", "integer")
    ]
    assert given.report.title == "SQNR to the float original on 3 samples, by pass"


def test_losses_are_those_of_the_layer_itself() -> None:
    assert ValueComparison("v", (), math.inf, 30, sources_db=42).loss_db == 12
    assert ValueComparison("v", (), math.inf, 45, sources_db=42).loss_db == 0
    assert ValueComparison("v", (), math.inf, math.inf).loss_db == 0
    assert str(ValueComparison("v", ("a", "b"), math.inf, -math.inf)) == "no signal at v in a + b (was exact)"


def test_a_sum_that_is_held_in_the_range_of_its_relu_did_not_move() -> None:
    """Most of the sum is cut off, and so is the signal that its error is measured against."""
    graph = parse("""// qir 1
graph @residual(%a: f32[N,256] original("a"), %b: f32[N,256] original("b")) -> (y: f32[N,256]) {
  %s = add %a, %b -> f32[N,256] original("sum") loc("add")
  %y = relu %s -> f32[N,256] original("y") loc("act")
  return %y
}
""")
    rng = np.random.default_rng(3)
    data = {name: rng.normal(-2, 1.5, (16, 256)).astype(np.float32) for name in ("a", "b")}
    comparison = Compare(data)
    qcompiler.compile(graph, target="tpu-int8", data=data, instruments=[comparison])
    assert [entry.name for entry in comparison.report.moving] == ["calibrate"]
