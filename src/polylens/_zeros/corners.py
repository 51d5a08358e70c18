"""The regions that meet in a point where many walls do: those of a box around it, too small for other walls."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..domain import Box
from ..network import Network
from ..pattern import Patterns
from ..subdivision import iter_cells

Pieces = dict[str, Tensor]
_DIM = 3  # dimensions up to which the box has few cells
_HALF = 1e-6  # of 1 + |u|: half of the box's side
_SAME = 1e-9  # of 1 + |u|: points as near as this are one corner


def corner_finder(net: Network) -> Callable[[Tensor], list[tuple[Tensor, Pieces | None]]]:
    """Return what groups points (batch, dim) by the corners that they are in: rows, and the pieces of all regions there.

    None stands for a corner in too many dimensions. Every corner is subdivided once.
    """
    known = dict[tuple[int, ...], Pieces | None]()

    def corners(u: Tensor) -> list[tuple[Tensor, Pieces | None]]:
        size = _SAME * (1 + u.abs().amax(1, keepdim=True))
        keys = [tuple(key) for key in (u / size).round().long().tolist()]
        groups = dict[tuple[int, ...], list[int]]()
        for row, key in enumerate(keys):
            groups.setdefault(key, []).append(row)
        for key, rows in groups.items():
            if key not in known:
                known[key] = _regions(net, u[rows[0]])
        return [(torch.tensor(rows, device=u.device), known[key]) for key, rows in groups.items()]

    return corners


def _regions(net: Network, u: Tensor) -> Pieces | None:
    """Return the pieces (regions, *shape) of the regions around a point (dim,)."""
    if len(u) > _DIM:
        return None
    half = _HALF * (1 + float(u.abs().max()))
    found = Patterns.concat([cells.patterns for cells in iter_cells(net, Box(u.cpu() - half, u.cpu() + half))])
    return {gate.name: found.pieces(gate.name).to(u.device) for gate in net.gates}
