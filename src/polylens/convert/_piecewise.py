"""Piecewise-affine functions of one number, in rationals: what comparisons, signs and choices of a value are of it.

Between knots a function is affine, and at each knot it has a value of its own, so that > and >= differ.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

Part = tuple[Fraction, Fraction]  # slope and intercept
ZERO, ONE = Fraction(0), Fraction(1)


@dataclass(frozen=True, slots=True)
class Piecewise:
    """The function that is `parts[k]` between knots k - 1 and k, which ascend, and `values[k]` at knot k."""

    knots: tuple[Fraction, ...]
    parts: tuple[Part, ...]
    values: tuple[Fraction, ...]

    def at(self, x: Fraction) -> Fraction:
        """Return the value at a number."""
        k = bisect_left(self.knots, x)
        if k < len(self.knots) and self.knots[k] == x:
            return self.values[k]
        slope, intercept = self.parts[k]
        return slope * x + intercept

    def refined(self, knots: Sequence[Fraction]) -> Piecewise:
        """Return the same function with further knots."""
        every = tuple(sorted({*self.knots, *knots}))
        parts = tuple(self.parts[bisect_left(self.knots, between)] for between in _between(every))
        return Piecewise(every, parts, tuple(self.at(x) for x in every))

    def __add__(self, other: Piecewise) -> Piecewise:
        f, g = self.refined(other.knots), other.refined(self.knots)
        parts = tuple((a + c, b + d) for (a, b), (c, d) in zip(f.parts, g.parts, strict=True))
        return Piecewise(f.knots, parts, tuple(u + v for u, v in zip(f.values, g.values, strict=True)))

    def times(self, other: Piecewise) -> Piecewise | None:
        """Return the product, None where both factors vary at once."""
        f, g = self.refined(other.knots), other.refined(self.knots)
        pairs = list(zip(f.parts, g.parts, strict=True))
        if any(a and c for (a, _), (c, _) in pairs):
            return None
        parts = tuple((a * d + b * c, b * d) for (a, b), (c, d) in pairs)
        return Piecewise(f.knots, parts, tuple(u * v for u, v in zip(f.values, g.values, strict=True)))

    def scaled(self, factor: Fraction) -> Piecewise:
        """Return factor times the function."""
        parts = tuple((factor * a, factor * b) for a, b in self.parts)
        return Piecewise(self.knots, parts, tuple(factor * v for v in self.values))

    def behind(self, inner: Piecewise) -> Piecewise:
        """Return this function of the values of another one."""
        edges = (None, *inner.knots, None)
        crossings = [
            (t - b) / a
            for (a, b), low, high in zip(inner.parts, edges[:-1], edges[1:], strict=True)
            for t in self.knots
            if a and (low is None or low < (t - b) / a) and (high is None or (t - b) / a < high)
        ]
        fine = inner.refined(crossings)
        parts = tuple(self._along(part, x) for part, x in zip(fine.parts, _between(fine.knots), strict=True))
        return Piecewise(fine.knots, parts, tuple(self.at(v) for v in fine.values))

    def _along(self, inner: Part, x: Fraction) -> Part:
        """Return the part that this function is of an affine one near x, where it crosses no knot."""
        a, b = inner
        if not a:
            return ZERO, self.at(b)
        slope, intercept = self.parts[bisect_left(self.knots, a * x + b)]
        return slope * a, slope * b + intercept

    def simplified(self) -> Piecewise:
        """Return the function without the knots at which nothing changes."""
        kept = [k for k, x in enumerate(self.knots) if self.parts[k] != self.parts[k + 1] or not self._joins(k, k, x)]
        parts = (self.parts[0], *(self.parts[k + 1] for k in kept))
        return Piecewise(tuple(self.knots[k] for k in kept), parts, tuple(self.values[k] for k in kept))

    @property
    def is_indicator(self) -> bool:
        """Whether all values are 0 or 1."""
        return all(not a and b in (0, 1) for a, b in self.parts) and all(v in (0, 1) for v in self.values)

    def inclusive(self) -> tuple[int, ...] | None:
        """Return the knots at which the value is that of the part above and not below; None if it is neither's at some."""
        above = [k for k, x in enumerate(self.knots) if not self._joins(k, k, x)]
        return tuple(above) if all(self._joins(k, k + 1, self.knots[k]) for k in above) else None

    def _joins(self, knot: int, part: int, x: Fraction) -> bool:
        slope, intercept = self.parts[part]
        return self.values[knot] == slope * x + intercept


def _between(knots: Sequence[Fraction]) -> list[Fraction]:
    """Return a number in front of all knots, one between each two, and one behind them."""
    if not knots:
        return [ZERO]
    return [knots[0] - 1, *((a + b) / 2 for a, b in itertools.pairwise(knots)), knots[-1] + 1]


IDENTITY = Piecewise((), ((ONE, ZERO),), ())
SIGN = Piecewise((ZERO,), ((ZERO, -ONE), (ZERO, ONE)), (ZERO,))


def constant(value: Fraction) -> Piecewise:
    """Return the function that is one number everywhere."""
    return Piecewise((), ((ZERO, value),), ())


def step(at: Fraction) -> Piecewise:
    """Return the function that is 1 above 0, `at` at 0, and 0 below."""
    return Piecewise((ZERO,), ((ZERO, ZERO), (ZERO, ONE)), (at,))


def spike() -> Piecewise:
    """Return the function that is 1 at 0 and 0 elsewhere."""
    return Piecewise((ZERO,), ((ZERO, ZERO), (ZERO, ZERO)), (ONE,))
