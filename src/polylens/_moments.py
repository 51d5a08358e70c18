"""Moments of the distances of all pairs from sums over inputs, without looking at pairs, and their jackknife errors.

Twice the distance of two inputs is K - x W y, with x and y their codes: signs of weight 1, indicators of weight 2. So moments
of distances are products of sums over codes, and whole numbers until the last division.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]
_ROWS = 1024  # of a product, squared at once
Blocks = Callable[[], Iterable[Array]]  # the codes of all inputs, a few rows at a time, float32, as often as they are needed


class Codes(NamedTuple):
    """What each column of a code belongs to: its `weight` (columns,), its `layer` (columns,), and K of each layer (layers,)."""

    weight: Array
    layer: Array
    constant: Array

    def by_layer(self, columns: Array) -> Array:
        """Return the sums over the columns of each layer, along the last axis."""
        out = np.zeros((*columns.shape[:-1], len(self.constant)), columns.dtype)
        for i in range(len(self.constant)):
            out[..., i] = columns[..., self.layer == i].sum(-1)
        return out


def gram(blocks: Blocks, columns: int) -> Array:
    """Return X^T X of codes X, exact in float64: products of a block of fewer than 2^24 rows are whole numbers in float32."""
    out = np.zeros((columns, columns))
    for block in blocks():
        out += block.T @ block
    return out


def total(blocks: Blocks, columns: int) -> Array:
    """Return the sum of all codes, float64."""
    return sum((block.sum(0, dtype=np.float64) for block in blocks()), np.zeros(columns))


def squares(product: Array, codes: Codes) -> Array:
    """Return the sums, layer by layer, over w_j w_k G_jk^2: (layers, layers), whole numbers, which decide comparisons exactly.

    int64 while inputs times units stay below 2^31, which the square of cannot overflow; float64 beyond, and rounded then.
    """
    exact = float(product.max(initial=0.0)) * float(codes.weight.sum()) < 2**31
    kind: type[np.int64] | type[np.float64] = np.int64 if exact else np.float64
    weight, layers = codes.weight.astype(kind), len(codes.constant)
    out = np.zeros((layers, layers), kind)
    for start in range(0, len(product), _ROWS):
        rows = slice(start, start + _ROWS)
        part = product[rows].astype(kind)
        np.add.at(out, codes.layer[rows], codes.by_layer(part * part * weight) * weight[rows, None])
    return out


def moments(count: int, sums: Array, product: Array, codes: Codes) -> tuple[Array, Array]:
    """Return the mean distances (layers,) of all pairs of two inputs, and their covariances (layers, layers).

    With s the signs, m their mean and C their covariance over inputs, 1/4 sum_jk (C_jk^2 + 2 C_jk m_j m_k) is the variance
    over all ordered pairs, those of an input with itself among them. These have distance 0, and are taken out again.
    """
    return covariances(count, sums, squares(product, codes), codes)


def covariances(count: int, sums: Array, squared: Array, codes: Codes) -> tuple[Array, Array]:
    """Return the same from the sums of `squares`."""
    share = codes.by_layer(codes.weight * sums * sums) / count**2  # the mean of x W y over ordered pairs
    mean = (codes.constant - share) / 2
    covariance = (squared / count**2 - share[:, None] * share) / 4
    kept = count / (count - 1)
    return kept * mean, kept * (covariance + mean[:, None] * mean) - kept**2 * mean[:, None] * mean


def row_sums(blocks: Blocks, count: int, sums: Array, product: Array, codes: Codes) -> tuple[Array, Array]:
    """Return for every input the sums of its distances to all inputs, and of their squares, over all layers together."""
    linear, square = codes.weight * sums, codes.weight[:, None] * product * codes.weight
    constant = float(codes.constant.sum())
    first, second = [], []
    for block in blocks():
        wide = block.astype(np.float64)
        reach = wide @ linear
        first.append((count * constant - reach) / 2)
        second.append((count * constant**2 - 2 * constant * reach + ((wide @ square) * wide).sum(1)) / 4)
    return np.concatenate(first), np.concatenate(second)


def jackknifed(left_out: Sequence[float] | Array) -> float:
    """Return the standard error of an estimate from its values with one input left out at a time; NaN for fewer than two."""
    values = np.asarray(left_out, np.float64)
    n = len(values)
    return math.sqrt((n - 1) / n * float(((values - values.mean()) ** 2).sum())) if n > 1 else math.nan


def moment_errors(first: Array, second: Array) -> tuple[float, float]:
    """Return the standard errors of the mean and the variance of the distances of pairs, from each input's sums."""
    n = len(first)
    if n < 4:
        return math.nan, math.nan
    pairs = (n - 1) * (n - 2) / 2
    mean = (first.sum() / 2 - first) / pairs
    return jackknifed(mean), jackknifed((second.sum() / 2 - second) / pairs - mean**2)
