"""The mean gradient along a straight line: exact where the network is piecewise linear, by quadrature where it bends.

Along a segment the gradient of a piecewise-linear network is constant between breakpoints, which the subdivision gives.
References: M. Sundararajan, A. Taly, Q. Yan, Axiomatic attribution for deep networks, ICML 2017.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ._saliency import exact_part, rows_of
from .domain import Segment
from .local import at_points, on_patterns
from .network import Network
from .pattern import Patterns
from .steps import LinearAt
from .subdivision import iter_cells

# Kronrod's seven points on [-1, 1] and their weights; every second one is one of Gauss's three
_POINTS = (0.960491268708020283, 0.774596669241483377, 0.434243749346802558, 0.0)
_KRONROD = (0.104656226026467266, 0.268488089868333441, 0.401397414775962223, 0.450916538658474142)
_GAUSS = (0.0, 5 / 9, 0.0, 8 / 9)
Estimate = tuple[Tensor, Tensor]  # integrals (k, *input_shape), and their errors (k,)
_MOST = 1 << 13  # intervals of one line that are evaluated before the error is told as it is


class Line(NamedTuple):
    """What a line gives: the mean rows (k, *input_shape), their largest estimated errors (k,), how many breakpoints."""

    mean: Tensor
    error: Tensor
    breakpoints: int


def mean_rows(net: Network, first: Tensor, second: Tensor, units: Tensor, tolerance: float, max_bytes: int) -> Line:
    """Return the mean of the units' rows (1, k) between two points (*input_shape) of a network in float64.

    `tolerance` is how far off quadrature may be, in parts of the largest entry that the integral would have if nothing
    cancelled; piecewise-linear networks need none. Errors are those of the mean times the line's own entries.

    Algorithm: a subdivision of the segment, and one pull of rows for every cell of it. With smooth steps, the cells of what
    is in front of them are where quadrature starts; the worst intervals are halved until the estimates add up to less than the
    tolerance.
    """
    if bool((first == second).all()):
        zeros = torch.zeros(units.shape[1], *net.input_shape, dtype=net.dtype, device=net.device)
        return Line(zeros, zeros.new_zeros(len(zeros)), 0)
    part = exact_part(net)
    ends, patterns = _cells(part, first, second)
    breakpoints = len(ends) - 1
    if net.is_piecewise_linear:
        assert patterns is not None or not net.gates
        mean = _over_cells(net, ends[:, 1] - ends[:, 0], patterns, units, max_bytes)
        return Line(mean, mean.new_zeros(len(mean)), breakpoints)
    return Line(*_Quadrature(net, first, second, units, max_bytes).run(ends, tolerance), breakpoints)


def _cells(net: Network, first: Tensor, second: Tensor) -> tuple[Tensor, Patterns | None]:
    """Return the parts of the segment (cells, 2) between breakpoints, from 0 to 1, and their patterns."""
    if not net.gates:
        return torch.tensor([[0.0, 1.0]], dtype=torch.float64), None
    parts = list(iter_cells(net, Segment(first.cpu(), second.cpu())))
    found = []
    for cells in parts:
        u = cells.points[cells.vertex, 0] / cells.weight[cells.vertex]
        found.append(np.stack([np.minimum.reduceat(u, cells.start[:-1]), np.maximum.reduceat(u, cells.start[:-1])], 1))
    return torch.from_numpy(np.concatenate(found)), Patterns.concat([cells.patterns for cells in parts])


def _over_cells(net: Network, lengths: Tensor, patterns: Patterns | None, units: Tensor, max_bytes: int) -> Tensor:
    """Return the rows of all patterns, weighted by the lengths of their cells."""
    total, last = torch.zeros(units.shape[1], *net.input_shape, dtype=net.dtype, device=net.device), len(net.nodes)
    none = Patterns.from_pieces((), (), len(lengths))
    held = none if patterns is None else patterns
    for part, rows in rows_of(net, len(lengths), lambda part: on_patterns(net, held[part], last), units, max_bytes):
        total += torch.tensordot(lengths[part].to(rows), rows, 1)
    return total


class _Quadrature:
    """Rows along one line by Gauss's and Kronrod's rules, on intervals that are halved where the two differ."""

    def __init__(self, net: Network, first: Tensor, second: Tensor, units: Tensor, max_bytes: int) -> None:
        self.net, self.first, self.way, self.units, self.max_bytes = net, first, second - first, units, max_bytes
        points = torch.tensor(_POINTS, dtype=torch.float64)
        self.points = torch.cat([-points[:3], points.flip(0)])
        weights = torch.tensor([_KRONROD, _GAUSS], dtype=torch.float64)
        self.weights = torch.cat([weights[:, :3], weights.flip(1)], 1)

    def run(self, ends: Tensor, tolerance: float) -> tuple[Tensor, Tensor]:
        """Return the mean rows (k, *input_shape), and how far off their entries times the line's may be (k,)."""
        allowed, asked = tolerance * self._size(ends), 0
        done = self._nothing()
        while True:
            asked += len(ends)
            good, bad, worse = self._round(ends, allowed / (2 * asked))
            done = _sum(done, good)
            mean, error = _sum(done, bad)
            if bool((error <= allowed).all()) or asked >= _MOST or not len(worse):
                return mean, error
            middle = worse.mean(1, keepdim=True)
            ends = torch.cat([torch.cat([worse[:, :1], middle], 1), torch.cat([middle, worse[:, 1:]], 1)])

    def _nothing(self) -> Estimate:
        shape, like = self.net.input_shape, self.first
        return like.new_zeros(self.units.shape[1], *shape), like.new_zeros(self.units.shape[1])

    def _round(self, ends: Tensor, share: Tensor) -> tuple[Estimate, Estimate, Tensor]:
        """Return the sums over the intervals whose error is within `share`, over the others, and the latter's ends."""
        good, bad, worse = self._nothing(), self._nothing(), []
        numbers = len(self.points) * self.units.shape[1] * self.first.numel() * self.net.dtype.itemsize
        for some in ends.split(max(1, self.max_bytes // max(1, numbers))):
            rows, error = self._intervals(some)
            off = (error > share).any(1)
            good, bad = _sum(good, (rows[~off].sum(0), error[~off].sum(0))), _sum(bad, (rows[off].sum(0), error[off].sum(0)))
            worse.append(some[off.cpu()])
        return good, bad, torch.cat(worse)

    def _size(self, ends: Tensor) -> Tensor:
        """Return about how large the largest entry is, (k,), were nothing to cancel: by the intervals' middles."""
        total, lengths = self._nothing()[0], (ends[:, 1] - ends[:, 0]).to(self.first)
        for part, rows in self._rows(ends.mean(1)):
            total += torch.tensordot(lengths[part], rows.abs(), 1)
        sizes = (total * self.way.abs()).flatten(1)
        return sizes.amax(1) if sizes.numel() else sizes.sum(1)

    def _rows(self, t: Tensor) -> Iterator[tuple[slice, Tensor]]:
        at, last = t.to(self.first).reshape(-1, *(1,) * self.first.ndim), len(self.net.nodes)

        def local(part: slice) -> list[LinearAt]:
            return at_points(self.net, self.first + at[part] * self.way, last)

        return rows_of(self.net, len(t), local, self.units, self.max_bytes)

    def _intervals(self, ends: Tensor) -> tuple[Tensor, Tensor]:
        """Return Kronrod's integrals (n, k, *input_shape) over intervals, and the largest difference from Gauss's (n, k)."""
        half = (ends[:, 1:] - ends[:, :1]) / 2
        t = (ends.mean(1, keepdim=True) + half * self.points).reshape(-1)
        rows = torch.cat([found for _, found in self._rows(t)]).unflatten(0, (len(ends), -1))
        both = torch.einsum("rp,np,npk...->rnk...", self.weights.to(rows), half.to(rows).expand(-1, len(self.points)), rows)
        change = ((both[0] - both[1]) * self.way).flatten(2)
        return both[0], change.abs().amax(2) if change.numel() else change.sum(2)


def _sum(a: Estimate, b: Estimate) -> Estimate:
    return a[0] + b[0], a[1] + b[1]
