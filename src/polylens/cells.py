"""Cells of a subdivision as a struct of arrays: simple polytopes by their vertices and the facets that these lie on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch

from .pattern import Patterns, UnitLayer

Array = np.ndarray[Any, Any]


@final
@dataclass(frozen=True, eq=False, slots=True)
class Cells:
    """Some cells of a subdivision, with a pool of vertices that they share.

    Cell i has the vertices `vertex[start[i]:start[i+1]]`, rows of `points` (vertices, dim), the domain's coordinates
    times `weight`: a weight of 0 makes a row a direction in which the cell has no end. Row k of `facets` holds as bits the
    dim facets of its cell that incidence k lies on; bits below `sides` are the domain's own. `words` holds the patterns.
    """

    points: Array
    weight: Array
    start: Array
    vertex: Array
    facets: Array
    words: Array
    sides: int
    layers: tuple[UnitLayer, ...]

    def __len__(self) -> int:
        return len(self.start) - 1

    @property
    def patterns(self) -> Patterns:
        """The activation patterns of the cells."""
        packed = np.ascontiguousarray(self.words).view(np.uint8)
        return Patterns(torch.from_numpy(packed), self.layers)

    def volumes(self) -> Array:
        """Return the volume of every cell in the domain's coordinates; infinite for cells without an end."""
        from ._measure import volumes

        return volumes(self.points, self.weight, self.start, self.vertex, self.facets)
