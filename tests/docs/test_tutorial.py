"""The tutorial, followed to the letter in a clean environment: its files, its commands, and what they print."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from clean_environment import CleanEnvironment, follow
from markdown_pages import ROOT

from qcompiler.ir import OPS
from qcompiler.pipeline import PASSES
from qcompiler.target import TARGETS

PAGE = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")

Followed = tuple[CleanEnvironment, dict[str, list[str]]]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> CleanEnvironment:
    root = tmp_path_factory.mktemp("clean")
    (root / "work").mkdir()
    return CleanEnvironment(root / "venv", root / "work")


@pytest.fixture(scope="module")
def followed(environment: CleanEnvironment) -> Followed:
    """The environment after all that the page says, and what each command printed."""
    unknown = environment.run("qcompiler passes show tern-pooling; qcompiler plugins")
    assert "unknown pass 'tern-pooling'" in unknown.stdout
    assert "tern" not in unknown.stdout.splitlines()[-1]
    return environment, follow(environment, PAGE, "tutorial.md")


def test_the_page_is_followed_to_its_end(followed: Followed) -> None:
    environment, printed = followed
    assert sum(map(len, printed.values())) == len(re.findall(r"^\$ ", PAGE, re.MULTILINE))
    assert {path.name for path in environment.folder.glob("dist/*")} == {"tern_dsp-0.1.0-py3-none-any.whl"}


def test_the_compiled_program_is_exact_and_accurate(followed: Followed) -> None:
    """Numbers that the comparison with the page leaves out."""
    environment, printed = followed
    assert "= tern_shift_sum" in (environment.folder / "out" / "program.qir").read_text()
    scores, natively = printed["python score.py out"]
    assert natively == scores
    accuracy = {name: float(value) for name, value in re.findall(r"^(float|integer) +([\d.]+)%", scores, re.MULTILINE)}
    assert accuracy["float"] > 96
    assert abs(accuracy["integer"] - accuracy["float"]) < 0.5
    (finer,) = printed["python score.py finer"]
    pooled, pooled_finer = (float(re.findall(r"Pool_output_0 +([\d.]+) dB", text)[0]) for text in (scores, finer))
    assert pooled_finer > pooled + 0.5


def test_the_op_runs_natively(followed: Followed) -> None:
    """Its program, equal to the reference; and loading the plugin does not load TVM."""
    environment, printed = followed
    refused, built = printed["qcompiler native out"]
    assert "has no form of op 'tern_shift_sum'" in refused
    assert "out/lib.so" in built
    (same,) = printed["python same.py"]
    assert same.startswith("100% of 2000")
    loaded = environment.run(
        "python -c 'import sys, qcompiler.plugins as p; p.load(); print(\"tern_dsp.native\" in sys.modules, "
        "\"tvm\" in sys.modules, \"tern_dsp.shift_stage\" in sys.modules)'"
    )
    assert loaded.stdout.split() == ["True", "False", "False"], loaded.stdout


def test_the_installed_package_is_the_one_that_runs(followed: Followed) -> None:
    """Installed from the wheel, used from another folder; gone once it is uninstalled."""
    environment, _ = followed
    where = environment.run("cd / && python -c 'import tern_dsp; print(tern_dsp.__file__)'").stdout.strip()
    assert Path(where).is_relative_to(environment.root)
    program = environment.folder / "tests" / "pooling.qir"
    assert "tern_shift_sum" in environment.run(f"cd / && qcompiler opt {program} -p tern-pooling").stdout
    removed = environment.run("pip uninstall --yes tern-dsp && qcompiler plugins && qcompiler targets show tern-dsp")
    assert removed.returncode == 2, removed.stdout
    assert "unknown target 'tern-dsp'" in removed.stdout


def test_nothing_of_it_is_in_the_compiler(followed: Followed) -> None:
    assert [name for registry in (OPS, PASSES, TARGETS) for name in registry if "tern" in name.split("-")[0]] == []


@pytest.mark.parametrize(
    "page",
    [
        "```sh\n$ echo hello\ngoodbye\n```\n",
        "```sh\n$ echo hello\n```\n",
        "```sh\n$ false\n```\n",
        "```sh\n$ echo error: here\nerror: here\n```\n",
        "```sh\n$ false | cat\n```\n",
        "```py\nnowhere = 1\n```\n",
    ],
)
def test_a_wrong_page_is_noticed(environment: CleanEnvironment, page: str) -> None:
    with pytest.raises(AssertionError, match=r"page\.md, line"):
        follow(environment, "\n\n\n" + page, "page.md")


def test_files_are_written_and_commands_run_in_order(environment: CleanEnvironment) -> None:
    page = "`some/file.txt`:\n\n```py\none\n```\n\n```sh\n$ cat some/file.txt\none\n```\n"
    page += "\n`some/file.txt`:\n\n```py\ntwo\n```\n\n```sh\n$ cat some/file.txt\ntwo\n```\n"
    assert follow(environment, page, "page.md") == {"cat some/file.txt": ["one\n", "two\n"]}
