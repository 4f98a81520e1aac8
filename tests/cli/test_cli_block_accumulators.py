"""Descriptors of block floating point with too few guard bits: refused, with the number of bits missing."""

from __future__ import annotations

import re

import numpy as np
import onnx
import pytest
from models import ModelWriter

from cli.command_line import refuse, succeed, write_target

TERMS = 200
COMPILE = ("compile", "wide.onnx", "--data", "wide.npz", "-o", "out")


def descriptor(bits: int, types: str = "") -> str:
    """dsp-bfp16 with accumulators of ``bits``."""
    return (
        'schema = 1\nextends = "dsp-bfp16"\nname = "few"\nsummary = "Few guard bits"\n\n'
        f'[limits]\naccumulator = {{ bits = {bits}, overflow = "forbidden" }}\n\n'
        f'[types]\nacc = {{ kind = "block", mantissa = {bits}, exponent = 10 }}\n{types}'
    )


@pytest.fixture(autouse=True)
def wide_layer() -> None:
    """A layer that sums up 200 products of weights of -1."""
    w = ModelWriter(1)
    weights = w.constant(np.full((TERMS, 3), -1.0))
    onnx.save(w.model({"x": ["batch", TERMS]}, [w.node("MatMul", "x", weights)]), "wide.onnx")
    np.savez("wide.npz", x=np.random.default_rng(0).normal(0, 1, (8, TERMS)).astype(np.float32))


@pytest.mark.parametrize("bits", [34, 38, 39])
def test_accumulators_without_enough_guard_bits(bits: int) -> None:
    """Weights are rounded to -2**14 at the exponent that 2**15 - 1 would fit: 200 * 2**14 * 2**15 is below 2**37."""
    write_target("few.toml", descriptor(bits))
    total = TERMS * 2**14 * 2**15
    needed = total.bit_length() + 1
    if needed <= bits:
        succeed(*COMPILE, "--target", "few.toml", "--no-native")
        return
    message = refuse(*COMPILE, "--target", "few.toml", naming=("layer 'MatMul_0'", f"accumulators have {bits} bits"))
    found = re.search(r": (\d+) bits too many", message)
    assert found is not None
    assert int(found[1]) == needed - bits


def test_accumulators_too_narrow_for_one_product() -> None:
    """32767 * 32768 and 32768**2 take 32 bits with their sign: the descriptor is refused before any model is read."""
    write_target("few.toml", descriptor(27))
    refuse(
        "compile", "absent.onnx", "--target", "few.toml", "-o", "out",
        naming=(
            "few.toml, line 10: types.acc.mantissa: 27 bits cannot hold a single product of 'x' and 'w'",
            "5 bits too few",
        ),
    )


def test_limits_that_contradict_the_types() -> None:
    write_target("few.toml", descriptor(36).replace("bits = 36", "bits = 40"))
    refuse(
        *COMPILE, "--target", "few.toml",
        naming=("few.toml, line 7: limits.accumulator: accumulators have 40 bits, but 'acc'", "mantissas of 36"),
    )
