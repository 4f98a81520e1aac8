"""What is read from Linux about the processor."""

from __future__ import annotations

from qcompiler.backends.tvm.host import features_in


def test_features_are_named_as_llvm_names_them() -> None:
    text = "processor\t: 0\nflags\t\t: sse4_2 avx2 avx512_vnni abm\n"
    assert features_in(text) == {"sse4.2", "avx2", "avx512vnni", "lzcnt"}
    assert features_in("processor : 0\nFeatures : fp asimd asimddp\n") == {"fp", "neon", "dotprod"}


def test_only_what_all_processors_have_counts() -> None:
    assert features_in("flags : avx2 fma\n\nflags : avx2\n") == {"avx2"}


def test_a_system_that_tells_nothing_has_no_features() -> None:
    assert features_in("model name : unknown\n") == frozenset()
