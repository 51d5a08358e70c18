"""The network's affine maps on cells, over the coordinates of their domain, and how much of them is rounding."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from .._rounding import flat_sizes, magnitudes, term_sizes
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


def map_errors(net: Network, domain: Domain, patterns: Patterns, relative: float) -> tuple[Array, Array]:
    """Return how much of weights and offsets, shaped as in `local_maps`, is rounding: `relative` of their terms."""
    output = len(net.nodes)
    lengths, origin = torch.linalg.vector_norm(domain.basis, dim=0), torch.linalg.vector_norm(domain.origin)
    weights, offsets = [], []
    for part in _chunks(net, domain, patterns):
        sizes = flat_sizes(term_sizes(net, on_patterns(net, part, output), [output], relative)[output])
        row, constant = (s.cpu().expand(len(part), -1) for s in sizes)
        weights.append((relative * row[:, :, None] * lengths).numpy())
        offsets.append((relative * (constant + row * origin)).numpy())
    return np.concatenate(weights), np.concatenate(offsets)


def most_errors(net: Network, domain: Domain, relative: float) -> tuple[Array, Array]:
    """Return what `map_errors` cannot exceed on any cell, (1, outputs, dim) and (1, outputs), without a look at them."""
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
