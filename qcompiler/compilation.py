"""From a model to a program for a target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from qcompiler import plugins
from qcompiler.analysis.cost import constant_bytes, count_ops
from qcompiler.analysis.crossings import find_crossings
from qcompiler.backends.ort import Bypass, FloatSession, ops_without_onnx_form
from qcompiler.calibration.data import CalibrationData, DataLike, open_data
from qcompiler.compare import sqnr_db
from qcompiler.errors import QCompilerError
from qcompiler.frontends.onnx import import_model
from qcompiler.ir import Graph, Node, clone, read_program, verify, walk
from qcompiler.layer_verdicts import verdicts_by_layer
from qcompiler.native_code import NO_NATIVE_CODE, check_instruction_set
from qcompiler.ops.block_conversion import FakeBlock
from qcompiler.ops.block_values import block_float
from qcompiler.ops.constant import Constant
from qcompiler.ops.quantization import FakeQuant
from qcompiler.pipeline import Context, DumpIR, Instrument, Pass, Pipeline, Progress, silent
from qcompiler.program import Program
from qcompiler.rewrite import Conversion
from qcompiler.target import MOVED, Target, host_nodes, load_target

if TYPE_CHECKING:
    import onnx

Array = NDArray[Any]

_REPORT_SAMPLES = 8
"""Samples on which the finished program is compared with float."""
_FLOAT_SANITY_DB = 60.0
"""float32 programs that differ in the order of additions agree to 90 dB and more; a wrong pass leaves under 50."""
_FLOAT32_NOISE = 1e-6
"""Relative error that float32 programs of some depth gather."""


@dataclass(frozen=True)
class FloatCheck:
    """SQNR in dB against the imported model: of the simulation with all rounding bypassed, and with 32 bits."""

    bypassed_db: float
    wide_db: float


def compile(
    model: str | Path | onnx.ModelProto | Graph,
    *,
    target: str | Path | Target,
    data: DataLike | None = None,
    pipeline: str | None = None,
    batch: int | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    check_float: bool = False,
    native: bool | None = None,
    cpu: str | None = None,
    tune: bool = False,
    dump_ir: str | Path | None = None,
    instruments: Sequence[Instrument] = (),
    progress: Progress = silent,
) -> Program:
    """Compile a float model to a program that holds nothing but what a target can do.

    Args:
        model: an ONNX file or model, a ``.qir`` file, or a graph (which is not changed).
        target: name of a built-in target, path of a ``.toml`` descriptor, or a target.
        data: calibration data: an ``.npz`` file with an array for each input, a folder of ``.npy`` or ``.npz``
            files, an array, a dict of arrays, or an iterable of dicts.
        pipeline: passes to run instead of the target's own, such as ``"simplify,legalize,annotate"``.
        batch: fix the batch to this size; free by default where the model leaves it free.
        shapes: shapes of inputs whose dimensions the model leaves open, by input name.
        check_float: check that the simulation with quantization switched off, and with 32 bits, equals float.
        native: whether to compile native code; by default where the target is a processor that LLVM compiles for, or
            where ``cpu`` is given.
        cpu: instruction set of the native code; by default the best one that this machine runs.
        tune: measure which tiles of its convolutions are the fastest here before native code is compiled.
        dump_ir: folder for the program after each pass, ``000_import.qir`` and so on.
        instruments: watch the pipeline run, inside of those that the other arguments ask for.
        progress: told how far long work has come.

    Raises:
        QCompilerError: the model, the data, the target or the pipeline has a problem that the user can mend.
    """
    plugins.load()
    chosen = target if isinstance(target, Target) else load_target(target)
    natively = chosen.descriptor.native or cpu is not None if native is None else native
    _check_native_options(cpu, natively=natively, tune=tune)
    steps = Pipeline.parse(chosen.descriptor.pipeline if pipeline is None else pipeline)
    original = read_model(model, batch=batch, shapes=shapes)
    samples = None if data is None else open_data(data, original)
    expected = None if samples is None else _FloatReference(original, samples)
    context = Context(chosen, samples, progress=progress)
    slow = set(ops_without_onnx_form(original))
    check = _CheckFloat(expected) if check_float else None
    watching: list[Instrument] = [_ReportProgress(progress), _NoteSlowOps(slow)]
    if check is not None:
        watching.append(check)
    if dump_ir is not None:
        watching.append(DumpIR(dump_ir))
    graph = steps.run(clone(original), context, [*watching, *instruments])
    graph.target = chosen.name
    if not any(current.name == "verify-legal" for current in steps.passes):
        context.warn(f"without the pass 'verify-legal' nothing shows that {chosen.name} can run this program")
    if slow and samples is not None:
        context.warn(
            f"calibration ran in numpy, slowly: no lowering gives an ONNX form of {', '.join(sorted(slow))}"
        )
    program = Program(graph, warnings=context.warnings)
    if natively:
        required = bool(native) or cpu is not None or tune
        _compile_natively(program, cpu, required=required, tune=tune, progress=progress)
    program.figures = _figures(original, program, chosen, expected)
    if "legalize" in context.records:
        program.figures["legality"] = _legality(original, context.records["legalize"], program.graph, chosen)
    if check is not None and check.found is not None:
        program.figures["check_float"] = {"bypassed_db": check.found.bypassed_db, "wide_db": check.found.wide_db}
    elif check_float:
        raise QCompilerError("--check-float has nothing to check", fix="the pipeline must contain 'calibrate'")
    return program


def _check_native_options(cpu: str | None, *, natively: bool, tune: bool) -> None:
    """Refuse what native code alone can heed, before any work is done.

    Raises:
        QCompilerError: there is to be none; or this machine does not run the instruction set, or there is none of that
            name.
    """
    if cpu is not None and not natively:
        raise QCompilerError(f"--cpu {cpu} without native code", fix="leave out --cpu, or --no-native")
    if tune and not natively:
        raise QCompilerError("--tune without native code", fix="give --native, or leave out --tune")
    if cpu is not None:
        check_instruction_set(cpu)


def _compile_natively(
    program: Program, cpu: str | None, *, required: bool, tune: bool, progress: Progress
) -> None:
    """Build native code. Where that fails, the reference interpreter runs the program, and a warning says so.

    Raises:
        QCompilerError: native code was asked for, and an op has no native form or the C compiler does not work; or
            tuning was, and there is no C compiler.
    """
    from qcompiler.backends.tvm.kernel_program import NoLowering
    from qcompiler.backends.tvm.toolchain import CompilerFailed, NoCompiler

    try:
        program.build_native(cpu, progress, tune=tune)
    except NoCompiler as error:
        if tune:
            raise
        program.warnings.append(f"{NO_NATIVE_CODE}: {error}")
    except (CompilerFailed, NoLowering) as error:
        if required:
            raise
        program.warnings.append(f"{NO_NATIVE_CODE}: {error}")


def read_model(
    model: str | Path | onnx.ModelProto | Graph,
    *,
    batch: int | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
) -> Graph:
    """A float program from an ONNX model or ``.qir`` file.

    Raises:
        QCompilerError: it cannot be read or imported.
    """
    plugins.load()
    if isinstance(model, Graph):
        graph = model
    elif isinstance(model, str | Path) and str(model).endswith(".qir"):
        graph = read_program(Path(model))
    elif isinstance(model, str | Path) or hasattr(model, "SerializeToString"):
        graph = import_model(model, shapes=shapes, batch=batch)
    else:
        raise QCompilerError(
            f"a model of type {type(model).__name__}", expected="a path, an onnx.ModelProto or a graph"
        )
    verify(graph)
    return graph


class _FloatReference:
    """What the model computes on the first samples; it runs once, when first asked."""

    def __init__(self, original: Graph, samples: CalibrationData) -> None:
        self.original = original
        self.samples = samples

    @cached_property
    def feeds(self) -> Mapping[str, Array]:
        return self.samples.first(_REPORT_SAMPLES)

    @cached_property
    def outputs(self) -> list[Array]:
        return FloatSession(self.original).run(self.feeds)


def _check_simulation(calibrated: Graph, reference: _FloatReference) -> FloatCheck:
    """The float sanity check of a calibrated program.

    Raises:
        QCompilerError: with every fake_quant and fake_block bypassed, or set to 32 bits, it does not compute what the
            model does.
    """
    feeds, expected = reference.feeds, reference.outputs
    # Where large values cancel, what remains is rounding noise of float32 at their magnitude.
    negligible = _FLOAT32_NOISE * max(map(_largest_value, calibrated.nodes), default=0.0)
    figures = []
    for what, session in (
        ("bypassed", FloatSession(calibrated, bypass=Bypass(weights=True, activations=True))),
        ("at 32 bits", FloatSession(calibrated, bits=32)),
    ):
        found = session.run(feeds)
        worst = min(sqnr_db(e, f) for e, f in zip(expected, found, strict=True))
        largest_error = max(float(np.abs(e - f).max(initial=0)) for e, f in zip(expected, found, strict=True))
        if worst < _FLOAT_SANITY_DB and largest_error > negligible:
            raise QCompilerError(
                f"the simulation with quantization {what} does not equal the float model",
                expected=f"an SQNR of at least {_FLOAT_SANITY_DB} dB", found=f"{worst:.1f} dB",
                fix="a pass before 'calibrate' changed the program's meaning, or the model magnifies rounding "
                "(a logarithm near zero, say); dump the IR and compare",
            )
        figures.append(worst)
    return FloatCheck(*figures)


def _largest_value(node: Node) -> float:
    """The largest magnitude that a node is calibrated to represent; 0 for nodes that no calibration limits."""
    op = node.op
    if isinstance(op, FakeBlock):
        elem = block_float(op.held)
        exponents = elem.exponents
        return 0.0 if exponents is None else float(np.ldexp(float(elem.format.largest), exponents.array.max()))
    if not isinstance(op, FakeQuant) or op.scale is None:
        return 0.0
    return float(op.scale.array.max()) * (op.qmax - op.qmin)


class _ReportProgress(Instrument):
    """Tells how many passes have run."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.total = 0

    def begin(self, graph: Graph, passes: Sequence[Pass]) -> None:
        self.total = len(passes)

    def after_pass(self, index: int, current: Pass, graph: Graph, changed: bool) -> None:
        self.progress("compile", index + 1, self.total)


class _NoteSlowOps(Instrument):
    """Gathers the ops that calibration had to run in numpy."""

    def __init__(self, names: set[str]) -> None:
        self.names = names

    def after_pass(self, index: int, current: Pass, graph: Graph, changed: bool) -> None:
        if current.name == "calibrate":
            self.names.update(ops_without_onnx_form(graph))


class _CheckFloat(Instrument):
    """Runs the float sanity check behind ``calibrate``."""

    def __init__(self, expected: _FloatReference | None) -> None:
        self.expected = expected
        self.found: FloatCheck | None = None

    def after_pass(self, index: int, current: Pass, graph: Graph, changed: bool) -> None:
        if current.name == "calibrate":
            self.found = _check_simulation(graph, _require(self.expected))


def _require(reference: _FloatReference | None) -> _FloatReference:
    if reference is None:
        raise QCompilerError("the float check needs data", fix="give some with --data")
    return reference


def _figures(
    original: Graph, program: Program, target: Target, reference: _FloatReference | None
) -> dict[str, Any]:
    """What the summary shows: sizes, coverage and, where there are data, the error against float."""
    coverage = program.coverage
    layers = {name for node in walk(original) if not isinstance(node.op, Constant) for name in node.loc}
    figures: dict[str, Any] = {
        "layers": len(layers),
        "ops": count_ops(program.graph),
        "bytes_before": constant_bytes(original),
        "bytes_after": constant_bytes(program.graph),
        "nodes": coverage.nodes, "host_nodes": coverage.host_nodes,
        "macs": coverage.macs, "host_macs": coverage.host_macs,
        "host": [
            {
                "layer": node.layer, "op": node.op.name, "constraint": reason.constraint, "found": reason.found,
                "moved": reason == MOVED,
            }
            for node, reason in host_nodes(target, program.graph)
        ],
        "crossings": [asdict(crossing) for crossing in find_crossings(program.graph)],
        "warnings": list(program.warnings),
    }
    if reference is not None:
        feeds, expected = reference.feeds, reference.outputs
        found = _run(program, feeds)
        figures["samples"] = len(next(iter(feeds.values())))
        figures["sqnr_db"] = {
            output.name: sqnr_db(e, f)
            for output, e, f in zip(original.outputs, expected, found, strict=True)
            if e.dtype.kind == "f"
        }
        figures["agreement"] = {
            output.name: float(np.mean(_classes(e) == _classes(f)))
            for output, e, f in zip(original.outputs, expected, found, strict=True)
            if e.ndim == 2 and e.shape[1] > 1
        }
    return figures


def _legality(original: Graph, legalized: Conversion, graph: Graph, target: Target) -> list[dict[str, Any]]:
    """What became of each layer: from what ``legalize`` did, and from what the host runs of p'."""
    verdicts = verdicts_by_layer(
        original, legalized.verdicts, host_nodes(target, graph), has_host=target.descriptor.fallback == "host"
    )
    return [verdict.as_json() for verdict in verdicts]


def _run(program: Program, feeds: Mapping[str, Array]) -> list[Array]:
    if any(isinstance(node.op, FakeQuant | FakeBlock) for node in program.graph.nodes):
        return FloatSession(program.graph).run(feeds)
    return list(program.run(feeds).values())


def _classes(scores: Array) -> NDArray[np.int64]:
    return np.asarray(np.argmax(scores, 1), np.int64)
