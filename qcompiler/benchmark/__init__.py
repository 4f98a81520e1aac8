"""How fast a program's native code is, alone and beside ONNX Runtime."""

from qcompiler.benchmark.contenders import Contender, NativeProgram, OnnxRuntimeModel
from qcompiler.benchmark.interleaved import Times, measure
from qcompiler.benchmark.profile import StepTime, profile_steps
from qcompiler.benchmark.samples import one_sample_of, random_sample

__all__ = [
    "Contender", "NativeProgram", "OnnxRuntimeModel", "StepTime", "Times", "measure", "one_sample_of",
    "profile_steps", "random_sample",
]
