"""Functions of one real number, applied to each element."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from qcompiler.ir.dimension import Shape
from qcompiler.ir.op import Array, Fact, Op, Tensor, op, require
from qcompiler.ir.types import Elem, TensorType
from qcompiler.ops.inference import float_elem, operand_count

Real = NDArray[np.float64]

_vectorized_erf = np.vectorize(math.erf, otypes=[np.float64])


class UnaryFunction(Op):
    """Base: ``real`` is the function, on float64."""

    facts = Fact.ELEMENTWISE | Fact.UNARY

    def real(self, x: Real) -> Real:
        """The function's value at each element."""
        raise NotImplementedError

    def tabulated(self, x: Real) -> NDArray[np.float32]:
        """The value at float32 numbers ``x``, as tables are made from it (:func:`qcompiler.numerics.tabulate`).

        ``real`` rounded to float32, unless LiteRT's table for the function rounds in between.
        """
        return self.real(x).astype(np.float32)

    def infer_shapes(self, operands: Sequence[TensorType]) -> tuple[Shape, ...]:
        operand_count(operands, 1)
        return (operands[0].shape,)

    def infer_elems(self, operands: Sequence[TensorType]) -> tuple[Elem | None, ...]:
        return (float_elem(operands),)

    def evaluate(self, operands: Sequence[Tensor], results: Sequence[TensorType]) -> tuple[Array, ...]:
        with np.errstate(all="ignore"):
            value = self.real(operands[0].data.astype(np.float64))
        return (value.astype(results[0].storage.dtype),)


class ClampFunction(UnaryFunction):
    """Base of the functions that only limit values: the identity within ``limits``."""

    facts = Fact.ELEMENTWISE | Fact.UNARY | Fact.CLAMP

    @property
    def limits(self) -> tuple[float, float]:
        """Smallest and largest result; infinite where there is none."""
        raise NotImplementedError

    def real(self, x: Real) -> Real:
        return np.clip(x, *self.limits)


@op("relu")
class Relu(ClampFunction):
    """max(x, 0)."""

    @property
    def limits(self) -> tuple[float, float]:
        return (0.0, math.inf)


@op("clip")
class Clip(ClampFunction):
    """min(max(x, minimum), maximum); relu6 is clip to [0, 6]."""

    minimum: float = -math.inf
    maximum: float = math.inf

    @property
    def limits(self) -> tuple[float, float]:
        return (self.minimum, self.maximum)

    def infer_elems(self, operands: Sequence[TensorType]) -> tuple[Elem | None, ...]:
        require(self.minimum <= self.maximum, f"minimum {self.minimum} exceeds maximum {self.maximum}")
        return super().infer_elems(operands)


@op("leaky_relu")
class LeakyRelu(UnaryFunction):
    """x where positive, alpha * x elsewhere."""

    alpha: float = 0.01

    def real(self, x: Real) -> Real:
        return np.where(x >= 0, x, self.alpha * x)


@op("elu")
class Elu(UnaryFunction):
    """x where positive, alpha * (exp(x) - 1) elsewhere."""

    alpha: float = 1.0

    def real(self, x: Real) -> Real:
        return np.where(x >= 0, x, self.alpha * np.expm1(np.minimum(x, 0)))


@op("celu")
class Celu(UnaryFunction):
    """x where positive, alpha * (exp(x / alpha) - 1) elsewhere."""

    alpha: float = 1.0

    def real(self, x: Real) -> Real:
        return np.where(x >= 0, x, self.alpha * np.expm1(np.minimum(x, 0) / self.alpha))

    def infer_elems(self, operands: Sequence[TensorType]) -> tuple[Elem | None, ...]:
        require(self.alpha > 0, f"alpha must be positive, found {self.alpha}")
        return super().infer_elems(operands)


@op("selu")
class Selu(UnaryFunction):
    """gamma * elu(x)."""

    alpha: float = 1.67326319217681884765625
    gamma: float = 1.05070102214813232421875

    def real(self, x: Real) -> Real:
        return self.gamma * np.where(x >= 0, x, self.alpha * np.expm1(np.minimum(x, 0)))


@op("sigmoid")
class Sigmoid(UnaryFunction):
    """1 / (1 + exp(-x))."""

    bounds = (0.0, 1.0)

    def real(self, x: Real) -> Real:
        return _sigmoid(x)

    def tabulated(self, x: Real) -> NDArray[np.float32]:
        # LiteRT's LOGISTIC rounds every step of 1 / (1 + exp(-x)) to float32. Rounding once instead gives another
        # table at one input in 1,500: near ties of the result.
        one = np.float32(1)
        return one / (one + np.exp(-x).astype(np.float32))


@op("tanh")
class Tanh(UnaryFunction):
    """Hyperbolic tangent."""

    bounds = (-1.0, 1.0)

    def real(self, x: Real) -> Real:
        return np.tanh(x)


@op("hard_sigmoid")
class HardSigmoid(UnaryFunction):
    """min(max(alpha * x + beta, 0), 1)."""

    bounds = (0.0, 1.0)
    alpha: float = 0.2
    beta: float = 0.5

    def real(self, x: Real) -> Real:
        return np.clip(self.alpha * x + self.beta, 0.0, 1.0)


@op("hard_swish")
class HardSwish(UnaryFunction):
    """x * min(max(x / 6 + 1/2, 0), 1)."""

    def real(self, x: Real) -> Real:
        return x * np.clip(x / 6 + 0.5, 0.0, 1.0)


@op("silu")
class Silu(UnaryFunction):
    """x * sigmoid(x), also known as swish."""

    def real(self, x: Real) -> Real:
        return x * _sigmoid(x)


@op("gelu")
class Gelu(UnaryFunction):
    """x times the normal distribution function of x; ``approximate`` is "none" (erf) or "tanh"."""

    approximate: str = "none"

    def real(self, x: Real) -> Real:
        if self.approximate == "tanh":
            inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)
            return np.asarray(0.5 * x * (1 + np.tanh(inner)))
        return 0.5 * x * (1 + _erf(x / math.sqrt(2)))


@op("softplus")
class Softplus(UnaryFunction):
    """log(1 + exp(x))."""

    def real(self, x: Real) -> Real:
        return np.asarray(np.logaddexp(x, 0.0))


@op("mish")
class Mish(UnaryFunction):
    """x * tanh(log(1 + exp(x)))."""

    def real(self, x: Real) -> Real:
        return np.asarray(x * np.tanh(np.logaddexp(x, 0.0)))


@op("softsign")
class Softsign(UnaryFunction):
    """x / (1 + abs(x))."""

    bounds = (-1.0, 1.0)

    def real(self, x: Real) -> Real:
        return np.asarray(x / (1 + np.abs(x)))


@op("erf")
class Erf(UnaryFunction):
    """The error function."""

    bounds = (-1.0, 1.0)

    def real(self, x: Real) -> Real:
        return _erf(x)


@op("exp")
class Exp(UnaryFunction):
    """e to the power x."""

    def real(self, x: Real) -> Real:
        return np.exp(x)


@op("log")
class Log(UnaryFunction):
    """Natural logarithm."""

    def real(self, x: Real) -> Real:
        return np.log(x)


@op("sqrt")
class Sqrt(UnaryFunction):
    """Square root."""

    def real(self, x: Real) -> Real:
        return np.sqrt(x)


@op("reciprocal")
class Reciprocal(UnaryFunction):
    """1 / x."""

    def real(self, x: Real) -> Real:
        return 1 / x


@op("abs")
class Abs(UnaryFunction):
    """Absolute value."""

    def real(self, x: Real) -> Real:
        return np.abs(x)


@op("negate")
class Negate(UnaryFunction):
    """-x."""

    def real(self, x: Real) -> Real:
        return -x


@op("floor")
class Floor(UnaryFunction):
    """Largest whole number not above x."""

    def real(self, x: Real) -> Real:
        return np.floor(x)


@op("ceil")
class Ceil(UnaryFunction):
    """Smallest whole number not below x."""

    def real(self, x: Real) -> Real:
        return np.ceil(x)


@op("power")
class Power(UnaryFunction):
    """x to a fixed ``exponent``."""

    exponent: float = 1.0

    def real(self, x: Real) -> Real:
        return np.power(x, self.exponent)


def _erf(x: Real) -> Real:
    return np.asarray(_vectorized_erf(x), np.float64)


def _sigmoid(x: Real) -> Real:
    return 1 / (1 + np.exp(-x))
