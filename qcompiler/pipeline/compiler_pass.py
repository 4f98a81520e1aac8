"""What a pass is, and the registry that finds passes by name."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, TypeVar, dataclass_transform

from numpy.typing import NDArray

from qcompiler.errors import QCompilerError
from qcompiler.ir import Graph
from qcompiler.pipeline.options import check_options, options_of
from qcompiler.pipeline.stage import Stage
from qcompiler.registry import Registry
from qcompiler.target import Target

Feeds = Mapping[str, NDArray[Any]]


class CalibrationSource(Protocol):
    """Calibration data: batches of inputs by name, as often as asked."""

    def __len__(self) -> int:
        """Number of samples."""
        ...

    def batches(self, size: int) -> Iterable[Feeds]:
        """All samples in order, ``size`` at a time; the last batch may be shorter."""
        ...


class Progress(Protocol):
    """Told how far long work has come."""

    def __call__(self, description: str, done: int, total: int) -> None: ...


def silent(description: str, done: int, total: int) -> None:
    """A progress report to nobody."""


@dataclass
class Context:
    """What passes may read beside the graph.

    Attributes:
        target: the target compiled for; None in pipelines that need none.
        data: calibration data; None where there is none.
        warn: takes one-sentence warnings for the user.
        progress: takes progress of long work.
        records: what passes leave for whoever runs the pipeline, by name of the pass.
    """

    target: Target | None = None
    data: CalibrationSource | None = None
    warnings: list[str] = field(default_factory=list)
    progress: Progress = silent
    records: dict[str, Any] = field(default_factory=dict)

    def require_target(self, pass_name: str) -> Target:
        """The target.

        Raises:
            QCompilerError: there is none.
        """
        if self.target is None:
            raise QCompilerError(f"pass {pass_name!r} needs a target", fix="name one with --target")
        return self.target

    def require_data(self, pass_name: str) -> CalibrationSource:
        """The calibration data.

        Raises:
            QCompilerError: there is none.
        """
        if self.data is None:
            raise QCompilerError(f"pass {pass_name!r} needs calibration data", fix="give some with --data")
        return self.data

    def warn(self, message: str) -> None:
        """Tell the user something, in one sentence; it does not stop the compilation."""
        self.warnings.append(message)


@dataclass(frozen=True)
class PassResult:
    """What a pass did.

    Attributes:
        graph: the program after the pass: the one it was given, changed in place, or a new one.
        changed: whether anything changed.
    """

    graph: Graph
    changed: bool


class Pass(ABC):
    """Base of all passes: a frozen dataclass whose fields are its options.

    The class docstring is the pass's reference entry. :func:`option` describes a field and limits its values; they
    are checked whenever a pass is made.

    What a pass needs is declared on its class and checked before any pass of a pipeline runs.
    """

    name: ClassVar[str]
    needs: ClassVar[Stage] = Stage.ANY
    """The stages of programs that it takes."""
    leaves: ClassVar[Stage | None] = None
    """The stage of the program that it leaves; None where that is the stage it got."""
    needs_target: ClassVar[bool] = False
    """Whether it reads ``context.target``."""
    needs_data: ClassVar[bool] = False
    """Whether it reads ``context.data``, for programs that have inputs."""
    takes_rules: ClassVar[bool] = False
    """Whether it uses rules that are registered into it; see :func:`qcompiler.rewrite.rule`."""

    def __post_init__(self) -> None:
        """Check the options. A subclass that has a ``__post_init__`` of its own calls this one.

        Raises:
            QCompilerError: an option has a value that its type or limits do not allow.
        """
        check_options(self)

    @abstractmethod
    def run(self, graph: Graph, context: Context) -> PassResult:
        """Transform ``graph``.

        Raises:
            QCompilerError: the program cannot be transformed; names the user's layer.
        """

    def options(self) -> dict[str, Any]:
        """Option values by name."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}  # type: ignore[arg-type]


PASSES: Registry[str, type[Pass]] = Registry("pass", "passes")
"""Pass classes by name."""

_PassClass = TypeVar("_PassClass", bound=type[Pass])


@dataclass_transform(frozen_default=True)
def compiler_pass(name: str) -> Callable[[_PassClass], _PassClass]:
    """Register a class as the pass ``name`` and make it a frozen dataclass.

    Raises:
        QCompilerError: the name is taken.
        TypeError: an option has a type that pipeline text cannot hold, or a default that its limits refuse.
    """

    def register(cls: _PassClass) -> _PassClass:
        PASSES.check_free(name, cls.__module__)
        dataclass(frozen=True)(cls)
        cls.name = name
        options_of(cls)
        PASSES.add(name, cls)
        return cls

    return register
