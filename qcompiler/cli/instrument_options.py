"""Options that watch the passes, shared by ``compile`` and ``opt``."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qcompiler.errors import QCompilerError, did_you_mean

if TYPE_CHECKING:
    from qcompiler.ir import Value
    from qcompiler.pipeline import Instrument

_PANEL = "Looking between the passes"

PrintBeforeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--print-ir-before", metavar="PASS", rich_help_panel=_PANEL,
        help="Print the program before this pass, to stderr. Repeatable.",
    ),
]
PrintAfterOption = Annotated[
    list[str] | None,
    typer.Option(
        "--print-ir-after", metavar="PASS", rich_help_panel=_PANEL,
        help="Print the program after this pass, to stderr. Repeatable.",
    ),
]
PrintBeforeAllOption = Annotated[
    bool, typer.Option("--print-ir-before-all", rich_help_panel=_PANEL, help="Print it before every pass.")
]
PrintAfterAllOption = Annotated[
    bool, typer.Option("--print-ir-after-all", rich_help_panel=_PANEL, help="Print it after every pass.")
]
PrintAfterChangeOption = Annotated[
    bool,
    typer.Option("--print-ir-after-change", rich_help_panel=_PANEL, help="Print it after passes that changed it."),
]
PrintOnFailureOption = Annotated[
    bool,
    typer.Option("--print-ir-on-failure", rich_help_panel=_PANEL, help="Print it as a failing pass left it."),
]
VerifyEachOption = Annotated[
    bool,
    typer.Option(
        "--verify-each/--no-verify-each", rich_help_panel=_PANEL,
        help="Verify the program after every pass, not only after those that say they changed it.",
    ),
]
TimeOption = Annotated[
    bool,
    typer.Option(
        "--time", rich_help_panel=_PANEL, help="Print time, nodes and memory of every pass to stderr, as a table."
    ),
]
DumpIROption = Annotated[
    Path | None,
    typer.Option(
        "--dump-ir", metavar="DIR", rich_help_panel=_PANEL, help="Folder for the program after each pass."
    ),
]
CrashReproducerOption = Annotated[
    Path | None,
    typer.Option(
        "--crash-reproducer", metavar="DIR", rich_help_panel=_PANEL,
        help="If a pass fails, write a folder here from which 'qcompiler opt DIR' fails the same way.",
    ),
]
CompareOption = Annotated[
    Path | None,
    typer.Option(
        "--compare", metavar="DATA", rich_help_panel=_PANEL,
        help="Run samples of DATA after each pass, and print to stderr which pass moved which values.",
    ),
]

ExplainOption = Annotated[
    list[str] | None,
    typer.Option(
        "--explain", metavar="VALUE", rich_help_panel=_PANEL,
        help="Tell on stderr every rule that looked at this value or layer, and why it declined. Repeatable.",
    ),
]

@dataclass(frozen=True)
class InstrumentChoice:
    """What the options ask for; see their help."""

    print_before: Sequence[str] | None = None
    print_after: Sequence[str] | None = None
    print_before_all: bool = False
    print_after_all: bool = False
    print_after_change: bool = False
    print_on_failure: bool = False
    verify_each: bool = False
    time: bool = False
    dump_ir: Path | None = None
    crash_reproducer: Path | None = None
    compare: Path | None = None
    explain: Sequence[str] | None = None

    @property
    def prints(self) -> bool:
        """Whether programs are printed while the passes run."""
        return bool(
            self.print_before or self.print_after or self.print_before_all or self.print_after_all
            or self.print_after_change or self.print_on_failure
        )

    @contextmanager
    def instruments(self, names: Mapping[Value, str] | None = None) -> Iterator[list[Instrument]]:
        """The instruments, outermost first. When the scope is left, by an error too, their reports are printed.

        Args:
            names: names of the program's values that differ from those it is printed with.

        Raises:
            QCompilerError: an option names a pass that does not exist.
        """
        from qcompiler.pipeline import CrashReproducer, DumpIR, Explain, PrintIR, Timing, VerifyEach
        from qcompiler.pipeline.print_ir import ALL

        before = _known_passes("--print-ir-before", self.print_before) + [ALL] * self.print_before_all
        after = _known_passes("--print-ir-after", self.print_after) + [ALL] * self.print_after_all
        chosen: list[Instrument] = []
        reproducer = CrashReproducer(self.crash_reproducer) if self.crash_reproducer else None
        if reproducer:
            chosen.append(reproducer)
        if self.compare:
            from qcompiler.pass_comparison import Compare

            comparison = Compare(self.compare)
            chosen.append(comparison)
        dumps = DumpIR(self.dump_ir) if self.dump_ir else None
        if dumps:
            chosen.append(dumps)
        if self.prints:
            chosen.append(PrintIR(
                before, after, after_change=self.print_after_change, on_failure=self.print_on_failure
            ))
        if self.verify_each:
            chosen.append(VerifyEach())
        stories = [Explain(wanted, names) for wanted in self.explain or ()]
        chosen.extend(stories)
        timing = Timing()
        if self.time:
            chosen.append(timing)
        try:
            yield chosen
        except Exception as error:
            if reproducer and reproducer.written:
                typer.echo(f"reproducer: qcompiler opt {reproducer.written}", err=True)
            for note in getattr(error, "__notes__", ()):
                typer.echo(f"note: {note}", err=True)
            if dumps and dumps.count:
                typer.echo(f"The program after the last finished pass lies in {dumps.folder}.", err=True)
            raise
        finally:
            if self.compare and comparison.report.passes:
                comparison.report.print(sys.stderr)
            for story in stories:
                if story.passes:
                    typer.echo(str(story), err=True)
            if timing.passes:
                typer.echo(str(timing), err=True, nl=False)


def _known_passes(option: str, names: Sequence[str] | None) -> list[str]:
    """``names``, all of them passes.

    Raises:
        QCompilerError: one is not; names the nearest.
    """
    from qcompiler import plugins
    from qcompiler.pipeline import PASSES

    plugins.load()
    for name in names or ():
        if name not in PASSES:
            raise QCompilerError(
                f"{option} names the pass {name!r}, which does not exist",
                expected="one of " + ", ".join(sorted(PASSES)), fix=did_you_mean(name, PASSES),
            )
    return list(names or ())
