"""Compile the bundled digit classifier for ``tpu-int8`` and compare float with integer accuracy.

    python -m qcompiler.demo --output demo-output
"""

from __future__ import annotations

import argparse
from importlib import resources
from pathlib import Path

import numpy as np
import onnxruntime
from rich.console import Console
from rich.table import Table

import qcompiler

TARGET = "tpu-int8"


def main() -> None:
    parser = argparse.ArgumentParser(description="compile and score the bundled digit classifier")
    parser.add_argument("--output", type=Path, default=Path("demo-output"), help="folder for artifact and IR dumps")
    output: Path = parser.parse_args().output
    folder = Path(str(resources.files("qcompiler.demo")))
    model = folder / "mnist_dscnn.onnx"
    with np.load(folder / "mnist.npz") as archive:
        calibration, images = (archive[name].astype(np.float32) / 255 for name in ("calibration", "images"))
        labels = archive["labels"]
    program = qcompiler.compile(
        model, target=TARGET, data={"x": calibration}, check_float=True, dump_ir=output / "ir"
    )
    program.save(output / "program")

    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    expected = session.run(None, {"x": images})[0].argmax(1)
    found = qcompiler.load(output / "program").run({"x": images})["y"].argmax(1)

    table = Table(title=f"handwritten digits on {TARGET}, {len(images)} held-out images", show_header=False)
    table.add_row("float accuracy", f"{100 * np.mean(expected == labels):.2f} %")
    table.add_row("integer accuracy", f"{100 * np.mean(found == labels):.2f} %")
    table.add_row("same answer", f"{100 * np.mean(expected == found):.2f} %")
    table.add_row("constants", f"{program.figures['bytes_before']:,} bytes -> {program.figures['bytes_after']:,} bytes")
    table.add_row("nodes on the host", f"{program.coverage.host_nodes} of {program.coverage.nodes}")
    table.add_row("compiled program", str(output / "program"))
    table.add_row("IR after each pass", str(output / "ir"))
    Console().print(table)


if __name__ == "__main__":
    main()
