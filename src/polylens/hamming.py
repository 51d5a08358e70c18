"""Hamming geometry: how far apart activation patterns are, for all pairs or some, by layer and by class."""

from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import numpy as np
import torch
from torch import Tensor

from . import _moments
from ._check import whole
from ._types import Result
from .errors import InputError, ShapeError
from .geometry.sampling import Seed, generator_of
from .pattern import Patterns, UnitLayer

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = np.ndarray[Any, Any]


@final
@dataclass(frozen=True, eq=False, slots=True, repr=False)
class Distances(Result):
    """How the Hamming distances of pairs are distributed: `counts` (num_units + 1,), int64, the pairs at each distance.

    `name` is a layer's, "units" or "windows"; `num_units` the largest distance there could be. `error` is the standard error
    of the mean: the jackknife's over inputs, because pairs share inputs, with the sampling's of pairs where they are a
    sample; NaN where there are too few. With labels, `within` holds the pairs of one class and `between` all others.
    """

    name: str
    num_units: int
    counts: Tensor
    error: float
    within: Distances | None = None
    between: Distances | None = None

    def __repr__(self) -> str:
        return f"Distances({self.name!r}, {self.pairs} pairs, {self.num_units} units)"

    @property
    def pairs(self) -> int:
        """How many pairs were counted."""
        return int(self.counts.sum())

    @property
    def mean(self) -> float:
        """The mean distance; NaN for no pairs."""
        return self._power(1)

    @property
    def variance(self) -> float:
        """The variance of the distance over the pairs; NaN for no pairs."""
        mean = self.mean
        if math.isnan(mean):
            return math.nan
        away = torch.arange(len(self.counts), dtype=torch.float64) - mean
        return float((self.counts * away.square()).sum()) / self.pairs

    @property
    def deviation(self) -> float:
        """The standard deviation of the distance over the pairs."""
        return math.sqrt(self.variance)

    @property
    def separation(self) -> float:
        """The probability that a pair of one class is nearer than a pair of two, ties counted half; NaN without both.

        1/2 where distances say nothing of classes, 1 where every pair of one class is nearer than all other pairs.
        """
        if self.within is None or self.between is None or not self.within.pairs or not self.between.pairs:
            return math.nan
        inner, outer = self.within.counts.double(), self.between.counts.double()
        farther = outer.sum() - outer.cumsum(0) + outer / 2
        return float((inner / inner.sum() * farther / outer.sum()).sum())

    def quantile(self, share: float) -> int:
        """Return the least distance that at least this share of the pairs does not exceed: 0.5 gives the lower median.

        Raises InputError for shares outside [0, 1], and where there are no pairs.
        """
        if not 0 <= share <= 1 or not self.pairs:
            raise InputError(f"quantile: expected a share between 0 and 1, of one pair or more; got {share!r} of {self.pairs}")
        wanted = math.ceil(
            share * self.pairs * (1 - 2 * sys.float_info.epsilon)
        )  # a share and its product are rounded once each
        return int(np.argmax(np.cumsum(self.counts.numpy()) >= max(1, wanted)))

    def summary(self) -> str:
        what = "windows" if self.name == "windows" else "units"
        size = self.name if self.name == what else f"{self.name}, {self.num_units:,} {what}"
        if not self.pairs:
            return f"{size}: no pairs"
        error = "" if math.isnan(self.error) else f" ± {self.error:.2g}"
        lines = f"{size}: mean distance {self.mean:.2f}{error} of {self.num_units:,}, deviation {self.deviation:.2f}"
        if self.within is not None and self.between is not None:
            lines += f"; within classes {self.within.mean:.2f}, between {self.between.mean:.2f}"
            lines += f", separation {self.separation:.3f}"
        return lines

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Draw which share of the pairs is at each distance; `polylens.plotting.patterns` has the options."""
        axes: Axes = importlib.import_module("polylens.plotting.patterns").draw(self, ax, **options)
        return axes

    def to_dict(self) -> dict[str, Any]:
        row = {"name": self.name, "units": self.num_units, "pairs": self.pairs, "mean": self.mean, "error": self.error}
        row |= {"variance": self.variance, "counts": self.counts.tolist()}
        if self.within is not None and self.between is not None:
            row |= {"within": self.within.to_dict(), "between": self.between.to_dict(), "separation": self.separation}
        return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()}

    def _power(self, k: int) -> float:
        at = torch.arange(len(self.counts), dtype=torch.float64) ** k
        return float((self.counts * at).sum()) / self.pairs if self.pairs else math.nan


@final
@dataclass(frozen=True, eq=False, slots=True, repr=False)
class Hamming(Result):
    """Distances between activation patterns: of all `units` together, of the `windows` of max-gates (None without), by layer.

    `inputs` is how many patterns there are, `others` how many they were compared to (None: to one another). `sampled` says
    whether pairs were drawn at random, with replacement, or all counted.
    """

    inputs: int
    others: int | None
    sampled: bool
    units: Distances
    windows: Distances | None
    layers: tuple[Distances, ...]

    def __repr__(self) -> str:
        return f"Hamming({self.inputs} inputs, {self.units.pairs} pairs, {len(self.layers)} layers)"

    @property
    def mean(self) -> float:
        """The mean distance in units, over all layers together."""
        return self.units.mean

    @property
    def variance(self) -> float:
        """The variance of the distance in units, over all layers together."""
        return self.units.variance

    def layer(self, name: str | int) -> Distances:
        """Return the distances at one layer, by name or position; raises InputError, which lists the names, for no layer."""
        names = [layer.name for layer in self.layers]
        if isinstance(name, int) and -len(names) <= name < len(names):
            return self.layers[name]
        if name not in names:
            raise InputError(f"layer: expected one of {names} or a position below {len(names)}; got {name!r}")
        return self.layers[names.index(str(name))]

    def summary(self) -> str:
        what = f"{self.units.pairs:,} random pairs" if self.sampled else f"all {self.units.pairs:,} pairs"
        of = f"of {self.inputs:,} inputs" + ("" if self.others is None else f" with {self.others:,} others")
        lines = [f"Hamming distances of activation patterns, {what} {of}"]
        rows = [d for d in (self.units, self.windows) if d is not None and d.num_units]
        rows += self.layers if len(self.layers) > 1 else []
        return "\n".join([*lines, *(f"  {row.summary()}" for row in rows)])

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Draw the distances at each layer as lines, or those at one layer; `polylens.plotting.patterns` has the options."""
        axes: Axes = importlib.import_module("polylens.plotting.patterns").draw(self, ax, **options)
        return axes

    def to_dict(self) -> dict[str, Any]:
        known = {"inputs": self.inputs, "others": self.others, "sampled": self.sampled, "units": self.units.to_dict()}
        windows = None if self.windows is None else self.windows.to_dict()
        return {**known, "windows": windows, "layers": [layer.to_dict() for layer in self.layers]}


def hamming(
    patterns: Patterns,
    other: Patterns | None = None,
    *,
    labels: Any = None,
    other_labels: Any = None,
    pairs: int | None = None,
    seed: Seed = 0,
) -> Hamming:
    """Return how the Hamming distances of patterns are distributed: exact counts of all pairs, for each layer and in total.

    The distance of two inputs is the number of units on different pieces, whatever their number of pieces. Windows of
    max-gates, of which winners are compared, are counted apart from units. Nearest neighbours and the matrix itself are
    `patterns.neighbours(k)` and `patterns.distances()`; mean and variance without pairs `patterns.distance_moments()`.

    Args:
        patterns: N patterns; of some layers only with `patterns.layer(...)`.
        other: patterns of the same layers to compare these to; None for all pairs i < j among `patterns`.
        labels: N whole numbers, the classes of the inputs; pairs within a class and between classes are then told apart.
        other_labels: the classes of `other`'s inputs; needed with `labels` where there is `other`.
        pairs: count that many random pairs instead of all: independent draws of two different inputs, or of one and one of
            `other`.
        seed: an int or a `torch.Generator`, for the draws.

    Raises:
        InputError: fewer than two patterns (one, with `other`); different layers; labels on one side only.
        ShapeError: not as many labels as patterns.

    Algorithm: exclusive or and population count of 64-bit words, a tile of inputs at a time. O(N^2 units / 64) time: 16 000
    inputs of 2 048 units take about a second. Memory: the packed patterns and the counts, whatever N; the errors add
    a block of codes, and a number for each unit and class. Counts of all pairs are whole numbers and do not depend on the
    order of the inputs.

    Example:
        >>> from polylens import dense, hamming, patterns
        >>> import torch
        >>> net = dense([([[1.0], [1.0]], [0.0, -2.0]), ([[1.0, 1.0]], None)])
        >>> found = hamming(patterns(net, torch.tensor([[-1.0], [1.0], [3.0]])), labels=[0, 0, 1])
        >>> found.units.counts.tolist(), found.units.within.mean, found.units.between.mean
        ([0, 2, 1], 1.0, 1.5)
    """
    _comparable(patterns, other)
    classes = _classes(patterns, other, labels, other_labels)
    from ._kernels.popcount import histograms  # numba loads scipy, which importing polylens does not

    if pairs is None:
        tables = histograms(
            patterns.words(), None if other is None else other.words(), patterns.segments(), _longest(patterns), classes
        )
    else:
        tables = _sampled(patterns, other, classes, whole(pairs, "pairs"), generator_of(seed))
    errors = _errors(patterns, other, classes)
    return _assembled(patterns, other, tables, errors, classes is not None, pairs is not None)


def _comparable(patterns: Patterns, other: Patterns | None) -> None:
    least = 2 if other is None else 1
    sizes = [len(patterns)] if other is None else [len(patterns), len(other)]
    if min(sizes) < least:
        raise InputError(f"hamming: expected {least} or more patterns; got {min(sizes)}")
    if other is not None and other.layers != patterns.layers:
        raise InputError(f"patterns to compare: expected the same layers; got {patterns!r} and {other!r}")


def _classes(patterns: Patterns, other: Patterns | None, labels: Any, other_labels: Any) -> tuple[Array, Array] | None:
    """Return the labels of both sides as numbers from 0 on, or None without labels."""
    if labels is None and other_labels is None:
        return None
    if (labels is None) or (other is None) != (other_labels is None):
        raise InputError("labels: expected labels for both sides: `labels`, and `other_labels` where there is `other`")
    mine = _labels(labels, len(patterns), "labels")
    theirs = mine if other is None else _labels(other_labels, len(other), "other_labels")
    numbers = np.unique(np.concatenate([mine, theirs]), return_inverse=True)[1].astype(np.int64)
    return numbers[: len(mine)], numbers[len(numbers) - len(theirs) :]


def _labels(labels: Any, count: int, what: str) -> Array:
    found = np.asarray(labels)
    if found.shape != (count,):
        raise ShapeError(f"{what}: expected one for each of {count} patterns; got an array of shape {found.shape}")
    return found


def _members(layers: Sequence[UnitLayer], windows: bool) -> list[int]:
    return [i for i, layer in enumerate(layers) if layer.is_max == windows]


def _longest(patterns: Patterns) -> int:
    return max(patterns.num_units, patterns.num_windows)


def _sampled(
    patterns: Patterns, other: Patterns | None, classes: tuple[Array, Array] | None, count: int, generator: torch.Generator
) -> Array:
    """Return the tables of `histograms` for random pairs."""
    from ._kernels.popcount import of_pairs

    left, right = random_pairs(len(patterns), None if other is None else len(other), count, generator)
    words = patterns.words()
    found = of_pairs(words, words if other is None else other.words(), patterns.segments(), left, right)
    sums = [found[_members(patterns.layers, windows)].sum(0, keepdims=True) for windows in (False, True)]
    same = np.zeros(count, bool) if classes is None else classes[0][left] == classes[1][right]
    length = _longest(patterns) + 1
    rows = np.concatenate([found, *sums])
    return np.stack([[np.bincount(row[mask], minlength=length) for row in rows] for mask in (~same, same)])


def random_pairs(count: int, others: int | None, pairs: int, generator: torch.Generator) -> tuple[Array, Array]:
    """Return both ends (pairs,), int64, of independent random pairs: of two different inputs, or of one and one other."""

    def draw(below: int) -> Tensor:
        return torch.randint(below, (pairs,), generator=generator, device=generator.device).cpu()

    left, right = draw(count), draw(count - 1 if others is None else others)
    return left.numpy(), (right + (right >= left) if others is None else right).numpy()


# -- standard errors: what every input adds to the mean


def _errors(patterns: Patterns, other: Patterns | None, classes: tuple[Array, Array] | None) -> Array:
    """Return the jackknife's standard errors of mean distances (layers + 2, 3): of all pairs, within, and between classes."""
    both = _against(patterns, patterns if other is None else other, classes, other is None)
    if other is None:
        return np.array([[_own_error(r[k], both[1][k]) for k in range(3)] for r in both[0]])
    swapped = _against(other, patterns, None if classes is None else classes[::-1], False)
    sides = (both, swapped)
    return np.array(
        [
            [math.hypot(*(_cross_error(sums[i][k], pairs[k]) for sums, pairs in sides)) for k in range(3)]
            for i in range(len(both[0]))
        ]
    )


def _against(a: Patterns, b: Patterns, classes: tuple[Array, Array] | None, own: bool) -> tuple[list[Array], Array]:
    """Return each input's sums of distances to `b`'s, an array (3, n) for every layer and group, and their numbers (3, n).

    The three are over all, over those of its class and over those of other classes.
    """
    mine, theirs = classes if classes is not None else (np.zeros(len(a), np.int64), np.zeros(len(b), np.int64))
    number = 1 + int(max(mine.max(), theirs.max()))
    size = np.bincount(theirs, minlength=number)
    inner = size[mine] - own
    pairs = np.stack([np.full(len(a), len(b) - own), inner, len(b) - own - inner])
    sums = np.zeros((len(a.layers), 3, len(a)))
    for i in range(len(a.layers)):
        for rows, every, of_class in _layer_sums(a.layer(i), b.layer(i), mine, theirs, size):
            sums[i][:, rows] = every, of_class, every - of_class
    groups = [sums[_members(a.layers, windows)].sum(0) for windows in (False, True)]
    return [*sums, *groups], pairs


def _layer_sums(a: Patterns, b: Patterns, mine: Array, theirs: Array, size: Array) -> Iterator[tuple[slice, Array, Array]]:
    """Yield rows of `a` and the sums (rows,) of their distances to all of `b`'s inputs, and to those of their own class."""
    codes = a.codes()
    total = np.zeros((len(size), len(codes.weight)))
    start = 0
    for block in b.code_blocks():
        of = theirs[start : start + len(block)]
        order = np.argsort(of, kind="stable")
        classes, first = np.unique(of[order], return_index=True)
        total[classes] += np.add.reduceat(block[order], first, axis=0, dtype=np.float64)
        start += len(block)
    total *= codes.weight
    everything, constant, start = total.sum(0), codes.constant.sum(), 0
    for block in a.code_blocks():
        rows = slice(start, start + len(block))
        own = np.einsum("ij,ij->i", block, total[mine[rows]])
        yield rows, (len(b) * constant - block @ everything) / 2, (size[mine[rows]] * constant - own) / 2
        start += len(block)


def _own_error(sums: Array, pairs: Array) -> float:
    return _left_out_error(sums.sum() / 2 - sums, pairs.sum() / 2 - pairs)


def _cross_error(sums: Array, pairs: Array) -> float:
    return _left_out_error(sums.sum() - sums, pairs.sum() - pairs)


def _left_out_error(sums: Array, pairs: Array) -> float:
    return _moments.jackknifed(sums / pairs) if (pairs > 0).all() else math.nan


# -- putting the answer together


def _assembled(
    patterns: Patterns, other: Patterns | None, tables: Array, errors: Array, labelled: bool, sampled: bool
) -> Hamming:
    names = [*((layer.name, layer.num_units) for layer in patterns.layers), ("units", patterns.num_units)]
    names.append(("windows", patterns.num_windows))
    found = [
        _distances(name, size, tables[:, i, : size + 1], errors[i], labelled, sampled) for i, (name, size) in enumerate(names)
    ]
    *layers, units, windows = found
    return Hamming(
        len(patterns),
        None if other is None else len(other),
        sampled,
        units,
        windows if _members(patterns.layers, True) else None,
        tuple(layers),
    )


def _distances(name: str, size: int, table: Array, errors: Array, labelled: bool, sampled: bool) -> Distances:
    def one(counts: Array, error: float, **parts: Any) -> Distances:
        found = Distances(name, size, torch.from_numpy(counts.copy()), float(error), **parts)
        if sampled and found.pairs:
            found = Distances(name, size, found.counts, math.hypot(error, found.deviation / math.sqrt(found.pairs)), **parts)
        return found

    parts = {"within": one(table[1], errors[1]), "between": one(table[0], errors[2])} if labelled else {}
    return one(table.sum(0), errors[0], **parts)
