"""Constellations: groups of inputs whose activation patterns are near one another and far from all others."""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, final

import numpy as np
import torch
from torch import Tensor

from ._check import ArrayLike, whole
from ._clusters import dendrogram
from ._clusters.behind import whole_labels
from ._clusters.dendrogram import Dendrogram, Groups
from ._clusters.linkage import bytes_needed, full_linkage
from ._types import Result
from .errors import InputError
from .pattern import Patterns, UnitLayer

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = np.ndarray[Any, Any]
Linkage = Literal["single", "average", "complete"]
Null = Literal["marginals", "fair"]
MAX_BYTES = 1 << 30
_LINKAGES, _NULLS = ("single", "average", "complete"), ("marginals", "fair")
_BLOCK = 1 << 22  # random numbers, or distances, at once


class Plateau(NamedTuple):
    """Thresholds from `start` to below `stop` at which the number of `clusters` stays the same."""

    start: float
    stop: float
    clusters: int

    @property
    def is_flat(self) -> bool:
        """Whether it is longer than a step: distances are whole, so that every curve stays the same for one."""
        return self.stop - self.start > 1


@final
@dataclass(frozen=True, eq=False, slots=True)
class NullCurve:
    """Numbers of clusters of random patterns: `kind` of randomness, `counts` (draws, thresholds), `scores` (draws,).

    Of the kind "marginals", every unit is on its pieces as often as in the data, and independent of all others; of the
    kind "fair", all pieces are equally likely (for two: Bernoulli(1/2)).
    """

    kind: str
    counts: Tensor
    scores: Tensor


class GroupCurve(NamedTuple):
    """For every threshold: how many constellations there are, how many inputs they hold, how many inputs are alone."""

    constellations: Tensor
    inputs: Tensor
    alone: Tensor


class Agreement(NamedTuple):
    """For every threshold, how clusters and labels agree: `purity` and `adjusted_rand`, as `Contents` has them."""

    purity: Tensor
    adjusted_rand: Tensor


@final
@dataclass(frozen=True, eq=False, slots=True, repr=False)
class Contents(Result):
    """Which labels the clusters at a `threshold` hold: `counts` (clusters, classes), one column for each of `classes`.

    `cluster` (clusters,) are the numbers that `Constellations.cut` gives them; the largest stands first.
    """

    threshold: float
    cluster: Tensor
    classes: Tensor
    counts: Tensor

    def __repr__(self) -> str:
        return f"Contents({len(self.cluster)} clusters at {self.threshold:g}, {len(self.classes)} classes)"

    @property
    def purity(self) -> float:
        """The share of inputs whose label is the most frequent one of their cluster; 1 where every cluster has one input."""
        return _purity(self.counts.numpy())

    @property
    def adjusted_rand(self) -> float:
        """The adjusted Rand index of clusters and labels: 1 for equal partitions, 0 on average for random ones."""
        return _adjusted_rand(self.counts.numpy())

    def rows(self) -> list[dict[str, Any]]:
        """Return one row a cluster: its number, size, most frequent label, and the share of inputs that have it."""
        top, size = self.counts.max(1), self.counts.sum(1)
        labels = self.classes[top.indices].tolist()
        table = zip(self.cluster.tolist(), size.tolist(), labels, (top.values / size).tolist(), strict=True)
        return [{"cluster": c, "size": s, "label": label, "share": share} for c, s, label, share in table]

    def summary(self) -> str:
        head = f"{len(self.cluster)} clusters at threshold {self.threshold:g}: purity {self.purity:.1%}, "
        lines = [head + f"adjusted Rand index {self.adjusted_rand:.3f}"]
        lines += [
            f"  cluster {r['cluster']}: {r['size']} inputs, {r['share']:.0%} of label {r['label']}" for r in self.rows()[:10]
        ]
        return "\n".join([*lines, *(["  ..."] if len(self.cluster) > 10 else [])])

    def to_dict(self) -> dict[str, Any]:
        figures = {"purity": self.purity, "adjusted_rand": self.adjusted_rand}
        return {"threshold": self.threshold, **figures, "classes": self.classes.tolist(), "clusters": self.rows()}

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Draw the largest clusters as bars of their labels; `polylens.plotting.constellations` has the options."""
        axes: Axes = importlib.import_module("polylens.plotting.constellations").draw(self, ax, **options)
        return axes


@final
@dataclass(frozen=True, eq=False, slots=True, repr=False)
class Constellations(Result):
    """The hierarchy of clusters of patterns under Hamming distance, and the constellations among them.

    Every cluster is a range of `order` (inputs,); two neighbours in it are in one cluster at every threshold t >= their
    gap, `gaps` (inputs - 1,), and the sorted gaps are the heights at which clusters merge. Thresholds run from 0 to n, the
    units and windows of a pattern. `groups` are the constellations, ranges of the order of `single`, the hierarchy of single
    linkage; `nulls` the curves of random patterns; `labels` (inputs,) those of the inputs, or None.
    """

    linkage: str
    layers: tuple[UnitLayer, ...]
    order: Tensor
    gaps: Tensor
    single: Dendrogram
    groups: Groups
    nulls: tuple[NullCurve, ...]
    labels: Tensor | None

    def __len__(self) -> int:
        return len(self.order)

    def __repr__(self) -> str:
        return f"Constellations({len(self)} inputs, {self.linkage} linkage, score {self.score:g} of {self.size})"

    @property
    def num_units(self) -> int:
        """How many units a pattern covers; the windows of max-gates are counted apart."""
        return sum(layer.num_units for layer in self.layers if not layer.is_max)

    @property
    def num_windows(self) -> int:
        """How many windows of max-gates a pattern covers."""
        return sum(layer.num_units for layer in self.layers if layer.is_max)

    @property
    def size(self) -> int:
        """The largest distance that there can be: n, units and windows together."""
        return self.num_units + self.num_windows

    @property
    def counts(self) -> Tensor:
        """How many clusters there are at the thresholds 0, 1, ..., n: (n + 1,), int64."""
        return torch.from_numpy(dendrogram.counts(self.gaps.numpy(), self.size))

    @property
    def score(self) -> float:
        """The integral of the number of clusters over thresholds from 0 to n: n + the sum of all heights."""
        return self.size + float(self.gaps.sum())

    @property
    def normalised(self) -> float:
        """The score between 0 (all patterns are equal) and 1 (all differ in everything): the mean height over n."""
        return _normalised(self.score, self.size, len(self))

    def cut(self, threshold: float) -> Tensor:
        """Return the cluster of every input at a threshold: (inputs,), int64; clusters are numbered as they first appear.

        At single linkage, two inputs are in one cluster iff a chain of inputs with steps of at most the threshold joins them.

        Raises InputError for a threshold below 0, or NaN.
        """
        return torch.from_numpy(dendrogram.cut(self.order.numpy(), self.gaps.numpy(), _threshold(threshold)))

    def plateaus(self, most: int = 5) -> list[Plateau]:
        """Return the longest ranges of thresholds without a merge, longest first, of equal ones the lowest first.

        The range in front of the first merge of different patterns, and that behind the last merge, do not count.
        """
        heights = np.unique(self.gaps.numpy()[self.gaps.numpy() > 0])
        clusters = len(self) - np.searchsorted(np.sort(self.gaps.numpy()), heights, side="right")
        ranges = zip(heights[:-1].tolist(), heights[1:].tolist(), clusters.tolist(), strict=False)
        return sorted((Plateau(*each) for each in ranges), key=lambda p: (p.start - p.stop, p.start))[: whole(most, "most")]

    def members(self, threshold: float) -> list[Tensor]:
        """Return the constellations at a threshold t, each as its inputs in ascending order, the largest first.

        A constellation is two inputs or more, no two of which are farther apart than t, and none nearer than or at t to any
        other input. All inputs together do not count as one.
        """
        t, g = _threshold(threshold), self.groups
        alive = np.flatnonzero((g.diameter <= t) & (t < g.death))
        found = [np.sort(self.single.order[a:b]) for a, b in zip(g.start[alive], g.stop[alive], strict=True)]
        return [torch.from_numpy(v) for v in sorted(found, key=lambda inputs: (-len(inputs), inputs[0]))]

    def group_curve(self) -> GroupCurve:
        """Return how many constellations there are at the thresholds 0, 1, ..., n, how many inputs they hold, and how many
        inputs are alone, without another one at or below the threshold."""
        g, size = self.groups, self.size
        found = dendrogram.alive(g.diameter, g.death, np.ones(len(g.start), np.int64), size)
        inputs = dendrogram.alive(g.diameter, g.death, g.stop - g.start, size)
        return GroupCurve(*(torch.from_numpy(v) for v in (found, inputs, self._alone())))

    def contents(self, threshold: float, labels: ArrayLike | None = None) -> Contents:
        """Return which labels the clusters at a threshold hold; labels (inputs,) are those given at first when None.

        Raises InputError when there are no labels, ShapeError when there is not one for each input.
        """
        classes, codes = self._classes(labels)
        cluster = self.cut(threshold).numpy()
        counts = _contingency(cluster, codes, len(classes))
        largest = np.argsort(-counts.sum(1), kind="stable")
        tensors = (torch.from_numpy(v) for v in (largest, classes, counts[largest]))
        return Contents(float(threshold), *tensors)

    def agreement(self, labels: ArrayLike | None = None) -> Agreement:
        """Return purity and adjusted Rand index at the thresholds 0, 1, ..., n, each (n + 1,); labels as for `contents`."""
        classes, codes = self._classes(labels)
        counts = dendrogram.counts(self.gaps.numpy(), self.size)
        purity, rand = np.empty(self.size + 1), np.empty(self.size + 1)
        for t in range(self.size + 1):
            if t and counts[t] == counts[t - 1]:
                purity[t], rand[t] = purity[t - 1], rand[t - 1]
                continue
            table = _contingency(dendrogram.cut(self.order.numpy(), self.gaps.numpy(), t), codes, len(classes))
            purity[t], rand[t] = _purity(table), _adjusted_rand(table)
        return Agreement(torch.from_numpy(purity), torch.from_numpy(rand))

    def summary(self) -> str:
        distinct = 1 + int((self.gaps > 0).sum())
        lines = [f"{self.linkage} linkage of {len(self)} patterns, {distinct} of them distinct, of {self._units()}"]
        lines.append(f"  integral of the number of clusters {self.score:,.0f}, normalised {self.normalised:.4f}")
        for null in self.nulls:
            mean = _normalised(float(null.scores.mean()), self.size, len(self))
            lines.append(f"  {_NULL_WORDS[null.kind]}: normalised {mean:.4f}")
        flat = [p for p in self.plateaus(3) if p.is_flat]
        lines += [f"  {p.clusters} clusters from t = {p.start:g} to {p.stop:g}, a plateau" for p in flat]
        lines += [] if flat else ["  no plateau: clusters merge wherever the threshold grows by 1, until one is left"]
        curve = self.group_curve()
        best = int(curve.inputs.argmax())
        found = f"{int(curve.constellations[best])} hold {int(curve.inputs[best])} inputs"
        lines.append(f"  constellations (diameter <= t < distance to all others): most at t = {best}, where {found}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        curve = self.group_curve()
        nulls = [{"kind": n.kind, "scores": n.scores.tolist(), "counts": n.counts.tolist()} for n in self.nulls]
        return {
            "linkage": self.linkage,
            "inputs": len(self),
            "num_units": self.num_units,
            "num_windows": self.num_windows,
            "score": self.score,
            "normalised": self.normalised,
            "clusters": self.counts.tolist(),
            "plateaus": [p._asdict() for p in self.plateaus()],
            "constellations": curve.constellations.tolist(),
            "inputs_in_constellations": curve.inputs.tolist(),
            "inputs_alone": curve.alone.tolist(),
            "nulls": nulls,
        }

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Draw clusters or constellations against the threshold; `polylens.plotting.constellations` has the options."""
        axes: Axes = importlib.import_module("polylens.plotting.constellations").draw(self, ax, **options)
        return axes

    def _units(self) -> str:
        return f"{self.num_units} units" + (f" and {self.num_windows} windows" if self.num_windows else "")

    def _alone(self) -> Array:
        """Return how many inputs are alone: the thresholds below the distance to their nearest other input."""
        most = np.full(1, self.size + 1)
        nearest = np.minimum(np.concatenate([most, self.single.gaps]), np.concatenate([self.single.gaps, most]))
        return np.searchsorted(np.sort(-nearest), -np.arange(self.size + 1), side="left")

    def _classes(self, labels: ArrayLike | None) -> tuple[Array, Array]:
        given = self.labels if labels is None else whole_labels(labels, len(self))
        if given is None:
            raise InputError("labels: expected one for each input, here or when the constellations were sought; got none")
        classes, codes = np.unique(given.numpy(), return_inverse=True)
        return classes, codes


_NULL_WORDS = {
    "marginals": "independent units with the frequencies of the data",
    "fair": "independent units with equally likely pieces",
}


def constellations(
    patterns: Patterns,
    *,
    linkage: Linkage = "single",
    labels: ArrayLike | None = None,
    null: Sequence[Null] = ("marginals", "fair"),
    draws: int = 1,
    seed: int = 0,
    max_bytes: int = MAX_BYTES,
) -> Constellations:
    """Return the hierarchy of clusters of patterns under Hamming distance, with the constellations of every threshold.

    A constellation at threshold t is a set of inputs with diameter <= t and a distance > t to every other input. Clusters
    of single linkage have the second property and not the first, those of complete linkage the first and not the second;
    so constellations are sought among the clusters of single linkage, which hold all of them, and their diameters measured.

    Args:
        patterns: of one input or more. The distance of two counts the units and windows on different pieces over all their
            layers; `patterns.layer("relu1")` looks at one layer.
        linkage: what the distance of two clusters is: the least, the average or the largest distance between their members.
            Only single linkage is unique: whole distances tie massively, and which of equally near clusters average and
            complete linkage merge first changes what comes later; scipy's choice is taken, the same at every run.
        labels: (inputs,) of whole numbers, for `contents`; None for none.
        null: the kinds of random patterns whose curves stand beside that of the data: "marginals", independent units, each
            on its pieces as often as in the data; "fair", all pieces equally likely. Empty for none.
        draws: how many times each of them is drawn; each takes as long as the data's own curve.
        seed: of the random patterns.
        max_bytes: the most that the distances of average and complete linkage may take, 8 n^2 for n inputs: by default
            11 585 inputs. Single linkage takes memory in proportion to the patterns.

    Raises:
        InputError: no patterns; an unknown linkage or null; too many inputs for average and complete linkage.
        ShapeError: not one label for each input.

    Algorithm: Prim's spanning tree on packed bits with one pass for an edge, which measures, keeps the nearest and finds the
    next: n^2 units / 128 word operations; diameters of the clusters by one look at most at each pair, n^2 / 2 again, less
    where clusters are wide. Average and complete linkage by scipy. Equal patterns are one until the end.

    References: Gower and Ross (1969), Minimum spanning trees and single linkage cluster analysis; Swiniarski, Bruna, Cho,
    Study on activation patterns, on constellations, the curve and its integral.

    Example:
        >>> from polylens import constellations, dense, patterns
        >>> import torch
        >>> net = dense([([[1.0], [1.0], [1.0]], [0.0, -0.1, -5.0]), ([[1.0, 1.0, 1.0]], None)])
        >>> found = constellations(patterns(net, torch.tensor([[-1.0], [-2.0], [1.0], [2.0], [9.0]])), null=())
        >>> found.counts.tolist()  # two pairs of equal patterns, 2 apart, and one at distance 1 of the second
        [3, 2, 1, 1]
        >>> [group.tolist() for group in found.members(0)], [group.tolist() for group in found.members(1)]
        ([[0, 1], [2, 3]], [[2, 3, 4], [0, 1]])
    """
    _check(patterns, linkage, null)
    given = None if labels is None else whole_labels(labels, len(patterns))
    generator, draws = torch.Generator().manual_seed(seed), whole(draws, "draws")
    single, groups = _single(patterns)
    tree = single if linkage == "single" else _full(patterns, linkage, max_bytes)
    size = sum(layer.num_units for layer in patterns.layers)
    nulls = tuple(_null(patterns, kind, draws, linkage, size, generator) for kind in null)
    order, gaps = (torch.from_numpy(v) for v in tree)
    return Constellations(linkage, patterns.layers, order, gaps, single, groups, nulls, given)


def _check(patterns: Patterns, linkage: str, null: Sequence[str]) -> None:
    if not isinstance(patterns, Patterns):
        raise InputError(f"constellations: expected Patterns, as patterns(net, x) gives; got {type(patterns).__name__}")
    if not len(patterns):
        raise InputError("constellations: expected patterns of one input or more; got an empty selection")
    if linkage not in _LINKAGES:
        raise InputError(f"linkage: expected one of {', '.join(_LINKAGES)}; got {linkage!r}")
    unknown = [kind for kind in ([null] if isinstance(null, str) else null) if kind not in _NULLS]
    if unknown or isinstance(null, str):
        raise InputError(f"null: expected a sequence of {' and '.join(_NULLS)}, or (); got {null!r}")


def _threshold(value: float) -> float:
    if not value >= 0:
        raise InputError(f"threshold: expected a number of at least 0; got {value!r}")
    return float(value)


# -- hierarchies


def _single(patterns: Patterns) -> tuple[Dendrogram, Groups]:
    """Return single linkage and the groups of it that are constellations."""
    from ._clusters.tree import isolated_groups

    tree, words, scale = _single_scaled(patterns)
    start, stop, *rest = isolated_groups(words, tree)
    birth, death, diameter = (v // scale for v in rest)
    return Dendrogram(tree.order, tree.gaps // scale), Groups(start, stop, birth, death, diameter)


def _single_scaled(patterns: Patterns) -> tuple[Dendrogram, Array, int]:
    """Return single linkage in distances of the words beside it, which are those of the patterns times a whole number."""
    from ._clusters.tree import single_linkage, spanning_tree

    words, scale = _words(patterns)
    found = patterns.unique()
    first = np.unique(found.inverse.numpy(), return_index=True)[1]
    tree = single_linkage(spanning_tree(words[first]))
    return dendrogram.expanded(tree, found.inverse.numpy(), found.counts.numpy()), words, scale


def _words(patterns: Patterns) -> tuple[Array, int]:
    """Return words (inputs, width) in which patterns differ in so many bits a unit, and how many.

    Where every unit has two pieces, these are the packed bits themselves, and 1. Otherwise a unit has a bit for every piece:
    two pieces differ in 2 bits, whichever they are.
    """
    if all(layer.planes == 1 for layer in patterns.layers):
        return patterns.words(), 1
    bits = [UnitLayer("", "", (layer.num_pieces * layer.num_units,)) for layer in patterns.layers]
    words = np.zeros((len(patterns), sum(layer.num_bytes for layer in bits)), np.uint8)
    rows = max(1, _BLOCK // max(1, sum(layer.num_units for layer in bits)))
    for start in range(0, len(patterns), rows):
        part = patterns[start : start + rows]
        for i, (layer, coded) in enumerate(zip(patterns.layers, bits, strict=True)):
            each = torch.arange(layer.num_pieces, device="cpu")
            on = part.pieces(i).reshape(len(part), 1, -1) == each[:, None]
            before = sum(other.num_bytes for other in bits[:i])
            words[start : start + rows, before : before + coded.num_bytes] = coded.pack(on)
    return words.view(np.uint64), 2


def _full(patterns: Patterns, linkage: Literal["average", "complete"], max_bytes: int) -> Dendrogram:
    count, needed = len(patterns), bytes_needed(len(patterns))
    if needed > max_bytes:
        raise InputError(
            f"{linkage} linkage: expected at most {math.isqrt(max_bytes // 8)} inputs, with {max_bytes:,} bytes of distances;"
            f" got {count}, which take {needed:,}; take fewer, max_bytes={needed}, or linkage='single'"
        )
    if count == 1:
        return Dendrogram(np.zeros(1, np.int64), np.zeros(0))
    distances, at, rows = np.empty(count * (count - 1) // 2), 0, max(1, _BLOCK // count)
    for start in range(0, count, rows):
        block = patterns[start : start + rows].distances(patterns[start:]).numpy()
        for i, row in enumerate(block):
            distances[at : at + len(row) - i - 1] = row[i + 1 :]
            at += len(row) - i - 1
    return full_linkage(distances, linkage)


# -- curves


def _normalised(score: float, size: int, count: int) -> float:
    return (score / size - 1) / (count - 1) if size and count > 1 else 0.0


def _null(patterns: Patterns, kind: str, draws: int, linkage: Linkage, size: int, generator: torch.Generator) -> NullCurve:
    """Return the curves of random patterns beside that of the data; linkages have been found to fit into memory."""
    counts, scores = np.empty((draws, size + 1), np.int64), np.empty(draws)
    shares = _shares(patterns, kind)
    for draw in range(draws):
        made = _random(patterns, shares, generator)
        if linkage == "single":
            tree, _, scale = _single_scaled(made)
            gaps = tree.gaps // scale
        else:
            gaps = _full(made, linkage, bytes_needed(len(made))).gaps
        counts[draw], scores[draw] = dendrogram.counts(gaps, size), size + gaps.sum()
    return NullCurve(kind, torch.from_numpy(counts), torch.from_numpy(scores))


def _shares(patterns: Patterns, kind: str) -> list[Tensor]:
    """Return for every layer how likely its units are on a piece up to k: (pieces - 1, units)."""
    if kind == "fair":
        steps = (torch.arange(1, a.num_pieces, dtype=torch.float64, device="cpu") / a.num_pieces for a in patterns.layers)
        return [step[:, None].expand(-1, a.num_units) for step, a in zip(steps, patterns.layers, strict=True)]
    found = patterns.frequencies()
    return [counts.flatten(1).double().cumsum(0)[:-1] / found.total for counts in found.counts]


def _random(patterns: Patterns, shares: list[Tensor], generator: torch.Generator) -> Patterns:
    """Return as many patterns of independent units as there are in the data."""
    count = len(patterns)
    packed = torch.zeros_like(patterns.packed)
    start = 0
    for layer, share in zip(patterns.layers, shares, strict=True):
        rows = max(1, _BLOCK // max(1, layer.num_units))
        for row in range(0, count, rows):
            made = torch.rand(min(rows, count - row), layer.num_units, generator=generator, device="cpu", dtype=torch.float64)
            pieces = sum(((made >= bound).long() for bound in share), torch.zeros(made.shape, dtype=torch.int64, device="cpu"))
            packed[row : row + rows, start : start + layer.num_bytes] = torch.from_numpy(layer.pack(pieces))
        start += layer.num_bytes
    return Patterns(packed, patterns.layers)


# -- clusters against labels


def _contingency(cluster: Array, codes: Array, classes: int) -> Array:
    """Return how many inputs of every class each cluster holds: (clusters, classes)."""
    clusters = int(cluster.max()) + 1
    return np.bincount(cluster * classes + codes, minlength=clusters * classes).reshape(clusters, classes)


def _purity(counts: Array) -> float:
    return float(counts.max(1).sum() / counts.sum())


def _adjusted_rand(counts: Array) -> float:
    """Return Hubert and Arabie's index: pairs together in both, against what random partitions of these sizes share."""

    def pairs(sizes: Array) -> int:
        return int((sizes * (sizes - 1) // 2).sum())

    total, together = pairs(counts.sum(keepdims=True)), pairs(counts)
    clusters, classes = pairs(counts.sum(1)), pairs(counts.sum(0))
    if clusters == classes and clusters in (0, total):  # all alone in both, or all together in both
        return 1.0
    expected = clusters * classes / total
    return (together - expected) / ((clusters + classes) / 2 - expected)
