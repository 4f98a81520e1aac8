"""The predicate acme-lanes."""

from qcompiler.ir import Node
from qcompiler.target import Target, predicate


@predicate("acme-lanes")
def acme_lanes(node: Node, target: Target, *, lanes: int = 4) -> str | None:
    """the last axis of the result fills vectors of {lanes} lanes"""
    length = node.results[0].type.shape[-1]
    return None if isinstance(length, int) and length % lanes == 0 else f"{length} elements"
