"""Which op of one program is which of another, where only one sign tells."""

from __future__ import annotations

from qcompiler.analysis.program_comparison import diff_programs
from qcompiler.ir import Graph, parse


def program(*lines: str, outputs: str = "%y", type: str = "f32[4]") -> Graph:
    names = outputs.split(", ")
    signature = ", ".join(f"{name[1:]}: {type}" for name in names)
    return parse(
        "\n".join(["// qir 1", f"graph @g(%x: f32[4]) -> ({signature}) {{", *lines, f"return {outputs}", "}"])
    )


def found(before: Graph, after: Graph) -> list[tuple[str, str, list[str]]]:
    """Kind, op and changes of each op that differs."""
    return [(op.kind, op.summary.op, [c.what for c in op.changes]) for op in diff_programs(before, after).ops]


def test_results_of_one_op_are_told_apart() -> None:
    lines = (
        "%a, %b = split %x {axis = 0, sizes = [2, 2]} -> (f32[2], f32[2])",
        "%p = relu %a -> f32[2]", "%q = sigmoid %b -> f32[2]", "%y = concat %p, %q {axis = 0} -> f32[4]",
    )
    after = program(lines[0], lines[1].replace("%a", "%b"), *lines[2:])
    assert found(program(*lines), after) == [("changed", "relu", ["operand 0"])]


def test_changed_constants_are_known_by_what_uses_them() -> None:
    """They have no names, there is another one in the same layer, and all numbers are new."""
    def scaled(*numbers: float) -> list[str]:
        return [f"%c{i} = constant {{value = dense<f32[1]>[{n}]}} -> f32[1] loc(\"l\")" for i, n in enumerate(numbers)]

    chain = ('%a = add %x, %c0 -> f32[4] loc("l")', '%b = mul %a, %c1 -> f32[4] loc("l")')
    before = program(*scaled(1.0, 2.0), *chain, outputs="%b")
    after = program(*scaled(3.0, 4.0, 5.0), *chain, '%y = sub %b, %c2 -> f32[4] loc("l")')
    changes = diff_programs(before, after).ops
    constants = [op for op in changes if op.summary.op == "constant"]
    assert [(op.kind, *(c.before + " -> " + c.after for c in op.changes)) for op in constants] == [
        ("changed", "[1.0] -> [3.0]"), ("changed", "[2.0] -> [4.0]"), ("added",),
    ]
    assert [(op.kind, op.summary.op) for op in changes if op not in constants] == [("added", "sub")]


TWINS = (
    "%c = constant {value = dense<i64[4]>[3,0,-1,1]} -> i64[4]",
    "%d = constant {value = dense<i64[4]>[3,0,-1,1]} -> i64[4]",
    "%p = gather %x, %c {axis = 0} -> f32[4]", "%q = gather %x, %d {axis = 0} -> f32[4]",
)


def test_twins_keep_their_own_operands() -> None:
    """Nothing uses them and nothing tells them apart, in any order."""
    before = program(*TWINS, outputs="%x")
    for order in ((0, 1, 3, 2), (1, 0, 2, 3), (1, 0, 3, 2), (1, 3, 0, 2)):
        assert not diff_programs(before, program(*(TWINS[i] for i in order), outputs="%x"))


def kernel(result: str, weights: str, layer: str) -> str:
    return (
        f'{result} = fused %x, {weights} -> f32[4] loc("{layer}") {{\n%i = add %x, {weights} -> f32[4]\n'
        "%j = relu %i -> f32[4]\nyield %j\n}"
    )


def test_kernels_of_equal_ops_are_known_by_their_layers() -> None:
    weights = [f"%{name} = constant {{value = dense<f32[1]>[2.0]}} -> f32[1]" for name in "cd"]
    before = program(*weights, kernel("%p", "%c", "one"), kernel("%q", "%d", "two"), outputs="%x")
    changed = weights[0].replace("2.0", "2.5")
    after = program(changed, weights[1], kernel("%q", "%d", "two"), kernel("%p", "%c", "one"), outputs="%x")
    assert found(before, after) == [("changed", "constant", ["value"])]


def test_a_kernel_cut_in_two() -> None:
    head = '%i = add %x, %x -> f32[4] loc("l")'
    rest = ('%j = relu %i -> f32[4] loc("l")', '%k = sigmoid %j -> f32[4] loc("l")')
    whole = program('%y = fused %x -> f32[4] loc("l") {', head, *rest, "yield %k", "}")
    parts = program(
        '%m = fused %x -> f32[4] loc("l") {', head, "yield %i", "}",
        '%y = fused %m -> f32[4] loc("l") {', rest[0].replace("%i", "%m"), rest[1], "yield %k", "}",
    )
    expected = {("removed", "fused(add, relu, sigmoid)"), ("added", "fused(add)"), ("added", "fused(relu, sigmoid)")}
    assert {(kind, op) for kind, op, _ in found(whole, parts)} == expected
    assert len(found(whole, parts)) == 3


def test_the_order_of_layer_names_is_no_change_beside_another() -> None:
    before = program('%y = leaky_relu %x {alpha = 0.1} -> f32[4] loc("a", "b")')
    after = program('%y = leaky_relu %x {alpha = 0.2} -> f32[4] loc("b", "a")')
    assert found(before, after) == [("changed", "leaky_relu", ["attribute alpha"])]


def test_differences_come_in_dataflow_order() -> None:
    """Whatever the order of independent nodes."""
    lines = ['%p = leaky_relu %x {alpha = 0.1} -> f32[4] loc("p")', '%q = elu %x {alpha = 0.1} -> f32[4] loc("q")']
    changed = [line.replace("0.1", "0.2") for line in lines]
    for before in (lines, lines[::-1]):
        for after in (changed, changed[::-1]):
            diff = diff_programs(program(*before, outputs="%p, %q"), program(*after, outputs="%p, %q"))
            assert list(diff.by_layer()) == ["p", "q"]
