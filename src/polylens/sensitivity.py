"""Which entries of an input a unit hangs on: its gradient, and what the literature makes of it, exact where that can be."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, final

import numpy as np
import torch
from torch import Tensor

from ._check import ArrayLike, array, as_tensor, finite, floating, is_batch, whole
from ._integrated import mean_rows
from ._progress import progress
from ._rounding import magnitudes
from ._saliency import Local, class_maps, exact_part, feature_maps, guided, rows_of
from ._types import Result
from .errors import InputError
from .germ import towards
from .linearise import Side, _target, _units
from .local import MAX_BYTES, at_points
from .network import Network, section

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Method = Literal["gradient", "gradient_times_input", "integrated_gradients", "guided_backprop", "grad_cam"]

METHODS: tuple[Method, ...] = (
    "gradient", "gradient_times_input", "integrated_gradients", "guided_backprop", "grad_cam",
)  # fmt: skip
_LINES = 24  # inputs and units of a summary


class Ranking(NamedTuple):
    """The entries of the flattened input by size, the largest first: positions and values, both (batch, units, top)."""

    features: Tensor
    values: Tensor


@final
@dataclass(frozen=True, eq=False, slots=True, repr=False)
class Sensitivity(Result):
    """What every entry of some inputs has to do with the values of some units there, by one method or several.

    `inputs` (batch, *input_shape), float64; `units` (batch, k), positions in the flattened layer, and their `values`;
    `attributions`, by method, (batch, k, *input_shape): also as properties of the methods' names. `boundaries` (batch,)
    counts units and windows on whose boundary an input lies: there gradients are those of the pattern that `patterns` gives.

    Of integrated gradients: `baseline` (batch, *input_shape) and the units' `baseline_values` there, `breakpoints` (batch,) of
    the straight line from it, and `error` (batch, k), how far off quadrature may have left an entry: 0 where nothing is smooth.
    `feature_layer` is Grad-CAM's.
    """

    network: Network
    layer: str
    inputs: Tensor
    units: Tensor
    values: Tensor
    attributions: Mapping[str, Tensor]
    boundaries: Tensor
    baseline: Tensor
    baseline_values: Tensor
    breakpoints: Tensor
    error: Tensor
    feature_layer: str | None

    @property
    def gradient(self) -> Tensor:
        """The derivatives of the units by the entries of the input."""
        return self.of("gradient")

    @property
    def gradient_times_input(self) -> Tensor:
        """The gradients times the entries, which sum to the unit's value where the local map has no offset."""
        return self.of("gradient_times_input")

    @property
    def integrated_gradients(self) -> Tensor:
        """The mean gradients on the way from the baseline, times that way: they sum to the change of the unit's value."""
        return self.of("integrated_gradients")

    @property
    def guided_backprop(self) -> Tensor:
        """Gradients whose negative parts every ReLU drops on the way back."""
        return self.of("guided_backprop")

    @property
    def grad_cam(self) -> Tensor:
        """Feature maps, weighted by the mean gradients there, at the size of the input."""
        return self.of("grad_cam")

    def of(self, method: str) -> Tensor:
        """Return the attributions (batch, k, *input_shape) of one method, or raise InputError where it was not asked for."""
        if method not in self.attributions:
            raise InputError(f"method: expected one of {list(self.attributions)}, which were asked for; got {method!r}")
        return self.attributions[method]

    def gap(self, method: str) -> Tensor:
        """Return what is left (batch, k) of the value that attributions should sum to.

        Of gradient_times_input the unit's value: what is left is the offset of the local map. Of integrated_gradients the
        change from the baseline: what is left is rounding, the error of quadrature, and the jumps of gates that jump.

        Raises InputError for other methods, whose sums mean nothing, and for one that was not asked for.
        """
        wanted = {"gradient_times_input": self.values, "integrated_gradients": self.values - self.baseline_values}
        if method not in wanted:
            raise InputError(f"gap: expected one of {list(wanted)}, whose values have a sum to meet; got {method!r}")
        return wanted[method] - self.of(method).flatten(2).sum(2)

    def ranking(self, method: str | None = None, top: int = 10) -> Ranking:
        """Return the `top` entries of the input with the largest absolute values; of equal ones, the first.

        `method` is the last of those asked for that has a sum to meet, or the first, when None.
        """
        flat = self.of(method or self._main).flatten(2)
        top = min(whole(top, "top"), flat.shape[2])
        features = flat.abs().argsort(dim=2, descending=True, stable=True)[:, :, :top]
        return Ranking(features, flat.gather(2, features))

    @property
    def _main(self) -> str:
        summed = [m for m in ("integrated_gradients", "gradient_times_input") if m in self.attributions]
        return [*summed, *self.attributions][0]

    def unit_name(self, input: int, unit: int) -> str:
        """Return what the k-th unit of an input is called, such as `output 3`."""
        return f"{self.layer} {int(self.units[input, unit])}"

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, rows: Tensor | slice | int) -> Sensitivity:
        """Return some inputs (a mask, positions, a slice, or one position)."""
        keep = slice(rows, rows + 1 or None) if isinstance(rows, int) else rows
        found = {method: values[keep] for method, values in self.attributions.items()}
        own = ("inputs", "units", "values", "boundaries", "baseline", "baseline_values", "breakpoints", "error")
        parts: dict[str, Any] = {name: getattr(self, name)[keep] for name in own}
        return replace(self, attributions=found, **parts)

    def __repr__(self) -> str:
        batch, units = self.units.shape
        inputs, which = "input" if batch == 1 else "inputs", "unit" if units == 1 else "units"
        where = self.layer if self.layer != "output" else "the output"
        return f"Sensitivity({batch} {inputs}, {units} {which} of {where}: {', '.join(self.attributions)})"

    def summary(self) -> str:
        lines, method = [repr(self)], self._main
        ranked = self.ranking(method, 3)
        pairs = [(i, k) for i in range(len(self)) for k in range(self.units.shape[1])]
        for i, k in pairs[:_LINES]:
            lines.append(f"  input {i}, {self.unit_name(i, k)} = {float(self.values[i, k]):.5g}: {self._top(ranked, i, k)}")
        if len(pairs) > _LINES:
            lines.append(f"  ... and {len(pairs) - _LINES} more")
        lines.append(f"  entries of the input by {method.replace('_', ' ')}, the largest first")
        lines += self._sums()
        if bool(self.boundaries.any()):
            on = int((self.boundaries > 0).sum())
            lines.append(
                f"  {on} of the inputs lie on boundaries; their gradients are those of the pattern that is taken there"
            )
        return "\n".join(lines)

    def _top(self, ranked: Ranking, i: int, k: int) -> str:
        pairs = zip(ranked.features[i, k].tolist(), ranked.values[i, k].tolist(), strict=True)
        shown = [f"{_position(f, self.network.input_shape)} {v:+.4g}" for f, v in pairs if v]
        return ", ".join(shown) or "no entry counts"

    def _sums(self) -> list[str]:
        lines = []
        if "gradient_times_input" in self.attributions and self.units.numel():
            lines.append(
                f"  gradient times input leaves offsets of up to {float(self.gap('gradient_times_input').abs().max()):.3g}"
            )
        if "integrated_gradients" in self.attributions and self.units.numel():
            gap, most = float(self.gap("integrated_gradients").abs().max()), int(self.breakpoints.max())
            exact = f"exact along {most} breakpoints at most"
            how = exact if self.network.is_piecewise_linear else f"off by at most {float(self.error.max()):.2g} by estimate"
            lines.append(f"  integrated gradients, {how}, miss the change from the baseline by up to {gap:.2g}")
        return lines

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Draw one method's values over one input; `polylens.plotting.sensitivity` has the options, and a figure of all."""
        axes: Axes = importlib.import_module("polylens.plotting.sensitivity").draw(self, ax, **options)
        return axes

    def to_dict(self) -> dict[str, Any]:
        summed = [m for m in ("gradient_times_input", "integrated_gradients") if m in self.attributions]
        return {
            "layer": self.layer,
            "units": self.units.tolist(),
            "values": self.values.tolist(),
            "attributions": {method: values.tolist() for method, values in self.attributions.items()},
            "ranking": {method: self.ranking(method).features.tolist() for method in self.attributions},
            "gaps": {method: self.gap(method).tolist() for method in summed},
            "boundaries": self.boundaries.tolist(),
            "baseline_values": self.baseline_values.tolist(),
            "breakpoints": self.breakpoints.tolist(),
            "error": self.error.tolist(),
            "feature_layer": self.feature_layer,
        }


def _position(feature: int, shape: tuple[int, ...]) -> str:
    """Return where an entry of the flattened input is, such as (0, 3, 5); axes of one entry are left out."""
    index = np.unravel_index(feature, shape) if shape else ()
    kept = [str(int(i)) for i, n in zip(index, shape, strict=True) if n > 1]
    return f"({', '.join(kept)})" if len(kept) > 1 else f"[{kept[0] if kept else 0}]"


def sensitivity(
    net: Network,
    x: ArrayLike,
    layer: str | int | None = None,
    *,
    units: Sequence[int] | Tensor | Literal["largest"] | None = None,
    at: Side = "post",
    methods: Sequence[Method] = ("gradient", "gradient_times_input", "integrated_gradients"),
    baseline: ArrayLike = 0.0,
    feature_layer: str | None = None,
    tolerance: float = 1e-8,
    max_bytes: int = MAX_BYTES,
) -> Sensitivity:
    """Return what every entry of some inputs has to do with the values of units there.

    The gradient is exact: of a piecewise-linear network, the row of its local map. So are integrated gradients, which sum
    to the change of the unit's value from the baseline; no number of steps has to be chosen. Guided backpropagation and
    Grad-CAM are there for comparison: their values sum to nothing that is known.

    Args:
        net: any network; it is looked at in float64.
        x: inputs (batch, *input_shape), or one, which counts as a batch of one.
        layer: a node's name, a position among `net.gates`, or None for the output.
        units: positions in the flattened layer, a mask of bools for it, "largest" for the largest unit at every input (the
            class that a classifier chooses), or None for all.
        at: "post" for what the layer puts out, "pre" for what reaches it.
        methods: some of "gradient", "gradient_times_input", "integrated_gradients", "guided_backprop", "grad_cam".
        baseline: where integrated gradients start: a number for every entry, one input (*input_shape), or one for each of x.
            An input that is its own baseline has attributions of 0.
        feature_layer: whose feature maps (channels, *space) Grad-CAM weighs; None for the last convolution, behind its gate.
        tolerance: how far off the quadrature of smooth networks may be, in parts of the largest entry that there would be if
            nothing cancelled. Where it is not met, `error` tells.
        max_bytes: bound on the memory for intermediate tensors; the result comes on top.

    Raises:
        ShapeError, InputError: as for `linearise`; an unknown method, none at all, or one without what it needs: Grad-CAM
            needs convolutions in front of the units and their axes in the input.

    Algorithm: rows of the units are pulled back through the gates as they are at the inputs. Integrated gradients need a
    subdivision of each segment and a pull of rows for each of its cells; with smooth steps, quadrature by seven points on
    each, halved until the estimates of the error add up to less than the tolerance. In guided backpropagation every ReLU
    passes back what is positive; Grad-CAM interpolates linearly.

    References: K. Simonyan, A. Vedaldi, A. Zisserman, Deep inside convolutional networks, ICLR workshop 2014; M. Sundararajan,
    A. Taly, Q. Yan, Axiomatic attribution for deep networks, ICML 2017; J. T. Springenberg et al., Striving for simplicity,
    ICLR workshop 2015; R. R. Selvaraju et al., Grad-CAM, ICCV 2017.

    Example:
        >>> from polylens import dense, sensitivity
        >>> import torch
        >>> net = dense([([[1.0, 1.0]], [-1.0]), ([[2.0]], None)])  # 2 relu(a + b - 1)
        >>> found = sensitivity(net, torch.tensor([[1.0, 3.0]]))
        >>> found.gradient.tolist(), found.integrated_gradients.tolist()  # the unit wakes at a quarter of the way
        ([[[2.0, 2.0]]], [[[1.5, 4.5]]])
        >>> found.values.item(), found.gap("gradient_times_input").item(), found.breakpoints.item()
        (6.0, -2.0, 1)
    """
    if not isinstance(net, Network):
        raise InputError(f"network: expected a Network of polylens; got {type(net).__name__}; polylens.load makes one of it")
    chosen, net = _methods(methods), net.double()
    points = _points(net, x)
    front = section(net, 0, _target(net, layer, at))
    start = _baseline(net, baseline, points)
    with torch.no_grad():
        outputs = front.forward(points).flatten(1) if points.numel() else front.forward(points).reshape(len(points), -1)
        which = _chosen(units, front.output_shape, outputs)
        work = _Work(front, points, start, which, max_bytes, tolerance)
        found: dict[str, Tensor] = {method: work.attributions(method, feature_layer) for method in chosen}
        return Sensitivity(
            front,
            _name(net, layer, at),
            points,
            which,
            outputs.gather(1, which),
            found,
            _boundaries(front, points),
            start,
            front.forward(start).flatten(1).gather(1, which),
            work.breakpoints,
            work.error,
            front.nodes[feature_maps(front, feature_layer) - 1].name if "grad_cam" in chosen else None,
        )


class _Work:
    """The attributions of some units at some inputs, and what their integration met."""

    def __init__(self, net: Network, x: Tensor, baseline: Tensor, units: Tensor, max_bytes: int, tolerance: float) -> None:
        self.net, self.x, self.baseline, self.units = net, x, baseline, units
        self.max_bytes, self.tolerance = max_bytes, tolerance
        self.breakpoints = torch.zeros(len(x), dtype=torch.long)
        self.error = torch.zeros(units.shape, dtype=torch.float64)
        self._gradient: Tensor | None = None

    def attributions(self, method: Method, feature_layer: str | None) -> Tensor:
        """Return the attributions (batch, k, *input_shape) of one method."""
        if method == "integrated_gradients":
            return self.integrated()
        if method == "grad_cam":
            return self.cam(feature_maps(self.net, feature_layer))
        if method == "guided_backprop":
            return self.rows(lambda local: guided(self.net, local))
        if self._gradient is None:
            self._gradient = self.rows()
        return self._gradient if method == "gradient" else self._gradient * self.x.unsqueeze(1)

    def rows(self, changed: Callable[[Local], Local] = list, to: int = 0) -> Tensor:
        """Return the units' rows on a value, (batch, k, *shape), through the steps at the inputs, which may be changed."""
        last = len(self.net.nodes)

        def local(part: slice) -> Local:
            return changed(at_points(self.net, self.x[part], last))

        rows = torch.cat([found for _, found in rows_of(self.net, len(self.x), local, self.units, self.max_bytes, to)])
        if not bool(torch.isfinite(rows).all()):
            raise InputError(
                "sensitivity: expected inputs at which the network is differentiable; a smooth step has no finite derivative at"
                " one of them; move the inputs"
            )
        return rows

    def cam(self, value: int) -> Tensor:
        """Return Grad-CAM's maps from the feature maps of a value."""
        features = self.net.forward(self.x, last=value)
        return class_maps(features, self.rows(to=value), self.net.input_shape)

    def integrated(self) -> Tensor:
        """Return integrated gradients, and keep what the lines met."""
        found = []
        for i in progress(range(len(self.x)), len(self.x), "integrated gradients"):
            units = self.units[i : i + 1]
            line = mean_rows(self.net, self.baseline[i], self.x[i], units, self.tolerance, self.max_bytes)
            found.append(line.mean * (self.x[i] - self.baseline[i]))
            self.breakpoints[i], self.error[i] = line.breakpoints, line.error.cpu()
        return torch.stack(found)


# -- what is asked for


def _methods(methods: Sequence[Method]) -> tuple[Method, ...]:
    if isinstance(methods, str):
        raise InputError(f"methods: expected a list, some of {list(METHODS)}; got {methods!r}; write [{methods!r}]")
    unknown = [m for m in methods if m not in METHODS]
    if unknown or not methods:
        raise InputError(f"methods: expected some of {list(METHODS)}; got {list(methods)}")
    return tuple(dict.fromkeys(methods))


def _points(net: Network, x: ArrayLike) -> Tensor:
    x = array(x)
    floating(x)
    batched = is_batch(x, net.input_shape)
    points = finite(as_tensor(x, net.dtype, net.device), "input")
    return points if batched else points[None]


def _baseline(net: Network, baseline: ArrayLike, points: Tensor) -> Tensor:
    if isinstance(baseline, int | float):
        return torch.full_like(points, float(baseline))
    start = _points(net, baseline)
    if len(start) not in (1, len(points)):
        raise InputError(f"baseline: expected a number, one input or {len(points)}, one for each; got {len(start)}")
    return start.expand(points.shape)


def _chosen(units: Any, shape: tuple[int, ...], outputs: Tensor) -> Tensor:
    """Return the units (batch, k) that are asked about."""
    if isinstance(units, str):
        if units != "largest" or not math.prod(shape):
            raise InputError(f"units: expected positions, a mask, 'largest' of a layer of units, or None; got {units!r}")
        return outputs.argmax(1, keepdim=True)
    found = _units(units, shape)
    found = torch.arange(math.prod(shape)) if found is None else found
    return found.to(outputs.device).expand(len(outputs), -1)


def _name(net: Network, layer: str | int | None, at: Side) -> str:
    name = "output" if layer is None else net.nodes[net.value_of(layer) - 1].name
    return name if at == "post" else f"input of {name}"


def _boundaries(net: Network, points: Tensor) -> Tensor:
    """Return how many units and windows of each input's gates differ in front of it and behind, in a random direction."""
    part = exact_part(net)
    counts = torch.zeros(len(points), dtype=torch.long)
    if not part.gates or not math.prod(net.input_shape):
        return counts
    rough = magnitudes(part)
    way = torch.randn(net.input_shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(points)
    for i, point in enumerate(points):
        ahead, behind = (towards(part, point, sign * way, rough=rough).pattern for sign in (1.0, -1.0))
        if ahead != behind:
            counts[i] = sum(int((ahead.pieces(g.name) != behind.pieces(g.name)).sum()) for g in part.gates)
    return counts
