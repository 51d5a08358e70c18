"""Cells of a subdivision as a struct of arrays: simple polytopes by their vertices and the facets that these lie on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch

from .pattern import Patterns, UnitLayer

Array = np.ndarray[Any, Any]


def taken(start: Array, chosen: Array) -> tuple[Array, Array]:
    """Return the chosen groups of a ragged array, whose group i is start[i]:start[i+1]: their new `start`, and their rows."""
    sizes = np.diff(start)[chosen]
    ends = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    return ends, np.repeat(start[chosen] - ends[:-1], sizes) + np.arange(ends[-1])


@final
@dataclass(frozen=True, eq=False, slots=True)
class Cells:
    """Some cells of a subdivision, with a pool of vertices that they share.

    Cell i has the vertices `vertex[start[i]:start[i+1]]`, rows of `points` (vertices, dim), the domain's coordinates
    times `weight`: a weight of 0 makes a row a direction in which the cell has no end. Row k of `facets` holds as bits the
    dim facets of its cell that incidence k lies on; bits below `sides` are the domain's own. `words` holds the patterns.
    `fragile` decisions, as in `RegionCount`, were taken on the way since the part before.
    """

    points: Array
    weight: Array
    start: Array
    vertex: Array
    facets: Array
    words: Array
    sides: int
    layers: tuple[UnitLayer, ...]
    fragile: int = 0

    def __len__(self) -> int:
        return len(self.start) - 1

    @classmethod
    def none(cls, dim: int, sides: int, layers: tuple[UnitLayer, ...], fragile: int) -> Cells:
        """Return no cells, but the decisions that led to none."""
        words = np.zeros((0, sum(layer.num_bytes for layer in layers) // 8), np.uint64)
        pool = (np.zeros((0, dim)), np.zeros(0), np.zeros(1, np.int64), np.zeros(0, np.int32))
        return cls(*pool, np.zeros((0, 1), np.uint64), words, sides, layers, fragile)

    def select(self, count: int) -> Cells:
        """Return the first cells, with the whole pool."""
        start, last = self.start[: count + 1], self.start[count]
        own = (start, self.vertex[:last], self.facets[:last], self.words[:count])
        return Cells(self.points, self.weight, *own, self.sides, self.layers)

    @property
    def patterns(self) -> Patterns:
        """The activation patterns of the cells."""
        packed = np.ascontiguousarray(self.words).view(np.uint8)
        return Patterns(torch.from_numpy(packed), self.layers)

    def centres(self) -> Array:
        """Return the mean of every cell's vertices, in the domain's coordinates: (cells, dim); it lies inside the cell.

        A cell without an end has directions instead of some vertices; the point is then one of the cell's interior too.
        """
        if not len(self):
            return np.zeros((0, self.points.shape[1]))
        finite = self.weight > 0
        points = self.points / np.where(finite, self.weight, 1.0)[:, None]
        if finite.all():
            total: Array = np.add.reduceat(points[self.vertex], self.start[:-1])
            return total / np.diff(self.start)[:, None]
        at, along = np.where(finite[:, None], points, 0.0), np.where(finite[:, None], 0.0, points)
        count = np.add.reduceat(finite[self.vertex].astype(float), self.start[:-1])
        mean: Array = np.add.reduceat(at[self.vertex], self.start[:-1]) / np.maximum(count, 1.0)[:, None]
        return mean + np.add.reduceat(along[self.vertex], self.start[:-1])

    def volumes(self) -> Array:
        """Return the volume of every cell in the domain's coordinates; infinite for cells without an end."""
        from ._kernels.measure import volumes

        return volumes(self.points, self.weight, self.start, self.vertex, self.facets)
