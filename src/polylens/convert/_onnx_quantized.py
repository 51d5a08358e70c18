"""Quantised constants of ONNX models: integers of few bits with a scale and a zero point, in every opset from 10 on.

Scales are one number, one for each index of an axis (from opset 13 on), or one for each block along an axis (from 21 on).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ._onnx_constants import Array

_Arrays = Sequence[Array | None]


def dequantized(arrays: _Arrays, attributes: Mapping[str, Any], opset: int) -> Array:
    """Return (x - zero point) * scale, with the product rounded to float32, and the result to the type it is declared to have.

    Raises ValueError for scales that do not fit, TypeError for a missing one.
    """
    x, scale, zero = _operands(arrays)
    wide = _wide(x) - (0 if zero is None else _along(_wide(zero), x.shape, attributes, opset))
    result = np.dtype(_declared(attributes) or scale.dtype)
    return (wide.astype(np.float32) * _along(scale, x.shape, attributes, opset).astype(np.float32)).astype(result)


def quantized(arrays: _Arrays, attributes: Mapping[str, Any], opset: int) -> Array | None:
    """Return x / scale rounded to the nearest integer, ties to even, plus the zero point, cut to the range of its type.

    None where the result is no integer type. Raises: as for `dequantized`.
    """
    x, scale, zero = _operands(arrays)
    result = np.dtype(_declared(attributes) or (np.uint8 if zero is None else zero.dtype))
    bits = _bits(result)
    if bits is None or attributes.get("precision"):
        return None
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if _is_signed(result) else (0, 2**bits - 1)
    shift = 0 if zero is None else _along(_wide(zero), x.shape, attributes, opset)
    with np.errstate(over="ignore"):
        rounded = np.rint(x.astype(scale.dtype) / _along(scale, x.shape, attributes, opset)).astype(np.float64)
    return np.clip(rounded + shift, low, high).astype(np.int64).astype(result)


def _operands(arrays: _Arrays) -> tuple[Array, Array, Array | None]:
    x, scale, zero = [*arrays, None][:3]
    if x is None or scale is None:
        raise TypeError("x and its scale have to be there")
    return x, scale, zero


def _bits(kind: np.dtype[Any]) -> int | None:
    """Return the bits of an integer type, whose name ends with them: numpy itself knows none below eight."""
    name = kind.name.removeprefix("u")
    return int(name.removeprefix("int")) if name.startswith("int") else None


def _is_signed(kind: np.dtype[Any]) -> bool:
    return not kind.name.startswith("u")


def _wide(x: Array) -> Array:
    """Return integers in int64 and other numbers in float32, which hold them and their differences exactly."""
    return x.astype(np.int64 if _bits(x.dtype) else np.float32)


def _declared(attributes: Mapping[str, Any]) -> np.dtype[Any] | None:
    from onnx import helper

    kind = attributes.get("output_dtype", 0)
    return helper.tensor_dtype_to_np_dtype(kind) if kind else None


def _along(scale: Array, shape: tuple[int, ...], attributes: Mapping[str, Any], opset: int) -> Array:
    """Return scales or zero points so that they broadcast against a tensor of the given shape."""
    if scale.size == 1 and scale.ndim <= 1:
        return scale.reshape(())
    axis = int(attributes.get("axis", 1)) if opset >= 13 else len(shape)
    if not -len(shape) <= axis < len(shape):
        raise ValueError(f"scales of shape {scale.shape} for a tensor of shape {shape}; opset {opset} knows no such axis")
    axis %= len(shape)
    if scale.ndim == 1 and not attributes.get("block_size") and scale.size == shape[axis]:
        return scale.reshape(-1, *(1,) * (len(shape) - axis - 1))
    block = int(attributes.get("block_size", 0)) if opset >= 21 else 0
    blocks = (*shape[:axis], math.ceil(shape[axis] / block) if block > 0 else 0, *shape[axis + 1 :])
    if scale.shape != blocks:
        raise ValueError(f"scales of shape {scale.shape} do not fit a tensor of shape {shape} along axis {axis}")
    return np.repeat(scale, block, axis).take(np.arange(shape[axis]), axis)
