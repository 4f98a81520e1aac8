"""What the page shows, as plain data that becomes JSON."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class ErrorFigure:
    """Error of a value against float.

    Attributes:
        sqnr_db: None where the values agree exactly.
        max_error: largest absolute difference.
        recovered: the value follows from one that the program holds.
    """

    sqnr_db: float | None
    max_error: float
    recovered: bool


@dataclass
class ValueData:
    """A result, operand or constant of a node.

    Attributes:
        name: its name in the ``.qir`` text, such as ``%4``.
        type: type text.
        original: name of the original value; empty where there is none.
        origin: what is known of its origin, in words.
        facts: name and text of scale, zero point, range and the like.
        error: against float, where known.
    """

    name: str
    type: str
    original: str = ""
    origin: str = ""
    facts: list[tuple[str, str]] = field(default_factory=list)
    error: ErrorFigure | None = None


@dataclass
class Part:
    """One op of a box: the node's own, or those of a fused kernel's body."""

    op: str
    original: str
    signature: str
    """Differs between ops of other attributes or result types."""
    layer: str = field(default="", compare=False)


@dataclass
class NodeData:
    """A box: a node, an input or an output of the program.

    Attributes:
        title: the op, or the name of an input or output.
        ops: the op's name; for a fused kernel, those of its parts in order.
        kind: decides the colour.
        type: type of the first result, shortened.
        layers: the user's layers.
        line: its ``.qir`` text; with the body for a fused kernel.
        x, y: centre and top within the group, once placed.
        change: "", "same", "added", "removed" or "changed" against the other stage.
        matches: boxes of the other stage that hold the same values.
    """

    title: str
    ops: list[str]
    kind: str
    type: str
    layers: list[str]
    line: str
    operands: list[ValueData] = field(default_factory=list)
    results: list[ValueData] = field(default_factory=list)
    constants: list[ValueData] = field(default_factory=list)
    attributes: list[tuple[str, str]] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    x: float = 0.0
    y: float = 0.0
    change: str = ""
    matches: list[int] = field(default_factory=list)


@dataclass
class GroupData:
    """A layer: its boxes and the size of the picture that they make.

    Attributes:
        name: the layer, or the box's title where it belongs to none.
        nodes: the boxes.
        width, height: when unfolded, without title.
    """

    name: str
    nodes: list[int]
    width: float
    height: float


@dataclass
class EdgeData:
    """A value that one box hands to another.

    Attributes:
        lanes: items of the stage's rows that the edge passes, where it joins two groups.
        points: turning points within the group, where it joins two boxes of one.
    """

    source: int
    destination: int
    lanes: list[int] = field(default_factory=list)
    points: list[tuple[float, float]] = field(default_factory=list)


@dataclass
class Stage:
    """A program as the page shows it.

    Attributes:
        title: where the program comes from.
        subtitle: name, target and size.
        rows: items of each row; those below the number of groups are groups, the others lanes.
        x: horizontal centre of each item while all groups are folded.
    """

    title: str
    subtitle: str
    nodes: list[NodeData]
    groups: list[GroupData]
    edges: list[EdgeData]
    rows: list[list[int]]
    x: list[float]
