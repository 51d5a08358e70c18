"""Domains: where one looks. Each is a polyhedron of low dimension with an affine embedding `x = origin + basis u`.

A domain knows its first cells as simple polytopes: vertices in homogeneous coordinates (a weight of 0 is a direction), and
for every vertex the facets that it lies on. It knows no network; sizes are in the units of the input.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, NamedTuple, final

import numpy as np
import torch
from torch import Tensor

from ._check import ArrayLike, array, finite, floating, whole
from ._types import Result, Tolerance
from .errors import GeometryError, InputError, ShapeError
from .geometry import AffineHull, affine_hull, bounding_box, is_bounded, volume
from .polytope import Polytope

# What counts as zero when cells are cut: some hundred roundings of a pre-activation's terms. ACAS Xu networks have cells at
# 2e-13 of them; degenerate networks keep theirs apart by decades.
CUTTING = Tolerance(256.0)


class Start(NamedTuple):
    """First cells: vertices `points` (vertices, dim) with `weight` (vertices,); incidences `start`, `vertex`, `facets`.

    `facets` lists for every incidence the dim facets that the vertex lies on in its cell: (incidences, dim). Facets below
    `walls` separate cells of one domain from one another; the others, below `sides`, are its boundary. What is meant is the
    part of them where `matrix u <= bound`.
    """

    points: Any
    weight: Any
    start: Any
    vertex: Any
    facets: Any
    walls: int
    sides: int
    matrix: Any = np.zeros((0, 0))
    bound: Any = np.zeros(0)


_MOST = 16  # dimensions of a box or space: a box of as many has 65 536 corners


def _double(x: ArrayLike, what: str) -> Tensor:
    """Return an array of any shape on the CPU in float64; bytes and other integers are refused, as by the network."""
    x = array(x, what)
    floating(x, what)
    if isinstance(x, np.ndarray):
        return torch.from_numpy(np.array(x, dtype=np.float64))  # a copy: torch takes neither negative strides nor float128
    return torch.as_tensor(x).detach().cpu().double()


def _points(what: str, **given: ArrayLike) -> list[Tensor]:
    """Return points or directions of one shape, flattened; `what` and the names tell which one is wrong."""
    tensors = [finite(_double(x, f"{what}.{name}"), f"{what}.{name}") for name, x in given.items()]
    shapes = [tuple(t.shape) for t in tensors]
    if len(set(shapes)) > 1:
        raise ShapeError(f"{what}: expected {' and '.join(given)} of one shape; got {' and '.join(map(str, shapes))}")
    if not tensors[0].numel():
        raise ShapeError(f"{what}: expected inputs of at least one entry; got shape {shapes[0]}")
    return [t.reshape(-1) for t in tensors]


def _few(what: str, dim: int, most: int) -> None:
    """Raise GeometryError where a subdivision would start with too many corners."""
    if dim > most:
        raise GeometryError(
            f"{what}: expected at most {most} dimensions to subdivide; got {dim}; look at a plane, at a generator of few"
            " inputs (compose), or around one input of any dimension (region, preimage_near)"
        )


class Domain(Result):
    """A place to look at: `dim` coordinates u, embedded into inputs of `num_inputs` entries."""

    __slots__ = ()

    origin: Tensor
    basis: Tensor

    @property
    def dim(self) -> int:
        """How many coordinates a point of the domain has."""
        return self.basis.shape[1]

    @property
    def num_inputs(self) -> int:
        """How many entries an input has, whatever its shape."""
        return len(self.origin)

    @property
    def is_bounded(self) -> bool:
        """Whether the domain has an end in every direction."""
        return True

    @property
    @abstractmethod
    def volume(self) -> float:
        """The dim-dimensional volume, in units of the input; infinite for unbounded domains."""

    @abstractmethod
    def start(self) -> Start:
        """Return the first cells."""

    @property
    @abstractmethod
    def sides(self) -> Polytope:
        """The domain as a polytope over its coordinates; no rows for the whole space."""

    @property
    def scale(self) -> float:
        """What a unit of volume in coordinates is in the input."""
        gram = self.basis.T @ self.basis
        return math.sqrt(max(0.0, float(torch.linalg.det(gram)))) if self.dim else 1.0

    def embed(self, u: ArrayLike) -> Tensor:
        """Return the inputs (batch, num_inputs) at coordinates (batch, dim), or one input for (dim,)."""
        u = _double(u, "coordinates")
        if u.ndim not in (1, 2) or u.shape[-1] != self.dim:
            raise ShapeError(f"coordinates: expected ({self.dim},) or (batch, {self.dim}); got {tuple(u.shape)}")
        return self.origin + u @ self.basis.T

    def project(self, x: ArrayLike) -> Tensor:
        """Return the coordinates of the nearest points of the domain's flat: (batch, dim) for a batch of inputs.

        Inputs are (batch, *any shape of num_inputs entries), or one of any shape, which gives (dim,); (1, num_inputs) is a
        batch of one.
        """
        x = _double(x, "input")
        if x.numel() == self.num_inputs and tuple(x.shape) != (1, self.num_inputs):
            x = x.reshape(-1)
        elif x.ndim < 2 or math.prod(x.shape[1:]) != self.num_inputs:
            raise ShapeError(f"input: expected {self.num_inputs} entries a sample; got {tuple(x.shape)}")
        else:
            x = x.flatten(1)
        return (x - self.origin) @ torch.linalg.pinv(self.basis).T

    def summary(self) -> str:
        return f"{type(self).__name__}: {self.dim} of {self.num_inputs} dimensions, volume {self.volume:.6g}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.dim} of {self.num_inputs} dimensions)"

    def to_dict(self) -> dict[str, Any]:
        return {"kind": type(self).__name__, "dim": self.dim, "num_inputs": self.num_inputs, "volume": self.volume}


def _set(domain: Domain, **values: Any) -> None:
    for name, value in values.items():
        object.__setattr__(domain, name, value)


def _one_cell(points: Any, facets: Any, sides: int) -> Start:
    """Return the start of a domain that is one bounded simple polytope."""
    count = len(points)
    return Start(points, np.ones(count), np.array([0, count]), np.arange(count), facets, 0, sides)


@final
@dataclass(frozen=True, eq=False, slots=True, repr=False, init=False)
class Box(Domain):
    """{x : low <= x <= high}, entry by entry; coordinates are the entries whose sides differ, in order.

    Args:
        low: the lower sides, of any one shape (usually the network's input shape); -inf for none.
        high: the upper sides, of the same shape; inf for none. An entry with equal sides is fixed and takes no coordinate.

    Raises:
        ShapeError: the shapes differ, or there is no entry.
        InputError: low > high somewhere, NaN, an upper side of -inf or a lower one of inf, integers.
        GeometryError: more than 16 coordinates, where the first cells are asked for.

    Example:
        >>> from polylens import Box
        >>> Box([0.0, 2.0, 5.0], [1.0, 4.0, 5.0]).volume  # the third entry is fixed at 5
        2.0
    """

    origin: Tensor
    basis: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, low: ArrayLike, high: ArrayLike) -> None:
        a, b = _sides(low, high)
        free = torch.nonzero(b > a).reshape(-1)
        basis = torch.zeros(len(a), len(free), dtype=torch.float64)
        basis[free, torch.arange(len(free))] = 1.0
        _set(self, origin=torch.where(b > a, 0.0, a), basis=basis, low=a[free], high=b[free])

    @property
    def is_bounded(self) -> bool:
        return bool(torch.isfinite(self.high - self.low).all())

    @property
    def volume(self) -> float:
        return float(torch.prod(self.high - self.low))

    @property
    def sides(self) -> Polytope:
        return Polytope.box(self.low, self.high)

    def start(self) -> Start:
        _few("box", self.dim, _MOST)
        if not self.is_bounded:
            rows = self.sides
            return _fan(self.dim)._replace(matrix=rows.matrix.numpy(), bound=rows.bound.numpy())
        corners = np.arange(2**self.dim)[:, None] >> np.arange(self.dim) & 1
        points = np.where(corners == 1, self.high.numpy(), self.low.numpy())
        return _one_cell(points, 2 * np.arange(self.dim) + corners, 2 * self.dim)


def _sides(low: ArrayLike, high: ArrayLike) -> tuple[Tensor, Tensor]:
    """Return the sides of a box, checked and flattened."""
    a, b = _double(low, "box.low"), _double(high, "box.high")
    bad = torch.isnan(a).sum() + torch.isnan(b).sum()
    _points("box", low=torch.nan_to_num(a), high=torch.nan_to_num(b))  # the shapes; infinite sides are welcome
    a, b = a.reshape(-1), b.reshape(-1)
    wrong = torch.nonzero((a > b) | (a == torch.inf) | (b == -torch.inf)).reshape(-1)
    if int(bad):
        raise InputError(f"box: expected numbers; got {int(bad)} NaN; write -inf and inf for sides that are not there")
    if len(wrong):
        i = int(wrong[0])
        raise InputError(f"box: expected low <= high; got {float(a[i])} and {float(b[i])} at entry {i}; exchange or mend them")
    return a, b


@final
@dataclass(frozen=True, eq=False, slots=True, repr=False, init=False)
class Segment(Domain):
    """The straight line between two inputs; its coordinate runs from 0 at the first to 1 at the second.

    Args:
        first: an input of any shape (an image, say).
        second: another of the same shape.

    Raises:
        ShapeError: the shapes differ.
        InputError: the two are one point, or hold NaN or infinity.

    Example:
        >>> from polylens import Segment
        >>> Segment([0.0, 0.0], [3.0, 4.0]).volume
        5.0
    """

    origin: Tensor
    basis: Tensor

    def __init__(self, first: ArrayLike, second: ArrayLike) -> None:
        a, b = _points("segment", first=first, second=second)
        if bool((a == b).all()):
            raise InputError("segment: expected two different inputs; got the same one twice")
        _set(self, origin=a, basis=(b - a)[:, None])

    @property
    def volume(self) -> float:
        return self.scale

    @property
    def sides(self) -> Polytope:
        return Polytope.box([0.0], [1.0])

    def start(self) -> Start:
        return _one_cell(np.array([[0.0], [1.0]]), np.array([[0], [1]]), 2)


class _Flat(Domain):
    """A convex polygon in a plane; coordinates are orthonormal, so that areas and angles are those of the input."""

    __slots__ = ()

    corners: Tensor

    @property
    def volume(self) -> float:
        x, y = self.corners.T
        return float(((x * y.roll(-1)) - (y * x.roll(-1))).sum() / 2)

    @property
    def sides(self) -> Polytope:
        x, y = (self.corners.roll(-1, 0) - self.corners).T
        outward = torch.stack([y, -x], 1)  # the corners run counter-clockwise
        return Polytope.of(outward, (outward * self.corners).sum(1))

    def start(self) -> Start:
        count = len(self.corners)
        facets = np.stack([np.arange(count), (np.arange(count) - 1) % count], 1)
        return _one_cell(self.corners.numpy(), facets, count)


@final
@dataclass(frozen=True, eq=False, slots=True, repr=False, init=False)
class Polygon(_Flat):
    """The convex hull of three or more inputs that lie in one plane.

    Args:
        points: (corners, *input_shape), in any order; points inside the hull are dropped.

    Raises:
        ShapeError: fewer than three points.
        InputError: NaN or infinity, points on one line, or points that are not in one plane (within 1e-9 of their spread).

    Example:
        >>> from polylens import Polygon
        >>> round(Polygon([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0]]).volume, 12)
        2.0
    """

    origin: Tensor
    basis: Tensor
    corners: Tensor

    def __init__(self, points: ArrayLike) -> None:
        x = _double(points, "polygon")
        if x.ndim < 2 or len(x) < 3:
            raise ShapeError(f"polygon: expected three or more points (corners, *input_shape); got {tuple(x.shape)}")
        x = finite(x, "polygon").flatten(1)
        centre = x.mean(0)
        basis, spread = _plane_of(x - centre)
        u = (x - centre) @ basis
        if float((x - centre - u @ basis.T).abs().max()) > 1e-9 * spread:
            raise InputError("polygon: expected points in one plane; they span more dimensions; use Slice for a polytope")
        _set(self, origin=centre, basis=basis, corners=_hull(u))


@final
@dataclass(frozen=True, eq=False, slots=True, repr=False, init=False)
class Plane(_Flat):
    """A window of a plane: a parallelogram around a centre, or (`Plane.through`) a rectangle around three inputs.

    Args:
        centre: an input of any shape.
        first: a direction of the same shape; the window reaches from centre - first to centre + first.
        second: another direction, not along the first.

    Raises:
        ShapeError: the shapes differ.
        InputError: the directions are dependent, or NaN or infinite.

    Example:
        >>> from polylens import Plane
        >>> Plane([0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 2.0, 0.0]).volume
        8.0
    """

    origin: Tensor
    basis: Tensor
    corners: Tensor

    def __init__(self, centre: ArrayLike, first: ArrayLike, second: ArrayLike) -> None:
        c, a, b = _points("plane", centre=centre, first=first, second=second)
        basis, _ = _plane_of(torch.stack([a, b]))
        corners = torch.stack([-a - b, a - b, a + b, b - a]) @ basis
        _set(self, origin=c, basis=basis, corners=_hull(corners))

    @classmethod
    def through(cls, first: ArrayLike, second: ArrayLike, third: ArrayLike, margin: float = 0.1) -> Plane:
        """Return the smallest rectangle with a side along first-second that holds three inputs, and a margin around it.

        The margin is in parts of the longest side of the triangle; a margin of 0 leaves the inputs on the boundary.

        Raises:
            ShapeError: the shapes differ.
            InputError: the inputs lie on one line, NaN or infinity, a margin below 0.
        """
        a, b, c = _points("plane", first=first, second=second, third=third)
        if not (math.isfinite(margin) and margin >= 0):
            raise InputError(f"plane: expected a margin of at least 0; got {margin!r}")
        basis, _ = _plane_of(torch.stack([b - a, c - a]))
        u = torch.stack([torch.zeros_like(a), b - a, c - a]) @ basis
        edge = margin * float(torch.pdist(u).max())
        low, high = u.min(0).values - edge, u.max(0).values + edge
        x, y = basis.T
        half = (high - low) / 2
        return cls(a + basis @ ((low + high) / 2), half[0] * x, half[1] * y)


def _plane_of(vectors: Tensor) -> tuple[Tensor, float]:
    """Return an orthonormal basis (n, 2) of what vectors span, the first along the first of them, and their length."""
    spread = float(vectors.abs().max())
    longest = torch.linalg.vector_norm(vectors, dim=1)
    first = vectors[int(torch.nonzero(longest > 1e-9 * longest.max())[0])] if spread else vectors[0]
    if not spread:
        raise InputError("expected points or directions that span a plane; they are one point")
    x = first / torch.linalg.vector_norm(first)
    rest = vectors - (vectors @ x)[:, None] * x
    lengths = torch.linalg.vector_norm(rest, dim=1)
    if float(lengths.max()) <= 1e-9 * float(longest.max()):
        raise InputError("expected points or directions that span a plane; they lie on one line; use Segment")
    y = rest[int(lengths.argmax())] / lengths.max()
    y = y - (y @ x) * x
    return torch.stack([x, y / torch.linalg.vector_norm(y)], 1), spread


def _hull(points: Tensor) -> Tensor:
    """Return the corners of the convex hull of points in the plane, counter-clockwise (Andrew's monotone chain)."""
    order = sorted({(float(x), float(y)) for x, y in points})
    slack = 1e-12 * float(points.abs().max()) ** 2

    def chain(candidates: list[tuple[float, float]]) -> list[tuple[float, float]]:
        found: list[tuple[float, float]] = []
        for p in candidates:
            while len(found) > 1:
                (ax, ay), (bx, by) = found[-2], found[-1]
                if (bx - ax) * (p[1] - ay) - (by - ay) * (p[0] - ax) > slack:
                    break
                found.pop()
            found.append(p)
        return found[:-1]

    return torch.tensor(chain(order) + chain(order[::-1]), dtype=torch.float64)


@final
@dataclass(frozen=True, eq=False, slots=True, repr=False, init=False)
class WholeSpace(Domain):
    """All of R^dim, without a box around it: unbounded regions come out with their directions.

    Args:
        dim: how many entries an input has; at least 1.

    Raises:
        InputError: not a positive integer.

    Algorithm: in homogeneous coordinates x = u / t the network t f(u / t) is linear on cones; dim + 1 of them, over the
    complete fan of e_1, ..., e_dim and -(1, ..., 1), cover the space.

    Example:
        >>> from polylens import WholeSpace
        >>> WholeSpace(3).volume
        inf
    """

    origin: Tensor
    basis: Tensor

    def __init__(self, dim: int) -> None:
        dim = whole(dim, "whole space: the dimension", least=1)
        _set(self, origin=torch.zeros(dim, dtype=torch.float64), basis=torch.eye(dim, dtype=torch.float64))

    @property
    def is_bounded(self) -> bool:
        return False

    @property
    def volume(self) -> float:
        return math.inf

    @property
    def sides(self) -> Polytope:
        return Polytope.of(torch.zeros(0, self.dim), torch.zeros(0))

    def start(self) -> Start:
        _few("whole space", self.dim, _MOST)
        return _fan(self.dim)


def _fan(dim: int) -> Start:
    """Return the cones over all but one of e_1, ..., e_dim, -(1, ..., 1), with the origin (vertex 0) as their apex."""
    points = np.vstack([np.zeros(dim), np.eye(dim), -np.ones(dim)])
    weight = np.array([1.0, *[0.0] * (dim + 1)])
    vertex, facets = [], []
    for left_out in range(dim + 1):
        rays = [i for i in range(dim + 1) if i != left_out]
        vertex += [0, *(1 + i for i in rays)]
        facets += [rays, *([j for j in rays if j != i] + [dim + 1] for i in rays)]
    start = np.arange(dim + 2) * (dim + 1)
    return Start(points, weight, start, np.array(vertex), np.array(facets).reshape(len(vertex), dim), dim + 1, dim + 2)


@final
@dataclass(frozen=True, eq=False, slots=True, repr=False, init=False)
class Slice(Domain):
    """{origin + basis u : matrix u <= bound}: a polytope of low dimension, embedded into the input.

    Args:
        polytope: over the coordinates u; unbounded is allowed, empty is not. A flat one is seen within its flat, whose
            coordinates are orthonormal then.
        origin: an input of any shape; zeros when None.
        basis: (num_inputs, dim), independent columns; the identity when None.

    Raises:
        ShapeError: the shapes do not fit.
        InputError: dependent columns, NaN or infinity.
        GeometryError: the polytope is empty, or has more than 10 dimensions.

    Example:
        >>> from polylens import Polytope, Slice
        >>> round(Slice(Polytope.simplex(3)).volume, 12)
        0.166666666667
    """

    origin: Tensor
    basis: Tensor
    polytope: Polytope
    bounded: bool

    def __init__(self, polytope: Polytope, origin: ArrayLike = None, basis: ArrayLike = None) -> None:
        dim = polytope.dim
        b = torch.eye(dim, dtype=torch.float64) if basis is None else finite(_double(basis, "slice.basis"), "slice.basis")
        o = torch.zeros(len(b), dtype=torch.float64) if origin is None else _points("slice", origin=origin)[0]
        if b.shape != (len(o), dim):
            raise ShapeError(
                f"slice: expected origin (num_inputs,) and basis (num_inputs, {dim}); got {len(o)} and {tuple(b.shape)}"
            )
        if dim and torch.linalg.matrix_rank(b) < dim:
            raise InputError("slice: expected independent columns of the basis; drop those that others span")
        hull = affine_hull(polytope)
        _few("slice", hull.dimension, 10)
        if hull.dimension < dim:
            o, b, polytope = o + b @ hull.point, b @ hull.basis, _within(polytope, hull)
        polytope = polytope.select(polytope.matrix.any(1))  # rows of zeros say nothing: it is not empty
        _set(self, origin=o, basis=b, polytope=polytope, bounded=not hull.dimension or bool(is_bounded(polytope).answer))

    @property
    def is_bounded(self) -> bool:
        return self.bounded

    @property
    def volume(self) -> float:
        return volume(self.polytope).value * self.scale if self.bounded else math.inf

    @property
    def sides(self) -> Polytope:
        return self.polytope

    def start(self) -> Start:
        rows = self.polytope.matrix.numpy(), self.polytope.bound.numpy()
        if not self.bounded:
            return _fan(self.dim)._replace(matrix=rows[0], bound=rows[1])
        if not self.dim:
            return _one_cell(np.zeros((1, 0)), np.zeros((1, 0), int), 0)
        low, high = bounding_box(self.polytope)
        room = high - low  # entry by entry: sides of very different lengths keep their digits
        around = Box(low - room, high + room).start()
        return around._replace(matrix=rows[0], bound=rows[1])


def _within(polytope: Polytope, hull: AffineHull) -> Polytope:
    """Return a flat polytope in the coordinates of its affine hull, without the rows that are 0 there but for rounding."""
    inside = polytope.section(hull.point, hull.basis)
    before, after = (torch.linalg.vector_norm(p.matrix, dim=1) for p in (polytope, inside))
    return inside.select(after > 1e-9 * before)


def domain_of(domain: Domain | Polytope) -> Domain:
    """Return a domain as it is, and a polytope as a slice of the space that it lies in."""
    if isinstance(domain, Polytope):
        return Slice(domain)
    if not isinstance(domain, Domain):
        raise InputError(
            f"domain: expected Box, Segment, Plane, Polygon, WholeSpace, Slice or a Polytope; got {type(domain).__name__}"
        )
    return domain
