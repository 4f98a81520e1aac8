"""Native programs at run time: names, refusals, threads, islands, TVM's runtime, size."""

from __future__ import annotations

import threading
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from call_counting import calls_made
from models import ModelWriter
from native_comparison import (
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
from written_program import ACT, ISAS, N, Written

from qcompiler.backends.tvm.graph_lowering import lower_program
from qcompiler.backends.tvm.kernel_cache import KernelCache
from qcompiler.backends.tvm.kernel_program import NoLowering
from qcompiler.backends.tvm.library_loading import UnusableLibrary
from qcompiler.backends.tvm.program_source import write_program
from qcompiler.compilation import compile
from qcompiler.errors import QCompilerError
from qcompiler.ir import Builder, ConstantArray, Graph, SymbolicDim, TensorType, Value
from qcompiler.ir.scalar import F32
from qcompiler.ops.activation import LeakyRelu
from qcompiler.ops.binary import Sub
from qcompiler.ops.constant import Constant
from qcompiler.ops.contraction import Matmul
from qcompiler.ops.quantization import Clamp, Dequantize
from qcompiler.ops.shape import Reshape, Transpose
from qcompiler.target import Target, load_target

Array = NDArray[Any]


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> KernelCache:
    """Compiled kernels of all tests here."""
    return KernelCache(tmp_path_factory.mktemp("kernels"))


ODD_NAMES = ("", "1st", "a b/c:0", "ünï-\\\"'%s%d\n", "int", "run", "main", "*/ #error", "x" * 300)


def test_a_workspace_that_is_not_aligned_is_refused(
    tmp_path: Path, kernels: KernelCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    w = OpWriter(np.random.default_rng(), N)
    y = w.build(Clamp(-2, 90), w.graph.add_input("x", TensorType((N, 6), ACT)))
    w.graph.set_outputs([("y", y)])
    library, feeds = build_library(w.graph, ISAS[0], tmp_path, kernels), w.feeds(3)
    whole = np.zeros(1 << 16, np.uint8)
    start = -whole.ctypes.data % 64
    for offset in (1, 4, 32, 63):
        monkeypatch.setattr(library, "_new_workspace", lambda _, at=start + offset: whole[at:])
        prepared = library.prepare(feeds)
        prepared.outputs["y"][:] = 7
        with pytest.raises(UnusableLibrary, match="status 1"):
            prepared.run()
        assert (prepared.outputs["y"] == 7).all()
    monkeypatch.setattr(library, "_new_workspace", lambda _: whole[start:])
    prepared = library.prepare(feeds)
    prepared.run()
    assert_same_bits(prepared.outputs["y"], run_reference(w.graph, feeds)[0]["y"], "y")


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


def test_nan_of_the_host_is_refused(tmp_path: Path, kernels: KernelCache) -> None:
    """Infinity less infinity has no integer counterpart: neither backend makes up a number."""
    descriptor = load_target("cpu-int8").descriptor
    rows = {name: row for name, row in descriptor.ops.items() if name != "sub"}
    target = Target(descriptor.model_copy(update={"ops": rows, "fallback": "host"}))
    g = Graph("difference")
    build = Builder(g, loc=("difference",))
    x = g.add_input("x", TensorType((SymbolicDim("N"), 4), F32))
    difference = build(Sub(), x, build(LeakyRelu(0.5), x))
    weights = build(Constant(ConstantArray(np.eye(4, dtype=np.float32))), elem=F32)
    g.set_outputs([("y", build(Matmul(), build(Reshape((SymbolicDim("N"), 4)), difference), weights))])
    data = {"x": np.random.default_rng(0).normal(0, 1, (4, 4)).astype(np.float32)}
    program = compile(g, target=target, data=data, native=False)
    program.native = build_code(program.graph, ISAS[0], tmp_path, kernels)
    assert_program_runs_the_same(program, {"x": np.array([[-3e38, 3e38, 0.0, -1.0]], np.float32)}, threads=1)
    for backend in ("reference", "native"):
        refused = pytest.raises(QCompilerError, match="layer 'difference': quantize: NaN has no integer counterpart")
        with refused, np.errstate(invalid="ignore"):
            program.run({"x": np.array([[np.inf, 1.0, 2.0, 3.0]], np.float32)}, backend=backend)


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


def test_the_work_of_compiling_is_proportional_to_the_layers() -> None:
    """Five times as many layers take about five times as many calls; quadratic work would take 25 times as many."""
    calls = []
    # The first one fills caches.
    for layers in (20, 100, 500):
        feeds = {"image": np.random.default_rng().normal(0, 1, (4, 3, 8, 8)).astype(np.float32)}
        graph = compile(deep_network(layers), target="cpu-int8", data=feeds, native=False).graph
        calls.append(calls_made(lambda: write_program(*lower_program(graph, ISAS[0]))))  # noqa: B023 - runs at once
    assert calls[2] < 7 * calls[1]


def test_five_hundred_layers(tmp_path: Path, kernels: KernelCache) -> None:
    """Equal layers share one kernel, and their values share memory."""
    model = deep_network(500)
    rng = np.random.default_rng()
    feeds = {"image": rng.normal(0, 1, (4, 3, 8, 8)).astype(np.float32)}
    program = compile(model, target="cpu-int8", data=feeds, native=False)
    before = kernels.compiled
    program.native = build_code(program.graph, ISAS[0], tmp_path, kernels)
    assert len(model.graph.node) > 500
    assert kernels.compiled - before < 10
    assert_program_runs_the_same(program, feeds, threads=2)
