"""Extreme singular values of an operator that is known by its products only, each with a residual that bounds its error.

The search starts in the row space and stays there, so that values of 0 never come into it: the least value that it finds
is one of the nonzero ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

EPS = torch.finfo(torch.float64).eps
Product = Callable[[Tensor], Tensor]  # (columns, k) -> (rows, k), or the other way round


class Extremes(NamedTuple):
    """Singular values (count,), largest first, with residuals (count,), and whether the space is used up.

    Some singular value lies within the residual of each. `exhausted` says that the search has met an invariant space, to
    rounding: then the least value is the least nonzero one that a random vector sees.
    """

    values: Tensor
    error: Tensor
    exhausted: bool


def extremes(product: Product, adjoint: Product, start: Tensor, inputs: int, *, steps: int, count: int) -> Extremes:
    """Return the `count` largest and the `count` smallest singular values that a Krylov space holds.

    `product` takes columns (inputs, k) to (units, k) and `adjoint` back; `start` (units, 1) is where the search begins, at
    random for it to meet every value.

    Algorithm: Golub and Kahan's bidiagonalisation of at most `steps` steps with full reorthogonalisation, one product and one
    adjoint a step; the singular vectors that belong to the extremes are formed and their residuals computed with the operator.

    References: Golub, Kahan, Calculating the singular values and pseudo-inverse of a matrix, SIAM J. Numer. Anal. B 2, 1965;
    Parlett, The symmetric eigenvalue problem (1998), theorem 4.5.1 (a residual bounds the distance to a value).
    """
    shape = (len(start), inputs)
    left, right, bidiagonal, exhausted = _bidiagonal(product, adjoint, start, inputs, min(steps, *shape))
    u, values, v = torch.linalg.svd(bidiagonal)
    kept = int((values > max(shape) * EPS * values[:1]).sum())  # rounding may have led a step out of the row space
    wanted = sorted({*range(min(count, kept)), *range(max(0, kept - count), kept)})
    values, u, v = values[wanted], left @ u[:, wanted], right @ v[wanted].T
    ahead, back = product(v) - u * values, adjoint(u) - v * values
    error = torch.maximum(torch.linalg.vector_norm(ahead, dim=0), torch.linalg.vector_norm(back, dim=0))
    return Extremes(values, error, exhausted)


def _bidiagonal(
    product: Product, adjoint: Product, start: Tensor, inputs: int, steps: int
) -> tuple[Tensor, Tensor, Tensor, bool]:
    """Return orthonormal left (units, k) and right (inputs, k) vectors, the upper bidiagonal matrix, and whether it closes."""
    v = adjoint(start)[:, 0]  # in the row space
    left, right, longest = v.new_zeros(steps, len(start)), v.new_zeros(steps, inputs), max(len(start), inputs)
    matrix, size, k = v.new_zeros(steps, steps), torch.linalg.vector_norm(v), 0
    noise = longest * EPS * size / max(1.0, float(torch.linalg.vector_norm(start)))  # of what comes after the first step
    while k < steps and bool(size > noise):
        right[k] = v / size
        u, a = _orthogonal(product(right[k, :, None])[:, 0], left[:k])
        if not bool(a > noise):
            break
        if k:
            matrix[k - 1, k] = size
        left[k], matrix[k, k] = u / a, a
        noise = torch.maximum(noise, longest * EPS * a)
        v, size = _orthogonal(adjoint(left[k, :, None])[:, 0], right[: k + 1])
        k += 1
    return left[:k].T, right[:k].T, matrix[:k, :k], k < steps or not bool(size > noise)


def _orthogonal(x: Tensor, basis: Tensor) -> tuple[Tensor, Tensor]:
    """Return x without its components along orthonormal rows, and its length; twice is enough."""
    for _ in range(2 if len(basis) else 0):
        x = x - basis.T @ (basis @ x)
    return x, torch.linalg.vector_norm(x)
