"""Slow and obvious: whether a small layer is injective, in rational arithmetic, by Fourier and Motzkin's elimination."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import NamedTuple

from oracles import exact, rank

Row = tuple[tuple[Fraction, ...], Fraction, bool]  # coefficients a, constant b, strict: a.x + b < 0, or <= 0


class System(NamedTuple):
    """a.x + b = 0 for all of `equal`, and what `less` says."""

    equal: list[tuple[tuple[Fraction, ...], Fraction]]
    less: list[Row]


def row(a: Sequence[Fraction], b: Fraction, *, strict: bool, sign: int = 1) -> Row:
    """Return sign (a.x + b) < 0, or <= 0."""
    return tuple(sign * v for v in a), sign * b, strict


def feasible(system: System, dim: int) -> bool:
    """Say whether a system has a solution: equalities are solved for a variable each, then variables eliminated."""
    equal, less = list(system.equal), list(system.less)
    while equal:
        a, b = equal.pop()
        j = next((k for k in range(dim) if a[k]), None)
        if j is None:
            if b:
                return False
            continue
        equal = [_replaced(c, d, a, b, j) for c, d in equal]
        less = [(*_replaced(c, d, a, b, j), strict) for c, d, strict in less]
    for j in range(dim):
        less = _eliminated(less, j)
    return all(b < 0 or (b == 0 and not strict) for _, b, strict in less)


def _replaced(
    c: tuple[Fraction, ...], d: Fraction, a: tuple[Fraction, ...], b: Fraction, j: int
) -> tuple[tuple[Fraction, ...], Fraction]:
    ratio = c[j] / a[j]
    return tuple(x - ratio * y for x, y in zip(c, a, strict=True)), d - ratio * b


def _eliminated(rows: list[Row], j: int) -> list[Row]:
    """Return what rows say of the other variables, each once, scaled to a largest coefficient of size 1."""
    rest = [r for r in rows if not r[0][j]]
    above, below = [r for r in rows if r[0][j] > 0], [r for r in rows if r[0][j] < 0]
    for (a, b, s), (c, d, t) in itertools.product(above, below):
        p, q = 1 / a[j], -1 / c[j]
        rest.append((tuple(p * x + q * y for x, y in zip(a, c, strict=True)), p * b + q * d, s or t))
    tightest = dict[tuple[Fraction, ...], tuple[Fraction, bool]]()
    for a, b, strict in rest:
        size = max((abs(v) for v in a), default=Fraction(0)) or Fraction(1)
        key, value = tuple(v / size for v in a), (b / size, strict)
        tightest[key] = max(tightest.get(key, value), value)
    return [(a, b, strict) for a, (b, strict) in tightest.items()]


def box(low: Sequence[float], high: Sequence[float], *, strict: bool) -> list[Row]:
    """Return the rows of a box."""
    rows = []
    for k, (a, b) in enumerate(zip(low, high, strict=True)):
        e = tuple(Fraction(int(i == k)) for i in range(len(low)))
        rows += [row(e, -Fraction(b), strict=strict), row(e, -Fraction(a), strict=strict, sign=-1)]
    return rows


def relu_collapses(weight: Sequence[Sequence[float]], bias: Sequence[float], inside: list[Row]) -> bool:
    """Say whether some set of rows that does not span holds all rows that are active at a point of an open set."""
    rows, offsets = exact(weight), exact([bias])[0]
    dim = len(rows[0])
    for kept in itertools.product([False, True], repeat=len(rows)):
        if rank([r for r, k in zip(rows, kept, strict=True) if k]) == dim:
            continue
        less = [row(a, b, strict=True) for a, b, k in zip(rows, offsets, kept, strict=True) if not k]
        if feasible(System([], less + inside), dim):
            return True
    return False


def shares_an_output(weight: Sequence[Sequence[float]], bias: Sequence[float], gate: str, sides: list[Row]) -> bool:
    """Say by the definition whether two inputs x != x' have one output: row by row, all ways in which they can."""
    rows, offsets = exact(weight), exact([bias])[0]
    dim = len(rows[0])
    zero = (Fraction(0),) * dim
    within = [(a + zero, b, strict) for a, b, strict in sides] + [(zero + a, b, strict) for a, b, strict in sides]
    apart = list(_units(dim))
    for ways in itertools.product(range(2), repeat=len(rows)):
        parts = [_same(tuple(a), b, gate, way) for a, b, way in zip(rows, offsets, ways, strict=True)]
        equal, less = [e for p in parts for e in p.equal], [r for p in parts for r in p.less]
        if any(feasible(System(equal, less + within + [e]), 2 * dim) for e in apart):
            return True
    return False


def _same(a: tuple[Fraction, ...], b: Fraction, gate: str, way: int) -> System:
    """Return one of the two ways in which a unit has one output for x and x'."""
    minus, zero = tuple(-v for v in a), (Fraction(0),) * len(a)
    if gate == "abs":
        return System([(a + (minus if way else a), Fraction(0) if way else 2 * b)], [])
    if way:
        return System([(a + minus, Fraction(0))], [(minus + zero, -b, False)])
    return System([], [(a + zero, b, False), (zero + a, b, False)])


def _units(dim: int) -> Iterator[Row]:
    """Yield x_j < x'_j and x_j > x'_j for every j."""
    for j, sign in itertools.product(range(dim), (1, -1)):
        e = tuple(Fraction(sign * int(i == j)) for i in range(dim))
        yield e + tuple(-v for v in e), Fraction(0), True
