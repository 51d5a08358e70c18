"""Are activation patterns those of independent units? The variance of their distances against permutations, and what the
mean distance alone could tell.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import numpy as np
import torch
from torch import Tensor

from . import _moments
from ._check import whole
from ._progress import progress
from ._types import Result
from .errors import InputError
from .geometry.sampling import Seed, generator_of
from .pattern import Patterns

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = np.ndarray[Any, Any]


@final
@dataclass(frozen=True, eq=False, slots=True, repr=False)
class FairBits(Result):
    """The mean distance of `pairs` random pairs beside that of vectors of fair bits: a test of balance, not of independence.

    `mean` is the observed one, `null` (draws,) those of as many pairs of Bernoulli(1/2) vectors, `p_lower` and `p_upper` the
    shares (r + 1) / (draws + 1) of draws at most and at least as large, `p_value` twice the lesser, at most 1. `z` says how
    many of the null's standard deviations lie between, which goes on where draws have run out.

    The mean distance is sum 2 p (1 - p) whatever the units have to do with one another: unbalanced units lower it, and
    dependent ones that are balanced leave it alone. And pairs share inputs, so for any patterns of a network it varies more
    than the null's, whose vectors are drawn anew for every pair: small values of p come too easily.
    """

    mean: float
    num_units: int
    pairs: int
    null: Tensor
    p_lower: float
    p_upper: float

    def __repr__(self) -> str:
        return f"FairBits(mean {self.mean:.2f} of {self.num_units} units, p = {self.p_value:.3g})"

    @property
    def p_value(self) -> float:
        """The two-sided p-value."""
        return min(1.0, 2 * min(self.p_lower, self.p_upper))

    @property
    def z(self) -> float:
        """The observed mean in standard deviations of the null around its mean, half the number of units."""
        return (self.mean - self.num_units / 2) / math.sqrt(self.num_units / 4 / self.pairs)

    def summary(self) -> str:
        tail = f"{self.p_lower:.3g} for as low a mean, {self.p_upper:.3g} for as high a one"
        return "\n".join(
            [
                f"mean distance of {self.pairs:,} pairs {self.mean:.3f}; of fair independent bits {self.num_units / 2:g}",
                f"  p = {self.p_value:.3g}, two-sided over {len(self.null):,} draws ({tail}); {self.z:+.1f} deviations",
                "  a small p says that units are not balanced; of dependence between units the mean says nothing",
            ]
        )

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Draw the mean distance beside those of fair bits; `polylens.plotting.patterns` has the options."""
        axes: Axes = importlib.import_module("polylens.plotting.patterns").draw(self, ax, **options)
        return axes

    def to_dict(self) -> dict[str, Any]:
        sides = {"p_value": self.p_value, "p_lower": self.p_lower, "p_upper": self.p_upper, "z": self.z}
        known = {"mean": self.mean, "units": self.num_units, "pairs": self.pairs, "draws": len(self.null)}
        return {**known, **sides, "null_mean": self.num_units / 2}


@final
@dataclass(frozen=True, eq=False, slots=True, repr=False)
class Independence(Result):
    """A permutation test of independent units: `statistic` T, and what permutations made of it, `null` (permutations,).

    T is the `variance` of the distance over all pairs of inputs, divided by the variance that independent units would give
    it: sum q (1 - q), with q the share of pairs that a unit tells apart. About 1 for independent units, whatever their
    frequencies; larger where units go together or against one another. `p_value` = (r + 1) / (B + 1), where r of B
    permutations reach T; `p_lower` the same of those that do not exceed it. Where no unit switches, T is NaN and both are 1.

    `inputs` and `num_units` say what was tested, `of_inputs` out of how many inputs. `fair_bits` is the test of the mean
    distance against Bernoulli(1/2) vectors, None where units have more than two pieces.
    """

    statistic: float
    p_value: float
    p_lower: float
    null: Tensor
    variance: float
    independent_variance: float
    inputs: int
    of_inputs: int
    num_units: int
    what: str
    fair_bits: FairBits | None

    def __repr__(self) -> str:
        return f"Independence(T = {self.statistic:.3f}, p = {self.p_value:.3g}, {self.inputs} inputs, {self.num_units} units)"

    @property
    def excess(self) -> float:
        """How far T lies above the permutations' mean, in their standard deviations; NaN for fewer than two."""
        spread = float(self.null.std()) if len(self.null) > 1 else math.nan
        return (self.statistic - float(self.null.mean())) / spread if spread else math.nan

    def summary(self) -> str:
        part = "" if self.inputs == self.of_inputs else f" (drawn from {self.of_inputs:,})"
        lines = [f"independence of {self.num_units:,} {self.what} over {self.inputs:,} inputs{part}"]
        if math.isnan(self.statistic):
            return "\n".join([*lines, "  none of them ever switches, so there is nothing to test"])
        lines += [
            f"  the distance of pairs varies {self.statistic:.3f} times as much as with independent {self.what} of the same",
            f"  frequencies (variance {self.variance:.2f}, independent {self.independent_variance:.2f})",
            f"  p = {self.p_value:.3g} for as much, {self.p_lower:.3g} for as little, over {len(self.null):,} permutations "
            "within units;",
            "  sees dependence in pairs of units, whatever their frequencies; not what only three or more have to do",
        ]
        fair = [] if self.fair_bits is None else ["  " + line for line in self.fair_bits.summary().split("\n")]
        return "\n".join([*lines, *fair])

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Draw the observed value beside those of permutations; `polylens.plotting.patterns` has the options."""
        axes: Axes = importlib.import_module("polylens.plotting.patterns").draw(self, ax, **options)
        return axes

    def to_dict(self) -> dict[str, Any]:
        known = {"p_value": self.p_value, "p_lower": self.p_lower, "permutations": len(self.null), "variance": self.variance}
        size = {"inputs": self.inputs, "of_inputs": self.of_inputs, "units": self.num_units, "what": self.what}
        independent = {"independent_variance": self.independent_variance}
        fair = None if self.fair_bits is None else self.fair_bits.to_dict()
        statistic = None if math.isnan(self.statistic) else self.statistic
        return {"statistic": statistic, **known, **independent, **size, "fair_bits": fair}


def independence_test(
    patterns: Patterns,
    *,
    permutations: int = 199,
    inputs: int | None = 2000,
    pairs: int = 10_000,
    draws: int = 1000,
    seed: Seed = 0,
) -> Independence:
    """Return whether the patterns look like those of independent units, by permuting each unit's column on its own.

    Permutations keep how often every unit is on each piece and break what units have to do with one another. For independent
    units all arrangements are equally likely, so the p-value is exact: it is at most a with probability at most a. T is
    governed by squared covariances of pairs of units: dependence that no pair of units shows is not seen.

    Args:
        patterns: of one layer (`patterns.layer(...)`) or of several, whose units are then tested together. Windows of
            max-gates are left out, unless there is nothing else.
        permutations: B; the p-value is a multiple of 1 / (B + 1).
        inputs: at most so many inputs, drawn without replacement, or None for all; what T and permutations are computed on.
        pairs: of random pairs of all inputs, whose mean distance is held against fair bits.
        draws: of that mean under fair bits; each is a binomial number divided by `pairs`, which is its exact distribution.
        seed: an int or a `torch.Generator`.

    Raises:
        InputError: fewer than three patterns; no units; counts below 1; more than 16 384 units.

    Algorithm: T grows with sum_jk G_jk^2, G the product of signs, and with nothing else that permutations change; that sum is a
    whole number, so ties are exact. O(inputs * units^2) time for each permutation, memory O(inputs * units + units^2):
    2 000 inputs of 256 units take about 20 ms.

    References:
        B. Phipson and G. K. Smyth, Permutation p-values should never be zero, 2010.

    Example:
        >>> import torch
        >>> from polylens import Patterns, UnitLayer, independence_test
        >>> bits = torch.rand(300, 20, generator=torch.Generator().manual_seed(0)) < 0.3
        >>> layer = UnitLayer("relu1", "relu", (40,))
        >>> twice = Patterns.from_pieces([layer], [torch.cat([bits, bits], 1)])  # every unit has a twin
        >>> found = independence_test(twice, permutations=99)
        >>> found.p_value, round(found.statistic, 1)
        (0.01, 2.0)
    """
    counts = {"permutations": permutations, "pairs": pairs, "draws": draws} | ({} if inputs is None else {"inputs": inputs})
    for what, count in counts.items():
        whole(count, what)
    tested, what = _tested(patterns)
    generator = generator_of(seed)
    drawn = _some(tested, inputs, generator)
    random = np.random.default_rng(int(torch.randint(2**62, (), generator=generator, device=generator.device)))
    fair = _fair_bits(tested, pairs, draws, random) if all(a.num_pieces <= 2 for a in tested.layers) else None
    return _permuted(drawn, permutations, random, what, len(patterns), fair)


def _tested(patterns: Patterns) -> tuple[Patterns, str]:
    """Return the patterns of the units alone, or of the windows where there are no units, and the word for them."""
    windows = patterns.num_units == 0
    chosen = [i for i, layer in enumerate(patterns.layers) if layer.is_max == windows]
    size = patterns.num_windows if windows else patterns.num_units
    if len(patterns) < 3 or not size:
        raise InputError(f"independence_test: expected three patterns or more, with units; got {patterns!r}")
    return patterns.layer(*chosen), "windows" if windows else "units"


def _some(patterns: Patterns, count: int | None, generator: torch.Generator) -> Patterns:
    if count is None or count >= len(patterns):
        return patterns
    if count < 3:
        raise InputError(f"inputs: expected at least 3 of them, or None for all; got {count}")
    order = torch.randperm(len(patterns), generator=generator, device=generator.device).cpu()
    return patterns[order[:count].sort().values]


def _permuted(p: Patterns, permutations: int, random: Any, what: str, of: int, fair: FairBits | None) -> Independence:
    """Return T and its values under permutations: all from the sums of squares of products, which decide the comparison."""
    columns = np.ascontiguousarray(np.concatenate([p.pieces(i).flatten(1).numpy().T for i in range(len(p.layers))]))
    codes, count = p.codes(), len(p)
    if len(codes.weight) > 1 << 14:
        raise InputError(f"independence_test: expected at most {1 << 14} units; got {len(codes.weight)}; take fewer layers")
    sums = _moments.total(p.code_blocks, len(codes.weight))

    def squares_of(arrangement: Patterns) -> Array:
        return _moments.squares(_moments.gram(arrangement.code_blocks, len(codes.weight)), codes)

    observed = squares_of(p)
    null = [squares_of(q) for q in progress(_arrangements(p, columns, permutations, random), permutations, "permutations")]
    r = [int(s.sum()) for s in null]
    expected = _independent_variance(p)
    variance = [float(_moments.covariances(count, sums, s, codes)[1].sum()) for s in [observed, *null]]
    ratio = np.array(variance) / expected if expected else np.full(len(variance), math.nan)
    reached = int(observed.sum())
    upper, lower = (1 + sum(x >= reached for x in r)), (1 + sum(x <= reached for x in r))
    return Independence(
        float(ratio[0]),
        upper / (permutations + 1),
        lower / (permutations + 1),
        torch.from_numpy(ratio[1:].copy()),
        variance[0],
        expected,
        count,
        of,
        sum(layer.num_units for layer in p.layers),
        what,
        fair,
    )


def _arrangements(p: Patterns, columns: Array, count: int, random: Any) -> Iterator[Patterns]:
    """Yield the patterns with the column of every unit permuted on its own."""
    ends = np.cumsum([layer.num_units for layer in p.layers])[:-1]
    for _ in range(count):
        shuffled = np.split(random.permuted(columns, axis=1), ends)
        pieces = [torch.from_numpy(part.T).reshape(len(p), *a.shape) for part, a in zip(shuffled, p.layers, strict=True)]
        yield Patterns.from_pieces(p.layers, pieces)


def _independent_variance(p: Patterns) -> float:
    """Return sum q (1 - q), q the share of all pairs of two inputs that a unit tells apart."""
    total, n = 0.0, len(p)
    for count in p.frequencies().counts:
        q = 1 - (count.double() * (count - 1).double()).sum(0) / (n * (n - 1))
        total += float((q * (1 - q)).sum())
    return total


def _fair_bits(p: Patterns, pairs: int, draws: int, random: Any) -> FairBits:
    from ._kernels.popcount import of_pairs  # numba loads scipy, which importing polylens does not

    left, right = random.integers(len(p), size=pairs), random.integers(len(p) - 1, size=pairs)
    right += right >= left
    units = sum(layer.num_units for layer in p.layers)
    words = p.words()
    observed = int(of_pairs(words, words, p.segments(), left, right).sum())
    null = random.binomial(pairs * units, 0.5, size=draws)
    sides = ((null <= observed).sum() + 1) / (draws + 1), ((null >= observed).sum() + 1) / (draws + 1)
    return FairBits(observed / pairs, units, pairs, torch.from_numpy(null / pairs), float(sides[0]), float(sides[1]))
