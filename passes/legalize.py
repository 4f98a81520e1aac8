"""The pass ``legalize``."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from qcompiler.errors import QCompilerError, did_you_mean
from qcompiler.ir import Graph, Node
from qcompiler.passes import decompose_layer_norm, decompositions  # noqa: F401 - register the built-in rules
from qcompiler.pipeline import Context, Pass, PassResult, Stage, compiler_pass
from qcompiler.rewrite import RULES, Conversion, Mode, NotLegal, Rule, convert
from qcompiler.target import Target, Violation, check_float_node


@compiler_pass("legalize")
class Legalize(Pass):
    """Spell out, still in float, what the target lacks in ops that it has.

    A node that is illegal on the target is replaced by the first decomposition of the descriptor's list that applies
    to it. What then remains illegal is left to the host where the descriptor has ``fallback = "host"``. Otherwise it
    is reported at once, each node by the user's layer, with the constraint that decides.
    """

    needs = Stage.FLOAT
    takes_rules = True
    needs_target = True

    def run(self, graph: Graph, context: Context) -> PassResult:
        target = context.require_target(self.name)
        mode = Mode.PARTIAL if target.descriptor.fallback == "host" else Mode.FULL
        try:
            conversion = legalize(graph, target, mode)
            context.records[self.name] = conversion
            return PassResult(graph, conversion.changed)
        except NotLegal as error:
            raise _error(target, error.illegal) from error


def legalize(graph: Graph, target: Target, mode: Mode) -> Conversion:
    """Decompose what the target lacks; see :func:`qcompiler.rewrite.convert`.

    Raises:
        NotLegal: in the mode FULL, illegal nodes remain.
        QCompilerError: the descriptor names a decomposition that does not exist.
    """
    return convert(graph, decompositions_of(target), partial(check_float_node, target), mode)


def known_decompositions() -> list[str]:
    """Names of all rules that a descriptor may list as decompositions."""
    return [name for name, cls in RULES.items() if "legalize" in cls.into]


def decompositions_of(target: Target) -> list[Rule]:
    """The rules that a target's descriptor lists as decompositions.

    Raises:
        QCompilerError: the descriptor names one that does not exist.
    """
    known = known_decompositions()
    for name in target.descriptor.decompositions:
        if name not in known:
            raise QCompilerError(
                f"{target.source_text}: decompositions: unknown decomposition {name!r}",
                expected="one of " + ", ".join(known), fix=did_you_mean(name, known),
            )
    return [RULES[name]() for name in target.descriptor.decompositions]


def _error(target: Target, illegal: Sequence[tuple[Node, Violation]]) -> QCompilerError:
    node, violation = illegal[0]
    if len(illegal) == 1:
        return QCompilerError(
            f"not legal on target {target.name!r}", layer=node.layer,
            expected=violation.constraint, found=violation.found, fix=_way_out(target),
        )
    lines = [f"    {n.layer}: {v.constraint} (found {v.found})" for n, v in illegal]
    return QCompilerError(
        f"{len(illegal)} layers are not legal on target {target.name!r}:\n" + "\n".join(lines), fix=_way_out(target)
    )


def _way_out(target: Target) -> str:
    check = f"qcompiler check MODEL --target {target.name}"
    return f"change these layers, or use another target; '{check}' lists the ways out"
