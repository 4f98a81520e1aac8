"""Values are found by what a user calls them."""

from __future__ import annotations

import pytest
from hypothesis import given
from random_graphs import graphs

from qcompiler.analysis.value_lookup import all_values, find_values
from qcompiler.errors import QCompilerError
from qcompiler.ir import Graph, Original, Value, parse_with_names, print_graph, print_node, value_names

TEXT = """\
// qir 1
graph @g(%image: f32[4] original("image")) -> (result: f32[4]) {
  %first = relu %image -> f32[4] original("act") loc("conv1", "relu1")
  %k = fused %first -> f32[4] original("act2") loc("conv2") {
    %inner = sigmoid %first -> f32[4] original("sum") loc("conv2")
    %outer = tanh %inner -> f32[4] original("act2") loc("conv2")
    yield %outer
  }
  %m = fused %k -> f32[4] {
    %inner = relu %k -> f32[4] loc("last")
    yield %inner
  }
  return %m
}
"""


def found(wanted: str) -> list[str]:
    """The printed names of the values that ``wanted`` names in the text above."""
    graph, written = parse_with_names(TEXT)
    printed = value_names(graph)
    return [printed[v] for v in find_values(graph, {**printed, **written}, wanted)]


@pytest.mark.parametrize(
    ("wanted", "values"),
    [
        ("%first", ["%0"]), ("%k", ["%1"]), ("%inner", ["%2", "%5"]), ("inner", ["%2", "%5"]), ("image", ["%image"]),
        ("%image", ["%image"]), ("act", ["%0"]), ("act2", ["%1", "%3"]), ("sum", ["%2"]), ("result", ["%4"]),
        ("conv1", ["%0"]), ("conv1 + relu1", ["%0"]), ("conv2", ["%1", "%2", "%3"]), ("last", ["%5"]),
    ],
)
def test_names_in_the_text_originals_inputs_outputs_and_layers(wanted: str, values: list[str]) -> None:
    assert found(wanted) == values


@pytest.mark.parametrize(("wanted", "near"), [("%firts", "'%first'"), ("act3", "'act2'"), ("convl", "'conv1'")])
def test_unknown_values_name_what_comes_near(wanted: str, near: str) -> None:
    with pytest.raises(QCompilerError, match=f"no value '{wanted}'") as caught:
        found(wanted)
    assert near in str(caught.value)


@given(graphs)
def test_every_value_of_every_program_is_found(graph: Graph) -> None:
    names = value_names(graph)
    assert set(all_values(graph)) <= set(names)
    for value in all_values(graph):
        assert value in find_values(graph, names, names[value])
        # An empty name is one that a user forgot: ONNX has no value of that name.
        if isinstance(value.origin, Original) and value.origin.name not in ("", *names.values()):
            assert value in find_values(graph, names, value.origin.name)


@given(graphs)
def test_the_empty_name_stands_for_nothing(graph: Graph) -> None:
    with pytest.raises(QCompilerError, match="the name of the value is empty"):
        find_values(graph, value_names(graph), "")


@given(graphs)
def test_names_are_those_of_the_printed_text(graph: Graph) -> None:
    """Node by node, the text with the names of ``value_names`` is the printed program."""
    names = value_names(graph)
    lines = [f"  {line}" for node in graph.nodes for line in print_node(node, names).split("\n")]
    printed = print_graph(graph).rstrip("\n").split("\n")
    assert printed[-2 - len(lines) : -2] == lines


def test_written_names_are_kept() -> None:
    graph, written = parse_with_names(TEXT)
    top: list[Value] = [*graph.inputs, *(v for node in graph.nodes for v in node.results)]
    assert [written[v] for v in top] == ["%image", "%first", "%k", "%m"]
    assert sorted(written.values()) == ["%first", "%image", "%inner", "%inner", "%k", "%m", "%outer"]
