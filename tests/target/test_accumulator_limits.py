"""What a descriptor may say of accumulators."""

from __future__ import annotations

from pathlib import Path

import pytest

from qcompiler.errors import QCompilerError
from qcompiler.target import built_in_targets, load_target

LINE = 'accumulator = { bits = 32, overflow = "forbidden" }'


def write(folder: Path, accumulator: str, base: str = "tpu-int8", line: str = LINE) -> Path:
    text = built_in_targets()[base].read_text()
    assert line in text
    path = folder / f"{base}.toml"
    path.write_text(text.replace(line, f"accumulator = {{ {accumulator} }}"))
    return path


@pytest.mark.parametrize(
    "accumulator",
    ['bits = 20, home = "i32"', 'bits = 32, home = "i32"', 'bits = 20, overflow = "saturate", proof = "calibrated"',
     'bits = 20, overflow = "wrap", proof = "worst-case"'],
)
def test_what_goes_together(tmp_path: Path, accumulator: str) -> None:
    limits = load_target(write(tmp_path, accumulator)).descriptor.limits.accumulator
    assert limits.home == ("i32" if "home" in accumulator else None)
    assert limits.proof == ("calibrated" if "calibrated" in accumulator else "worst-case")


@pytest.mark.parametrize(
    ("accumulator", "message"),
    [
        ('bits = 20, home = "i23"', r"limits\.accumulator\.home: unknown number format 'i23'"),
        ('bits = 20, home = "u32"', r"limits\.accumulator\.home: u32 is no signed integer"),
        ('bits = 20, home = "f32"', r"limits\.accumulator\.home: f32 is no signed integer"),
        ('bits = 20, home = "i16"', r"limits\.accumulator\.home: i16 is narrower than the accumulator, which has 20"),
        ('bits = 20, home = "i64"', r"limits\.accumulator\.home: partial sums live in i64, but 'acc', .* stores 32"),
        ('bits = 20, overflow = "forbidden", proof = "calibrated"', r"accumulator\.proof: overflow is forbidden"),
        ('bits = 20, proof = "none"', r"limits\.accumulator\.proof"),
    ],
)
def test_what_contradicts(tmp_path: Path, accumulator: str, message: str) -> None:
    with pytest.raises(QCompilerError, match=message) as caught:
        load_target(write(tmp_path, accumulator))
    assert "line " in str(caught.value)
    assert caught.value.fix or caught.value.expected or "proof" in accumulator


def test_block_floating_point_has_no_home(tmp_path: Path) -> None:
    line = 'accumulator = { bits = 40, overflow = "forbidden" }'
    with pytest.raises(QCompilerError, match="sums of block floating point are not split"):
        load_target(write(tmp_path, 'bits = 40, overflow = "forbidden", home = "i64"', "dsp-bfp16", line))


@pytest.mark.parametrize(("largest", "bits", "missing"), [(15, 17, 0), (255, 20, 0), (255, 19, 1), (255, 17, 3)])
def test_a_product_counts_the_multiplier_of_its_group(tmp_path: Path, largest: int, bits: int, missing: int) -> None:
    """255 * 8 * 255 lies below 2**19, and has a sign; with 15, the product of two activations, 255 * 255, is larger."""
    path = tmp_path / "narrow.toml"
    path.write_text(f"""
schema = 1
extends = "w4a8"
name = "narrow"
summary = "narrow sums"
[types]
wt4 = {{ group_multiplier = [1, {largest}] }}
[limits]
accumulator = {{ bits = {bits}, overflow = "forbidden", home = "i32" }}
""")
    if not missing:
        load_target(path)
        return
    with pytest.raises(QCompilerError, match=f"{bits} bits cannot hold a single product of .*: {missing} bits too few"):
        load_target(path)
