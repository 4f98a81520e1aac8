"""Types of the graph's inputs: which dimensions are fixed, and which one is the batch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import onnx

from qcompiler.errors import QCompilerError
from qcompiler.frontends.onnx.tensor_data import scalar_for
from qcompiler.ir import Dim, SymbolicDim, TensorType

BATCH = SymbolicDim("N")


def input_types(
    inputs: Sequence[onnx.ValueInfoProto], shapes: Mapping[str, Sequence[int]], batch: int | None
) -> list[TensorType]:
    """The type of each input.

    Args:
        inputs: the model's inputs that are not initializers.
        shapes: fixed shapes by input name; -1 as, or a lack of, the leading entry keeps the batch free.
        batch: the batch size, or None to keep it free.

    Raises:
        QCompilerError: a dimension beside the batch is dynamic, or the arguments do not fit the model.
    """
    unknown = set(shapes) - {value.name for value in inputs}
    if unknown:
        raise QCompilerError(
            f"a shape is given for {sorted(unknown)[0]!r}, which is no input of the model",
            expected=", ".join(value.name for value in inputs),
        )
    if batch is not None and batch < 1:
        raise QCompilerError("the batch size must be positive", found=str(batch))
    named = _named_dimensions(inputs, shapes)
    types = [_input_type(value, shapes.get(value.name), batch, named) for value in inputs]
    if batch is not None and all(type.shape[:1] != (batch,) for type in types):
        raise QCompilerError(
            f"no input takes batch size {batch}", expected="an input whose leading dimension is dynamic",
            found=", ".join(f"{value.name}: {type}" for value, type in zip(inputs, types, strict=True)),
            fix="leave the batch size out, or export the model with a dynamic batch",
        )
    return types


def _input_type(
    value: onnx.ValueInfoProto, given: Sequence[int] | None, batch: int | None, named: Mapping[str, int]
) -> TensorType:
    what = f"input {value.name!r}"
    if value.type.WhichOneof("value") != "tensor_type":
        raise QCompilerError(f"{what} is no tensor", found=str(value.type.WhichOneof("value")))
    tensor = value.type.tensor_type
    if tensor.elem_type in (onnx.TensorProto.STRING, onnx.TensorProto.UNDEFINED):
        raise QCompilerError(
            f"{what} holds no numbers", found=onnx.TensorProto.DataType.Name(tensor.elem_type)
        )
    elem = scalar_for(np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)), what)
    declared = _declared_shape(value)
    requested = _requested_shape(what, declared, given)
    if requested is None:
        raise QCompilerError(f"{what} has no shape", fix=f"pass --shape {value.name}=...")
    sizes: list[int | str | None] = [None] * len(requested) if declared is None else declared
    shape = tuple(_dimension(value, axis, size, requested, batch, named) for axis, size in enumerate(sizes))
    return TensorType(shape, elem)


def _dimension(
    value: onnx.ValueInfoProto, axis: int, declared: int | str | None, requested: Sequence[int | None],
    batch: int | None, named: Mapping[str, int],
) -> Dim:
    what = f"dimension {axis} of input {value.name!r}"
    wanted = requested[axis]
    if isinstance(declared, int):
        if wanted is not None and wanted != declared:
            raise QCompilerError(
                f"{what} is fixed by the model", expected=str(declared),
                found="a free batch" if wanted == -1 else str(wanted),
                fix="give the model's own size, or export it with a dynamic dimension",
            )
        return declared
    if wanted is not None and wanted > 0:
        return wanted
    if wanted is None and isinstance(declared, str) and declared in named:
        return named[declared]
    if axis == 0:
        return BATCH if batch is None else batch
    example = ",".join(str(d) if isinstance(d, int) else ("-1" if i == 0 else "?") for i, d in enumerate(requested))
    raise QCompilerError(
        f"{what} is dynamic", expected="a fixed size; only the leading dimension, the batch, may stay free",
        found=declared or "an unnamed dynamic dimension", fix=f"pass --shape {value.name}={example}",
    )


def _declared_shape(value: onnx.ValueInfoProto) -> list[int | str | None] | None:
    """Sizes, names of dynamic dimensions, or None for unnamed ones; None where the model gives no shape."""
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return None
    # Exporters write -1 and 0 for unknown sizes as well.
    return [d.dim_value if d.dim_value > 0 else (d.dim_param or None) for d in tensor.shape.dim]


def _requested_shape(
    what: str, declared: list[int | str | None] | None, given: Sequence[int] | None
) -> list[int | None] | None:
    """The sizes asked for, None where nothing is: the shape ``given``, completed by the declared sizes."""
    if given is None:
        return None if declared is None else [d if isinstance(d, int) else None for d in declared]
    entries: list[int | None] = [int(d) for d in given]
    if declared is not None and len(entries) == len(declared) - 1:
        entries.insert(0, None)
    if declared is not None and len(entries) != len(declared):
        raise QCompilerError(
            f"the shape given for {what} has the wrong rank", expected=f"{len(declared)} dimensions",
            found=str(list(given)),
        )
    if any(d is not None and d < 1 and not (d == -1 and axis == 0) for axis, d in enumerate(entries)):
        raise QCompilerError(
            f"the shape given for {what} is malformed", expected="positive sizes, or -1 for the leading dimension",
            found=str(list(given)),
        )
    return entries


def _named_dimensions(
    inputs: Iterable[onnx.ValueInfoProto], shapes: Mapping[str, Sequence[int]]
) -> dict[str, int]:
    """Sizes of the dynamic dimensions that ``shapes`` fixes, by the name that the inputs share."""
    named: dict[str, int] = {}
    for value in inputs:
        given, declared = shapes.get(value.name), _declared_shape(value)
        if given is None or declared is None:
            continue
        trailing = zip(reversed(declared), reversed([int(d) for d in given]), strict=False)
        for name, size in trailing:
            if isinstance(name, str) and name.isidentifier() and size > 0:
                named.setdefault(name, size)
    return named
