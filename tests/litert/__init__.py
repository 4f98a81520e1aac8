"""LiteRT's reference kernels as witness for the integer arithmetic."""
