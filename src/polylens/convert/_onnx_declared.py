"""What an ONNX graph declares: its inputs with shapes and element types, its outputs, and which of them a user chose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import numpy as np

from .._check import ArrayLike
from ..errors import ShapeError, UnsupportedError
from ._ports import Values, chosen_output, free_names

if TYPE_CHECKING:
    from onnx import GraphProto, ValueInfoProto


@final
@dataclass(frozen=True, slots=True)
class Declared:
    """One input: its name, its shape with a nominal batch, whether the first axis is symbolic, and its element type."""

    name: str
    shape: tuple[int, ...]
    symbolic: bool
    element_type: np.dtype[Any]


def declared_inputs(
    graph: GraphProto, weights: Mapping[str, Any], inputs: Values | None, source: str
) -> tuple[tuple[Declared, ...], dict[str, np.ndarray[Any, Any]]]:
    """Return the inputs that stay free, in order, and the values of the others; weights may be listed as inputs.

    Raises: InputError where nobody chose among several, or a name is none of theirs; ShapeError for values that do not
        fit; UnsupportedError for inputs without shape, and free ones of other than real numbers.
    """
    entries = {i.name: i for i in graph.input if i.name not in weights}
    if not entries:
        raise UnsupportedError(f"{source}: expected an input besides the weights; got none")
    free = free_names({name: _sizes(entry) for name, entry in entries.items()}, inputs, source)
    fixed = {name: _value(entry, (inputs or {})[name], source) for name, entry in entries.items() if name not in free}
    return tuple(_free(entries[name], source) for name in free), fixed


def _free(entry: ValueInfoProto, source: str) -> Declared:
    kind = _declared_type(entry)
    if kind not in (np.float16, np.float32, np.float64):
        raise UnsupportedError(
            f"{source}: input {entry.name!r} holds {kind.name}; expected floating-point numbers; fix it, as"
            f" inputs={{{entry.name!r}: value}}"
        )
    shape, symbolic = _declared_shape(entry, source)
    return Declared(entry.name, shape, symbolic, kind)


def _value(entry: ValueInfoProto, value: ArrayLike | None, source: str) -> np.ndarray[Any, Any]:
    """Return a fixed value in the declared element type and shape; a batch axis of size 1 may be missing."""
    array = np.asarray(value, dtype=_declared_type(entry))
    sizes = _sizes(entry)
    array = array[None] if array.ndim == len(sizes) - 1 else array
    batch = sizes[0] if sizes else "?"
    array = np.repeat(array, batch, 0) if isinstance(batch, int) and array.shape[:1] == (1,) else array
    wanted = tuple(size if isinstance(size, int) else n for n, size in zip(array.shape, sizes, strict=False))
    if array.ndim != len(sizes) or array.shape != wanted:
        raise ShapeError(f"{source}: inputs: expected {entry.name!r} of shape {sizes}; got {array.shape}")
    return array


def _sizes(entry: ValueInfoProto) -> tuple[int | str, ...]:
    """Return the declared sizes, names or question marks where there are none."""
    dims = entry.type.tensor_type.shape.dim
    return tuple(d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else d.dim_param or "?" for d in dims)


def _declared_shape(entry: ValueInfoProto, source: str) -> tuple[tuple[int, ...], bool]:
    """Return the shape with a nominal batch, and whether its first axis is symbolic.

    The nominal size of a symbolic batch is 1, because the network is what the model computes for one input: shapes that
    were traced at batch 1 and kept as constants then fit, and so does folding the batch into another axis and back.
    """
    if not entry.type.HasField("tensor_type") or not entry.type.tensor_type.HasField("shape"):
        raise UnsupportedError(f"{source}: input {entry.name!r} has no shape; declare it when exporting the model")
    sizes = _sizes(entry)
    symbolic = len(sizes) > 1 and not isinstance(sizes[0], int)
    fixed = (1, *sizes[1:]) if symbolic else sizes
    numbers = tuple(s for s in fixed if isinstance(s, int))
    if len(numbers) < len(fixed):
        raise UnsupportedError(
            f"{source}: input {entry.name!r} has shape {list(sizes)}; only the batch, in front, may have no size"
        )
    return numbers, symbolic


def _declared_type(entry: ValueInfoProto) -> np.dtype[Any]:
    from onnx import helper

    return np.dtype(helper.tensor_dtype_to_np_dtype(entry.type.tensor_type.elem_type or 1))


def declared_output(graph: GraphProto, output: str | None, source: str) -> str:
    """Return the name of the output that counts: the chosen one, else the only one of real numbers.

    Labels and other integers beside it are not a network's. Raises InputError where nobody chose among several.
    """
    from onnx import TensorProto

    real = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.UNDEFINED)
    known: dict[str, Sequence[Any]] = {
        o.name: _sizes(o) for o in graph.output if o.type.HasField("tensor_type") and o.type.tensor_type.elem_type in real
    }
    if not known:
        raise UnsupportedError(f"{source}: expected an output of floating-point numbers; got {[o.name for o in graph.output]}")
    return chosen_output(known, output, source)
