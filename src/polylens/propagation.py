"""How a signal's size goes from layer to layer: measured over data, beside what independent inputs and weights would give."""

from __future__ import annotations

import importlib
import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, final

import numpy as np
import torch
from torch import Tensor

from ._check import ArrayLike
from ._types import Result
from .errors import InputError, UnsupportedError
from .gates import Gate
from .layer_map import LayerMap, layer_map
from .network import Network, chunks
from .smooth import Smooth
from .steps import Step

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_UNITS = 1024  # of a layer, whose weights are written down: evenly spread where it has more
_NODES = 201  # of the quadrature: exact to 1e-6 for a kink at 0
_POINTS, _WEIGHTS = (torch.from_numpy(v) for v in np.polynomial.hermite_e.hermegauss(_NODES))


@final
@dataclass(frozen=True, slots=True)
class LayerSignal:
    """The size of a layer's pre-activations z = W h + b over the data, each a mean over its units.

    `second_moment` is that of z, `variance` that of z over the data, which is w^T Cov(h) w; `independent` is what it would be
    if the entries of h were independent, sum w_i^2 Var(h_i). `predicted` is the second moment that random weights of
    mean 0 and these sizes would give after the layer in front: |w|^2 E[h^2] + b^2 with E[h^2] that of the gate at a normal
    pre-activation of the second moment measured there; `gain` the factor that comes from the weights and the gate in front
    alone: with He's initialisation 1 behind a ReLU, and 2 where the layer reads the input. `active` is the share of positive
    pre-activations.
    """

    name: str
    gate: str
    second_moment: float
    variance: float
    independent: float | None
    predicted: float | None
    gain: float | None
    active: float


@final
@dataclass(frozen=True, eq=False, slots=True, repr=False)
class Propagation(Result):
    """The size of the signal at every gate and at the output; `skipped` says what is left out, and why."""

    layers: tuple[LayerSignal, ...]
    inputs: int
    skipped: dict[str, str]

    def __repr__(self) -> str:
        return f"Propagation({len(self.layers)} layers, {self.inputs} inputs)"

    def summary(self) -> str:
        wide = max(len(row.name) for row in self.layers)
        head = f"{'':<{wide}}  {'E[z^2]':>10} {'predicted':>10} {'gain':>8} {'Var z':>10} {'if indep.':>10} {'active':>7}"
        lines = [f"the signal's size over {self.inputs} inputs", "  " + head]
        for row in self.layers:
            cells = f"{row.second_moment:>10.4g} {_cell(row.predicted):>10} {_cell(row.gain):>8} {row.variance:>10.4g}"
            lines.append(f"  {row.name:<{wide}}  {cells} {_cell(row.independent):>10} {row.active:>7.1%}")
        return "\n".join(lines + [f"  {name}: {why}" for name, why in self.skipped.items()])

    def to_dict(self) -> dict[str, Any]:
        rows = [{f.name: getattr(row, f.name) for f in fields(row)} for row in self.layers]
        return {"inputs": self.inputs, "layers": rows, "skipped": self.skipped}

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Draw the second moment at every layer, measured and predicted."""
        axes: Axes = importlib.import_module("polylens.plotting.models").draw(self, ax, **options)
        return axes


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def propagation(net: Network, X: ArrayLike, *, batch_size: int | None = None) -> Propagation:
    """Return how large pre-activations are at every gate and at the output, beside what theory says they should be.

    Second moments are compared rather than variances: behind a ReLU the mean is not 0.

    Args:
        net: any network.
        X: inputs (batch, *input_shape), or one of them; arrays in files are read chunk by chunk.
        batch_size: inputs evaluated at once; by default what keeps the activations near 32 MB.

    Raises:
        InputError: the network has no layer; InputError, ShapeError: as for `patterns`.

    Algorithm: one pass over the data for the moments of every unit, and Gauss-Hermite quadrature with 201 nodes for the gates.
    `independent` and `predicted` take the weights of at most 1 024 units a layer, evenly spread; they are None for layers that
    join several values, and `predicted` also where what the layer reads is not an elementwise gate's output, or the input.

    References: Glorot, Bengio (2010): n_in / (n_in + n_out) a ReLU layer; He, Zhang, Ren, Sun (2015): 1; Klambauer,
    Unterthiner, Mayr, Hochreiter (2017): SELU keeps mean 0 and variance 1. Swiniarski, Bruna, Cho, section 4.4.

    Example:
        >>> import torch
        >>> from polylens import dense
        >>> g = torch.Generator().manual_seed(0)
        >>> he = [(torch.randn(512, 512, generator=g) * (2 / 512) ** 0.5, None) for _ in range(3)]
        >>> found = propagation(dense(he), torch.randn(200, 512, generator=g))
        >>> round(found.layers[1].gain, 1)
        1.0
    """
    ends = {net.nodes[net.value_of(g.name) - 1].inputs[0]: (g.name, g.kind) for g in net.gates if not g.is_max}
    if net.nodes and len(net.nodes) not in {net.value_of(g.name) for g in net.gates}:
        ends.setdefault(len(net.nodes), ("output", "none"))
    if not ends:
        raise InputError("propagation: expected a network with a gate or a layer; this one has neither")
    ways, skipped = dict[int, LayerMap](), dict[str, str]()
    for value, (name, _) in ends.items():
        try:
            ways[value] = layer_map(net, value)
        except UnsupportedError as error:
            skipped[name] = f"no theory: {error}"
    wanted = set(ends) | {way.source for way in ways.values()}
    with torch.no_grad():
        seen = _moments(net, X, wanted, batch_size)
        rows = [_row(net, value, name, gate, seen, ways.get(value)) for value, (name, gate) in ends.items()]
    return Propagation(tuple(rows), seen[next(iter(ends))].count, skipped)


@dataclass(slots=True)
class _Moments:
    """Running moments of one value, entry by entry, about a first guess of the mean."""

    count: int = 0
    shift: Tensor | None = None
    first: Tensor | int = 0
    second: Tensor | int = 0
    positive: int = 0

    def add(self, values: Tensor) -> None:
        flat = values.flatten(1).double()
        self.shift = flat.mean(0) if self.shift is None else self.shift
        self.count += len(flat)
        self.first = self.first + (flat - self.shift).sum(0)
        self.second = self.second + (flat - self.shift).square().sum(0)
        self.positive += int((flat > 0).sum())

    @property
    def variance(self) -> Tensor:
        """The variance of every entry over the data (divided by their number)."""
        first, second = (torch.as_tensor(v) / self.count for v in (self.first, self.second))
        return (second - first.square()).clamp(min=0)

    @property
    def second_moment(self) -> Tensor:
        """The mean square of every entry."""
        shift = torch.as_tensor(self.shift)
        return self.variance + (shift + torch.as_tensor(self.first) / self.count).square()

    @property
    def active(self) -> float:
        """The share of positive entries."""
        return self.positive / max(1, self.count * torch.as_tensor(self.first).numel())


def _moments(net: Network, X: ArrayLike, wanted: set[int], batch_size: int | None) -> dict[int, _Moments]:
    found = {value: _Moments() for value in wanted}
    positions = {id(node): k for k, node in enumerate(net.nodes, 1)}
    for x in chunks(net, X, batch_size, "moments"):
        if 0 in wanted:
            found[0].add(x)

        def visit(node: Any, inputs: list[Tensor]) -> None:
            if positions[id(node)] in wanted:
                found[positions[id(node)]].add(node.step.apply(*inputs))

        net.forward(x, visit, max(wanted))
    return found


def _row(net: Network, value: int, name: str, gate: str, seen: dict[int, _Moments], way: LayerMap | None) -> LayerSignal:
    here = seen[value]
    row = LayerSignal(
        name=name,
        gate=gate,
        second_moment=_mean(here.second_moment),
        variance=_mean(here.variance),
        independent=None,
        predicted=None,
        gain=None,
        active=here.active,
    )
    if way is None or not way.outputs:
        return row
    squares, bias = _weights(way)
    row = _with(row, independent=_mean(squares @ seen[way.source].variance))
    size = float(squares.sum(1).mean())  # mean |w|^2
    if way.source == 0:
        return _with(row, predicted=size * _mean(seen[0].second_moment) + bias, gain=size)
    front = net.nodes[way.source - 1]
    if not _is_elementwise(front.step) or front.inputs[0] not in seen:
        return row
    before = _mean(seen[front.inputs[0]].second_moment)
    after = gate_second_moment(front.step, before)
    return _with(row, predicted=size * after + bias, gain=size * after / before if before else None)


def _with(row: LayerSignal, **changes: Any) -> LayerSignal:
    return LayerSignal(**{f.name: getattr(row, f.name) for f in fields(row)} | changes)


def _mean(values: Tensor) -> float:
    return float(values.mean()) if values.numel() else math.nan


def _weights(way: LayerMap) -> tuple[Tensor, float]:
    """Return the squared weights (units, inputs) of some units, and the mean square of all constants."""
    units = torch.linspace(0, way.outputs - 1, min(way.outputs, _UNITS), dtype=torch.float64).round().long()
    rows = torch.zeros(len(units), way.outputs, dtype=way.net.dtype, device=way.net.device)
    rows[torch.arange(len(units)), units] = 1
    return way.adjoint(rows.reshape(-1, *way.output_shape)).flatten(1).square(), float(way.offset.square().mean())


def _is_elementwise(step: Step) -> bool:
    shared = all(v.numel() == len(v) for v in step.parameters().values())
    return shared and (step.elementwise if isinstance(step, Smooth) else isinstance(step, Gate))


def gate_second_moment(step: Step, second_moment: float) -> float:
    """Return E[g(z)^2] for a gate g and z normal with mean 0 and the given second moment."""
    z = math.sqrt(second_moment) * _POINTS
    values = step.converted(lambda t: t.double()).apply(z[:, None])[:, 0]
    return float((_WEIGHTS * values.square()).sum() / _WEIGHTS.sum())
