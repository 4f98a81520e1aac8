"""Programs of every structure: native code equals the reference, or refuses the program by name."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from contraction_cases import contraction, filled, weights_of
from models import ModelWriter
from native_comparison import (
    assert_native_equals_reference,
    assert_program_runs_the_same,
    assert_same_bits,
    build_code,
    build_library,
    run_reference,
)
from numpy.typing import NDArray
from op_writer import OpWriter
from random_networks import random_inputs, random_network
from test_tvm_entry import run_alone

from qcompiler.backends.tvm.kernel_cache import KernelCache
from qcompiler.backends.tvm.kernel_program import NoLowering
from qcompiler.backends.tvm.selection import runnable_instruction_sets
from qcompiler.compilation import compile
from qcompiler.ir import Affine, Arithmetic, Graph, SymbolicDim, TensorType, Value, verify
from qcompiler.ir.dimension import Dim
from qcompiler.ir.scalar import F32, I8, I32, I64, U8
from qcompiler.ops.binary import Add
from qcompiler.ops.contraction import Conv2D, Matmul
from qcompiler.ops.pooling import AveragePool2D, MaxPool2D
from qcompiler.ops.quantization import Clamp, Dequantize, Quantize
from qcompiler.ops.reduction import ArgMax, Mean, ReduceMax, ReduceSum
from qcompiler.ops.shape import Concat, Expand, Reshape, Transpose
from qcompiler.ops.slicing import Pad, Slice, Split
from qcompiler.program import Program
from qcompiler.target import Target, load_target

Array = NDArray[Any]

N = SymbolicDim("N")
ISAS = runnable_instruction_sets()
ACT = Affine.per_tensor(I8, np.float32(0.125), -3)
BYTES = Affine.per_tensor(U8, np.float32(0.25), 131)


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> KernelCache:
    """Compiled kernels of all tests here."""
    return KernelCache(tmp_path_factory.mktemp("kernels"))


class Written:
    """A graph being written, with random weights and inputs from a fresh seed."""

    def __init__(self, batch: Dim = N) -> None:
        self.seed = int(np.random.SeedSequence().generate_state(1)[0])
        print("seed", self.seed)
        self.w = OpWriter(np.random.default_rng(self.seed), batch)
        self.batch = batch

    def input(self, *shape: Dim, elem: Any = ACT) -> Value:
        return self.w.input((self.batch, *shape), elem)

    def conv(self, x: Value, outputs: int = 9, groups: int = 1, scale: float = 1.0) -> Value:
        """A 3x3 convolution with requantize, same size."""
        channels = x.type.shape[3]
        assert isinstance(channels, int)
        op = Conv2D(pads=(1, 1, 1, 1), groups=groups, layout="NHWC")
        made = self.w.retried(lambda: filled(self.w, contraction(
            self.w, op, x, weights_of(self.w, op, (outputs, 3, 3, channels // groups))), I8))
        assert isinstance(made, Value)
        return made

    def add(self, a: Value, b: Value) -> Value:
        """Both sides in the arithmetic of tpu-int8."""
        elem = Affine.per_tensor(I8, np.float32(max(float(v.type.elem.scale.array) for v in (a, b))), 7)  # type: ignore[union-attr]
        return self.w.cite(Add(), Arithmetic.parse("litert-add{shift=20}"), [a, b], elem)

    def make(self, op: Any, *operands: Value, elem: Any = None) -> Value:
        return self.w.make(op, *operands, elem=elem)

    def quantize(self, x: Value, elem: Any = ACT) -> Value:
        return self.make(Quantize(Arithmetic.parse("affine{rounding=half-even}")), x, elem=elem)

    def check(
        self, outputs: Sequence[Value], folder: Path, kernels: KernelCache, samples: Sequence[int] = (1, 3)
    ) -> None:
        """Compare with the reference, on every instruction set."""
        graph = self.w.graph
        graph.set_outputs((f"y{i}", v) for i, v in enumerate(outputs))
        verify(graph)
        counts = (1,) if isinstance(self.batch, int) else samples
        assert_native_equals_reference(graph, self.w.feeds, ISAS, folder, samples=counts, kernels=kernels)


def write_residual(g: Written, conv_first: bool) -> list[Value]:
    x = g.input(5, 7, 9)
    y = g.conv(g.conv(x))
    return [g.add(y, x) if conv_first else g.add(x, y)]


def write_two_branches(g: Written) -> list[Value]:
    """The sum joins whichever branch comes last; the other one must be in memory by then."""
    x = g.input(5, 7, 9)
    left, right = g.conv(x), g.conv(g.conv(x))
    y = g.add(left, right)
    return [g.add(g.conv(y), y), g.add(y, g.conv(y, groups=9))]


def write_same_value_twice(g: Written) -> list[Value]:
    x = g.input(4, 4, 8)
    y = g.conv(x, 8)
    return [g.add(y, y), g.make(Concat(3), y, y), y]


def write_output_used_inside(g: Written) -> list[Value]:
    """Every stage of a chain is returned, as integers and as real numbers, one of them twice."""
    x = g.input(4, 4, 8)
    y = g.conv(x, 8)
    clamped = g.make(Clamp(-5, 90), y)
    real = g.make(Dequantize(), clamped)
    z = g.add(clamped, x)
    return [y, clamped, real, z, g.make(Dequantize(), z), g.make(Dequantize(), clamped), z]


def write_outputs_that_are_inputs(g: Written) -> list[Value]:
    x = g.input(4, 4, 8)
    return [x, g.make(Reshape((N, 128)), x), g.make(Reshape((N * 16, 8)), x), g.make(Dequantize(), x), x]


def write_reshapes_of_each_other(g: Written) -> list[Value]:
    x = g.conv(g.input(4, 4, 8), 8)
    flat = g.make(Reshape((N, 128)), x)
    back = g.make(Reshape((N, 2, 8, 8)), flat)
    return [flat, x, back, g.make(Dequantize(), flat), g.make(Transpose((0, 3, 1, 2)), x)]


def write_parts_of_a_buffer(g: Written) -> list[Value]:
    """Contiguous parts stand where the whole stands; each is an output of its own size."""
    x = g.make(Reshape((N, 128)), g.conv(g.input(4, 4, 8), 8))
    first, second, nothing, third = g.w.make_all(Split(1, (5, 60, 0, 63)), x)
    begin = g.make(Slice((1,), (0,), (64,), (1,)), x)
    return [first, second, nothing, third, begin, g.make(Concat(1), third, first), g.make(Dequantize(), second)]


def write_parts_before_the_whole(g: Written) -> list[Value]:
    x = g.make(Clamp(-100, 100), g.input(128))
    first, second = g.w.make_all(Split(1, (64, 64)), x)
    return [first, g.make(Dequantize(), first), x, second]


def write_only_the_first_part(g: Written) -> list[Value]:
    x = g.make(Clamp(-100, 100), g.input(128))
    return [g.w.make_all(Split(1, (3, 125)), x)[0]]


def write_concat_of_slices(g: Written) -> list[Value]:
    x = g.input(6, 6, 10)
    a = g.make(Slice((3,), (0,), (4,), (1,)), x)
    b = g.make(Slice((3,), (4,), (10,), (1,)), x)
    every_other = g.make(Slice((1, 2), (0, 5), (6, -1), (2, -1)), x)
    return [g.make(Concat(3), b, a), g.make(Concat(3), a, b, a), every_other,
            g.conv(g.make(Concat(3), b, a), 10), g.make(Concat(1), every_other, every_other)]


def write_several_inputs_and_outputs(g: Written) -> list[Value]:
    x, y = g.input(8, elem=F32), g.input(8, elem=F32)
    fixed = g.w.input((8,), ACT)
    index = g.input(3, elem=I64)
    a, b = g.quantize(x), g.quantize(y, BYTES)
    unused = g.input(2, elem=I32)
    assert not unused.users
    return [g.add(a, fixed), g.make(Dequantize(), b), index, g.make(Dequantize(), a),
            g.make(Concat(1), index, index)]


def write_multiple_of_the_batch(g: Written) -> list[Value]:
    """Leading dimensions 4*N and 24*N: rows of one sample follow one another."""
    x = g.w.input((N * 4, 6, 5), ACT)
    rows = g.make(Reshape((N * 24, 5)), x)
    summed = g.w.cite(ReduceSum((1,), False), Arithmetic("litert-sum"), [rows],
                      Affine.per_tensor(I8, np.float32(0.25), 0))
    pooled = g.make(Reshape((N * 4, 6)), summed)
    together = g.make(Reshape((N, 4, 30)), x)
    return [rows, summed, pooled, g.make(ReduceMax((1,), True), together), g.make(Dequantize(), pooled)]


def write_every_rank(g: Written) -> list[Value]:
    found = []
    for rank in range(1, 7):
        x = g.input(*(3, 4, 2, 5, 3)[: rank - 1])
        y = g.make(Clamp(-9, 50), x)
        found += [g.add(x, y), g.make(Dequantize(), y)]
    return found


def write_broadcast_both_ways(g: Written) -> list[Value]:
    a, b = g.input(1, 4, 6), g.input(5, 1, 6)
    return [g.add(a, b), g.add(b, a), g.add(g.w.constant(ACT, (5, 4, 1)), a), g.add(a, g.w.constant(ACT, ())),
            g.make(Expand((N, 5, 4, 6)), b)]


def write_constant_operands(g: Written) -> list[Value]:
    x = g.input(4, 4, 8)
    constant = g.w.constant(ACT, (1, 4, 4, 8))
    return [g.add(constant, g.conv(x, 8)), g.add(g.conv(x, 8), constant)]


def write_empty_tensors(g: Written) -> list[Value]:
    x = g.input(4, 8)
    nothing = g.make(Slice((1,), (2,), (2,), (1,)), x)
    clamped = g.make(Clamp(-3, 3), nothing)
    return [nothing, clamped, g.make(Dequantize(), clamped), g.make(Concat(1), x, nothing),
            g.make(Transpose((0, 2, 1)), nothing), g.add(nothing, clamped),
            g.make(Pad((0, 1, 0), (0, 2, 0)), nothing)]


def write_sums_of_nothing(g: Written) -> list[Value]:
    """A product over an axis of length 0 is the bias, or 0."""
    x = g.input(3, 0)
    weights = g.w.constant(Affine.per_tensor(I8, np.float32(0.5), 0), (0, 5))
    op = Matmul()
    types = [x.type, weights.type]
    bias = g.w.constant(op.accumulator(types, (N, 3, 5), I32, of_bias=True), (5,))
    elem = op.accumulator(types, (N, 3, 5), I32)
    return [g.make(op, x, weights, elem=elem), g.make(op, x, weights, bias, elem=elem)]


def write_indices(g: Written) -> list[Value]:
    x = g.input(5, 7)
    found = g.make(ArgMax(2), x)
    return [found, g.make(Concat(1), found, found), g.make(Transpose((0, 2, 1)), found)]


def write_pools_behind_convolutions(g: Written) -> list[Value]:
    x = g.conv(g.input(9, 9, 5), 33)
    average = g.make(AveragePool2D((2, 3), (2, 2), (0, 1, 1, 1), "NHWC", Arithmetic("average-half-away")), x)
    biggest = g.make(MaxPool2D((3, 3), (2, 2), (1, 1), (1, 0, 1, 1), "NHWC"), x)
    mean = g.w.cite(Mean((1, 2)), Arithmetic("litert-mean"), [x], x.type.elem)
    return [average, biggest, mean, g.add(mean, x)]


def write_samples_come_apart_and_together(g: Written) -> list[Value]:
    """Rows that alternate between samples are harmless where they are put back in order."""
    away = g.make(Transpose((1, 0, 2)), g.input(5, 4))
    rows = g.make(Reshape((N * 5, 4)), away)
    mean = g.w.cite(ReduceSum((1,), True), Arithmetic("litert-sum"), [rows], ACT)
    back = g.make(Reshape((5, N, 4)), g.add(g.make(Clamp(-50, 60), rows), mean))
    return [g.make(Transpose((1, 0, 2)), back)]


STRUCTURES: list[Callable[[Written], list[Value]]] = [
    lambda g: write_residual(g, True), lambda g: write_residual(g, False), write_two_branches,
    write_same_value_twice, write_output_used_inside, write_outputs_that_are_inputs, write_reshapes_of_each_other,
    write_parts_of_a_buffer, write_parts_before_the_whole, write_only_the_first_part, write_concat_of_slices,
    write_several_inputs_and_outputs, write_multiple_of_the_batch, write_every_rank, write_broadcast_both_ways,
    write_constant_operands, write_empty_tensors, write_sums_of_nothing, write_indices, write_pools_behind_convolutions,
    write_samples_come_apart_and_together,
]
NAMES = ["residual", "residual-swapped", *(f.__name__.removeprefix("write_") for f in STRUCTURES[2:])]


@pytest.mark.parametrize("write", STRUCTURES, ids=NAMES)
def test_structure(write: Callable[[Written], list[Value]], tmp_path: Path, kernels: KernelCache) -> None:
    g = Written()
    g.check(write(g), tmp_path, kernels)


def test_fixed_batch(tmp_path: Path, kernels: KernelCache) -> None:
    """Static shapes: a library's one run is the whole batch."""
    g = Written(batch=4)
    x = g.input(5, 5, 6)
    y = g.conv(x, 6)
    pooled = g.make(MaxPool2D((2, 2), layout="NHWC"), y)
    mixed = g.make(ReduceMax((0,), True), y)
    g.check([g.add(y, x), pooled, mixed, g.make(Transpose((3, 1, 2, 0)), y), g.conv(x, 6, groups=6)], tmp_path, kernels)


def test_scalars_and_constant_outputs_of_static_programs(tmp_path: Path, kernels: KernelCache) -> None:
    g = Written(batch=3)
    x = g.input(2)
    scalar = g.w.input((), ACT)
    constant = g.w.constant(ACT, (2, 5))
    single = g.make(ReduceMax((0, 1), False), x)
    g.check([g.add(scalar, single), constant, g.make(Dequantize(), scalar), g.add(scalar, x), constant,
             g.make(Dequantize(), constant)], tmp_path, kernels)


def test_constant_outputs_of_a_free_batch(tmp_path: Path, kernels: KernelCache) -> None:
    """What does not depend on the samples has no axis of samples."""
    g = Written()
    constant = g.w.constant(ACT, (2, 5))
    y = g.make(Clamp(-3, 50), g.input(5))
    g.check([constant, y, constant], tmp_path, kernels)
    program = Program(g.w.graph, native=build_code(g.w.graph, ISAS[0], tmp_path, kernels))
    assert_program_runs_the_same(program, g.w.feeds(3), threads=1)


def test_no_inputs(tmp_path: Path, kernels: KernelCache) -> None:
    g = Written(batch=1)
    constant = g.w.constant(ACT, (2, 5))
    g.check([constant, g.make(Dequantize(), g.make(Clamp(-4, 4), constant))], tmp_path, kernels)


ODD_NAMES = ("", "1st", "a b/c:0", "ünï-\\\"'%s%d\n", "int", "run", "main", "*/ #error", "x" * 300)


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names(name: str, tmp_path: Path, kernels: KernelCache) -> None:
    """Names of programs, inputs, outputs and layers reach C source, and come back as they are."""
    graph = Graph(name)
    x = graph.add_input(name or "empty", TensorType((N, 6), ACT))
    w = OpWriter(np.random.default_rng(), N, graph)
    y = w.build(Clamp(-2, 90), x, loc=(name, "b"))
    graph.set_outputs([(name, y)])
    library = build_library(graph, ISAS[0], tmp_path, kernels)
    assert [t.name for t in library.inputs] == [name or "empty"]
    assert [t.name for t in library.outputs] == [name]
    feeds = w.feeds(3)
    assert_same_bits(library.run(feeds)[name], run_reference(graph, feeds)[0][name], name)


def test_outputs_without_an_axis_of_samples_are_refused_by_name(tmp_path: Path) -> None:
    """A free batch that ends up elsewhere cannot be computed sample by sample."""
    g = Written()
    y = g.make(Transpose((1, 0)), g.input(5))
    g.w.graph.set_outputs([("moved", y)])
    with pytest.raises(NoLowering, match="'moved' does not have the samples along its first axis"):
        build_library(g.w.graph, ISAS[0], tmp_path)


def test_samples_that_interleave_are_refused(tmp_path: Path) -> None:
    """Rows of [5, N, 4] as [5*N, 4] alternate between samples, which no run sample by sample gives."""
    g = Written()
    y = g.make(Reshape((N * 5, 4)), g.make(Transpose((1, 0, 2)), g.input(5, 4)))
    g.w.graph.set_outputs([("y", y)])
    with pytest.raises(NoLowering, match="mixes samples"):
        build_library(g.w.graph, ISAS[0], tmp_path)


def test_no_samples(tmp_path: Path, kernels: KernelCache) -> None:
    g = Written()
    x = g.input(5, 7, 9)
    g.w.graph.set_outputs([("y", g.conv(x))])
    feeds = {x.name: np.zeros((0, 5, 7, 9), np.int8)}
    found = build_library(g.w.graph, ISAS[0], tmp_path, kernels).run(feeds)["y"]
    assert found.shape == (0, 5, 7, 9)
    assert found.dtype == np.int8


def _deep(g: Written, width: int, layers: int) -> Value:
    x = g.input(13, 17, width)
    y = x
    for _ in range(layers):
        y = g.add(g.conv(y, width), y)
    return g.make(Dequantize(), y)


@pytest.mark.parametrize("threads", [1, 2, 3, 4])
def test_threads_give_the_same_bits_under_load(threads: int, tmp_path: Path, kernels: KernelCache) -> None:
    """Other threads keep both cores busy, so that pieces of a kernel end in any order."""
    g = Written()
    g.w.graph.set_outputs([("y", _deep(g, 24, 3))])
    library = build_library(g.w.graph, ISAS[0], tmp_path, kernels)
    feeds = g.w.feeds(2)
    expected = run_reference(g.w.graph, feeds)[0]["y"]
    done = threading.Event()

    def burden() -> None:
        while not done.is_set():
            library.run(feeds, 1)

    busy = [threading.Thread(target=burden) for _ in range(3)]
    for thread in busy:
        thread.start()
    try:
        for _ in range(30):
            assert_same_bits(library.run(feeds, threads)["y"], expected, f"{threads} threads")
    finally:
        done.set()
        for thread in busy:
            thread.join()


def test_two_programs_in_two_threads_at_once(tmp_path: Path, kernels: KernelCache) -> None:
    work = []
    for width, layers in ((8, 3), (19, 2)):
        g = Written()
        g.w.graph.set_outputs([("y", _deep(g, width, layers))])
        feeds = g.w.feeds(2)
        library = build_library(g.w.graph, ISAS[0], tmp_path, kernels)
        work.append((library, feeds, run_reference(g.w.graph, feeds)[0]["y"]))
    wrong: list[str] = []

    def run(library: Any, feeds: Any, expected: Array) -> None:
        for _ in range(40):
            try:
                assert_same_bits(library.run(feeds, 2)["y"], expected, library.name)
            except AssertionError as error:
                wrong.append(str(error))

    started = [threading.Thread(target=run, args=part) for part in (*work, *work)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
    assert not wrong


LACKING = {"softmax": ("softmax",), "sums": ("add", "sub", "mul"), "movement": ("transpose", "concat", "slice", "pad"),
           "pools": ("max_pool2d", "average_pool2d", "mean", "resize", "reduce_max"), "tables": ("lut",)}
"""Ops taken from a target, so that islands of the host stand between those of the target."""


@pytest.mark.parametrize("lacking", LACKING)
def test_islands(lacking: str, tmp_path: Path, kernels: KernelCache) -> None:
    """Random networks of which the host runs a part: every output equals the reference, whoever computes it."""
    descriptor = load_target("cpu-int8").descriptor
    rows = {name: row for name, row in descriptor.ops.items() if name not in LACKING[lacking]}
    target = Target(descriptor.model_copy(update={"ops": rows, "fallback": "host"}))
    first = int(np.random.SeedSequence().generate_state(1)[0])
    checked = 0
    for seed in range(first, first + 40):
        model = random_network(seed)
        program = compile(model, target=target, data=random_inputs(model, 8, seed), native=False)
        if not program.coverage.host_nodes:
            continue
        print("seed", seed)
        program.native = build_code(program.graph, ISAS[checked % len(ISAS)], tmp_path, kernels)
        for samples, extreme in ((3, False), (2, True)):
            feeds = random_inputs(model, samples, seed + 1, extreme)
            with np.errstate(all="ignore"):
                assert_program_runs_the_same(program, finite(feeds), threads=2)
        checked += 1
        if checked == 3:
            return
    raise AssertionError("too few of these networks have islands")


def finite(feeds: dict[str, Array]) -> dict[str, Array]:
    """Infinite numbers as large ones: float ops of the host make NaN out of infinities."""
    return {name: np.clip(array, -1e6, 1e6) for name, array in feeds.items()}


def test_the_demo_runs_through_tvm_alone(tmp_path: Path) -> None:
    """A program that the compiler built, in a process that has TVM's runtime and no qcompiler."""
    folder = Path(str(resources.files("qcompiler.demo")))
    with np.load(folder / "mnist.npz") as archive:
        calibration, images = (archive[name].astype(np.float32) / 255 for name in ("calibration", "images"))
    program = compile(folder / "mnist_dscnn.onnx", target="tpu-int8", data={"x": calibration}, native=True)
    program.save(tmp_path / "build")
    x = images[:64]
    expected = program.run({"x": x}, backend="reference")["y"]
    np.savez(tmp_path / "data.npz", x=x, y=expected)
    assert run_alone("""
import tvm
data = np.load(sys.argv[2])
library = tvm.runtime.load_module(sys.argv[1])
for threads in (1, 2):
    library["set_threads"](threads)
    y = np.zeros_like(data["y"])
    library["run"](data["x"].copy(), y)
    print(y.tobytes() == data["y"].tobytes(), "qcompiler" in sys.modules)
""", tmp_path / "build" / "lib.so", tmp_path / "data.npz") == "True False\nTrue False\n"


def deep_network(layers: int) -> onnx.ModelProto:
    """Residual blocks of equal shape: convolution, activation, depthwise convolution, sum."""
    w = ModelWriter(int(np.random.SeedSequence().generate_state(1)[0]))
    x = w.conv("image", 3, 16)
    for _ in range(layers // 4):
        y = w.node("Relu", w.conv(x, 16, 16, kernel=1))
        weights = w.normal(16, 1, 3, 3, scale=0.05)
        x = w.node("Add", w.node("Conv", y, weights, kernel_shape=[3, 3], pads=[1] * 4, group=16), x)
    return w.model({"image": ["batch", 3, 8, 8]}, [x])


def test_five_hundred_layers(tmp_path: Path, kernels: KernelCache) -> None:
    """Equal layers share one kernel, and their values share memory."""
    model = deep_network(500)
    rng = np.random.default_rng()
    feeds = {"image": rng.normal(0, 1, (4, 3, 8, 8)).astype(np.float32)}
    program = compile(model, target="cpu-int8", data=feeds, native=False)
    before = kernels.compiled
    start = time.perf_counter()
    program.native = build_code(program.graph, ISAS[0], tmp_path, kernels)
    seconds = time.perf_counter() - start
    print(f"{len(model.graph.node)} layers, {kernels.compiled - before} kernels, {seconds:.1f} s")
    assert len(model.graph.node) > 500
    assert kernels.compiled - before < 10
    assert seconds < 60
    assert_program_runs_the_same(program, feeds, threads=2)
