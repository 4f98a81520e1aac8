"""``qcompiler targets``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from qcompiler.cli.terminal import print_table

if TYPE_CHECKING:
    from qcompiler.target import Row, Target, TypeSpec

targets_application = typer.Typer(help="List the targets, or show one.")


@targets_application.callback(invoke_without_command=True)
def list_targets(context: typer.Context) -> None:
    """List the targets, or show one."""
    if context.invoked_subcommand:
        return
    from qcompiler import plugins
    from qcompiler.target import TARGETS, load_target

    plugins.load()
    rows = [(name, load_target(name).descriptor.summary) for name in TARGETS]
    print_table(rows, ("target", "summary"))


@targets_application.command("show")
def show_target(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A target, or the path of a .toml descriptor.")],
) -> None:
    """Show what a target can do: number formats, ops, decompositions and limits."""
    from qcompiler import plugins
    from qcompiler.passes.legalize import decompositions_of
    from qcompiler.rewrite import describe
    from qcompiler.target import load_target

    plugins.load()
    target = load_target(name)
    rules = describe(type(rule) for rule in decompositions_of(target))
    print_table(_header(target))
    typer.echo()
    formats = [(n, *_format(spec)) for n, spec in target.descriptor.types.items()]
    columns = ("number format", "kind", "storage", "range", "scale", "zero point", "constant")
    print_table(formats, columns)
    typer.echo()
    ops = [(n, ", ".join(row.spec.operands), row.spec.out, row.spec.arithmetic or "", _constraints(row))
           for n, row in target.rows.items()]
    print_table(ops, ("op", "operands", "result", "arithmetic", "constraints"))
    if rules:
        typer.echo()
        print_table([(r.name, r.replaces, r.text) for r in rules], ("decomposition", "replaces", "by"))


def _header(target: Target) -> list[tuple[str, str]]:
    descriptor = target.descriptor
    accumulator = descriptor.limits.accumulator
    rank = descriptor.limits.max_rank
    return [
        ("target", descriptor.name),
        ("summary", descriptor.summary),
        ("source", descriptor.source),
        *([("extends", descriptor.extends)] if descriptor.extends else []),
        ("pipeline", descriptor.pipeline),
        ("layout", descriptor.layout),
        ("what it lacks", "is an error" if descriptor.fallback == "error" else "runs on the host"),
        ("largest rank", str(rank) if rank is not None else "any"),
        ("accumulators", f"{accumulator.bits} bits, overflow {accumulator.overflow}"),
    ]


def _format(spec: TypeSpec) -> tuple[str, ...]:
    if spec.kind == "scalar":
        return (spec.kind, " or ".join(spec.storages), "", "", "", "yes" if spec.constant else "")
    if spec.kind == "block":
        return _block_format(spec)
    scale = f"fixed at {spec.scale!r}" if isinstance(spec.scale, float) else spec.scale
    if not spec.is_product:
        scale += f", one for each {spec.blocks}"
    return (
        spec.kind, " or ".join(spec.storages),
        f"{spec.range[0]} to {spec.range[1]}" if spec.range else "full",
        scale, str(spec.zero_point), "yes" if spec.constant else "",
    )


def _block_format(spec: TypeSpec) -> tuple[str, ...]:
    form = spec.block_format
    storage = f"m{form.mantissa}e{form.exponent}" + (f" of {form.element}" if form.element != "integer" else "")
    sharing = f"each {spec.blocks} values" if isinstance(spec.blocks, int) else f"each {spec.blocks}"
    guard = f" with {form.guard} guard bits" if form.guard else ""
    scale = f"{spec.exponents} exponent for {sharing}, {form.scale}{guard}, {form.rounding}, {form.overflow}"
    return spec.kind, storage, f"{form.smallest} to {form.largest}", scale, "", "yes" if spec.constant else ""


def _constraints(resolved: Row) -> str:
    """All that a row demands beside types and arithmetic."""
    row, items = resolved.spec, []
    if row.ties:
        items.append("operands and result share their scale")
    if row.fuse:
        items.append("may end a fused kernel")
    for key in ("kernel", "strides", "dilations"):
        limits: list[int] | None = getattr(row, key)
        if limits:
            items.append(f"{key} {limits[0]} to {limits[1]}")
    items.extend(f"{key} one of {', '.join(map(str, allowed))}" for key, allowed in row.attributes.items())
    if row.max_rank is not None:
        items.append(f"rank at most {row.max_rank}")
    if row.last_axis:
        items.append("along the last axis only")
    if row.max_axis_length is not None:
        items.append(f"at most {row.max_axis_length} elements along the axis")
    items.extend(map(str, resolved.conditions))
    return "; ".join(items)
