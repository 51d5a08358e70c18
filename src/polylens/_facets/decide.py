"""The ways to decide which rows of a polytope are facets, the cheap ones first: each settles what it can.

Rows of one hyperplane; rays from the centre, one a row; batched interior-point steps in a box; a linear program a row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from .._lp import LinearProgram
from .certify import Boxed, certify
from .verdicts import FACET, OPEN, REDUNDANT, Verdicts

RAYS = 1024  # rays shot at once: bounds memory by RAYS x rows
BATCH = 32  # programs advanced in lockstep
# Below this many rows x dimensions, or open rows, linear programs are quicker than interior-point steps
WORTH_BATCHING, MANY = 20_000, 8

Late = Callable[[], bool]  # whether time is up


def decide(known: Verdicts, late: Late) -> None:
    """Settle every row that can be settled before it is late."""
    group(known)
    if len(known.open()):
        shoot(known)
    if known.matrix.numel() >= WORTH_BATCHING and known.flat.basis is None and len(known.open()) >= MANY:
        batch(known, late)
    solve(known, late)


# -- equal and parallel hyperplanes


def group(known: Verdicts) -> None:
    """Find rows of one direction: those on one hyperplane follow the first of them, those behind it are redundant."""
    for rows in _parallels(known):
        slack = known.slack[rows]
        tightest = float(slack.min())
        close = slack - tightest <= known.rounding[rows]
        same = rows[close]
        known.leader[same] = same[0]
        known.merged = max(known.merged, float(known.slack[same].max() - tightest) / known.length)
        known.slack[same[0]] = tightest
        for row in rows[~close].tolist():
            known.refute(row, known.combination(int(same[known.slack[same].argmin()])), "parallel")


def _parallels(known: Verdicts) -> Iterator[Tensor]:
    """Yield the classes of at least two rows with one direction."""
    candidates, relative = known.open(), known.tolerance.relative
    if known.matrix.shape[1] == 0 or len(candidates) < 2:
        return
    # A random projection puts equal directions side by side; only neighbours in its order need a closer look
    probe = torch.randn(known.matrix.shape[1], generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    shadow, order = (known.matrix[candidates] @ probe).sort()
    reach = relative * torch.linalg.vector_norm(probe)
    for block in torch.tensor_split(order, torch.nonzero(shadow.diff() > reach).reshape(-1) + 1):
        rest = candidates[block].sort().values
        while len(rest) > 1:
            near = torch.linalg.vector_norm(known.matrix[rest] - known.matrix[rest[0]], dim=1) <= relative
            if int(near.sum()) > 1:
                yield rest[near]
            rest = rest[~near]


# -- rays


def shoot(known: Verdicts) -> None:
    """Certify the rows through which the rays along H^-1 a_i leave alone, H the Hessian of the barrier at the centre."""
    rows = known.rows()
    scaled = known.matrix[rows] / known.slack[rows, None]
    hessian = scaled.T @ scaled
    hessian.diagonal().add_(hessian.diagonal().mean() * known.tolerance.relative)
    factor, failed = torch.linalg.cholesky_ex(hessian)
    for part in rows.split(RAYS):
        along = known.matrix[part] if int(failed) else torch.cholesky_solve(known.matrix[part].T, factor).T
        known.confirm(along, "ray")


# -- many rows of a box at once


class _Boxing(NamedTuple):
    """A polytope as general rows within a box: the `system`, and which rows these and the sides of the box are."""

    system: Boxed
    general: Tensor
    lower: Tensor
    upper: Tensor


def batch(known: Verdicts, late: Late) -> None:
    """Try interior-point steps on all open general rows, if the other rows make a box."""
    boxing = _boxing(known)
    if boxing is None:
        return
    system, general, lower, upper = boxing
    for part in _promising(known, boxing).split(BATCH):
        if late():
            return
        proofs = certify(system, part, known.verdict[general] != REDUNDANT)
        known.confirm(proofs.direction[proofs.verdict == FACET], "interior point")
        for k in torch.nonzero(proofs.verdict == REDUNDANT).reshape(-1).tolist():
            y = known.combination(general, proofs.multipliers[k])
            left = system.matrix[part[k]] - proofs.multipliers[k] @ system.matrix
            y[upper], y[lower] = left.clamp(min=0), (-left).clamp(min=0)
            known.refute(int(general[part[k]]), y, "interior point")


def _boxing(known: Verdicts) -> _Boxing | None:
    """Return the rows as a box and general rows within it, None where there is no box or nothing within."""
    rows = known.rows()
    single = (known.matrix[rows] != 0).sum(1) == 1
    sides, general = rows[single], rows[~single]
    column = known.matrix[sides].abs().argmax(1)
    up = known.matrix[sides, column] > 0
    upper, lower = (torch.full((known.p.dim,), -1).index_put((column[m],), sides[m]) for m in (up, ~up))
    if bool(((upper < 0) | (lower < 0)).any()) or not len(general):
        return None
    system = Boxed(known.matrix[general], known.slack[general], -known.slack[lower], known.slack[upper])
    return _Boxing(system, general, lower, upper)


def _promising(known: Verdicts, boxing: _Boxing) -> Tensor:
    """Return the positions of open general rows, likely facets first: redundant rows found late need smaller proofs.

    A row is likely to be a facet where a ray along its own normal, in the barrier's metric, nearly leaves through it.
    """
    system = boxing.system
    open_rows = torch.nonzero(known.verdict[boxing.general] == OPEN).reshape(-1)
    metric = (system.high**-2 + system.low**-2).reciprocal()
    rays = system.matrix[open_rows] * metric
    speed = rays @ system.matrix.T / system.slack
    top = torch.maximum(speed.amax(1), torch.maximum(rays / system.high, rays / system.low).amax(1))
    own = speed[torch.arange(len(open_rows)), open_rows]
    return open_rows[torch.argsort(own / top, descending=True)]


# -- one linear program a row


def solve(known: Verdicts, late: Late) -> None:
    """Decide every open row by a linear program of its own, each from the basis of the last."""
    rows, todo = known.rows(), known.open().tolist()
    if not todo:
        return
    program = LinearProgram(known.matrix[rows], known.slack[rows], tolerance=known.tolerance)
    place = {row: k for k, row in enumerate(rows.tolist())}
    for row in todo:
        if late():
            return
        if int(known.verdict[row]) == OPEN:
            _solve_row(known, program, rows, row, place[row])


def _solve_row(known: Verdicts, program: LinearProgram, rows: Tensor, row: int, place: int) -> None:
    """Decide a row by the greatest a_i.y when it is moved out to twice its slack, so that there is one."""
    slack = float(known.slack[row])
    program.set_bound(place, 2 * slack)
    found = program.maximise(known.matrix[row])
    program.set_bound(place, slack)
    if found.point is None or found.multipliers is None:
        return
    room = known.accuracy * max(slack, known.length)
    if found.value > slack + min(room, slack / 2):
        known.confirm(found.point[None], "linear program")
    if int(known.verdict[row]) == OPEN and found.upper <= slack + room:
        y = known.combination(rows, found.multipliers)
        y[row] = 0.0
        if not known.refute(row, y, "linear program"):
            return
        known.touching = max(known.touching, (found.upper - slack) / known.length)
        # Out of reach: without row i, moved to twice its slack, the polytope at most doubles around the centre
        program.set_bound(place, 4 * slack)
