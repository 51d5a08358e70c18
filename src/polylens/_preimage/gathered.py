"""The pieces of a preimage gathered from the chunks of a subdivision as they come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray

from ..domain import Domain
from ..target import OutputSet
from .findings import Fate, Flat, Found, Solid
from .pieces import Pieces, flat_pieces, maximal, rejoined, size_of, solid_pieces, united

Array = NDArray[Any]


@final
@dataclass(frozen=True, eq=False, slots=True)
class Tie:
    """A full-dimensional piece that maps onto the hyperplane of a row of the target, where outputs tie.

    `outputs` are the entries that tie there, `included` says whether the piece belongs to the preimage: `Argmax` leaves a
    tie with a lower index to that index.
    """

    vertices: Array
    volume: float
    outputs: tuple[int, ...]
    included: bool


class Gathered:
    """The pieces of a preimage as they come."""

    def __init__(self, target: OutputSet, domain: Domain) -> None:
        self.target, self.domain = target, domain
        self.walls = 0 if domain.is_bounded else domain.dim + 1
        self.fate = Fate()
        self.solid: list[Pieces] = []
        self.tied: list[tuple[Pieces, int]] = []
        self.touching: list[Array] = []
        self.flat: list[Flat] = []

    @property
    def count(self) -> int:
        """How many pieces there are so far, some of which may be parts of one."""
        return sum(map(len, self.solid)) + len(self.flat)

    def add(self, found: Found, fate: Fate) -> None:
        """Take in what a chunk of cells holds."""
        self.fate.add(fate)
        self.flat += found.flat
        for solid in found.solid:
            self._solid(solid)

    def _solid(self, solid: Solid) -> None:
        part = int(solid.part[0])
        excluded = (solid.level & self.target.parts[part].strict.numpy()).any(1)
        pieces = solid_pieces(solid, self.domain)
        ties = solid.level.any(1)
        if ties.any():
            self.tied.append((pieces.select(np.flatnonzero(ties)), part))
        wall = np.bitwise_or.reduceat(solid.cells.facets[:, 0], solid.cells.start[:-1]) & np.uint64((1 << self.walls) - 1)
        kept = np.flatnonzero(~excluded)
        if len(kept):
            self.solid.append(pieces if len(kept) == len(pieces) else pieces.select(kept))
            self.touching.append((wall != 0)[kept])

    def result(self, words: int) -> Pieces:
        """Return the maximal pieces, those of the largest dimension first; `words` is how many a pattern has."""
        size = size_of(self.domain)
        solid = Pieces.joined(self.solid) if self.solid else Pieces.none(size, words)
        solid = united(solid, self.walls, np.concatenate([np.zeros(0, dtype=bool), *self.touching]))
        flats = maximal(solid, rejoined(self.flat, self.walls, size), len(self.target.parts) > 1)
        if not flats:
            return solid
        flat = flat_pieces(flats, self.domain)
        return Pieces.joined([solid, flat]) if len(solid) else flat

    def ties(self) -> list[Tie]:
        """Return the full-dimensional pieces that map onto a row of the target, each once."""
        found: dict[tuple[bytes, str], Tie] = {}
        for pieces, part in self.tied:
            rows = self.target.parts[part]
            own = ~rows.equal & ~rows.added
            for i, level in enumerate(pieces.level):
                among = torch.from_numpy(level) & own
                if not bool(rows.matrix[among].any()):
                    continue
                key = (pieces.words[i].tobytes(), f"{pieces.volume[i]:.9g}")
                others = found[key].outputs if key in found else ()
                outputs = torch.nonzero(rows.matrix[among].any(0)).reshape(-1).tolist()
                included = (key in found and found[key].included) or not bool((among & rows.strict).any())
                corners, volume = pieces.generators(i)[0], float(pieces.volume[i])
                found[key] = Tie(corners, volume, tuple(sorted({*outputs, *others})), included)
        return list(found.values())
