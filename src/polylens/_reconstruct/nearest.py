"""The nearest point of {x : E x = e, G x <= g, low <= x <= high} to a given one, or the best where there is none.

A semismooth Newton's method on the dual, whose unknowns are the rows: sides cost a clip each, and the last step solves for
the rows and coordinates that it found, so that what comes out is exact up to rounding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, final

import torch
from torch import Tensor

EPS = 2.0**-52
_ROUNDS = 120  # of Newton's method; some twenty are usual
_AIM = 64.0  # roundings of a row's terms: rows missed by less are met
_RESTARTS = 4
_YIELDING = 1e-3  # the softness with which a restart moves on first: multipliers are small then
_NEARLY = 1e-3  # missed by more, a set is not nearly met
_PATIENCE = 25  # rounds without half the residue
_ARMIJO = 1e-4
_CLOSE = 1e-6  # of the terms: so near to the end a shorter residue is progress too
_HALVINGS = 40
_SHIFT = 1e-2  # of the relative residue, on the diagonal: what dependent rows need, and gone at the end
_LARGEST_SHIFT = 1e-3
_PROXIMAL = 60  # rounds of the proximal point method towards least squares
_FIRM = 1e-8  # the part of its terms by which a combination of rows has to be missed to prove emptiness


@final
@dataclass(frozen=True, eq=False, slots=True)
class Rows:
    """{x : matrix x = bound on the first `equalities` rows, <= on the others, low <= x <= high}; rows (m, n), sides (n,)."""

    matrix: Tensor
    bound: Tensor
    equalities: int
    low: Tensor
    high: Tensor

    @property
    def equal(self) -> Tensor:
        """Which rows are equalities, (m,)."""
        return torch.arange(len(self.bound)) < self.equalities

    def missed(self, x: Tensor) -> Tensor:
        """Return by how much x misses each row, (m,): signed for equalities, 0 for inequalities that hold."""
        r = self.matrix @ x - self.bound
        return torch.where(self.equal, r, r.clamp(min=0))


class Nearest(NamedTuple):
    """A `point` (n,) within the sides; `missed`, the largest residue of a row in parts of its terms.

    `empty` (m,) are multipliers that prove that there is no such point, None where nothing is proven.
    """

    point: Tensor
    missed: float
    empty: Tensor | None


def nearest(rows: Rows, x0: Tensor, soft: float = 0.0, *, insist: bool = False) -> Nearest:
    """Return the point of the set that is nearest to x0.

    With soft > 0 the minimiser of |x - x0|^2 + |rows missed, of unit length|^2 / soft, which exists for empty sets too. With
    `insist` a set that seems far from met is tried again as well.

    Algorithm: x(l) = clip(x0 - K^T l) with multipliers l, at least 0 for inequalities; Newton's steps on the concave dual
    with what is free at the time, and halvings. A round costs the product of the rows at work with themselves.

    References: Li, Sun, Toh, A highly efficient semismooth Newton augmented Lagrangian method (2018); Qi, Sun (1993).
    """
    scaled = _unit(rows)
    found = _newton(scaled, x0, soft)
    for k in range(_RESTARTS):  # far from x0 the dual's own rounding hides the last digits; near it they come back
        nearly = found.missed > _AIM * EPS and (insist or found.missed < _NEARLY)
        if soft or not nearly or found.empty is not None:
            break
        again = _newton(scaled, _newton(scaled, found.point, _YIELDING).point if k else found.point, 0.0)
        found = again if again.missed < found.missed else found
    return found


def least_squares(rows: Rows, x0: Tensor) -> Tensor:
    """Return a point within the sides that misses the rows, of unit length, by least squares: near x0 where several do.

    Algorithm: the proximal point method, whose steps `nearest` makes; it ends after finitely many in exact arithmetic.

    References: Rockafellar, Monotone operators and the proximal point algorithm (1976).
    """
    scaled, x, last = _unit(rows), x0.clamp(rows.low, rows.high), math.inf
    for _ in range(_PROXIMAL):
        following = nearest(rows, x, soft=1e-4).point
        value = float(scaled.missed(following).square().sum())
        if not value < last * (1 - 1e-12):
            break
        x, last = following, value
    return x


def refuted(rows: Rows, multipliers: Tensor) -> Tensor | None:
    """Return multipliers whose combination of the rows no point within the sides can meet, or None.

    l.(K x - k) > 0 for every x between the sides is a contradiction to K x = k and K x <= k, l >= 0 (Farkas).
    """
    combined = multipliers @ rows.matrix
    terms = multipliers.abs() @ rows.matrix.abs()
    noise = combined.abs() <= _AIM * EPS * terms
    at = torch.where(combined > 0, rows.low, rows.high)
    at = torch.where(noise & ~torch.isfinite(at), 0.0, at)
    if not bool(torch.isfinite(at).all()):
        return None
    least = float(combined @ at - multipliers @ rows.bound)
    size = float(terms @ at.abs() + multipliers.abs() @ rows.bound.abs())
    return multipliers if least > _FIRM * size else None


# -- Newton's method


def _newton(rows: Rows, x0: Tensor, soft: float) -> Nearest:
    state, best, since = _State.at(rows, x0, torch.zeros_like(rows.bound), soft), math.inf, 0
    for _ in range(_ROUNDS):
        residue = state.residue
        best, since = (residue, 0) if residue < 0.5 * best else (best, since + 1)
        if residue <= _AIM * EPS * state.size or since > _PATIENCE:
            break
        if not soft and state.grown and (proof := refuted(rows, state.multipliers)) is not None:
            return Nearest(state.point, residue / state.size, proof)
        following = _step(state)
        if following is None:
            break
        state = following
    missed = state.residue / state.size if state.size else 0.0
    proof = None if soft or missed <= _AIM * EPS else refuted(rows, state.multipliers)
    return Nearest(state.point, missed, proof)


def _unit(rows: Rows) -> Rows:
    norms = torch.linalg.vector_norm(rows.matrix, dim=1)
    norms = torch.where(norms > 0, norms, 1.0)
    return Rows(rows.matrix / norms[:, None], rows.bound / norms, rows.equalities, rows.low, rows.high)


@final
@dataclass(frozen=True, eq=False, slots=True)
class _State:
    """Multipliers and what follows from them: where x would go, where it is within the sides, by how much rows are missed."""

    rows: Rows
    start: Tensor
    soft: float
    multipliers: Tensor
    wanted: Tensor
    point: Tensor
    slope: Tensor  # of the dual
    value: float

    @classmethod
    def at(cls, rows: Rows, start: Tensor, multipliers: Tensor, soft: float) -> _State:
        wanted = start - multipliers @ rows.matrix
        point = wanted.clamp(rows.low, rows.high)
        slope = rows.matrix @ point - rows.bound - soft * multipliers
        value = 0.5 * (point - start).square().sum() + multipliers @ slope + 0.5 * soft * multipliers.square().sum()
        return cls(rows, start, soft, multipliers, wanted, point, slope, float(value))

    @property
    def residue(self) -> float:
        """The largest violation of the conditions: of rows, and of multipliers that belong to slack ones."""
        gap = torch.maximum(self.slope, -self.multipliers)
        return float(torch.where(self.rows.equal, self.slope, gap).abs().amax()) if len(gap) else 0.0

    @property
    def size(self) -> float:
        """The size of the rows' terms."""
        return float(torch.linalg.vector_norm(self.point) + self.rows.bound.abs().amax()) if len(self.rows.bound) else 0.0

    @property
    def grown(self) -> bool:
        """Whether the multipliers are larger than they are for sets that are met: time to look for a proof of emptiness."""
        length = float(torch.linalg.vector_norm(self.start) + torch.linalg.vector_norm(self.point))
        return float(torch.linalg.vector_norm(self.multipliers)) > 10 * length


def _step(state: _State) -> _State | None:
    """Return the state after one step, None where none goes up."""
    rows = state.rows
    working = rows.equal | (state.multipliers > 0) | (state.slope > 0)
    free = (state.wanted > rows.low) & (state.wanted < rows.high)
    part = rows.matrix[working][:, free]
    gram = part @ part.T
    shift = _SHIFT * min(_LARGEST_SHIFT, state.residue / state.size) + 4 * EPS
    gram.diagonal().add_(shift + state.soft)
    factor, info = torch.linalg.cholesky_ex(gram)
    if int(info):
        return None
    way = torch.zeros_like(state.multipliers)
    way[working] = torch.cholesky_solve(state.slope[working, None], factor)[:, 0]
    return _uphill(state, way)


def _uphill(state: _State, way: Tensor) -> _State | None:
    room, close = 4 * EPS * abs(state.value), state.residue <= _CLOSE * state.size
    for k in range(_HALVINGS):
        multipliers = state.multipliers + 0.5**k * way
        multipliers = torch.where(state.rows.equal, multipliers, multipliers.clamp(min=0))
        trial = _State.at(state.rows, state.start, multipliers, state.soft)
        gain = float(state.slope @ (multipliers - state.multipliers))
        if trial.value >= state.value + _ARMIJO * gain - room or (close and trial.residue < 0.5 * state.residue):
            return trial
    return None
