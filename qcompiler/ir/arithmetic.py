"""The citation of a named arithmetic: ``double`` or ``litert-add{shift=20}``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_CITATION = re.compile(r"([A-Za-z][\w-]*)(?:\{([^}]*)\})?")
_INTEGER = re.compile(r"-?\d+")


@dataclass(frozen=True)
class Arithmetic:
    """Which registered function computes an integer op, with the function's parameters.

    Attributes:
        name: a name registered in :mod:`qcompiler.numerics`.
        parameters: (key, value) pairs in key order; values are integers or words.
    """

    name: str
    parameters: tuple[tuple[str, int | str], ...] = ()

    @classmethod
    def parse(cls, text: str) -> Arithmetic:
        """Read ``name`` or ``name{key=value key=value}``.

        Raises:
            ValueError: ``text`` is not of this form.
        """
        match = _CITATION.fullmatch(text.strip())
        if not match:
            raise ValueError(f"not an arithmetic: {text!r}; write name or name{{key=value}}")
        pairs: dict[str, int | str] = {}
        for item in re.split(r"[\s,]+", (match[2] or "").strip()):
            if not item:
                continue
            key, separator, value = item.partition("=")
            if not separator or not key or not value:
                raise ValueError(f"not key=value: {item!r} in arithmetic {text!r}")
            pairs[key] = int(value) if _INTEGER.fullmatch(value) else value
        return cls(match[1], tuple(sorted(pairs.items())))

    @property
    def options(self) -> Mapping[str, int | str]:
        return dict(self.parameters)

    def __str__(self) -> str:
        if not self.parameters:
            return self.name
        return self.name + "{" + " ".join(f"{k}={v}" for k, v in self.parameters) + "}"
