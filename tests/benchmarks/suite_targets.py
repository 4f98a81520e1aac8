"""One table of all targets: what each model of a suite loses on each of them, and how much of it they run.

    python tests/benchmarks/suite_targets.py SUITE [CASE ...] [--targets NAME ...] [--compare N] [--write PAGE]
    python tests/benchmarks/suite_targets.py SUITE magika --targets tpu-int8 --fallback host --batch 1

Every score is of the exact program, on the suite's own evaluation split. Programs run as native code where every op
has a native form; ``--compare`` runs that many samples in the reference interpreter too and demands the same bits.
``--write`` puts the table into a Markdown page, between its two markers. A row that was measured is kept on the page
until it is measured again, so that the table can be made in several runs.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from suite import CNNS, load_suite

import qcompiler
from qcompiler.legality_report import check_legality
from qcompiler.target import Target, built_in_targets, load_target

_BEGIN, _END = "<!-- table -->", "<!-- end of table -->"
_COLUMNS = (
    "model", "target", "points lost", "SQNR dB", "same class %", "legal", "decomposed", "host", "constants kB",
    "runs as",
)


def main() -> None:
    parser = argparse.ArgumentParser(description="accuracy and coverage of every target on a model suite")
    parser.add_argument("suite", type=Path, help="folder that holds suite.py and suite.toml")
    parser.add_argument("cases", nargs="*", default=list(CNNS), help="cases to run (default: all CNNs)")
    parser.add_argument("--targets", nargs="+", default=list(built_in_targets()), metavar="NAME")
    parser.add_argument("--compare", type=int, default=0, metavar="N", help="samples on which native = reference")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="a Markdown page to put the table into")
    parser.add_argument("--fallback", choices=("error", "host"), help="in place of the target's own")
    parser.add_argument("--batch", type=int, help="samples that a program takes at once (default: free)")
    options = parser.parse_args()
    suite = load_suite(options.suite)
    rows: list[Sequence[str]] = []
    for name in options.cases:
        case = suite.load(name)
        real = float_results(case)
        for target in options.targets:
            chosen = load_target(target)
            chosen = chosen.with_fallback(options.fallback) if options.fallback else chosen
            measured = Measurement.of(case, chosen, real, options.compare, options.batch)
            rows.append((name, target, *measured.cells()))
            print(*rows[-1], flush=True)
            if options.write:
                write_table(options.write, rows[-1:])


def float_results(case: Any) -> Any:
    """The float model's results, one sample at a time, as the suite scores it."""
    session = onnxruntime.InferenceSession(str(case.model), providers=["CPUExecutionProvider"])
    inputs = case.eval_x[case.input]
    return np.concatenate([session.run(None, {case.input: inputs[i : i + 1]})[0] for i in range(len(inputs))])


@dataclass(frozen=True)
class Measurement:
    """One model on one target.

    Attributes:
        lost: points of the suite's score that the program loses against float; negative where it is better.
        sqnr: of all results, in dB.
        agreement: samples with float's class, in percent.
        counts: layers that are legal as they are, decomposed, and on the host.
        size: bytes of the program's constants.
        how: what ran it.
    """

    lost: float
    sqnr: float
    agreement: float
    counts: tuple[int, int, int]
    size: int
    how: str

    @classmethod
    def of(cls, case: Any, target: Target, real: Any, compared: int, batch: int | None) -> Measurement:
        """Compile, run and score a case.

        Raises:
            SystemExit: native code and the reference interpreter differ.
        """
        program = qcompiler.compile(case.model, target=target, data=case.calib, native=False, batch=batch)
        output, how = program.graph.outputs[0].name, "native"
        try:
            program.build_native()
        except qcompiler.QCompilerError as error:
            print(f"no native code: {error}", flush=True)
            how = "reference"
        if how == "native" and compared:
            few = {name: array[:compared] for name, array in case.eval_x.items()}
            ours, meant = (program.run(few, backend=backend)[output] for backend in ("native", "reference"))
            if not np.array_equal(ours, meant):
                raise SystemExit(f"{case.model.stem} on {target.name}: native code and reference interpreter differ")
            how = f"native = reference on {compared}"
        exact = program.run(case.eval_x)[output]
        agreement = 100.0 * float(np.mean(real.argmax(1) == exact.argmax(1)))
        score, reference = agreement, 100.0
        if case.metric == "top1":
            score, reference = (100.0 * float(np.mean(y.argmax(1) == case.eval_y)) for y in (exact, real))
        noise = np.square(real.astype(np.float64) - exact).sum()
        report = check_legality(case.model, target=target, batch=batch)
        assert report.count("host") or not program.coverage.host_nodes
        return cls(
            reference - score, float(10 * np.log10(np.square(real, dtype=np.float64).sum() / noise)), agreement,
            (report.count("legal"), report.count("decomposed"), report.count("host")), program.figures["bytes_after"],
            how,
        )

    def cells(self) -> list[str]:
        return [
            f"{self.lost:.2f}", f"{self.sqnr:.1f}", f"{self.agreement:.2f}", *map(str, self.counts),
            f"{self.size / 1024:.0f}", self.how,
        ]


def write_table(page: Path, rows: Sequence[Sequence[str]]) -> None:
    """Put rows into the table of a page, in the place of older ones of the same model and target."""
    text = page.read_text(encoding="utf-8")
    before, rest = text.split(_BEGIN)
    old, after = rest.split(_END)
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in old.strip().splitlines()[2:]]
    known = {(line[0], line[1].strip("`")): line for line in lines}
    known.update({(row[0], row[1]): [row[0], f"`{row[1]}`", *row[2:]] for row in rows})
    # Models in the suite's order, targets in that of the reference, others behind them.
    places = {name: place for place, name in enumerate((*CNNS, *built_in_targets()))}
    order = sorted(known, key=lambda key: [(places.get(name, len(places)), name) for name in key])
    head = [list(_COLUMNS), [*(["---"] * 2), *(["---:"] * 7), "---"]]
    table = "\n".join("| " + " | ".join(cells) + " |" for cells in (*head, *(known[key] for key in order)))
    page.write_text(re.sub(r"\n{3,}", "\n\n", f"{before}{_BEGIN}\n{table}\n{_END}{after}"), encoding="utf-8")


if __name__ == "__main__":
    main()
