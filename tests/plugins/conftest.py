"""The example plugin, installed as its user would."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from plugins.plugin_folder import EXAMPLE


@pytest.fixture(scope="session")
def acme(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the example plugin in it, built and installed by pip without a network."""
    folder = tmp_path_factory.mktemp("acme")
    # Builders write into the source's folder.
    source = shutil.copytree(EXAMPLE, folder / "source", ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-index",
         "--no-build-isolation", "--target", str(folder / "installed"), str(source)],
        check=True, capture_output=True, text=True,
    )
    return folder / "installed"
