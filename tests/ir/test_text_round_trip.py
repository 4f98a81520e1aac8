"""``parse(*print_with_constants(graph)) == graph``, on random graphs and on every stage of the pipeline."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import models
import numpy as np
import pytest
from hypothesis import given, settings
from random_graphs import graphs

import qcompiler
from qcompiler import plugins
from qcompiler.calibration.data import open_data
from qcompiler.errors import QCompilerError
from qcompiler.frontends.onnx import import_model
from qcompiler.ir import (
    Builder,
    ConstantArray,
    Graph,
    Original,
    clone,
    parse,
    parse_type,
    print_with_constants,
    read_program,
    structural_hash,
    verify,
    write_dump,
    write_program,
)
from qcompiler.ir.scalar import F32
from qcompiler.ir.types import TensorType
from qcompiler.ops.binary import Sub
from qcompiler.ops.constant import Constant
from qcompiler.ops.fused import Fused
from qcompiler.ops.slicing import Split
from qcompiler.pipeline import Context, Instrument, Pass, Pipeline
from qcompiler.target import load_target

plugins.load()


@settings(max_examples=125)
@given(graphs)
def test_random_graphs_read_back_equal(graph: Graph) -> None:
    verify(graph)
    text, constants = print_with_constants(graph)
    again = parse(text, constants)
    verify(again)
    assert structural_hash(again) == structural_hash(graph)
    assert again.name == graph.name
    # The text is a normal form: it cites the same arrays, and prints the same again.
    assert print_with_constants(again)[0] == text


@settings(max_examples=30)
@given(graphs)
def test_random_graphs_survive_the_disk(tmp_path_factory: pytest.TempPathFactory, graph: Graph) -> None:
    folder = tmp_path_factory.mktemp("program")
    write_program(graph, folder / "p.qir")
    assert read_program(folder / "p.qir") == graph
    write_dump(graph, folder / "000_dump.qir")
    assert read_program(folder / "000_dump.qir") == graph


class Keep(Instrument):
    """Keeps a copy of the program after each pass."""

    def __init__(self, found: list[tuple[str, Graph]]) -> None:
        self.found = found

    def after_pass(self, index: int, current: Pass, graph: Graph, changed: bool) -> None:
        self.found.append((current.name, clone(graph)))


@cache
def stages(name: str) -> list[tuple[str, Graph]]:
    """The program after import and after each pass of tpu-int8."""
    graph = import_model(models.model(name))
    found = [("import", clone(graph))]
    target = load_target("tpu-int8")
    pipeline = Pipeline.parse(target.descriptor.pipeline)
    context = Context(target, open_data(models.samples(name, 6), graph))
    pipeline.run(graph, context, [Keep(found)])
    return found


@pytest.mark.parametrize("name", models.MODELS)
def test_every_stage_reads_back_equal(name: str, tmp_path: Path) -> None:
    for stage, graph in stages(name):
        text, constants = print_with_constants(graph)
        assert parse(text, constants) == graph, stage
        write_dump(graph, tmp_path / f"{stage}.qir")
    for stage, graph in reversed(stages(name)):
        # A pass that runs several times wrote its file several times: the last one counts.
        assert read_program(tmp_path / f"{stage}.qir") == dict(stages(name))[stage], stage
        assert len(graph) > 0


def test_types_read_back() -> None:
    texts = [
        "f32[]", "bool[2,3]", "i64[N,4]", "f32[4*N,1]", "bf<m16e8, blocks=[1,32]>[N,32]", "q<i8, 0.5:-3>[1,64]",
        "q<i8[-127,127], blocks=[1,4], scale=[0.5,0.25]>[2,4]",
        "q<u8, blocks=[1,2], scale=[0.5,0.25], zero_point=[3,4]>[1,4]",
    ]
    for text in texts:
        type = parse_type(text)
        assert isinstance(type, TensorType)
        assert str(type) == text


def test_float32_scales_print_shortest() -> None:
    assert str(parse_type("q<i8, 0.10000000149011612:0>[]")) == "q<i8, 0.1:0>[]"


@pytest.fixture
def written(tmp_path: Path) -> Path:
    graph = stages("residual_cnn")[-1][1]
    write_program(graph, tmp_path / "p.qir")
    return tmp_path / "p.qir"


def test_a_missing_program_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(QCompilerError, match="cannot read program"):
        read_program(tmp_path / "absent.qir")


def test_missing_constants_are_an_error(written: Path) -> None:
    written.with_suffix(".safetensors").unlink()
    with pytest.raises(QCompilerError, match="the constants lack @"):
        read_program(written)


@pytest.mark.parametrize("keep", [0, 7, 100, 3000])
def test_truncated_constants_are_an_error(written: Path, keep: int) -> None:
    constants = written.with_suffix(".safetensors")
    constants.write_bytes(constants.read_bytes()[:keep])
    with pytest.raises(QCompilerError, match="cannot read constants"):
        read_program(written)


@pytest.mark.parametrize("share", np.linspace(0, 0.99, 12))
def test_truncated_text_is_an_error(written: Path, share: float) -> None:
    text = written.read_text()
    written.write_text(text[: int(len(text) * share)])
    with pytest.raises(QCompilerError):
        read_program(written)


def test_a_text_that_is_not_utf8_is_an_error(written: Path) -> None:
    written.write_bytes(b"// qir 1\n\xff\xfe")
    with pytest.raises(QCompilerError, match="cannot read program"):
        read_program(written)


def test_constants_of_another_shape_are_an_error(written: Path) -> None:
    graph = stages("residual_cnn")[-1][1]
    text, constants = print_with_constants(graph)
    wrong = {name: array.reshape(-1)[:9].copy() for name, array in constants.items()}
    with pytest.raises(QCompilerError):
        verify(parse(text, wrong))


def test_compile_reads_what_it_wrote(tmp_path: Path) -> None:
    graph = import_model(models.model("pooling_net"))
    write_program(graph, tmp_path / "model.qir")
    feeds = models.samples("pooling_net", 5)
    from_text = qcompiler.compile(tmp_path / "model.qir", target="tpu-int8", data=feeds)
    from_model = qcompiler.compile(graph, target="tpu-int8", data=feeds)
    assert from_text.graph == from_model.graph


def test_a_kernel_may_take_one_value_twice() -> None:
    for order in ((0, 1), (1, 0), (1, 1)):
        graph = Graph()
        type = TensorType((2,), F32)
        x = graph.add_input("x", type)
        body = Graph("body")
        inside = [body.add_input(str(i), type) for i in range(2)]
        body.set_outputs([("0", Builder(body)(Sub(), *(inside[i] for i in order)))])
        graph.set_outputs([("y", Builder(graph)(Fused(body), x, x))])
        assert parse(str(graph)) == graph


def test_a_nan_keeps_its_bits() -> None:
    bits = np.array([0x7FC00000, 0xFFC00000, 0x7FC00001, 0x7F800001], np.uint32)
    for values in (bits, bits[:1]):
        graph = Graph()
        value = Builder(graph)(Constant(ConstantArray(values.view(np.float32))), elem=F32)
        graph.set_outputs([("y", value)])
        text, constants = print_with_constants(graph)
        (node,) = parse(text, constants).nodes
        assert isinstance(node.op, Constant)
        np.testing.assert_array_equal(node.op.value.array.view(np.uint32), values)


def test_origin_of_a_later_result_alone() -> None:
    graph = Graph("split")
    x = graph.add_input("x", TensorType((2, 6), F32))
    node = Builder(graph).create(Split(1, (2, 4)), [x])
    node.results[1].origin = Original("second half")
    graph.set_outputs([("a", node.results[0]), ("b", node.results[1])])
    assert parse(str(graph)) == graph
