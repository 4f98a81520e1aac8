"""What is wrong with an entry of a descriptor, and who looks for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from qcompiler.target.target import Target


class Problem(NamedTuple):
    """What is wrong with an entry of a descriptor.

    Attributes:
        keys: the entry, from the outermost table inwards.
        text: what is wrong.
        fix: what would be right; None where that cannot be said.
    """

    keys: tuple[str, ...]
    text: str
    fix: str | None = None


Check = Callable[["Target"], Iterable[Problem]]
"""Looks at one kind of entry. What an earlier check has passed, a later one may rely on."""

FURTHER_CHECKS: list[Check] = []
"""Checks of what a descriptor cites of later parts, such as passes; :mod:`qcompiler.plugins` adds them."""
