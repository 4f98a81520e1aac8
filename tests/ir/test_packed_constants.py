"""4-bit constants in files: two to a byte, the low nibble first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import save

from qcompiler.errors import QCompilerError
from qcompiler.ir import (
    Affine,
    Builder,
    ConstantArray,
    Graph,
    Scalar,
    TensorType,
    read_program,
    structural_hash,
    write_dump,
    write_program,
)
from qcompiler.ir.packed_constants import load_constants, pack_nibbles, save_constants, unpack_nibbles
from qcompiler.ir.scalar import I4, I8, U4
from qcompiler.ops.constant import Constant


def program(*constants: tuple[Any, Scalar]) -> Graph:
    graph = Graph("constants")
    build = Builder(graph)
    values = [build(Constant(ConstantArray(a)), elem=Affine.per_tensor(s, 0.5)) for a, s in constants]
    graph.set_outputs((f"y{i}", value) for i, value in enumerate(values))
    return graph


def numbers(scalar: Scalar, shape: tuple[int, ...]) -> np.ndarray:
    drawn = np.random.default_rng().integers(scalar.minimum, scalar.maximum, shape, endpoint=True)
    return drawn.astype(scalar.dtype)


def test_the_first_number_stands_in_the_low_nibble() -> None:
    assert pack_nibbles(np.array([1, -8, 7, -1, 5], np.int8)).tolist() == [0x81, 0xF7, 0x05]
    assert pack_nibbles(np.array([[15], [0]], np.uint8)).tolist() == [0x0F]


@pytest.mark.parametrize("scalar", [I4, U4], ids=str)
@given(drawn=st.lists(st.integers(0, 15), max_size=9))
def test_unpacking_gives_the_numbers_back(scalar: Scalar, drawn: list[int]) -> None:
    array = (np.array(drawn, np.int64) + scalar.minimum).astype(scalar.dtype)
    packed = pack_nibbles(array)
    assert len(packed) == (len(drawn) + 1) // 2
    again = unpack_nibbles(packed, scalar, len(drawn))
    assert again.dtype == scalar.dtype
    np.testing.assert_array_equal(again, array)


@pytest.mark.parametrize("write", [write_program, write_dump])
def test_programs_read_back_equal(write: Any, tmp_path: Path) -> None:
    """Constants of 4 and 8 bits, of an odd number of elements, and one array that two types share."""
    shared = numbers(I4, (3, 5))
    graph = program((shared, I4), (numbers(U4, (9,)), U4), (shared, I8), (numbers(I8, (4, 4)), I8))
    write(graph, tmp_path / "p.qir")
    again = read_program(tmp_path / "p.qir")
    assert structural_hash(again) == structural_hash(graph)


def test_the_file_holds_half_a_byte_each(tmp_path: Path) -> None:
    array = numbers(I4, (3, 3, 7))
    write_program(program((array, I4), (numbers(I8, (12,)), I8)), tmp_path / "p.qir")
    with safe_open(tmp_path / "p.safetensors", framework="numpy") as file:
        stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
        formats = file.metadata()
    assert sorted(a.nbytes for a in stored.values()) == [12, 32]
    (name,) = formats
    assert formats[name] == "i4[3,3,7]"
    np.testing.assert_array_equal(stored[name], pack_nibbles(array))


def test_numbers_outside_of_their_type_are_not_packed(tmp_path: Path) -> None:
    """A program that is no good is written as it is, for whoever wants to see why."""
    graph = program((np.arange(-10, 10).astype(np.int8), I8))
    value = graph.outputs[0].value
    value.type = TensorType(value.type.shape, Affine.per_tensor(I4, 0.5))
    write_program(graph, tmp_path / "p.qir")
    assert structural_hash(read_program(tmp_path / "p.qir")) == structural_hash(graph)


@pytest.mark.parametrize("text", ["i4[3]", "i3[4]", "i4[5]", "nonsense"])
def test_metadata_that_do_not_fit_are_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "p.safetensors"
    arrays = {"a": numbers(I4, (5 if text == "i4[3]" else 3,))}
    path.write_bytes(save_constants(arrays, {"a": I4}))
    load_constants(path)
    path.write_bytes(save({"a": pack_nibbles(arrays["a"])}, {"a": text}))
    with pytest.raises(QCompilerError, match="does not hold packed numbers"):
        load_constants(path)
