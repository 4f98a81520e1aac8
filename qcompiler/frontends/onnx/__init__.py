"""Imports float ONNX models."""

from qcompiler.frontends.onnx.importer import UnsupportedLayers, import_model

__all__ = ["UnsupportedLayers", "import_model"]
