"""Programs at several stages for the tests of the page."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any

import numpy as np
from models import residual_cnn
from numpy.typing import NDArray

import qcompiler
from qcompiler.compilation import read_model
from qcompiler.ir import Graph, clone, parse
from qcompiler.pipeline import Context, Pipeline
from qcompiler.target import load_target

Array = NDArray[Any]
ANNOTATED = "simplify,legalize,simplify,annotate"


@cache
def demo_images() -> Array:
    """32 inputs of the bundled digit classifier."""
    with np.load(str(resources.files("qcompiler.demo") / "mnist.npz")) as archive:
        return np.asarray(archive["calibration"][:32], np.float32) / np.float32(255)


@cache
def demo_float() -> Graph:
    """The bundled digit classifier."""
    return read_model(str(resources.files("qcompiler.demo") / "mnist_dscnn.onnx"))


@cache
def demo_integer() -> Graph:
    """The bundled digit classifier, compiled."""
    return qcompiler.compile(demo_float(), target="tpu-int8", data={"x": demo_images()}).graph


@cache
def cnn_float() -> Graph:
    """A small residual network."""
    return read_model(residual_cnn())


@cache
def cnn_annotated() -> Graph:
    """The small residual network with fake_quant nodes."""
    return Pipeline.parse(ANNOTATED).run(clone(cnn_float()), Context(target=load_target("tpu-int8")))


@cache
def cnn_integer() -> Graph:
    """The small residual network, compiled."""
    images = np.random.default_rng(0).normal(size=(8, 3, 12, 12)).astype(np.float32)
    return qcompiler.compile(cnn_float(), target="tpu-int8", data={"image": images}).graph


MARKUP = "</script x><script>window.broken = 1</script ><!--<script><img src=x onerror='window.broken = 1'>"


def hostile() -> Graph:
    """A program whose names of layers, values and inputs are HTML."""
    name = MARKUP.replace('"', '\\"')
    return parse(f'''// qir 1
graph @"{name}"(%"{name}": f32[N,2] original("{name}")) -> ("{name}": f32[N,2]) {{
  %0 = relu %"{name}" -> f32[N,2] original("{name}") loc("{name}")
  %1 = relu %0 -> f32[N,2] original("h<b>") loc("{name}")
  return %1
}}
''')
