"""Whether ``qcompiler check`` says what ``compile`` then does: every layer of every model of a suite, on every target.

    python tests/benchmarks/suite_check.py SUITE [CASE ...] [--targets NAME ...] [--fallback error|host]

Prints a row for each model and target, and every layer on which the two disagree. Exits with 1 if there is one.
"""

from __future__ import annotations

import argparse
import sys
import tomllib
from pathlib import Path
from typing import Any

from suite import load_suite

from qcompiler import QCompilerError, compile
from qcompiler.layer_verdicts import STATUSES
from qcompiler.legality_report import LegalityReport, check_legality
from qcompiler.target import Target, built_in_targets, load_target

_OF_NUMBERS = ("must not overflow", "must fit", "does not fit")
"""What the refusals say that depend on numbers, which 'check' does not claim to know."""
_SAMPLES = 2
"""What is compared does not depend on numbers, so a little data does."""


def main() -> int:
    """Compare, and print."""
    options = _arguments()
    suite = load_suite(options.suite)
    cases = options.cases or list(tomllib.loads((options.suite / "suite.toml").read_text()))
    disagreements = 0
    for name in cases:
        case = suite.load(name, root=options.suite)
        for target_name in options.targets:
            target = load_target(target_name)
            if options.fallback:
                target = target.with_fallback(options.fallback)
            data = {key: array[:_SAMPLES] for key, array in case.calib.items()}
            batch = next((1 for array in data.values() if array.dtype.kind == "i"), None)
            report = check_legality(case.model, target=target, batch=batch)
            found = disagreement(case.model, target, data, batch, report)
            disagreements += len(found)
            counts = ", ".join(f"{report.count(s)} {s}" for s in STATUSES if report.count(s))
            print(f"{name:10} {target_name:16} {counts}: {'agrees' if not found else 'DISAGREES'}", flush=True)
            for line in found:
                print(f"    {line}")
    return 1 if disagreements else 0


def disagreement(
    model: Path, target: Target, data: dict[str, Any], batch: int | None, report: LegalityReport
) -> list[str]:
    """What ``check`` says and ``compile`` does not do, layer by layer; empty where they agree."""
    try:
        program = compile(model, target=target, data=data, batch=batch, native=False)
    except QCompilerError as error:
        if report.is_legal and any(word in str(error) for word in _OF_NUMBERS):
            return []
        if report.is_legal:
            return [f"check: legal; compile: {error}"]
        refused = {error.layer} if error.layer else {
            line.strip().partition(": ")[0] for line in error.problem.splitlines()[1:]
        }
        told = {layer.name for layer in report.layers if layer.status == "illegal"}
        return [f"{name}: refused by one alone" for name in sorted(map(str, refused ^ told))]
    if not report.is_legal:
        return ["check: illegal; compile: compiled"]
    told_layers = [{**layer.as_json(), "ways_out": []} for layer in report.layers]
    pairs = zip(told_layers, program.figures["legality"], strict=True)
    lines = [f"check: {told}; compile: {done}" for told, done in pairs if told != done]
    if len(report.crossings) != len(program.figures["crossings"]):
        lines.append(f"{len(report.crossings)} crossings told, {len(program.figures['crossings'])} found")
    return lines


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare 'check' with 'compile'.")
    parser.add_argument("suite", type=Path, help="folder that holds suite.py and suite.toml")
    parser.add_argument("cases", nargs="*", help="cases to compare (default: all)")
    parser.add_argument("--targets", nargs="+", default=list(built_in_targets()), help="targets (default: all)")
    parser.add_argument("--fallback", choices=("error", "host"), help="in place of what the targets say")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
