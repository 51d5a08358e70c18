"""How large {x : E x = e, G x <= g} is around a point of it: one point, bounded or unbounded, with a proof either way.

Bounded: levels mu and multipliers lambda > 0 with E^T mu + G^T lambda = 0; unbounded: a ray v with E v = 0, G v <= 0. With
the orthant x >= 0 among the inequalities both are sought in as many dimensions as E and G have other rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np

from .._types import Tolerance
from . import stiemke
from .stiemke import EPS, Array, Mask

DIRECTIONS, ROUNDS = 24, 3  # of the search for a long chord
PROJECTIONS, GIVE = 12, 0.1  # of the search for an inner direction, and how much tight coordinates give way in it


Kind = Literal["singleton", "bounded", "unbounded", "undecided"]


class System(NamedTuple):
    """E (equalities, n) and G (inequalities, n), rows of lengths about 1; at the point G has `slack` >= 0, 0 where it is tight.

    With `orthant` x >= 0 holds as well: n more inequalities, the last ones, whose rows are not written down.
    """

    equal: Array
    less: Array
    slack: Array
    orthant: bool

    def along(self, v: Array) -> Array:
        """Return how fast the left sides of all inequalities grow along v (n,) or (n, k)."""
        speed = self.less @ v
        return np.concatenate([speed, -v]) if self.orthant else speed

    def combined(self, multipliers: Array) -> Array:
        """Return the combination (n,) of all inequalities' rows."""
        total = self.less.T @ multipliers[: len(self.less)]
        return total - multipliers[len(self.less) :] if self.orthant else total


class Size(NamedTuple):
    """What is proven: `kind` singleton, bounded, unbounded or undecided; a `dimension` of -1 and an infinite `diameter` are
    not known. `inner` (n,) leads into the relative interior, 0 where the point lies there; `start` is for the next question
    to a similar system. `other` (n,) is a further point of a union of such sets, for which the rest is the one around
    the point."""

    kind: Kind
    dimension: int
    levels: Array | None
    multipliers: Array | None
    ray: Array | None
    diameter: float
    inner: Array | None
    start: Array | None = None
    other: Array | None = None


@dataclass(frozen=True, eq=False)
class Flat:
    """The kernel of the rows E: its dimension, projections onto it, and a basis when one is needed."""

    rows: Array
    solver: stiemke._Solver | None

    @cached_property
    def _parts(self) -> tuple[Array, int, float]:
        """Return an orthonormal basis of R^n, its first columns one of the row space, their number, and a condition number."""
        p, n = self.rows.shape
        if self.solver is not None and p <= n:
            full = np.linalg.qr(self.rows.T, mode="complete")[0]
            return full, p, math.sqrt(p) / max(self.solver.sigma, EPS)
        _, values, right = np.linalg.svd(self.rows, full_matrices=True)
        rank = int((values > max(p, n) * EPS * values.max(initial=0.0)).sum())
        return right.T, rank, float(values[0] / values[rank - 1]) if rank else 1.0

    @property
    def rank(self) -> int:
        """The rank of E: proven from products where they settle it, by singular values else."""
        if self.solver is not None:
            return min(self.rows.shape)
        return self._parts[1] if len(self.rows) else 0

    @property
    def dimension(self) -> int:
        """The dimension of the kernel."""
        return self.rows.shape[1] - self.rank

    @property
    def basis(self) -> Array:
        """An orthonormal basis (n, dimension) of the kernel."""
        return self._parts[0][:, self.rank :] if len(self.rows) else np.eye(self.rows.shape[1])

    @property
    def condition(self) -> float:
        """How much the rows magnify rounding in the basis."""
        return self._parts[2] if len(self.rows) else 1.0

    def seen(self, system: System, kept: Mask | None = None) -> tuple[Array, Array]:
        """Return the inequalities that are kept, or all, on the basis, and how large their errors are."""
        norms = np.linalg.norm(system.less, axis=1)
        norms = np.concatenate([norms, np.ones(self.rows.shape[1])]) if system.orthant else norms
        kept = np.ones(len(norms), dtype=bool) if kept is None else kept
        k = len(system.less)
        seen = system.less[kept[:k]] @ self.basis
        seen = np.concatenate([seen, -self.basis[kept[k:]]]) if system.orthant else seen
        return seen, EPS * (4 + math.sqrt(self.rows.shape[1]) + self.condition) * norms[kept]

    def project(self, v: Array) -> Array:
        """Return vectors (n, k) projected onto the kernel."""
        if not len(self.rows):
            return v
        if self.solver is not None and len(self.rows) <= self.rows.shape[1]:
            v = v - self.rows.T @ self.solver(self.rows @ v)
            return v - self.rows.T @ self.solver(self.rows @ v)
        space = self._parts[0][:, : self.rank]
        return np.asarray(v - space @ (space.T @ v))


def flat(rows: Array) -> Flat:
    """Return the kernel of rows of lengths about 1."""
    p, n = rows.shape
    if p == 0 or n == 0:
        return Flat(rows, None)
    return Flat(rows, stiemke.factored_rows(rows if p <= n else rows.T))


def size(system: System, kernel: Flat, tolerance: Tolerance, start: Array | None = None) -> Size:
    """Return how large the set is; `start` (rows,) are multipliers of E and G that are nearly a proof on the orthant.

    Algorithm: rank first; no more rows than dimensions leave a ray. Rows of the inequalities on a basis of the kernel, and
    `alternative`; with the orthant, where it is the smaller side, `gordan` on the columns of [E 0; G I]. A set that is
    bounded is a single point iff its tight rows alone make it so. O(rows d^2) for the kernel's dimension d, or O(n m^2) for
    m rows.
    """
    n = system.equal.shape[1]
    if kernel.dimension == 0:
        return Size("singleton", 0, None, None, None, 0.0, None)
    few = not system.orthant and len(system.equal) + len(system.less) <= n
    found = _by_counting(system, kernel, tolerance) if few else None
    if found is not None:
        return found
    small = system.orthant and len(system.equal) + len(system.less) < kernel.dimension
    found = _by_columns(system, start, tolerance) if small else None
    found = found or _by_rows(system, kernel, tolerance)
    if found.kind == "undecided":
        return found
    dimension, inner = _dimension(system, kernel, tolerance)
    found = found._replace(dimension=dimension, inner=np.zeros(n) if inner is None else inner)
    if found.kind == "bounded" and dimension <= 0:
        return found._replace(
            kind="singleton" if dimension == 0 else "undecided", diameter=0.0 if dimension == 0 else found.diameter
        )
    return found


def _by_counting(system: System, kernel: Flat, tolerance: Tolerance) -> Size | None:
    """Return the ray on which independent rows are 0 (equalities) and -1 (inequalities), None where they are dependent."""
    way = _strictly(system, np.ones(len(system.slack), dtype=bool)) if len(system.less) else None
    if way is None or not _leads_out(system, ray := way / np.linalg.norm(way), tolerance):
        return None
    return Size("unbounded", kernel.dimension, None, None, ray, math.inf, ray)


def _by_rows(system: System, kernel: Flat, tolerance: Tolerance) -> Size:
    nothing = Size("undecided", -1, None, None, None, math.inf, None)
    seen, error = kernel.seen(system)
    found = stiemke.alternative(seen, error, tolerance=tolerance)
    if found.ray is not None:
        ray = kernel.basis @ found.ray
        return nothing._replace(kind="unbounded", ray=ray) if _leads_out(system, ray, tolerance) else nothing
    if found.multipliers is None:
        return nothing
    levels = _levels(system, kernel, found.multipliers)
    return Size("bounded", -1, levels, found.multipliers, None, _diameter(system, found, seen, error), None)


def _leads_out(system: System, ray: Array, tolerance: Tolerance) -> bool:
    """Say whether E v = 0 and G v <= 0, up to the tolerance of unit rows times a unit vector."""
    n = len(ray)
    room = max(tolerance.relative, 16 * n * EPS) * np.linalg.norm(ray)
    return bool((np.abs(system.equal @ ray) <= room).all() and (system.along(ray) <= room).all())


def _levels(system: System, kernel: Flat, multipliers: Array) -> Array:
    """Return mu with E^T mu = -G^T lambda."""
    target = -system.combined(multipliers)
    if kernel.solver is not None and len(system.equal) <= len(target):
        mu = kernel.solver(system.equal @ target)
        return np.asarray(mu + kernel.solver(system.equal @ (target - system.equal.T @ mu)))
    return np.asarray(np.linalg.lstsq(system.equal.T, target)[0]) if len(system.equal) else np.zeros(0)


def _diameter(system: System, found: stiemke.Alternative, seen: Array, error: Array) -> float:
    """Return an upper bound of the distance of two points of {z : M z <= c}.

    Slacks s = c - M z are nonnegative and sum lambda_i s_i = lambda.c =: C, up to the residue; so they lie in a simplex with
    corners C / lambda_i, and |M (z - z')| = |s - s'| is at most the distance of its two farthest corners.
    """
    multipliers = found.multipliers
    if multipliers is None:
        return math.inf
    live = np.linalg.norm(seen, axis=1) > 2 * error
    scaled, slack = multipliers[live] * found.scale[live], system.slack[live] / found.scale[live]
    smallest = np.sort(scaled)[:2]
    stretch = float(np.sqrt((1 / smallest**2).sum())) / found.sigma
    total = float(scaled @ slack) * (1 + len(scaled) * EPS)
    return stretch * total / (1 - stretch * found.residue) if stretch * found.residue < 1 else math.inf


def _by_columns(system: System, start: Array | None, tolerance: Tolerance) -> Size | None:
    """Return what the columns of [E 0; G I] say of {x >= 0 : E x = e, G x + s = g, s >= 0}; None: nothing.

    Unbounded iff some nonnegative combination of them is 0; bounded iff some y has a positive product with all of them.
    """
    k, p = len(system.less), len(system.equal)
    less, n = system.less, system.equal.shape[1]
    columns = np.block([[system.equal.T, less.T], [np.zeros((k, p)), np.eye(k)]])
    idle = np.flatnonzero(~columns.any(1))
    nothing = Size("undecided", -1, None, None, None, math.inf, None)
    if len(idle):
        return nothing._replace(kind="unbounded", ray=np.eye(1, n, int(idle[0]))[0])
    u, z = stiemke.gordan(columns, None if start is None else -start, tolerance=tolerance)
    if u is not None:
        ray = u[:n] / np.linalg.norm(u[:n])
        return nothing._replace(kind="unbounded", ray=ray) if _leads_out(system, ray, tolerance) else None
    if z is None:
        return None
    z = -z / np.linalg.norm(z)
    w = columns @ z - (n + k + 4) * EPS * np.linalg.norm(columns, axis=1)
    if not (w > 0).all():
        return None
    # w.(x, s) is one number on the whole set; its part of x alone is at most that, so x lies in a simplex
    smallest = np.sort(w[:n])[:2]
    total = float(w @ np.concatenate([system.slack[k:], system.slack[:k]])) * (1 + (n + k + 4) * EPS)
    diameter = total * float(np.sqrt((1 / smallest**2).sum()))
    start = z / np.abs(w).min()
    return Size("bounded", -1, z[:p], np.concatenate([z[p:], (columns @ z)[:n]]), None, diameter, None, start)


def _dimension(system: System, kernel: Flat, tolerance: Tolerance) -> tuple[int, Array | None]:
    """Return the dimension of the set (-1: not settled) and a direction into its relative interior, None for 0."""
    tight = system.slack <= 0
    if not tight.any():
        return kernel.dimension, None
    inner = _strictly(system, tight)
    if inner is not None:
        return kernel.dimension, inner
    seen, error = kernel.seen(system, tight)
    equal, way = stiemke.implicit(seen, error)
    dimension = kernel.dimension - stiemke.rank_of(seen[equal], error[equal])
    if dimension == 0 and stiemke.alternative(seen, error, tolerance=tolerance).answer is not True:
        return -1, None
    return dimension, kernel.basis @ way


def _strictly(system: System, tight: Mask) -> Array | None:
    """Return v with E v = 0 that is strictly negative on the tight rows, where projections find one; None: unsettled.

    On the orthant v starts as 1 on the tight coordinates, and the others give way a hundred times more easily.
    """
    n, k = system.equal.shape[1], len(system.less)
    rows = np.vstack([system.equal, system.less[tight[:k]]])
    fixed = tight[k:] if system.orthant else np.zeros(n, dtype=bool)
    right = np.concatenate([np.zeros(len(system.equal)), -np.ones(int(tight[:k].sum()))])
    v = fixed.astype(np.float64)
    if not len(rows):
        return v
    give = np.where(fixed, GIVE, 1.0)
    eased = rows * give
    norms = np.linalg.norm(eased, axis=1)
    if len(rows) > n or not norms.all():
        return None
    eased /= norms[:, None]
    solver = stiemke.factored_rows(eased)
    if solver is None:
        return None
    for _ in range(PROJECTIONS):
        for _ in range(2):  # the second time for what rounding left
            v = v + give * (eased.T @ solver((right - rows @ v) / norms))
        left = float(np.linalg.norm((right - rows @ v) / norms))
        if left < GIVE * solver.sigma * float(v[fixed].min(initial=1.0)):
            return v
        v[fixed] += stiemke.RELAXATION * np.maximum(1 - v[fixed], 0.0)
    return None


def chord(system: System, kernel: Flat, point: Array, inner: Array) -> tuple[Array, Array]:
    """Return two points of a bounded set, as far apart as a search along random lines through its middle finds.

    Every line is cut where the first inequality becomes tight; the middle of the longest chord is where the next lines
    start.
    """
    rng, ends = np.random.default_rng(0), _middle(system, point, inner)
    way = np.zeros((len(point), 0))
    for _ in range(ROUNDS):
        start = (ends[0] + ends[1]) / 2
        slack = np.maximum(system.slack - system.along(start - point), 0.0)
        ways = kernel.project(np.hstack([rng.standard_normal((len(point), DIRECTIONS)), way]))
        ways = ways / np.maximum(np.linalg.norm(ways, axis=0), EPS)
        speeds = system.along(ways)
        forward, backward = (_until(slack, sign * speeds) for sign in (1.0, -1.0))
        best = int(np.argmax(forward + backward))
        if forward[best] + backward[best] > np.linalg.norm(ends[0] - ends[1]):
            ends = (start - backward[best] * ways[:, best], start + forward[best] * ways[:, best])
        way = (ends[1] - ends[0])[:, None]
    return ends


def _middle(system: System, point: Array, inner: Array) -> tuple[Array, Array]:
    """Return the ends of the chord from the point along `inner`."""
    if not inner.any():
        return point, point
    speed = system.along(inner)
    tight = system.slack <= 0
    speed[tight] = np.minimum(speed[tight], 0.0)
    return point, point + float(_until(system.slack, speed[:, None])[0]) * inner


def _until(slack: Array, speed: Array) -> Array:
    """Return how far lines with the given speeds (rows, lines) go until a slack is used up, 0 where none ends them."""
    faint = 64 * EPS
    lengths = np.where(speed > faint, slack[:, None] / np.where(speed > faint, speed, 1.0), np.inf).min(0)
    return np.asarray(np.where(np.isfinite(lengths), lengths, 0.0))
