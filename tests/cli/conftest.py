"""Every test runs in a folder of its own that holds a small model and calibration data for it."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from cli.command_line import images, small_cnn


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with ``model.onnx`` and ``calib.npz``."""
    onnx.save(small_cnn(), tmp_path / "model.onnx")
    np.savez(tmp_path / "calib.npz", image=images(16))
    monkeypatch.chdir(tmp_path)
    return tmp_path
