"""The builder that rules are given."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from qcompiler.errors import QCompilerError
from qcompiler.ir import Builder, ConstantArray, Graph, Node, Op, Origin, Value, scalar_of
from qcompiler.ir.node import Loc
from qcompiler.ir.types import Elem
from qcompiler.ops.constant import Constant


class RewriteBuilder(Builder):
    """Creates nodes before the root of a match. Unless told otherwise they carry the layers of all nodes that go.

    Attributes:
        created: the nodes created so far. They vanish again if the rule declines.
    """

    def __init__(self, graph: Graph, before: Node, loc: Loc) -> None:
        super().__init__(graph, before, loc)
        self.created: list[Node] = []

    def create(
        self,
        op: Op,
        operands: Sequence[Value],
        *,
        elem: Elem | Sequence[Elem] | None = None,
        loc: Loc | None = None,
        origin: Origin | None = None,
    ) -> Node:
        """Create a node, as :meth:`Builder.create` does.

        Raises:
            QCompilerError: ``op`` is no op, an operand is no value, or their types do not fit.
        """
        if not isinstance(op, Op):
            raise QCompilerError(f"builds with {op!r}", expected="an op with its attributes, such as Relu()")
        for operand in operands:
            if not isinstance(operand, Value):
                raise QCompilerError(
                    f"gives {op.name} an operand that is no value", found=repr(operand),
                    fix="make numbers a constant: b.constant(2.0)",
                )
        try:
            node = super().create(op, operands, elem=elem, loc=loc, origin=origin)
        except QCompilerError as error:
            # Whoever called the rule adds its name, and the layer that it looked at.
            raise QCompilerError(error.problem, found=error.found) from error
        self.created.append(node)
        return node

    def constant(
        self,
        array: ArrayLike,
        elem: Elem | None = None,
        origin: Origin | None = None,
        loc: Loc | None = None,
    ) -> Value:
        """A constant.

        Args:
            array: the stored numbers; Python's own numbers, alone or in lists, become float32.
            elem: their type; plain numbers of the array's dtype by default.
            origin: the value of the user's model that it stands for.
            loc: the layers that it belongs to; those of all nodes that go by default.
        """
        stored = np.asarray(array, None if isinstance(array, np.ndarray | np.generic) else np.float32)
        return self(Constant(ConstantArray(stored)), elem=elem or scalar_of(stored.dtype), origin=origin, loc=loc)
