"""Says, without calibrating, which layers of a model a target can run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qcompiler import plugins
from qcompiler.analysis.crossings import Crossing, find_crossings
from qcompiler.analysis.placement import place_on_host
from qcompiler.compilation import read_model
from qcompiler.errors import QCompilerError
from qcompiler.frontends.onnx import UnsupportedLayers
from qcompiler.ir import Graph, Node, clone
from qcompiler.layer_verdicts import STATUSES, LayerVerdict, Status, verdicts_by_layer
from qcompiler.passes.legalize import decompositions_of, legalize
from qcompiler.pipeline import Context, Pass, Pipeline
from qcompiler.rewrite import Conversion, Mode
from qcompiler.rewrite.ways_out import helping_decompositions, ways_out
from qcompiler.target import MOVED, Target, Violation, host_reason, load_target

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class LegalityReport:
    """Verdicts on all layers of a model, in the order of the model.

    Attributes:
        target: name of the target.
        layers: the verdicts.
        crossings: where numbers will pass between target and host.
        is_complete: whether all layers were judged; not so where the model has layers that cannot be imported, which
            then are all that is listed.
    """

    target: str
    layers: tuple[LayerVerdict, ...]
    crossings: tuple[Crossing, ...] = ()
    is_complete: bool = True

    @property
    def is_legal(self) -> bool:
        """Whether the target can run every layer, or leaves to the host what it cannot."""
        return all(layer.status != "illegal" for layer in self.layers)

    def count(self, status: Status) -> int:
        """How many layers have this status."""
        return sum(layer.status == status for layer in self.layers)

    def as_json(self) -> dict[str, Any]:
        """The report as plain dicts, lists, strings and numbers; the keys are documented in docs/checking.md."""
        return {
            "target": self.target,
            "legal": self.is_legal,
            "complete": self.is_complete,
            "counts": {status: self.count(status) for status in STATUSES},
            "layers": [layer.as_json() for layer in self.layers],
            "crossings": [asdict(crossing) for crossing in self.crossings],
        }


def check_legality(
    model: str | Path | onnx.ModelProto | Graph,
    *,
    target: str | Path | Target,
    batch: int | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
) -> LegalityReport:
    """Judge every layer of a model as compiling for the target does.

    The passes of the target's pipeline run as far as they need no data: layers are judged as they will be compiled,
    batch normalizations folded, composites recognized, axes in the target's order, and placed on target or host. What
    depends on numbers, such as the overflow of an accumulator, shows only when the model is compiled.

    Args:
        model: an ONNX file or model, a ``.qir`` file, or a graph (which is not changed).
        target: name of a built-in target, path of a ``.toml`` descriptor, or a target.
        batch: fix the batch to this size.
        shapes: shapes of inputs whose dimensions the model leaves open, by input name.

    Raises:
        QCompilerError: the model or the target has a problem beside legality, or the target's pipeline has no
            ``legalize``.
    """
    plugins.load()
    chosen = target if isinstance(target, Target) else load_target(target)
    before, behind = _split_pipeline(chosen)
    try:
        original = read_model(model, batch=batch, shapes=shapes)
    except UnsupportedLayers as error:
        return LegalityReport(chosen.name, tuple(_not_imported(error)), is_complete=False)
    graph = Pipeline(before).run(clone(original), Context(chosen))
    helping = helping_decompositions(graph, chosen, decompositions_of(chosen))
    conversion = legalize(clone(graph), chosen, Mode.PARTIAL)
    outs = _ways_out(chosen, legalize(graph, chosen, Mode.ANALYSIS), helping)
    has_host = chosen.descriptor.fallback == "host"
    on_host: list[tuple[Node, Violation]] = []
    crossings: list[Crossing] = []
    refusals: list[QCompilerError] = []
    if has_host or not conversion.illegal:
        try:
            on_host, crossings = _place(graph, chosen, behind)
        except QCompilerError as error:
            if error.layer is None:
                raise
            refusals.append(error)
    entries = verdicts_by_layer(original, conversion.verdicts, on_host, has_host=has_host)
    entries = [replace(e, ways_out=outs.get(e.layers, ())) if e.violations else e for e in entries]
    for refusal in refusals:
        entries = _with_refusal(entries, refusal)
    return LegalityReport(chosen.name, tuple(entries), tuple(crossings))


def _split_pipeline(target: Target) -> tuple[tuple[Pass, ...], tuple[Pass, ...]]:
    """The passes before ``legalize``, and those behind it up to the first that needs data."""
    passes = Pipeline.parse(target.descriptor.pipeline).passes
    names = [current.name for current in passes]
    if "legalize" not in names:
        raise QCompilerError(
            f"the pipeline of target {target.name!r} has no pass 'legalize'", found=target.descriptor.pipeline
        )
    legalizing = names.index("legalize")
    until = names.index("annotate") if "annotate" in names else len(names)
    return tuple(passes[:legalizing]), tuple(passes[legalizing + 1 : until + 1])


def _place(
    graph: Graph, target: Target, behind: Sequence[Pass]
) -> tuple[list[tuple[Node, Violation]], list[Crossing]]:
    """The host's nodes of a program, each with the reason, and the crossings; legalizes and annotates the program.

    Raises:
        QCompilerError: a pass refuses a layer.
    """
    legalize(graph, target, Mode.PARTIAL)
    context = Context(target)
    placing = tuple(current for current in behind if current.name != "annotate")
    graph = Pipeline(placing).run(graph, context) if placing else graph
    placed = place_on_host(graph, target)
    for node in graph.nodes:
        node.on_host = node in placed
    on_host = [(node, host_reason(target, node) or MOVED) for node in graph.nodes if node.on_host]
    crossings = find_crossings(graph, placed)
    annotating = tuple(current for current in behind if current.name == "annotate")
    if annotating:
        Pipeline(annotating).run(clone(graph), context)
    return on_host, crossings


def _ways_out(
    target: Target, conversion: Conversion, helping: Mapping[Node, Sequence[str]]
) -> dict[tuple[str, ...], tuple[str, ...]]:
    """The ways out of each set of layers that the target refuses."""
    found: dict[tuple[str, ...], tuple[str, ...]] = {}
    for verdict in conversion.verdicts:
        if verdict.illegal:
            ways = ways_out(target, verdict.illegal, helping.get(verdict.node, ()))
            found[verdict.layers] = tuple(dict.fromkeys((*found.get(verdict.layers, ()), *ways)))
    return found


def _not_imported(error: UnsupportedLayers) -> list[LayerVerdict]:
    fix = (error.fix,) if error.fix else ()
    return [
        LayerVerdict(
            (name,), (operator,), "illegal", violations=(Violation(f"{operator} cannot be imported", reason),),
            ways_out=fix,
        )
        for name, operator, reason in error.layers
    ]


def _with_refusal(entries: Sequence[LayerVerdict], error: QCompilerError) -> list[LayerVerdict]:
    """Entries in which the layer that a later pass refuses is illegal."""
    violation = Violation(error.expected or error.problem, error.found or error.problem)
    ways = (error.fix,) if error.fix else ()
    exact = [e for e in entries if e.name == error.layer]
    named = exact or [e for e in entries if any(name in (error.layer or "") for name in e.layers)]
    if not named:
        raise error
    return [
        replace(e, status="illegal", violations=(*e.violations, violation), ways_out=(*e.ways_out, *ways))
        if e in named else e
        for e in entries
    ]
