"""How wide the accumulators of a model suite have to be.

    python tests/benchmarks/suite_accumulators.py SUITE [CASE ...] [--target T] [--bits 20]

For every case, compiled without proof: contractions; the bits that hold the sums of any input, with the bias and
without, and those of 32 calibration samples in any order of summation; how many layers need more than ``--bits`` in
each sense; and how many parts the layers have when their reductions are split so that each part fits.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console
from rich.table import Table
from suite import CNNS, load_suite

from qcompiler import plugins
from qcompiler.accumulator_report import report_accumulators
from qcompiler.analysis.accumulators import ContractionSums, contraction_sums
from qcompiler.analysis.reduction_parts import split_reduction
from qcompiler.analysis.stored_ranges import stored_ranges
from qcompiler.calibration.data import open_data
from qcompiler.compilation import read_model
from qcompiler.ir import Affine, Graph, clone
from qcompiler.ops.contraction import Contraction
from qcompiler.pipeline import Context, Pipeline
from qcompiler.target import load_target

REALIZED = "simplify,legalize,canonicalize,fold-constants,cse,dce,annotate,calibrate,realize,fold-constants,dce"


def main() -> None:
    parser = argparse.ArgumentParser(description="width of accumulators on a model suite")
    parser.add_argument("suite", type=Path, help="folder that holds suite.py and suite.toml")
    parser.add_argument("cases", nargs="*", default=list(CNNS), help="cases to run (default: all CNNs)")
    parser.add_argument("--target", default="tpu-int8", help="target to compile for")
    parser.add_argument("--bits", type=int, default=20, help="width of the accumulator to compare with")
    options = parser.parse_args()
    suite = load_suite(options.suite)
    plugins.load()
    target = load_target(options.target)
    table = Table(title=f"sums on target {options.target}, against accumulators of {options.bits} bits")
    table.add_column("case")
    for column in ("layers", "bits", "of products", "on data", "too wide", "products", "on data", "most parts"):
        table.add_column(column, justify="right")
    for name in options.cases:
        case = suite.load(name)
        original = read_model(case.model)
        data = open_data(case.calib, original)
        graph = Pipeline.parse(REALIZED).run(clone(original), Context(target, data))
        rows = report_accumulators(graph, None, data)
        worst, seen = [r.worst_case_bits for r in rows], [r.calibrated_bits or 0 for r in rows]
        sums = _sums(graph)
        products = [s.products.bits for s in sums]
        columns = (worst, products, seen)
        table.add_row(
            name, str(len(rows)), *(str(max(bits)) for bits in columns),
            *(str(sum(b > options.bits for b in bits)) for bits in columns), _most_parts(sums, options.bits),
        )
    Console(width=130).print(table)


def _sums(graph: Graph) -> list[ContractionSums]:
    """Bounds of each contraction of a program without fused kernels."""
    ranges = stored_ranges(graph)
    return [
        contraction_sums(node, ranges=ranges) for node in graph.nodes
        if isinstance(node.op, Contraction) and isinstance(node.result.type.elem, Affine)
    ]


def _most_parts(layers: list[ContractionSums], bits: int) -> str:
    """The most parts that a layer is split into."""
    most = 0
    for sums in layers:
        parts = split_reduction(sums, bits)
        if parts is None:
            return "impossible"
        most = max(most, 1 if sums.all.bits <= bits else len(parts))
    return str(most)


if __name__ == "__main__":
    main()
