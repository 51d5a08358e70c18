"""Preimages under max-pooling: unions over which candidate of each window is the largest.

With y_w the pooled values, every piece of the union lies in R = {x : a_j x + b_j <= y_w for all j in all windows w}, a
polyhedron, and the piece around x is one of them. So the union is unbounded if that piece is; it is {x} if R is; it is
bounded if R is. What is left open then is settled by asking each of the other pieces, where there are few.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from .._types import Tolerance
from . import recession
from .given import some_point
from .system import NEAR, Layer, Scaled, Split, distance

MOST_CHOICES = 64


def over_windows(layer: Layer, x: Tensor, split: Split, scaled: Scaled, piece: recession.Size, t: Tolerance) -> recession.Size:
    """Return what is proven of the union, given the piece around x; what its proofs are about stays that piece."""
    if piece.kind == "unbounded":
        return piece
    whole = _relaxed(scaled, t)
    if whole.kind == "singleton":
        return _singleton(piece, whole, scaled)
    if whole.kind == "bounded" and piece.kind == "bounded":
        return piece._replace(diameter=whole.diameter)
    others = list(itertools.islice(_others(layer, x, split), MOST_CHOICES + 1))
    if piece.kind == "undecided" or len(others) > MOST_CHOICES:
        return _open(piece, whole)
    return _united(layer, x, others, piece, whole, t)


def _relaxed(scaled: Scaled, tolerance: Tolerance) -> recession.Size:
    """Return how large R is: the equalities' rows are tight inequalities there."""
    system = scaled.system
    rows = np.vstack([system.equal, system.less])
    slack = np.concatenate([np.zeros(len(system.equal)), system.slack])
    relaxed = recession.System(np.zeros((0, rows.shape[1])), rows, slack, system.orthant)
    return recession.size(relaxed, recession.flat(relaxed.equal), tolerance)


def _singleton(piece: recession.Size, whole: recession.Size, scaled: Scaled) -> recession.Size:
    """Return that the union is one point, by the multipliers of R."""
    if piece.kind == "singleton" or whole.multipliers is None:
        return piece._replace(kind="singleton", dimension=0, diameter=0.0)
    p = len(scaled.system.equal)
    levels, multipliers = whole.multipliers[:p], whole.multipliers[p:]
    return piece._replace(kind="singleton", dimension=0, diameter=0.0, levels=levels, multipliers=multipliers)


def _open(piece: recession.Size, whole: recession.Size) -> recession.Size:
    diameter = whole.diameter if whole.kind == "bounded" else math.inf
    return recession.Size("undecided", -1, None, None, None, diameter, None)


def _others(layer: Layer, x: Tensor, split: Split) -> Iterator[tuple[Split, Tensor]]:
    """Yield the splits of other choices of winners, and what these pre-activations are then."""
    if layer.windows is None:
        return
    z = layer.value(x)
    z = z.clamp(min=0) if layer.gate == "relu" else z
    top = torch.where(layer.windows >= 0, z[layer.windows], -torch.inf).amax(1)
    free = [
        [int(j) for j in row if j >= 0 and split.cap[j] >= t] if layer.gate != "relu" or t > 0 else [int(row.max())]
        for row, t in zip(layer.windows, top, strict=True)
    ]
    for winners in itertools.product(*free):
        other = layer.chosen(torch.tensor(winners, dtype=torch.long), top)
        if not torch.equal(other.equal, split.equal):
            yield other, other.cap


def _united(
    layer: Layer, x: Tensor, others: list[tuple[Split, Tensor]], piece: recession.Size, whole: recession.Size, t: Tolerance
) -> recession.Size:
    """Return what all pieces together are."""
    found, bound = piece, whole.diameter if whole.kind == "bounded" else math.inf
    for split, values in others:
        solution = some_point(layer, split, values, t)
        if isinstance(solution, str):
            continue
        point = solution.point
        scaled = layer.scaled(point, split, t, solution.error)
        kernel = recession.flat(scaled.system.equal)
        size = recession.size(scaled.system, kernel, t)
        if size.kind == "undecided":
            return _open(piece, whole)
        if size.kind == "unbounded" and size.ray is not None:
            far = point.numpy() + max(1.0, float(point.norm())) * size.ray
            return found._replace(kind="unbounded", levels=None, multipliers=None, diameter=math.inf, other=far)
        ends = [point.numpy()]
        if size.kind == "bounded" and size.inner is not None:
            ends += recession.chord(scaled.system, kernel, point.numpy(), size.inner)
        other = max(ends, key=lambda z: float(np.linalg.norm(z - x.numpy())))
        if np.linalg.norm(other - x.numpy()) > NEAR * (float(x.norm()) + distance(layer.weight, layer.bias)):
            found = found._replace(kind="bounded", diameter=bound, other=other)
    return found._replace(diameter=bound) if found.kind == "bounded" else found
