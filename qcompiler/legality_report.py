"""Says, without calibrating, which layers of a model a target can run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from qcompiler import plugins
from qcompiler.compilation import read_model
from qcompiler.errors import QCompilerError
from qcompiler.ir import Graph, Node, clone
from qcompiler.ops.constant import Constant
from qcompiler.passes.legalize import legalize
from qcompiler.pipeline import Context, Pipeline
from qcompiler.rewrite import Mode, Verdict
from qcompiler.target import Target, Violation, load_target

if TYPE_CHECKING:
    import onnx

Status = Literal["legal", "decomposed", "folded", "host", "illegal"]
STATUSES: tuple[Status, ...] = ("legal", "decomposed", "folded", "host", "illegal")


@dataclass(frozen=True)
class LayerVerdict:
    """What becomes of one layer, or of several that were merged into one.

    Attributes:
        layers: the user's layer names; empty for nodes that the compiler added.
        ops: the ops that the layer is made of before legalization.
        status: "legal": the target runs the ops as they are. "decomposed": it runs other ops in their place.
            "folded": nothing of the layer is left to run. "host": the target cannot run it, or part of it, and leaves
            that to the host. "illegal": the target cannot run it, and has no host.
        rules: decompositions applied.
        parts: the ops after decomposition.
        violations: why the target cannot run the layer; empty where it can.
    """

    layers: tuple[str, ...]
    ops: tuple[str, ...]
    status: Status
    rules: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    violations: tuple[Violation, ...] = ()

    @property
    def name(self) -> str:
        return " + ".join(self.layers) or "(added by the compiler)"


@dataclass(frozen=True)
class LegalityReport:
    """Verdicts on all layers of a model, in the order of the model.

    Attributes:
        target: name of the target.
        layers: the verdicts.
    """

    target: str
    layers: tuple[LayerVerdict, ...]

    @property
    def is_legal(self) -> bool:
        """Whether the target can run every layer, or leaves to the host what it cannot."""
        return all(layer.status != "illegal" for layer in self.layers)

    def count(self, status: Status) -> int:
        """How many layers have this status."""
        return sum(layer.status == status for layer in self.layers)


def check_legality(
    model: str | Path | onnx.ModelProto | Graph,
    *,
    target: str | Path | Target,
    batch: int | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
) -> LegalityReport:
    """Judge every layer of a model as the pass ``legalize`` of the target's pipeline does.

    The passes before ``legalize`` run first, so layers are judged as they will be compiled: batch normalizations
    folded, composites recognized, axes in the target's order. What depends on numbers, such as the overflow of an
    accumulator, shows only when the model is compiled.

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
    before = _before_legalize(chosen)
    original = read_model(model, batch=batch, shapes=shapes)
    graph = before.run(clone(original), Context(chosen))
    conversion = legalize(graph, chosen, Mode.ANALYSIS)
    beyond: Status = "host" if chosen.descriptor.fallback == "host" else "illegal"
    return LegalityReport(chosen.name, tuple(_by_layer(original, conversion.verdicts, beyond)))


def _before_legalize(target: Target) -> Pipeline:
    passes = Pipeline.parse(target.descriptor.pipeline).passes
    index = next((i for i, current in enumerate(passes) if current.name == "legalize"), None)
    if index is None:
        raise QCompilerError(
            f"the pipeline of target {target.name!r} has no pass 'legalize'", found=target.descriptor.pipeline
        )
    return Pipeline(passes[:index])


def _by_layer(original: Graph, verdicts: Sequence[Verdict], beyond: Status) -> list[LayerVerdict]:
    """One entry for each set of layers that share nodes, and one for each layer without nodes, in model order.

    Args:
        original: the model.
        verdicts: on its nodes.
        beyond: the status of layers that the target cannot run.
    """
    order: dict[str, int] = {}
    folded: dict[str, list[str]] = {}
    for node in original.nodes:
        if isinstance(node.op, Constant):
            continue
        for name in node.loc:
            order.setdefault(name, len(order))
            folded.setdefault(name, []).append(node.op.name)
    grouped: dict[tuple[str, ...], list[Verdict]] = {}
    for verdict in verdicts:
        layers = verdict.node.loc
        grouped.setdefault(layers, []).append(verdict)
        for name in layers:
            folded.pop(name, None)
    entries = [_merged(layers, members, beyond) for layers, members in grouped.items()]
    entries.extend(LayerVerdict((name,), tuple(ops), "folded") for name, ops in folded.items())
    return sorted(entries, key=lambda e: min((order.get(name, len(order)) for name in e.layers), default=len(order)))


def _merged(layers: tuple[str, ...], members: Sequence[Verdict], beyond: Status) -> LayerVerdict:
    rules = tuple(dict.fromkeys(name for v in members for name in v.rules))
    violations = tuple(dict.fromkeys(violation for v in members for _, violation in v.illegal))
    within: Status = "decomposed" if rules else "legal"
    status = beyond if violations else within
    return LayerVerdict(
        layers, _names([v.node for v in members]), status, rules,
        _names([part for v in members for part in v.parts]) if rules else (), violations,
    )


def _names(nodes: Sequence[Node]) -> tuple[str, ...]:
    return tuple(node.op.name for node in nodes)
