"""A virtual environment that sees what this one has installed, and into which packages can be installed."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import venv
from importlib.metadata import entry_points
from pathlib import Path
from subprocess import CompletedProcess

from markdown_pages import assert_prints, blocks

SCRIPTS = ("qcompiler", "filecheck", "pytest", "pip")
_NAMED = re.compile(r"`([\w./-]+)`:")
_OFFLINE = "--no-index --no-deps --no-build-isolation"


class CleanEnvironment:
    """A fresh virtual environment, and a folder in which commands run.

    Attributes:
        root: the environment.
        folder: where commands run.
    """

    def __init__(self, root: Path, folder: Path) -> None:
        self.root = root
        self.folder = folder
        # Without a pip of its own, which would take seconds to unpack: this environment's serves.
        venv.create(root, with_pip=False)
        (site,) = root.glob("lib/python*/site-packages")
        # Unlike a line with a path, addsitedir reads that folder's own .pth files: those of editable installations.
        visible = [path for path in sys.path if Path(path).name == "site-packages"]
        (site / "outer.pth").write_text("".join(f"import site; site.addsitedir({path!r})\n" for path in visible))
        for name in SCRIPTS:
            self._write_script(name)

    def _write_script(self, name: str) -> None:
        """What an installer would write for the console script ``name``."""
        (found,) = entry_points(group="console_scripts", name=name)
        path = self.root / "bin" / name
        path.write_text(
            f"#!{self.root / 'bin' / 'python'}\nimport sys\n"
            f"from {found.module} import {found.attr}\nsys.exit({found.attr}())\n"
        )
        path.chmod(0o755)

    def run(self, command: str) -> CompletedProcess[str]:
        """Run a shell command; its stdout holds its stderr, too. ``pip`` gets no network."""
        command = re.sub(r"^pip (install|wheel)", rf"pip \1 {_OFFLINE}", command)
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PYTEST", "PIP_", "QCOMPILER"))}
        path = f"{self.root / 'bin'}{os.pathsep}{os.environ['PATH']}"
        return subprocess.run(
            ["bash", "-o", "pipefail", "-c", command], cwd=self.folder, check=False, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env={**kept, "PATH": path, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PYTHONDONTWRITEBYTECODE": "1"},
        )


def follow(environment: CleanEnvironment, page: str, name: str) -> dict[str, list[str]]:
    """Do what a page says, in order: write the files that it shows, run its commands and compare what they print.

    A block behind a line such as ```acme/op.py`:`` is that file. Each line of a ``sh`` block that starts with ``$``
    is a command; what it must print follows. It must exit with 2 if that holds a line that starts with ``error:``,
    else with 0.

    Returns:
        What each command printed, by command; one that is run several times has several outputs.

    Raises:
        AssertionError: a command has another exit status, or prints something else; or a block is neither file nor
            commands.
    """
    lines = page.splitlines()
    printed: dict[str, list[str]] = {}
    for block in blocks(page):
        named = _NAMED.fullmatch(lines[block.line - 4])
        if named:
            path = environment.folder / named[1]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
            continue
        assert block.language == "sh", f"{name}, line {block.line}: neither a file nor commands"
        for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
            command, _, expected = part.partition("\n")
            where = f"{name}, line {block.line}: {shlex.quote(command)}"
            done = environment.run(command)
            fails = re.search(r"^error:", expected, re.MULTILINE) is not None
            assert done.returncode == (2 if fails else 0), f"{where}\n{done.stdout}"
            assert_prints(expected, done.stdout, where)
            printed.setdefault(command, []).append(done.stdout)
    return printed
