"""compare finds the layer that went wrong, by name, in the user's own terms."""

from __future__ import annotations

import math
from functools import cache

import models
import numpy as np
import pytest

import qcompiler
from qcompiler.compare import ValueDifference, activations, compare, sqnr_db
from qcompiler.frontends.onnx import import_model
from qcompiler.ir import ConstantArray, Graph, Node, clone, walk
from qcompiler.ops.constant import Constant
from qcompiler.ops.contraction import Contraction
from qcompiler.ops.fused import Fused


@cache
def original(name: str) -> Graph:
    return import_model(models.model(name))


@cache
def compiled(name: str) -> Graph:
    return qcompiler.compile(original(name), target="tpu-int8", data=models.samples(name, 24)).graph


def differences(name: str, program: Graph) -> dict[str, ValueDifference]:
    # Samples that the program was calibrated on: nothing saturates.
    count = 3 if name == "two_inputs_fixed_batch" else 24
    feeds = {k: v[:count] for k, v in models.samples(name, 24).items()}
    entries = compare(original(name), program, feeds)
    assert len({e.name for e in entries}) == len(entries)
    return {e.name: e for e in entries}


@pytest.mark.parametrize("name", models.MODELS)
def test_nearly_every_activation_is_compared(name: str) -> None:
    wanted = set(activations(original(name)))
    found = set(differences(name, compiled(name)))
    assert found <= wanted
    # What a named function absorbed has no counterpart in p'; the functions of these models are written out on
    # purpose, so their inner values do not count.
    absorbed = {
        "branching_net": {"add4", "clip5", "div6", "sigmoid9"}, "token_mixer": {"div2", "erf3", "add4", "mul5"},
    }.get(name, set())
    assert absorbed <= wanted
    assert len(found - absorbed) >= 0.95 * len(wanted - absorbed), sorted(wanted - absorbed - found)


@pytest.mark.parametrize("name", models.MODELS)
def test_a_program_compared_with_itself_agrees(name: str) -> None:
    found = differences(name, clone(original(name)))
    assert set(found) == set(activations(original(name)))
    assert all(e.sqnr_db == math.inf and e.max_error == 0 for e in found.values())


@pytest.mark.parametrize("name", models.MODELS)
def test_compiled_values_lie_near_their_originals(name: str) -> None:
    for entry in differences(name, compiled(name)).values():
        assert entry.sqnr_db > 25, entry


def contractions(graph: Graph) -> list[tuple[Node, Node]]:
    """Contractions with the node at top level that holds them, those with constant weights."""
    found = []
    for node in graph.nodes:
        inner = list(walk(node.op.body)) if isinstance(node.op, Fused) else [node]
        held = [n for n in inner if isinstance(n.op, Contraction)]
        if held and isinstance(getattr(node.operands[1].producer, "op", None), Constant):
            found.append((node, held[0]))
    return found


def spoil_weights(outer: Node, how: str) -> None:
    """Spoil one channel of the weights that ``outer`` takes."""
    producer = outer.operands[1].producer
    assert producer is not None
    assert isinstance(producer.op, Constant)
    weights = producer.op.value.array.copy()
    body = getattr(outer.op, "body", None)
    inner = next(n for n in body.nodes) if isinstance(body, Graph) else outer
    assert isinstance(inner.op, Contraction)
    channels = np.moveaxis(weights, inner.op.weight_channel_axis(weights.ndim), 0)
    if how == "saturate":
        channels[0] = np.where(channels[0] > 0, -127, 127)
    else:
        channels[[0, 1]] = channels[[1, 0]]
    producer.set_op(Constant(ConstantArray(weights)))


@pytest.mark.parametrize("name", models.MODELS)
@pytest.mark.parametrize("how", ["saturate", "swap channels"])
def test_the_first_bad_value_is_the_spoiled_layers(name: str, how: str) -> None:
    before = differences(name, compiled(name))
    for position, (_, held) in enumerate(contractions(compiled(name))):
        graph = clone(compiled(name))
        outer, _ = contractions(graph)[position]
        spoil_weights(outer, how)
        after = differences(name, graph)
        assert list(after) == list(before)
        moved = [n for n in before if after[n] != before[n] and not after[n].recovered]
        dropped = [n for n in moved if before[n].sqnr_db - after[n].sqnr_db > 6]
        # The entries stand in the order of the program, so the first that drops is where it went wrong.
        assert dropped, (held.layer, how)
        for first in (dropped[0], moved[0]):
            layer = before[first].layer
            assert set(layer.split(" + ")) <= set(outer.layer.split(" + ")), (layer, outer.layer)


def test_values_before_the_spoiled_layer_are_unchanged() -> None:
    before = differences("residual_cnn", compiled("residual_cnn"))
    graph = clone(compiled("residual_cnn"))
    outer, _ = contractions(graph)[3]
    spoil_weights(outer, "saturate")
    after = differences("residual_cnn", graph)
    names = list(before)
    first = next(i for i, n in enumerate(names) if set(before[n].layer.split(" + ")) & set(outer.layer.split(" + ")))
    assert first > 3
    assert all(after[n] == before[n] for n in names[:first])


def test_sqnr() -> None:
    signal = np.array([3.0, -4.0])
    assert sqnr_db(signal, signal) == math.inf
    assert sqnr_db(np.zeros(2), np.zeros(2)) == math.inf
    assert sqnr_db(np.zeros(2), signal) == -math.inf
    assert sqnr_db(signal, np.array([3.0, -3.5])) == pytest.approx(10 * math.log10(25 / 0.25))
    # float32 numbers whose squares overflow float32.
    large = np.full(4, 1e30, np.float32)
    assert sqnr_db(large, large * np.float32(1.1)) == pytest.approx(20, abs=0.01)


def test_differences_measure_error_and_signal() -> None:
    graph = clone(original("residual_cnn"))
    node = next(n for n in graph.nodes if n.op.name == "relu")
    found = differences("residual_cnn", graph)
    entry = found["relu2"]
    assert entry.layer == node.layer == "Relu_2"
    assert entry.signal > 0
    relus = [n for n in graph.nodes if n.op.name == "relu"]
    assert len(relus) == 5
