"""Small piecewise-linear networks in rational arithmetic: floats are rationals, so nothing is rounded.

Where two decisions lie within rounding of one another, this says which comes first, or that they are one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple, cast, final

import torch
from torch import Tensor

from .gates import Choice, Gate, MaxGate, spread
from .network import Network
from .steps import Affine, flat

MOST_ENTRIES = 4096  # of the matrices of all affine steps: a pass takes some milliseconds
ZERO = Fraction(0)

Vector = list[Fraction]
Motion = tuple[Fraction, Fraction]  # a value and its derivative along a ray


class _Row(NamedTuple):
    """One output of an affine step: coefficients of entries (input of the step, position), and the constant."""

    terms: list[tuple[int, int, Fraction]]
    constant: Fraction


class _Pieces(NamedTuple):
    """A gate's breakpoints, slopes and intercepts for every unit, and which breakpoints are of the piece above."""

    breakpoints: list[Vector]
    slopes: list[Vector]
    intercepts: list[Vector]
    inclusive: tuple[int, ...]


class _Contest(NamedTuple):
    """The candidates of every output of a max-gate, and 1 for the largest, -1 for the smallest."""

    candidates: list[list[int]]
    sign: int


@final
@dataclass(frozen=True, eq=False, slots=True)
class RationalNetwork:
    """The nodes of a network as rows of rationals and gates; `names` are those of its gates in their order."""

    nodes: list[tuple[tuple[int, ...], list[_Row] | _Pieces | _Contest]]
    names: list[str]

    @classmethod
    def of(cls, net: Network) -> RationalNetwork | None:
        """Return a network in rationals, None where it is too large or not piecewise linear."""
        sizes = [math.prod(net.input_shape), *(math.prod(net.shape_of(k)) for k in range(1, len(net.nodes) + 1))]
        affine = [(k, n) for k, n in enumerate(net.nodes, 1) if isinstance(n.step, Affine)]
        if net.smooth_steps or sum(sizes[k] * sum(sizes[i] for i in n.inputs) for k, n in affine) > MOST_ENTRIES:
            return None
        net = net.to(dtype=torch.float64, device="cpu")
        nodes: list[tuple[tuple[int, ...], list[_Row] | _Pieces | _Contest]] = []
        for node in net.nodes:
            shapes = [net.shape_of(i) for i in node.inputs]
            nodes.append((node.inputs, _step(node.step, shapes)))
        return cls(nodes, [g.name for g in net.nodes if isinstance(g.step, Choice)])

    def along(self, point: Vector, direction: Vector) -> tuple[list[list[int]], Fraction | None]:
        """Return the pieces of all gates just behind a point in a direction, and how far the next wall is, None for none."""
        values: list[list[tuple[Fraction, Fraction]]] = [list(zip(point, direction, strict=True))]
        pieces, nearest = list[list[int]](), list[Fraction]()
        for inputs, step in self.nodes:
            read = [values[i] for i in inputs]
            if isinstance(step, list):
                values.append([_combined(row, read) for row in step])
                continue
            chosen, out, walls = _gated(step, read[0]) if isinstance(step, _Pieces) else _contested(step, read[0])
            pieces.append(chosen)
            values.append(out)
            nearest += [gap / speed for gap, speed in walls if gap > 0 and speed > 0]
        return pieces, min(nearest, default=None)

    def crossings(self, point: Vector, direction: Vector) -> Iterator[tuple[Fraction, list[list[int]]]]:
        """Yield where a ray changes region and the pieces behind, those just behind its start first, at 0."""
        t, last = ZERO, list[list[int]]()
        ahead: Fraction | None = ZERO
        while ahead is not None:
            t += ahead
            pieces, ahead = self.along([x + t * v for x, v in zip(point, direction, strict=True)], direction)
            if pieces != last:
                yield t, pieces
            last = pieces

    def jacobian(self, point: Vector, value: int) -> list[Vector]:
        """Return the rows of the derivative of a value at a point, the gates on the pieces that `along` gives there."""
        still = [ZERO] * len(point)
        pieces = iter(self.along(point, still)[0])
        found = [[[Fraction(int(i == j)) for j in range(len(point))] for i in range(len(point))]]
        for inputs, step in self.nodes[:value]:
            read = [found[i] for i in inputs]
            if isinstance(step, list):
                found.append([_summed([(c, read[i][j]) for i, j, c in row.terms], len(point)) for row in step])
            elif isinstance(step, _Pieces):
                chosen = next(pieces)
                found.append([[step.slopes[p][u] * v for v in read[0][u]] for u, p in enumerate(chosen)])
            else:
                found.append([read[0][step.candidates[u][p]] for u, p in enumerate(next(pieces))])
        return found[value]


def rationals(x: Tensor) -> Vector:
    """Return the entries of a tensor as the rationals that they are."""
    return [Fraction(v) for v in x.reshape(-1).tolist()]


def rank(rows: Sequence[Vector]) -> int:
    """Return the rank by elimination."""
    left, found = [row for row in rows if any(row)], 0
    while left:
        pivot = left.pop()
        column = next(j for j, v in enumerate(pivot) if v)
        found += 1
        reduced = ([v - row[column] / pivot[column] * w for v, w in zip(row, pivot, strict=True)] for row in left)
        left = [row for row in reduced if any(row)]
    return found


def _step(step: object, shapes: Sequence[tuple[int, ...]]) -> list[_Row] | _Pieces | _Contest:
    if isinstance(step, Affine):
        return _rows(step, shapes)
    if isinstance(step, Gate):
        limits, slopes, intercepts = (
            [rationals(row) for row in spread(t, shapes[0])] for t in (step.breakpoints, step.slopes, step.intercepts)
        )
        return _Pieces(limits, slopes, intercepts, step.inclusive)
    gate = cast(MaxGate, step)
    return _Contest(gate.candidates(shapes[0]).tolist(), 1 if gate.largest else -1)


def _rows(step: Affine, shapes: Sequence[tuple[int, ...]]) -> list[_Row]:
    """Return the rows of an affine step: images of unit vectors are single products, which are not rounded."""
    constants = rationals(step.apply(*(torch.zeros(1, *s, dtype=torch.float64) for s in shapes)))
    terms: list[list[tuple[int, int, Fraction]]] = [[] for _ in constants]
    for i, shape in enumerate(shapes):
        count = math.prod(shape)
        units = [torch.zeros(count, *s, dtype=torch.float64) for s in shapes]
        units[i] = torch.eye(count, dtype=torch.float64).reshape(count, *shape)
        for j, image in enumerate(flat(step.linear(*units), 1).tolist()):
            for row, c in zip(terms, image, strict=True):
                if c:
                    row.append((i, j, Fraction(c)))
    return [_Row(t, c) for t, c in zip(terms, constants, strict=True)]


def _combined(row: _Row, read: list[list[Motion]]) -> Motion:
    value = sum((c * read[i][j][0] for i, j, c in row.terms), row.constant)
    return value, sum((c * read[i][j][1] for i, j, c in row.terms), ZERO)


def _summed(terms: list[tuple[Fraction, Vector]], length: int) -> Vector:
    total = [ZERO] * length
    for c, row in terms:
        total = [t + c * v if v else t for t, v in zip(total, row, strict=True)]
    return total


def _gated(gate: _Pieces, read: list[Motion]) -> tuple[list[int], list[Motion], list[Motion]]:
    """Return pieces, values and the walls of a gate: how far each is and how fast it is approached."""
    chosen, out, walls = list[int](), list[Motion](), list[Motion]()
    for u, (z, dz) in enumerate(read):
        limits = [row[u] for row in gate.breakpoints]
        ahead = [dz >= 0 if k in gate.inclusive else dz > 0 for k in range(len(limits))]
        p = sum(z > t or (z == t and up) for t, up in zip(limits, ahead, strict=True))
        chosen.append(p)
        out.append((gate.slopes[p][u] * z + gate.intercepts[p][u], gate.slopes[p][u] * dz))
        walls += [(limits[p] - z, dz)] if p < len(limits) else []
        walls += [(z - limits[p - 1], -dz)] if p else []
    return chosen, out, walls


def _contested(gate: _Contest, read: list[Motion]) -> tuple[list[int], list[Motion], list[Motion]]:
    chosen, out, walls = list[int](), list[Motion](), list[Motion]()
    for row in gate.candidates:
        seen = [(k, (gate.sign * read[j][0], gate.sign * read[j][1])) for k, j in enumerate(row) if j >= 0]
        p, (z, dz) = max(seen, key=lambda entry: (entry[1], -entry[0]))
        chosen.append(p)
        out.append(read[row[p]])
        walls += [(z - other, speed - dz) for k, (other, speed) in seen if k != p]
    return chosen, out, walls
