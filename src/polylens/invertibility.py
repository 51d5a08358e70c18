"""Which layers of a network can be undone at the inputs of a data set: the kinds of their preimages, counted."""

from __future__ import annotations

import importlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import torch
from torch import Tensor

from ._check import ArrayLike, array, batches
from ._layers.asked import Asked, all_layers, asked_layer
from ._layers.large import large_layer
from ._layers.recession import Size
from ._layers.system import Layer
from ._progress import progress
from ._types import Result, Tolerance
from .errors import InputError, UnsupportedError
from .layer_preimage import KINDS, WORDS, Start, kind_at
from .network import Network
from .polytope import Polytope

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TOLERANCE = Tolerance()
MOST_ENTRIES = 1 << 25  # of a layer's matrix: 256 MB
_BATCH = 256


@final
@dataclass(frozen=True, eq=False, slots=True)
class LayerKinds:
    """The kinds of one layer's preimages: by input (inputs,), `kind` indexes singleton, bounded, unbounded, undecided.

    `positive` (inputs,) counts positive outputs, `dimension` (inputs,) is -1 where it is not settled, `diameter` (inputs,)
    infinite where nothing is certified, `seconds` (inputs,) the time each took. `reach` says what the layer's input is known
    to satisfy: "space", "orthant" or "polytope"; `note` how a large layer was asked.
    """

    name: str
    inputs: int
    outputs: int
    gate: str
    reach: str
    kind: Tensor
    positive: Tensor
    dimension: Tensor
    diameter: Tensor
    seconds: Tensor
    note: str = ""

    @property
    def counts(self) -> dict[str, int]:
        """How many preimages are of each kind."""
        return {name: int((self.kind == k).sum()) for k, name in enumerate(KINDS)}


@final
@dataclass(frozen=True, eq=False, slots=True, repr=False)
class Invertibility(Result):
    """The kinds of the preimages of a network's layers over a data set; `skipped` says why other layers were not asked."""

    layers: tuple[LayerKinds, ...]
    skipped: dict[str, str]

    def __getitem__(self, name: str | int) -> LayerKinds:
        if isinstance(name, int):
            return self.layers[name]
        found = [layer for layer in self.layers if layer.name == name]
        if not found:
            raise InputError(f"layer: expected one of {[layer.name for layer in self.layers]}; got {name!r}")
        return found[0]

    def __repr__(self) -> str:
        return f"Invertibility({len(self.layers)} layers, {len(self.layers[0].kind) if self.layers else 0} inputs)"

    def summary(self) -> str:
        wide = max((len(layer.name) for layer in self.layers), default=5)
        lines = [repr(self)]
        for layer in self.layers:
            counts = ", ".join(f"{count} {WORDS[kind]}" for kind, count in layer.counts.items() if count)
            shape = f"{layer.inputs} -> {layer.outputs}"
            median = int(layer.positive.median())
            lines.append(
                f"  {layer.name:<{wide}}  {shape:<14} on the {layer.reach}: {counts}; {median} positive outputs (median)"
            )
            lines += [f"  {'':<{wide}}  {layer.note}"] if layer.note else []
        return "\n".join(lines + [f"  {name:<{wide}}  not asked: {why}" for name, why in self.skipped.items()])

    def to_dict(self) -> dict[str, Any]:
        layers = [
            {
                "name": layer.name,
                "inputs": layer.inputs,
                "outputs": layer.outputs,
                "gate": layer.gate,
                "reach": layer.reach,
                "note": layer.note,
                "counts": layer.counts,
                "kind": [KINDS[int(k)] for k in layer.kind],
                "positive": layer.positive.tolist(),
                "dimension": [None if d < 0 else d for d in layer.dimension.tolist()],
                "diameter": [d if math.isfinite(d) else None for d in layer.diameter.tolist()],
                "seconds": layer.seconds.tolist(),
            }
            for layer in self.layers
        ]
        return {"layers": layers, "skipped": self.skipped}

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Draw how many preimages of each kind there are, by the number of positive outputs; `layer` says of which layer."""
        axes: Axes = importlib.import_module("polylens.plotting.invertibility").draw(self, ax, **options)
        return axes


def invertibility(
    net: Network,
    X: ArrayLike,
    layers: Sequence[str | int] | None = None,
    *,
    domain: Polytope | None = None,
    tolerance: Tolerance = TOLERANCE,
) -> Invertibility:
    """Return, for every layer and every input, whether the preimage of the layer's output is a point, bounded or unbounded.

    A layer is what is affine between two gates, with the gate behind it; max-pooling is taken with the ReLU before it. The
    input of the first is any point of the space (or of `domain`), that of deeper ones what their gates let through: the
    orthant behind a ReLU.

    Args:
        net: any network; layers whose gate is none of ReLU, LeakyReLU, Abs, max-pooling and strictly increasing functions
            (tanh, ELU, ...), or that join several values, are skipped.
        X: inputs (batch, *input_shape), or one of them.
        layers: names of gates or positions among them; None for all, and for the affine part behind the last gate.
        domain: what inputs of the network are known to satisfy, a polytope in the flattened input.
        tolerance: as for `layer_preimage`.

    Raises:
        UnsupportedError: one of `layers` cannot be asked; without them such layers are skipped, with the reason.
        InputError, ShapeError: as for `patterns`.

    Algorithm: that of `layer_preimage`, without a pair of inputs, once for each layer and input; proofs of one input start
    the search for the next one's. The layer's matrix is written down, convolutions' too, up to 33 million entries; beyond,
    its nonzero entries are taken: a preimage is a point if the Gram matrix of the positive rows has full rank, and unbounded
    if there are fewer rows than inputs. Where neither settles it and the kernel is too large, the answer is undecided.

    References: Behrmann, Dittmer, Fernsel, Maass (2018).

    >>> from polylens import dense
    >>> net = dense([([[1.0], [-1.0]], [0.0, 0.0]), ([[1.0, 1.0]], None)])
    >>> print(invertibility(net, [[2.0], [-1.0]]).layers[0].counts)
    {'singleton': 2, 'bounded': 0, 'unbounded': 0, 'undecided': 0}
    """
    net = net.double()
    asked, skipped = _asked(net, layers, domain)
    rows = torch.cat(list(batches(array(X), net.input_shape, _BATCH, torch.float64, net.device)))
    with torch.no_grad():
        answers = {layer.name: _over(net, layer, rows, tolerance) for layer in asked}
    large = {name: found for name, found in answers.items() if isinstance(found, str)}
    if layers is not None:
        for name, why in large.items():
            raise UnsupportedError(f"{name}: {why}; leave it out of `layers`")
    return Invertibility(tuple(found for found in answers.values() if not isinstance(found, str)), skipped | large)


def _asked(net: Network, layers: Sequence[str | int] | None, domain: Polytope | None) -> tuple[list[Asked], dict[str, str]]:
    """Return the layers that can be asked and why others cannot."""
    values = [net.value_of(layer) for layer in layers] if layers is not None else all_layers(net)
    found, skipped = list[Asked](), dict[str, str]()
    for value in values:
        name = net.nodes[value - 1].name
        layer = asked_layer(net, value, domain)
        if isinstance(layer, Asked):
            found.append(layer)
        elif layers is not None:
            raise UnsupportedError(f"invertibility: expected a layer whose preimages are polyhedra; {name}: {layer}")
        else:
            skipped[name] = layer
    return found, skipped


def _over(net: Network, asked: Asked, x: Tensor, tolerance: Tolerance) -> LayerKinds | str:
    """Return the kinds of one layer, or why it is too large to be asked."""
    question = _question(asked, tolerance)
    if isinstance(question, str):
        return question
    values = torch.cat([net.forward(part, last=asked.map.source).flatten(1) for part in x.split(_BATCH)]).cpu()
    kind_of, note = question
    rows = []
    for value in progress(values, len(values), asked.name):
        start = time.perf_counter()
        found = kind_of(value)
        rows.append((KINDS.index(found.kind), found.dimension, found.diameter, time.perf_counter() - start))
    kind, dimensions, diameters, seconds = zip(*rows, strict=True)
    positive = torch.cat([(part > 0).flatten(1).sum(1) for part in _outputs(net, asked, x)]).cpu()
    return LayerKinds(
        name=asked.name,
        inputs=asked.map.inputs,
        outputs=asked.map.outputs if asked.windows is None else len(asked.windows),
        gate=asked.gate if asked.windows is None else f"{asked.gate}, max-pooling",
        reach=asked.reach,
        kind=torch.tensor(kind),
        positive=positive,
        dimension=torch.tensor(dimensions),
        diameter=torch.tensor(diameters, dtype=torch.float64),
        seconds=torch.tensor(seconds, dtype=torch.float64),
        note=note,
    )


def _outputs(net: Network, asked: Asked, x: Tensor) -> Iterator[Tensor]:
    """Yield what counts as positive: pre-activations, or pooled values."""
    last = asked.map.value if asked.windows is None else asked.value
    for part in x.split(_BATCH):
        yield net.forward(part, last=last)


def _question(asked: Asked, tolerance: Tolerance) -> tuple[Callable[[Tensor], Size], str] | str:
    """Return how to ask for the kind at an input of the layer, and what is to be said of that; or why it is too large."""
    if asked.map.inputs * asked.map.outputs <= MOST_ENTRIES:
        matrix, offset = asked.map.matrix().cpu(), asked.map.offset.cpu()
        layer, start = Layer.of(matrix, offset, asked.gate, asked.reachable, asked.windows), Start()
        return lambda x: kind_at(layer, x, start, tolerance), ""
    large = large_layer(asked.map, asked.gate, asked.reachable == "orthant")
    if isinstance(large, str):
        return large
    note = "by its nonzero entries; undecided where fewer rows than inputs hold as equalities and others are too many"
    return lambda x: large.kind(x.numpy(), tolerance), note
