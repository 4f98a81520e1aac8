"""Descriptors that extend others: what is merged, what is refused, and which file an error names."""

from __future__ import annotations

from pathlib import Path

import pytest

from qcompiler import plugins
from qcompiler.errors import QCompilerError
from qcompiler.target import load_target, read_descriptor

plugins.load()

BASE = """\
schema = 1
name = "base"
summary = "A chip"
source = "Its manual"
pipeline = "simplify,legalize"
decompositions = ["prelu-to-relu"]

[limits]
max_rank = 4
accumulator = { bits = 24 }

[types]
act = { kind = "affine", storage = "i8" }
acc = { kind = "affine", storage = "i32", scale = "product(0,1)", zero_point = 0 }

[ops]
requantize = { in = ["acc|act"], out = "act", arithmetic = "double", fuse = true }
max_pool2d = { in = ["act"], out = "act", ties = "all" }
"""
CHILD = """\
schema = 1
extends = "base.toml"
name = "child"
summary = "Another chip"
"""


def write(folder: Path, **files: str) -> Path:
    """Files by name without ``.toml``; the path of the first."""
    for name, text in files.items():
        (folder / f"{name}.toml").write_text(text)
    return folder / f"{next(iter(files))}.toml"


def test_entries_hold_where_the_file_has_none(tmp_path: Path) -> None:
    target = read_descriptor(write(tmp_path, child=CHILD, base=BASE))
    descriptor = target.descriptor
    assert (descriptor.name, descriptor.summary, descriptor.source) == ("child", "Another chip", "Its manual")
    assert list(descriptor.ops) == ["requantize", "max_pool2d"]
    assert descriptor.limits.max_rank == 4


def test_tables_are_merged_entry_by_entry(tmp_path: Path) -> None:
    """An entry with its kind or operands replaces that of the base as a whole; lists are replaced, not joined."""
    child = CHILD + """
decompositions = ["divide-to-multiply"]
[limits]
max_rank = 5
[types]
act = { kind = "affine", storage = "u8" }
[ops]
max_pool2d = { in = ["act"], out = "act" }
avg = { in = ["act"], out = "act" }
"""
    with pytest.raises(QCompilerError, match=r"ops\.avg: unknown op"):
        read_descriptor(write(tmp_path, child=child, base=BASE))
    child = child.replace('avg = { in = ["act"], out = "act" }\n', "")
    target = read_descriptor(write(tmp_path, child=child, base=BASE))
    descriptor = target.descriptor
    assert descriptor.decompositions == ["divide-to-multiply"]
    assert (descriptor.limits.max_rank, descriptor.limits.accumulator.bits) == (5, 24)
    assert descriptor.types["act"].storage == "u8"
    assert descriptor.types["acc"].storage == "i32"
    assert not target.rows["max_pool2d"].tied
    assert target.rows["requantize"].operands[0].choices[1].storage == "u8"


def test_an_entry_without_its_kind_or_operands_changes_that_of_the_base(tmp_path: Path) -> None:
    child = CHILD + """
[limits]
accumulator = { overflow = "saturate" }
[types]
act = { zero_point = 0 }
[ops]
requantize = { arithmetic = "ruy" }
max_pool2d = { kernel = [1, 3] }
"""
    descriptor = read_descriptor(write(tmp_path, child=child, base=BASE)).descriptor
    accumulator = descriptor.limits.accumulator
    assert (accumulator.bits, accumulator.overflow) == (24, "saturate")
    assert (descriptor.types["act"].storage, descriptor.types["act"].zero_point) == ("i8", 0)
    requantize, pool = descriptor.ops["requantize"], descriptor.ops["max_pool2d"]
    assert (requantize.operands, requantize.fuse, requantize.arithmetic) == (["acc|act"], True, "ruy")
    assert (pool.ties, pool.kernel) == ("all", [1, 3])


def test_ops_that_the_target_is_without(tmp_path: Path) -> None:
    """They are gone from the base; a later target may have them again."""
    without = CHILD + 'without = ["max_pool2d"]\n'
    assert list(read_descriptor(write(tmp_path, child=without, base=BASE)).descriptor.ops) == ["requantize"]
    again = CHILD.replace("base", "child").replace('name = "child"', 'name = "third"') + """
[ops]
max_pool2d = { in = ["act"], out = "act", ties = "all" }
"""
    assert list(read_descriptor(write(tmp_path, third=again)).descriptor.ops) == ["requantize", "max_pool2d"]


def test_a_target_is_extended_by_its_name(tmp_path: Path) -> None:
    text = CHILD.replace("base.toml", "dsp-bfp16")
    target = read_descriptor(write(tmp_path, child=text))
    assert target.descriptor.types == load_target("dsp-bfp16").descriptor.types
    assert target.descriptor.extends == "dsp-bfp16"


def test_chains_and_folders(tmp_path: Path) -> None:
    """A relative path counts from the file that says it."""
    (tmp_path / "vendor" / "old").mkdir(parents=True)
    write(tmp_path / "vendor" / "old", base=BASE)
    write(tmp_path / "vendor", middle=CHILD.replace("base.toml", "old/base.toml") + "layout = 'NHWC'\n")
    path = write(tmp_path, child=CHILD.replace("base.toml", "vendor/middle.toml"))
    descriptor = read_descriptor(path).descriptor
    assert (descriptor.layout, descriptor.limits.max_rank) == ("NHWC", 4)


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ('"dsp-bfp17"', "child.toml, line 2: extends: unknown target 'dsp-bfp17'"),
        ('"absent.toml"', "child.toml, line 2: extends: there is no file .*absent.toml"),
        ("3", "child.toml, line 2: extends: must be the name of a target or the path"),
        ('["dsp-bfp16", 3]', "child.toml, line 2: extends: must be the name of a target or the path"),
        ('["tpu-int8", "dsp-bfp17"]', "child.toml, line 2: extends: unknown target 'dsp-bfp17'"),
    ],
)
def test_bases_that_there_are_not(base: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(QCompilerError, match=message) as caught:
        read_descriptor(write(tmp_path, child=CHILD.replace('"base.toml"', base)))
    if "dsp-bfp17" in base:
        assert "dsp-bfp16" in str(caught.value.fix)


def test_of_several_bases_the_later_counts_more(tmp_path: Path) -> None:
    """A base of both comes before them, so that what the first changes of it holds."""
    files = {
        "both": CHILD.replace('"base.toml"', '["first.toml", "second.toml"]').replace("child", "both"),
        "first": CHILD + "[limits]\nmax_rank = 5\n[types]\nact = { zero_point = 1 }\n",
        "second": CHILD + "layout = 'NHWC'\n[types]\nact = { zero_point = 2 }\n",
        "base": BASE,
    }
    descriptor = read_descriptor(write(tmp_path, **files)).descriptor
    assert (descriptor.limits.max_rank, descriptor.layout, descriptor.types["act"].zero_point) == (5, "NHWC", 2)
    assert descriptor.bases == ["first.toml", "second.toml"]
    turned = files["both"].replace('"first.toml", "second.toml"', '"second.toml", "first.toml"')
    assert read_descriptor(write(tmp_path, both=turned)).descriptor.types["act"].zero_point == 1


def test_a_circle_through_the_second_of_two_bases(tmp_path: Path) -> None:
    files = {
        "child": CHILD.replace('"base.toml"', '["base.toml", "second.toml"]'),
        "second": CHILD.replace("base.toml", "child.toml"), "base": BASE,
    }
    with pytest.raises(QCompilerError, match=r"second\.toml, line 2: extends: a descriptor cannot extend itself"):
        read_descriptor(write(tmp_path, **files))


def test_a_base_that_is_broken_is_named(tmp_path: Path) -> None:
    with pytest.raises(QCompilerError, match=r"base\.toml: not a TOML file"):
        read_descriptor(write(tmp_path, child=CHILD, base="[types\n"))


@pytest.mark.parametrize("names", [("child",), ("child", "second"), ("child", "second", "third")])
def test_nothing_extends_itself(names: tuple[str, ...], tmp_path: Path) -> None:
    files = {
        name: CHILD.replace("base.toml", f"{names[(i + 1) % len(names)]}.toml") for i, name in enumerate(names)
    }
    message = rf"{names[-1]}\.toml, line 2: extends: a descriptor cannot extend itself"
    with pytest.raises(QCompilerError, match=message) as caught:
        read_descriptor(write(tmp_path, **files))
    assert caught.value.problem.endswith(": " + " -> ".join(f"{n}.toml" for n in (*names, names[0])))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        # Entries that only the base has: its file, its line.
        ('storage = "i32"', 'storage = "i33"', r"base\.toml, line 14: types\.acc\.storage: unknown number format"),
        ('ties = "all"', 'ties = "some"', r"base\.toml, line 18: ops\.max_pool2d\.ties"),
        ("max_rank = 4", "max_rnk = 4", r"base\.toml, line 9: limits\.max_rnk: unknown key"),
        ('arithmetic = "double"', 'arithmetic = "dobule"', r"base\.toml, line 17: ops\.requantize\.arithmetic"),
        ('source = "Its manual"\n', "", r"child\.toml: source: key is missing"),
        ('pipeline = "', 'pipelines = "', r"base\.toml, line 5: pipelines: unknown key"),
    ],
)
def test_errors_name_the_file_that_has_the_entry(old: str, new: str, message: str, tmp_path: Path) -> None:
    assert old in BASE
    with pytest.raises(QCompilerError, match=message):
        read_descriptor(write(tmp_path, child=CHILD, base=BASE.replace(old, new)))


def test_an_entry_of_both_files_is_that_of_the_child(tmp_path: Path) -> None:
    child = CHILD + '[types]\nact = { kind = "affine", storage = "i9" }\n'
    with pytest.raises(QCompilerError, match=r"child\.toml, line 6: types\.act\.storage: unknown number format 'i9'"):
        read_descriptor(write(tmp_path, child=child, base=BASE))


def test_a_type_of_the_child_is_checked_with_rows_of_the_base(tmp_path: Path) -> None:
    """The row cites a type that the child made too narrow: the type's own line is named."""
    child = CHILD.replace("base.toml", "dsp-bfp16") + """
[limits]
accumulator = { bits = 30, overflow = "forbidden" }
[types]
acc = { kind = "block", mantissa = 30, exponent = 10 }
"""
    with pytest.raises(QCompilerError, match=r"child\.toml, line 9: types\.acc\.mantissa: 30 bits .*: 2 bits too few"):
        read_descriptor(write(tmp_path, child=child))
