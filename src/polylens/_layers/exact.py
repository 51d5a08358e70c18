"""The kind and the dimension of a layer's preimage in rational arithmetic, for small layers."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from torch import Tensor

from ..errors import InputError
from ..polytope import Polytope
from .rational import Matrix, Vector, alternative, dot, exact, independent_columns, kernel
from .recession import Kind, Size

MOST_ENTRIES = 4096


def exact_size(weight: Tensor, bias: Tensor, x: Tensor, equal: Tensor | None, reachable: Polytope, found: Size) -> Size:
    """Return what was found with kind and dimension as they are in rationals; `equal` None: the positive pre-activations."""
    if weight.numel() > MOST_ENTRIES:
        raise InputError(f"exact: expected a layer of at most {MOST_ENTRIES} weights; got {weight.numel()}; leave it out")
    a, (b, point) = exact(weight.tolist()), exact([bias.tolist(), x.tolist()])
    z = [dot(row, point) + c for row, c in zip(a, b, strict=True)]
    on = [v > 0 for v in z] if equal is None else [True] * len(z)
    rows = [row for row, positive in zip(a, on, strict=True) if positive]
    less = [(row, -v) for row, v, positive in zip(a, z, on, strict=True) if not positive]
    for row, bound in zip(exact(reachable.matrix.tolist()), exact([reachable.bound.tolist()])[0], strict=True):
        less.append((row, bound - dot(row, point)))
    lines = kernel(rows, len(point))
    if not lines:
        return found._replace(kind="singleton", dimension=0)
    seen = [[dot(row, line) for line in lines] for row, _ in less]
    kind, dimension = _kind(seen, [slack for _, slack in less], len(lines))
    return _joined(found, kind, dimension, seen, lines)


def _kind(seen: Matrix, slack: Vector, dim: int) -> tuple[Kind, int]:
    tight = [row for row, s in zip(seen, slack, strict=True) if s <= 0]
    dimension = dim - len(independent_columns(_implicit(tight, dim), dim))
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
