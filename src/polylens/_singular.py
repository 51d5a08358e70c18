"""All singular values of a matrix: of the matrix itself, or in a third of the time of its Gram matrix where that suffices.

A Gram matrix holds squares: a value s of it is off by about eps s_1^2 / s. So it is taken only where its least eigenvalue
shows that even the least value keeps `_DIGITS`; the matrix goes through a QR factorisation otherwise, and every value is off
by about eps s_1. Matrices come as columns (inputs, units): the images of the unit vectors, or of an orthonormal basis.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor

Method = Literal["svd", "gram"]

EPS = torch.finfo(torch.float64).eps
_DIGITS = 1e-5  # the relative error that the least singular value of a Gram matrix may have
_SMALL = 256  # up to so many values the Gram matrix saves nothing
_BLOCK = 512  # columns of the Gram matrix that are multiplied at once
_SLICE = 4096  # units whose products are summed at once


class Values(NamedTuple):
    """Singular values (count,), largest first, about how far off each may be (count,), and how they were found."""

    values: Tensor
    error: Tensor
    method: Method


def singular_values(columns: Tensor, gram: Tensor | None = None) -> Values:
    """Return all min(inputs, units) singular values of a matrix given as `columns` (inputs, units).

    `gram` is the upper triangle of columns @ columns.T where it is at hand and inputs <= units.
    """
    if min(columns.shape) > _SMALL:
        if gram is None:
            gram = gram_of(columns if columns.shape[0] <= columns.shape[1] else columns.T)
        found = _of_gram(gram, max(columns.shape))
        if found is not None:
            return found
    return _of_matrix(columns)


def gram_of(rows: Tensor, chosen: Tensor | None = None) -> Tensor:
    """Return the upper triangle of B B^T (n, n), with B the `chosen` columns, a mask (m,), of `rows` (n, m); 0 below.

    Algorithm: products of blocks above the diagonal only, a slice of columns at a time.
    """
    n = len(rows)
    total = rows.new_zeros(n, n)
    parts = torch.arange(rows.shape[1], device=rows.device) if chosen is None else chosen.nonzero().reshape(-1)
    for part in parts.split(_SLICE) if len(parts) else ():
        b = rows[:, part]
        for i in range(0, n, _BLOCK):
            total[i : i + _BLOCK, i:].addmm_(b[i : i + _BLOCK], b[i:].T)
    return total


def triangular(columns: Tensor) -> Tensor:
    """Return R (count, units) of the QR factorisation of `columns` (inputs, units): the same matrix in a rotated basis.

    Algorithm: a QR factorisation, slice by slice where there are many more rows than columns.
    """
    n, m = columns.shape
    size = 4 * max(1, m)
    r = torch.linalg.qr(columns[:size], mode="r")[1]
    for start in range(size, n, size):
        r = torch.linalg.qr(torch.cat([r, columns[start : start + size]]), mode="r")[1]
    return r


def _of_gram(gram: Tensor, length: int) -> Values | None:
    """Return the values of a matrix with this Gram matrix and sums of `length` products; None where digits are missing."""
    squares = torch.linalg.eigvalsh(gram, UPLO="U").flip(0)
    error = math.sqrt(length) * EPS * squares[0]
    if not bool(squares[-1] * 2 * _DIGITS >= error):
        return None
    values = squares.sqrt()
    return Values(values, error / (2 * values) + math.sqrt(length) * EPS * values[0], "gram")


def _of_matrix(columns: Tensor) -> Values:
    n, m = columns.shape
    if min(n, m) == 0:
        none = columns.new_zeros(0)
        return Values(none, none, "svd")
    reduced = triangular(columns if n >= m else columns.T) if max(n, m) > 2 * min(n, m) else columns
    values = torch.linalg.svdvals(reduced)
    return Values(values, (math.sqrt(max(n, m)) * EPS * values[0]).expand(len(values)), "svd")
