"""What every section reads: the network, the data, and what was computed from both, once."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar, final

import torch
from torch import Tensor

from ..affine import AffineMap
from ..data import Data
from ..errors import InputError
from ..linearise import affine_map, linearise
from ..network import Network, chunks, patterns
from ..pattern import Frequencies, Patterns

T = TypeVar("T")

_RIGHT, _WRONG, _PLAIN = 10, 8, 8  # examples shown: one for each class, misclassified ones, or plain ones
_MAP_BYTES = 1 << 28  # above this the maps of the examples are computed for the classes shown only


@final
@dataclass(frozen=True, slots=True)
class Example:
    """One input that the report looks at closely: its position, the classes by output, and its label.

    `runner_up` is None for a network of one output, `label` where there are none.
    """

    index: int
    chosen: int
    runner_up: int | None
    label: int | None

    @property
    def is_right(self) -> bool:
        """Whether the largest output is the labelled one, or there is no label to differ from."""
        return self.label in (None, self.chosen)

    @property
    def classes(self) -> tuple[int, ...]:
        """The outputs worth looking at, each once: the chosen one, the labelled one, the runner-up."""
        wanted = (self.chosen, self.label, self.runner_up)
        return tuple(dict.fromkeys(c for c in wanted if c is not None))


@final
@dataclass(frozen=True, eq=False, slots=True)
class Exactness:
    """How far the local maps are from the network: at the examples, and at other points of the same regions.

    `nearby` and `points` are of no meaning (NaN and 0) for smooth networks, whose maps hold at the example only.
    `scale` is the largest output there.
    """

    at_examples: float
    nearby: float
    points: int
    scale: float


@final
@dataclass(frozen=True, eq=False, slots=True)
class Subject:
    """A network and its data, examined.

    Attributes: `outputs` (batch, outputs), flattened; `chosen` (batch,), the largest output; `labels`, None also where
    the network has one output only and they cannot be classes; `maps`, of the examples in float64, of the outputs
    `units` (all of them where that fits in memory); `seconds`, what took how long.
    """

    net: Network
    data: Data
    outputs: Tensor
    chosen: Tensor
    labels: Tensor | None
    patterns: Patterns
    frequencies: Frequencies
    examples: tuple[Example, ...]
    units: Tensor
    maps: AffineMap
    exactness: Exactness
    seconds: dict[str, float]

    @property
    def is_complete(self) -> bool:
        """Whether `maps` hold all outputs."""
        return len(self.units) == self.outputs.shape[1]

    def weights(self, example: int, output: int) -> Tensor:
        """Return the local weights W of one output at one example, in the input's shape."""
        return self.maps.images()[example, self.row(output)]

    def row(self, output: int) -> int:
        """Return the row of `maps` that holds an output."""
        return int((self.units == output).nonzero()[0])


def examine(net: Network, data: Data) -> Subject:
    """Return everything that the sections need, each computed once and timed.

    Raises ShapeError when the samples do not fit the network, InputError when labels name outputs that it does not have.
    """
    data = data.fitted(net.input_shape)
    seconds: dict[str, float] = {}
    net(data.inputs[:1])  # what the first evaluation sets up belongs to none of the timings
    outputs = _timed(seconds, "outputs", lambda: _outputs(net, data.inputs))
    found = _timed(seconds, "patterns", lambda: patterns(net, data.inputs))
    frequencies = _timed(seconds, "frequencies", found.frequencies)
    chosen = outputs.argmax(1)
    labels = _class_labels(data, outputs.shape[1])
    examples = _examples(outputs, chosen, labels)
    units = _units(net, examples, outputs.shape[1])
    at = data.inputs[[e.index for e in examples]]
    maps = _timed(seconds, "affine maps", lambda: _maps(net, at, units))
    exactness = _timed(seconds, "exactness", lambda: _exactness(net, at, units, maps))
    return Subject(net, data, outputs, chosen, labels, found, frequencies, examples, units, maps, exactness, seconds)


def _timed(seconds: dict[str, float], what: str, work: Callable[[], T]) -> T:
    start = time.perf_counter()
    result = work()
    seconds[what] = time.perf_counter() - start
    return result


def _outputs(net: Network, inputs: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.cat([net.forward(batch).flatten(1).cpu() for batch in chunks(net, inputs, label="outputs")])


def _class_labels(data: Data, outputs: int) -> Tensor | None:
    if data.labels is None or outputs < 2:
        return None
    highest = int(data.labels.max())
    if highest >= outputs:
        raise InputError(
            f"labels of {data.source}: expected classes from 0 to {outputs - 1}, one for each output; got {highest}"
        )
    return data.labels


# -- which inputs to look at


def _examples(outputs: Tensor, chosen: Tensor, labels: Tensor | None) -> tuple[Example, ...]:
    """Return one example for each class, rightly classified where labels tell, and then some that are not."""
    if outputs.shape[1] < 2:
        picked = torch.linspace(0, len(outputs) - 1, min(_PLAIN, len(outputs))).round().long().tolist()
        return tuple(Example(i, 0, None, None) for i in picked)
    right = torch.ones_like(chosen, dtype=torch.bool) if labels is None else chosen == labels
    picked = [int((right & (chosen == c)).nonzero()[0]) for c in chosen[right].unique().tolist()[:_RIGHT]]
    picked += (~right).nonzero().flatten()[:_WRONG].tolist()
    order = outputs.topk(2, dim=1).indices
    return tuple(
        Example(i, int(chosen[i]), _other(order[i], int(chosen[i])), None if labels is None else int(labels[i])) for i in picked
    )


def _other(best: Tensor, chosen: int) -> int:
    """Return the runner-up; where outputs tie, topk and argmax may name different winners."""
    return int(best[1]) if int(best[0]) == chosen else int(best[0])


def _units(net: Network, examples: tuple[Example, ...], outputs: int) -> Tensor:
    size = len(examples) * outputs * math.prod(net.input_shape) * 8
    if size <= _MAP_BYTES:
        return torch.arange(outputs)
    return torch.tensor(sorted({c for e in examples for c in e.classes}))


# -- the maps, and how exact they are


def _maps(net: Network, at: Tensor, units: Tensor) -> AffineMap:
    local = affine_map if net.is_piecewise_linear else linearise
    return local(net, at.to(torch.float64), units=units, dtype=torch.float64)


def _exactness(net: Network, at: Tensor, units: Tensor, maps: AffineMap) -> Exactness:
    """Measure max |f(y) - (A y + b)| at the examples and, for exact maps, at points that share their patterns."""
    double, x = net.double(), at.to(net.device, torch.float64)
    scale = float(_selected(double, x, units).abs().max())
    if not net.is_piecewise_linear:
        return Exactness(_deviation(double, x, units, maps), math.nan, 0, scale)
    near, inside = _same_region(double, x)
    nearby = _deviation(double, near[inside], units, maps[inside]) if bool(inside.any()) else math.nan
    return Exactness(_deviation(double, x, units, maps), nearby, int(inside.sum()), scale)


def _selected(net: Network, x: Tensor, units: Tensor) -> Tensor:
    with torch.no_grad():
        return net(x).flatten(1)[:, units.to(net.device)]


def _deviation(net: Network, x: Tensor, units: Tensor, maps: AffineMap) -> float:
    return float((_selected(net, x, units) - maps(x)).abs().max())


def _same_region(net: Network, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return one other point a sample, halved towards it until it has the sample's pattern, and which got there."""
    random = torch.Generator().manual_seed(0)
    step = torch.randn(x.shape, generator=random, dtype=torch.float64).to(x.device) * float(x.abs().max().clamp_min(1))
    target = patterns(net, x)
    for _ in range(40):
        inside = patterns(net, x + step).matches(target).to(x.device)
        if bool(inside.all()):
            break
        step = torch.where(inside.reshape(-1, *(1,) * (x.ndim - 1)), step, step / 2)
    return x + step, inside
