"""Rounds the weights of a contraction so that its results change least.

Source: Frantar et al., GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers, ICLR 2023,
algorithm 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Real = NDArray[np.float64]
RoundTerm = Callable[[Real, int], Real]
"""Rounds the weights of one term, ``[groups, outputs]``, to what the format can hold."""

_TERMS = 64
"""Terms that are rounded before the terms behind them are changed."""
_DAMPING = 0.01
"""Share of the mean variance that is added to every variance, as in the paper."""


def round_weights(weights: Real, covariances: Real, round_term: RoundTerm) -> Real:
    """Weights that the format can hold, chosen one term after the other.

    What rounding one weight changes is made up for by the weights that are not rounded yet, as far as the inputs
    correlate.

    Args:
        weights: ``[groups, outputs, terms]``.
        covariances: of the inputs, ``[groups, terms, terms]``.
        round_term: rounds the weights of a term.

    Returns:
        Rounded weights, of the same shape.
    """
    groups, _, terms = weights.shape
    damped = covariances + np.eye(terms) * (
        _DAMPING * np.trace(covariances, axis1=1, axis2=2).reshape(groups, 1, 1) / terms + np.finfo(np.float64).tiny
    )
    factor = _upper_factor_of_inverse(damped)
    remaining, rounded, errors = weights.copy(), np.empty_like(weights), np.empty_like(weights)
    for start in range(0, terms, _TERMS):
        stop = min(start + _TERMS, terms)
        for term in range(start, stop):
            rounded[..., term] = round_term(remaining[..., term], term)
            errors[..., term] = (remaining[..., term] - rounded[..., term]) / factor[:, term, term, None]
            remaining[..., term + 1 : stop] -= errors[..., term, None] * factor[:, None, term, term + 1 : stop]
        # What lies behind takes the changes of these terms at once.
        remaining[..., stop:] -= errors[..., start:stop] @ factor[:, start:stop, stop:]
    return rounded


def _upper_factor_of_inverse(matrices: Real) -> Real:
    """U of ``inverse(A) = U^T U``, with U upper triangular."""
    scale = np.maximum(np.trace(matrices, axis1=1, axis2=2) / matrices.shape[1], np.finfo(np.float64).tiny)
    inverse = np.linalg.inv(matrices / scale[:, None, None])
    symmetric = (inverse + inverse.transpose(0, 2, 1)) / 2
    upper: Any = np.linalg.cholesky(symmetric).transpose(0, 2, 1)
    # The factor's scale cancels in the algorithm.
    return np.asarray(upper)
