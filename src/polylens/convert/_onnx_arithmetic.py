"""ONNX operators on constants of any type of number: elementwise arithmetic, comparisons, the places of extremes."""

from __future__ import annotations

from functools import reduce

import numpy as np

from ._onnx_constants import Arguments, Array, constant

# -- arithmetic


def _pair(n: Arguments) -> tuple[Array, Array]:
    """Return two operands that broadcast; before opset 7 an attribute says where the second one starts."""
    a, b = n.array(0), n.array(1)
    if n.opset < 7 and "axis" in n.attributes and b.ndim:
        b = b.reshape(*b.shape, *(1,) * (a.ndim - n.attribute("axis", 0) % a.ndim - b.ndim))
    return a, b


_TWO = {
    "Add": np.add, "Sub": np.subtract, "Mul": np.multiply,
    "Equal": np.equal, "Greater": np.greater, "GreaterOrEqual": np.greater_equal, "Less": np.less,
    "LessOrEqual": np.less_equal, "And": np.logical_and, "Or": np.logical_or, "Xor": np.logical_xor,
}  # fmt: skip


@constant(*_TWO)
def _two(n: Arguments) -> Array:
    return np.asarray(_TWO[n.op](*_pair(n)))


@constant("Div")
def _div(n: Arguments) -> Array:
    a, b = _pair(n)
    if a.dtype.kind not in "iu":
        return np.asarray(a / b)
    if not b.all():
        raise ZeroDivisionError("integers are divided by zero")
    return (np.sign(a) * np.sign(b) * (np.abs(a) // np.abs(b))).astype(a.dtype)  # towards zero, as in C


@constant("Mod")
def _mod(n: Arguments) -> Array:
    a, b = _pair(n)
    if a.dtype.kind in "iu" and not b.all():
        raise ZeroDivisionError("integers are divided by zero")
    return np.asarray(np.fmod(a, b) if n.attribute("fmod", 0) else np.mod(a, b))


@constant("Pow")
def _pow(n: Arguments) -> Array:
    base, exponent = _pair(n)
    if base.dtype.kind in "iu" and exponent.dtype.kind in "iu" and (exponent >= 0).all():
        return (base ** exponent.astype(base.dtype)).astype(base.dtype)
    return np.power(base.astype(np.float64), exponent.astype(np.float64)).astype(base.dtype)


_ONE = {
    "Neg": np.negative, "Abs": np.abs, "Sign": np.sign, "Not": np.logical_not, "IsNaN": np.isnan,
    "Floor": np.floor, "Ceil": np.ceil, "Round": np.rint,
}  # fmt: skip


@constant(*_ONE)
def _one(n: Arguments) -> Array:
    return np.asarray(_ONE[n.op](n.x))


@constant("IsInf")
def _is_inf(n: Arguments) -> Array:
    up, down = n.attribute("detect_positive", 1), n.attribute("detect_negative", 1)
    return np.isinf(n.x) & ((n.x > 0) & bool(up) | (n.x < 0) & bool(down))


_MANY = {"Sum": np.add, "Max": np.maximum, "Min": np.minimum}


@constant(*_MANY)
def _many(n: Arguments) -> Array:
    return np.asarray(reduce(_MANY[n.op], [n.array(i) for i in range(len(n.arrays))]))


# -- places


@constant("ArgMax", "ArgMin")
def _arg_extreme(n: Arguments) -> Array:
    axis, x = n.attribute("axis", 0), n.x
    find = np.argmax if n.op == "ArgMax" else np.argmin
    keep = bool(n.attribute("keepdims", 1))
    if n.attribute("select_last_index", 0):
        return np.asarray(x.shape[axis] - 1 - find(np.flip(x, axis), axis, keepdims=keep))
    return np.asarray(find(x, axis, keepdims=keep))


@constant("NonZero")
def _nonzero(n: Arguments) -> Array:
    return np.array(np.nonzero(np.atleast_1d(n.x)), dtype=np.int64)


@constant("TopK")
def _top_k(n: Arguments) -> list[Array]:
    axis = n.attribute("axis", -1)
    count = int(n.attribute("k", 0)) if n.opset < 10 else int(n.array(1).reshape(-1)[0])
    if n.attribute("largest", 1):  # of equal entries the first comes first, from either end
        order = n.x.shape[axis] - 1 - np.flip(np.argsort(np.flip(n.x, axis), axis, kind="stable"), axis)
    else:
        order = np.argsort(n.x, axis, kind="stable")
    order = np.take(order, range(count), axis)
    return [np.take_along_axis(n.x, order, axis), order.astype(np.int64)]
