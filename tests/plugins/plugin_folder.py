"""Installed plugins in a folder of their own, and the command line with that folder on its path."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

EXAMPLE = Path(__file__).parent / "example_plugin"


def install_small(folder: Path, distribution: str, entry_point: str, files: Mapping[str, str]) -> None:
    """Lay out in ``folder`` what an installer would: the modules, and the metadata with one entry point."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    metadata = folder / f"{distribution.replace('-', '_')}-0.1.dist-info"
    metadata.mkdir(parents=True, exist_ok=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 0.1\n")
    (metadata / "entry_points.txt").write_text(f"[qcompiler.plugins]\n{entry_point}\n")


def run_command(
    folders: Path | str, *arguments: object, cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """``qcompiler`` in a process of its own, with ``folders`` on its module path."""
    return subprocess.run(
        [sys.executable, "-m", "qcompiler", *map(str, arguments)], capture_output=True, text=True, cwd=cwd, check=False,
        env={**os.environ, "PYTHONPATH": str(folders), **environment},
    )


def succeed(folders: Path | str, *arguments: object, cwd: Path | None = None) -> str:
    """Run a command that must exit with 0; returns stdout."""
    done = run_command(folders, *arguments, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


def refuse(folders: Path | str, *arguments: object, cwd: Path | None = None, **environment: str) -> str:
    """Run a command that must exit with 2 and a message without a traceback; returns stderr."""
    done = run_command(folders, *arguments, cwd=cwd, **environment)
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
    return done.stderr
