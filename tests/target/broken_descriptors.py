"""Broken descriptors: a sound one, what is replaced in it, and what the error says."""

from __future__ import annotations

import re
from typing import NamedTuple

SOFTMAX = (
    'softmax    = { in = ["act"], out = "act{scale=0.00390625 zero_point=-128}", arithmetic = "gemmlowp-softmax", '
    "last_axis = true, max_axis_length = 8 }"
)
AFFINE = """\
schema = 1
name = "chip"
summary = "A chip"
source = "Its manual"
pipeline = "simplify,legalize,annotate"
fallback = "error"
layout = "NHWC"
decompositions = ["prelu-to-relu"]

# A comment that says: max_rank = 3, act = 4
[limits]
max_rank = 4
accumulator = { bits = 32, overflow = "forbidden" }

[types]
real = { kind = "scalar", storage = "f32" }
act  = { kind = "affine", storage = "i8" }
wt   = { kind = "affine", storage = "i8", blocks = "channel", zero_point = 0, range = [-127, 127], constant = true }
bias = { kind = "affine", storage = "i32", scale = "product(0,1)", zero_point = 0, constant = true }
acc  = { kind = "affine", storage = "i32", scale = "product(0,1)", zero_point = 0 }

[ops]
quantize   = { in = ["real"], out = "act", arithmetic = "affine{rounding=half-away}" }
dequantize = { in = ["act"], out = "real" }
requantize = { in = ["acc|act"], out = "act", arithmetic = "double", fuse = true }
conv2d     = { in = ["act", "wt", "bias?"], out = "acc", kernel = [1, 5], where = ["channels-multiple-of{factor=4}"] }
add        = { in = ["act", "act"], out = "act", arithmetic = "litert-add{shift=20}" }
max_pool2d = { in = ["act"], out = "act", ties = "all", kernel = [2, 3], attributes = { layout = ["NHWC"] } }
concat     = { in = ["act..."], out = "act", ties = "all" }
""" + SOFTMAX + """
clamp      = { in = ["act"], out = "act", fuse = true }
"""
BLOCK = """\
schema = 1
name = "chip"
summary = "A chip"
source = "Its manual"
pipeline = "simplify,legalize"

[limits]
accumulator = { bits = 24, overflow = "saturate" }

[types]
real = { kind = "scalar", storage = "f32" }
x    = { kind = "block", mantissa = 8, blocks = 16, scale = "headroom", guard = 1 }
acc  = { kind = "block", mantissa = 24, exponent = 10, blocks = "element" }

[ops]
to_block   = { in = ["real"], out = "x" }
normalize  = { in = ["acc"], out = "x" }
matmul     = { in = ["x", "x"], out = "acc", arithmetic = "fixed-point{overflow=saturate}" }
add        = { in = ["x", "x"], out = "acc", arithmetic = "align-larger" }
"""


class Broken(NamedTuple):
    """What is replaced by what; the keys, the text and the fix of the error.

    The line is that of ``new``, else that of ``at``, a text of the whole descriptor; None where no line has the key.
    """

    old: str
    new: str
    keys: str
    text: str
    fix: str = ""
    at: str | None = ""


CASES: dict[str, Broken] = {
    # Keys
    "unknown key": Broken('summary = "A', 'sumary = "A', "sumary", "unknown key", "did you mean 'summary'?"),
    "unknown key of limits": Broken("max_rank = 4", "max_rnk = 4", "limits.max_rnk", "unknown key", "'max_rank'"),
    "unknown key of accumulator": Broken("{ bits =", "{ bit =", "limits.accumulator.bit", "unknown key", "'bits'"),
    "unknown key of a type": Broken('"i8" }', '"i8", bloks = 1 }', "types.act.bloks", "unknown key", "'blocks'"),
    "unknown key of a row": Broken('"double", fuse', '"double", fuze', "ops.requantize.fuze", "unknown key", "'fuse'"),
    "key that is like none": Broken('layout =', 'qqq =', "qqq", "unknown key", "the keys here are schema, "),
    "another spelling": Broken("max_rank = 4", "max-rank = 4", "limits.max-rank", "unknown key", "'max_rank'"),
    "spelling of the code": Broken(
        'clamp      = { in =', 'clamp      = { operands =', "ops.clamp.operands", "unknown key", "did you mean 'in'?"
    ),
    "two spellings": Broken(
        'layout = "NHWC"', 'layout = "NHWC"\nLayout = "NHWC"', "Layout", "unknown key", "'layout'", "Layout ="
    ),
    "unknown table": Broken("[limits]", "[limit]", "limit", "unknown key", "'limits'"),
    "missing key": Broken('source = "Its manual"\n', "", "source", "key is missing", "the public source", None),
    "missing table": Broken(
        AFFINE[AFFINE.index("[types]"):AFFINE.index("[ops]")], "", "types", "key is missing",
        "number formats by name", None,
    ),
    "missing key of a row": Broken(
        'clamp      = { in = ["act"], out = "act", fuse', 'clamp      = { in = ["act"], fuse', "ops.clamp.out",
        "key is missing", "type of every result",
    ),
    "missing kind": Broken('{ kind = "affine", storage = "i8" }', '{ storage = "i8" }', "types.act.kind", "missing"),
    # Types of values
    "text for a number": Broken("max_rank = 4", 'max_rank = "4"', "limits.max_rank", "valid integer; found '4'"),
    "truth for a number": Broken("max_rank = 4", "max_rank = true", "limits.max_rank", "valid integer; found True"),
    "number for truth": Broken('"double", fuse = true', '"double", fuse = 1', "ops.requantize.fuse", "valid boolean"),
    "text for a list": Broken('["acc|act"]', '"acc|act"', "ops.requantize.in", "should be a valid array"),
    "number for a text": Broken('summary = "A chip"', "summary = 3", "summary", "should be a valid string; found 3"),
    "number for a table": Broken(
        AFFINE[AFFINE.index("[limits]"):AFFINE.index("[types]")], "limits = 3\n", "limits",
        "should be a valid table; found 3",
    ),
    "number for an entry": Broken(
        'act  = { kind = "affine", storage = "i8" }', "act = 3", "types.act", "should be a valid table; found 3"
    ),
    "number for a storage": Broken('storage = "f32"', "storage = 8", "types.real.storage", "string, or .* array"),
    "another schema": Broken("schema = 1", "schema = 2", "schema", "should be 1; found 2"),
    "schema that equals": Broken("schema = 1", "schema = true", "schema", "must be an integer, found True"),
    "malformed name": Broken('name = "chip"', 'name = "My Chip"', "name", "match pattern"),
    "unknown layout": Broken('"NHWC"\n', '"CHWN"\n', "layout", "'NCHW' or 'NHWC'; found 'CHWN'"),
    "unknown fallback": Broken('"error"', '"gpu"', "fallback", "'error' or 'host'; found 'gpu'"),
    "unknown kind": Broken('"scalar"', '"sclar"', "types.real.kind", "found 'sclar'"),
    "unknown overflow": Broken('"forbidden"', '"clip"', "limits.accumulator.overflow", "found 'clip'"),
    "unknown zero point": Broken("zero_point = 0, range", 'zero_point = "some", range', "types.wt.zero_point", "'any'"),
    "unknown ties": Broken('ties = "all", k', 'ties = "some", k', "ops.max_pool2d.ties", "'all'; found 'some'"),
    # Citations
    "unknown storage": Broken('"f32"', '"f31"', "types.real.storage", "unknown number format 'f31'", "'f32'"),
    "storage twice": Broken('storage = "f32"', 'storage = ["f32", "f32"]', "types.real.storage", "twice"),
    "no storage": Broken('storage = "f32"', "storage = []", "types.real", "a type of kind 'scalar' needs 'storage'"),
    "real storage": Broken('"i8" }', '"f32" }', "types.act.storage", "affine types store integers, not f32"),
    "unknown op": Broken("clamp ", "clmap ", "ops.clmap", "unknown op 'clmap'", "'clamp'"),
    "unknown type": Broken('["act", "act"]', '["act", "akt"]', "ops.add.in", "unknown type 'akt'", "'act'"),
    "unknown type of a result": Broken('out = "real"', 'out = "reel"', "ops.dequantize.out", "'reel'", "'real'"),
    "malformed type": Broken('["act", "act"]', '["act", "act!"]', "ops.add.in", "malformed type 'act!'", "write NAME"),
    "unknown parameter of a type": Broken("zero_point=-128}", "zero=-128}", "ops.softmax.out", "takes scale and zero_"),
    "parameter that is no number": Broken("zero_point=-128}", "zero_point=x}", "ops.softmax.out", "must be a number"),
    "parameter out of range": Broken("zero_point=-128}", "zero_point=300}", "ops.softmax.out", "300 is not within i8"),
    "scale of nothing": Broken("scale=0.00390625", "scale=0", "ops.softmax.out", "a scale must be above 0"),
    "parameter of a scalar": Broken(
        'dequantize = { in = ["act"], out = "real"', 'dequantize = { in = ["act"], out = "real{scale=1}"',
        "ops.dequantize.out", "a type of kind 'scalar' takes no parameters",
    ),
    "unknown arithmetic": Broken('"double"', '"dobule"', "ops.requantize.arithmetic", "'dobule'", "'double'"),
    "arithmetic of another op": Broken('"double"', '"litert-add"', "ops.requantize.arithmetic", "no arithmetic 'li"),
    "arithmetic of an op with none": Broken(
        'clamp      = { in = ["act"],', 'clamp = { in = ["act"], arithmetic = "double",', "ops.clamp.arithmetic",
        "op 'clamp' has no arithmetic 'double'", "a single meaning",
    ),
    "unknown parameter": Broken(
        "add{shift=20}", "add{shfit=20}", "ops.add.arithmetic", "no parameter 'shfit'", "shift"
    ),
    "parameter of another type": Broken("add{shift=20}", "add{shift=far}", "ops.add.arithmetic", "wrong type", "int"),
    "parameter of another value": Broken("half-away}", "half-up-up}", "ops.quantize.arithmetic", "rounding 'half-up-"),
    "malformed arithmetic": Broken('"double"', '"double{"', "ops.requantize.arithmetic", "not an arithmetic", "NAME"),
    "no arithmetic": Broken(
        ', arithmetic = "double"', "", "ops.requantize", "cites no arithmetic", "double", "requant"
    ),
    "arithmetic of blocks": Broken('"litert-add{shift=20}"', '"align-larger"', "ops.add.arithmetic", "affine types"),
    "unknown predicate": Broken(
        "channels-multiple-of{", "channel-multiple-of{", "ops.conv2d.where", "no", "'channels-m"
    ),
    "unknown parameter of a predicate": Broken("{factor=4}", "{fctor=4}", "ops.conv2d.where", "'fctor'", "'factor'"),
    "predicate without its parameter": Broken("{factor=4}", "", "ops.conv2d.where", "lacks", "factor=", "conv2d "),
    "predicate with another value": Broken("{factor=4}", "{factor=x}", "ops.conv2d.where", "wrong type", "int"),
    "malformed predicate": Broken("{factor=4}", "{factor", "ops.conv2d.where", "malformed condition", "write NAME"),
    "unknown attribute": Broken("layout = [", "layuot = [", "ops.max_pool2d.attributes", "'layuot'", "'layout'"),
    "no value of an attribute": Broken('["NHWC"]', "[]", "ops.max_pool2d.attributes", "no allowed value"),
    "value of another type": Broken('["NHWC"]', "[3]", "ops.max_pool2d.attributes", "3 cannot be a value", "type str"),
    "unknown decomposition": Broken(
        "prelu-to-relu", "prelu-to-rlu", "decompositions", "'prelu-to-rlu'", "'prelu-to-relu'"
    ),
    "decomposition twice": Broken('u"]', 'u", "prelu-to-relu"]', "decompositions", "names 'prelu-to-relu' twice"),
    "unknown pass": Broken(",annotate", ",anotate", "pipeline", "unknown pass 'anotate'", "'annotate'"),
    "unknown option of a pass": Broken(",annotate", ",annotate,calibrate{methd=x}", "pipeline", "methd", "'method'"),
    "malformed pipeline": Broken(",annotate", ",annotate{", "pipeline", "", ""),
    # Contradictions
    "range beyond storage": Broken("[-127, 127]", "[-127, 128]", "types.wt.range", "not within i8", "[-128, 127]"),
    "range turned around": Broken("[-127, 127]", "[127, -127]", "types.wt.range", "127 exceeds the largest, -127"),
    "range of three": Broken("[-127, 127]", "[-127, 0, 127]", "types.wt.range", "at most 2 items"),
    "zero point beyond storage": Broken("zero_point = 0, ra", "zero_point = 128, ra", "types.wt.zero_point", "128 is"),
    "zero point beyond the range": Broken(
        "[-127, 127]", "[1, 127]", "types.wt.zero_point", r"0 is not within \[1, 127"
    ),
    "zero point of a scalar": Broken('"f32"', '"f32", zero_point = 0', "types.real.zero_point", "kind 'affine'"),
    "range of a scalar": Broken(
        '"f32"', '"f32", range = [0, 1]', "types.real.range", "belongs to types of kind 'affine'"
    ),
    "scale of a scalar": Broken('"f32"', '"f32", scale = 1.0', "types.real.scale", "belongs to types of kind 'affine'"),
    "scale rule of blocks": Broken('"i8" }', '"i8", scale = "floor" }', "types.act.scale", "kind 'block'", "'free'"),
    "unknown scale rule": Broken('"i8" }', '"i8", scale = "fre" }', "types.act.scale", "found 'fre'"),
    "scale below 0": Broken('"i8" }', '"i8", scale = -1.0 }', "types.act.scale", "greater than 0"),
    "scale that is no float32": Broken('"i8" }', '"i8", scale = 1e-60 }', "types.act.scale", "1e-60 is no float32"),
    "endless scale": Broken('"i8" }', '"i8", scale = inf }', "types.act.scale", "inf is no float32"),
    "key of blocks": Broken(
        '"i8" }', '"i8", mantissa = 8 }', "types.act", "'mantissa' belongs to types of kind 'block'"
    ),
    "blocks of an element": Broken('"i8" }', '"i8", blocks = "element" }', "types.act", "kind 'block'"),
    "kernel turned around": Broken(
        "kernel = [1, 5]", "kernel = [5, 3]", "ops.conv2d.kernel", "5 exceeds the largest, 3"
    ),
    "kernel that none meets": Broken(
        "kernel = [1, 5]", "kernel = [-1, 0]", "ops.conv2d.kernel", "no kernel lies within"
    ),
    "kernel of an op without": Broken('"act..."]', '"act..."], kernel = [1, 2]', "ops.concat.kernel", "has no kernel"),
    "strides of an op without": Broken('"act..."]', '"act..."], strides = [1, 2]', "ops.concat.strides", "no strides"),
    "dilations of an op without": Broken(
        '"act..."]', '"act..."], dilations = [1, 2]', "ops.concat.dilations", "no dil"
    ),
    "axis of an op without": Broken(
        '["act", "act"]', '["act", "act"], last_axis = true', "ops.add.last_axis", "'axis'"
    ),
    "length of an op without axis": Broken(
        '["act", "act"]', '["act", "act"], max_axis_length = 9', "ops.add.max_axis_length", "no attribute 'axis'"
    ),
    "fuse of two operands": Broken(
        '["act", "act"]', '["act", "act"], fuse = true', "ops.add.fuse", "cannot end a fused"
    ),
    "fuse of a window": Broken(
        'ties = "all", k', "fuse = true, k", "ops.max_pool2d.fuse", "cannot end", "leave it out"
    ),
    "fuse of a boundary": Broken(
        'out = "real"', 'out = "real", fuse = true', "ops.dequantize.fuse", "cannot end a fused"
    ),
    "ties of two scales": Broken(
        'in = ["act"], out = "act", ties', 'in = ["act{scale=0.5}"], out = "act{scale=0.25}", ties',
        "ops.max_pool2d.ties", "cannot share", "leave out 'ties'",
    ),
    "ties of two storages": Broken(
        'in = ["act"], out = "act", ties', 'in = ["acc"], out = "act", ties', "ops.max_pool2d.ties", "cannot share"
    ),
    "ties of nothing": Broken(
        'dequantize = { in = ["act"],', 'dequantize = { in = ["act"], ties = "all",', "ops.dequantize.ties", "to tie"
    ),
    "constant result": Broken(
        'out = "act", fuse', 'out = "wt", fuse', "ops.clamp.out", "a result is computed", at="clamp"
    ),
    "product of one operand": Broken(
        'clamp      = { in = ["act"], out = "act"', 'clamp      = { in = ["act"], out = "acc"', "ops.clamp.out",
        "the scale of a product, but clamp has one operand",
    ),
    "optional result": Broken('out = "real"', 'out = "real?"', "ops.dequantize.out", "neither optional nor any number"),
    "optional operand first": Broken(
        '["act", "act"]', '["act?", "act"]', "ops.add.in", "optional operand stands before"
    ),
    "any number first": Broken('["act", "act"]', '["act...", "act"]', "ops.add.in", "only the last operand"),
    "no operand": Broken('["act..."]', "[]", "ops.concat.in", "at least one operand"),
    "accumulator beyond its storage": Broken(
        "bits = 32", "bits = 40", "limits.accumulator", "40 bits, but 'acc', the result of conv2d, stores 32",
        "bits = 32",
    ),
    "accumulator narrower than a product": Broken(
        "bits = 32", "bits = 15", "limits.accumulator", "single product of conv2d: 1 bits too few", "bits = 16 or more"
    ),
    "accumulator of no width": Broken("bits = 32", "bits = 0", "limits.accumulator.bits", "greater than or equal to 8"),
    "rank of nothing": Broken("max_rank = 4", "max_rank = 0", "limits.max_rank", "greater than or equal to 1"),
    "shift of any scale": Broken(
        '"double"', '"shift"', "ops.requantize.arithmetic", "scales that are powers of two, but those of 'act' need",
        "power-of-two",
    ),
    "sum by shifts of any scale": Broken(
        '"litert-add{shift=20}"', '"shift-add"', "ops.add.arithmetic", "shift-add needs scales that are powers of two",
        "another arithmetic",
    ),
    "no requantize": Broken(
        re.findall("requantize = .*\n", AFFINE)[0], "", "ops", "need an op 'requantize'", "add it to", "[ops]"
    ),
}
BLOCK_CASES: dict[str, Broken] = {
    "storage of a block": Broken("mantissa = 8,", 'mantissa = 8, storage = "i8",', "types.x", "'storage' belongs to"),
    "zero point of a block": Broken(
        "mantissa = 8,", "mantissa = 8, zero_point = 0,", "types.x", "'zero_point' belongs"
    ),
    "scale rule of affine types": Broken('"headroom", guard = 1', '"product(0,1)"', "types.x", "has no scale 'product"),
    "guard without headroom": Broken(', scale = "headroom"', "", "types.x", "guard bits belong to", at="x "),
    "parameters of a block type": Broken(
        '["acc"]', '["acc{scale=1}"]', "ops.normalize.in", "'block' takes no parameters"
    ),
    "arithmetic of integers": Broken('"align-larger"', '"litert-add"', "ops.add.arithmetic", "of block floating point"),
    "accumulator of other bits": Broken("bits = 24", "bits = 32", "limits.accumulator", "have 32 bits, but 'acc'"),
    "accumulator of other overflow": Broken('"saturate" }\n\n', '"wrap" }\n\n', "limits.accumulator", "'saturate' in"),
    "factors too wide": Broken("mantissa = 8", "mantissa = 24", "types.acc.mantissa", "24 bits cannot hold", at="acc "),
    "exponents too short": Broken("exponent = 10", "exponent = 8", "types.acc.exponent", "cannot hold the exponents"),
    "way to the host": Broken(
        'pipeline = "simplify,legalize"', 'pipeline = "simplify,legalize"\nfallback = "host"', "fallback",
        "needs an op 'from_block'", "add it to", "fallback",
    ),
}
ALL = {
    **{name: (AFFINE, case) for name, case in CASES.items()},
    **{f"block: {name}": (BLOCK, case) for name, case in BLOCK_CASES.items()},
}
