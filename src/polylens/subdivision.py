"""Exact subdivision of a domain into the linear regions of a network: its cells as a stream, and their number."""

from __future__ import annotations

from collections.abc import Iterator

from ._types import Tolerance
from .cells import Cells
from .domain import Domain, domain_of
from .network import Network
from .polytope import Polytope


def iter_cells(net: Network, domain: Domain | Polytope, *, tolerance: Tolerance | None = None) -> Iterator[Cells]:
    """Yield the cells of a domain, some thousand at a time, in memory that their number does not change.

    Every cell is the closure of the points of the domain with one activation pattern, where that has an interior within
    the domain; in a convex bounded domain no two cells have one pattern. In an unbounded domain a region is yielded in as
    many parts as cones of the domain it reaches into; they share their pattern.

    Args:
        net: a piecewise-linear network.
        domain: where to look; a `Polytope` is looked at in its own coordinates.
        tolerance: below which part of its terms a pre-activation counts as zero: a hyperplane that cuts off less than
            that from a cell only touches it.

    Raises:
        SmoothError: the network is not piecewise linear.
        InputError: not a domain, or one of inputs of another size than the network's.

    Algorithm: cells are simple polytopes by their vertices, cut by the units that change sign on them, gate by gate and
    depth first in chunks. A vertex counts as positive iff its value exceeds the tolerance, which acts as a perturbation
    and keeps degenerate cells simple; max-gates clip once for each candidate that wins somewhere. Cost: the network at
    the vertices, which are about as many as cells, and for every cut the pairs of vertices on either side.

    Example:
        >>> from polylens import Box, dense, iter_cells
        >>> net = dense([([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]], [0.0, 0.0, 0.0]), ([[1.0, 1.0, 1.0]], None)])
        >>> sum(len(cells) for cells in iter_cells(net, Box([-1.0, -1.0], [1.0, 1.0])))  # one unit is there twice
        4
    """
    from ._engine import Engine

    yield from Engine(net, domain_of(domain), tolerance or Tolerance()).run()
