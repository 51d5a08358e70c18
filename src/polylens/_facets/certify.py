"""Facet or redundant: many rows of one boxed polytope at once, by interior-point steps that stop at the first proof.

Coordinates are centred at an interior point: `{y : matrix y <= slack, low <= y <= high}` with slack, high > 0 > low. The
program of row i is the greatest a_i.y without row i. A direction whose ray from the centre leaves through row i first
proves a facet; multipliers of the other rows, the box taking up what they leave of a_i, prove redundancy. Nothing here
has to be accurate: whatever an iteration proposes is a proof or it is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, final

import torch
from torch import Tensor

STEPS = 18
# Rows and variables whose weight in the Newton system is below this share are left out of the first steps (those of the
# easy rows), then hardly any: the system shrinks to a tenth, and directions only propose proofs
COARSE, FINE, COARSE_STEPS = 3e-2, 1e-3, 8
START = 0.3  # the barrier parameter of the start, relative to that of the analytic centre
SHORT_OF_BOUNDARY = 0.995
# Proofs of redundancy must hold with this much to spare, far more than rounding takes
SPARE = 1e-9
# Rays must leave through their row this much (relatively) before any other
LEAD = 1e-9


@final
@dataclass(frozen=True, eq=False, slots=True)
class Boxed:
    """A polytope within a box, around 0: `matrix` (rows, dim) of unit rows, `slack` (rows,), `low` and `high` (dim,)."""

    matrix: Tensor
    slack: Tensor
    low: Tensor
    high: Tensor

    def leaves_through(self, y: Tensor) -> Tensor:
        """Return the rows (batch,) that rays from 0 along y leave through, by a clear lead; -1 for a side or none."""
        if not len(self.matrix):
            return torch.full((len(y),), -1)
        speed, row = (y @ self.matrix.T / self.slack).topk(min(2, len(self.matrix)), 1)
        side = torch.maximum(y / self.high, y / self.low).amax(1)
        rival = torch.maximum(side, speed[:, 1]) if speed.shape[1] > 1 else side
        return torch.where(speed[:, 0] > rival * (1 + LEAD), row[:, 0], -1)

    def most(self, c: Tensor) -> Tensor:
        """Return the greatest c.y over the box alone, for each row of c."""
        return torch.where(c > 0, c * self.high, c * self.low).sum(1)


class Proofs(NamedTuple):
    """What was proven about some rows: 1 a facet, by `direction`; -1 redundant, by `multipliers` (of all rows); 0 nothing."""

    verdict: Tensor
    direction: Tensor
    multipliers: Tensor


class _State(NamedTuple):
    """The iterates of the programs that are still open: `number` of the program, point, and multipliers of rows and box."""

    number: Tensor
    y: Tensor
    rows: Tensor
    high: Tensor
    low: Tensor

    def select(self, mask: Tensor) -> _State:
        return _State(*(v[mask] for v in self))


class _Step(NamedTuple):
    """A Newton step: of the point, the slacks of the rows, and the multipliers of rows and box."""

    y: Tensor
    slack: Tensor
    rows: Tensor
    high: Tensor
    low: Tensor


def certify(system: Boxed, targets: Tensor, usable: Tensor) -> Proofs:
    """Return what some steps prove about the rows `targets` (batch,); proofs of redundancy use `usable` rows only.

    Algorithm: Mehrotra's predictor-corrector method for all programs in lockstep, the Newton systems in the space of the
    rows and cut to those that matter (k of them): at most 18 steps of O(k^2 dim) each, 1-8 as a rule. After every step
    the point, the predicted point and the multipliers are tried as proofs.
    """
    programs = _Programs(system, targets, torch.nonzero(usable).reshape(-1))
    state = programs.start()
    for k in range(STEPS):
        state = programs.advance(state, COARSE if k < COARSE_STEPS else FINE)
        if not len(state.number):
            break
    return Proofs(programs.verdict, programs.direction, programs.multipliers)


class _Programs:
    """The programs of many rows over one system; proofs are collected as they are found."""

    def __init__(self, system: Boxed, targets: Tensor, usable: Tensor) -> None:
        self.system, self.targets, self.usable = system, targets, usable
        self.matrix, self.slack = system.matrix[usable], system.slack[usable]
        self.squares = (self.matrix**2).T.contiguous()
        self.own = usable[None] == targets[:, None]
        self.verdict = torch.zeros(len(targets), dtype=torch.long)
        self.direction = torch.zeros(len(targets), system.matrix.shape[1], dtype=torch.float64)
        self.multipliers = torch.zeros(len(targets), len(system.matrix), dtype=torch.float64)

    def start(self) -> _State:
        """Return the centre with its multipliers on the central path, the box taking up the residue of the objective."""
        count, dim = len(self.targets), self.system.matrix.shape[1]
        mu = START / (len(self.usable) + 2 * dim)
        rows = torch.where(self.own, 0.0, mu / self.slack)
        residue = self.system.matrix[self.targets] - rows @ self.matrix - mu / self.system.high - mu / self.system.low
        high = mu / self.system.high + residue.clamp(min=0)
        low = -mu / self.system.low + (-residue).clamp(min=0)
        return _State(torch.arange(count), torch.zeros(count, dim, dtype=torch.float64), rows, high, low)

    def advance(self, state: _State, share: float) -> _State:
        """Return the programs left open by one predictor-corrector step."""
        newton = _Newton(self, state, share)
        ahead = newton.step(*newton.residues())
        primal, dual = newton.lengths(ahead)
        mu, reached = newton.gap(), newton.gap(ahead, primal, dual)
        step = newton.step(*newton.residues((reached / mu) ** 3 * mu, ahead))
        self._try(state.number, state.y + step.y, (state.rows + step.rows).clamp(min=0))
        primal, dual = (SHORT_OF_BOUNDARY * t for t in newton.lengths(step))
        state = _State(
            state.number,
            state.y + primal * step.y,
            state.rows + dual * step.rows,
            state.high + dual * step.high,
            state.low + dual * step.low,
        )
        self._try(state.number, state.y, state.rows)
        finite = torch.isfinite(state.y).all(1) & torch.isfinite(state.rows).all(1)
        return state.select((self.verdict[state.number] == 0) & finite)

    def _try(self, number: Tensor, y: Tensor, rows: Tensor) -> None:
        """Keep what points and multipliers prove."""
        facet = self.system.leaves_through(y) == self.targets[number]
        self.verdict[number[facet]], self.direction[number[facet]] = 1, y[facet]
        residue = self.system.matrix[self.targets[number]] - rows @ self.matrix
        most = rows @ self.slack + self.system.most(residue)
        redundant = ~facet & (most <= (1 - SPARE) * self.system.slack[self.targets[number]])
        self.verdict[number[redundant]] = -1
        self.multipliers[number[redundant][:, None], self.usable] = rows[redundant]


class _Newton:
    """The Newton systems at the iterates, factored: (1/W + A D A^T) q = A D g, for each program over the rows that matter."""

    def __init__(self, programs: _Programs, state: _State, share: float) -> None:
        self.programs, self.state = programs, state
        self.own = programs.own[state.number]
        self.slack = torch.where(self.own, 1.0, programs.slack - state.y @ programs.matrix.T)
        self.high, self.low = programs.system.high - state.y, state.y - programs.system.low
        self.weight = state.rows / self.slack
        self.spread = 1 / (state.high / self.high + state.low / self.low)
        self.residue = (
            programs.system.matrix[programs.targets[state.number]] - state.rows @ programs.matrix - state.high + state.low
        )
        self.count = len(programs.usable) + 2 * state.y.shape[1]
        self.kept = self.weight * (self.spread @ programs.squares) > share
        self.factors = [self._factor(k, share) for k in range(len(state.number))]

    def _factor(self, k: int, share: float) -> tuple[Tensor, Tensor, Tensor] | None:
        """Return the rows that matter, their scale and the Cholesky factor of one program's system."""
        rows = torch.nonzero(self.kept[k]).reshape(-1)
        variables = self.spread[k] > share * self.spread[k].mean()
        matrix = self.programs.matrix[rows]
        spread = self.spread[k]
        if 4 * int(variables.sum()) < 3 * len(variables):
            matrix, spread = matrix[:, variables], spread[variables]
        system = (matrix * spread) @ matrix.T
        system.diagonal().add_(1 / self.weight[k, rows])
        scale = system.diagonal().rsqrt()
        factor, failed = torch.linalg.cholesky_ex(system * scale * scale[:, None])
        return None if int(failed) else (rows, scale, factor)

    def residues(self, mu: Tensor | float = 0.0, ahead: _Step | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Return by how much the products of slacks and multipliers (rows, upper and lower sides) miss mu."""
        s = self.state
        rows, high, low = mu - s.rows * self.slack, mu - s.high * self.high, mu - s.low * self.low
        if ahead is not None:
            rows, high, low = rows - ahead.slack * ahead.rows, high + ahead.y * ahead.high, low - ahead.y * ahead.low
        return torch.where(self.own, 0.0, rows), high, low

    def step(self, rows: Tensor, high: Tensor, low: Tensor) -> _Step:
        matrix, s = self.programs.matrix, self.state
        gradient = self.residue - (rows / self.slack) @ matrix - high / self.high + low / self.low
        y = self.spread * (gradient - self._solve((self.spread * gradient) @ matrix.T) @ matrix)
        speed = y @ matrix.T
        return _Step(
            y,
            torch.where(self.own, 0.0, -speed),
            (rows + s.rows * speed) / self.slack,
            (high + s.high * y) / self.high,
            (low - s.low * y) / self.low,
        )

    def _solve(self, right: Tensor) -> Tensor:
        out = torch.zeros_like(right)
        for k, found in enumerate(self.factors):
            if found is not None:
                rows, scale, factor = found
                out[k, rows] = scale * torch.cholesky_solve((scale * right[k, rows])[:, None], factor)[:, 0]
        return out

    def lengths(self, step: _Step) -> tuple[Tensor, Tensor]:
        """Return how far (at most 1) points and multipliers can go, each (batch, 1)."""
        s = self.state
        primal = [_reach(self.slack, step.slack), _reach(self.high, -step.y), _reach(self.low, step.y)]
        dual = [_reach(s.rows, step.rows), _reach(s.high, step.high), _reach(s.low, step.low)]
        return (torch.stack(primal).amin(0).clamp(max=1)[:, None], torch.stack(dual).amin(0).clamp(max=1)[:, None])

    def gap(self, step: _Step | None = None, primal: Tensor | float = 0.0, dual: Tensor | float = 0.0) -> Tensor:
        """Return the mean product of slacks and multipliers, here or after a step, (batch, 1)."""
        s = self.state
        y, slack, rows, high, low = step or _Step(*[torch.zeros(())] * 5)
        total = ((self.slack + primal * slack) * (s.rows + dual * rows)).sum(1)
        total = total + ((self.high - primal * y) * (s.high + dual * high)).sum(1)
        return (total + ((self.low + primal * y) * (s.low + dual * low)).sum(1))[:, None] / self.count


def _reach(value: Tensor, step: Tensor) -> Tensor:
    """Return how far value + t step stays nonnegative."""
    if value.shape[1] == 0:
        return value.new_full((len(value),), torch.inf)
    return torch.where(step < 0, -value / step, torch.inf).amin(1)
