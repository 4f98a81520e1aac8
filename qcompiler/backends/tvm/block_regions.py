"""Which ops of block floating point are lowered together: a root, the limits of its results, and their conversion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from qcompiler.backends.lowering import find_lowering
from qcompiler.ir import Fact, Node, Value
from qcompiler.ir.dimension import static_shape
from qcompiler.ir.types import BlockFloat
from qcompiler.ops.block_conversion import Normalize, ToBlock


@dataclass
class BlockRegion:
    """Ops that one lowering takes; each result but the last has the next op as its only user.

    Attributes:
        root: the first op.
        limit: a clip or relu of its result; None where none follows.
        conversion: a normalize or to_block of what comes out of these; None where none follows.
    """

    root: Node
    limit: Node | None = field(default=None)
    conversion: Node | None = field(default=None)

    @property
    def nodes(self) -> list[Node]:
        """All of them, in order."""
        return [node for node in (self.root, self.limit, self.conversion) if node is not None]

    @property
    def result(self) -> Value:
        """What the last op computes; of a root with several results the first."""
        return self.nodes[-1].results[0]

    @property
    def label(self) -> str:
        """The user's layers; the op where there are none."""
        return label_of(self.nodes)


def is_block_node(node: Node) -> bool:
    """Whether an op takes or gives block floating point."""
    return any(isinstance(v.type.elem, BlockFloat) for v in (*node.operands, *node.results))


def grow_block_region(root: Node, kept: frozenset[Value]) -> BlockRegion:
    """The region of an op of block floating point.

    Args:
        root: the op. More ops join it where a lowering is registered for backend ``"tvm-block-root"``.
        kept: values that must stand in memory.
    """
    region = BlockRegion(root)
    if isinstance(root.op, Normalize | ToBlock) or find_lowering("tvm-block-root", root.op) is None:
        return region
    following = _only_user(root, kept)
    if following is not None and Fact.CLAMP in following.op.facts and Fact.CLAMP not in root.op.facts:
        region.limit = following
        following = _only_user(following, kept)
    if following is not None and isinstance(following.op, Normalize | ToBlock):
        region.conversion = following
    return region


def label_of(nodes: Sequence[Node]) -> str:
    """The user's layers that some nodes stem from; the first one's op where there are none."""
    layers = dict.fromkeys(name for node in nodes for name in node.loc)
    return " + ".join(layers) or nodes[0].op.name


def _only_user(node: Node, kept: frozenset[Value]) -> Node | None:
    """The only user of an op's only result, where that need not stand in memory."""
    if len(node.results) != 1 or node.result in kept:
        return None
    user = node.result.only_user
    if user is None or len(user.results) != 1:
        return None
    return user if static_shape(user.result.type.shape) == static_shape(node.result.type.shape) else None
