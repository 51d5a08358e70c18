"""The kind and the dimension of a layer's preimage in rational arithmetic, for small layers."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from ..errors import InputError
from .given import Solution
from .rational import Matrix, Vector, alternative, dot, exact, independent_columns, kernel, solution
from .recession import Kind, Size
from .system import Layer, Scaled, Split

MOST_ENTRIES = 4096


def exact_size(layer: Layer, at: Solution, split: Split, scaled: Scaled, found: Size) -> Size:
    """Return what was found with kind and dimension as they are in rationals.

    A point that was given is taken as it is, with its positive pre-activations under a ReLU. One that was computed for an
    output is solved for again; where the output's own rounding leaves no solution, rows hold as floats say.
    """
    if layer.weight.numel() > MOST_ENTRIES:
        raise InputError(f"exact: expected a layer of at most {MOST_ENTRIES} weights; got {layer.weight.numel()}; leave it out")
    known, own, weight = layer.known(), at.wanted is None and layer.gate == "relu", exact(layer.weight.tolist())
    bias, point = exact([layer.bias.tolist(), at.point.tolist()])
    z = [dot(row, point) + c for row, c in zip(weight, bias, strict=True)]
    on = [v > 0 for v in z] if own else split.equal.tolist()
    rows = [row for row, positive in zip(weight, on, strict=True) if positive]
    less = [row for row, positive in zip(weight, on, strict=True) if not positive] + exact(known.matrix.tolist())
    bounds = [-c for c, positive in zip(bias, on, strict=True) if not positive] + exact([known.bound.tolist()])[0]
    tight = [bound <= dot(row, point) for row, bound in zip(less, bounds, strict=True)]
    if at.wanted is not None:
        values = [y - c for y, c, positive in zip(exact([at.wanted.tolist()])[0], bias, on, strict=True) if positive]
        tight = _tight(rows, values, less, bounds, (scaled.system.slack <= 0).tolist(), point)
    lines = kernel(rows, len(point))
    if not lines:
        return found._replace(kind="singleton", dimension=0)
    seen = [[dot(row, line) for line in lines] for row in less]
    kind, dimension = _kind(seen, tight, len(lines))
    return _joined(found, kind, dimension, seen, lines)


def _tight(rows: Matrix, values: Vector, less: Matrix, bounds: Vector, near: list[bool], point: Vector) -> list[bool]:
    """Return which inequalities hold with equality at an exact solution near `point`, where there is one: else `near`."""
    met = [(row, bound) for row, bound, m in zip(less, bounds, near, strict=True) if m]
    for held in (met, []):
        x = solution([*rows, *(row for row, _ in held)], [*values, *(bound for _, bound in held)], point)
        slack = [] if x is None else [bound - dot(row, x) for row, bound in zip(less, bounds, strict=True)]
        if x is not None and all(s >= 0 for s in slack):
            return [s == 0 for s in slack]
    return near


def _kind(seen: Matrix, tight: list[bool], dim: int) -> tuple[Kind, int]:
    met = [row for row, t in zip(seen, tight, strict=True) if t]
    dimension = dim - len(independent_columns(_implicit(met, dim), dim))
    if dimension == 0:
        return "singleton", 0
    return ("bounded" if alternative(seen, dim)[0] is not None else "unbounded"), dimension


def _implicit(rows: Matrix, dim: int) -> Matrix:
    """Return the rows that hold with equality on all of {z : rows z <= 0}."""
    while rows:
        columns = independent_columns(rows, dim)  # which have the range of all
        cut = [[row[j] for j in columns] for row in rows]
        multipliers, ray = alternative(cut, len(columns))
        if multipliers is not None or ray is None:
            return rows
        rows = [row for row, short in zip(rows, cut, strict=True) if dot(short, ray) == 0]
    return rows


def _joined(found: Size, kind: Kind, dimension: int, seen: Matrix, lines: Matrix) -> Size:
    """Return what was found where it agrees; a ray in rationals replaces one that was not found."""
    if kind == found.kind:
        return found._replace(dimension=dimension)
    ray = alternative(seen, len(lines))[1] if kind == "unbounded" else None
    way = (
        None
        if ray is None
        else [sum((c * line[i] for c, line in zip(ray, lines, strict=True)), Fraction(0)) for i in range(len(lines[0]))]
    )
    v = None if way is None else np.array([float(c / max(abs(w) for w in way)) for c in way])
    unit = None if v is None else v / np.linalg.norm(v)
    return Size(kind, dimension, None, None, unit, 0.0 if kind == "singleton" else float("inf"), None)
