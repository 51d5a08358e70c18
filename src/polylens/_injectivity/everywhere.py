"""Whether the rows a.x + b that are at least 0 span the space at every point of a convex set.

Directions of which some row is active everywhere are settled first, row by row; what is left is asked in the orthogonal
complement of these, cell by cell of the hyperplanes or flat by flat of the rows. It is enough to ask open cells: on their
boundaries more rows are active, never fewer.
"""

from __future__ import annotations

from typing import NamedTuple, final

import numpy as np
import torch
from numpy.typing import NDArray

from .._types import Tolerance
from ..convert.arrays import dense
from ..domain import Domain
from ..subdivision import iter_cells
from . import spanning
from .collapse import Collapse, Rows, collapse_at, null_vector
from .place import Place

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

TOLERANCE = Tolerance()
EPS = 2.0**-52


class Verdict(NamedTuple):
    """True: `sigma` bounds the least singular value of the active rows, as long as they are, from below (0: not known).

    False: a collapse, None where one is known to exist but could not be verified. `checked` cells or flats were asked.
    """

    answer: bool | None
    checked: int = 0
    sigma: float = 0.0
    found: Collapse | None = None


@final
class Reduced(NamedTuple):
    """A layer on a place, without what is settled: rows that are never active, and directions that always have a row.

    `always` (k, dim) are rows of which one as long, along the same line, is active wherever one looks; `basis` (dim, r)
    spans what is orthogonal to them. `left` are the rows that matter beside them, of the given `lengths`, and `parts`
    (rows, r) their directions in the basis, of length 1.
    """

    layer: Rows
    place: Place
    always: Array
    basis: Array
    left: Rows
    lengths: Array
    parts: Array

    @property
    def rank(self) -> int:
        """The dimension of what is not settled."""
        return self.basis.shape[1]


def reduced(layer: Rows, lengths: Array, place: Place) -> Reduced:
    """Return what is left to ask, with every line whose rows cover the place taken as settled."""
    low, high = place.span(layer.rows, layer.offsets)
    always, settled = _covered(layer, lengths, low, high)
    sized = np.linalg.norm(always, axis=1)
    basis = spanning.complement(always / np.where(sized > 0, sized, 1.0)[:, None], layer.dim, 1e-9)
    parts = layer.rows @ basis
    size = np.linalg.norm(parts, axis=1)
    kept = ~settled & (high > 0) & (size > 1e-9)
    return Reduced(layer, place, always, basis, layer.select(kept), lengths[kept], parts[kept] / size[kept, None])


def _covered(layer: Rows, lengths: Array, low: Array, high: Array) -> tuple[Array, Mask]:
    """Return one row for every line that always has an active row, and which rows lie on such lines.

    With t = u.x along a line's direction u, rows along u are active for t >= p, the least of their thresholds, rows
    against it for t <= q: one is, for all t, iff q >= p; or p or q lies beyond what t reaches.
    """
    label, side = spanning.parallel(layer.rows, TOLERANCE.relative)
    count = int(label.max(initial=-1)) + 1
    threshold = -layer.offsets * side
    up, down = side > 0, side < 0
    p, q = np.full(count, np.inf), np.full(count, -np.inf)
    np.minimum.at(p, label[up], threshold[up])
    np.maximum.at(q, label[down], threshold[down])
    both = np.isfinite(p) & np.isfinite(q)
    meet = np.zeros(count, dtype=bool)
    meet[both] = q[both] >= p[both] - TOLERANCE.relative * (np.abs(p[both]) + np.abs(q[both]))
    longest, shortest = np.zeros(count), np.full(count, np.inf)
    np.maximum.at(longest, label[low >= 0], lengths[low >= 0])
    ends = threshold == np.where(up, p[label], q[label])
    np.minimum.at(shortest, label[ends], lengths[ends])
    always = (longest > 0) | meet
    size = np.where(longest > 0, longest, shortest)
    first = np.unique(label, return_index=True)[1][always]
    return layer.rows[first] * size[always, None], always[label]


# -- by cells


def by_cells(asked: Reduced, cells: Domain, limit: int) -> Verdict:
    """Answer by the patterns of all cells into which the rows cut the place, None beyond the limit."""
    left, count, sigma, sure = asked.left, 0, np.inf, True
    net = dense([(torch.from_numpy(left.rows), torch.from_numpy(left.offsets))], gate=["relu"])
    before = set[bytes]()
    for part in iter_cells(net, cells):
        count += len(part)
        patterns = part.patterns.pieces(0).numpy()
        values = spanning.least_values(asked.parts, patterns)
        failing = np.flatnonzero(values <= TOLERANCE.relative)
        for k, inner in zip(failing, part.centres()[failing] if len(failing) else (), strict=True):
            verdict = _failing(asked, patterns[k], inner, before)
            if verdict.answer is False:
                return verdict._replace(checked=count)
            sure = sure and verdict.answer is True
        good = patterns[values > TOLERANCE.relative]
        if len(good):
            sized = left.rows * asked.lengths[:, None]
            sigma = min(sigma, float(spanning.least_values(sized, good, asked.always).min()))
        if count > limit:
            return Verdict(None, count)
    return Verdict(True if sure else None, count, sigma)


def _failing(asked: Reduced, pattern: Mask, inner: Array, before: set[bytes]) -> Verdict:
    """Answer for a cell whose active rows do not span: False unless it lies outside of a round place, with a collapse.

    It does where all rows outside the flat of the active ones are below 0 at once nowhere in the place.
    """
    found = collapse_at(asked.layer, asked.place, inner)
    if found is not None:
        return Verdict(False, found=found)
    part = null_vector(asked.parts[pattern], asked.rank)
    if part is None:
        return Verdict(None)
    inside = np.abs(asked.parts @ part) <= TOLERANCE.relative
    key = np.packbits(inside).tobytes()
    if key in before:
        return Verdict(True)
    before.add(key)
    return _on_flat(asked, inside)


def _on_flat(asked: Reduced, inside: Mask) -> Verdict:
    """Answer whether all rows outside a flat are below 0 at once somewhere in the place (False, with a collapse there)."""
    found = asked.place.below(asked.left.rows[~inside], asked.left.offsets[~inside])
    if found.point is None:
        return Verdict(True if found.answer is False else None)
    collapse = collapse_at(asked.layer, asked.place, found.point)
    return Verdict(None) if collapse is None else Verdict(False, found=collapse)


# -- by flats


def by_flats(asked: Reduced) -> Verdict:
    """Answer by linear programs: for every flat of rank r - 1, whether all rows outside it can be below 0 at once."""
    found = spanning.flats(asked.parts, TOLERANCE.relative)
    sure = found.clear
    for count, inside in enumerate(found.members, 1):
        verdict = _on_flat(asked, inside)
        if verdict.answer is False:
            return verdict._replace(checked=count)
        sure = sure and verdict.answer is True
    return Verdict(True if sure else None, len(found.members))


def reflected(layer: Rows, place: Place, limit: int) -> Verdict:
    """Answer for |A x + b|: two points share it iff all rows but those of a flat vanish at their middle.

    Rows that keep their sign throughout lie in every such flat. None where there are more than `limit` sets of rows to ask.
    """
    low, high = place.span(layer.rows, layer.offsets)
    signed = (low > 0) | (high < 0)
    basis = spanning.complement(layer.rows[signed], layer.dim, 1e-9)
    parts = layer.rows[~signed] @ basis
    size = np.linalg.norm(parts, axis=1)
    seen = size > 1e-9
    if not basis.shape[1]:
        return Verdict(True)
    left, parts = layer.select(~signed).select(seen), parts[seen] / size[seen, None]
    if spanning.num_choices(len(parts), basis.shape[1]) > limit:
        return _even(layer, place)
    flats = spanning.flats(parts, TOLERANCE.relative)
    sure = flats.clear
    for count, (normal, inside) in enumerate(zip(flats.normals, flats.members, strict=True), 1):
        v = basis @ normal
        found = place.middle(left.rows[~inside], left.offsets[~inside], v)
        if found.point is not None and (collapse := _mirror(place, found.point, v)) is not None:
            return Verdict(False, count, found=collapse)
        sure = sure and found.answer is False
    return Verdict(True if sure else None, len(flats.members))


def _even(layer: Rows, place: Place) -> Verdict:
    """Answer False where all rows vanish at one point, around which |A x + b| is even; None otherwise."""
    v = layer.rows[0]
    found = place.middle(layer.rows, layer.offsets, v)
    collapse = None if found.point is None else _mirror(place, found.point, v)
    return Verdict(None) if collapse is None else Verdict(False, 1, found=collapse)


def _mirror(place: Place, x: Array, v: Array) -> Collapse | None:
    """Return the two points x - t v and x + t v that are farthest apart in the place, t at most 1 where it has no end."""
    back, ahead = place.chord(x, v)
    t = min(-back, ahead, 1.0 + float(np.linalg.norm(x)) if np.isinf(min(-back, ahead)) else np.inf)
    return Collapse(x, v, (-t, t)) if t > TOLERANCE.relative else None
