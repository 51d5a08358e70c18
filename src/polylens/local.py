"""The network with its gates fixed at points or patterns: columns pushed forward, rows pulled back, and whole maps.

A step in its place is a `LinearAt`; what is in front of the first gate is shared by all points (a batch of 1). Which is
cheaper, columns or rows, is decided by counting multiplications.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Mapping
from typing import cast

import torch
from torch import Tensor

from ._progress import progress
from .gates import Choice, MaxGate
from .network import Network, Node
from .pattern import Patterns
from .smooth import Smooth
from .steps import Affine, LinearAt, flat

MAX_BYTES = 1 << 28
Targets = Mapping[int, Tensor | None]  # value -> which of its units, all when None
Localiser = Callable[[slice], list[LinearAt]]  # what every step is near some of the points
Maps = dict[int, tuple[Tensor, Tensor]]  # value -> weight (batch, outputs, inputs), offset (batch, outputs)


def maps(net: Network, count: int, local: Localiser, targets: Targets, max_bytes: int = MAX_BYTES) -> Maps:
    """Return the maps of several values at `count` points, by columns or by rows, in chunks of points.

    `max_bytes` holds for the local maps of a chunk together with the columns or rows that are pushed through them.
    """
    forward = _columns_are_cheaper(net, count, targets)
    inputs = torch.Size(net.input_shape).numel()
    vectors = inputs if forward else max(_units(net, v, u) for v, u in targets.items())
    kept = _kept_bytes(net, max(targets))
    size = max(1, min(count, max_bytes // (max(1, vectors) * net.sample_bytes + kept)))
    parts: list[Maps] = []
    with torch.no_grad():
        for start in progress(range(0, count, size), -(-count // size), "affine maps"):
            batch = min(size, count - start)
            here = local(slice(start, start + batch))
            at_once = max(1, (max_bytes // batch - kept) // net.sample_bytes)
            weights = (_by_columns if forward else _by_rows)(net, here, batch, targets, at_once)
            offsets = _offsets(net, here, batch, targets)
            parts.append({v: (weights[v], offsets[v]) for v in targets})
    if len(parts) == 1:
        return parts[0]
    return {v: (_join([p[v][0] for p in parts]), torch.cat([p[v][1] for p in parts])) for v in targets}


def _kept_bytes(net: Network, last: int) -> int:
    """Return the bytes that one point's local maps take: a slope and an intercept a unit, a position a window."""
    numbers, positions = 0, 0
    for node in net.nodes[:last]:
        size = math.prod(node.shape)
        if isinstance(node.step, MaxGate):
            positions += size
        elif isinstance(node.step, Smooth) and not node.step.elementwise:
            numbers += sum(math.prod(net.shape_of(i)) for i in node.inputs)
        elif not isinstance(node.step, Affine):
            numbers += 2 * size
    return numbers * net.dtype.itemsize + 8 * positions


def _join(weights: list[Tensor]) -> Tensor:
    """Concatenate along the batch in the memory order that the parts have."""
    columns_first = weights[0].stride(-1) != 1
    return torch.cat([w.mT for w in weights]).mT if columns_first else torch.cat(weights)


def _units(net: Network, value: int, units: Tensor | None) -> int:
    return torch.Size(net.shape_of(value)).numel() if units is None else len(units)


def _columns_are_cheaper(net: Network, batch: int, targets: Targets) -> bool:
    """Compare multiplications for one point; columns in front of the first gate are shared by the batch."""
    inputs = torch.Size(net.input_shape).numel()
    shared, columns, rows, own = True, 0.0, 0.0, 0.0
    for k, node in enumerate(net.nodes[: max(targets)], 1):
        cost = node.step.multiply_adds([net.shape_of(i) for i in node.inputs], node.shape)
        shared = shared and isinstance(node.step, Affine)
        columns += inputs * cost / (batch if shared else 1)
        own += cost
        rows += own * _units(net, k, targets[k]) if k in targets else 0
    return columns <= rows


def at_points(net: Network, x: Tensor, last: int) -> list[LinearAt]:
    """Return what every step up to value `last` is near each point of a batch."""
    local: list[LinearAt] = []

    def localise(node: Node, values: list[Tensor]) -> None:
        step = node.step
        local.append(step if isinstance(step, Affine) else cast("Choice | Smooth", step).at(*values))

    net.forward(x, localise, last)
    return local


def on_patterns(net: Network, pattern: Patterns, last: int) -> list[LinearAt]:
    """Return what every step up to value `last` is on the given patterns; all of them must be piecewise linear."""
    return [_on(net, node, pattern) for node in net.nodes[:last]]


def _on(net: Network, node: Node, pattern: Patterns) -> LinearAt:
    if isinstance(node.step, Affine):
        return node.step
    pieces = pattern.pieces(node.name).to(net.device)
    return cast(Choice, node.step).on(pieces, net.shape_of(node.inputs[0]))


def _by_columns(net: Network, local: list[LinearAt], batch: int, targets: Targets, at_once: int) -> dict[int, Tensor]:
    """Push the unit vectors of the input forward, a block at a time; the weights come transposed in memory."""
    inputs = torch.Size(net.input_shape).numel()
    blocks: dict[int, list[Tensor]] = {v: [] for v in targets}
    for start in range(0, inputs, at_once):
        stop = min(inputs, start + at_once)
        eye = torch.zeros(1, stop - start, inputs, dtype=net.dtype, device=net.device)
        eye[0, :, start:stop].fill_diagonal_(1)
        images = push(net, local, eye.reshape(1, stop - start, *net.input_shape), targets)
        for v, units in targets.items():
            image = flat(images[v], 2)
            image = image if units is None else image[:, :, units.to(image.device)]
            blocks[v].append(image.expand(batch, -1, -1))
    return {v: (torch.cat(b, 1) if len(b) > 1 else b[0]).mT for v, b in blocks.items()}


def push(net: Network, local: list[LinearAt], columns: Tensor, wanted: Container[int]) -> dict[int, Tensor]:
    """Return the images of columns (batch or 1, n, *input_shape) at the wanted values."""
    values, found = {0: columns}, {0: columns}
    for k, (node, step) in enumerate(zip(net.nodes, local, strict=False), 1):
        values[k] = found[k] = step.columns(*(values[i] for i in node.inputs))
        if k not in wanted:
            del found[k]
        for i in net.expiring[k]:
            values.pop(i, None)
    return found


def _by_rows(net: Network, local: list[LinearAt], batch: int, targets: Targets, at_once: int) -> dict[int, Tensor]:
    """Pull the wanted units back to the input, a block at a time."""
    weights = {}
    for v, units in targets.items():
        count = torch.Size(net.shape_of(v)).numel()
        wanted = torch.arange(count, device=net.device) if units is None else units
        blocks = [torch.zeros(batch, 0, torch.Size(net.input_shape).numel(), dtype=net.dtype, device=net.device)]
        for part in wanted.split(at_once) if len(wanted) else ():
            rows = torch.zeros(1, len(part), count, dtype=net.dtype, device=net.device)
            rows[0, torch.arange(len(part), device=net.device), part] = 1
            pulled = pull(net, local, v, rows.reshape(1, len(part), *net.shape_of(v)))
            blocks.append(flat(pulled, 2).expand(batch, -1, -1))
        weights[v] = torch.cat(blocks, 1) if len(blocks) != 2 else blocks[1]
    return weights


def pull(net: Network, local: list[LinearAt], value: int, rows: Tensor, to: int = 0) -> Tensor:
    """Return rows (batch or 1, k, *shape) on a value as rows on the input, or on another value `to` that it depends on."""
    pending = {value: rows}
    for k in range(value, to, -1):
        if k in pending:
            node, here = net.nodes[k - 1], pending.pop(k)
            parts = local[k - 1].rows(here, [net.shape_of(i) for i in node.inputs])
            for i, part in zip(node.inputs, parts, strict=True):
                pending[i] = pending[i] + part if i in pending else part
    return pending[to]


def _offsets(net: Network, local: list[LinearAt], batch: int, wanted: Targets) -> dict[int, Tensor]:
    """Push the origin through the fixed gates: what comes out is b, free of the cancellation in f(x) - A x."""
    origin = torch.zeros(batch, *net.input_shape, dtype=net.dtype, device=net.device)
    values, found = {0: origin}, {0: origin}
    for k, (node, step) in enumerate(zip(net.nodes, local, strict=False), 1):
        values[k] = found[k] = step.offset(*(values[i] for i in node.inputs))
        for i in net.expiring[k]:
            values.pop(i, None)
        if k not in wanted:
            del found[k]
    offsets = {v: flat(found[v], 1) for v in wanted}
    return {v: b if (units := wanted[v]) is None else b[:, units.to(net.device)] for v, b in offsets.items()}
