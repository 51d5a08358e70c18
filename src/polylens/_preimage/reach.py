"""What a network can reach from cells: a lower bound on every output over each of them, without looking at its parts.

A value is held over a cell as an affine function of the cell's coordinates plus or minus a radius. Affine steps carry both
exactly, a gate replaces its graph over the values that its input can take by a strip along the chord. Affine functions are
written in an orthonormal basis of what the cell's vertices allow, so thin cells cost no digits.

References: G. Singh et al., Fast and effective robustness certification, NeurIPS 2018 (the strip of least area).
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from .._rounding import magnitudes
from ..gates import Gate, MaxGate, spread
from ..network import Network
from ..steps import Affine

Array = np.ndarray[Any, Any]
_NUMBERS = 1 << 20  # at once, in the widest value: 8 MB, which stays near the caches


class _Form(NamedTuple):
    """A value over cells: coefficients (cells, k, *shape) of an affine function, and a radius (cells, *shape) around it.

    `size` (cells, *shape) is what it is at most, where that came for nothing; so is its `range`.
    """

    coefficients: Tensor
    radius: Tensor
    size: Tensor | None = None
    range: tuple[Tensor, Tensor] | None = None


class Cover(NamedTuple):
    """Cells by their vertices: incidences, homogeneous coordinates, and the values (vertices, *shape) that are known there.

    An entry of a value may be off by its `profile` (1, *shape) times the vertex's `error`.
    """

    start: Array
    vertex: Array
    points: Array
    weight: Array
    error: Array
    values: dict[int, Tensor]
    profile: dict[int, Tensor]


class Reach:
    """Lower bounds on the last value of a network from values at the vertices of cells; `unit` is the size of a rounding."""

    def __init__(self, net: Network, last: int, unit: float) -> None:
        self.network, self.last, self.unit = net, last, unit
        self.absolute = magnitudes(net)
        shapes = [net.shape_of(v) for v in range(last + 1)]
        zeros = [torch.zeros(1, *s, dtype=net.dtype, device=net.device) for s in shapes]
        steps = [node.step for node in net.nodes[:last]]
        self.constants = [
            step.apply(*(zeros[i] for i in node.inputs)) if isinstance(step, Affine) else None
            for step, node in zip(steps, net.nodes, strict=False)
        ]
        self.widest = max(s.numel() for s in (torch.Size(shape) for shape in shapes))

    @torch.no_grad()
    def lowest(self, cover: Cover) -> Tensor:
        """Return (cells, outputs): what the last value is at least, all over each cell; -inf where a cell has no end."""
        count = len(cover.start) - 1
        found = torch.full((count, torch.Size(self.network.shape_of(self.last)).numel()), -torch.inf, dtype=torch.float64)
        bounded = np.minimum.reduceat(cover.weight[cover.vertex], cover.start[:-1]) > 0
        sizes = np.diff(cover.start)
        order = np.flatnonzero(bounded)
        order = order[np.argsort(sizes[order], kind="stable")]  # cells of like size share a table
        at = 0
        while at < len(order):
            most = int(sizes[order[at : at + 256]][-1])
            step = max(1, min(_NUMBERS // (most * self.widest), int(np.searchsorted(sizes[order], 2 * most)) - at))
            cells = order[at : at + step]
            found[cells] = self._some(cover, cells)
            at += len(cells)
        return found

    def _some(self, cover: Cover, cells: Array) -> Tensor:
        sizes = np.diff(cover.start)[cells]
        place = np.minimum(np.arange(sizes.max()), sizes[:, None] - 1) + cover.start[cells, None]
        index = cover.vertex[place]  # (cells, most): short cells repeat their last vertex
        weight = cover.weight[index][:, :, None]
        own = np.concatenate([cover.points[index] / weight, np.ones_like(weight)], 2)
        basis = torch.linalg.qr(torch.from_numpy(own)).Q.to(self.network.device)
        one = basis.sum(1)
        scale = None if (weight == 1.0).all() else torch.from_numpy(weight).to(basis.device)
        error = torch.from_numpy((cover.error[index] / weight[:, :, 0]).max(1)).to(basis.device)
        forms = {}
        for v, rows in cover.values.items():
            rough = cover.profile[v] * error.reshape(-1, *(1,) * (rows.ndim - 1))
            forms[v] = self._start(rows[torch.from_numpy(index).to(rows.device)], scale, basis, rough)
        for k in range(min(forms) + 1, self.last + 1):
            node = self.network.nodes[k - 1]
            if k in forms or not all(i in forms for i in node.inputs):
                continue
            inputs = [forms[i] for i in node.inputs]
            if isinstance(node.step, Affine):
                forms[k] = self._affine(k, node.step, inputs, basis, one)
            elif isinstance(node.step, MaxGate):
                forms[k] = _winner(node.step, inputs[0], basis, one)
            else:
                forms[k] = _strip(cast(Gate, node.step), inputs[0], basis, one)
        low, _ = _range(forms[self.last], basis)
        return low.flatten(1).cpu()

    def _start(self, rows: Tensor, weight: Tensor | None, basis: Tensor, error: Tensor) -> _Form:
        """Return values that are known at vertices as affine functions.

        The radius covers what they may be off, and the coefficients' own rounding. An affine function that is off by at
        most e at all vertices of a cell is off by at most e all over it, because every point is a convex combination of
        vertices. Values are sums whose terms may cancel, or that a gate cut off at a rounding: what they are off is a part of
        the terms, which the error holds, and not of their sum. The coefficients are the values' products with an
        orthonormal basis: off by some roundings of the largest.
        """
        values = rows.reshape(*rows.shape[:2], -1)
        values = values if weight is None else values / weight
        low, high = (t.reshape(len(rows), *rows.shape[2:]) for t in (values.amin(1), values.amax(1)))
        size = torch.maximum(-low, high)
        radius = 4 * self.unit * size + 4 * error
        coefficients = (basis.mT @ values).reshape(len(rows), -1, *rows.shape[2:])
        return _Form(coefficients, radius, size, (low - radius, high + radius))

    def _affine(self, k: int, step: Affine, inputs: list[_Form], basis: Tensor, one: Tensor) -> _Form:
        """Return the image; the radius also takes what the step's own terms are rounded by."""
        batch, count = one.shape
        columns = step.linear(*(f.coefficients.flatten(0, 1) for f in inputs)).unflatten(0, (batch, count))
        constant = cast(Tensor, self.constants[k - 1])
        columns = columns + _outer(one, constant)
        sizes = [_size(f) for f in inputs]
        rough = cast(Affine, self.absolute[k - 1])
        radius = rough.linear(*(f.radius + self.unit * s for f, s in zip(inputs, sizes, strict=True)))
        return _Form(columns, radius + self.unit * constant.abs())


def _size(form: _Form) -> Tensor:
    """Return what a value is at most in size; no row of the basis is longer than 1, so its coefficients' length will do."""
    return form.size if form.size is not None else form.coefficients.square().sum(1).sqrt() + form.radius


def _range(form: _Form, basis: Tensor) -> tuple[Tensor, Tensor]:
    """Return the least and the largest value over each cell."""
    if form.range is not None:
        return form.range
    shape = form.radius.shape
    at = (basis @ form.coefficients.reshape(*basis.shape[::2], -1)).reshape(len(basis), -1, *shape[1:])
    return at.amin(1) - form.radius, at.amax(1) + form.radius


def _outer(one: Tensor, constant: Tensor) -> Tensor:
    """Return constants (1 or cells, *shape) as affine functions (cells, k, *shape)."""
    return one.reshape(*one.shape, *(1,) * (constant.ndim - 1)) * constant.unsqueeze(1)


def _strip(gate: Gate, form: _Form, basis: Tensor, one: Tensor) -> _Form:
    """Return a gate's output: its graph lies between two lines along the chord."""
    low, high = _range(form, basis)
    slope, least, most = strip(gate, low, high)
    middle, half, steepness = (least + most) / 2, (most - least) / 2, slope.abs()
    coefficients = form.coefficients * slope.unsqueeze(1) + _outer(one, middle)
    size = steepness * torch.maximum(-low, high) + middle.abs() + half
    return _Form(coefficients, steepness * form.radius + half, size)


def strip(gate: Gate, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return slope, least and most: over [low, high] (batch, *shape) a gate lies between slope * z + least and ... + most."""
    left, right = _ends(gate, low, high)
    slope = torch.where(high > low, (right - left) / (high - low).clamp(min=torch.finfo(low.dtype).tiny), 0.0)
    least, most = torch.full_like(low, torch.inf), torch.full_like(low, -torch.inf)
    for a, b, s, c in _pieces(gate, low, high):
        met = a <= b
        for end in (a, b):
            rest = torch.where(met, (s - slope) * end.clamp(low, high) + c, torch.nan)
            least, most = torch.fmin(least, rest), torch.fmax(most, rest)
    return slope, least, most


def _pieces(gate: Gate, low: Tensor, high: Tensor) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Return every piece's part of [low, high], its slope and its intercept."""
    found = []
    for p in range(gate.num_pieces):
        a = low if p == 0 else torch.maximum(low, gate.breakpoints[p - 1])
        b = high if p == gate.num_pieces - 1 else torch.minimum(high, gate.breakpoints[p])
        found.append((a, b, gate.slopes[p], gate.intercepts[p]))
    return found


def _ends(gate: Gate, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gate's values at the ends; the chord of a graph that jumps need not meet both of its sides."""
    plain = [gate.slopes, gate.intercepts]
    out = []
    for x in (low, high):
        piece = sum(((x > b).long() for b in gate.breakpoints), torch.zeros_like(x, dtype=torch.long))
        slope, intercept = (spread(t, tuple(x.shape[1:])).gather(0, piece) for t in plain)
        out.append(slope * x + intercept)
    return out[0], out[1]


def _winner(step: MaxGate, form: _Form, basis: Tensor, one: Tensor) -> _Form:
    """Return a max-gate's output: the candidate of the highest floor, plus at most what another one's ceiling is above it."""
    shape = tuple(form.radius.shape[1:])
    table = step.candidates(shape).to(basis.device)
    sign = 1.0 if step.largest else -1.0
    low, high = (v.flatten(1) for v in _range(form, basis))
    low, high = (low, high) if step.largest else (-high, -low)
    floors = torch.where(table >= 0, low[:, table], -torch.inf)
    best = floors.argmax(2, keepdim=True)
    ceilings = torch.where(table >= 0, high[:, table], -torch.inf).scatter(2, best, -torch.inf)
    above = (ceilings.amax(2) - floors.gather(2, best)[:, :, 0]).clamp(min=0.0)
    chosen = table.expand(len(best), *table.shape).gather(2, best)[:, :, 0]
    out = tuple(step.apply(torch.zeros(1, *shape, dtype=low.dtype, device=low.device)).shape[1:])
    flat = form.coefficients.flatten(2)
    coefficients = flat.gather(2, chosen[:, None].expand(-1, flat.shape[1], -1)).reshape(len(flat), -1, *out)
    radius = form.radius.flatten(1).gather(1, chosen).reshape(len(flat), *out)
    half = (above / 2).reshape(len(flat), *out)
    return _Form(coefficients + sign * _outer(one, half), radius + half)
