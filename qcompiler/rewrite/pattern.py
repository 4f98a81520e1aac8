"""Patterns: what a rule looks for, traced from a plain function.

A pattern is a tree. Its leaves are variables, which stand for any value; its inner nodes stand for ops. A
commutative op matches with its first two operands in either order, and ``any_of`` gives alternatives; both are
expanded when the pattern is traced, so that matching is a walk down one tree without backtracking.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from types import EllipsisType
from typing import Any, Self

from qcompiler.errors import QCompilerError, did_you_mean
from qcompiler.ir import OPS, Fact, Op, Value
from qcompiler.rewrite.constraint import AttributeConstraint, Constraint

OpKind = type[Op] | tuple[type[Op], ...] | Fact


class SubPattern:
    """A part of a pattern: it stands for a value."""

    constraints: tuple[Constraint, ...] = ()

    def where(self, *constraints: Constraint) -> Self:
        """The same part with further demands on its value.

        Raises:
            QCompilerError: one of them is no constraint.
        """
        for constraint in constraints:
            if not isinstance(constraint, Constraint):
                raise QCompilerError(
                    "a pattern demands something that is no constraint", found=repr(constraint),
                    fix="use one such as one_use, or wrap a function: Constraint('what it is', lambda value: ...)",
                )
        made = copy.copy(self)
        made.constraints = (*self.constraints, *constraints)
        return made

    def variants(self) -> Iterator[SubPattern]:
        """This part without choices in it: one for each way to choose."""
        yield self

    def count(self) -> int:
        """How many variants there are."""
        return 1

    def parts(self) -> Iterator[SubPattern]:
        """This part and all parts below it."""
        yield self


class Operand(SubPattern):
    """A variable: it stands for any value, the same wherever it occurs.

    Attributes:
        name: the parameter of the pattern function.
        optional: whether an op may lack it; it is then None.
        variadic: whether it stands for any number of operands, as a tuple.
    """

    def __init__(self, name: str, optional: bool = False, variadic: bool = False) -> None:
        self.name = name
        self.optional = optional
        self.variadic = variadic


class OpPattern(SubPattern):
    """The result of a node.

    Attributes:
        text: the op, for messages.
        accepts: whether an op class is among those meant.
        operands: parts for the operands; None stands for any further ones.
        attributes: demands on attributes, or the values that they must equal.
        name: under which the match gives the node; empty for none.
        index: which result is meant.
        commutes: whether the first two operands may change places.
    """

    def __init__(
        self,
        text: str,
        accepts: Callable[[type[Op]], bool],
        operands: Sequence[SubPattern | EllipsisType],
        attributes: dict[str, Any],
        name: str = "",
        commutes: bool = False,
    ) -> None:
        self.text = text
        self.accepts = accepts
        for index, operand in enumerate(operands):
            if operand is not ... and not isinstance(operand, SubPattern):
                raise QCompilerError(
                    f"operand {index} in a pattern of {text} is no pattern", found=repr(operand),
                    fix="give a variable, an op such as p.relu(x), or '...'; attributes are keyword arguments",
                )
        self.operands = tuple(Operand("", variadic=True) if o is ... else o for o in operands)
        self.attributes = tuple(attributes.items())
        self.name = name
        self.index = 0
        self.commutes = commutes
        variables = [o if isinstance(o, Operand) else Operand("") for o in self.operands]
        if sum(v.variadic for v in variables) > 1:
            raise QCompilerError(f"a pattern of {text} has two operands that stand for any number of values")
        self.variadic = next((i for i, v in enumerate(variables) if v.variadic), None)
        self.required = sum(1 for v in variables if not (v.optional or v.variadic))
        absent = [v.name for v in variables if v.optional]
        if absent and (self.variadic is not None or not all(v.optional for v in variables[-len(absent) :])):
            raise QCompilerError(
                f"the operand {absent[0]!r}, which may be missing, does not come last in a pattern of {text}",
                fix="put operands that may be missing last, or take them all as '*rest'",
            )
        if commutes and any(v.variadic and (v.name or place == 0) for place, v in enumerate(variables[:2])):
            raise QCompilerError(
                f"it is open which operands change places in a pattern of {text}",
                fix="spell out the first two operands, or keep them in order with ordered=True",
            )

    def __getitem__(self, index: int) -> OpPattern:
        """Result ``index`` of a node with several results; 0 is meant by default."""
        made = copy.copy(self)
        made.index = index
        return made

    def variants(self) -> Iterator[SubPattern]:
        for operands in itertools.product(*(list(o.variants()) for o in self.operands)):
            yield self._with(operands)
            if self.commutes and len(operands) >= 2:
                first, second, *further = operands
                if isinstance(second, Operand) and second.variadic:
                    # p.add(x, ...): x may be the second operand, too, behind any first one.
                    yield self._with((Operand(""), first, second, *further))
                else:
                    yield self._with((second, first, *further))

    def count(self) -> int:
        swapped = 2 if self.commutes and len(self.operands) >= 2 else 1
        return swapped * math.prod(operand.count() for operand in self.operands)

    def _with(self, operands: tuple[SubPattern, ...]) -> OpPattern:
        made = copy.copy(self)
        made.operands = operands
        made.variadic = next((i for i, o in enumerate(operands) if isinstance(o, Operand) and o.variadic), None)
        made.required = self.required + len(operands) - len(self.operands)
        return made

    def parts(self) -> Iterator[SubPattern]:
        yield self
        for operand in self.operands:
            yield from operand.parts()


class Alternatives(SubPattern):
    """Any one of several parts."""

    def __init__(self, choices: Sequence[SubPattern]) -> None:
        self.choices = tuple(choices)

    def variants(self) -> Iterator[SubPattern]:
        for choice in self.choices:
            for variant in choice.variants():
                yield variant.where(*self.constraints) if self.constraints else variant

    def count(self) -> int:
        return sum(choice.count() for choice in self.choices)

    def parts(self) -> Iterator[SubPattern]:
        yield self
        for choice in self.choices:
            yield from choice.parts()


OpMaker = Callable[..., OpPattern]


class Pattern:
    """Traces a pattern function: each op is a method, ``p.conv2d(x, w, name="conv", layout="NHWC")``.

    Operands are parts of the pattern, or ``...`` for any number of operands. Keyword arguments demand attribute
    values, or what an :class:`AttributeConstraint` says; ``name`` makes the node known to the match, and
    ``ordered=True`` keeps the operands of a commutative op in order.
    """

    def __getattr__(self, op_name: str) -> OpMaker:
        if op_name.startswith("__"):
            raise AttributeError(op_name)
        cls = OPS.get(op_name)
        if cls is None:
            raise QCompilerError(f"a pattern names an unknown op {op_name!r}", fix=did_you_mean(op_name, OPS))

        def make(
            *operands: SubPattern | EllipsisType, name: str = "", ordered: bool = False, **attributes: Any
        ) -> OpPattern:
            _check_attributes(cls.name, [cls], attributes)
            commutes = Fact.COMMUTATIVE in cls.facts and not ordered
            return OpPattern(op_name, lambda found: found.name == op_name, operands, attributes, name, commutes)

        return make

    def op(
        self,
        kind: OpKind,
        *operands: SubPattern | EllipsisType,
        name: str = "",
        ordered: bool = False,
        **attributes: Any,
    ) -> OpPattern:
        """Any op of a class, of several classes, or with a fact: ``p.op(Contraction, x, w, name="contraction")``."""
        if isinstance(kind, Fact):
            text = f"{str(kind.name).lower()} op"
            _check_attributes(text, [cls for cls in OPS.values() if kind in cls.facts], attributes)
            commutes = Fact.COMMUTATIVE in kind and not ordered
            return OpPattern(text, lambda found: kind in found.facts, operands, attributes, name, commutes)
        classes = kind if isinstance(kind, tuple) else (kind,)
        commutes = all(Fact.COMMUTATIVE in cls.facts for cls in classes) and not ordered
        text = " or ".join(cls.__dict__.get("name") or cls.__name__ for cls in classes)
        _check_attributes(text, [cls for cls in OPS.values() if issubclass(cls, classes)], attributes)
        return OpPattern(text, lambda found: issubclass(found, classes), operands, attributes, name, commutes)

    def any_of(self, *choices: SubPattern) -> Alternatives:
        """Any one of several parts; the first that matches is taken."""
        return Alternatives(choices)


def _check_attributes(text: str, classes: Sequence[type[Op]], attributes: dict[str, Any]) -> None:
    """Refuse attributes that no op of ``classes`` has: nothing would ever match."""
    if not attributes:
        return
    known = list(dict.fromkeys(f for cls in classes for f in cls.__dataclass_fields__))  # type: ignore[attr-defined]
    for attribute in attributes:
        if attribute not in known and not any(hasattr(cls, attribute) for cls in classes):
            raise QCompilerError(
                f"a pattern demands the attribute {attribute!r}, which {text} does not have",
                expected="one of " + ", ".join(known) if known else "none",
                fix=did_you_mean(attribute, known),
            )


def attribute_mismatch(text: str, op: Op, name: str, demand: Any) -> str:
    """Why an attribute does not meet a demand; empty where it does."""
    found = getattr(op, name, None)
    if isinstance(demand, AttributeConstraint):
        return "" if demand.holds(found) else f"{name} of {op.name} is {found}, not {demand.description}"
    return "" if found == demand else f"{name} of {op.name} is {found}, not {demand}"


def value_mismatch(value: Value, constraints: tuple[Constraint, ...]) -> Constraint | None:
    """The first demand that ``value`` does not meet."""
    for constraint in constraints:
        if not constraint.holds(value):
            return constraint
    return None
