"""Which op of one program is which of another.

No single property tells: names are lost, layers hold several ops, and any op may have changed. So ops are matched in
rounds, from the surest sign to the weakest, and each match leads to its neighbours. All rounds take time in
proportion to the size of the programs, and treat the two alike.

The first rounds compare whole cones: equal ops computed from equal ops, or used by equal ops. After one edit, every
other op has either all that it is computed from unchanged, or all that is computed from it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator

from qcompiler.analysis.flat_program import FlatOp, FlatProgram
from qcompiler.ir import Value
from qcompiler.ir.structure import describe_attribute

Key = Callable[[FlatOp], Hashable]
Pair = tuple[FlatOp, FlatOp]
Fits = Callable[[list[FlatOp], list[FlatOp]], bool]


class ProgramMatching:
    """The partners that ops and inputs of two programs have in the other.

    Attributes:
        before, after: the programs.
        partners: the partner of each matched op, of either program.
        inputs: the partner of each matched graph input, of either program.
    """

    def __init__(self, before: FlatProgram, after: FlatProgram) -> None:
        self.before = before
        self.after = after
        self.partners: dict[FlatOp, FlatOp] = {}
        self.inputs = _matched_inputs(before, after)
        self._sources: dict[Value, Value] = {}
        rounds = _Rounds(self)
        rounds.run()
        self._local = rounds.local

    def alike(self, before: FlatOp, after: FlatOp) -> bool:
        """Whether two ops differ in nothing but what they are connected to."""
        return self._local[before] == self._local[after]

    def correspond(self, before: Value, after: Value) -> bool:
        """Whether two values stand in the same place, ops aside that only one program has and that have one operand:
        such an op is a difference by itself, and no change of what is connected to it."""
        return self._same(before, after) or self._same(self._source(before), self._source(after))

    def _same(self, before: Value, after: Value) -> bool:
        left, right = self.before.producers.get(before), self.after.producers.get(after)
        if left is None or right is None:
            return left is right and self.inputs.get(before) is after
        if self.partners.get(left) is not right:
            return False
        return left.node.results.index(before) == right.node.results.index(after)

    def _source(self, value: Value) -> Value:
        """The value behind ops of one operand that have no partner."""
        path = []
        while value not in self._sources:
            path.append(value)
            op = self.before.producers.get(value) or self.after.producers.get(value)
            operand = None if op is None or op in self.partners else self._only_operand(op)
            if operand is None:
                self._sources[value] = value
                break
            value = operand
        source = self._sources[value]
        self._sources.update(dict.fromkeys(path, source))
        return source

    def _only_operand(self, op: FlatOp) -> Value | None:
        """The operand, constants aside where there are others; None where there are several or none."""
        flat = self.before if op.node.results[0] in self.before.producers else self.after
        operands = op.operands if len(op.operands) == 1 else flat.computed_operands(op)
        return operands[0] if len(operands) == 1 else None


def _matched_inputs(before: FlatProgram, after: FlatProgram) -> dict[Value, Value]:
    """Inputs match by name; those whose names the other program lacks by type, in order."""
    named = {v.name: v for v in after.graph.inputs}
    pairs = [(v, named[v.name]) for v in before.graph.inputs if v.name in named]
    matched = {v for pair in pairs for v in pair}
    left = [v for v in before.graph.inputs if v not in matched]
    right = [v for v in after.graph.inputs if v not in matched]
    for kind in dict.fromkeys(v.type for v in left):
        pairs += zip([v for v in left if v.type == kind], [v for v in right if v.type == kind], strict=False)
    return {**dict(pairs), **{second: first for first, second in pairs}}


class _Rounds:
    """The rounds of matching, see the module's text."""

    def __init__(self, matching: ProgramMatching) -> None:
        self.matching = matching
        self.before, self.after = matching.before, matching.after
        self.partners = matching.partners
        self.fresh: list[Pair] = []
        ids: dict[Hashable, int] = {}
        texts: dict[int, str] = {}
        # Equal numbers stand for: an equal op, with equal results and layers, with all above it, with all below it.
        self.content: dict[FlatOp, int] = {}
        self.local: dict[FlatOp, int] = {}
        self.above: dict[FlatOp, int] = {}
        self.below: dict[FlatOp, int] = {}
        for flat in (self.before, self.after):
            for op in flat.ops:
                content = (op.name, _attributes_text(op, texts))
                self.content[op] = _number(ids, content)
                results = tuple((v.type, v.origin) for v in op.node.results)
                self.local[op] = _number(ids, (*content, op.layers, results))
            self._number_cones(flat, ids)

    def run(self) -> None:
        above, below, local = self.above, self.below, self.local
        cones: Key = lambda op: (above[op], below[op])  # noqa: E731
        for exact in (_in_kernel(cones), cones):
            self.match_alone(exact)
            self.spread(exact)
            self.match_in_order(exact, lambda _left, _right: True)
        # Constants of equal numbers may be many: unless all else tells them apart, what uses them does.
        self.match_alone(local.__getitem__)
        unlike: tuple[Key, ...] = (above.__getitem__, below.__getitem__, local.__getitem__)
        # Ops of two kernels may be alike, the kernels not.
        in_kernels = tuple(_in_kernel(key) for key in unlike)
        for key in (*in_kernels, *unlike, _name_originals_and_layers, _name_and_originals, _name_and_layers):
            self.match_alone(_computed(key))
            self.spread(_name_and_layers)
        for key in (_name_originals_and_layers, _name_and_layers):
            self.match_in_order(_computed(key), _equally_many, _name_and_layers)
        self.fresh = self.all_pairs()
        self.spread(_name)
        self.match_in_order(_computed(_name_and_known_layers), lambda _left, _right: True, _name)
        self.fresh = self.all_pairs()
        self.spread(lambda op: op.is_constant, self.stands_in_place_of)
        # What is left: mostly constants that nothing uses.
        for key in (*unlike, _name_originals_and_layers, self.content.__getitem__, _name_and_layers):
            self.match_in_order(key, _equally_many)

    # Signs by which ops are matched

    def match_alone(self, key: Key) -> None:
        """Match ops that are the only ones of their key in each program."""
        self.match((left[0], right[0]) for left, right in self.groups(key) if len(left) == len(right) == 1)

    def match_in_order(self, key: Key, fits: Fits, neighbours: Key | None = None) -> None:
        """Match ops of equal keys in dataflow order, where ``fits`` says so of how many there are.

        Each match is followed by its neighbours at once: else one of two twins might get the operands of the other.
        """
        for left, right in reversed([group for group in self.groups(key) if fits(*group)]):
            while left and right:
                if left[-1] in self.partners:
                    left.pop()
                elif right[-1] in self.partners:
                    right.pop()
                else:
                    self.match([(left.pop(), right.pop())])
                    self.spread(neighbours or key, at_boundary=False)

    def groups(self, key: Key) -> list[tuple[list[FlatOp], list[FlatOp]]]:
        """Unmatched ops of both programs that have equal keys other than None, in dataflow order."""
        found: dict[Hashable, tuple[list[FlatOp], list[FlatOp]]] = {}
        for side, flat in enumerate((self.before, self.after)):
            for op in self.unmatched(flat):
                known = key(op)
                if known is not None:
                    found.setdefault(known, ([], []))[side].append(op)
        return [(left, right) for left, right in found.values() if left and right]

    def spread(
        self, key: Key, accept: Callable[[FlatOp, FlatOp], bool] = lambda _left, _right: True, at_boundary: bool = True
    ) -> None:
        """Match neighbours of the freshly matched ops that have equal keys and no other candidate; then theirs."""
        candidates = [*(self.at_the_boundary(key) if at_boundary else ()), *self.beside(self.fresh, key)]
        self.fresh = []
        while candidates:
            left: dict[FlatOp, set[FlatOp]] = defaultdict(set)
            right: dict[FlatOp, set[FlatOp]] = defaultdict(set)
            for first, second in candidates:
                if accept(first, second):
                    left[first].add(second)
                    right[second].add(first)
            only = [(op, next(iter(others))) for op, others in left.items() if len(others) == 1]
            self.match((first, second) for first, second in only if len(right[second]) == 1)
            candidates = list(self.beside(self.fresh, key))
            self.fresh = []

    def match(self, pairs: Iterable[Pair]) -> None:
        for first, second in pairs:
            self.partners[first], self.partners[second] = second, first
            self.fresh.append((first, second))

    def stands_in_place_of(self, first: FlatOp, second: FlatOp) -> bool:
        """Whether one op was put in place of another: it does the same layers' work on the same operands."""
        left, right = self.before.computed_operands(first), self.after.computed_operands(second)
        related = first.layers == second.layers or first.layers & second.layers or first.originals & second.originals
        return bool(
            related and not first.is_constant and len(left) == len(right)
            and len(first.node.results) == len(second.node.results)
            and all(self.matching._same(a, b) for a, b in zip(left, right, strict=True))
        )

    # Neighbours

    def at_the_boundary(self, key: Key) -> Iterator[Pair]:
        """Users of matched inputs, and ops that compute outputs of the same name."""
        for value in self.before.graph.inputs:
            if value in self.matching.inputs:
                yield from self.users(value, self.matching.inputs[value], key)
        named = dict(self.after.outputs)
        for name, value in self.before.outputs:
            if name in named:
                yield from self.computing(value, named[name], key)

    def beside(self, pairs: Iterable[Pair], key: Key) -> Iterator[Pair]:
        for first, second in pairs:
            for left, right in zip(first.operands, second.operands, strict=False):
                yield from self.computing(left, right, key)
            for left, right in zip(first.node.results, second.node.results, strict=False):
                yield from self.users(left, right, key)

    def computing(self, before: Value, after: Value, key: Key) -> Iterator[Pair]:
        first, second = self.before.producers.get(before), self.after.producers.get(after)
        if first is None or second is None or first in self.partners or second in self.partners:
            return
        if key(first) == key(second):
            yield first, second

    def users(self, before: Value, after: Value, key: Key) -> Iterator[Pair]:
        """Pairs of users that are the only ones of their key at an operand's index."""
        waiting = self.lone_users(self.before, before, key)
        if waiting:
            for known, second in self.lone_users(self.after, after, key).items():
                if known in waiting:
                    yield waiting[known], second

    def lone_users(self, flat: FlatProgram, value: Value, key: Key) -> dict[Hashable, FlatOp]:
        found: dict[Hashable, list[FlatOp]] = defaultdict(list)
        for op, index in flat.uses.get(value, ()):
            if op not in self.partners:
                found[key(op), index].append(op)
        return {known: ops[0] for known, ops in found.items() if len(ops) == 1}

    def unmatched(self, flat: FlatProgram) -> Iterator[FlatOp]:
        return (op for op in flat.ops if op not in self.partners)

    def all_pairs(self) -> list[Pair]:
        return [(op, self.partners[op]) for op in self.before.ops if op in self.partners]

    # Cones

    def _number_cones(self, flat: FlatProgram, ids: dict[Hashable, int]) -> None:
        """Number what each op is computed from, and what is computed from it; equal cones have equal numbers."""
        producers = flat.producers
        for op in flat.ops:
            sources: list[Hashable] = []
            for value in op.operands:
                source = producers.get(value)
                sources.append(
                    value.name if source is None else (self.above[source], source.node.results.index(value))
                )
            self.above[op] = _number(ids, ("above", self.local[op], tuple(sources)))
        returned: dict[Value, list[str]] = defaultdict(list)
        for name, value in flat.outputs:
            returned[value].append(name)
        for op in reversed(flat.ops):
            uses = tuple(
                (tuple(sorted((self.below[user], index) for user, index in flat.uses.get(value, ()))),
                 tuple(sorted(returned.get(value, ()))))
                for value in op.node.results
            )
            self.below[op] = _number(ids, ("below", self.local[op], uses))


def _number(ids: dict[Hashable, int], key: Hashable) -> int:
    return ids.setdefault(key, len(ids))


def _attributes_text(op: FlatOp, texts: dict[int, str]) -> str:
    """All attributes. Copies of a graph share ops, so their texts are kept."""
    text = texts.get(id(op.node.op))
    if text is None:
        attributes = op.node.op.attributes().items()
        text = texts[id(op.node.op)] = ",".join(f"{name}={describe_attribute(value)}" for name, value in attributes)
    return text


def _computed(key: Key) -> Key:
    return lambda op: None if op.is_constant else key(op)


def _in_kernel(key: Key) -> Key:
    return lambda op: (key(op), op.kernel_identity)


def _equally_many(left: list[FlatOp], right: list[FlatOp]) -> bool:
    return len(left) == len(right)


def _name(op: FlatOp) -> Hashable:
    return op.name


def _name_and_layers(op: FlatOp) -> Hashable:
    return (op.name, op.layers)


def _name_and_known_layers(op: FlatOp) -> Hashable:
    return (op.name, op.layers) if op.layers else None


def _name_and_originals(op: FlatOp) -> Hashable:
    return (op.name, op.originals) if op.originals else None


def _name_originals_and_layers(op: FlatOp) -> Hashable:
    return (op.name, op.originals, op.layers)
