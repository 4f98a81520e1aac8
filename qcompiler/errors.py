"""The error every part of the compiler raises when its user can mend the cause."""

from __future__ import annotations


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
