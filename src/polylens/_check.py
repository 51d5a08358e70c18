"""What the caller may hand in, checked where it enters: arrays, batches, finite values."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .errors import InputError, ShapeError

ArrayLike = Any  # a torch.Tensor, a numpy array (memory-mapped too) or nested sequences of floats


def array(x: ArrayLike, what: str = "input") -> ArrayLike:
    """Return nested sequences as a float64 array, and arrays and tensors as they are.

    Raises InputError where the sequences are not of equal lengths or hold something other than numbers.
    """
    if hasattr(x, "shape"):
        return x
    try:
        return np.asarray(x, dtype=np.float64)
    except (TypeError, ValueError) as error:
        problem = " ".join(str(error).split())
        raise InputError(f"{what}: expected an array, or lists of numbers of equal lengths; {problem}") from None


def finite(x: Tensor, what: str) -> Tensor:
    """Return `x`, or raise InputError when it holds NaN or infinity; one pass over memory when it does not."""
    if not bool(torch.isfinite(x.sum())):  # the sum of finite values can overflow, so look closer before complaining
        bad = int((~torch.isfinite(x)).sum())
        if bad:
            raise InputError(
                f"{what}: expected finite numbers; got {bad} NaN or infinite among {x.numel()}; remove or replace them"
            )
    return x


def is_batch(x: ArrayLike, shape: tuple[int, ...], what: str = "input") -> bool:
    """Say whether `x` is a batch (True) or one sample (False) of tensors of `shape`; anything else is a ShapeError."""
    got = tuple(array(x, what).shape)
    if got == shape:
        return False
    if got[1:] == shape and len(got) == len(shape) + 1:
        if got[0] == 0:
            raise InputError(f"{what}: expected at least one sample; got an empty batch of shape {got}")
        return True
    hint = ""
    size = math.prod(shape)
    if size and math.prod(got) and math.prod(got) % size == 0:
        hint = f"; it would fit after reshape({(-1, *shape)})"
    raise ShapeError(f"{what}: expected shape {shape} or (batch, {', '.join(map(str, shape))}); got {got}{hint}")


def floating(x: ArrayLike, what: str = "input") -> None:
    """Raise InputError unless `x` holds real floating-point numbers (checked without touching the data)."""
    dtype = getattr(x, "dtype", None)
    if dtype is None:
        return
    real = dtype.is_floating_point if isinstance(dtype, torch.dtype) else np.issubdtype(dtype, np.floating)
    if not real:
        raise InputError(f"{what}: expected floating-point numbers; got {dtype}; convert first, for images as x.float() / 255")


def as_tensor(x: ArrayLike, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return `x` as a tensor of the given kind, sharing memory where it can."""
    if isinstance(x, np.ndarray) and not x.flags.writeable:
        x = np.array(x)
    return torch.as_tensor(x, dtype=dtype, device=device)


def batches(x: ArrayLike, shape: tuple[int, ...], size: int, dtype: torch.dtype, device: torch.device) -> Iterator[Tensor]:
    """Yield `x` as finite batches of at most `size` samples; only one batch at a time is converted or copied."""
    x = array(x)
    floating(x)
    x = x if is_batch(x, shape) else x[None]
    for start in range(0, len(x), size):
        yield finite(as_tensor(x[start : start + size], dtype, device), "input")


def whole(value: Any, what: str, least: int = 1) -> int:
    """Return a whole number, or raise InputError when it is none or below `least`."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise InputError(f"{what}: expected a whole number of at least {least}; got {value!r}")
    return int(value)
