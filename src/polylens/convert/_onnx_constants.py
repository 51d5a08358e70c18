"""ONNX operators on constants whose values are moved, counted or compared: exact for every type of element.

What these say is shapes, indices, masks and weights in another order; numpy's own functions are their meaning. What computes
real numbers is in the steps of a network, for constants too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
T = TypeVar("T")
M = TypeVar("M", bound="Meaning")


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    """A node with the arrays of its inputs; missing optional inputs are None."""

    op: str
    arrays: Sequence[Array | None]
    attributes: Mapping[str, Any]
    opset: int
    outputs: int

    def given(self, position: int) -> Array | None:
        """Return an optional input."""
        return self.arrays[position] if position < len(self.arrays) else None

    def array(self, position: int) -> Array:
        """Return an input that has to be there; raises TypeError."""
        value = self.given(position)
        if value is None:
            raise TypeError(f"it lacks its input {position}")
        return value

    @property
    def x(self) -> Array:
        """The first input."""
        return self.array(0)

    def attribute(self, name: str, default: T) -> T:
        """Return an attribute, or its default."""
        value: T = self.attributes.get(name, default)
        return value

    def ints(self, name: str, position: int) -> list[int] | None:
        """Return a list of integers that older opsets keep as an attribute and newer ones as an input."""
        if name in self.attributes:
            return [int(i) for i in self.attributes[name]]
        value = self.given(position)
        return None if value is None else [int(i) for i in value.reshape(-1)]


Meaning = Callable[[Arguments], "Array | list[Array] | None"]
CONSTANTS: dict[str, Meaning] = {}


def constant(*names: str) -> Callable[[M], M]:
    """Register what some operators give on constants; None leaves a case to the steps of a network."""

    def register(function: M) -> M:
        CONSTANTS.update(dict.fromkeys(names, function))
        return function

    return register


# -- made from nothing but numbers


@constant("Constant")
def _constant(n: Arguments) -> Array | None:
    from onnx import numpy_helper

    (name, value), *_ = n.attributes.items()
    if name == "sparse_value":
        return None
    if name == "value":
        return np.asarray(numpy_helper.to_array(value))
    kind = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}.get(name)
    return np.array(value, kind or np.object_)


@constant("ConstantOfShape")
def _constant_of_shape(n: Arguments) -> Array:
    from onnx import numpy_helper

    fill = numpy_helper.to_array(n.attributes["value"]) if "value" in n.attributes else np.zeros(1, np.float32)
    return np.broadcast_to(fill.reshape(()), [int(i) for i in n.x]).copy()


@constant("Range")
def _range(n: Arguments) -> Array:
    start, stop, step = (n.array(i).reshape(()) for i in range(3))
    count = max(math.ceil((float(stop) - float(start)) / float(step)), 0)
    return (start + np.arange(count).astype(start.dtype) * step).astype(start.dtype)


@constant("EyeLike")
def _eye_like(n: Arguments) -> Array:
    rows, columns = n.x.shape
    return np.eye(rows, columns, k=n.attribute("k", 0), dtype=_element_type(n.attribute("dtype", 0)) or n.x.dtype)


@constant("OneHot")
def _one_hot(n: Arguments) -> Array:
    index, depth, values = n.x.astype(np.int64), int(n.array(1).reshape(-1)[0]), n.array(2)
    hot = np.where(index < 0, index + depth, index)[..., None] == np.arange(depth)
    return np.where(np.moveaxis(hot, -1, n.attribute("axis", -1)), values[1], values[0])


@constant("Shape")
def _shape(n: Arguments) -> Array:
    return np.array(n.x.shape[n.attribute("start", 0) : n.attribute("end", n.x.ndim)], dtype=np.int64)


@constant("Size")
def _size(n: Arguments) -> Array:
    return np.array(n.x.size, dtype=np.int64)


# -- moved


@constant("Identity")
def _identity(n: Arguments) -> Array:
    return n.x


@constant("Flatten")
def _flatten(n: Arguments) -> Array:
    axis = n.attribute("axis", 1)
    return n.x.reshape(math.prod(n.x.shape[: axis if axis >= 0 else axis + n.x.ndim]), -1)


@constant("Reshape")
def _reshape(n: Arguments) -> Array:
    target = n.ints("shape", 1) or []
    if not n.attribute("allowzero", 0):
        target = [n.x.shape[i] if size == 0 else size for i, size in enumerate(target)]
    return n.x.reshape(target)


@constant("Transpose")
def _transpose(n: Arguments) -> Array:
    return n.x.transpose(n.attribute("perm", None))


@constant("Squeeze")
def _squeeze(n: Arguments) -> Array:
    axes = n.ints("axes", 1)
    return n.x.squeeze(None if axes is None else tuple(axes))


@constant("Unsqueeze")
def _unsqueeze(n: Arguments) -> Array:
    return np.expand_dims(n.x, tuple(n.ints("axes", 1) or ()))


@constant("Expand")
def _expand(n: Arguments) -> Array:
    return np.broadcast_to(n.x, np.broadcast_shapes(n.x.shape, tuple(int(i) for i in n.array(1))))


@constant("Tile")
def _tile(n: Arguments) -> Array:
    return np.tile(n.x, n.ints("repeats", 1) or [])


@constant("Concat")
def _concat(n: Arguments) -> Array:
    return np.concatenate([n.array(i) for i in range(len(n.arrays))], n.attribute("axis", 1))


@constant("Split")
def _split(n: Arguments) -> list[Array]:
    axis = n.attribute("axis", 0)
    each = -(-n.x.shape[axis] // n.outputs)
    sizes = n.ints("split", 1)
    ends = np.cumsum(sizes)[:-1] if sizes else [each * i for i in range(1, n.outputs)]
    if sizes and sum(sizes) != n.x.shape[axis]:
        raise ValueError(f"parts of {sizes} do not make up {n.x.shape[axis]} entries")
    return np.split(n.x, ends, axis)


@constant("Slice")
def _slice(n: Arguments) -> Array:
    starts, stops = n.ints("starts", 1) or [], n.ints("ends", 2) or []
    axes = n.ints("axes", 3) or list(range(len(starts)))
    steps = n.ints("steps", 4) or [1] * len(starts)
    chosen = [slice(None)] * n.x.ndim
    for axis, start, stop, step in zip(axes, starts, stops, steps, strict=True):
        chosen[axis] = slice(start, stop, step)
    return n.x[tuple(chosen)]


@constant("Gather")
def _gather(n: Arguments) -> Array:
    return np.take(n.x, n.array(1).astype(np.int64), n.attribute("axis", 0))


@constant("GatherElements")
def gathered_elements(n: Arguments) -> Array:
    """Return the entries of x at the places that an index of as many axes names along one of them."""
    axis, index = n.attribute("axis", 0), n.array(1).astype(np.int64)
    return n.x[_along(n.x, axis, index)]


def _along(x: Array, axis: int, index: Array) -> tuple[Array, ...]:
    """Return the places of entries that have their own position along all axes but one."""
    if index.size and not (-x.shape[axis] <= index.min() and index.max() < x.shape[axis]):
        raise IndexError(f"places {index.min()} to {index.max()} of {x.shape[axis]} entries")
    places: list[Array] = list(np.indices(index.shape, sparse=True))
    places[axis] = index
    return tuple(places)


@constant("GatherND")
def gathered_at(n: Arguments) -> Array:
    """Return the parts of x at the places that the last axis of an index lists, for each place of some leading axes."""
    x, index, shared = n.x, n.array(1).astype(np.int64), n.attribute("batch_dims", 0)
    lead = np.indices(index.shape[:shared], sparse=True)
    wide = index.ndim - 1
    places = [axis.reshape(*axis.shape, *(1,) * (wide - shared)) for axis in lead]
    return x[(*places, *np.moveaxis(index, -1, 0))]


_REDUCED = {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}


@constant("ScatterElements", "Scatter")
def scattered_elements(n: Arguments) -> Array:
    """Return x with entries replaced, or changed, at the places that an index of as many axes names along one of them."""
    return _scattered(n, _along(n.x, n.attribute("axis", 0), n.array(1).astype(np.int64)))


@constant("ScatterND")
def scattered_at(n: Arguments) -> Array:
    """Return x with parts replaced, or changed, at the places that the last axis of an index lists."""
    return _scattered(n, tuple(np.moveaxis(n.array(1).astype(np.int64), -1, 0)))


def _scattered(n: Arguments, places: tuple[Array, ...]) -> Array:
    y, reduction = n.x.copy(), n.attribute("reduction", "none")
    if reduction == "none":
        y[places] = n.array(2)
    else:
        _REDUCED[reduction].at(y, places, n.array(2))
    return y


@constant("Where")
def _where(n: Arguments) -> Array:
    return np.where(n.x, n.array(1), n.array(2))


@constant("Trilu")
def _trilu(n: Arguments) -> Array:
    offset = n.given(1)
    k = 0 if offset is None else int(offset.reshape(-1)[0])
    return np.triu(n.x, k) if n.attribute("upper", 1) else np.tril(n.x, k)


@constant("Dropout")
def _dropout(n: Arguments) -> list[Array] | None:
    training = n.given(2)
    if n.opset < 7 or (training is not None and training.any()):
        return None
    return [n.x, np.ones(n.x.shape, np.bool_)]


# -- types


def _element_type(kind: int) -> np.dtype[Any] | None:
    from onnx import helper

    return np.dtype(helper.tensor_dtype_to_np_dtype(kind)) if kind else None


@constant("Cast")
def _cast(n: Arguments) -> Array | None:
    kind = _element_type(n.attributes["to"])
    if kind is None or kind == np.object_ or n.x.dtype == np.object_ or kind.name.startswith(("float8", "float4")):
        return None  # texts, and types that saturate
    with np.errstate(all="ignore"):
        return n.x.astype(kind)
