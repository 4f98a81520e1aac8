"""Kernels by family, one a file."""
