"""The error every part of the compiler raises when its user can mend the cause."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class QCompilerError(Exception):
    """A problem with the user's model, data, target or command.

    Args:
        problem: what is wrong, in one sentence.
        layer: the user's layer (ONNX node name) at which it was found.
        expected: what the violated constraint asks for.
        found: what is there instead.
        fix: what the user can do about it.
    """

    def __init__(
        self,
        problem: str,
        *,
        layer: str | None = None,
        expected: str | None = None,
        found: str | None = None,
        fix: str | None = None,
    ) -> None:
        self.problem = problem
        self.layer = layer
        self.expected = expected
        self.found = found
        self.fix = fix
        super().__init__(str(self))

    def __str__(self) -> str:
        head = f"layer {self.layer!r}: {self.problem}" if self.layer else self.problem
        details = (("expected", self.expected), ("found", self.found), ("fix", self.fix))
        return "\n".join([head, *(f"  {label}: {text}" for label, text in details if text)])


def did_you_mean(word: str, known: Iterable[str], most: int = 1) -> str | None:
    """A question that names the nearest of ``known``, for the ``fix`` of an error; None where nothing is near.

    Args:
        word: what the user wrote.
        known: what would have been right.
        most: how many to name; with several, words farther off count as near.
    """
    near = difflib.get_close_matches(word, list(known), most, cutoff=0.6 if most == 1 else 0.4)
    return "did you mean " + " or ".join(map(repr, near)) + "?" if near else None
