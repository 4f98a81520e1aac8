"""The instrument that tells the story of one value: every rule that looked at it, and what became of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from qcompiler.analysis.value_lookup import find_values
from qcompiler.errors import QCompilerError
from qcompiler.ir import Graph, GraphListener, Node, Original, Remark, Value, value_names, walk
from qcompiler.ir.printer import format_attribute
from qcompiler.pipeline.compiler_pass import Pass
from qcompiler.pipeline.instrument import Instrument


@dataclass(frozen=True)
class Encounter:
    """A rule that looked at a node of the value.

    Attributes:
        rule: the rule's name.
        op: the op of the node.
        applied: whether the rule rewrote it.
        text: why it declined; "applied" where it did not.
    """

    rule: str
    op: str
    applied: bool
    text: str

    def __str__(self) -> str:
        return f"{self.rule} at {self.op}: " + ("applied" if self.applied else f"declined, {self.text}")


@dataclass
class PassStory:
    """What one pass did to the value.

    Attributes:
        pass_name: the pass.
        encounters: rules that looked at the value's nodes, with how often.
        before: the nodes that stood for the value before the pass, as text.
        after: the nodes that stand for it after the pass, as text; None where the pass failed.
    """

    pass_name: str
    before: tuple[str, ...]
    encounters: Counter[Encounter] = field(default_factory=Counter)
    after: tuple[str, ...] | None = None

    def lines(self) -> Iterator[str]:
        """The story for people; nothing where nothing happened."""
        for encounter, count in self.encounters.items():
            yield f"    {encounter}" + (f" ({count} times)" if count > 1 else "")
        if self.after is None:
            yield "    the pass failed"
        elif self.after != self.before:
            for line in self.after:
                yield f"  now {line}"
            if not self.after:
                yield "  now nothing stands for it"


class Explain(Instrument, GraphListener):
    """Follows a value, or all values of a layer, through the passes.

    Args:
        wanted: an original value, an input, an output, a layer, or a name in the program's text such as ``%17``.
        names: names of values that differ from those that the program is printed with.

    Attributes:
        passes: the story, pass by pass.
    """

    def __init__(self, wanted: str, names: Mapping[Value, str] | None = None) -> None:
        self.wanted = wanted
        self.names = names or {}
        self.start: tuple[str, ...] = ()
        self.passes: list[PassStory] = []
        self._originals: set[str] = set()
        self._layers: set[str] = set()
        self._watched = Graph()

    def begin(self, graph: Graph, passes: Sequence[Pass]) -> None:
        """See :class:`Instrument`.

        Raises:
            QCompilerError: the program has no such value or layer (names the nearest), or nothing by which passes
                could tell the value again.
        """
        found = find_values(graph, {**value_names(graph), **self.names}, self.wanted)
        producers = [v.producer for v in found if v.producer is not None]
        if any(self.wanted == name for node in producers for name in node.loc):
            self._layers = {self.wanted}
        else:
            self._originals = {v.origin.name for v in found if isinstance(v.origin, Original)}
        if not self._originals and not self._layers:
            self._layers = {name for node in producers for name in node.loc}
        if not self._originals and not self._layers:
            raise QCompilerError(
                f"passes cannot follow {self.wanted!r}", found="a value without an original and without a layer",
                fix="name a value near it",
            )
        self.start = self._state(graph)

    def before_pass(self, index: int, current: Pass, graph: Graph) -> None:
        self.passes.append(PassStory(current.name, self._state(graph)))
        graph.listeners.append(self)
        self._watched = graph

    def after_pass(self, index: int, current: Pass, graph: Graph, changed: bool) -> None:
        self._stop_watching()
        self.passes[-1].after = self._state(graph)

    def failed(self, index: int, current: Pass, graph: Graph, error: Exception) -> None:
        self._stop_watching()

    def wants_remarks_on(self, node: Node) -> bool:
        if node.op.name == "constant":
            return False
        return not self._layers.isdisjoint(node.loc) or any(map(self._stands_for_original, node.results))

    def _stands_for_original(self, value: Value) -> bool:
        return isinstance(value.origin, Original) and value.origin.name in self._originals

    def remark(self, remark: Remark) -> None:
        self.passes[-1].encounters[Encounter(remark.rule, remark.node.op.name, remark.applied, remark.text)] += 1

    def _stop_watching(self) -> None:
        if self in self._watched.listeners:
            self._watched.listeners.remove(self)

    def _state(self, graph: Graph) -> tuple[str, ...]:
        """The nodes that stand for the value, those inside of kernels included."""
        inputs = [f"input %{v.name}: {v.type}" for v in graph.inputs if self._stands_for_original(v)]
        nodes = [node for node in walk(graph) if self.wants_remarks_on(node)]
        return (*inputs, *(_text(node) for node in nodes))

    def __str__(self) -> str:
        lines = [self.wanted, *(f"  at first {line}" for line in self.start)]
        for number, story in enumerate(self.passes, 1):
            told = list(story.lines())
            if told:
                lines += [f"{number:03d} {story.pass_name}", *told]
        return "\n".join(lines)


def _text(node: Node) -> str:
    """A node without operands: ``conv2d {strides = [2, 2]} -> f32[N,8,8,4]``."""
    defaults = {name: getattr(type(node.op), name, None) for name in node.op.attributes()}
    attributes = [
        f"{name} = {format_attribute(value)}"
        for name, value in node.op.attributes().items()
        if not isinstance(value, Graph) and value != defaults[name] and not hasattr(value, "arrays")
    ]
    types = ", ".join(str(v.type) for v in node.results)
    return node.op.name + (" {" + ", ".join(attributes) + "}" if attributes else "") + f" -> {types}"
