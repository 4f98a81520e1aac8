"""Access to a model suite: a folder with ``suite.py`` (``load`` and ``score``) and ``suite.toml``."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path
from typing import Any

CNNS = ("mnist", "kws", "resnet8", "resnet20", "efflite0", "vww")


def arguments(description: str) -> argparse.Namespace:
    """Command line of a suite benchmark: the suite's folder, and the cases to run."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("suite", type=Path, help="folder that holds suite.py and suite.toml")
    parser.add_argument("cases", nargs="*", default=list(CNNS), help="cases to run (default: all CNNs)")
    parser.add_argument("--target", default="tpu-int8", help="target to compile for")
    return parser.parse_args()


def load_suite(folder: Path) -> Any:
    """The suite's own module."""
    spec = importlib.util.spec_from_file_location("model_suite", folder / "suite.py")
    if spec is None or spec.loader is None:
        raise SystemExit(f"{folder} holds no suite.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["model_suite"] = module
    spec.loader.exec_module(module)
    return module
