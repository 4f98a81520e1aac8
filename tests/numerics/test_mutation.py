"""Every registered arithmetic on affine integers fails on its seeds once a rounding in it is exchanged.

Arithmetic on block floating point has tests of its own, in tests/block_float.

The rounding forms exchanged are: the other arithmetics registered for the op; the other values of the ``rounding``
parameter; and, for an arithmetic with neither, the rounding function that it calls.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from numerics.mutation_seeds import SEEDS, Results
from qcompiler.errors import QCompilerError
from qcompiler.numerics import ARITHMETIC as EVERY_ARITHMETIC
from qcompiler.numerics import (
    BlockArithmetic,
    averaging,
    interpolation,
    onnxruntime_elementwise,
    resolve,
    softmax,
    table_softmax,
)
from qcompiler.numerics.rounding import REAL_ROUNDINGS, SHIFT_ROUNDINGS, divide_half_away

ARITHMETIC = {key: cls for key, cls in EVERY_ARITHMETIC.items() if not issubclass(cls, BlockArithmetic)}
FORMS = sorted(name for op, name in ARITHMETIC if op == "requantize")
ROUNDING_NAMES = sorted({*FORMS, *REAL_ROUNDINGS, *SHIFT_ROUNDINGS})

EXACT_ON_POWERS_OF_TWO = "both round the exact quotient by a power of two half up, and shift takes no other ratio"
NO_PRODUCT = "they differ in how a product of input scales is rounded, and here the op forms the ratio itself"
IDENTICAL: dict[frozenset[str], str] = {
    frozenset({"requantize:single", "requantize:shift"}): EXACT_ON_POWERS_OF_TWO,
    frozenset({"requantize:i64", "requantize:shift"}): EXACT_ON_POWERS_OF_TWO,
    **{
        frozenset({f"{op}:{name}", f"{op}:{name}{{rounding=double-f32-product}}"}): NO_PRODUCT
        for op, name in (
            ("add", "litert-add"), ("sub", "litert-add"), ("mul", "litert-mul"), ("mean", "litert-mean"),
            ("reduce_sum", "litert-sum"),
        )
    },
}
"""Pairs that agree on every input, with the reason; asserted to agree on the seeds."""

DISJOINT = {frozenset({"softmax:gemmlowp-softmax", "softmax:table-softmax"})}
"""Pairs for results of different scales, which nobody can confuse; asserted to refuse one another's."""

ENDS = {("softmax", "table-softmax"): (0, 32767)}
"""Where results do not begin or end with those of 8 bits: probabilities in 16."""


def registered_mutants(op: str, name: str) -> dict[str, Any]:
    """Other arithmetics of the op, and the same one with another ``rounding``, by label."""
    mutants = {f"{op}:{other}": resolve(op, other) for o, other in sorted(ARITHMETIC) if o == op and other != name}
    default = next((f.default for f in dataclasses.fields(ARITHMETIC[op, name]) if f.name == "rounding"), None)
    for rounding in ROUNDING_NAMES if default is not None else ():
        if rounding == default:
            continue
        try:
            mutants[f"{op}:{name}{{rounding={rounding}}}"] = resolve(op, name, {"rounding": rounding})
        except QCompilerError:
            continue  # a rounding of another family
    return mutants


PAIRS = [(op, name, label) for op, name in sorted(ARITHMETIC) for label in registered_mutants(op, name)]


def differences(first: Results, second: Results) -> int:
    """Differing elements over the cases that both rules take."""
    both = [(a, b) for a, b in zip(first, second, strict=True) if a is not None and b is not None]
    assert both, "no case lies within the domain of both rules"
    return sum(int((a != b).sum()) for a, b in both)


def test_every_registered_arithmetic_has_seeds() -> None:
    assert set(SEEDS) == set(ARITHMETIC)


def test_every_exemption_names_registered_rules() -> None:
    labels = {frozenset({f"{op}:{name}", label}) for op, name, label in PAIRS}
    assert set(IDENTICAL) <= labels


@pytest.mark.parametrize(("op", "name"), sorted(ARITHMETIC))
def test_seeds_saturate(op: str, name: str) -> None:
    """Each rule reaches both ends of its result's range; softmax and resize do so by their nature."""
    values = np.concatenate([r.reshape(-1) for r in SEEDS[op, name](resolve(op, name)) if r is not None])
    if (op, name) in ENDS:
        assert (values.min(), values.max()) == ENDS[op, name]
        return
    assert values.min() in (-128, -100)
    assert values.max() in (127, 100)


@pytest.mark.parametrize(("op", "name", "label"), PAIRS)
def test_every_other_registered_form_fails(op: str, name: str, label: str) -> None:
    if frozenset({f"{op}:{name}", label}) in DISJOINT:
        assert all(r is None for r in SEEDS[op, name](registered_mutants(op, name)[label]))
        return
    found = differences(SEEDS[op, name](resolve(op, name)), SEEDS[op, name](registered_mutants(op, name)[label]))
    if frozenset({f"{op}:{name}", label}) in IDENTICAL:
        assert found == 0
    else:
        assert found > 0


def _divide(x: Any, divisor: Any, ties: Callable[[Any, Any], Any]) -> Any:
    """Nearest quotient, with ``ties(floor of the quotient, x)`` telling whether a tie goes up."""
    whole, rest = np.floor_divide(x, divisor), 2 * np.mod(x, divisor)
    return whole + ((rest > divisor) | ((rest == divisor) & ties(whole, x)))


DIVISIONS: dict[str, Callable[[Any, Any], Any]] = {
    "half-up": lambda x, d: _divide(x, d, lambda whole, x: np.ones_like(x, bool)),
    "half-down": lambda x, d: _divide(x, d, lambda whole, x: np.zeros_like(x, bool)),
    "half-even": lambda x, d: _divide(x, d, lambda whole, x: whole % 2 == 1),
    "floor": np.floor_divide,
    "toward-zero": lambda x, d: np.sign(x) * (np.abs(x) // d),
}

UNFUSED: dict[str, Callable[..., Any]] = {
    "two roundings": lambda x, y, z: (np.float32(x) * np.float32(y)) + np.float32(z),
    "float64": lambda x, y, z: np.float64(x) * np.float64(y) + np.float64(z),
}

# (module, rounding function called in it, replacements)
INTERNAL: dict[tuple[str, str], tuple[Any, str, dict[str, Callable[..., Any]]]] = {
    ("average_pool2d", "average-half-away"): (averaging, "divide_half_away", DIVISIONS),
    ("resize", "litert-resize-bilinear"): (interpolation, "divide_half_away", DIVISIONS),
    # Its shifts act on non-negative numbers of over 20 fractional bits: roundings of ties cannot be told apart.
    ("softmax", "gemmlowp-softmax"): (softmax, "shift_half_away", {"floor": SHIFT_ROUNDINGS["floor"]}),
    ("softmax", "table-softmax"): (table_softmax, "shift_half_up", {"floor": SHIFT_ROUNDINGS["floor"]}),
    ("add", "onnxruntime-add"): (onnxruntime_elementwise, "fused_multiply_add", UNFUSED),
    ("sub", "onnxruntime-add"): (onnxruntime_elementwise, "fused_multiply_add", UNFUSED),
}


def test_arithmetic_without_registered_mutants_has_internal_ones() -> None:
    alone = {
        (op, name) for op, name in ARITHMETIC
        if all(frozenset({f"{op}:{name}", label}) in DISJOINT for label in registered_mutants(op, name))
    }
    assert alone <= set(INTERNAL)


@pytest.mark.parametrize(
    ("key", "replacement"),
    [(key, name) for key, (_, _, replacements) in sorted(INTERNAL.items()) for name in replacements],
)
def test_every_other_internal_rounding_fails(
    key: tuple[str, str], replacement: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, function, replacements = INTERNAL[key]
    right = SEEDS[key](resolve(*key))
    monkeypatch.setattr(module, function, replacements[replacement])
    assert differences(right, SEEDS[key](resolve(*key))) > 0


def test_the_replaced_divisions_are_divisions() -> None:
    """Away from ties the nearest divisions agree with the real one, so that they fail for the right reason."""
    x = np.arange(-100, 101)
    beside = x[np.abs(x) % 4 != 2]
    for name in ("half-up", "half-down", "half-even"):
        assert DIVISIONS[name](beside, 4).tolist() == divide_half_away(beside, 4).tolist()
