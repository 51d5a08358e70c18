"""All singular values of a matrix: of the matrix itself, or in a fraction of the time of Gram matrices where they suffice.

A Gram matrix holds squares: a value s of it is off by about eps s_1^2 / s. Values that lose `_DIGITS` so are taken from the
Gram matrix of the inverse of R in A = Q R, where small values are large ones; where neither has the digits, by the SVD of A,
with an error of about eps s_1. Matrices come as columns (inputs, units): the images of the unit vectors, or of an orthonormal
basis.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor

Method = Literal["svd", "gram", "inverse"]

EPS = torch.finfo(torch.float64).eps
_DIGITS = 1e-5  # the relative error that a singular value from a Gram matrix may have
_SMALL = 256  # up to so many values the Gram matrix saves nothing
BLOCK = 192  # rows of the Gram matrix that are multiplied at once
_SPARSE = 0.5  # blocks of columns that are nonzero on less than this part of the units are multiplied there only
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
        tall = columns if columns.shape[0] >= columns.shape[1] else columns.T
        if gram is None:
            gram = gram_of(tall.T)
        found = _of_grams(gram, tall)
        if found is not None:
            return found
    return _of_matrix(columns)


def gram_of(rows: Tensor, chosen: Tensor | None = None) -> Tensor:
    """Return the upper triangle of B B^T (n, n), with B the `chosen` columns, a mask (m,), of `rows` (n, m); 0 below.

    Algorithm: products of blocks on and above the diagonal only. Where blocks of rows are 0 on most columns, as the images of
    neighbouring pixels are, they are multiplied on the others only; else a slice of columns at a time.
    """
    wanted = torch.ones(rows.shape[1], dtype=torch.bool, device=rows.device) if chosen is None else chosen
    blocks = range(0, len(rows), BLOCK)
    support = torch.stack([(rows[i : i + BLOCK] != 0).any(0) for i in blocks]) & wanted
    total = rows.new_zeros(len(rows), len(rows))
    if int(support.sum()) < _SPARSE * len(blocks) * int(wanted.sum()):
        return _of_blocks(rows, support, total)
    for part in wanted.nonzero().reshape(-1).split(_SLICE):
        run = bool(part[-1] - part[0] + 1 == len(part))  # without gaps nothing has to be copied
        b = rows[:, part[0] : part[-1] + 1] if run else rows.index_select(1, part)
        for i in range(0, len(rows), 2 * BLOCK):
            total[i : i + 2 * BLOCK, i:].addmm_(b[i : i + 2 * BLOCK], b[i:].T)
    return total


def _of_blocks(rows: Tensor, support: Tensor, total: Tensor) -> Tensor:
    """Return `total` filled with the products of blocks of rows that are nonzero on common columns, by their `support`."""
    meet = (support.to(rows.dtype) @ support.to(rows.dtype).T > 0).triu().tolist()
    for i, where in enumerate(support):
        columns, here = where.nonzero().reshape(-1), slice(i * BLOCK, (i + 1) * BLOCK)
        own = rows[here].index_select(1, columns)
        for j in range(i, len(support)):
            there = slice(j * BLOCK, (j + 1) * BLOCK)
            if meet[i][j]:
                torch.mm(own, own.T if i == j else rows[there].index_select(1, columns).T, out=total[here, there])
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


def _of_grams(gram: Tensor, tall: Tensor) -> Values | None:
    """Return the values of a tall matrix with this Gram matrix; None where it and that of the inverse lack digits."""
    length = max(tall.shape)
    ahead = _of_squares(torch.linalg.eigvalsh(gram, UPLO="U").flip(0), length)
    lost = ahead.error > _DIGITS * ahead.values
    if not bool(lost.any()):
        return ahead
    r = triangular(tall)
    if not bool((r.diagonal().abs() > length * EPS * ahead.values[0]).all()):
        return None
    inverse = torch.linalg.solve_triangular(r, torch.eye(len(r), dtype=r.dtype, device=r.device), upper=True)
    back = _of_squares(torch.linalg.eigvalsh(gram_of(inverse), UPLO="U").flip(0), length)
    values = 1 / back.values.flip(0)
    error = back.error.flip(0) * values.square() + length**0.5 * EPS * ahead.values[0]  # with the rounding of the inversion
    if bool((lost & (back.error.flip(0) > _DIGITS * back.values.flip(0))).any()):
        return None
    return Values(torch.where(lost, values, ahead.values), torch.where(lost, error, ahead.error), "inverse")


def _of_squares(squares: Tensor, length: int) -> Values:
    """Return the roots of the eigenvalues of a Gram matrix whose entries are sums of `length` products."""
    values, rounding = squares.clamp(min=0.0).sqrt(), math.sqrt(length) * EPS
    error = torch.where(values > 0, rounding * squares[0] / (2 * values) + rounding * values[0], torch.inf)
    return Values(values, error, "gram")


def _of_matrix(columns: Tensor) -> Values:
    n, m = columns.shape
    if min(n, m) == 0:
        none = columns.new_zeros(0)
        return Values(none, none, "svd")
    reduced = triangular(columns if n >= m else columns.T) if max(n, m) > 2 * min(n, m) else columns
    values = torch.linalg.svdvals(reduced)
    return Values(values, (math.sqrt(max(n, m)) * EPS * values[0]).expand(len(values)), "svd")
