"""``qcompiler check``, and that it agrees with what compiling does."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import onnx
import pytest
from models import MODELS, ModelWriter, model, samples

from cli.command_line import invoke, nothing_left_behind, succeed, without_rows, write_target
from qcompiler import QCompilerError, compile
from qcompiler.compilation import read_model
from qcompiler.layer_verdicts import STATUSES
from qcompiler.legality_report import check_legality
from qcompiler.ops.constant import Constant
from qcompiler.target import load_target


def mixed_model() -> onnx.ModelProto:
    """Batch norm joins the convolution, a transpose undoes another, prelu is decomposed, tanh is legal."""
    w = ModelWriter(3)
    x = w.batch_norm(w.conv("image", 2, 4), 4)
    x = w.node("PRelu", x, w.constant(np.full((4, 1, 1), 0.25)))
    x = w.node("Transpose", w.node("Transpose", x, perm=[0, 3, 1, 2]), perm=[0, 2, 3, 1])
    return w.model({"image": ["batch", 2, 6, 6]}, [w.node("Tanh", x)])


def test_every_layer_stands_in_the_table_with_what_becomes_of_it() -> None:
    onnx.save(mixed_model(), "mixed.onnx")
    with nothing_left_behind():
        shown = succeed("check", "mixed.onnx", "--target", "tpu-int8")
    rows = [re.split(r"  +", line) for line in shown.splitlines()]
    assert rows[0] == ["layer", "ops", "status", "detail"]
    by_layer = {row[0]: row[1:] for row in rows[1:-1]}
    (convolution,) = [layer for layer in by_layer if "Conv_0" in layer]
    assert "BatchNormalization_1" in convolution
    assert by_layer[convolution][1] == "legal"
    assert by_layer["PRelu_2 + Transpose_4"] == ["prelu", "decomposed", "into clip, relu, mul, add by prelu-to-relu"]
    # The transpose brings the output back to the layout of the model.
    assert by_layer["Tanh_5"] == ["tanh, transpose", "legal"]
    assert by_layer["Transpose_3"] == ["transpose", "folded", "merged into other layers or constants"]
    assert rows[-1] == ["target tpu-int8: 2 legal, 1 decomposed, 1 folded, 0 illegal"]


def test_illegal_layers_exit_with_2_and_name_constraint_and_finding() -> None:
    onnx.save(mixed_model(), "mixed.onnx")
    text = without_rows("lut", "tanh", "mul").replace("conv2d           = {", "conv2d = { kernel = [1, 2],")
    write_target("small.toml", text)
    with nothing_left_behind():
        result = invoke("check", "mixed.onnx", "--target", "small.toml")
    assert result.exit_code == 2
    assert result.stderr == ""
    shown = result.stdout
    assert re.search(r"^Conv_0.* illegal +kernel of conv2d must lie within \[1, 2\] \(found \[3, 3\]\)$", shown, re.M)
    assert re.search(r"^PRelu_2.* illegal +the target has no op 'mul' \(found mul\)$", shown, re.M)
    assert re.search(r"^Tanh_5 .* illegal +the target has no op 'tanh' \(found tanh\)$", shown, re.M)
    assert shown.rstrip().endswith("3 illegal")


def test_layers_left_to_the_host_are_named_by_check_and_by_compile() -> None:
    onnx.save(mixed_model(), "mixed.onnx")
    write_target("host.toml", without_rows("lut", "tanh", "mul").replace('fallback = "error"', 'fallback = "host"'))
    shown = succeed("check", "mixed.onnx", "--target", "host.toml")
    assert re.search(
        r"^PRelu_2.* host +the target has no op 'mul' \(found mul\); clip, relu, add moved to save crossings$",
        shown, re.M,
    )
    assert re.search(
        r"^Tanh_5 .* host +the target has no op 'tanh' \(found tanh\); transpose moved to save crossings$", shown, re.M
    )
    assert re.search(r"^Conv_0.* +to host +f32\[N,6,6,4\]$", shown, re.M)
    assert shown.rstrip().endswith("target tpu-int8: 1 legal, 0 decomposed, 1 folded, 2 host, 0 illegal")
    np.savez("data.npz", image=np.random.default_rng(1).normal(size=(4, 2, 6, 6)).astype(np.float32))
    summary = succeed("compile", "mixed.onnx", "--target", "host.toml", "--data", "data.npz", "-o", "build")
    assert re.search(r"^on the host +\d+% \(6 of \d+\) of nodes", summary, re.M)
    assert re.search(r"^ +PRelu_2.*: relu, since it saves crossings$", summary, re.M)
    assert re.search(r"^ +to host, behind Conv_0.*: batchnormalization1 f32\[N,6,6,4\], 576 bytes$", summary, re.M)
    assert re.search(r"^ +PRelu_2.*: mul, since the target has no op 'mul'$", summary, re.M)
    assert re.search(r"^ +Tanh_5: tanh, since the target has no op 'tanh'$", summary, re.M)


def test_shape_and_batch_reach_the_model() -> None:
    w = ModelWriter(2)
    onnx.save(w.model({"x": ["batch", "length"]}, [w.node("Softmax", "x", axis=-1)]), "open.onnx")
    short = invoke("check", "open.onnx", "--target", "tpu-int8", "--shape", "x=-1,4095")
    long = invoke("check", "open.onnx", "--target", "tpu-int8", "--shape", "x=-1,4096", "--batch", "2")
    assert (short.exit_code, long.exit_code) == (0, 2)
    assert "at most 4095 elements (found 4096)" in long.stdout


@pytest.mark.parametrize("name", list(MODELS))
def test_all_layers_of_a_model_are_judged(name: str) -> None:
    report = check_legality(model(name), target="tpu-int8")
    judged = {layer for verdict in report.layers for layer in verdict.layers}
    nodes = read_model(model(name)).nodes
    assert judged == {layer for node in nodes if not isinstance(node.op, Constant) for layer in node.loc}
    assert sum(report.count(status) for status in STATUSES) == len(report.layers)


@pytest.mark.parametrize("name", list(MODELS))
def test_check_agrees_with_compile(name: str) -> None:
    """On tpu-int8, and on random targets that lack some of its ops."""
    assert _verdict_of_compile(name, load_target("tpu-int8")) == _illegal(name, load_target("tpu-int8")) == set()
    rng = np.random.default_rng([1, *name.encode()])
    refused = 0
    for _ in range(4):
        target = _poorer_target(rng)
        illegal = _illegal(name, target)
        assert _verdict_of_compile(name, target) == illegal
        refused += bool(illegal)
    assert refused


def _poorer_target(rng: np.random.Generator) -> Any:
    kept = ("quantize", "dequantize", "requantize", "transpose")
    rows = [op for op in load_target("tpu-int8").rows if op not in kept]
    lacking = rng.choice(rows, len(rows) // 3, replace=False)
    return load_target(write_target("poorer.toml", without_rows(*lacking)))


def _illegal(name: str, target: Any) -> set[str]:
    return {layer.name for layer in check_legality(model(name), target=target).layers if layer.status == "illegal"}


def _verdict_of_compile(name: str, target: Any) -> set[str]:
    """Layers that the compiler refuses."""
    try:
        compile(model(name), target=target, data=samples(name, 6))
    except QCompilerError as error:
        if error.layer is not None:
            return {error.layer}
        return {line.strip().partition(": ")[0] for line in error.problem.splitlines()[1:]}
    return set()
