"""The network's affine maps on cells, over the coordinates of their domain, and how much of them is rounding."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from .._rounding import magnitudes, settled
from ..domain import Domain
from ..gates import Choice, Gate, MaxGate
from ..local import MAX_BYTES, on_patterns, push
from ..network import Network
from ..pattern import Patterns
from ..steps import LinearAt, flat

Array = np.ndarray[Any, Any]


def local_maps(net: Network, domain: Domain, patterns: Patterns) -> tuple[Tensor, Tensor]:
    """Return weights (cells, outputs, dim) and offsets (cells, outputs) over the domain's coordinates, on the CPU."""
    outputs = math.prod(net.output_shape)
    weights = [torch.zeros(0, outputs, domain.dim, dtype=net.dtype)]
    offsets = [torch.zeros(0, outputs, dtype=net.dtype)]
    for part in _chunks(net, domain, patterns):
        weight, offset = _maps(net, domain, part)
        weights.append(weight)
        offsets.append(offset)
    return torch.cat(weights), torch.cat(offsets)


def slopes_along(net: Network, domain: Domain, patterns: Patterns, direction: Tensor) -> Tensor:
    """Return the slopes (cells, outputs) of the maps along one direction (dim,) of the domain's coordinates, on the CPU."""
    output, shape = len(net.nodes), net.input_shape
    column = (domain.basis @ direction).to(net.device, net.dtype).reshape(1, 1, *shape)
    found = [torch.zeros(0, math.prod(net.output_shape), dtype=net.dtype)]
    for part in _chunks(net, domain, patterns):
        with torch.no_grad():
            image = push(net, on_patterns(net, part, output), column, {output})[output]
        found.append(flat(image, 2)[:, 0].expand(len(part), -1).cpu())
    return torch.cat(found)


def differences_along(
    net: Network, domain: Domain, patterns: tuple[Patterns, Patterns], direction: Tensor, relative: float
) -> tuple[Tensor, Tensor]:
    """Return how far the slopes of two batches of maps along a direction (dim,) are apart, and the sizes of the terms of that.

    Both (pairs, outputs), on the CPU. The difference is carried through the network beside the slopes of the first map: it
    arises at the units that are on different pieces, and is rounded as what these add is, not as the whole maps are.
    """
    output, shape = len(net.nodes), net.input_shape
    column = (domain.basis @ direction).to(net.device, net.dtype).reshape(1, 1, *shape)
    apart = [torch.zeros(0, math.prod(net.output_shape), dtype=net.dtype)] * 2
    parts = zip(*(_chunks(net, domain, of) for of in patterns), strict=True)
    for first, second in parts:
        local = zip(net.nodes, *(on_patterns(net, of, output) for of in (first, second)), magnitudes(net), strict=True)
        with torch.no_grad():
            slope, terms = {0: column}, {0: column.abs()}
            difference, rough = {0: torch.zeros_like(column)}, {0: torch.zeros_like(column)}
            for k, (node, a, b, absolute) in enumerate(local, 1):
                ends = [[held[i] for i in node.inputs] for held in (slope, terms, difference, rough)]
                if absolute is not None:
                    slope[k], difference[k] = a.columns(*ends[0]), a.columns(*ends[2])
                    terms[k], rough[k] = absolute.columns(*ends[1]), absolute.columns(*ends[3])
                else:
                    slope[k], difference[k], terms[k], rough[k] = _gate_difference(a, b, relative, *(e[0] for e in ends))
                for i in net.expiring[k]:
                    for held in (slope, terms, difference, rough):
                        held.pop(i, None)
        own = (flat(held[output], 2)[:, 0].expand(len(first), -1).cpu() for held in (difference, rough))
        apart = [torch.cat([t, more]) for t, more in zip(apart, own, strict=True)]
    return apart[0], apart[1]


def _gate_difference(
    a: LinearAt, b: LinearAt, relative: float, slope: Tensor, terms: Tensor, difference: Tensor, rough: Tensor
) -> tuple[Tensor, ...]:
    """Return slope, difference and the sizes of their terms behind a gate that is `a` on one side and `b` on the other."""
    own, other = a.columns(slope), b.columns(slope)
    own_terms, other_terms = a.columns(terms).abs(), b.columns(terms).abs()
    arising = torch.where(own != other, own_terms + other_terms, 0.0)
    apart, size = b.columns(difference) + (own - other), b.columns(rough).abs() + arising
    return own, apart, settled(own, own_terms, relative), settled(apart, size, relative)


def most_errors(net: Network, domain: Domain, relative: float) -> tuple[Array, Array]:
    """Return what the rounding of weights (1, outputs, dim) and offsets (1, outputs) of `local_maps` cannot exceed.

    No cell is looked at; counted is `relative` of the terms.
    """
    row = {0: torch.ones(1, *net.input_shape, dtype=net.dtype, device=net.device)}
    constant = {0: torch.zeros_like(row[0])}
    for k, (node, rough) in enumerate(zip(net.nodes, magnitudes(net), strict=True), 1):
        rows, constants = [row[i] for i in node.inputs], [constant[i] for i in node.inputs]
        if rough is not None:
            row[k], constant[k] = rough.linear(*rows), rough.apply(*constants)
        elif isinstance(node.step, MaxGate):
            sign = 1.0 if node.step.largest else -1.0
            row[k], constant[k] = (sign * node.step.apply(sign * v[0]) for v in (rows, constants))
        else:
            gate = cast(Gate, node.step)
            steepest, added = gate.slopes.abs().amax(0), gate.intercepts.abs().amax(0)
            row[k], constant[k] = steepest * rows[0], steepest * constants[0] + added
    lengths, origin = torch.linalg.vector_norm(domain.basis, dim=0), torch.linalg.vector_norm(domain.origin)
    most, rest = (4.0 * relative * flat(v[len(net.nodes)], 1).cpu() for v in (row, constant))  # sizes are estimates
    return (most[:, :, None] * lengths).numpy(), (rest + most * origin).numpy()


def _chunks(net: Network, domain: Domain, patterns: Patterns) -> Iterator[Patterns]:
    size = max(1, MAX_BYTES // 8 // ((domain.dim + 2) * net.sample_bytes))
    return (patterns[k : k + size] for k in range(0, len(patterns), size))


def _maps(net: Network, domain: Domain, patterns: Patterns) -> tuple[Tensor, Tensor]:
    output, shape, count = len(net.nodes), net.input_shape, len(patterns)
    with torch.no_grad():
        local = on_patterns(net, patterns, output)
        columns = domain.basis.T.reshape(1, domain.dim, *shape).to(net.device)
        weight = flat(push(net, local, columns, {output})[output], 2).expand(count, -1, -1)
        offset = _through(net, local, domain.origin.reshape(1, *shape).to(net.device), count)
    return weight.mT.cpu(), flat(offset, 1).expand(count, -1).cpu()


def _through(net: Network, local: list[LinearAt], origin: Tensor, count: int) -> Tensor:
    """Return the images of the domain's origin under the maps; in front of the first gate all cells share one."""
    values = {0: origin}
    for k, (node, step) in enumerate(zip(net.nodes, local, strict=True), 1):
        here = [values[i] for i in node.inputs]
        if isinstance(node.step, Choice) or len({len(v) for v in here}) > 1:
            here = [v.expand(count, *v.shape[1:]) for v in here]
        values[k] = step.offset(*here)
        for i in net.expiring[k]:
            values.pop(i, None)
    return values[len(net.nodes)]
