"""Imports float ONNX models."""

from qcompiler.frontends.onnx.importer import import_model

__all__ = ["import_model"]
