"""The schema of target descriptors: what a TOML file may say."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from qcompiler.errors import QCompilerError
from qcompiler.numerics import BlockFormat
from qcompiler.numerics.block_format import SCALE_RULES


def _ordered(value: list[int]) -> list[int]:
    if value[0] > value[1]:
        raise ValueError(f"the smallest value {value[0]} exceeds the largest, {value[1]}")
    return value


Range = Annotated[list[int], Field(min_length=2, max_length=2), AfterValidator(_ordered)]


def _integer(value: Any) -> Any:
    # A literal 1 equals true and 1.0.
    if type(value) is not int:
        raise ValueError(f"must be an integer, found {value!r}")
    return value


class Strict(BaseModel):
    """Unknown keys are errors, and so is a value of another type; descriptors do not change once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Accumulator(Strict):
    """Width of accumulators, and what the target does when one overflows."""

    bits: int = Field(default=32, ge=8, le=64, description="width of the accumulator in bits")
    overflow: Literal["forbidden", "saturate", "wrap"] = Field(
        default="forbidden",
        description="what it does with a sum that does not fit; verify-legal proves that there is none, see Overflow",
    )
    home: str | None = Field(
        default=None,
        description="signed integer format in which sums of parts meet; lets narrow-accumulators split a reduction",
    )
    proof: Literal["worst-case", "calibrated"] = Field(
        default="worst-case",
        description="what a program has to show: that no input overflows, or no calibration sample, with a warning",
    )


class Limits(Strict):
    """Limits that hold for every op."""

    max_rank: int | None = Field(default=None, ge=1, description="largest rank of any tensor")
    accumulator: Accumulator = Accumulator()


ScaleRule = Literal["free", "power-of-two", "product(0,1)", "floor", "no-overflow", "headroom"]

_BLOCK_FIELDS = (
    "mantissa", "exponent", "mx", "representation", "symmetric", "guard", "rounding", "overflow", "exponents",
)


class TypeSpec(Strict):
    """A number format, named in ``[types]`` and cited by op rows."""

    kind: Literal["affine", "block", "scalar"] = Field(
        description="'affine': integers with scale and zero point; 'block': mantissas that share an exponent a block; "
        "'scalar': plain machine numbers"
    )
    storage: str | list[str] = Field(
        [], description="machine format, or several to choose from: i8, u8, i32, f32, ...; block types have none"
    )
    blocks: Literal["tensor", "channel", "element"] | Annotated[int, Field(ge=1)] = Field(
        "tensor", description="affine: one scale for the tensor, one for each output channel, or one for each group "
        "of a number of weights along the reduction, the last perhaps shorter. block: one exponent "
        "for each sample of the tensor, for each element, or for a number of values along the reduction, else along "
        "the last axis"
    )
    zero_point: Literal["any"] | int = Field("any", description="'any', or the only zero point allowed")
    range: Range | None = Field(None, description="smallest and largest stored integer; default: those of storage")
    scale: ScaleRule | Annotated[float, Field(gt=0)] = Field(
        "free", description="affine: 'free', calibration chooses; 'power-of-two', the same among powers of two; "
        "'product(0,1)', that of the operands; a number, fixed. block: the scale rule, 'floor' where not given"
    )
    group_multiplier: Range | None = Field(
        None, description="affine, for blocks of a number: smallest and largest of the whole numbers, 255 at most, "
        "of which a group's scale is the multiple of one scale for each output channel"
    )
    where: list[str] = Field(
        [], description="predicates such as input-channels-at-least{count=8}: an operand has this format only where "
        "they hold of its op, else the next choice"
    )
    constant: bool = Field(False, description="the operand must be known at compile time")
    mantissa: int | None = Field(None, description="block: bits of a mantissa, sign included")
    exponent: int = Field(8, description="block: bits of an exponent")
    mx: str | None = Field(None, description="block: element of an OCP MX format, which sets widths and ranges")
    representation: Literal["twos-complement", "sign-magnitude"] = Field("twos-complement", description="block")
    symmetric: bool = Field(False, description="block: leaves out the smallest integer of two's complement")
    guard: int = Field(0, description="block: bits that the scale rule 'headroom' leaves free")
    rounding: str = Field("half-even", description="block: rounding of every shift to the right")
    overflow: Literal["clamp", "raise"] = Field(
        "clamp", description="block: what happens when rounding leaves the mantissa's range; 'raise' the exponent"
    )
    exponents: Literal["dynamic", "fixed"] = Field(
        "dynamic", description="block: exponents are found at run time, or chosen by calibration"
    )

    @model_validator(mode="after")
    def _fits_kind(self) -> Self:
        if self.kind != "block":
            of_blocks = [f for f in _BLOCK_FIELDS if f in self.model_fields_set]
            if of_blocks:
                raise ValueError(f"{of_blocks[0]!r} belongs to types of kind 'block'")
            if not self.storages:
                raise ValueError(f"a type of kind {self.kind!r} needs 'storage'")
            if self.blocks == "element":
                raise ValueError("blocks of an element belong to types of kind 'block'")
            self._check_groups()
            return self
        if self.group_multiplier is not None:
            raise ValueError("'group_multiplier' belongs to types of kind 'affine'")
        for name in ("storage", "zero_point", "range"):
            if name in self.model_fields_set:
                raise ValueError(f"{name!r} belongs to types of kind 'affine'")
        if self.blocks == "channel" or not (self.scale == "free" or self.scale in SCALE_RULES):
            wrong = "blocks" if self.blocks == "channel" else "scale"
            raise ValueError(f"a type of kind 'block' has no {wrong} {getattr(self, wrong)!r}")
        if (self.mantissa is None) == (self.mx is None):
            raise ValueError("a type of kind 'block' needs 'mantissa', or 'mx'")
        try:
            self.block_format  # noqa: B018 - may raise
        except QCompilerError as error:
            raise ValueError("; ".join(filter(None, (error.problem, error.found)))) from error
        return self

    def _check_groups(self) -> None:
        """Blocks of a number, and what they need, come together."""
        if not isinstance(self.blocks, int):
            if self.group_multiplier is not None:
                raise ValueError("'group_multiplier' needs 'blocks' of a number of values")
            return
        if self.kind != "affine":
            raise ValueError("a type of kind 'scalar' has no blocks")
        if self.group_multiplier is None:
            raise ValueError("'blocks' of a number of values need 'group_multiplier', such as [1, 15]")
        if not 1 <= self.group_multiplier[0] <= self.group_multiplier[1] <= 255:
            raise ValueError(f"'group_multiplier' lies within 1 and 255, found {self.group_multiplier}")
        if not self.constant or self.zero_point != 0 or self.scale != "free":
            raise ValueError("a type with groups needs 'constant = true' and 'zero_point = 0', and a free 'scale'")

    @cached_property
    def block_format(self) -> BlockFormat:
        """The format of a type of kind 'block'.

        Raises:
            QCompilerError: fields are out of range or contradict one another.
        """
        scale = "floor" if self.scale == "free" else str(self.scale)
        if self.mx is not None:
            return BlockFormat.mx(self.mx, scale=scale, rounding=self.rounding)
        assert self.mantissa is not None
        return BlockFormat(
            self.mantissa, self.exponent, self.representation, self.symmetric, "integer", scale, self.guard,
            self.rounding, self.overflow,
        )

    @property
    def storages(self) -> list[str]:
        return [self.storage] if isinstance(self.storage, str) else self.storage

    @property
    def is_product(self) -> bool:
        return self.scale == "product(0,1)"


class OpRow(Strict):
    """What the target demands of one op. An op without a row is illegal."""

    operands: list[str] = Field(
        alias="in",
        description="a type for each operand; 'name?' optional, 'name...' any number, 'a|b' a choice, "
        "'name{scale=1 zero_point=0}' with fixed parameters",
    )
    out: str = Field(description="type of every result")
    arithmetic: str | None = Field(None, description="the registered arithmetic, such as litert-add{shift=20}")
    ties: Literal["all"] | None = Field(None, description="'all': operands and results share scale and zero point")
    fuse: bool = Field(False, description="may end a fused kernel, after the op that it follows")
    fuse_after: list[str] = Field(
        [], description="with 'fuse': kernels that it may end, by their first op; all if empty"
    )
    kernel: Range | None = Field(None, description="smallest and largest kernel size along an axis")
    strides: Range | None = Field(None, description="smallest and largest stride along an axis")
    dilations: Range | None = Field(None, description="smallest and largest dilation along an axis")
    attributes: dict[str, list[Any]] = Field({}, description="allowed values of attributes")
    max_rank: int | None = Field(None, ge=1, description="largest rank of operand 0")
    max_weight_sum: int | None = Field(
        None, ge=1, description="largest sum of the magnitudes of an output channel's weights"
    )
    last_axis: bool = Field(False, description="the attribute 'axis' must be the last one")
    max_axis_length: int | None = Field(None, ge=1, description="longest extent along the attribute 'axis'")
    where: list[str] = Field([], description="further conditions: predicates such as channels-multiple-of{factor=16}")


class Descriptor(Strict):
    """A target descriptor."""

    schema_version: Annotated[Literal[1], BeforeValidator(_integer)] = Field(
        alias="schema", description="version of this schema"
    )
    extends: str | list[str] = Field(
        [], description="a target, or a .toml file beside this one, whose entries hold where this file has none; of "
        "several, those of a later one count more"
    )
    without: list[str] = Field([], description="ops of the target it extends that this target lacks")
    name: str = Field(pattern=r"^[a-z][a-z0-9-]*$", description="what --target takes")
    summary: str = Field(description="one sentence")
    source: str = Field(description="the public source of the target's rules")
    pipeline: str = Field(description="the default pipeline")
    fallback: Literal["error", "host"] = Field(
        "error", description="what legalize does with an op that the target lacks: refuse, or leave it to the host"
    )
    native: bool = Field(False, description="whether the target is a processor that compile makes native code for")
    layout: Literal["NCHW", "NHWC"] = Field("NCHW", description="axis order of images")
    decompositions: list[str] = Field([], description="decompositions that legalize may use, in order of preference")
    limits: Limits = Limits()
    types: dict[str, TypeSpec] = Field(description="number formats by name")
    ops: dict[str, OpRow] = Field(description="legal ops")

    @property
    def bases(self) -> list[str]:
        """The targets and files that this one extends."""
        return [self.extends] if isinstance(self.extends, str) else self.extends
