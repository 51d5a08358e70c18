"""What ONNX nodes give on constants, by the meaning that they have for a network: never by a definition of another kind.

Moving, counting and comparing is exact (`_onnx_constants`, `_onnx_arithmetic`); real numbers go through the steps that an
operator becomes where its input is live, in float64. onnxruntime is asked, where it is installed, for operators without either.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..errors import UnsupportedError
from . import _onnx_arithmetic, _onnx_operators, _onnx_shapes, _onnx_sums, _onnx_windows  # noqa: F401  (they fill the tables)
from ._builder import Builder
from ._onnx_call import OPERATORS, Call
from ._onnx_constants import CONSTANTS, Arguments, Array
from ._onnx_quantized import dequantized, quantized
from ._onnxruntime import is_installed, runtime
from ._program import Live, first_line

if TYPE_CHECKING:
    from onnx import NodeProto

BAD_VALUES = (RuntimeError, ValueError, TypeError, IndexError, KeyError, AttributeError, ArithmeticError)
_QUANTIZED = {"DequantizeLinear": dequantized, "QuantizeLinear": quantized}
_AMBIGUOUS = {"AveragePool", "BatchNormalization", "ConvTranspose", "Dropout", "MaxPool", "Pad"}
_ADVICE = "fold constants when exporting the model"
_EXACT = 2**53  # integers up to here are numbers of float64


def folded(node: NodeProto, opset: int, arrays: Sequence[Array | None], builder: Builder) -> list[Array]:
    """Return the outputs of a node whose inputs are all constant; those that nothing computes are left out.

    Raises UnsupportedError for what does not fit, and for operators that neither polylens nor an installed onnxruntime knows.
    """
    attributes = attributes_of(node)
    outputs = max(place for place, name in enumerate(node.output, 1) if name)
    given = Arguments(op=node.op_type, arrays=arrays, attributes=attributes, opset=opset, outputs=outputs)
    try:
        with np.errstate(all="ignore"):
            own = _own(given)
            if own is not None:
                return own
            return _stepped(given, builder) if node.op_type in OPERATORS else _run(node, opset, arrays, builder)
    except BAD_VALUES as error:
        if not isinstance(error, UnsupportedError):
            builder.refuse(f"cannot be evaluated on constants ({first_line(error)})", _ADVICE)
        if node.op_type not in OPERATORS or node.op_type in _AMBIGUOUS or not is_installed():
            raise
        return _run(node, opset, arrays, builder)


def attributes_of(node: NodeProto) -> dict[str, Any]:
    """Return a node's attributes as Python's values."""
    from onnx import helper

    found = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    return {name: value.decode() if isinstance(value, bytes) else value for name, value in found.items()}


def tensor_of(array: Array) -> Tensor:
    """Return a constant for the builder; half precision is widened, exactly."""
    wide = array if array.dtype in (np.float32, np.float64) or array.dtype.kind in "iub" else array.astype(np.float32)
    return torch.from_numpy(np.array(wide))


def _own(n: Arguments) -> list[Array] | None:
    if n.op in _QUANTIZED and (number := _QUANTIZED[n.op](n.arrays, n.attributes, n.opset)) is not None:
        return [number]
    found = CONSTANTS[n.op](n) if n.op in CONSTANTS else None
    return found if found is None or isinstance(found, list) else [found]


# -- the steps of a network


def _stepped(n: Arguments, outer: Builder) -> list[Array]:
    """Run an operator on its first real input (or its first of any type) as if it were live, and evaluate what comes out.

    The input is one sample without a batch; where the operator needs a batch, the first axis is it.
    """
    place = next((i for i, a in enumerate(n.arrays) if a is not None and _is_real(a)), 0)
    data = _widened(n.array(place), outer)
    try:
        found = _evaluated(n, place, data, False, outer)
    except UnsupportedError:
        if not data.ndim:
            raise
        found = _evaluated(n, place, data, True, outer)
    return [_narrowed(value, n.array(place).dtype, outer) for value in found]


def _evaluated(n: Arguments, place: int, data: Tensor, batched: bool, outer: Builder) -> list[Tensor]:
    shape = tuple(data.shape)
    builder = Builder(shape[1:], shape[0]) if batched else Builder(shape)
    builder.begin(outer.name, outer.where)
    entry = Live(0, builder.input_shape, batched)
    operands = tuple(entry if i == place else a if a is None else tensor_of(a) for i, a in enumerate(n.arrays))
    call = Call(builder, n.op, operands, n.attributes, n.opset, n.outputs, builder.batch == 1)
    found = OPERATORS[n.op](call)
    lives = found if isinstance(found, list) else [found]
    if len(lives) < n.outputs:
        builder.refuse(f"gives {n.outputs} outputs, of which no step represents the last", _ADVICE)
    values = [data if batched else data[None]]
    with torch.no_grad():
        for made in builder.nodes:
            values.append(made.step.apply(*(values[i] for i in made.inputs)))
    return [values[x.value] if x.batched else values[x.value][0] for x in lives]


def _is_real(array: Array) -> bool:
    return array.dtype.kind == "f" or array.dtype.name == "bfloat16"


def _widened(array: Array, builder: Builder) -> Tensor:
    if array.dtype.kind in "iu" and array.size and not (array.min() >= -_EXACT and array.max() <= _EXACT):
        builder.refuse("computes with constant integers beyond 2^53", _ADVICE)
    return torch.from_numpy(np.array(array, dtype=np.float64, order="C"))


def _narrowed(value: Tensor, dtype: np.dtype[Any], builder: Builder) -> Array:
    """Return a result in the type of the constant; integers have to come out as integers."""
    array = value.numpy()
    if dtype.kind in "iu" and not (np.array_equal(array, np.rint(array)) and (np.abs(array) <= _EXACT).all()):
        builder.refuse("makes constant integers that are not exact", _ADVICE)
    return array.astype(dtype)


# -- onnxruntime


def _run(node: NodeProto, opset: int, arrays: Sequence[Array | None], builder: Builder) -> list[Array]:
    from onnx import helper

    if not is_installed():
        builder.refuse(
            "cannot be evaluated on constants, because polylens has no meaning for it", f"install onnxruntime, or {_ADVICE}"
        )
    names = [f"x{i}" if a is not None else "" for i, a in enumerate(arrays)]
    alone = type(node)()
    alone.CopyFrom(node)
    del alone.input[:]
    alone.input.extend(names)
    feeds: Mapping[str, Array] = {name: a for name, a in zip(names, arrays, strict=True) if a is not None}
    entries = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape) for name, a in feeds.items()
    ]
    exits = [helper.make_empty_tensor_value_info(name) for name in node.output if name]
    graph = helper.make_graph([alone], "folded", entries, exits)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    try:
        found = iter(runtime(model)(feeds))
    except UnsupportedError as error:
        builder.refuse(f"cannot be evaluated on constants ({error})", _ADVICE)
    return [next(found) if name else np.empty(0) for name in node.output]
