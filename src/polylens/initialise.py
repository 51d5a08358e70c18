"""Initialisation from data: every layer's variance and how often its units fire, as one asks for. Knows PyTorch modules."""

from __future__ import annotations

import copy
import importlib
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, final

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ._check import ArrayLike, array, as_tensor, finite, floating
from ._evaluating import evaluating
from ._types import Result
from .errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
Layer = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d
_CHUNK = 512  # inputs evaluated at once
_ROUNDINGS = (
    8  # times sqrt(n) units of rounding, which the error of a sum of n terms all but never exceeds: Higham, Mary (2019)
)


class LayerStart(NamedTuple):
    """What a layer's units do after initialisation: the mean of their variances, and of how often they fire."""

    name: str
    units: int
    variance: float
    active: float
    constant: int


@final
@dataclass(frozen=True, eq=False, slots=True, repr=False)
class Initialisation(Result):
    """Which layers were set, in order of evaluation, and what they do on the inputs that they were set for.

    `constant` counts units that depend on the inputs by no more than rounding, whose weights were left alone.
    """

    layers: tuple[LayerStart, ...]
    inputs: int

    def __repr__(self) -> str:
        return f"Initialisation({len(self.layers)} layers, {self.inputs} inputs)"

    def summary(self) -> str:
        lines = [repr(self)]
        for row in self.layers:
            constant = f", {row.constant} constant" if row.constant else ""
            lines.append(f"  {row.name}: {row.units} units, variance {row.variance:.4g}, active {row.active:.1%}{constant}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        return {"inputs": self.inputs, "layers": [row._asdict() for row in self.layers]}

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Draw variance and share of active units of every layer that was set."""
        axes: Axes = importlib.import_module("polylens.plotting.models").draw(self, ax, **options)
        return axes


def initialise(
    module: nn.Module, X: ArrayLike, *, variance: float | None = 1.0, active: float | None = 0.5, last: bool = False
) -> Initialisation:
    """Set weights and biases, in place, so that every unit has a given variance and fires on a given share of the inputs.

    Each row of weights is scaled, and each bias put at the quantile of w.x: at the median for `active` = 1/2, so that the
    hyperplane cuts the data in halves. Directions stay as they are: initialise them first as you like. Layers are set in the
    order in which they are first evaluated, since each changes what later ones read.

    Args:
        module: any module of linear layers and convolutions (whose units are channels, over all positions).
        X: some hundreds of inputs (batch, ...), as the module takes them; all are kept in memory.
        variance: of every pre-activation over X; None leaves weights as they are.
        active: the share of X on which a unit's pre-activation is above 0, between 0 and 1; None leaves biases as they are,
            and layers without biases stay without.
        last: whether to set the last layer too, whose outputs are seldom meant to be balanced.

    Raises:
        InputError: shares outside (0, 1), a variance that is not positive, no layer to set, no input, weights that a
            parametrisation makes; what is wrong leaves the module as it is.

    Algorithm: for every layer one evaluation of the module up to its end, O(layers * forward pass). Quantiles lie half-way
    between neighbouring values. The module runs in evaluation mode and gets its own mode back; no hook stays.

    References: Mishkin, Matas, All you need is a good init (2016); Swiniarski, Bruna, Cho, section 4.1; Higham, Mary, A new
    approach to probabilistic rounding error analysis (2019).

    Example:
        >>> import torch
        >>> torch.manual_seed(0)  # doctest: +ELLIPSIS
        <torch._C.Generator object at ...>
        >>> module = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
        >>> initialise(module, torch.randn(200, 4) + 3, active=0.25).layers[0].active
        0.25
    """
    if variance is not None and not 0 < variance < math.inf:
        raise InputError(f"variance: expected a positive number or None; got {variance!r}")
    if active is not None and not 0 < active < 1:
        raise InputError(f"active: expected a share between 0 and 1, or None; got {active!r}")
    x = _inputs(module, X)
    with evaluating(module), torch.no_grad():
        order = _order(module, x)
        chosen = order if last else order[:-1]
        if not chosen:
            raise InputError("initialise: expected a module with a layer to set; use last=True to set its only layer")
        constants = [_set(module, layer, x, variance, active) for _, layer in chosen]
        rows = tuple(_row(module, name, layer, x, k) for (name, layer), k in zip(chosen, constants, strict=True))
    return Initialisation(rows, len(x))


def _inputs(module: nn.Module, X: ArrayLike) -> Tensor:
    first = next(module.parameters(), torch.zeros(()))
    values = array(X)
    floating(values)
    x = finite(as_tensor(values, first.dtype, first.device), "input")
    if x.ndim < 2 or not len(x):
        raise InputError(f"X: expected inputs (batch, ...); got shape {tuple(x.shape)}")
    return x


@contextmanager
def _listening(layers: list[Layer], hear: Callable[[Layer, Tensor, Tensor], object]) -> Iterator[None]:
    def heard(part: Any, inputs: Any, output: Tensor) -> None:  # a hook that returned something would replace the output
        hear(part, inputs[0], output)

    hooks = [layer.register_forward_hook(heard) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _order(module: nn.Module, x: Tensor) -> list[tuple[str, Layer]]:
    """Return the layers in the order of their first evaluation, with their names; their weights must be plain parameters."""
    names = {part: name or type(part).__name__.lower() for name, part in module.named_modules() if isinstance(part, LAYERS)}
    seen = dict[Layer, None]()
    with _listening(list(names), lambda part, *_: seen.setdefault(part)):
        module(x[:1])
    for part in seen:
        if parametrize.is_parametrized(part, "weight"):
            raise InputError(
                f"initialise: expected plain weights; those of {names[part]} are made from others, as weight norm does;"
                " initialise first and put it on afterwards"
            )
    return [(names[part], part) for part in seen]


def _before(module: nn.Module, layer: Layer, x: Tensor) -> Tensor:
    """Return what a layer puts out, (samples, units) in float64: positions of a convolution are samples."""
    parts = list[Tensor]()
    with _listening([layer], lambda _, __, output: parts.append(_samples(layer, output))):
        for part in x.split(_CHUNK):
            module(part)
    return torch.cat(parts)


def _without_bias(module: nn.Module, layer: Layer, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return w.h (samples, units) in float64, h what a layer reads, and the greatest |w|.|h| (units,), where rounding starts.

    The bias is left out from the start: taken off afterwards, a large one would have taken the digits with it.
    """
    plain = _bare(layer)
    widest = copy.deepcopy(plain)
    widest.weight.abs_()
    parts, size = list[Tensor](), torch.zeros(len(layer.weight), dtype=torch.float64, device=x.device)

    def hear(_: Layer, inputs: Tensor, __: Tensor) -> None:
        parts.append(_samples(layer, plain.forward(inputs.double())))
        torch.maximum(size, _samples(layer, widest.forward(inputs.double().abs())).amax(0), out=size)

    with _listening([layer], hear):
        for part in x.split(_CHUNK):
            module(part)
    return torch.cat(parts), size


def _bare(layer: Layer) -> Layer:
    """Return a copy of a layer in float64 with a bias of 0."""
    made = copy.deepcopy(layer).double()
    if made.bias is not None:
        made.bias.zero_()
    return made


def _samples(layer: Layer, output: Tensor) -> Tensor:
    """Return what a layer puts out as (samples, units) in float64."""
    axis = 1 if isinstance(layer, LAYERS[1:]) else -1
    return output.movedim(axis, -1).flatten(0, -2).double()


def _set(module: nn.Module, layer: Layer, x: Tensor, variance: float | None, active: float | None) -> int:
    """Set one layer, and return how many of its units are constant."""
    weight, bias = layer.weight, layer.bias
    z, size = _without_bias(module, layer, x)
    deviation = z.std(0, correction=0)
    unit = torch.finfo(torch.promote_types(weight.dtype, torch.float32)).eps / 2  # sums in half precision are taken in float32
    moving = deviation > _ROUNDINGS * math.sqrt(weight[0].numel()) * unit * size
    scale = torch.ones_like(deviation)
    if variance is not None:
        scale = torch.where(moving, math.sqrt(variance) / torch.where(moving, deviation, 1.0), 1.0)
    weight.mul_(scale.reshape(-1, *(1,) * (weight.ndim - 1)).to(weight))
    if active is not None and bias is not None:
        cut = torch.quantile(_thinned(z) * scale, 1 - active, dim=0, interpolation="midpoint")
        bias.copy_(torch.where(moving, -cut, bias.double()).to(bias))
    return int((~moving).sum())


def _thinned(z: Tensor, most: int = 1 << 24) -> Tensor:
    """Return the samples, or evenly spread ones where a quantile would take too many."""
    return z[:: -(-z.numel() // most)] if z.numel() > most else z


def _row(module: nn.Module, name: str, layer: Layer, x: Tensor, constant: int) -> LayerStart:
    z = _before(module, layer, x)
    return LayerStart(name, z.shape[1], float(z.var(0, correction=0).mean()), float((z > 0).double().mean()), constant)
