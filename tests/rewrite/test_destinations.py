"""Rules that join the passes which they name."""

from __future__ import annotations

from typing import Any

import pytest
from sample_rules import Program

from qcompiler import plugins, registry
from qcompiler.errors import QCompilerError
from qcompiler.ops.activation import Clip, Relu, Sigmoid
from qcompiler.pipeline import PASSES, Context, Pipeline
from qcompiler.rewrite import RULES, Rule, check_destinations, rule, rules_into
from qcompiler.target import load_target

plugins.load()


def relu_for_sigmoid(*into: str) -> None:
    """Register a rule whose work shows."""

    @rule("test-relu-for-sigmoid", into=into)
    class ReluForSigmoid(Rule):
        """sigmoid(x) becomes relu(x)."""

        def pattern(self, p: Any, x: Any) -> Any:
            return p.sigmoid(x)

        def rewrite(self, b: Any, m: Any, x: Any) -> Any:
            return b(Relu(), x)


def after(pipeline: str) -> list[str]:
    p = Program()
    graph = p.finish(p(Sigmoid(), p.input(2, 3)))
    return [node.op.name for node in Pipeline.parse(pipeline).run(graph, Context(load_target("tpu-int8"))).nodes]


TAKERS = sorted(name for name, cls in PASSES.items() if cls.takes_rules)


def test_every_pass_with_rules_takes_more() -> None:
    used = {name for cls in RULES.values() for name in cls.into}
    assert used == set(TAKERS)


@pytest.mark.parametrize("name", [name for name in TAKERS if name not in ("legalize", "fuse-requantize")])
def test_a_rule_joins_a_built_in_pass(name: str) -> None:
    assert after(name) == ["sigmoid"]
    with registry.temporary():
        relu_for_sigmoid(name)
        assert after(name) == ["relu"]
    assert after(name) == ["sigmoid"]


def test_a_rule_joins_the_fusing_of_kernels() -> None:
    with registry.temporary():

        @rule("test-joins-fusing", into="fuse-requantize")
        class DropClamp(Rule):
            """A clamp to the whole range vanishes."""

            def pattern(self, p: Any, x: Any) -> Any:
                return p.clamp(x, name="clamp")

            def rewrite(self, b: Any, m: Any, x: Any) -> Any:
                whole = (x.type.elem.qmin, x.type.elem.qmax)
                return x if (m.root.op.minimum, m.root.op.maximum) == whole else m.fail("it limits")

        (dropped,) = (cls for name, cls in RULES.items() if name == "test-joins-fusing")
        target = load_target("tpu-int8")
        ending = next(cls for name, cls in RULES.items() if name == "fuse-ending")(target)  # type: ignore[call-arg]
        assert dropped in [type(r) for r in rules_into("fuse-requantize", ending)]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("canonicalise", ("unknown pass 'canonicalise'", "did you mean 'canonicalize'")),
        ("simplify", ("unknown pass 'simplify'", "canonicalize")),
        ("cse", ("'cse', which takes no rules", "canonicalize")),
        ("realize", ("'realize', which takes no rules",)),
    ],
)
def test_a_rule_that_no_pass_would_use_is_refused(name: str, words: tuple[str, ...]) -> None:
    with registry.temporary():
        relu_for_sigmoid("canonicalize", name)
        for action in (check_destinations, plugins.load, lambda: after("canonicalize")):
            with pytest.raises(QCompilerError) as caught:
                action()
            assert "test-relu-for-sigmoid" in str(caught.value)
            assert all(word in str(caught.value) for word in words)


def test_a_pass_may_name_its_own_rules_whether_or_not_it_takes_others() -> None:
    with registry.temporary():
        PASSES.add("test-own", type("Own", (PASSES["cse"],), {"__module__": __name__}))
        relu_for_sigmoid("test-own")
        check_destinations()


def test_options_reach_the_rules() -> None:
    p = Program()
    graph = p.finish(p(Clip(0.0, 1.0), p.constant([[0.5] * 8])))
    assert len(Pipeline.parse("fold-constants{max-bytes=16}").run(graph, Context())) == 2
    assert len(Pipeline.parse("fold-constants").run(graph, Context())) == 1
