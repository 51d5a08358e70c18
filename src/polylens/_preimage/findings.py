"""What a search for a preimage meets in chunks of cells, and what became of the cells."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from ..cells import Cells
from .generators import Generators

Array = np.ndarray[Any, Any]


@dataclass(slots=True)
class Fate:
    """What became of the cells looked at: dropped in front of the gates (by gate), outside the target, wholly inside, cut.

    `fragile` counts decisions that rounding may have turned, as in `RegionCount`.
    """

    dropped: list[int] = field(default_factory=list)
    outside: int = 0
    inside: int = 0
    cut: int = 0
    fragile: int = 0

    def add(self, other: Fate) -> None:
        """Take in what another task has met."""
        mine = self.dropped or [0] * len(other.dropped)
        self.dropped = [a + b for a, b in zip(mine, other.dropped, strict=True)]
        self.outside, self.inside, self.cut = (a + b for a, b in zip(self.counts, other.counts, strict=True))
        self.fragile += other.fragile

    @property
    def counts(self) -> tuple[int, int, int]:
        """How many cells were outside, inside and cut."""
        return self.outside, self.inside, self.cut


class Solid(NamedTuple):
    """Full-dimensional pieces: cells, which part of the target each maps into, and on which of its rows it maps (rows)."""

    cells: Cells
    part: Array
    level: Array


class Flat(NamedTuple):
    """A piece of lower dimension; `level` says on which rows of its part it maps."""

    generators: Generators
    dimension: int
    words: Array
    part: int
    level: Array


class Found(NamedTuple):
    """What a chunk of cells holds of a preimage."""

    solid: list[Solid]
    flat: list[Flat]
