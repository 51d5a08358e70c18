"""Which sets of rows span the space: least singular values of many sets at once, flats of rank n - 1, parallel rows.

Rows have length 1, so that a row's length decides nothing; residues are relative to that.
"""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

EPS = 2.0**-52
CLEAR = 1e-6  # a least singular value of this, squared, is far above the rounding of products
_ENTRIES = 1 << 23  # of the largest array that one batch takes


class Flats(NamedTuple):
    """The maximal sets of rows that do not span: unit `normals` (flats, dim) and `members` (flats, rows).

    Not `clear` where some rows are so nearly dependent that what their flat holds is a matter of rounding.
    """

    normals: Array
    members: Mask
    clear: bool


def unit(rows: Array) -> tuple[Array, Array]:
    """Return rows of length 1 (those of zeros stay) and the lengths."""
    norms = np.linalg.norm(rows, axis=1)
    return rows / np.where(norms > 0, norms, 1.0)[:, None], norms


def batches(count: int, entries: int) -> list[slice]:
    """Return slices of `count` things, each of so many entries, that fit into memory together."""
    step = max(1, _ENTRIES // max(1, entries))
    return [slice(k, min(count, k + step)) for k in range(0, count, step)]


def least_values(rows: Array, chosen: Mask, base: Array | None = None) -> Array:
    """Return the least singular value of every choice (sets, rows) of rows (rows, dim), those of `base` always among them.

    Algorithm: eigenvalues of sums of outer products; singular values proper where those are within reach of rounding.
    """
    m, d = rows.shape
    outer = (rows[:, :, None] * rows[:, None, :]).reshape(m, d * d)
    fixed = np.zeros((0, d)) if base is None else base
    always = fixed.T @ fixed
    found = np.empty(len(chosen))
    for part in batches(len(chosen), d * d + m):
        gram = (chosen[part].astype(float) @ outer).reshape(-1, d, d) + always
        found[part] = np.sqrt(np.maximum(np.linalg.eigvalsh(gram)[:, 0], 0.0))
    size = float(np.sqrt(np.linalg.norm(outer.sum(0).reshape(d, d) + always, 2))) if d else 0.0
    for k in np.flatnonzero(found <= CLEAR * max(1.0, size)):
        found[k] = least_value(np.vstack([rows[chosen[k]], fixed]))
    return found


def right_values(rows: Array) -> tuple[Array, Array]:
    """Return the singular values of rows (k, dim) and all of their right singular vectors (dim, dim), by rows.

    Tall ones are brought to a triangle first.
    """
    k, dim = rows.shape
    small = np.linalg.qr(rows, mode="r") if k > 2 * dim else rows
    _, values, right = np.linalg.svd(small, full_matrices=k < dim)
    return np.asarray(values, dtype=np.float64), np.asarray(right, dtype=np.float64)


def least_value(rows: Array) -> float:
    """Return the least singular value of rows (k, dim): 0 for fewer than dim, from products where those are clear."""
    if len(rows) < rows.shape[1]:
        return 0.0
    values = np.linalg.eigvalsh(rows.T @ rows)
    if values[0] > CLEAR**2 * max(1.0, values[-1]):
        return float(np.sqrt(values[0]))
    return float(right_values(rows)[0][-1])


def complement(rows: Array, dim: int, relative: float) -> Array:
    """Return an orthonormal basis (dim, k) of what is orthogonal to unit rows; `relative` is what counts as dependent."""
    if not len(rows):
        return np.eye(dim)
    values, right = right_values(rows)
    rank = int((values > relative * values.max(initial=0.0)).sum())
    return np.ascontiguousarray(right[rank:].T)


def num_choices(rows: int, dim: int) -> int:
    """Return how many sets of dim - 1 rows there are, none for dim = 0."""
    return math.comb(rows, dim - 1) if dim else 0


def flats(rows: Array, relative: float) -> Flats:
    """Return the maximal sets of unit rows (rows, dim) whose rank is dim - 1; the rows span, dim >= 1.

    Algorithm: the normals of all independent sets of dim - 1 rows, no two of which are parallel.
    """
    m, d = rows.shape
    label, _ = parallel(rows, relative)
    _, first = np.unique(label, return_index=True)
    if d == 1:
        return Flats(np.ones((1, 1)), np.zeros((1, m), dtype=bool), True)
    chosen = np.array(list(itertools.combinations(first, d - 1)), dtype=np.int64).reshape(-1, d - 1)
    normals, members, clear = [], [], True
    for part in batches(len(chosen), d * d + m):
        _, values, right = np.linalg.svd(rows[chosen[part]], full_matrices=True)
        independent = values[:, -1] > 4 * d * EPS
        normal, sure = right[independent, -1], values[independent, -1]
        inside = np.abs(normal @ rows.T) <= relative / sure[:, None]
        inside[np.arange(len(inside))[:, None], chosen[part][independent]] = True
        clear = clear and bool((sure > CLEAR).all())
        normals.append(normal)
        members.append(inside)
    every, held = np.concatenate(normals), np.concatenate(members)
    _, kept = np.unique(np.packbits(held, axis=1), axis=0, return_index=True)
    return Flats(every[kept], held[kept], clear)


def parallel(rows: Array, relative: float) -> tuple[NDArray[np.int64], Array]:
    """Return for unit rows the number of the line that each lies on, and +1 or -1 for its side of that line.

    Algorithm: lines that are equal have equal projections onto a random vector, next to one another when sorted.
    """
    m, d = rows.shape
    probe = np.random.default_rng(0).standard_normal(d)
    place = rows @ probe
    side = np.where(place >= 0, 1.0, -1.0)
    order = np.argsort(place * side, kind="stable")
    turned = (rows * side[:, None])[order]
    same = np.zeros(m, dtype=bool)
    same[1:] = np.abs(turned[1:] - turned[:-1]).max(1, initial=0.0) <= relative
    label = np.empty(m, dtype=np.int64)
    label[order] = np.cumsum(~same) - 1
    return label, side
