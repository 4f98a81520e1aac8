"""Runs float and simulated programs: fast, through ONNX Runtime, or in numpy where an op has no ONNX form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

# The imports of the onnx_ modules register the ONNX forms of all ops.
from qcompiler.backends import onnx_elementwise, onnx_spatial, onnx_structure  # noqa: F401
from qcompiler.backends.fake_quant_simulation import Bypass, is_identity
from qcompiler.backends.float_interpreter import FloatInterpreter
from qcompiler.backends.onnx_emitter import OnnxEmitter, has_onnx_form, needed_nodes, require_float
from qcompiler.errors import QCompilerError
from qcompiler.ir import Graph, Node, SymbolicDim, Tensor, TensorType, Value
from qcompiler.ops.block_conversion import FakeBlock
from qcompiler.ops.constant import Constant

Array = NDArray[Any]

__all__ = ["Bypass", "FloatSession", "ops_without_onnx_form", "run_float"]

_DISABLED_OPTIMIZERS = ["NoopElimination", "MatMulScaleFusion", "Pad_Fusion"]
"""Rewrites that change what is computed. The first drops the addition of 0 that turns a simulated -0 into 0, the
second moves the multiplication by a simulated scale into the next matrix product, the third gives a pool pads that
the pool refuses."""


class FloatSession:
    """A float graph, loaded for execution at any batch size.

    fake_quant nodes without parameters are the identity; those with parameters give the numbers of
    ``FakeQuant.evaluate`` bit for bit. Everything else is float arithmetic in ONNX Runtime's order of summation. A
    program that holds an op without an ONNX form, such as a plugin's, runs in numpy by the ops' own ``evaluate``; so
    does one with a fake_block that is neither bypassed nor waiting for calibration.

    Args:
        graph: a graph of float ops; it may change afterwards without effect on the session.
        fetch: values of ``graph`` to return, inputs and constants included; the graph's outputs by default.
        bypass: which fake_quants and fake_blocks act as the identity.
        bits: simulate every other one at this width over the same real range; 32 is accurate to float32.
        threads: threads for one run; None lets ONNX Runtime choose.

    Raises:
        QCompilerError: a node computes on quantized numbers, or ONNX Runtime does not support it; names the layer.
    """

    def __init__(
        self,
        graph: Graph,
        fetch: Sequence[Value] | None = None,
        *,
        bypass: Bypass = Bypass(),  # noqa: B008 - frozen
        bits: int | None = None,
        threads: int | None = None,
    ) -> None:
        if bits is not None and not 2 <= bits <= 32:
            raise QCompilerError("fake_quant cannot have this width", expected="2 to 32 bits", found=f"{bits} bits")
        fetched = [o.value for o in graph.outputs] if fetch is None else list(fetch)
        self._graph_inputs = [(v.name, v.type) for v in graph.inputs]
        nodes = needed_nodes(graph, fetched)
        for node in nodes:
            if not isinstance(node.op, Constant):
                require_float(node)
        self._interpreter: FloatInterpreter | None = None
        self._session: Any = None
        if all(_runs_in_onnx(node, bypass) for node in nodes):
            self._load(graph, nodes, fetched, OnnxEmitter(graph, bypass, bits), threads)
        else:
            self._interpreter = FloatInterpreter(nodes, fetched, bypass, bits)
            self._inputs = {v.name: v for v in graph.inputs}
            self._required = _required_inputs(graph, nodes, fetched)

    def _load(
        self, graph: Graph, nodes: Sequence[Node], fetched: Sequence[Value], emitter: OnnxEmitter, threads: int | None
    ) -> None:
        emitter.emit_nodes(nodes)
        # Where each fetched value comes from: a constant array, a feed, or an output of the session.
        self._sources: list[Array | str | int] = []
        outputs: dict[str, TensorType] = {}
        positions: dict[str, int] = {}
        for value in fetched:
            root = emitter.resolve(value)
            if root in emitter.static:
                self._sources.append(emitter.static[root])
            elif root.producer is None:
                self._sources.append(root.name)
            else:
                name = emitter.name(root)
                outputs.setdefault(name, root.type)
                self._sources.append(positions.setdefault(name, len(positions)))
        self._output_names = list(outputs)
        if outputs:
            self._session = _start(emitter, list(outputs.items()), threads)
        self._model_inputs = {value.name: name for value, name in emitter.inputs.items()}
        self._required = set(self._model_inputs) | {s for s in self._sources if isinstance(s, str)}

    def run(self, feeds: Mapping[str, Array]) -> list[Array]:
        """Run the graph.

        Args:
            feeds: arrays by graph input name, in each input's shape and format; inputs that no fetched value
                depends on may be left out.

        Returns:
            The fetched values, in the order of ``fetch``.

        Raises:
            QCompilerError: a feed is missing, unknown or does not fit its input, or ONNX Runtime fails.
        """
        symbols = self._check(feeds)
        if self._interpreter is not None:
            inputs = {
                self._inputs[name]: Tensor(self._inputs[name].type.bind(symbols), np.asarray(array))
                for name, array in feeds.items()
            }
            return self._interpreter.run(inputs, symbols)
        computed: Sequence[Array] = ()
        if self._session is not None:
            named = {name: np.ascontiguousarray(feeds[key]) for key, name in self._model_inputs.items()}
            try:
                computed = self._session.run(self._output_names, named)
            except Exception as error:  # ONNX Runtime's exceptions share no narrower base
                raise QCompilerError("ONNX Runtime failed to run the program", found=str(error)) from error
        results: list[Array] = []
        for source in self._sources:
            if isinstance(source, int):
                results.append(computed[source])
            else:
                results.append(np.asarray(feeds[source]) if isinstance(source, str) else source)
        return results

    def _check(self, feeds: Mapping[str, Array]) -> dict[str, int]:
        """Refuse feeds that do not fit; the size of each free dimension."""
        names = [name for name, _ in self._graph_inputs]
        unknown = sorted(set(feeds) - set(names))
        if unknown:
            raise QCompilerError(f"the program has no input {unknown[0]!r}", expected=", ".join(names))
        symbols: dict[str, int] = {}
        for name, type in self._graph_inputs:
            if name not in feeds:
                if name in self._required:
                    raise QCompilerError(f"input {name!r} is missing", fix=f"feed a {type}")
                continue
            array = np.asarray(feeds[name])
            fits = array.dtype == type.storage.dtype and array.ndim == type.rank
            for dim, size in zip(type.shape, array.shape, strict=False):
                if isinstance(dim, SymbolicDim):
                    bound = symbols.setdefault(dim.symbol, size // dim.coefficient)
                    fits = fits and size == bound * dim.coefficient
                else:
                    fits = fits and size == dim
            if not fits:
                raise QCompilerError(
                    f"input {name!r} does not fit", expected=str(type), found=f"{array.dtype}{list(array.shape)}"
                )
        return symbols


def run_float(graph: Graph, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Run a float graph once; results by output name. See :class:`FloatSession`."""
    results = FloatSession(graph).run(feeds)
    return dict(zip(graph.output_names, results, strict=True))


def ops_without_onnx_form(graph: Graph) -> list[str]:
    """Ops of a program that make :class:`FloatSession` run it in numpy, slowly; none for ops of the compiler."""
    return sorted({node.op.name for node in graph.nodes if not has_onnx_form(node.op)})


def _runs_in_onnx(node: Node, bypass: Bypass) -> bool:
    rounds_blocks = isinstance(node.op, FakeBlock) and not is_identity(node, bypass)
    return has_onnx_form(node.op) and not rounds_blocks


def _required_inputs(graph: Graph, nodes: Sequence[Node], fetched: Sequence[Value]) -> set[str]:
    """Names of the inputs that the interpreter reads: operands, and one for each free dimension."""
    read = {v for node in nodes for v in node.operands} | set(fetched)
    required = [v for v in graph.inputs if v in read]
    used = {symbol for v in read | {r for n in nodes for r in n.results} for symbol in _symbols(v)}
    for value in graph.inputs:
        known = {symbol for v in required for symbol in _symbols(v)}
        if value not in required and _symbols(value) & (used - known):
            required.append(value)
    return {v.name for v in required}


def _symbols(value: Value) -> set[str]:
    return {dim.symbol for dim in value.type.shape if isinstance(dim, SymbolicDim)}


def _start(emitter: OnnxEmitter, outputs: Sequence[tuple[str, TensorType]], threads: int | None) -> Any:
    """An ONNX Runtime session of what ``emitter`` wrote."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors are raised; they need not be printed too
    if threads is not None:
        options.intra_op_num_threads = threads
    arrays = emitter.large_initializers
    # ONNX Runtime reads these arrays where they lie; nothing is copied on the way into the session.
    options.add_external_initializers(
        list(arrays), [onnxruntime.OrtValue.ortvalue_from_numpy(a) for a in arrays.values()]
    )
    try:
        return onnxruntime.InferenceSession(
            emitter.model(outputs).SerializeToString(), options, providers=["CPUExecutionProvider"],
            disabled_optimizers=_DISABLED_OPTIMIZERS,
        )
    except Exception as error:  # ONNX Runtime's exceptions share no narrower base
        raise QCompilerError(
            "ONNX Runtime does not support the program", found=str(error),
            fix="run it with the reference interpreter, or convert the layer named above to float32",
        ) from error
