"""Pipeline text: what prints reads back equal; options are of their types and within their limits."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_passes import sample_passes

from qcompiler.errors import QCompilerError
from qcompiler.ir import parse, print_graph
from qcompiler.pipeline import PASSES, Pass, PassResult, Pipeline, compiler_pass, option, options_of
from qcompiler.pipeline.text import Written, format_value, read_pipeline


@pytest.fixture(autouse=True)
def _passes() -> Iterator[None]:
    with sample_passes():
        yield


FINITE = st.floats(allow_nan=False)
LOOKALIKES = st.sampled_from([
    "none", "true", "false", "5", "-1", "1e3", "inf", "nan", "", " ", "a b", "}", "]", '"', "\\", "a,b", "x=1", "\n",
    "[1]", "\u2028", "é", "\x00", "//", "0x1", "1_0",
])
TEXT = LOOKALIKES | st.text(st.characters(exclude_categories=()), max_size=8)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "count": st.integers(0, 10), "ratio": FINITE.filter(lambda f: f >= -1e300), "exact": st.booleans(), "word": TEXT,
    "mode": st.sampled_from(["fast", "slow", 3]), "layers": st.lists(TEXT, max_size=3).map(tuple),
    "axes": st.lists(st.integers(-4, 10**30), max_size=3).map(tuple), "pair": st.tuples(TEXT, FINITE),
    "grid": st.lists(st.lists(st.integers(), max_size=2).map(tuple), max_size=2).map(tuple),
    "limit": st.none() | FINITE.filter(lambda f: f >= 0), "label": st.none() | TEXT,
    "kinds": st.lists(st.sampled_from(["conv", "add"]), max_size=3).map(tuple),
}


@st.composite
def passes(draw: st.DrawFn) -> Pass:
    names = draw(st.sets(st.sampled_from(sorted(VALUES))))
    return PASSES["all-options"](**{name: draw(VALUES[name]) for name in sorted(names)})


@given(st.lists(passes(), max_size=3))
def test_what_prints_reads_back(made: list[Pass]) -> None:
    pipeline = Pipeline(tuple(made))
    text = str(pipeline)
    again = Pipeline.parse(text)
    assert again == pipeline
    assert str(again) == text
    # Equal is not the same for 1 and 1.0 or 0.0 and -0.0.
    assert repr(again) == repr(pipeline)
    assert "\n" not in text
    assert text.isascii()


def test_every_option_has_values_to_try() -> None:
    assert set(VALUES) == set(options_of(PASSES["all-options"]))


@given(passes())
def test_the_header_of_a_program_holds_any_pipeline(made: Pass) -> None:
    graph = parse("// qir 1\ngraph @g(%x: f32[2]) -> (y: f32[2]) {\n  return %x\n}\n")
    graph.pipeline = str(Pipeline((made,)))
    assert parse(print_graph(graph)).pipeline == graph.pipeline


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("layers=[conv1 conv2]", {"layers": ("conv1", "conv2")}), ("layers=[a,b]", {"layers": ("a", "b")}),
        ("layers=[ a , b ]", {"layers": ("a", "b")}), ('layers=["a b" c]', {"layers": ("a b", "c")}),
        ("layers=[]", {}), ("layers=[1 true none]", {"layers": ("1", "true", "none")}),
        ("axes=[-1 2]", {"axes": (-1, 2)}), ("ratio=2", {"ratio": 2.0}), ("ratio=-1e-3", {"ratio": -0.001}),
        ("ratio=inf", {"ratio": math.inf}), ("exact=true count=4", {"exact": True, "count": 4}),
        ("exact=true,count=4", {"exact": True, "count": 4}), ("word=5", {"word": "5"}), ('word=""', {"word": ""}),
        ("word=none", {"word": "none"}), ("label=none", {}), ('label="none"', {"label": "none"}),
        ("label=5", {"label": "5"}), ("mode=slow", {"mode": "slow"}), ("mode=3", {"mode": 3}),
        ("pair=[x 2]", {"pair": ("x", 2.0)}), ("grid=[[1 2] [] [3]]", {"grid": ((1, 2), (), (3,))}),
        ("limit=none", {}), ("limit=0", {"limit": 0.0}), ("kinds=[add add]", {"kinds": ("add", "add")}),
        (r'word="a\"b\\c\n"', {"word": 'a"b\\c\n'}), ("count = 4", {"count": 4}),
        ("word=tests/a.npz", {"word": "tests/a.npz"}),
    ],
)
def test_values_as_written(text: str, expected: dict[str, Any]) -> None:
    (made,) = Pipeline.parse(f"all-options{{{text}}}").passes
    assert made == PASSES["all-options"](**expected)
    for name, value in expected.items():
        assert type(getattr(made, name)) is type(value)


@pytest.mark.parametrize(
    ("text", "found", "expected"),
    [
        ("count=11", "11", "at most 10"), ("count=-1", "-1", "at least 0"), ("count=1.0", "1.0", "type int"),
        ("count=true", "true", "type int"), ("count=x", "x", "type int"), ('count="4"', "4", "type int"),
        ("ratio=nan", "nan", "type float"), ("ratio=true", "true", "type float"), ("ratio=[1]", "1", "type float"),
        ("exact=yes", "yes", "true or false"), ("exact=1", "1", "true or false"), ("exact=none", "none", "true or"),
        ("mode=medium", "medium", "fast, slow, 3"), ("layers=conv1", "conv1", "list of str"),
        ("axes=[1 x]", "x", "list of int"), ("axes=[-5]", "-5", "at least -4"), ("pair=[a]", "a", "[str float]"),
        ("pair=[a nan]", "nan", "[str float]"), ("pair=[a 1 2]", "a", "[str float]"),
        ("limit=-1", "-1", "at least 0"), ("limit=x", "x", "float or none"),
        ("kinds=[conv mul]", "mul", "one of conv, add"), ("grid=[1]", "1", "list of list of int"),
    ],
)
def test_values_that_are_not_allowed(text: str, found: str, expected: str) -> None:
    with pytest.raises(QCompilerError) as caught:
        Pipeline.parse(f"all-options{{{text}}}")
    option = text.partition("=")[0]
    assert f"option {option!r} of pass 'all-options'" in caught.value.problem
    assert found in caught.value.problem
    assert expected in str(caught.value.expected)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"count": 11}, "at most 10"), ({"count": True}, "type int"), ({"count": "4"}, "type int"),
        ({"ratio": math.nan}, "type float"), ({"exact": 1}, "true or false"), ({"word": None}, "type str"),
        ({"mode": "medium"}, "fast"), ({"layers": "conv1"}, "list of str"), ({"layers": ["conv1"]}, "list of str"),
        ({"axes": (0, -5)}, "at least -4"), ({"limit": -1.0}, "at least 0"), ({"kinds": ("mul",)}, "conv, add"),
    ],
)
def test_values_are_checked_in_python_too(values: dict[str, Any], expected: str) -> None:
    (name,) = values
    with pytest.raises(QCompilerError, match=f"option {name!r} of pass 'all-options'") as caught:
        PASSES["all-options"](**values)
    assert expected in str(caught.value.expected)
    with pytest.raises(QCompilerError, match=f"option {name!r}"):
        dataclasses.replace(PASSES["all-options"](), **values)  # type: ignore[type-var]


def test_whole_numbers_become_floats() -> None:
    values: dict[str, Any] = {"ratio": 2, "pair": ("a", 3)}
    made = PASSES["all-options"](**values)
    assert repr(made.options()["ratio"]) == "2.0"
    assert str(Pipeline((made,))) == "all-options{ratio=2.0 pair=[a 3.0]}"


@pytest.mark.parametrize(
    ("text", "fix"),
    [("all-options{mode=slwo}", "slow"), ("all-options{cuont=1}", "count"), ("all-option", "all-options")],
)
def test_the_nearest_is_named(text: str, fix: str) -> None:
    with pytest.raises(QCompilerError) as caught:
        Pipeline.parse(text)
    assert caught.value.fix == f"did you mean {fix!r}?"


def test_an_option_without_default_must_be_given() -> None:
    assert str(Pipeline.parse("required-option{times=2}")) == "required-option{times=2}"
    with pytest.raises(QCompilerError, match="pass 'required-option' needs option 'times'") as caught:
        Pipeline.parse("required-option")
    assert "required-option{times=...}" in str(caught.value.fix)


@pytest.mark.parametrize(
    "text",
    [
        ",", "dce,", ",dce", "dce,,cse", "dce cse", "dce{", "dce}", "dce{}}", "all-options{count=}", "all-options{=1}",
        "all-options{count=1", "all-options{layers=[a}", "all-options{layers=a]}", 'all-options{word="a}', '"dce"', "9",
        "dce;cse", "{count=1}", 'all-options{word="\\q"}', "all-options{word=a{b}", "dce=1", "[dce]",
    ],
)
def test_malformed_text(text: str) -> None:
    with pytest.raises(QCompilerError, match="malformed pipeline"):
        Pipeline.parse(text)


def test_options_given_twice_or_without_value() -> None:
    with pytest.raises(QCompilerError, match="option 'count' of pass 'all-options' is given twice"):
        Pipeline.parse("all-options{count=1 count=2}")
    with pytest.raises(QCompilerError, match="option 'count' of pass 'all-options' has no value"):
        Pipeline.parse("all-options{count}")


@given(st.text(st.sampled_from('ab-{}[]=," \\1.'), max_size=12))
def test_any_text_parses_or_is_refused(text: str) -> None:
    try:
        passes = read_pipeline(text)
    except QCompilerError:
        return
    assert read_pipeline(",".join(p.name + _options(p.options) for p in passes)) == passes


def _options(options: Mapping[str, Written] | None) -> str:
    if options is None:
        return ""
    return "{" + " ".join(f"{format_value(key)}={_written(value)}" for key, value in options.items()) + "}"


def _written(value: Written) -> str:
    if isinstance(value, tuple):
        return "[" + " ".join(map(_written, value)) + "]"
    return '"' + value.text.replace("\\", "\\\\").replace('"', '\\"') + '"' if value.quoted else value.text


@pytest.mark.parametrize("declared", [dict, "int | str", "list[int]", "tuple[()]", "Literal[1.5]", bytes])
def test_types_without_text_are_refused_when_the_pass_is_defined(declared: Any) -> None:
    names = {"Literal": Literal}
    kind = eval(declared, names) if isinstance(declared, str) else declared
    with pytest.raises(TypeError, match="option 'x' of Odd has type"):
        compiler_pass("odd")(_with_option(kind, None))
    assert "odd" not in PASSES


def test_defaults_beyond_the_limits_are_refused_when_the_pass_is_defined() -> None:
    with pytest.raises(TypeError, match=r"option 'x' of Odd: its default must be .*at most 3"):
        compiler_pass("odd")(_with_option(int, option(4, "too large", maximum=3)))


def _with_option(kind: Any, default: Any) -> type[Pass]:
    return type("Odd", (Pass,), {
        "__annotations__": {"x": kind}, "x": default, "__module__": __name__,
        "run": lambda self, graph, context: PassResult(graph, False),
    })
