"""Every way to requantize is chosen by its name in a descriptor, and the program computes it, ties included."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from native_comparison import assert_native_equals_reference, run_reference
from numerics.exact_arithmetic import FORMS, ROUNDINGS
from numpy.typing import NDArray

from qcompiler import plugins
from qcompiler.backends.tvm.selection import select_instruction_set
from qcompiler.compilation import compile
from qcompiler.ir import Affine, Arithmetic, Builder, ConstantArray, Graph, Original, SymbolicDim, TensorType, walk
from qcompiler.ir.scalar import F32
from qcompiler.numerics import ARITHMETIC
from qcompiler.numerics.rounding import SHIFT_ROUNDINGS
from qcompiler.ops.constant import Constant
from qcompiler.ops.contraction import Matmul
from qcompiler.ops.quantization import Requantize

plugins.load()
Array = NDArray[Any]

NAMES = sorted(name for op, name in ARITHMETIC if op == "requantize")
CITATIONS = [*NAMES, *(f"shift{{rounding={rounding}}}" for rounding in sorted(SHIFT_ROUNDINGS))]

# Of the least step of weights, whose scale is 1/128; the largest weight is never multiplied by anything but 0.
WEIGHTS = np.array([64, 1, 127])


def descriptor(folder: Path, citation: str) -> Path:
    """tpu-int8 with another requantize; shifts need scales that are powers of two."""
    power_of_two = '{ scale = "power-of-two" }'
    scale = f"act = {power_of_two}\nwt = {power_of_two}\n" if citation.startswith("shift") else ""
    (folder / "chip.toml").write_text(
        'schema = 1\nextends = "tpu-int8"\nname = "chip"\nsummary = "A chip"\nsource = "A test"\n'
        f"[types]\n{scale}[ops]\nrequantize = {{ arithmetic = \"{citation}\" }}\n"
    )
    return folder / "chip.toml"


def network() -> Graph:
    graph = Graph("network")
    x = graph.add_input("x", TensorType((SymbolicDim("N"), 3), F32), Original("x"))
    build = Builder(graph, loc=("layer",))
    weights = build(Constant(ConstantArray((WEIGHTS / 128).astype(np.float32).reshape(3, 1))), elem=F32)
    graph.set_outputs([("y", build(Matmul(), x, weights, origin=Original("y")))])
    return graph


def integers(rng: np.random.Generator, count: int) -> Array:
    """Inputs in steps of 1/64: 64 a + b is summed up and divided by 64, a tie where b is 32 or -32."""
    q = rng.integers(-128, 128, (count, 3))
    q[:, 2] = 0
    q[: count // 2, 1] = rng.choice([-96, -32, 32, 96], count // 2)
    q[0], q[1] = (-128, -128, 0), (127, 127, 0)
    return q


def exact(citation: str, accumulators: Array) -> list[int]:
    """What stands in the standard: fractions, rounded as the form rounds, limited to 8 bits."""
    arithmetic = Arithmetic.parse(citation)
    ratio = Fraction(1, 64)
    if arithmetic.name == "shift" and arithmetic.options:
        rounded = [ROUNDINGS[str(arithmetic.options["rounding"])](int(x) * ratio) for x in accumulators]
    else:
        rounded = [FORMS[arithmetic.name](int(x), ratio) for x in accumulators]
    return [max(-128, min(127, r)) for r in rounded]


@pytest.mark.parametrize("citation", CITATIONS)
def test_a_form_is_chosen_by_its_name(citation: str, tmp_path: Path) -> None:
    # Ranges that give scales 1/64 for x and 1/128 for the result, with zero point 0.
    calibration = np.array([[-128, 0, 0], [127, 0, 0]], np.float32) / 64
    program = compile(network(), target=descriptor(tmp_path, citation), data={"x": calibration}, native=False)
    cited = [node.op.arithmetic for node in walk(program.graph) if isinstance(node.op, Requantize)]
    assert cited == [Arithmetic.parse(citation)]

    q = integers(np.random.default_rng(), 200)
    accumulators = q @ WEIGHTS
    ties = np.abs(accumulators) % 64 == 32
    assert ties.sum() > 50
    assert (accumulators[ties] < 0).any()
    feeds = {"x": (q / 64).astype(np.float32)}
    _, (stored,) = run_reference(program.graph, feeds)
    elem = next(n for n in walk(program.graph) if isinstance(n.op, Requantize)).result.type.elem
    assert isinstance(elem, Affine)
    assert (float(elem.scale.array), int(elem.zero_point.array)) == (1 / 128, 0)
    assert np.asarray(stored).reshape(-1).tolist() == exact(citation, accumulators)
    assert_native_equals_reference(
        program.graph, lambda count: feeds, [select_instruction_set()], tmp_path, samples=(200,), threads=(1,)
    )


def test_these_inputs_tell_ways_to_round_ties_apart() -> None:
    accumulators = np.arange(-640, 641) * 16
    found = {citation: tuple(exact(citation, accumulators)) for citation in CITATIONS}
    assert found["double"] == found["float64-away"] == found["shift{rounding=half-away}"]
    assert found["ruy"] == found["single"] == found["i64"] == found["shift"]
    assert found["float-rne"] == found["shift{rounding=half-even}"]
    assert len({found[c] for c in ("double", "ruy", "float-rne")}) == 3
