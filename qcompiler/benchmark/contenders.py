"""What is timed: something that holds its inputs already and runs once at a time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from qcompiler.errors import QCompilerError
from qcompiler.native_code import NativeCode

Array = NDArray[Any]


class Contender(Protocol):
    """Something that runs one model on one sample, which it already holds."""

    name: str

    def run(self) -> None:
        """One inference."""


class NativeProgram:
    """A program's native code. One without nodes on the host is a single call into its library."""

    name = "qcompiler"

    def __init__(self, native: NativeCode, feeds: Mapping[str, Array], threads: int) -> None:
        """Args:
            native: of the program.
            feeds: one sample of each input.
            threads: of each op.
        """
        islands = native.islands
        self.threads = max((library.working_threads(threads) for _, library in islands if library), default=1)
        if len(islands) == 1 and islands[0][1] is not None:
            self.run = islands[0][1].prepare(feeds, threads).run
        else:
            self.run = lambda: _drop(native.run(feeds, False, threads))


class OnnxRuntimeModel:
    """ONNX Runtime on a model as it is, with every graph optimization and its inputs and outputs in place."""

    name = "ONNX Runtime"

    def __init__(self, model: Path, feeds: Mapping[str, Array], threads: int) -> None:
        """Args:
            model: an ONNX file.
            feeds: one sample of each input.
            threads: of each operator; operators run one after another.

        Raises:
            QCompilerError: ONNX Runtime does not take the model, or the model does not take these inputs.
        """
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        if not model.is_file():
            raise QCompilerError(f"model {str(model)!r} does not exist", expected="an ONNX file")
        try:
            self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            # Its exceptions share no base class but this one.
            raise QCompilerError(f"ONNX Runtime does not take {str(model)!r}", found=str(error)) from error
        wanted = sorted(i.name for i in self._session.get_inputs())
        if wanted != sorted(feeds):
            raise QCompilerError(
                f"{str(model)!r} is not a model of this program", expected=f"inputs {', '.join(sorted(feeds))}",
                found=f"inputs {', '.join(wanted)}", fix="name the model that the program was compiled from",
            )
        try:
            outputs = self._session.run(None, dict(feeds))
        except Exception as error:
            raise QCompilerError(f"{str(model)!r} does not take this sample", found=str(error)) from error
        self._binding = self._session.io_binding()
        values = [onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(a)) for a in feeds.values()]
        for name, value in zip(feeds, values, strict=True):
            self._binding.bind_ortvalue_input(name, value)
        # Bound values must outlive the binding.
        self._bound = [*values, *(onnxruntime.OrtValue.ortvalue_from_numpy(np.array(o)) for o in outputs)]
        for output, value in zip(self._session.get_outputs(), self._bound[len(values):], strict=True):
            self._binding.bind_ortvalue_output(output.name, value)

    def run(self) -> None:
        """One inference."""
        self._session.run_with_iobinding(self._binding)


def _drop(outputs: dict[str, Array]) -> None:
    """A run whose results nobody reads."""
    del outputs
