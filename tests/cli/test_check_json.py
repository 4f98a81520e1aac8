"""``qcompiler check --json``, ``--fallback``, and the ways out that it names."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import onnx
from models import ModelWriter

from cli.command_line import invoke, succeed, without_rows, write_target
from qcompiler import registry
from qcompiler.ir import Value
from qcompiler.layer_verdicts import STATUSES
from qcompiler.ops.activation import Relu, Tanh
from qcompiler.rewrite import Match, Operand, OpPattern, Outcome, Pattern, RewriteBuilder, Rule, rule


def write_model(*operators: str) -> None:
    """A convolution, then these operators on its result."""
    w = ModelWriter(3)
    x = w.conv("image", 2, 4)
    for operator in operators:
        x = w.node(operator, x)
    onnx.save(w.model({"image": ["batch", 2, 6, 6]}, [x]), "model.onnx")


def checked(*options: str, code: int = 0) -> dict[str, Any]:
    result = invoke("check", "model.onnx", "--json", *options)
    assert result.exit_code == code, result.output
    found = json.loads(result.stdout)
    assert isinstance(found, dict)
    return found


def test_the_structure_is_the_documented_one() -> None:
    write_model("Tanh")
    write_target("chip.toml", without_rows("lut", "tanh"))
    found = checked("--target", "chip.toml", code=2)
    assert set(found) == {"model", "target", "legal", "complete", "counts", "layers", "crossings"}
    assert (found["legal"], found["complete"], found["crossings"]) == (False, True, [])
    assert list(found["counts"]) == list(STATUSES)
    assert sum(found["counts"].values()) == len(found["layers"])
    (layer,) = [entry for entry in found["layers"] if entry["status"] == "illegal"]
    assert set(layer) == {
        "layers", "ops", "status", "decompositions", "parts", "host_ops", "moved_ops", "violations", "ways_out",
    }
    assert layer["violations"] == [
        {"constraint": "the target has no op 'tanh'", "found": "tanh", "descriptor_entry": "ops"}
    ]
    assert any("--fallback host" in way for way in layer["ways_out"])
    assert any(way.startswith("compile for a target that runs it: cpu-int8") for way in layer["ways_out"])


def test_the_entry_that_decides_is_named() -> None:
    write_model()
    write_target("chip.toml", without_rows().replace("conv2d           = {", "conv2d = { kernel = [1, 2],"))
    (layer,) = checked("--target", "chip.toml", code=2)["layers"]
    assert layer["violations"][0]["descriptor_entry"] == "ops.conv2d.kernel"
    assert any(way.startswith("change ops.conv2d.kernel") for way in layer["ways_out"])


def test_fallback_overrides_the_descriptor_in_both_directions() -> None:
    write_model("Tanh")
    write_target("chip.toml", without_rows("lut", "tanh"))
    found = checked("--target", "chip.toml", "--fallback", "host")
    assert found["legal"]
    assert [entry["host_ops"] for entry in found["layers"] if entry["status"] == "host"] == [["tanh", "transpose"]]
    assert [(c["direction"], c["type"], c["bytes"]) for c in found["crossings"]] == [("to host", "f32[N,6,6,4]", 576)]
    np.savez("data.npz", image=np.zeros((2, 2, 6, 6), np.float32))
    options = ("compile", "model.onnx", "-d", "data.npz", "-o", "build")
    assert invoke(*options, "--target", "chip.toml").exit_code == 2
    assert "to host, behind" in succeed(*options, "--target", "chip.toml", "--fallback", "host")
    write_target("host.toml", without_rows("lut", "tanh").replace('fallback = "error"', 'fallback = "host"'))
    assert checked("--target", "host.toml")["legal"]
    assert not checked("--target", "host.toml", "--fallback", "error", code=2)["legal"]


def test_a_registered_decomposition_that_would_help_is_named() -> None:
    write_model("Tanh")
    write_target("chip.toml", without_rows("lut", "tanh"))
    with registry.temporary():

        @rule("tanh-to-relu", into="legalize")
        class TanhToRelu(Rule):
            """Wrong, and enough for this test."""

            def pattern(self, p: Pattern, x: Operand) -> OpPattern:
                return p.op(Tanh, x)

            def rewrite(self, b: RewriteBuilder, m: Match, x: Value) -> Outcome:
                return b(Relu(), x)

        (layer,) = [e for e in checked("--target", "chip.toml", code=2)["layers"] if e["status"] == "illegal"]
    assert layer["ways_out"][0] == "list the decomposition 'tanh-to-relu' in the descriptor"


def test_layers_that_cannot_be_imported_are_illegal() -> None:
    write_model("Tanh", "Det")
    found = checked("--target", "tpu-int8", code=2)
    assert not found["complete"]
    (layer,) = found["layers"]
    assert (layer["layers"], layer["ops"], layer["status"]) == (["Det_2"], ["Det"], "illegal")
    assert layer["ways_out"]
    shown = invoke("check", "model.onnx", "--target", "tpu-int8")
    assert shown.exit_code == 2
    assert "other layers were not judged" in shown.stdout
