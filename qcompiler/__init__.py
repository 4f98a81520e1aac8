"""Compile float neural networks to exact integer and block-floating-point programs for named targets."""
