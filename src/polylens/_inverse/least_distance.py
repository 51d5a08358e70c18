"""The point of least norm in {x : E x = e, C x <= d}, with the multipliers that prove it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .factors import Factors

_ROOM = 2.0**-40  # of a row's terms: what counts as met, and as no row within the flat
_ITERATIONS = 10  # of nonnegative least squares, a row


class Least(NamedTuple):
    """The point (n,) and the multipliers l >= 0 (k,) of the inequalities: x + C^T l lies in the row space of E.

    `gap` is what is left of that, and `missed` the largest violation of a row, both in parts of their terms.
    """

    point: Tensor
    multipliers: Tensor
    gap: float
    missed: float

    @property
    def proven(self) -> bool:
        """Whether the point meets all rows and the multipliers prove that none that does is nearer to the origin."""
        return self.gap <= 1e-8 and self.missed <= 1e-9


def least(equal: Tensor, value: Tensor, rows: Tensor, bound: Tensor) -> Least | None:
    """Return the point of least norm, or None where no point was found: the set is empty, or thinner than rounding.

    Algorithm: within the flat of the equations the program is one of nonnegative least squares; the rows that it holds are
    solved for exactly afterwards.

    References: Lawson and Hanson, Solving Least Squares Problems (1974), chapter 23 (least distance programming).
    """
    flat = Factors(equal)
    origin = flat.solve(value)
    if _norm(flat.rest(value)) > 2.0**-34 * (_norm(value) + float(torch.linalg.matrix_norm(equal)) * _norm(origin)):
        return None
    basis = flat.kernel()
    inner, slack = rows @ basis, bound - rows @ origin
    lengths = torch.linalg.vector_norm(rows, dim=1)
    room = _ROOM * (bound.abs() + lengths * (_norm(origin) + 1e-300))
    kept = torch.linalg.vector_norm(inner, dim=1) > _ROOM * lengths
    if bool((slack < -64 * room)[~kept].any()):
        return None
    found = _within(inner[kept], slack[kept])
    if found is None:
        return None
    z, multipliers = found
    every = torch.zeros_like(bound)
    every[kept] = multipliers
    return _judged(origin + basis @ z, every, basis, rows, bound)


def _judged(x: Tensor, multipliers: Tensor, basis: Tensor, rows: Tensor, bound: Tensor) -> Least:
    """Verify in plain products: stationarity along the flat, and the rows."""
    pull = rows.T @ multipliers
    size = _norm(x) + float(multipliers @ torch.linalg.vector_norm(rows, dim=1))
    gap = _norm(basis.T @ (x + pull)) / size if size else 0.0
    terms = bound.abs() + torch.linalg.vector_norm(rows, dim=1) * _norm(x)
    over = (rows @ x - bound).clamp(min=0) / torch.where(terms > 0, terms, 1.0)
    slack = multipliers * (bound - rows @ x).abs()
    loose = float(slack.sum()) / size**2 if size else 0.0
    return Least(x, multipliers, max(gap, loose), float(over.max()) if len(over) else 0.0)


def _within(rows: Tensor, bound: Tensor) -> tuple[Tensor, Tensor] | None:
    """Return the z of least norm with rows z <= bound, and its multipliers; None where there is none."""
    none = torch.zeros_like(bound)
    if not len(bound) or bool((bound >= 0).all()):
        return rows.new_zeros(rows.shape[1]), none
    lengths = torch.linalg.vector_norm(rows, dim=1)
    rows, bound = rows / lengths[:, None], bound / lengths
    length = float(-bound.min())  # no z is shorter
    held = _held(rows.numpy(), (bound / length).numpy())
    if held is None:
        return None
    z, multipliers = _polished(rows, bound, torch.from_numpy(held))
    return z, multipliers / lengths


def _held(rows: np.ndarray, bound: np.ndarray) -> np.ndarray | None:
    """Return the multipliers of least distance programming, by nonnegative least squares; None for an empty set."""
    from scipy.optimize import nnls

    matrix, wanted = -np.vstack([rows.T, bound]), np.append(np.zeros(rows.shape[1]), 1.0)
    try:
        u, _ = nnls(matrix, wanted, maxiter=_ITERATIONS * len(bound))
    except RuntimeError:  # too many rounds
        return None
    last = float((matrix @ u - wanted)[-1])
    if last > -1e-14:
        return None
    found: np.ndarray = u / -last
    return found


def _polished(rows: Tensor, bound: Tensor, held: Tensor) -> tuple[Tensor, Tensor]:
    """Solve for the rows that are held, which is exact up to rounding; those that would pull are let go."""
    working = held > 0
    while bool(working.any()):
        part = Factors(rows[working])
        z = part.solve(bound[working])
        pushes = Factors(rows[working].T).solve(-z)
        if bool((pushes >= 0).all()):
            break
        working[torch.nonzero(working).reshape(-1)[pushes < 0]] = False
    multipliers = torch.zeros_like(bound)
    if not bool(working.any()):
        return rows.new_zeros(rows.shape[1]), multipliers
    multipliers[working] = pushes
    return z, multipliers


def _norm(x: Tensor) -> float:
    return float(torch.linalg.vector_norm(x))
