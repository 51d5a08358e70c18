"""What a layer's activations look like as a distribution: zero, or one side of a normal; and where its hyperplanes lie."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, final

import torch
from torch import Tensor

from ._check import ArrayLike
from ._half_normal import Normal, fit_folded, fit_truncated, folded_density, half_normal_below, truncated_density
from ._types import Result
from .errors import InputError, UnsupportedError
from .gates import Gate
from .layer_map import layer_map
from .network import Network, chunks
from .pattern import UnitLayer

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BINS = 4096  # of the histogram that stands for all values


@final
@dataclass(frozen=True, eq=False, slots=True, repr=False)
class FirstLayerModel(Result):
    """The activations of one ReLU layer over a data set, and normal distributions fitted to them.

    Of all activations, zeros included: `mean`, `deviation`, and `active` (units,), the share of inputs with which each unit
    fires. Of the positive ones: `positive_mean`, `positive_deviation`, and the models. With B saying whether a unit fires:

    - `sigma_by_mean`, `sigma_by_deviation`: B|Y|, Y normal with mean 0, its deviation from either moment equation; the second
      is the most likely one as well;
    - `folded`: B|Y| with a free mean, most likely; `truncated`: Y given Y > 0, most likely, None where no normal is best;
    - `log_likelihood`: of one positive activation under each, in nats.

    `half_normal_gap` is the greatest difference between the distribution functions of the positive activations and of |Y|,
    `mirrored_gap` that between their mirror image |Y| C, C a fair sign, and all pre-activations (|Y| C has mean 0 and deviation
    `sigma_by_deviation`). `distances` (units,) are those of the hyperplanes from the origin of what the layer reads, infinite
    for a unit of no weights. `edges` (bins + 1,) and `counts` (bins,) hold the pre-activations of all units.
    """

    layer: str
    inputs: int
    active: Tensor
    mean: float
    deviation: float
    positive_mean: float
    positive_deviation: float
    folded: Normal
    truncated: Normal | None
    log_likelihood: dict[str, float]
    half_normal_gap: float
    mirrored_gap: float
    distances: Tensor
    edges: Tensor
    counts: Tensor

    @property
    def sigma_by_mean(self) -> float:
        """The deviation of Y from the mean of |Y|."""
        return sigma_from_mean(self.positive_mean)

    @property
    def sigma_by_deviation(self) -> float:
        """The deviation of Y from mean and deviation of |Y|, which is also the most likely one at mean 0."""
        return sigma_from_deviation(self.positive_mean, self.positive_deviation)

    def __repr__(self) -> str:
        return f"FirstLayerModel({self.layer}, {len(self.active)} units, {self.inputs} inputs)"

    def summary(self) -> str:
        cut = "no normal is best" if self.truncated is None else _words(self.truncated)
        likely = ", ".join(f"{name} {value:.4f}" for name, value in self.log_likelihood.items())
        return "\n".join(
            [
                f"{self.layer}: {len(self.active)} units over {self.inputs} inputs",
                f"  active {float(self.active.mean()):.1%}; activations {_words(Normal(self.mean, self.deviation))}",
                f"  positive ones {_words(Normal(self.positive_mean, self.positive_deviation))}",
                f"  as |Y|, Y ~ N(0, s^2): s = {self.sigma_by_mean:.4f} by mean, {self.sigma_by_deviation:.4f} by deviation",
                f"  as |Y|, Y normal: {_words(self.folded)}; as Y given Y > 0: {cut}",
                f"  log-likelihood of one: {likely}",
                f"  greatest gap to |Y|: {self.half_normal_gap:.4f}; of |Y| C to the pre-activations: {self.mirrored_gap:.4f}",
                f"  hyperplanes lie {float(self.distances.median()):.4g} from the origin (median)",
            ]
        )

    def to_dict(self) -> dict[str, Any]:
        return {
            "layer": self.layer,
            "inputs": self.inputs,
            "units": len(self.active),
            "active": float(self.active.mean()),
            "mean": self.mean,
            "deviation": self.deviation,
            "positive_mean": self.positive_mean,
            "positive_deviation": self.positive_deviation,
            "sigma_by_mean": self.sigma_by_mean,
            "sigma_by_deviation": self.sigma_by_deviation,
            "folded": self.folded._asdict(),
            "truncated": None if self.truncated is None else self.truncated._asdict(),
            "log_likelihood": self.log_likelihood,
            "half_normal_gap": self.half_normal_gap,
            "mirrored_gap": self.mirrored_gap,
            "distances": [d if math.isfinite(d) else None for d in self.distances.tolist()],
        }

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Draw the positive activations' density on a logarithmic scale, and the normals fitted to it."""
        axes: Axes = importlib.import_module("polylens.plotting.models").draw(self, ax, **options)
        return axes


def sigma_from_mean(mean: float) -> float:
    """Return the deviation of a normal Y of mean 0 from the mean of |Y|: mean = sigma sqrt(2 / pi)."""
    return mean * math.sqrt(math.pi / 2)


def sigma_from_deviation(mean: float, deviation: float) -> float:
    """Return it from mean and deviation of |Y|: deviation^2 = sigma^2 - mean^2."""
    return math.hypot(mean, deviation)


def first_layer_model(net: Network, X: ArrayLike, layer: str | int = 0, *, batch_size: int | None = None) -> FirstLayerModel:
    """Return how a ReLU layer's activations are distributed over a data set, beside one-sided normal distributions.

    With inputs from N(0, I) and small random weights, pre-activations are close to normal with mean 0, so an activation is 0
    half of the time and |Y| otherwise. How far a layer is from that is what the gaps and the other fits say.

    Args:
        net: a network with a ReLU layer whose input is affine in one value, such as the network's input.
        X: inputs (batch, *input_shape), or one of them; arrays in files are read chunk by chunk.
        layer: the layer's name or position among `net.gates`; the first by default.
        batch_size: inputs evaluated at once; by default what keeps the activations near 32 MB.

    Raises:
        UnsupportedError: the layer is not a ReLU, or joins several values.
        InputError, ShapeError: as for `patterns`; also a layer of no units, or one that never fires.

    Algorithm: two passes over the data, the first for range and moments, the second for a histogram of 4 096 bins, from
    which distributions are compared and fitted; memory does not grow with the data. Gaps are known up to the fullest bin.

    References: Swiniarski, Bruna, Cho, Study on activation patterns, sections 4.1 and 4.2; Leone, Nelson, Nottingham, The
    folded normal distribution, Technometrics 3 (1961).

    Example:
        >>> from polylens import dense
        >>> import torch
        >>> net = dense([([[0.0, 0.5]], [0.0]), ([[1.0]], None)])
        >>> x = torch.randn(20_000, 2, generator=torch.Generator().manual_seed(0))
        >>> round(first_layer_model(net, x).sigma_by_mean, 2)  # half of a unit normal
        0.5
    """
    node = net.nodes[net.value_of(layer) - 1]
    if not (isinstance(node.step, Gate) and node.step.kind == "relu"):
        raise UnsupportedError(f"first_layer_model: expected a ReLU layer; {node.name} is {node.step.kind}")
    affine = layer_map(net, node.inputs[0])
    unit = UnitLayer(node.name, node.step.kind, node.shape)
    if not unit.num_units:
        raise InputError(f"first_layer_model: expected a layer with units; {node.name} has none")
    before: Callable[[], Iterable[Tensor]] = lambda: (  # noqa: E731
        net.forward(x, last=node.inputs[0]).flatten(1).double() for x in chunks(net, X, batch_size, "activations")
    )
    with torch.no_grad():
        known = _first_pass(before())
        if not known.positive:
            raise InputError(f"first_layer_model: expected a layer that fires; no unit of {node.name} does on these inputs")
        edges = torch.linspace(known.low, known.high, BINS + 1, dtype=torch.float64)
        counts = torch.zeros(BINS, dtype=torch.float64)
        for z in before():
            counts += torch.histogram(z.cpu().reshape(-1), edges)[0]
        distances = _distances(affine.matrix().cpu(), affine.offset.cpu())
    return _model(unit, known, edges, counts, distances)


@dataclass(slots=True)
class _Known:
    """What one pass over the pre-activations has counted."""

    inputs: int = 0
    low: float = 0.0
    high: float = -math.inf
    active: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.float64))
    first: float = 0.0
    second: float = 0.0
    positive: int = 0


def _first_pass(batches: Iterable[Tensor]) -> _Known:
    known = _Known()
    for z in batches:
        on = z > 0
        known.inputs += len(z)
        known.low, known.high = min(known.low, float(z.min())), max(known.high, float(z.max()))
        known.active = known.active + on.sum(0).double().cpu()
        known.first += float(z[on].sum())
        known.second += float(z[on].square().sum())
        known.positive += int(on.sum())
    return known


def _distances(weight: Tensor, bias: Tensor) -> Tensor:
    norms = torch.linalg.vector_norm(weight, dim=1)
    return torch.where(norms > 0, bias.abs() / norms, math.inf)


def _model(unit: UnitLayer, known: _Known, edges: Tensor, counts: Tensor, distances: Tensor) -> FirstLayerModel:
    total = known.inputs * unit.num_units
    mean, second = known.first / total, known.second / total
    ahead, square = known.first / known.positive, known.second / known.positive
    positive = _positive(edges, counts)
    sigma = math.sqrt(square)
    middles, held = (positive[0][1:] + positive[0][:-1]) / 2, positive[1]
    folded, truncated = fit_folded(middles, held), fit_truncated(middles, held)
    densities = {"half-normal": folded_density(middles, Normal(0.0, sigma)), "folded": folded_density(middles, folded)}
    if truncated is not None:
        densities["truncated"] = truncated_density(middles, truncated)
    share = held / held.sum()
    return FirstLayerModel(
        layer=unit.name,
        inputs=known.inputs,
        active=known.active / known.inputs,
        mean=mean,
        deviation=math.sqrt(max(0.0, second - mean**2)),
        positive_mean=ahead,
        positive_deviation=math.sqrt(max(0.0, square - ahead**2)),
        folded=folded,
        truncated=truncated,
        log_likelihood={k: float((share * torch.log(d.clamp(min=1e-300))).sum()) for k, d in densities.items()},
        half_normal_gap=float((share.cumsum(0) - half_normal_below(positive[0][1:], sigma)).abs().max()),
        mirrored_gap=_mirrored_gap(edges, counts, *positive),
        distances=distances,
        edges=edges,
        counts=counts,
    )


def _positive(edges: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Return the part of the histogram above 0, the bin around 0 shared by length."""
    first = int((edges[1:] <= 0).sum())
    cut = edges[first:].clone()
    held = counts[first:].clone()
    if cut[0] < 0:
        held[0] *= float(cut[1] / (cut[1] - cut[0]))
        cut[0] = 0.0
    return cut, held


def _mirrored_gap(edges: Tensor, counts: Tensor, cut: Tensor, held: Tensor) -> float:
    """Return the greatest gap between the distribution functions of |Y| C and of the pre-activations."""
    above = torch.cat([held.new_zeros(1), held.cumsum(0) / held.sum()])  # P(|Y| <= cut)
    folded = _interpolated(edges.abs(), cut, above)
    mirrored = torch.where(edges >= 0, 0.5 + 0.5 * folded, 0.5 - 0.5 * folded)
    seen = torch.cat([counts.new_zeros(1), counts.cumsum(0) / counts.sum()])
    return float((mirrored - seen).abs().max())


def _interpolated(x: Tensor, known: Tensor, values: Tensor) -> Tensor:
    right = torch.searchsorted(known.contiguous(), x.contiguous()).clamp(1, len(known) - 1)
    left = right - 1
    along = ((x - known[left]) / (known[right] - known[left])).clamp(0, 1)
    return values[left] + along * (values[right] - values[left])


def _words(n: Normal) -> str:
    return f"{n.mean:.4f} +- {n.deviation:.4f}"
