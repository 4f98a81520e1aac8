"""Registries: a name is taken once, what is unknown is told by its neighbours, and changes can be undone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcompiler.errors import QCompilerError
from qcompiler.registry import Registry, loading, registries, temporary

Pair = tuple[str, str]


def filled(*names: str) -> Registry[str, int]:
    """A registry of these names, in order."""
    registry: Registry[str, int] = Registry("thing")
    for index, name in enumerate(names):
        registry.add(name, index, module=f"module_of_{name}")
    return registry


@given(st.lists(st.text(), unique=True))
def test_it_reads_as_a_mapping_in_order_of_registration(names: list[str]) -> None:
    registry = filled(*names)
    assert list(registry) == names
    assert dict(registry) == {name: index for index, name in enumerate(names)}
    assert len(registry) == len(names)
    assert registry.get("no such name of ours", -1) == -1


@pytest.mark.parametrize("again", ["add", "set"])
def test_a_taken_name_names_both_definers(again: str) -> None:
    registry = filled("one")
    with pytest.raises(QCompilerError) as caught, loading("plugin 'p'"):
        registry.add("one", 5, module="other") if again == "add" else registry.update(one=5)
    message = str(caught.value)
    assert message.startswith("thing 'one' is defined twice")
    assert "module 'module_of_one'" in message
    assert "of plugin 'p'" in message
    assert "rename one of them" in message
    assert registry["one"] == 0


def test_a_notebook_is_told_how_to_define_anew() -> None:
    registry = filled("one")
    with pytest.raises(QCompilerError, match="remove the first from its registry"):
        registry.add("one", 1, module="module_of_one")
    registry.remove("one")
    registry.add("one", 1, module="module_of_one")
    assert registry["one"] == 1


def test_an_unknown_name_is_told_its_neighbour() -> None:
    with pytest.raises(QCompilerError, match=r"unknown thing 'softmix'\n  expected: .*\n  fix: did you mean 'softmax"):
        filled("softmax", "relu").require("softmix")
    with pytest.raises(QCompilerError, match="no thing is registered"):
        filled().require("relu")
    with pytest.raises(QCompilerError, match="unknown thing"):
        filled("a").remove("b")
    assert filled("a").require("a") == 0


def test_pairs_are_named_from_the_last() -> None:
    registry: Registry[Pair, int] = Registry("form")
    registry.add(("add", "litert"), 1, module="m")
    with pytest.raises(QCompilerError, match="form 'litert' of 'add' is defined twice"):
        registry.add(("add", "litert"), 1, module="m")


def test_the_definer_is_the_module_of_a_class_and_the_plugin_that_loads() -> None:
    registry: Registry[str, type] = Registry("class")
    with loading("plugin 'p'"):
        registry.add("mine", type("Mine", (), {"__module__": "mine"}))
        registry.add("built-in", Registry)
    registry.add("late", type("Late", (), {"__module__": "late"}))
    found = {name: (d.module, d.plugin) for name, d in registry.definitions().items()}
    assert found == {
        "mine": ("mine", "plugin 'p'"), "late": ("late", ""),
        # A plugin may be the first to import a part of the compiler, which is not the plugin's.
        "built-in": ("qcompiler.registry", ""),
    }


def test_temporary_changes_are_undone_in_one_and_in_all() -> None:
    registry = filled("a", "b")

    def change_and_fail() -> None:
        with registry.temporary():
            registry.remove("a")
            registry.add("c", 3, module="m")
            raise LookupError(",".join(registry))

    with pytest.raises(LookupError, match="b,c"):
        change_and_fail()
    assert list(registry) == ["a", "b"]
    with temporary():
        registry.clear()
        assert not registry
    assert list(registry) == ["a", "b"]


def test_a_failed_load_takes_back_its_own_and_no_more() -> None:
    registry, other = filled("a"), filled()

    def load_and_fail() -> None:
        with loading("plugin 'p'"):
            registry.add("b", 1, module="b")
            other.add("c", 1, module="c")
            registry.add("core", 1, module="qcompiler.parts")
            del registry["a"]
            raise LookupError(",".join([*registry, *other]))

    with pytest.raises(LookupError, match="b,core,c"):
        load_and_fail()
    assert list(registry) == ["a", "core"]
    assert list(other) == []


def test_all_registries_are_known() -> None:
    registry = filled()
    assert registry in registries()
    assert registry != filled()
