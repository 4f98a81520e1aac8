"""What a rule is, and the registry that finds rules by name and by the pass that uses them."""

from __future__ import annotations

import inspect
import itertools
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from qcompiler.errors import QCompilerError, did_you_mean
from qcompiler.ir import Value
from qcompiler.pipeline import PASSES
from qcompiler.registry import Registry
from qcompiler.rewrite.builder import RewriteBuilder
from qcompiler.rewrite.match import Declined, Match
from qcompiler.rewrite.pattern import Alternatives, Operand, OpPattern, Pattern, SubPattern

Root = OpPattern | Alternatives
Outcome = Value | Sequence[Value] | Declined

_MOST_VARIANTS = 64


class Rule(ABC):
    """Base of all rules: a pattern, and what to put in its place.

    The parameters of ``pattern`` behind ``p`` are variables that stand for any value: one with the default None for
    an operand that may be missing, ``*rest`` for any number of operands. ``rewrite`` takes the same parameters and
    is given the values that they stand for. The docstring is the rule's reference entry.
    """

    name: ClassVar[str]
    into: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if "name" not in cls.__dict__:
            cls.name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", cls.__name__).strip("_").lower()

    @abstractmethod
    def pattern(self, p: Pattern, *operands: Any, **more: Any) -> Root | tuple[Root, ...]:
        """The op to replace, or several ops to replace at once that share a value."""

    @abstractmethod
    def rewrite(self, b: RewriteBuilder, m: Match, *operands: Any, **more: Any) -> Outcome:
        """Build what replaces the match.

        Args:
            b: creates nodes before the (first) root.
            m: the match; ``m.fail(reason)`` declines it.

        Returns:
            A value of the same type for each result of the roots, in order; or the root's own result, where the
            rule changed the root in place; or ``m.fail(reason)``.

        Raises:
            QCompilerError: the program cannot be compiled at all; names the layer.
        """


@dataclass(frozen=True)
class TracedRule:
    """A rule ready to match.

    Attributes:
        rule: the rule.
        variants: its pattern without choices in it, one for each way to choose.
        parameters: names of its variables, in order.
        variadic: the name of the one that stands for any number of values; empty for none.
    """

    rule: Rule
    variants: tuple[tuple[OpPattern, ...], ...]
    parameters: tuple[str, ...]
    variadic: str

    def apply(self, builder: RewriteBuilder, match: Match) -> Outcome:
        """Call the rule's ``rewrite``."""
        arguments: list[Any] = [match.operands.get(name) for name in self.parameters]
        if self.variadic:
            bound = match.operands.get(self.variadic)
            arguments.extend(bound if isinstance(bound, tuple) else ())
        return self.rule.rewrite(builder, match, *arguments)


def trace(rule: Rule) -> TracedRule:
    """Call the rule's pattern function once and work out all its variants.

    Raises:
        QCompilerError: the pattern is malformed, or ``rewrite`` takes other operands; names the rule.
    """
    if not isinstance(rule, Rule):
        raise QCompilerError(
            f"{rule!r} is no rule", expected="an instance of a subclass of Rule",
            fix=f"give {rule.__name__}()" if isinstance(rule, type) else None,
        )
    parameters, taken = _parameters(rule.pattern)[1:], _parameters(rule.rewrite)[2:]
    if [(p.name, p.kind) for p in parameters] != [(p.name, p.kind) for p in taken]:
        raise QCompilerError(
            f"rule {rule.name!r}: 'rewrite' must take the operands of 'pattern'",
            expected=", ".join(map(str, parameters)), found=", ".join(map(str, taken)),
        )
    plain = [p for p in parameters if p.kind is not inspect.Parameter.VAR_POSITIONAL]
    variadic = [p for p in parameters if p.kind is inspect.Parameter.VAR_POSITIONAL]
    variables = [Operand(p.name, optional=p.default is None) for p in plain]
    rest = [Operand(p.name, variadic=True) for p in variadic]
    try:
        traced = rule.pattern(Pattern(), *variables, *rest)
    except QCompilerError as error:
        raise QCompilerError(
            f"rule {rule.name!r}: {error.problem}", expected=error.expected, found=error.found, fix=error.fix
        ) from error
    roots: tuple[Any, ...] = traced if isinstance(traced, tuple) else (traced,)
    if not roots or not all(isinstance(root, SubPattern) for root in roots):
        raise QCompilerError(
            f"the pattern of rule {rule.name!r} must return an op, or several ops as a tuple", found=repr(traced)
        )
    # Counted before they are spelled out: with each commutative op they double.
    count = math.prod(root.count() for root in roots)
    if count > _MOST_VARIANTS:
        raise QCompilerError(
            f"the pattern of rule {rule.name!r} has {count} ways to choose",
            expected=f"at most {_MOST_VARIANTS}",
            fix="write several rules, or keep commutative operands in order with ordered=True",
        )
    variants: list[tuple[Any, ...]] = list(itertools.product(*(list(root.variants()) for root in roots)))
    _check_use(rule, variants, [p.name for p in parameters])
    for variant in variants:
        _check_variant(rule, variant, variables)
    return TracedRule(rule, tuple(variants), tuple(p.name for p in plain), variadic[0].name if variadic else "")


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """The parameters of a method, without what their annotations would add to messages."""
    return [p.replace(annotation=inspect.Parameter.empty) for p in inspect.signature(function).parameters.values()]


def _check_use(rule: Rule, variants: list[tuple[SubPattern, ...]], names: list[str]) -> None:
    """Every operand must stand somewhere."""
    parts = (part for variant in variants for root in variant for part in root.parts())
    used = {part.name for part in parts if isinstance(part, Operand)}
    missing = [name for name in names if name not in used]
    if missing:
        raise QCompilerError(f"the pattern of rule {rule.name!r} does not use its operand {missing[0]!r}")


def _check_variant(rule: Rule, roots: tuple[SubPattern, ...], variables: list[Operand]) -> None:
    """Whether a pattern without choices can match, and says what it means."""
    if not all(isinstance(root, OpPattern) for root in roots):
        raise QCompilerError(f"the pattern of rule {rule.name!r} must be an op, or several ops as a tuple")
    parts = [part for root in roots for part in root.parts()]
    used = {part.name for part in parts if isinstance(part, Operand)}
    unbound = [v.name for v in variables if v.name not in used and not v.optional]
    if unbound:
        raise QCompilerError(
            f"the pattern of rule {rule.name!r} has a choice without its operand {unbound[0]!r}",
            fix=f"use it in every choice, or give it the default None: {unbound[0]}=None",
        )
    labels = [part.name for part in parts if isinstance(part, OpPattern) and part.name]
    operands = {v.name for v in variables}
    twice = {label for label in labels if labels.count(label) > 1 or label in operands}
    if twice:
        raise QCompilerError(f"the pattern of rule {rule.name!r} uses the name {min(twice)!r} twice")
    # Further roots are found from a value that those before them share.
    bound: set[str] = set()
    for place, root in enumerate(roots):
        found = {p.name for p in root.parts() if isinstance(p, Operand) and p.name and not p.variadic}
        if place and not found & bound:
            raise QCompilerError(
                f"root {place} in the pattern of rule {rule.name!r} shares no value with the roots before it",
                fix="use an operand of an earlier root in it, or write two rules",
            )
        bound |= found


RULES: Registry[str, type[Rule]] = Registry("rule")

_RuleClass = TypeVar("_RuleClass", bound=type[Rule])


def rule(name: str, into: str | tuple[str, ...] = ()) -> Callable[[_RuleClass], _RuleClass]:
    """Register a class as the rule ``name``.

    Args:
        name: what messages and descriptors call it.
        into: names of the passes that use it, of those that take rules. A rule into "legalize" is used where a
            descriptor lists it.

    Raises:
        QCompilerError: the name is taken.
    """

    def register(cls: _RuleClass) -> _RuleClass:
        RULES.check_free(name, cls.__module__)
        cls.name = name
        cls.into = (into,) if isinstance(into, str) else into
        RULES.add(name, cls)
        return cls

    return register


def rules_into(pass_name: str, *made: Rule) -> list[Rule]:
    """The registered rules of a pass, in order of registration.

    Args:
        pass_name: the pass.
        made: rules that need options; each stands in its class's place. Others are made without any.

    Raises:
        QCompilerError: see :func:`check_destinations`.
    """
    check_destinations()
    by_class = {type(rule): rule for rule in made}
    return [by_class.get(cls) or cls() for cls in RULES.values() if pass_name in cls.into]


def check_destinations() -> None:
    """Check that every registered rule goes into passes that will use it.

    Raises:
        QCompilerError: there is no such pass (names the nearest), or it takes no rules but its own.
    """
    for cls in RULES.values():
        for name in cls.into:
            if name not in PASSES:
                raise QCompilerError(
                    f"rule {cls.name!r} goes into an unknown pass {name!r}", expected="one of " + ", ".join(takers()),
                    fix=did_you_mean(name, takers()),
                )
            same_package = PASSES[name].__module__.split(".")[0] == cls.__module__.split(".")[0]
            if not PASSES[name].takes_rules and not same_package:
                raise QCompilerError(
                    f"rule {cls.name!r} goes into {name!r}, which takes no rules",
                    expected="one of " + ", ".join(takers()), fix="or apply it in a pass of your own",
                )


def takers() -> list[str]:
    """Names of the passes that take rules from elsewhere."""
    return [name for name, cls in PASSES.items() if cls.takes_rules]


@dataclass(frozen=True)
class RuleDescription:
    """A rule as tables show it.

    Attributes:
        name: its name.
        replaces: the op that it replaces.
        text: its docstring, on one line.
    """

    name: str
    replaces: str
    text: str


def describe(rules: Iterable[type[Rule]]) -> list[RuleDescription]:
    """Rules for tables, in the same order."""
    return [RuleDescription(cls.name, _replaced_op(cls), " ".join((cls.__doc__ or "").split())) for cls in rules]


def _replaced_op(cls: type[Rule]) -> str:
    try:
        made = cls()
    except TypeError:
        # It needs options; what they are does not change the op that it replaces.
        made = cls.__new__(cls)
    variants = trace(made).variants
    return " or ".join(dict.fromkeys(variant[0].text for variant in variants))
