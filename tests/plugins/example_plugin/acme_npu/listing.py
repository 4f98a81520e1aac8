"""The exporter acme-listing."""

import json
from pathlib import Path

from qcompiler.exporters import exporter
from qcompiler.program import Program


@exporter("acme-listing", suffix=".acme")
def write_listing(program: Program, path: Path) -> None:
    """The program's kernels, in order, with the layers that they come from."""
    kernels = [{"op": node.op.name, "layers": list(node.loc)} for node in program.graph.nodes]
    path.write_text(json.dumps({"target": program.graph.target, "kernels": kernels}, indent=2) + "\n")
