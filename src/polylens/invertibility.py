"""Which layers of a network can be undone at the inputs of a data set: the kinds of their preimages, counted."""

from __future__ import annotations

import importlib
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, final

import torch
from torch import Tensor

from ._check import ArrayLike, array, batches
from ._layer_system import Gate as GateName
from ._progress import progress
from ._types import Result, Tolerance
from .errors import InputError, UnsupportedError
from .gates import Gate, MaxGate
from .layer_preimage import KINDS, WORDS, layer_preimage
from .network import Network
from .polytope import Polytope
from .steps import Affine

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
    to satisfy: "space", "orthant" or "polytope".
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
        return "\n".join(lines + [f"  {name:<{wide}}  not asked: {why}" for name, why in self.skipped.items()])

    def to_dict(self) -> dict[str, Any]:
        layers = [
            {
                "name": layer.name,
                "inputs": layer.inputs,
                "outputs": layer.outputs,
                "gate": layer.gate,
                "reach": layer.reach,
                "counts": layer.counts,
                "kind": [KINDS[int(k)] for k in layer.kind],
                "positive": layer.positive.tolist(),
                "dimension": [None if d < 0 else d for d in layer.dimension.tolist()],
                "diameter": [d if math.isfinite(d) else None for d in layer.diameter.tolist()],
            }
            for layer in self.layers
        ]
        return {"layers": layers, "skipped": self.skipped}

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Draw how many preimages of each kind there are, by the number of positive outputs; `layer` says of which layer."""
        axes: Axes = importlib.import_module("polylens.plotting_invertibility").draw(self, ax, **options)
        return axes


class _Asked(NamedTuple):
    """A layer: the affine nodes from a value to a gate, and what the value is known to satisfy."""

    name: str
    gate: GateName
    source: int
    way: tuple[int, ...]
    reachable: Literal["orthant"] | Polytope | None


def invertibility(
    net: Network,
    X: ArrayLike,
    layers: Sequence[str | int] | None = None,
    *,
    domain: Polytope | None = None,
    tolerance: Tolerance = TOLERANCE,
) -> Invertibility:
    """Return, for every layer and every input, whether the preimage of the layer's output is a point, bounded or unbounded.

    A layer is what is affine between two gates, with the gate behind it. The input of the first is any point of the space
    (or of `domain`), that of deeper ones what their gates let through: the orthant behind a ReLU.

    Args:
        net: any network; layers whose gate is not ReLU, LeakyReLU or Abs, or that join several values, are skipped.
        X: inputs (batch, *input_shape), or one of them.
        layers: names of gates or positions among them; None for all, and for the affine part behind the last gate.
        domain: what inputs of the network are known to satisfy, a polytope in the flattened input.
        tolerance: as for `layer_preimage`.

    Raises:
        UnsupportedError: a layer that was asked for by name is skipped otherwise; or its matrix would be too large.
        InputError, ShapeError: as for `patterns`.

    Algorithm: `layer_preimage` once for each layer and input; the layer's matrix is written down, convolutions' too.

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
        found = tuple(_over(net, layer, rows, tolerance) for layer in asked)
    return Invertibility(found, skipped)


def _asked(net: Network, layers: Sequence[str | int] | None, domain: Polytope | None) -> tuple[list[_Asked], dict[str, str]]:
    """Return the layers that can be asked and why others cannot."""
    values = [net.value_of(layer) for layer in layers] if layers is not None else _all(net)
    found, skipped = list[_Asked](), dict[str, str]()
    for value in values:
        name = net.nodes[value - 1].name
        layer = _layer(net, value, domain)
        if isinstance(layer, _Asked):
            found.append(layer)
        elif layers is not None:
            raise UnsupportedError(f"invertibility: expected a layer whose preimages are polyhedra; {name}: {layer}")
        else:
            skipped[name] = layer
    return found, skipped


def _all(net: Network) -> list[int]:
    """Return the values of the gates, and the output where something affine stands behind the last of them."""
    values = [net.value_of(gate.name) for gate in net.gates]
    return values + ([len(net.nodes)] if net.nodes and isinstance(net.nodes[-1].step, Affine) else [])


def _layer(net: Network, value: int, domain: Polytope | None) -> _Asked | str:
    """Return the layer that ends in a value, or why it cannot be asked."""
    node = net.nodes[value - 1]
    gate = "identity" if isinstance(node.step, Affine) else _gate(node.step)
    if gate is None:
        return f"its {node.step.kind} is not ReLU, LeakyReLU or Abs"
    way, source = [], value if gate == "identity" else node.inputs[0]
    while source and isinstance(net.nodes[source - 1].step, Affine):
        if len(net.nodes[source - 1].inputs) != 1:
            return f"{net.nodes[source - 1].name} joins several values"
        way.append(source)
        source = net.nodes[source - 1].inputs[0]
    size = math.prod(net.shape_of(source)) * math.prod(node.shape)
    if size > MOST_ENTRIES:
        return f"its matrix would have {size:,} entries, more than {MOST_ENTRIES:,}"
    reachable = domain if source == 0 else "orthant" if _nonnegative(net, source) else None
    return _Asked(node.name, gate, source, tuple(reversed(way)), reachable)  # type: ignore[arg-type]


def _gate(step: object) -> str | None:
    """Return the name of a gate whose preimages are known."""
    if not isinstance(step, Gate):
        return None
    if step.kind in ("relu", "abs"):
        return step.kind
    plain = step.num_pieces == 2 and not bool(step.breakpoints.any()) and not bool(step.intercepts.any())
    return "leaky_relu" if plain and bool((step.slopes > 0).all()) else None


def _nonnegative(net: Network, value: int) -> bool:
    """Say whether a value is at least 0 in every entry, by the gate that puts it out."""
    node = net.nodes[value - 1]
    if isinstance(node.step, MaxGate):
        inner = node.inputs[0]
        return inner > 0 and _nonnegative(net, inner)
    return isinstance(node.step, Gate) and node.step.kind in ("relu", "abs")


def _over(net: Network, layer: _Asked, x: Tensor, tolerance: Tolerance) -> LayerKinds:
    weight, bias = _matrix(net, layer)
    values = torch.cat([net.forward(part, last=layer.source).flatten(1) for part in x.split(_BATCH)]).cpu()
    rows = []
    for value in progress(values, len(values), layer.name):
        start = time.perf_counter()
        found = layer_preimage(weight, bias, value, gate=layer.gate, reachable=layer.reachable, tolerance=tolerance)
        positive = int((weight @ value + bias > 0).sum())
        dimension = -1 if found.dimension is None else found.dimension
        rows.append((KINDS.index(found.kind), positive, dimension, found.diameter, time.perf_counter() - start))
    kind, positives, dimensions, diameters, seconds = zip(*rows, strict=True)
    whole = [torch.tensor(v) for v in (kind, positives, dimensions)]
    reals = [torch.tensor(v, dtype=torch.float64) for v in (diameters, seconds)]
    reach = "space" if layer.reachable is None else "polytope" if isinstance(layer.reachable, Polytope) else "orthant"
    return LayerKinds(layer.name, weight.shape[1], weight.shape[0], layer.gate, reach, *whole, *reals)


def _matrix(net: Network, layer: _Asked) -> tuple[Tensor, Tensor]:
    """Return the matrix (outputs, inputs) and the constant of the affine nodes of a layer."""
    shape = net.shape_of(layer.source)
    n = math.prod(shape)
    columns = torch.eye(n, dtype=torch.float64, device=net.device).reshape(n, *shape)
    offset = torch.zeros(1, *shape, dtype=torch.float64, device=net.device)
    for value in layer.way:
        step = net.nodes[value - 1].step
        if isinstance(step, Affine):
            columns, offset = step.linear(columns), step.apply(offset)
    return columns.flatten(1).T.contiguous().cpu(), offset.reshape(-1).cpu()
