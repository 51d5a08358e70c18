"""Nearest neighbours in pattern space: who they are, what labels they have, how Hamming and Euclidean distances agree."""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, final

import torch
from torch import Tensor

from ._check import ArrayLike, array, whole
from ._clusters.behind import batch_of, behind_gates, chosen, rows, whole_labels
from ._clusters.pairs import Correlation, as_array, pearson, spearman, squared_euclidean
from ._types import Result
from .errors import InputError, ShapeError
from .network import Network
from .pattern import Patterns, UnitLayer

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ALL_LAYERS = "all layers"  # the name of the last line of a table of several
_NO = Correlation(math.nan, math.nan)


@final
@dataclass(frozen=True, eq=False, slots=True, repr=False)
class PatternNeighbours(Result):
    """The k inputs whose patterns are nearest to each query's: `index` and `distance` (queries, k), int64, nearest first.

    `layers` are those that the distance counts over; `images` and `labels` belong to the inputs to choose from,
    `query_images` and `query_labels` to the queries, each None where it was not given.
    """

    index: Tensor
    distance: Tensor
    layers: tuple[UnitLayer, ...]
    images: Any
    labels: Tensor | None
    query_images: Any
    query_labels: Tensor | None

    def __len__(self) -> int:
        return len(self.index)

    def __repr__(self) -> str:
        return f"PatternNeighbours({len(self)} queries, {self.index.shape[1]} neighbours each)"

    @property
    def same_label(self) -> Tensor | None:
        """How often the first, second, ... neighbour has the query's label: (k,), float64; None without labels."""
        if self.labels is None or self.query_labels is None:
            return None
        return (self.labels[self.index] == self.query_labels[:, None]).double().mean(0)

    @property
    def accuracy(self) -> float | None:
        """How often the label of most neighbours is the query's, of equally frequent ones that of the nearest; None without
        labels."""
        if self.labels is None or self.query_labels is None:
            return None
        return float((vote(self.labels[self.index]) == self.query_labels).double().mean())

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Draw the queries, each in front of its neighbours; `polylens.plotting.constellations` has the options."""
        axes: Axes = importlib.import_module("polylens.plotting.constellations").draw(self, ax, **options)
        return axes

    def summary(self) -> str:
        k, size = self.index.shape[1], sum(layer.num_units for layer in self.layers)
        first, last = (float(self.distance[:, i].double().mean()) for i in (0, -1))
        lines = [f"{k} nearest patterns of each of {len(self)} inputs"]
        lines.append(f"  mean distance of the nearest {first:.1f}, of number {k} {last:.1f}, of {size}")
        if self.same_label is not None:
            shares = f"{float(self.same_label[0]):.1%} of the nearest, {float(self.same_label.mean()):.1%} of all"
            lines.append(f"  {shares} have the same label; majority votes are right for {self.accuracy:.1%}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        same = None if self.same_label is None else self.same_label.tolist()
        found = {"index": self.index.tolist(), "distance": self.distance.tolist()}
        return {"layers": [layer.name for layer in self.layers], **found, "same_label": same, "accuracy": self.accuracy}


def pattern_neighbours(
    patterns: Patterns,
    query: Patterns | Sequence[int] | Tensor | None = None,
    k: int = 10,
    *,
    layer: str | int | None = None,
    images: ArrayLike | None = None,
    labels: ArrayLike | None = None,
    query_images: ArrayLike | None = None,
    query_labels: ArrayLike | None = None,
) -> PatternNeighbours:
    """Return the k inputs whose activation patterns are nearest to those of each query, in Hamming distance.

    Args:
        patterns: those of the inputs to choose from.
        query: patterns of other inputs; or positions among the inputs, which are not their own neighbours; None for all.
        k: how many; at most as many as there are to choose from.
        layer: the layer whose units are compared, by name or position; all when None.
        images: (inputs, ...), to be drawn; any array whose rows are pictures or vectors.
        labels: (inputs,) of whole numbers.
        query_images: those of the queries, where they are other inputs.
        query_labels: those of the queries, where they are other inputs.

    Raises:
        InputError: fewer than k to choose from, other layers, a position that there is not, no queries.
        ShapeError: not one image or label for each input.

    Algorithm: all distances of queries to inputs on packed bits, k kept for each; of inputs at one distance the one that
    comes first is the nearer.

    Example:
        >>> from polylens import dense, pattern_neighbours, patterns
        >>> import torch
        >>> net = dense([([[1.0], [1.0]], [0.0, -1.0]), ([[1.0, 1.0]], None)])
        >>> p = patterns(net, torch.tensor([[-1.0], [0.5], [2.0], [3.0]]))
        >>> found = pattern_neighbours(p, k=2)
        >>> found.index.tolist(), found.distance[0].tolist()  # 2.0 and 3.0 are in one region; 0.5 is as far from -1.0
        ([[1, 2], [0, 2], [3, 1], [2, 1]], [1, 2])
    """
    seen = patterns if layer is None else patterns.layer(layer)
    images, labels = _of(images, labels, len(patterns), "")
    if isinstance(query, Patterns):
        asked = query if layer is None else query.layer(layer)
        found = asked.neighbours(_k(k, asked), seen)
        query_images, query_labels = _of(query_images, query_labels, len(query), "query_")
        return PatternNeighbours(*found, seen.layers, images, labels, query_images, query_labels)
    if query_images is not None or query_labels is not None:
        raise InputError("query_images, query_labels: expected with Patterns as query; positions have those of the inputs")
    places = _positions(query, len(patterns))
    index, distance = _others(seen, places, _k(k, seen))
    own = (None if images is None else rows(images, places), None if labels is None else labels[places])
    return PatternNeighbours(index, distance, seen.layers, images, labels, *own)


def _k(k: int, queries: Patterns) -> int:
    if not len(queries):
        raise InputError("query: expected one input or more; got none")
    return whole(k, "k")


def _of(images: ArrayLike | None, labels: ArrayLike | None, count: int, whose: str) -> tuple[Any, Tensor | None]:
    given = None if images is None else array(images, f"{whose}images")
    if given is not None and (not given.shape or len(given) != count):
        raise ShapeError(f"{whose}images: expected one for each of {count} inputs; got shape {tuple(given.shape)}")
    return given, None if labels is None else whole_labels(labels, count, f"{whose}labels")


def _positions(query: Sequence[int] | Tensor | None, count: int) -> Tensor:
    try:
        places = torch.arange(count, device="cpu") if query is None else torch.as_tensor(query).cpu().reshape(-1)
    except (TypeError, ValueError):
        raise InputError(f"query: expected Patterns, or positions among {count} inputs; got {query!r:.80}") from None
    if len(places) and (places.is_floating_point() or places.dtype == torch.bool):
        raise InputError(f"query: expected Patterns, or positions among {count} inputs; got {places.dtype}")
    if not len(places) or not bool(((places >= -count) & (places < count)).all()):
        raise InputError(f"query: expected one position or more, each below {count}; got {places.tolist()[:8]}")
    return places.long() % count


def _others(patterns: Patterns, places: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the neighbours of some of the patterns, themselves left out."""
    if k >= len(patterns):
        raise InputError(f"k: expected at most {len(patterns) - 1}, the number of other inputs; got {k}")
    index, distance = patterns[places].neighbours(k + 1, patterns)
    itself = index == places[:, None]
    itself[:, -1] |= ~itself.any(1)  # more equal patterns come first than were asked for
    return index[~itself].reshape(-1, k), distance[~itself].reshape(-1, k)


def vote(labels: Tensor) -> Tensor:
    """Return the most frequent label of each row (n, k); of equally frequent ones the one that comes first in the row."""
    often = (labels[:, :, None] == labels[:, None]).sum(2)
    return labels.gather(1, often.argmax(1, keepdim=True))[:, 0]


class LayerNeighbours(NamedTuple):
    """One line of `NeighbourAccuracy`: the layer, its size, how often votes of neighbours are right, and correlations.

    `hamming` goes by its pattern, `euclidean` by the values behind its gate. `pearson` and `spearman` correlate Hamming
    distances with the distances of these values, `pearson_input` and `spearman_input` with the distances of the inputs.
    None where there is no such thing.
    """

    name: str
    units: int
    hamming: float | None
    euclidean: float | None
    pearson: Correlation
    spearman: Correlation
    pearson_input: Correlation
    spearman_input: Correlation


@final
@dataclass(frozen=True, eq=False, slots=True, repr=False)
class NeighbourAccuracy(Result):
    """How well neighbours tell the labels, layer by layer: `table`, the input first, all layers together last.

    `k` neighbours voted for each of `queries` inputs, chosen among `inputs`; correlations are over all pairs of queries.
    """

    table: tuple[LayerNeighbours, ...]
    k: int
    queries: int
    inputs: int

    def __repr__(self) -> str:
        return f"NeighbourAccuracy({len(self.table)} lines, k = {self.k}, {self.queries} of {self.inputs} inputs)"

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Draw the accuracies layer by layer; `polylens.plotting.constellations` has the options."""
        axes: Axes = importlib.import_module("polylens.plotting.constellations").draw(self, ax, **options)
        return axes

    def summary(self) -> str:
        lines = [f"votes of the {self.k} nearest of {self.inputs} inputs, for {self.queries} of them; distances of their pairs"]
        wide = max(len(line.name) for line in self.table)
        lines.append(f"  {'':<{wide}}  Hamming  Euclidean  r of both     rank          r with inputs")
        for line in self.table:
            rates = f"{_percent(line.hamming):>7}  {_percent(line.euclidean):>9}"
            words = "  ".join(f"{_with_error(c):<12}" for c in (line.pearson, line.spearman, line.pearson_input))
            lines.append(f"  {line.name:<{wide}}  {rates}  {words}".rstrip())
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        def plain(value: Any) -> Any:
            return [None if math.isnan(v) else v for v in value] if isinstance(value, tuple) else value

        table = [{name: plain(value) for name, value in line._asdict().items()} for line in self.table]
        return {"k": self.k, "queries": self.queries, "inputs": self.inputs, "layers": table}


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def _with_error(c: Correlation) -> str:
    return "" if math.isnan(c.value) else f"{c.value:.3f} ± {c.error:.3f}"


def neighbour_accuracy(
    net: Network,
    x: ArrayLike,
    labels: ArrayLike,
    k: int = 10,
    *,
    queries: int = 1000,
    seed: int = 0,
    batch_size: int | None = None,
) -> NeighbourAccuracy:
    """Return how often the k nearest inputs vote for the right label: by patterns and by values of every layer, by inputs.

    Beside it, how Hamming distances of each layer go with the Euclidean distances of the values behind its gate and of the
    inputs: correlations of Pearson and Spearman over all pairs of queries, with jackknife errors over the queries.

    Args:
        net: any network.
        x: (inputs, *input_shape), to choose neighbours from; an input is not its own neighbour.
        labels: (inputs,) of whole numbers.
        k: how many neighbours vote; of equally frequent labels that of the nearest counts.
        queries: for how many of the inputs, chosen by `seed`; for all where there are no more.
        seed: of this choice.
        batch_size: inputs evaluated at once; by default what keeps the activations near 32 MB.

    Raises:
        ShapeError: x does not have the network's input shape, or there is not one label for each input.
        InputError: fewer than k + 1 inputs, NaN, infinity, integers.

    Algorithm: one pass over the inputs, against the values of the queries, which are kept: O(inputs queries units). Memory:
    queries x (all units + inputs of a batch), and the patterns of all inputs. Pairs: O(queries^2 units).

    Example:
        >>> from polylens import dense, neighbour_accuracy
        >>> import torch
        >>> net = dense([([[1.0], [-1.0]], [0.0, 0.0]), ([[1.0, 1.0]], None)])
        >>> x = torch.tensor([[-3.0], [-0.1], [0.1], [0.3]])
        >>> found = neighbour_accuracy(net, x, [0, 0, 1, 1], k=1)  # the nearest input of -0.1 is 0.1, on another side of 0
        >>> found.table[0].euclidean, found.table[1].hamming
        (0.5, 1.0)
    """
    x = batch_of(net, x, whole(k, "k") + 1, "neighbour_accuracy")
    given = whole_labels(labels, len(x))
    places = chosen(len(x), whole(queries, "queries"), seed)
    asked = _values(net, rows(x, places), batch_size)
    parts, nearest = [], [_Nearest(len(places), k) for _ in asked]
    start = 0
    for batch, patterns, values in behind_gates(net, x, batch_size, "neighbours"):
        parts.append(patterns)
        for mine, theirs, best in zip(asked, [batch, *values], nearest, strict=True):
            best.add(squared_euclidean(mine, theirs), start, places)
        start += len(batch)
    everything = Patterns.concat(parts)
    rates = [float((vote(given[best.index]) == given[places]).double().mean()) for best in nearest]
    table = _table(everything, asked, rates, places, given, k)
    return NeighbourAccuracy(tuple(table), k, len(places), len(x))


def _values(net: Network, x: Any, batch_size: int | None) -> list[Tensor]:
    """Return inputs and the values behind all gates."""
    found = [[batch, *values] for batch, _, values in behind_gates(net, x, batch_size, "queries")]
    return [torch.cat(parts) for parts in zip(*found, strict=True)]


class _Nearest:
    """The nearest of the inputs that have come so far, the first of those at one distance."""

    def __init__(self, queries: int, k: int) -> None:
        self.k = k
        self.distance = torch.full((queries, k), torch.inf, dtype=torch.float64, device="cpu")
        self.index = torch.zeros(queries, k, dtype=torch.int64, device="cpu")

    def add(self, distances: Tensor, start: int, places: Tensor) -> None:
        """Take in the squared distances (queries, batch) to the inputs from `start` on; an input is not near itself."""
        own = places - start
        inside = torch.nonzero((own >= 0) & (own < distances.shape[1]))[:, 0]
        distances[inside, own[inside]] = torch.inf
        everyone = torch.cat([self.distance, distances], 1)
        order = _first(everyone, self.k)
        numbers = start + torch.arange(distances.shape[1], device="cpu").expand(len(distances), -1)
        self.index = torch.cat([self.index, numbers], 1).gather(1, order)
        self.distance = everyone.gather(1, order)


def _first(values: Tensor, k: int) -> Tensor:
    """Return where the k least values of each row are, in order; of equal ones the first. Sorts whole rows only for ties."""
    order = values.topk(k, dim=1, largest=False).indices.sort(1).values
    least = values.gather(1, order)
    order = order.gather(1, least.argsort(dim=1, stable=True))
    tied = (values <= least.amax(1, keepdim=True)).sum(1) > k
    order[tied] = values[tied].argsort(dim=1, stable=True)[:, :k]
    return order


def _table(
    patterns: Patterns, values: list[Tensor], rates: list[float], places: Tensor, labels: Tensor, k: int
) -> list[LayerNeighbours]:
    apart = [as_array(squared_euclidean(v, v).sqrt()) for v in values]
    table = [LayerNeighbours("input", values[0][0].numel(), None, rates[0], _NO, _NO, _NO, _NO)]
    for i, layer in enumerate(patterns.layers):
        one = patterns.layer(i)
        hamming, differ = _rate(one, places, labels, k), as_array(one[places].distances())
        links = [f(differ, other) for other in (apart[i + 1], apart[0]) for f in (pearson, spearman)]
        table.append(LayerNeighbours(layer.name, layer.num_units, hamming, rates[i + 1], *links))
    if len(patterns.layers) > 1:
        total, differ = sum(layer.num_units for layer in patterns.layers), as_array(patterns[places].distances())
        links = [f(differ, apart[0]) for f in (pearson, spearman)]
        table.append(LayerNeighbours(ALL_LAYERS, total, _rate(patterns, places, labels, k), None, _NO, _NO, *links))
    return table


def _rate(patterns: Patterns, places: Tensor, labels: Tensor, k: int) -> float:
    index, _ = _others(patterns, places, k)
    return float((vote(labels[index]) == labels[places]).double().mean())
