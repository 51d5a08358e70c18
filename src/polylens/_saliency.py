"""Rows that say which entries of an input a unit hangs on: gradients, guided ones, and Grad-CAM's maps of a layer.

`network.section` cuts the network as far as the units, so that nothing behind them or beside them counts. References: J. T.
Springenberg et al., Striving for simplicity, ICLR workshop 2015 (guided backpropagation); R. R. Selvaraju et al.,
Grad-CAM, ICCV 2017.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor
from torch.nn import functional as F

from .errors import InputError
from .gates import Gate
from .local import _kept_bytes, pull
from .network import Network
from .smooth import Smooth
from .steps import Convolution, LinearAt, Shape

Local = list[LinearAt]


# -- the part of the network that counts


def exact_part(net: Network) -> Network:
    """Return the program without its smooth steps and all that depends on them."""
    kept = [0]
    for k, node in enumerate(net.nodes, 1):
        if not isinstance(node.step, Smooth) and all(i in kept for i in node.inputs):
            kept.append(k)
    number = {old: new for new, old in enumerate(kept)}
    nodes = [net.nodes[k - 1] for k in kept[1:]]
    return replace(net, nodes=tuple(replace(n, inputs=tuple(number[i] for i in n.inputs)) for n in nodes))


# -- gradients


def rows_of(
    net: Network, count: int, local: Callable[[slice], Local], units: Tensor, max_bytes: int, to: int = 0
) -> Iterator[tuple[slice, Tensor]]:
    """Yield the rows of units (count or 1, k) of the output on a value, (points, k, *shape), some points at a time."""
    last, shared = len(net.nodes), len(units) == 1
    k, kept = units.shape[1], _kept_bytes(net, last)
    size = max(1, min(count, max_bytes // (max(1, k) * net.sample_bytes + kept)))
    at_once = max(1, (max_bytes // size - kept) // net.sample_bytes)
    for start in range(0, count, size):
        part = slice(start, min(start + size, count))
        here, chosen = local(part), units if shared else units[part]
        blocks = [_pulled(net, here, last, block, to) for block in chosen.split(at_once, 1)] if k else []
        rows = torch.cat(blocks, 1) if blocks else torch.zeros(1, 0, *net.shape_of(to), dtype=net.dtype, device=net.device)
        yield part, rows.expand(part.stop - part.start, *rows.shape[1:])


def _pulled(net: Network, local: Local, last: int, units: Tensor, to: int) -> Tensor:
    shape = net.shape_of(last)
    rows = torch.zeros(*units.shape, math.prod(shape), dtype=net.dtype, device=net.device)
    rows.scatter_(2, units.to(net.device).unsqueeze(2), 1.0)
    return pull(net, local, last, rows.reshape(*units.shape, *shape), to)


@final
@dataclass(frozen=True, eq=False, slots=True)
class _Guided(LinearAt):
    """A ReLU at its inputs, whose rows lose their negative entries on the way back."""

    relu: LinearAt

    def columns(self, *columns: Tensor) -> Tensor:
        return self.relu.columns(*columns)

    def offset(self, *offsets: Tensor) -> Tensor:
        return self.relu.offset(*offsets)

    def rows(self, rows: Tensor, shapes: Sequence[Shape]) -> tuple[Tensor, ...]:
        return tuple(r.clamp(min=0.0) for r in self.relu.rows(rows, shapes))


def guided(net: Network, local: Local) -> Local:
    """Return the steps with every ReLU passing back only what is positive; other gates stay as they are."""
    pairs = zip(net.nodes, local, strict=False)
    return [_Guided(here) if isinstance(n.step, Gate) and n.step.kind == "relu" else here for n, here in pairs]


# -- Grad-CAM


def feature_maps(net: Network, layer: str | None) -> int:
    """Return the value with the feature maps of a layer, (channels, *space): by default the last convolution, or its gate.

    Raises InputError where there is none, or the layer is not in front of the units or has other axes than the input.
    """
    names, rank = [node.name for node in net.nodes], len(net.input_shape)
    convolved, known = False, list[int]()
    for k, node in enumerate(net.nodes, 1):
        convolved |= isinstance(node.step, Convolution)
        spatial = rank >= 2 and len(node.shape) == rank and math.prod(node.shape[1:]) > 1
        if convolved and spatial and isinstance(node.step, Gate | Smooth | Convolution):
            known.append(k)
    if layer is not None and layer in names and len(net.shape_of(names.index(layer) + 1)) == rank >= 2:
        return names.index(layer) + 1
    if layer is None and known:
        return known[-1]
    offered = f"one of {[names[k - 1] for k in known]}" if known else "a network of convolutions over (channels, *space)"
    raise InputError(
        f"grad_cam: expected feature maps with the {rank} axes of the input in front of the units, {offered}; got"
        f" {'none' if layer is None else repr(layer)}"
    )


def class_maps(features: Tensor, gradients: Tensor, shape: Shape) -> Tensor:
    """Return Grad-CAM's maps (batch, k, *shape) of features (batch, channels, *space) and the units' gradients there.

    The gradients' means over space weigh the channels; what is negative in the sum is dropped, the rest is interpolated
    to the size of the input, linearly along every axis, and the same for all of its channels.
    """
    space = tuple(range(3, gradients.ndim))
    weights = gradients.mean(space, keepdim=True)
    maps = (weights * features.unsqueeze(1)).sum(2).clamp(min=0.0)
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(space)]
    sized = F.interpolate(maps, size=shape[1:], mode=mode) if maps.shape[1] else maps.new_zeros(*maps.shape[:2], *shape[1:])
    return sized.unsqueeze(2).expand(*sized.shape[:2], *shape)
