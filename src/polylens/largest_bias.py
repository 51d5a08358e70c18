"""The largest alpha for which the active rows of ReLU(W x - alpha) span the space at every point of a sphere or a ball."""

from __future__ import annotations

import importlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from . import _hull
from ._check import ArrayLike, array, as_tensor, finite, floating, whole
from ._injectivity import near_origin, spanning
from ._types import Result, Tolerance
from .errors import GeometryError, InputError, ShapeError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[np.float64]
Where = Literal["sphere", "ball"]

TOLERANCE = Tolerance()
LIMIT = 20_000  # sets of rows: some seconds


@final
@dataclass(frozen=True, eq=False, slots=True, repr=False)
class LargestBias(Result):
    """The largest `value` of alpha for which rows with <w_i, x> >= alpha span at every x of a `domain` of a given `radius`.

    It is reached at `point` (n,), where the rows above it lie in the hyperplane of `flat` (positions) and those of `tight`
    are level with it; any larger alpha loses these, but for `gap`, what rounding leaves between the two bounds. Minus
    infinity, without a point, for rows that do not span at all. `flats` hyperplanes were compared.
    """

    value: float
    domain: Where
    radius: float
    weight: Tensor
    point: Tensor | None
    flat: Tensor
    tight: Tensor
    gap: float
    flats: int

    def __repr__(self) -> str:
        return f"LargestBias({self.value:.9g} on the {self.domain}, {tuple(self.weight.shape)})"

    def level(self, x: ArrayLike) -> Tensor:
        """Return, for points (batch, n) or one (n,), the largest alpha for which rows with <w_i, x> >= alpha span."""
        points = as_tensor(array(x, "x"), torch.float64, torch.device("cpu"))
        if points.ndim not in (1, 2) or points.shape[-1] != self.weight.shape[1]:
            raise ShapeError(f"x: expected (batch, {self.weight.shape[1]}) or one point; got {tuple(points.shape)}")
        rows = self.weight.numpy()
        found = [_level(rows, p) for p in points.reshape(-1, self.weight.shape[1]).numpy()]
        return torch.tensor(found, dtype=torch.float64).reshape(points.shape[:-1])

    def summary(self) -> str:
        m, n = self.weight.shape
        if self.point is None:
            return f"no bias: the {m} rows do not span the {n} dimensions"
        where = f"{self.domain} of radius {self.radius:.6g}"
        return (
            f"{m} rows in dimension {n}: those with <w, x> >= alpha span at every point of the {where}"
            f" iff alpha <= {self.value:.9g}\n  reached where {len(self.tight)} rows are level with it and those above lie in a"
            f" hyperplane that holds {len(self.flat)}; {self.flats:,} hyperplanes compared"
        )

    def to_dict(self) -> dict[str, Any]:
        return {
            "value": self.value if math.isfinite(self.value) else None,
            "domain": self.domain,
            "radius": self.radius,
            "shape": list(self.weight.shape),
            "point": None if self.point is None else self.point.tolist(),
            "flat": self.flat.tolist(),
            "tight": self.tight.tolist(),
            "gap": self.gap,
            "flats": self.flats,
        }

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Draw, for rows of two entries, the largest alpha at every angle, with the point where it is least."""
        axes: Axes = importlib.import_module("polylens.plotting.injectivity").draw(self, ax, **options)
        return axes


def largest_bias(weight: ArrayLike, domain: Where = "sphere", *, radius: float = 1.0, limit: int = LIMIT) -> LargestBias:
    """Return the largest alpha for which rows with <w_i, x> >= alpha span the space at every point of a sphere or ball.

    On a ball ReLU(W x - alpha) is injective iff alpha is at most that. It is never above 0 there, for no row is active at the
    centre otherwise: the least of 0 and the sphere's. Rows of zeros change nothing; rows may be repeated.

    Args:
        weight: (m, n), with rows of any lengths.
        domain: "sphere" or "ball", around 0.
        radius: of either; positive.
        limit: the most sets of n - 1 rows that are looked at.

    Raises: InputError for NaN, infinity, another domain or radius, and for more sets of rows than the limit; ShapeError.

    Algorithm: a set spans unless it lies in a hyperplane H that n - 1 independent rows span, so alpha is the least over all H
    and x of the greatest <w_i, x> among rows outside H. For one H that is minus the distance from 0 to the hull of those
    rows (nonnegative least squares), or where 0 lies inside, the distance from 0 to the hull's surface (Qhull). C(m, n - 1)
    hyperplanes.

    References: Haider, Ehler, Balazs, Convex geometry of ReLU-layers, injectivity on the ball and local reconstruction
    (ICML 2023), on alpha-rectifying frames.

    >>> largest_bias([[1.0, 0.0], [-0.5, 0.75**0.5], [-0.5, -(0.75**0.5)]]).value  # three vectors at 120 degrees
    -0.5
    >>> largest_bias([[1.0, 0.0], [2.0, 0.0]]).value  # rows that do not span
    -inf
    """
    rows = _rows(weight)
    if domain not in ("sphere", "ball"):
        raise InputError(f"domain: expected 'sphere' or 'ball'; got {domain!r}")
    if not (math.isfinite(radius) and radius > 0):
        raise InputError(f"radius: expected a positive number; got {radius!r}")
    found = _least(rows, whole(limit, "limit"))
    held = torch.from_numpy(rows)
    none = torch.zeros(0, dtype=torch.int64)
    if found is None:
        return LargestBias(-math.inf, domain, radius, held, None, none, none, 0.0, 0)
    if domain == "ball" and found.value > 0:
        every = torch.arange(len(rows))
        return LargestBias(
            0.0, domain, radius, held, torch.zeros(rows.shape[1], dtype=torch.float64), none, every, 0.0, found.flats
        )
    value = rows @ found.point
    room = TOLERANCE.relative * np.linalg.norm(rows, axis=1) + found.gap
    tight = ~found.inside & (np.abs(value - found.value) <= room)
    inside, level = (torch.from_numpy(np.flatnonzero(mask)) for mask in (found.inside, tight))
    point = torch.from_numpy(found.point * radius)
    return LargestBias(found.value * radius, domain, radius, held, point, inside, level, found.gap * radius, found.flats)


class _Bottom(NamedTuple):
    """The least over one hyperplane's outside, or over all: on the unit sphere."""

    value: float
    point: Array
    inside: NDArray[np.bool_]
    gap: float
    flats: int = 1


def _rows(weight: ArrayLike) -> Array:
    given = array(weight, "weight")
    floating(given, "weight")
    tensor = finite(as_tensor(given, torch.float64, torch.device("cpu")).detach(), "weight")
    if tensor.ndim != 2 or not tensor.shape[1]:
        raise ShapeError(f"weight: expected shape (rows, inputs) with an input at least; got {tuple(tensor.shape)}")
    rows: Array = np.ascontiguousarray(tensor.numpy())
    return rows


def _level(rows: Array, x: Array) -> float:
    """Return the value of the row that completes the span, the rows taken from the largest value down."""
    unit, _ = spanning.unit(rows)
    value, basis = rows @ x, np.zeros((0, len(x)))
    for k in np.argsort(-value):
        rest = unit[k] - basis.T @ (basis @ unit[k])
        rest = rest - basis.T @ (basis @ rest)
        size = float(np.linalg.norm(rest))
        if size > 1e-9:
            basis = np.vstack([basis, rest / size])
            if len(basis) == len(x):
                return float(value[k])
    return -math.inf


def _least(rows: Array, limit: int) -> _Bottom | None:
    """Return the least value over all hyperplanes, None for rows that do not span."""
    unit, lengths = spanning.unit(rows)
    n = rows.shape[1]
    live = lengths > 0
    rank = int((np.linalg.svd(unit, compute_uv=False) > TOLERANCE.relative).sum()) if live.any() else 0
    if rank < n:
        return None
    lines = len(np.unique(spanning.parallel(unit[live], TOLERANCE.relative)[0]))
    if (count := spanning.num_choices(lines, n)) > limit:
        raise InputError(
            f"largest_bias: expected at most {limit:,} sets of {n - 1} rows; got {count:,}; raise the limit, or ask"
            " is_injective with the biases at hand"
        )
    flats = spanning.flats(unit[live], TOLERANCE.relative)
    if not flats.clear:
        raise GeometryError("largest_bias: rows are dependent but for about 1e-6 of their lengths; no bound would be certain")
    inside = np.ones((len(flats.members), len(rows)), dtype=bool)
    inside[:, live] = flats.members
    below = [found for mask in inside if (found := _outside(rows, mask)) is not None]
    if not below:
        below = [_within(rows, mask) for mask in inside]
    return min(below, key=lambda found: found.value)._replace(flats=len(inside))


def _outside(rows: Array, inside: NDArray[np.bool_]) -> _Bottom | None:
    """Return the least of the greatest values of the rows outside, where it is negative: 0 is not in their hull."""
    points = rows[~inside]
    near = near_origin.of_hull(points)
    if near.point is None:
        raise GeometryError("largest_bias: nonnegative least squares gave up; scale the rows to lengths near 1")
    size = float(np.linalg.norm(near.point))
    if near.least <= TOLERANCE.relative * float(np.linalg.norm(points, axis=1).max()):
        return None
    return _Bottom(-size, -near.point / size, inside, size - near.least)


def _within(rows: Array, inside: NDArray[np.bool_]) -> _Bottom:
    """Return the distance from 0, in the hull of the rows outside, to the hull's surface."""
    points = rows[~inside]
    _, values, right = np.linalg.svd(points, full_matrices=True)
    size, n = float(values[0]), rows.shape[1]
    if len(points) < n or values[-1] <= TOLERANCE.relative * size:
        return _Bottom(0.0, np.asarray(right[-1], dtype=np.float64), inside, 0.0)
    normals = np.array([[-1.0], [1.0]]) if n == 1 else _normals(points)
    heights = (points @ normals.T).max(0)
    k = int(heights.argmin())
    gap = TOLERANCE.relative * size
    height = float(heights[k])
    return _Bottom(height if height > gap else 0.0, normals[k], inside, gap if height > gap else max(0.0, height))


def _normals(points: Array) -> Array:
    """Return the unit normals (facets, n) of the hull of points, those that look away from it."""
    corners = points[_hull.surface(points)]
    _, values, right = np.linalg.svd(corners[:, 1:] - corners[:, :1], full_matrices=True)
    sound = values[:, -1] > TOLERANCE.relative * values[:, 0]  # facets of more corners may be cut into slivers
    normals = right[sound, -1]
    middle = points.mean(0)
    outward = np.einsum("ij,ij->i", normals, corners[sound, 0] - middle)
    turned: Array = normals * np.where(outward >= 0, 1.0, -1.0)[:, None]
    return turned
