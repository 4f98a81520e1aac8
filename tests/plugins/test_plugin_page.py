"""The page on plugins shows the example as it is, and what the command line prints with it installed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import onnx

from plugins.plugin_folder import EXAMPLE, succeed
from plugins.test_plugin_package import acme_model

PAGE = (Path(__file__).parents[2] / "docs" / "plugins.md").read_text(encoding="utf-8")


def test_the_files_shown_are_the_examples() -> None:
    shown = re.findall(r"^```(?:toml|py)\n# ([\w./]+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert len(shown) == 7
    for name, text in shown:
        assert (EXAMPLE / name).read_text(encoding="utf-8") == text, name


def test_the_commands_print_what_the_page_says(acme: Path, tmp_path: Path) -> None:
    onnx.save(acme_model(8), tmp_path / "model.onnx")
    np.savez(tmp_path / "data.npz", x=np.random.default_rng(4).normal(0, 1, (32, 8)).astype(np.float32))
    (block,) = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    commands = re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]
    assert len(commands) == 5
    for text in commands:
        command, _, expected = text.partition("\n")
        program, *words = shlex.split(command)
        assert program == "qcompiler"
        pattern = r"\s+".join(".*" if word == "..." else re.escape(word) for word in expected.split())
        assert re.fullmatch(pattern, succeed(acme, *words, cwd=tmp_path).strip(), re.DOTALL), command
