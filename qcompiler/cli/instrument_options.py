"""Options that watch the passes, shared by ``compile`` and ``opt``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qcompiler.cli.terminal import print_table
from qcompiler.errors import QCompilerError, did_you_mean

if TYPE_CHECKING:
    from qcompiler.ir import Value
    from qcompiler.pipeline import Instrument

_PANEL = "Looking between the passes"

PrintBeforeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--print-ir-before", metavar="PASS", rich_help_panel=_PANEL,
        help="Print the program before this pass, or before each that an alias stands for, to stderr. Repeatable.",
    ),
]
PrintAfterOption = Annotated[
    list[str] | None,
    typer.Option(
        "--print-ir-after", metavar="PASS", rich_help_panel=_PANEL,
        help="Print the program after this pass, or after each that an alias stands for, to stderr. Repeatable.",
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
        "--time", rich_help_panel=_PANEL,
        help="Print time and nodes of every pass to stderr, and by how much it raised the most memory that the "
        "process has had so far: 0 for a pass that made do with what others had used.",
    ),
]
DumpIROption = Annotated[
    Path | None,
    typer.Option(
        "--dump-ir", metavar="DIR", rich_help_panel=_PANEL,
        help="Folder for the program after each pass; dumps of an earlier run in it are removed.",
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
        from qcompiler.pipeline.timing import HEADER as TIMING_HEADER

        before = _known_passes("--print-ir-before", self.print_before) + [ALL] * self.print_before_all
        after = _known_passes("--print-ir-after", self.print_after) + [ALL] * self.print_after_all
        chosen: list[Instrument] = []
        reproducer = CrashReproducer(self.crash_reproducer) if self.crash_reproducer else None
        if reproducer:
            chosen.append(reproducer)
        if self.compare:
            from qcompiler.pass_comparison import Compare
            from qcompiler.pass_comparison.report import HEADER as COMPARISON_HEADER

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
            remarks = []
            if reproducer and reproducer.written:
                remarks.append(f"reproducer: qcompiler opt {reproducer.written}")
            if isinstance(error, QCompilerError):
                # Its notes are printed here or nowhere: it is shown without a traceback.
                remarks += [f"note: {note}" for note in getattr(error, "__notes__", ())]
            if dumps and dumps.count:
                remarks.append(f"The program after the last finished pass lies in {dumps.folder}.")
            for remark in remarks:
                if isinstance(error, QCompilerError):
                    typer.echo(remark, err=True)
                else:
                    # Python prints notes behind the traceback: there they are seen.
                    error.add_note(remark)
            raise
        finally:
            if self.compare and comparison.report.passes:
                report = comparison.report
                if report.moving:
                    print_table(report.rows(), COMPARISON_HEADER, report.title, stderr=True)
                else:
                    typer.echo(str(report), err=True)
            for story in stories:
                if story.passes:
                    typer.echo(str(story), err=True)
            if timing.passes:
                print_table(timing.rows(), TIMING_HEADER, stderr=True)


def _known_passes(option: str, names: Sequence[str] | None) -> list[str]:
    """The passes of these names; in place of an alias those that it stands for.

    Raises:
        QCompilerError: there is no such pass or alias; names the nearest.
    """
    from qcompiler import plugins
    from qcompiler.pipeline import ALIASES, PASSES, Pipeline

    plugins.load()
    known = sorted({*PASSES, *ALIASES})
    passes: list[str] = []
    for name in names or ():
        if name not in known:
            raise QCompilerError(
                f"{option} names the pass {name!r}, which does not exist",
                expected="one of " + ", ".join(known), fix=did_you_mean(name, known),
            )
        passes += [p.name for p in Pipeline.parse(ALIASES[name]).passes] if name in ALIASES else [name]
    return passes
