"""Pieces of a preimage put together where their union is convex, whatever their patterns and maps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from torch import Tensor

from ._check import ArrayLike
from ._preimage.generators import dimension, extreme, flat_volume, labels
from ._progress import progress
from ._types import Result
from .errors import GeometryError
from .preimage import Preimage

Array = np.ndarray[Any, Any]
_EQUAL = 1e-9  # a union is convex if its hull has no more volume than that part above the pieces'


@final
@dataclass(frozen=True, eq=False, slots=True)
class ConvexPart:
    """A convex set: corners (vertices, dim) and directions (rays, dim) in the domain's coordinates.

    `volume` is measured within its own flat, in units of the input; `members` are the pieces that it is made of.
    """

    vertices: Array
    rays: Array
    dimension: int
    volume: float
    members: tuple[int, ...]


@final
@dataclass(frozen=True, eq=False, slots=True, repr=False)
class Merged(Result):
    """A preimage as fewer convex sets: a sequence of `ConvexPart`s, the largest dimension first."""

    preimage: Preimage
    parts: tuple[ConvexPart, ...]

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, index: int) -> ConvexPart:
        return self.parts[index]

    def __iter__(self) -> Iterator[ConvexPart]:
        return iter(self.parts)

    @property
    def volume(self) -> float:
        """The volume of the parts of the domain's dimension, in units of the input."""
        return sum((p.volume for p in self.parts if p.dimension == self.preimage.domain.dim), 0.0)

    def contains(self, x: ArrayLike, tol: float = 1e-9) -> Tensor:
        """Return as `Preimage.contains` does: the set is the same."""
        return self.preimage.contains(x, tol)

    def __repr__(self) -> str:
        return f"Merged({len(self.preimage)} pieces as {len(self)} convex sets)"

    def summary(self) -> str:
        lines = [repr(self)]
        for k in sorted({p.dimension for p in self.parts}, reverse=True):
            of = [p for p in self.parts if p.dimension == k]
            lines.append(f"  {len(of)} of dimension {k}, volume {sum(p.volume for p in of):.6g}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        parts = [
            {
                "dimension": p.dimension,
                "volume": p.volume if np.isfinite(p.volume) else None,
                "vertices": p.vertices.tolist(),
                "rays": p.rays.tolist(),
                "members": list(p.members),
            }
            for p in self.parts
        ]
        return {"pieces": len(self.preimage), "parts": parts}


def merge(of: Preimage) -> Merged:
    """Return a preimage with pieces put together, two at a time, wherever a union of two is convex.

    Greedy: other orders may end in fewer sets. Unbounded pieces stay as they are.

    Args:
        of: the preimage.

    Raises nothing of its own: an empty preimage has no parts.

    Algorithm: two pieces of one dimension whose bounding boxes meet have a convex union iff its hull has the volume of both.
    Cost: a hull for each pair of neighbours, again for what a merged set then meets.

    Example:
        >>> from polylens import Box, OutputSet, dense, merge, preimage
        >>> net = dense([([[1.0], [-1.0]], [0.0, 0.0]), ([[1.0, 1.0]], None)])  # |x|
        >>> [p.vertices.tolist() for p in merge(preimage(net, OutputSet.box([0.0], [1.0]), Box([-2.0], [2.0])))]
        [[[-1.0], [1.0]]]
    """
    parts = [_part(of, i) for i in range(len(of))]
    done = [p for p in parts if len(p.rays) or p.dimension == 0]
    for k in sorted({p.dimension for p in parts} - {0}, reverse=True):
        done += _merged([p for p in parts if p.dimension == k and not len(p.rays)], of)
    return Merged(of, tuple(sorted(done, key=lambda p: (-p.dimension, p.members))))


def _part(of: Preimage, index: int) -> ConvexPart:
    points, weight = of.arrays.generators(index)
    kept = extreme(points, weight, of.arrays.size)
    piece = of[index]
    return ConvexPart(
        _sorted(points[kept & (weight > 0)]), points[kept & (weight == 0)], piece.dimension, piece.volume, (index,)
    )


def _sorted(points: Array) -> Array:
    return points[np.lexsort(points.T[::-1])]


def _merged(parts: list[ConvexPart], of: Preimage) -> list[ConvexPart]:
    """Return bounded parts of one dimension, merged until no two of those that meet have a convex union."""
    if len(parts) < 2:
        return parts
    alive: list[ConvexPart | None] = list(parts)
    low, high = (np.array([f(p.vertices, axis=0) for p in parts]) for f in (np.min, np.max))
    room = _EQUAL * np.max([np.abs(p.vertices).max(0) for p in parts], axis=0)
    for i in progress(range(len(parts)), len(parts), "merging"):
        current, grown = alive[i], True
        while current is not None and grown:
            grown = False
            near = np.flatnonzero(
                (low <= current.vertices.max(0) + room).all(1) & (high >= current.vertices.min(0) - room).all(1)
            )
            for j in near.tolist():
                other = alive[j]
                union = None if other is None or j == i else _union(current, other, of)
                if union is not None:
                    alive[i], alive[j], current, grown = union, None, union, True
                    low[i], high[i] = union.vertices.min(0), union.vertices.max(0)
    return [p for p in alive if p is not None]


def _union(a: ConvexPart, b: ConvexPart, of: Preimage) -> ConvexPart | None:
    """Return the union of two bounded sets of one dimension where it is convex."""
    size, points = of.arrays.size, np.concatenate([a.vertices, b.vertices])
    weight = np.ones(len(points))
    first = np.unique(labels(points, weight, size), return_index=True)[1]
    if len(first) > len(points) - a.dimension or dimension(points, weight, size) > a.dimension:
        return None  # a convex union of two sets meets in a whole facet of both, which has as many corners or more
    points, weight = points[first], weight[first]
    try:
        volume = flat_volume(points @ of.domain.basis.numpy().T, weight, a.dimension)
    except GeometryError:
        return None  # too thin for a hull: left as it is
    if volume > (1 + _EQUAL) * (a.volume + b.volume):
        return None
    kept = extreme(points, weight, size)
    return ConvexPart(_sorted(points[kept]), a.rays, a.dimension, a.volume + b.volume, tuple(sorted(a.members + b.members)))
