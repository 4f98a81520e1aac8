"""The runtimes that native programs are compared with: ONNX Runtime and LiteRT, each on its best int8 form of a model.

Every contender does the same work on one sample: real numbers in, quantize, the network, dequantize, real numbers out.
Inputs are placed and outputs allocated once, so that ``run`` is one inference and little else. Both runtimes keep
their default waiting (their threads spin for a while after a run).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnx
import onnxruntime
from ai_edge_litert.interpreter import Interpreter
from native_litert_model import TfliteModel, write_program
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

import qcompiler

Array = NDArray[Any]


class Contender(Protocol):
    """Something that runs one model on one sample, which it already holds."""

    name: str

    def run(self) -> None:
        """One inference."""

    def output(self) -> Array:
        """What the last run computed, as real numbers."""


class OnnxRuntime:
    """ONNX Runtime on a quantized model, with every graph optimization and bound input and output.

    Attributes:
        operators: how many operators of each kind the optimized graph holds.
    """

    name = "ONNX Runtime"

    def __init__(self, model: Path, sample: Array, threads: int, profile: Path | None = None) -> None:
        """Args:
            model: from ``quantize_for_onnx_runtime``.
            sample: float32, batch 1.
            threads: of one operator; operators run one after another.
            profile: where the per-operator profile goes, without its ending; see ``end_profile``.
        """
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Saving the optimized model for this machine alone is what is wanted, and warned about.
        options.log_severity_level = 3
        optimized = model.with_suffix(".optimized.onnx")
        options.optimized_model_filepath = str(optimized)
        if profile is not None:
            options.enable_profiling = True
            options.profile_file_prefix = str(profile)
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self.operators = Counter(node.op_type for node in onnx.load(optimized).graph.node)
        self._binding = self._session.io_binding()
        self._input = onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(sample))
        self._binding.bind_ortvalue_input(self._session.get_inputs()[0].name, self._input)
        (output,) = self._session.get_outputs()
        self._output = onnxruntime.OrtValue.ortvalue_from_shape_and_type(output.shape, np.float32)
        self._binding.bind_ortvalue_output(output.name, self._output)

    def run(self) -> None:
        self._session.run_with_iobinding(self._binding)

    def output(self) -> Array:
        result: Array = self._output.numpy()
        return result

    def end_profile(self) -> Path:
        """Stop profiling and return the file, in Chrome's trace format."""
        return Path(self._session.end_profiling())


class LiteRT:
    """LiteRT on a .tflite model with its default resolver, which hands to XNNPACK what that takes.

    Attributes:
        not_delegated: code names of the operators that XNNPACK left to LiteRT's own kernels.
    """

    name = "LiteRT"

    def __init__(self, model: TfliteModel, sample: Array, threads: int) -> None:
        """Args:
            model: from ``native_litert_model.write_program``.
            sample: float32, batch 1, in the layout of the program's input.
            threads: of XNNPACK's pool.
        """
        self._interpreter = Interpreter(model_content=model.content, num_threads=threads)
        self._interpreter.allocate_tensors()
        self.not_delegated = not_delegated(self._interpreter)
        if model.permutation is not None:
            sample = sample.transpose(model.permutation)
        self._interpreter.set_tensor(self._interpreter.get_input_details()[0]["index"], np.ascontiguousarray(sample))
        self._output = self._interpreter.get_output_details()[0]["index"]

    def run(self) -> None:
        self._interpreter.invoke()

    def output(self) -> Array:
        result: Array = self._interpreter.get_tensor(self._output)
        return result


def not_delegated(interpreter: Interpreter) -> list[str]:
    """Operators of an allocated interpreter that no delegate runs.

    LiteRT does not list them. A delegate's node names only the tensors that cross its border; so an operator outside
    is one that makes a tensor that somebody outside that delegate reads, and that no delegate makes.
    """
    operators = interpreter._get_ops_details()
    delegates = [o for o in operators if o["op_name"] == "DELEGATE"]
    made = {t for d in delegates for t in d["outputs"]}
    needed = {t for d in delegates for t in d["inputs"]} | {d["index"] for d in interpreter.get_output_details()}
    found = []
    for operator in reversed([o for o in operators if o["op_name"] != "DELEGATE"]):
        if (set(operator["outputs"]) & needed) - made:
            needed |= set(operator["inputs"])
            found.append(operator["op_name"])
    return found[::-1]


class _Samples(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, name: str, samples: Array) -> None:
        self._feeds = iter([{name: samples[i : i + 1]} for i in range(len(samples))])

    def get_next(self) -> dict[str, Array] | None:
        return next(self._feeds, None)


def quantize_for_onnx_runtime(model: Path, calibration: Mapping[str, Array], folder: Path) -> Path:
    """Quantize a float model as ONNX Runtime recommends for CPUs with VNNI: QDQ, uint8 activations, int8 weights a
    channel, not reduced to 7 bits.

    Args:
        model: float, with one input.
        calibration: samples, by input name.
        folder: where the models go.

    Returns:
        The quantized model, with batch 1.
    """
    ((name, samples),) = calibration.items()
    fixed, prepared, quantized = (folder / f"{model.stem}.{stage}.onnx" for stage in ("fixed", "prepared", "int8"))
    proto = onnx.load(model)
    for value in [*proto.graph.input, *proto.graph.output]:
        value.type.tensor_type.shape.dim[0].dim_value = 1
    for node in proto.graph.node:
        # A Pad whose optional value is spelt as an empty name is not fused into the convolution behind it.
        while node.input and not node.input[-1]:
            node.input.pop()
    onnx.save(proto, fixed)
    # The shapes are fixed by now: symbolic inference, which needs a package more, would find nothing to add.
    quant_pre_process(fixed, prepared, skip_symbolic_shape=True)
    quantize_static(
        prepared, quantized, _Samples(name, samples), quant_format=QuantFormat.QDQ, per_channel=True,
        reduce_range=False, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod.MinMax, extra_options={"ActivationSymmetric": False},
    )
    return quantized


class Baselines:
    """Both runtimes' models of one suite case, made once; sessions are made from them for any number of threads.

    Attributes:
        sample: the case's first evaluation sample, batch 1.
        onnx: the quantized ONNX model.
        tflite: the int8 .tflite model.
    """

    def __init__(self, case: Any, folder: Path) -> None:
        """Args:
            case: of the suite.
            folder: for the models' files.
        """
        self.sample = sample_of(case)
        self.onnx = quantize_for_onnx_runtime(case.model, case.calib, folder)
        program = qcompiler.compile(case.model, target="tpu-int8", data=case.calib)
        self.tflite = write_program(program.graph, {case.input: self.sample})

    def contenders(self, threads: int) -> list[Contender]:
        """The baselines, ready to run on the case's first evaluation sample.

        Raises:
            RuntimeError: a runtime did not bring the model into the form that it is fast in.
        """
        ort = OnnxRuntime(self.onnx, self.sample, threads)
        convolutions = sum(node.op_type == "Conv" for node in onnx.load(self.onnx).graph.node)
        if ort.operators["QLinearConv"] != convolutions:
            raise RuntimeError(f"ONNX Runtime made {ort.operators} of {convolutions} convolutions")
        litert = LiteRT(self.tflite, self.sample, threads)
        heavy = {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "ADD"} & set(litert.not_delegated)
        if heavy:
            raise RuntimeError(f"XNNPACK left out {heavy}")
        return [ort, litert]


def sample_of(case: Any) -> Array:
    """The case's first evaluation sample, batch 1."""
    return np.ascontiguousarray(case.eval_x[case.input][:1])
