"""Polytopes `{x : A x <= b}`: convex, possibly empty, flat or unbounded; every row knows where it comes from.

All geometry is in float64. What needs a solver (emptiness, facets, volume, samples) is a question for `geometry` and
`facets`; here is what the definition alone answers, in closed form.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, final

import torch
from torch import Tensor

from ._check import ArrayLike, array, finite, whole
from ._types import Result, Tolerance
from .errors import InputError, ShapeError

DOMAIN = -1


class RowOrigin(NamedTuple):
    """Where a row comes from: crossing it takes `unit` of the layer `name` to `piece`.

    The sides of a domain have the name "domain" and piece -1; their unit is the number of the side.
    """

    name: str
    unit: int
    piece: int


@final
@dataclass(frozen=True, eq=False, slots=True, repr=False)
class Origins:
    """The origins of many rows at once: `layer` indexes `names` (-1: the domain), `unit` and `piece` are as in RowOrigin."""

    names: tuple[str, ...]
    layer: Tensor
    unit: Tensor
    piece: Tensor

    @classmethod
    def of_domain(cls, rows: int) -> Origins:
        """Return the origins of the sides of a domain."""
        outside = torch.full((rows,), DOMAIN)
        return cls((), outside, torch.arange(rows), outside)

    def __len__(self) -> int:
        return len(self.layer)

    def __getitem__(self, row: int) -> RowOrigin:
        layer = int(self.layer[row])
        return RowOrigin(self.names[layer] if layer >= 0 else "domain", int(self.unit[row]), int(self.piece[row]))

    def select(self, rows: Tensor) -> Origins:
        """Return the origins of some rows."""
        return Origins(self.names, self.layer[rows], self.unit[rows], self.piece[rows])

    def join(self, other: Origins) -> Origins:
        """Return the origins of these rows followed by the other's."""
        names = (*self.names, *(n for n in other.names if n not in self.names))
        renamed = torch.tensor([names.index(n) for n in other.names] or [DOMAIN])
        layer = torch.where(other.layer >= 0, renamed[other.layer.clamp(min=0)], DOMAIN)
        joined = [torch.cat([a, b]) for a, b in ((self.layer, layer), (self.unit, other.unit), (self.piece, other.piece))]
        return Origins(names, *joined)


class Exit(NamedTuple):
    """Where rays leave a polytope: the parameter t >= 0 of x + t v (infinite if they never do) and the row, -1 if none."""

    t: Tensor
    row: Tensor


class Closest(NamedTuple):
    """The distance from points to the nearest hyperplane of a polytope, and its row (-1 where there is none)."""

    distance: Tensor
    row: Tensor


@final
@dataclass(frozen=True, eq=False, slots=True, repr=False)
class Polytope(Result):
    """The set {x in R^dim : matrix x <= bound}, with the rows' `origins`.

    `matrix` (rows, dim), `bound` (rows,), float64 on the CPU. No rows means the whole space. A row of zeros says
    nothing when its bound is at least 0 and makes the polytope empty otherwise.

    Raises: ShapeError when the shapes do not fit; InputError for NaN, infinity and other numbers than float64.
    """

    matrix: Tensor
    bound: Tensor
    origins: Origins

    def __post_init__(self) -> None:
        rows = len(self.matrix) if self.matrix.ndim == 2 else -1
        if rows < 0 or self.bound.shape != (rows,) or len(self.origins) != rows:
            raise ShapeError(
                "polytope: expected matrix (rows, dim), bound (rows,) and as many origins; got"
                f" {tuple(self.matrix.shape)}, {tuple(self.bound.shape)} and {len(self.origins)}"
            )
        for name, value in {"matrix": self.matrix, "bound": self.bound}.items():
            if value.dtype != torch.float64 or value.device.type != "cpu":
                raise InputError(
                    f"polytope.{name}: expected float64 on the CPU; got {value.dtype} on {value.device}; Polytope.of converts"
                )
            finite(value, f"polytope.{name}")

    # -- makers

    @classmethod
    def of(cls, matrix: ArrayLike, bound: ArrayLike) -> Polytope:
        """Return {x : matrix x <= bound} from arrays or nested lists; its rows are sides of a domain."""
        a, b = (_double(v, what) for v, what in ((matrix, "matrix"), (bound, "bound")))
        return cls(a, b, Origins.of_domain(len(b) if b.ndim else 0))

    @classmethod
    def box(cls, low: ArrayLike, high: ArrayLike) -> Polytope:
        """Return {x : low <= x <= high}; infinite sides have no row. Rows: upper sides first, then lower sides."""
        low, high = (_double(v, what).reshape(-1) for v, what in ((low, "low"), (high, "high")))
        if low.shape != high.shape:
            raise ShapeError(f"box: expected low and high of one shape; got {tuple(low.shape)} and {tuple(high.shape)}")
        eye = torch.eye(len(low), dtype=torch.float64)
        matrix, bound = torch.cat([eye, -eye]), torch.cat([high, -low])
        kept = ~(bound == torch.inf)
        return cls(matrix[kept], bound[kept], Origins.of_domain(2 * len(low)).select(torch.nonzero(kept).reshape(-1)))

    @classmethod
    def simplex(cls, dim: int) -> Polytope:
        """Return {x >= 0, sum x <= 1}, of volume 1 / dim!."""
        dim = whole(dim, "simplex: dim", 0)
        eye = torch.eye(dim, dtype=torch.float64)
        return cls.of(torch.cat([-eye, torch.ones(1, dim, dtype=torch.float64)]), [0.0] * dim + [1.0])

    @classmethod
    def cross_polytope(cls, dim: int) -> Polytope:
        """Return {x : |x|_1 <= 1}, with 2^dim rows, of volume 2^dim / dim!."""
        dim = whole(dim, "cross_polytope: dim")
        signs = torch.cartesian_prod(*[torch.tensor([1.0, -1.0], dtype=torch.float64)] * dim).reshape(-1, dim)
        return cls.of(signs, torch.ones(len(signs)))

    # -- what the definition answers

    @property
    def dim(self) -> int:
        """The dimension of the space, not of the set."""
        return self.matrix.shape[1]

    def __len__(self) -> int:
        return len(self.bound)

    def __and__(self, other: Polytope) -> Polytope:
        """Return the intersection: the rows of both."""
        if not isinstance(other, Polytope):
            return NotImplemented
        if self.dim != other.dim:
            raise ShapeError(f"intersection: expected equal dimensions; got {self.dim} and {other.dim}")
        matrix, bound = torch.cat([self.matrix, other.matrix]), torch.cat([self.bound, other.bound])
        return Polytope(matrix, bound, self.origins.join(other.origins))

    def select(self, rows: Tensor | Sequence[int]) -> Polytope:
        """Return the polytope of some rows (positions or a mask)."""
        rows, count = torch.as_tensor(rows), len(self)
        fits = rows.ndim == 1 and (
            len(rows) == count if rows.dtype == torch.bool else bool(((rows >= -count) & (rows < count)).all())
        )
        if not fits:
            raise InputError(f"select: expected positions among {count} rows, or a mask of as many; got {rows.tolist()}")
        rows = torch.nonzero(rows).reshape(-1) if rows.dtype == torch.bool else rows.long()
        return Polytope(self.matrix[rows], self.bound[rows], self.origins.select(rows))

    def section(self, point: Tensor, basis: Tensor) -> Polytope:
        """Return {z : point + basis z in this polytope}, basis of shape (dim, k): the same rows, seen within a flat."""
        if point.shape != (self.dim,) or basis.ndim != 2 or len(basis) != self.dim:
            raise ShapeError(
                f"section: expected point ({self.dim},) and basis ({self.dim}, k); got {tuple(point.shape)} and"
                f" {tuple(basis.shape)}"
            )
        return Polytope(self.matrix @ basis, self.slack(point), self.origins)

    def slack(self, x: ArrayLike) -> Tensor:
        """Return bound - matrix x: (rows,) for a point (dim,), (batch, rows) for points (batch, dim)."""
        return self.bound - self._points(x) @ self.matrix.T

    def contains(self, x: ArrayLike, tol: float = 0.0) -> Tensor:
        """Return whether points lie in the polytope, or outside by at most `tol` in the distance to each hyperplane."""
        return (self.slack(x) >= -tol * torch.linalg.vector_norm(self.matrix, dim=1)).all(-1)

    def distance_to_boundary(self, x: ArrayLike) -> Closest:
        """Return the distance from points inside to the nearest hyperplane: () or (batch,), in units of x.

        Points outside get a negative distance: how far the most violated row is. Rows of zeros are never near.
        """
        norms = torch.linalg.vector_norm(self.matrix, dim=1)
        return _least(torch.where(norms > 0, self.slack(x) / norms, torch.inf))

    def ray_exit(self, x: ArrayLike, v: ArrayLike) -> Exit:
        """Return where the rays x + t v, t >= 0, from points inside first meet a row from within."""
        start, way = self._points(x), self._points(v)
        if start.ndim == way.ndim == 2 and len(start) != len(way):
            raise ShapeError(f"ray_exit: expected as many directions as points; got {len(way)} and {len(start)}")
        speed = way @ self.matrix.T
        return Exit(*_least(torch.where(speed > 0, self.slack(start).clamp(min=0) / speed, torch.inf)))

    def _points(self, x: ArrayLike) -> Tensor:
        points = finite(_double(x, "points"), "points")
        if points.ndim not in (1, 2) or points.shape[-1] != self.dim:
            raise ShapeError(f"points: expected shape ({self.dim},) or (batch, {self.dim}); got {tuple(points.shape)}")
        return points

    def __repr__(self) -> str:
        return f"Polytope({len(self)} rows in dimension {self.dim})"

    def summary(self) -> str:
        names = [*self.origins.names, "domain"]
        counts = {n: int((self.origins.layer == (k if k < len(names) - 1 else DOMAIN)).sum()) for k, n in enumerate(names)}
        return "\n".join([repr(self), *(f"  {n} rows from {name}" for name, n in counts.items() if n)])

    def to_dict(self) -> dict[str, Any]:
        rows = [self.origins[i]._asdict() for i in range(len(self))]
        return {"dim": self.dim, "matrix": self.matrix.tolist(), "bound": self.bound.tolist(), "origins": rows}


class HasPolytope(Protocol):
    """Something that a polytope describes, as a region."""

    @property
    def polytope(self) -> Polytope:
        """The polytope."""


def polytope_of(p: Polytope | HasPolytope, question: str) -> Polytope:
    """Return a polytope as it is, and that of a region; anything else is an InputError headed by `question`."""
    found = p if isinstance(p, Polytope) else getattr(p, "polytope", None)
    if not isinstance(found, Polytope):
        raise InputError(
            f"{question}: expected a Polytope or a Region; got {type(p).__name__}; Polytope.of(matrix, bound) makes one"
        )
    return found


def _double(x: ArrayLike, what: str) -> Tensor:
    return torch.as_tensor(array(x, what), dtype=torch.float64, device="cpu")


def _least(values: Tensor) -> Closest:
    """Return the least entry along the last axis and its position, infinity and -1 where there is none."""
    if values.shape[-1] == 0:
        return Closest(values.new_full(values.shape[:-1], torch.inf), torch.full(values.shape[:-1], -1))
    least, row = values.min(-1)
    return Closest(least, torch.where(least < torch.inf, row, -1))


def slack_rounding(p: Polytope, x: Tensor, relative: float) -> Tensor:
    """Return how much of the slacks at computed points (dim,) or (batch, dim) counts as 0: `relative` of the terms of the rows,
    and the rounding of the points.

    An entry that ought to be 0 comes out of a solver or a projection as rounding of the other entries, not of its own size.
    """
    terms = p.bound.abs() + x.abs() @ p.matrix.abs().T
    lengths = torch.linalg.vector_norm(x, dim=-1, keepdim=True) * torch.linalg.vector_norm(p.matrix, dim=1)
    return relative * terms + Tolerance().relative * lengths
