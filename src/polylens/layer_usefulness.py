"""How useful each layer is: what it changes in the distances of inputs and in patterns, and what is lost without it."""

from __future__ import annotations

import importlib
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple, final

import numpy as np
import torch
from torch import Tensor

from ._check import ArrayLike, whole
from ._clusters.behind import batch_of, behind_gates, chosen, rows, whole_labels
from ._clusters.pairs import alignment, as_array, squared_euclidean, transport
from ._types import Result
from .errors import InputError
from .network import Network, chunks, has_pattern
from .pattern import Patterns, UnitLayer

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LEAST = 4  # inputs: fewer have no unbiased alignment


class LayerScore(NamedTuple):
    """One layer of `LayerUsefulness`; None where there is no such number.

    `distance_change` and `pattern_change` are the two scores; `accuracy_lost` is the accuracy with the layer less that
    without it, `decisions_changed` the share of inputs that get another class without it.
    """

    name: str
    units: int
    distance_change: float | None
    pattern_change: float | None
    accuracy_lost: float | None
    decisions_changed: float | None


@final
@dataclass(frozen=True, eq=False, slots=True, repr=False)
class LayerUsefulness(Result):
    """What each layer changes and what is lost when it is bypassed: `table`, one line a gate, in order.

    `accuracy` is that of the whole network over all `inputs`, None without labels; the scores are over all pairs of
    `compared` of them.
    """

    table: tuple[LayerScore, ...]
    accuracy: float | None
    inputs: int
    compared: int

    def __repr__(self) -> str:
        return f"LayerUsefulness({len(self.table)} layers, {self.inputs} inputs)"

    def correlations(self) -> dict[str, float | None]:
        """Return how the two scores go with the accuracy lost, over the layers that can be bypassed: Pearson's coefficient.

        Without labels the share of changed decisions stands for the accuracy. None where fewer than three layers have both,
        or one of them does not vary. Few layers make wide errors: with four, chance alone goes beyond 0.95 one time in 20.
        """
        return {name: _correlated(self._column(name), self._lost()) for name in ("distance_change", "pattern_change")}

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Draw both scores of each layer beside the accuracy lost; `polylens.plotting.constellations` has the options."""
        axes: Axes = importlib.import_module("polylens.plotting.constellations").draw(self, ax, **options)
        return axes

    def summary(self) -> str:
        right = "" if self.accuracy is None else f", accuracy {self.accuracy:.1%}"
        lines = [f"usefulness of {len(self.table)} layers over {self.inputs} inputs{right}; pairs of {self.compared}"]
        wide = max([len(line.name) for line in self.table] + [5])
        lines.append(f"  {'layer':<{wide}}  distances changed  patterns changed  accuracy lost  decisions changed")
        for line in self.table:
            scores = f"{_short(line.distance_change):>17}  {_short(line.pattern_change):>16}"
            lost = f"{_percent(line.accuracy_lost):>13}  {_percent(line.decisions_changed):>17}"
            lines.append(f"  {line.name:<{wide}}  {scores}  {lost}".rstrip())
        for name, value in self.correlations().items():
            if value is not None:
                lines.append(f"  correlation of {name} with what is lost: {value:.2f}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        sizes = {"inputs": self.inputs, "compared": self.compared, "accuracy": self.accuracy}
        return {**sizes, "layers": [line._asdict() for line in self.table], "correlations": self.correlations()}

    def _column(self, name: str) -> list[float | None]:
        return [getattr(line, name) for line in self.table]

    def _lost(self) -> list[float | None]:
        return self._column("decisions_changed" if self.accuracy is None else "accuracy_lost")


def layer_usefulness(
    net: Network,
    x: ArrayLike,
    labels: ArrayLike | None = None,
    *,
    compared: int = 1000,
    seed: int = 0,
    batch_size: int | None = None,
) -> LayerUsefulness:
    """Return two scores of every layer's usefulness, and what happens to the network's decisions when it is bypassed.

    A layer is what lies between one gate and the next; the first begins at the input. With M_k the Hamming distances of all
    pairs of inputs behind gate k (M_0: their squared Euclidean distances) and n_k its units:

    - `distance_change` = 1 - <A, B> / (|A| |B|) for the U-centred A of M_(k-1) and B of M_k: 0 where both order the inputs
      alike, about 1 where they have nothing in common. For gates of two pieces M_k are squared Euclidean distances of bits,
      and this is one less the linear kernel alignment (CKA) of the patterns, made unbiased.
    - `pattern_change` = how much the distribution of patterns changes as each input sees it: the area between the
      distribution functions of its distances to the others, M_(k-1) / n_(k-1) and M_k / n_k, a mean over the inputs of
      1-Wasserstein distances, from 0 to 1. The input has no pattern, so the first layer has no such score. Over all pairs
      in one, layers that matter can have equal distributions.

    To bypass layer k, whatever reads gate k reads gate k - 1 instead (the input for k = 1). This can be done only where
    both have one shape; elsewhere it is None. Gates are taken in order of evaluation, also where paths are parallel.

    Args:
        net: a network with gates, whose output is one number a class for `accuracy_lost` and `decisions_changed`.
        x: (inputs, *input_shape), at least four.
        labels: (inputs,), the right classes; None for the scores and the changed decisions alone.
        compared: for how many inputs, chosen by `seed`, the pairs are compared.
        seed: of this choice.
        batch_size: inputs evaluated at once; by default what keeps the activations near 32 MB.

    Raises:
        InputError: fewer than four inputs, a label that is no class of the network, NaN, infinity, integers.
        ShapeError: x does not have the network's input shape, or there is not one label for each input.

    Algorithm: one pass over the compared inputs, O(compared^2 units); one pass over all inputs for the network and for each
    of the networks without a layer. Memory: two matrices compared x compared, and their values.

    References: Kornblith, Norouzi, Lee, Hinton (2019), Similarity of neural network representations revisited; Szekely,
    Rizzo (2014), Partial distance correlation (U-centring); Memoli (2011), Gromov-Wasserstein distances, on local
    distributions of distances; Swiniarski, Bruna, Cho, Study on activation patterns, which
    asks for such scores.

    Example:
        >>> from polylens import dense, layer_usefulness
        >>> import torch
        >>> same = ([[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0])  # a layer that ReLU in front of it makes the identity
        >>> net = dense([([[1.0, 2.0], [-1.0, 1.0]], [0.0, 0.0]), same, ([[1.0, 0.0], [0.0, 1.0]], None)])
        >>> x = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
        >>> layer_usefulness(net, x).table[1][2:]
        (0.0, 0.0, None, 0.0)
    """
    x = batch_of(net, x, _LEAST, "layer_usefulness")
    given = None if labels is None else _labels(net, labels, len(x))
    places = chosen(len(x), max(_LEAST, whole(compared, "compared")), seed)
    scores = _scores(net, rows(x, places), batch_size)
    base = _decisions(net, x, batch_size)
    accuracy = None if given is None or base is None else _share(base == given)
    without = [None if base is None else _without(net, k, x, batch_size) for k in range(len(net.gates))]
    table = tuple(
        LayerScore(layer.name, layer.num_units, *score, *_lost(base, other, given))
        for layer, score, other in zip(net.gates, scores, without, strict=True)
    )
    return LayerUsefulness(table, accuracy, len(x), len(places))


def bypassed(net: Network, gate: int) -> Network | None:
    """Return the network in which the layer of a gate (a position) is left out, or None where the shapes do not allow it.

    What read the gate reads the one in front of it, or the input; steps that nothing leads to the output from are dropped.
    """
    gates = [0, *(k for k, node in enumerate(net.nodes, 1) if has_pattern(node.step))]
    instead, leave = gates[gate : gate + 2]
    if net.shape_of(instead) != net.shape_of(leave):
        return None
    nodes = [replace(node, inputs=tuple(instead if i == leave else i for i in node.inputs)) for node in net.nodes]
    end = instead if leave == len(nodes) else len(nodes)
    needed = {end}
    for k in range(end, 0, -1):
        if k in needed:
            needed |= set(nodes[k - 1].inputs)
    kept = [k for k in range(1, end + 1) if k in needed]
    number = {0: 0} | {k: place for place, k in enumerate(kept, 1)}
    program = tuple(replace(nodes[k - 1], inputs=tuple(number[i] for i in nodes[k - 1].inputs)) for k in kept)
    return replace(net, nodes=program, source=f"{net.source} without {net.nodes[leave - 1].name}")


# -- the scores


def _scores(net: Network, x: Any, batch_size: int | None) -> list[tuple[float | None, float | None]]:
    parts = [(batch.cpu(), patterns) for batch, patterns, _ in behind_gates(net, x, batch_size, "patterns")]
    inputs, seen = torch.cat([batch for batch, _ in parts]), Patterns.concat([patterns for _, patterns in parts])
    before = as_array(squared_euclidean(inputs, inputs))
    in_front: UnitLayer | None = None
    found: list[tuple[float | None, float | None]] = []
    for i, layer in enumerate(seen.layers):
        behind = as_array(seen.layer(i).distances())
        change = 1 - alignment(before, behind)
        moved = None if in_front is None else transport(before / max(1, in_front.num_units), behind / max(1, layer.num_units))
        found.append((None if math.isnan(change) else max(0.0, change), moved))
        before, in_front = behind, layer
    return found


# -- the network without a layer


def _labels(net: Network, labels: ArrayLike, count: int) -> Tensor:
    given, classes = whole_labels(labels, count), _classes(net)
    if classes and not bool(((given >= 0) & (given < classes)).all()):
        raise InputError(
            f"labels: expected classes of the network, 0 to {classes - 1}; got {int(given.min())} to {int(given.max())}"
        )
    return given


def _classes(net: Network) -> int:
    """Return how many classes the outputs are, or 0 where they are none."""
    sizes = [n for n in net.output_shape if n > 1]
    return sizes[0] if len(sizes) == 1 else 0


def _decisions(net: Network, x: Any, batch_size: int | None) -> Tensor | None:
    """Return the class of every input, or None where the outputs are no classes."""
    if not _classes(net):
        return None
    with torch.no_grad():
        return torch.cat([net.forward(batch).flatten(1).argmax(1).cpu() for batch in chunks(net, x, batch_size, "decisions")])


def _without(net: Network, gate: int, x: Any, batch_size: int | None) -> Tensor | None:
    other = bypassed(net, gate)
    return None if other is None else _decisions(other, x, batch_size)


def _lost(base: Tensor | None, other: Tensor | None, labels: Tensor | None) -> tuple[float | None, float | None]:
    if base is None or other is None:
        return None, None
    lost = None if labels is None else _share(base == labels) - _share(other == labels)
    return lost, _share(base != other)


def _share(mask: Tensor) -> float:
    return float(mask.double().mean())


def _correlated(a: list[float | None], b: list[float | None]) -> float | None:
    both = [(p, q) for p, q in zip(a, b, strict=True) if p is not None and q is not None]
    if len(both) < 3 or min(len({p for p, _ in both}), len({q for _, q in both})) < 2:
        return None
    return float(np.corrcoef(np.array(both).T)[0, 1])


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"
