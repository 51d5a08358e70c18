"""Where rows a.x + b that are at least 0 fail to span: points from which a step changes no output of a ReLU layer.

Rows have length 1. What is proposed here is verified before it is returned: along `direction` active rows stay as they are
but for rounding, and the others stay below 0 within `interval`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._types import Tolerance
from .place import Place, Polyhedron, until
from .spanning import CLEAR, least_value, right_values

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

TOLERANCE = Tolerance()
EPS = 2.0**-52
ROUNDS, FEW_ROUNDS, STEPS = 16, 4, 3  # of a search from one start: changes of the weights, and Newton steps for each
WORK = 4e9  # multiplications that all searches may take together
DAMPING = 1e-3


class Rows(NamedTuple):
    """Rows of length 1 (m, n) with their offsets (m,)."""

    rows: Array
    offsets: Array

    @property
    def dim(self) -> int:
        """The dimension of the space."""
        return self.rows.shape[1]

    def at(self, x: Array) -> Array:
        """Return a.x + b."""
        found: Array = self.rows @ x + self.offsets
        return found

    def room(self, x: Array) -> Array:
        """Return what of it is rounding."""
        found: Array = TOLERANCE.relative * (float(np.linalg.norm(x)) + np.abs(self.offsets))
        return found

    def select(self, chosen: Mask) -> Rows:
        """Return some of the rows."""
        return Rows(self.rows[chosen], self.offsets[chosen])


class Collapse(NamedTuple):
    """A point, a unit direction, and the interval of t for which x + t v has the output of x."""

    point: Array
    direction: Array
    interval: tuple[float, float]


def null_vector(rows: Array, dim: int) -> Array | None:
    """Return a unit vector that unit rows are orthogonal to but for rounding, None where there is none."""
    if not len(rows):
        return np.eye(dim)[0]
    if least_value(rows) > CLEAR:
        return None
    values, right = right_values(rows)
    least = float(values[-1]) if len(rows) >= dim else 0.0
    known = right[-1] if least <= max(rows.shape) * EPS * float(values[0]) else None
    return known if known is not None and bool((np.abs(rows @ known) <= 4 * dim * EPS).all()) else None


def collapse_at(layer: Rows, place: Place, x: Array) -> Collapse | None:
    """Return the direction and the interval at a point whose active rows do not span, None where they do."""
    value, room = layer.at(x), layer.room(x)
    active = value >= -room
    v = null_vector(layer.rows[active], layer.dim)
    if v is None or not place.holds(x):
        return None
    return _along(layer.select(~active), place, x, v)


def kernel_step(layer: Rows, place: Place, v: Array) -> Collapse | None:
    """Return the interval around the place's inner point along a vector that all rows are orthogonal to."""
    return _along(layer.select(np.zeros(len(layer.rows), dtype=bool)), place, place.inner, v)


def _along(others: Rows, place: Place, x: Array, v: Array) -> Collapse | None:
    speed = others.rows @ v
    low, high = until(-others.at(x) - others.room(x), speed)
    back, ahead = place.chord(x, v)
    low, high = max(low, back), min(high, ahead)
    wide = TOLERANCE.relative * max(1.0, float(np.linalg.norm(x)))
    return Collapse(x, v, (min(low, 0.0), max(high, 0.0))) if high - low > wide else None


def constructed(layer: Rows, place: Place) -> Collapse | None:
    """Return a collapse where n independent rows can be made negative and the n - 1 others are too few: in the whole space.

    Fewer than 2 n rows of length 1 are never injective there, whatever their offsets.
    """
    m, n = layer.rows.shape
    if m >= 2 * n or not isinstance(place, Polyhedron) or len(place.matrix):
        return None
    chosen = independent(layer.rows)
    if len(chosen) < n:
        return None
    depth = 1.0 + float(np.abs(layer.offsets).max(initial=0.0))
    x = np.linalg.solve(layer.rows[chosen], -layer.offsets[chosen] - depth)
    return collapse_at(layer, place, np.asarray(x, dtype=np.float64))


def independent(rows: Array) -> list[int]:
    """Return the positions of independent unit rows that span what all rows do, the most independent first."""
    left, found = rows.copy(), list[int]()
    for _ in range(min(rows.shape)):
        sizes = np.linalg.norm(left, axis=1)
        k = int(sizes.argmax())
        if sizes[k] <= TOLERANCE.relative:
            break
        found.append(k)
        q = left[k] / sizes[k]
        left = left - np.outer(left @ q, q)
    return found


class Hunt(NamedTuple):
    """What a search came upon: a collapse, or the least singular value of active rows (of length 1) that it saw."""

    found: Collapse | None
    lowest: float


def hunt(layer: Rows, place: Place, starts: int, seed: int) -> Hunt:
    """Search for a point whose active rows do not span.

    Algorithm: descent on sum w_i max(0, a_i.x + b_i + margin)^2, whose weights change in rounds: those of even starts are 0
    for the n - 1 largest rows and 1 for others, those of odd starts (a_i.v)^2 with v the direction in which the active rows
    are weakest, so that both steps make sum_active (a_i.v)^2 smaller.
    """
    m, n = layer.rows.shape
    generator, lowest = np.random.default_rng(seed), math.inf
    affordable = WORK / (STEPS * (m + 2 * n) * n * n)  # rounds
    rounds = ROUNDS if affordable > 2 * ROUNDS else max(FEW_ROUNDS, int(affordable / 2))
    for k in range(min(starts, max(2, int(affordable / rounds)))):
        weigh = _by_direction if k % 2 else _by_count
        found = _descend(layer, place, _start(layer, place, generator, k), weigh, rounds)
        lowest = min(lowest, found.lowest)
        if found.found is not None:
            return Hunt(found.found, 0.0)
    return Hunt(None, lowest)


def _start(layer: Rows, place: Place, generator: np.random.Generator, k: int) -> Array:
    """Return a point inside: away from all rows at once for the first two, anywhere else for the others."""
    n = layer.dim
    v = -layer.rows.sum(0) if k < 2 else generator.standard_normal(n)
    size = float(np.linalg.norm(v))
    v = v / size if size > 0 else np.eye(n)[0]
    _, ahead = place.chord(place.inner, v)
    far = (1.0 + float(np.median(np.abs(layer.offsets)))) * 10.0 ** (k % 3)
    return place.inner + (0.5 * ahead if math.isfinite(ahead) else far) * v


Weigh = Callable[[Array, Array, Array], Array]


def _by_count(rows: Array, value: Array, v: Array) -> Array:
    weight = np.ones(len(rows))
    weight[np.argsort(-value)[: rows.shape[1] - 1]] = 0.0
    return weight


def _by_direction(rows: Array, value: Array, v: Array) -> Array:
    weight = np.square(rows @ v)
    found: Array = weight / weight.max() if weight.max() > 0 else weight
    return found


def _descend(layer: Rows, place: Place, x: Array, weigh: Weigh, rounds: int) -> Hunt:
    walls, ends = place.walls()
    rows = np.vstack([layer.rows, walls])
    offsets = np.concatenate([layer.offsets, -ends])
    lowest = math.inf
    for _ in range(rounds):
        value = layer.at(x)
        least, v = _weakest(layer.rows[value >= 0], layer.dim)
        inside = place.holds(x)
        if inside:
            lowest = min(lowest, least)
        if inside and least <= TOLERANCE.relative and (found := collapse_at(layer, place, x)) is not None:
            return Hunt(found, 0.0)
        weights = np.concatenate([weigh(layer.rows, value, v), np.ones(len(walls))])
        x = _lowered(rows, offsets, weights, x, _margin(place, x))
    found = collapse_at(layer, place, x)
    return Hunt(found, 0.0 if found else lowest)


def _margin(place: Place, x: Array) -> float:
    """Return by how much rows are to be negative: a small part of the room, or of the point's size where there is no end."""
    back, ahead = place.chord(place.inner, np.ones(len(x)) / math.sqrt(len(x)))
    width = ahead - back
    return 0.02 * (width if math.isfinite(width) else max(1.0, float(np.linalg.norm(x))))


def _weakest(rows: Array, dim: int) -> tuple[float, Array]:
    """Return about the least singular value of rows and its direction."""
    values, vectors = np.linalg.eigh(rows.T @ rows)
    least = math.sqrt(max(0.0, float(values[0])))
    if least <= 1e-6 * dim:
        exact, right = right_values(rows) if len(rows) else (np.zeros(1), np.eye(dim))
        return (float(exact[-1]) if len(rows) >= dim else 0.0), right[-1]
    return least, vectors[:, 0]


def _lowered(rows: Array, offsets: Array, weights: Array, x: Array, margin: float) -> Array:
    """Return x after some damped Newton steps on sum w max(0, a.x + b + margin)^2."""
    for _ in range(STEPS):
        over = rows @ x + offsets + margin
        used = (over > 0) & (weights > 0)
        if not used.any():
            break
        weighted = rows[used] * weights[used, None]
        hessian = weighted.T @ rows[used]
        hessian.flat[:: len(x) + 1] += DAMPING * float(np.trace(hessian)) / len(x)
        x = x - np.linalg.solve(hessian, weighted.T @ over[used])
    return x
