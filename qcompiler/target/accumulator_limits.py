"""Whether what a descriptor says of its accumulators goes together: overflow, proof, the home of partial sums."""

from __future__ import annotations

from collections.abc import Iterator

from qcompiler.errors import did_you_mean
from qcompiler.ir import OPS, SCALARS, Fact
from qcompiler.target.problem import Problem
from qcompiler.target.target import Target

_KEYS = ("limits", "accumulator")


def accumulator_limit_problems(target: Target) -> Iterator[Problem]:
    """``limits.accumulator``: a home that holds what the accumulator does, a proof that the overflow allows."""
    limits = target.descriptor.limits.accumulator
    if limits.proof == "calibrated" and limits.overflow == "forbidden":
        yield Problem(
            (*_KEYS, "proof"), "overflow is forbidden, so that calibration data prove nothing",
            "leave 'proof' out, or set overflow = 'saturate' or 'wrap'",
        )
    if limits.home is None:
        return
    keys = (*_KEYS, "home")
    home = SCALARS.get(limits.home)
    signed = [name for name, scalar in SCALARS.items() if scalar.kind == "int"]
    if home is None or home.kind != "int":
        what = f"unknown number format {limits.home!r}" if home is None else f"{limits.home} is no signed integer"
        yield Problem(keys, what, did_you_mean(limits.home, signed) or f"use one of {', '.join(signed)}")
        return
    if target.has_blocks:
        yield Problem(keys, "sums of block floating point are not split", "leave it out")
    if home.bits < limits.bits:
        yield Problem(
            keys, f"{home} is narrower than the accumulator, which has {limits.bits} bits", "use a wider format"
        )
    for name, row in target.rows.items():
        if Fact.CONTRACTION not in OPS[name].facts:
            continue
        for cited, spec in zip(row.out.names, row.out.choices, strict=True):
            widest = max((SCALARS[s].bits for s in spec.storages), default=home.bits)
            if spec.kind == "affine" and widest < home.bits:
                yield Problem(
                    keys, f"partial sums live in {home}, but {cited!r}, the result of {name}, stores {widest} bits",
                    f"use i{widest}, or a wider storage",
                )
