"""The affine map that a network is at a point: of its output, of any layer, of chosen units, for many points at once.

The gates are fixed at each point, and what is left is linear: n input directions are pushed forward (*columns*), or
the wanted units pulled back (*rows*), whichever takes fewer multiplications. In front of the first gate both are
shared by all points.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from ._check import ArrayLike, as_tensor, finite, floating, is_batch
from ._progress import progress
from .affine import AffineMap
from .errors import InputError, SmoothError
from .network import Network, has_pattern
from .smooth import Smooth
from .steps import Affine, LinearAt, flat

Side = Literal["pre", "post"]
_MAX_BYTES = 1 << 28


def affine_map(
    net: Network,
    x: ArrayLike,
    layer: str | int | None = None,
    *,
    at: Side = "post",
    units: Sequence[int] | Tensor | None = None,
    dtype: torch.dtype | None = None,
    max_bytes: int = _MAX_BYTES,
) -> AffineMap:
    """Return the exact affine map of a layer on the linear region around each point: f(y) = A y + b there.

    On a boundary between regions (a pre-activation of exactly 0) the map is that of the pattern that `patterns` gives.

    Args:
        net: a network that is piecewise linear up to the layer.
        x: points (batch, *input_shape), or one point, which gives one map without batch axis.
        layer: a node's name, a position among `net.gates`, or None for the output.
        at: "post" for what the layer puts out, "pre" for what reaches it (a gate's pre-activation).
        units: positions in the flattened layer; all when None.
        dtype: computes in another floating dtype; the network's when None.
        max_bytes: bound on the memory for intermediate tensors, in bytes; the result itself comes on top.

    Raises:
        SmoothError: a step in front of the layer is not piecewise linear; `linearise` accepts such a network.
        ShapeError, InputError: as for `patterns`; also an unknown layer or unit.

    Algorithm: forward columns or backward rows with the gates fixed; min(inputs, units) forward passes for each point,
    those in front of the first gate once for all points.

    References: Raghu, Poole, Kleinberg, Ganguli, Sohl-Dickstein, On the expressive power of deep neural networks,
    ICML 2017, theorem 2 (a ReLU network is affine on each polytope of a partition of its input space).

    Example:
        >>> from polylens import affine_map, dense
        >>> import torch
        >>> net = dense([([[1.0], [-1.0]], [0.0, 0.0]), ([[1.0, 1.0]], None)])  # |x|
        >>> affine_map(net, torch.tensor([[-2.0], [0.0], [3.0]])).weight.flatten().tolist()  # at 0 both units are off
        [-1.0, 0.0, 1.0]
    """
    _refuse_smooth(net, _target(net, layer, at))
    return linearise(net, x, layer, at=at, units=units, dtype=dtype, max_bytes=max_bytes)


def linearise(
    net: Network,
    x: ArrayLike,
    layer: str | int | None = None,
    *,
    at: Side = "post",
    units: Sequence[int] | Tensor | None = None,
    dtype: torch.dtype | None = None,
    max_bytes: int = _MAX_BYTES,
) -> AffineMap:
    """Return the first-order map of a layer at each point: f(y) = A y + b + o(|y - x|), with A the Jacobian.

    For a piecewise-linear network this is `affine_map`, exact on the region; for a smooth one it holds at x only.
    Arguments, errors and cost are those of `affine_map`, except that smooth steps are welcome.
    """
    net = net.to(dtype=dtype) if dtype is not None else net
    value = _target(net, layer, at)
    points, batched = _points(net, x)
    shape = net.shape_of(value)
    chosen = _units(units, torch.Size(shape).numel())
    (weight, offset) = _maps(net, points, {value: chosen}, max_bytes)[value]
    out = AffineMap(weight, offset, net.input_shape, shape if units is None else (weight.shape[1],))
    return out if batched else out[0]


def affine_maps(
    net: Network, x: ArrayLike, *, dtype: torch.dtype | None = None, max_bytes: int = _MAX_BYTES
) -> dict[str, AffineMap]:
    """Return the exact affine maps of all pre-activations, by gate: every hyperplane of the region, in one pass.

    Arguments, errors and conventions are those of `affine_map`. A max-gate's entry is the map of its whole input, and
    smooth activations stop it with SmoothError unless they are the last gates of the network.

    Algorithm: one push of the input's columns, which collects each gate's input on the way.
    """
    net = net.to(dtype=dtype) if dtype is not None else net
    gates = {node.name: node.inputs[0] for node in net.nodes if has_pattern(node.step)}
    for value in gates.values():
        _refuse_smooth(net, value)
    points, batched = _points(net, x)
    found = _maps(net, points, dict.fromkeys(gates.values()), max_bytes) if gates else {}
    maps = {k: AffineMap(*found[v], net.input_shape, net.shape_of(v)) for k, v in gates.items()}
    return maps if batched else {k: m[0] for k, m in maps.items()}


# -- what is asked for


def _target(net: Network, layer: str | int | None, at: Side) -> int:
    value = net.value_of(layer)
    if at == "post":
        return value
    if at != "pre":
        raise InputError(f"at: expected 'pre' or 'post'; got {at!r}")
    node = net.nodes[value - 1]
    if len(node.inputs) != 1:
        raise InputError(f"at='pre': expected a layer with one input; {node.name} ({node.step.kind}) has {len(node.inputs)}")
    return node.inputs[0]


def _points(net: Network, x: ArrayLike) -> tuple[Tensor, bool]:
    floating(x)
    batched = is_batch(x, net.input_shape)
    points = finite(as_tensor(x, net.dtype, net.device), "input")
    return (points if batched else points[None]), batched


def _units(units: Sequence[int] | Tensor | None, count: int) -> Tensor | None:
    if units is None:
        return None
    chosen = torch.as_tensor(units, dtype=torch.long).reshape(-1)
    if len(chosen) and (int(chosen.min()) < 0 or int(chosen.max()) >= count):
        raise InputError(f"units: expected positions from 0 to {count - 1}; got {chosen.tolist()}")
    return chosen


def _ancestors(net: Network, value: int) -> set[int]:
    found, todo = set[int](), [value]
    while todo:
        k = todo.pop()
        if k not in found:
            found.add(k)
            todo += net.nodes[k - 1].inputs if k else ()
    return found


def _refuse_smooth(net: Network, value: int) -> None:
    for k in sorted(_ancestors(net, value) - {0}):
        node = net.nodes[k - 1]
        if isinstance(node.step, Smooth):
            raise SmoothError(
                f"an exact affine map needs piecewise-linear steps; {node.name} ({node.step.kind}) is smooth; ask for a"
                " layer in front of it, or use linearise, the first-order map at a point"
            )


# -- the engine


Maps = dict[int, tuple[Tensor, Tensor]]  # value -> weight (batch, outputs, inputs), offset (batch, outputs)


def _maps(net: Network, x: Tensor, targets: Mapping[int, Tensor | None], max_bytes: int) -> Maps:
    """Return the maps of several values, by columns or by rows, in chunks of points."""
    forward = _columns_are_cheaper(net, len(x), targets)
    inputs = torch.Size(net.input_shape).numel()
    vectors = inputs if forward else max(_count(net, v, u) for v, u in targets.items())
    at_once = max(1, max_bytes // net.sample_bytes)
    size = max(1, min(len(x), at_once // max(1, vectors)))
    parts: list[Maps] = []
    with torch.no_grad():
        for start in progress(range(0, len(x), size), -(-len(x) // size), "affine maps"):
            batch = x[start : start + size]
            local = _localise(net, batch, max(targets))
            weights = (_by_columns if forward else _by_rows)(net, local, len(batch), targets, max(1, at_once // len(batch)))
            offsets = _offsets(net, local, batch, targets)
            parts.append({v: (weights[v], offsets[v]) for v in targets})
    if len(parts) == 1:
        return parts[0]
    return {v: (_join([p[v][0] for p in parts]), torch.cat([p[v][1] for p in parts])) for v in targets}


def _join(weights: list[Tensor]) -> Tensor:
    """Concatenate along the batch in the memory order that the parts have."""
    columns_first = weights[0].stride(-1) != 1
    return torch.cat([w.mT for w in weights]).mT if columns_first else torch.cat(weights)


def _count(net: Network, value: int, units: Tensor | None) -> int:
    return torch.Size(net.shape_of(value)).numel() if units is None else len(units)


def _columns_are_cheaper(net: Network, batch: int, targets: Mapping[int, Tensor | None]) -> bool:
    """Compare multiplications for one point; columns in front of the first gate are shared by the batch."""
    inputs = torch.Size(net.input_shape).numel()
    shared, columns, rows, own = True, 0.0, 0.0, 0.0
    for k, node in enumerate(net.nodes[: max(targets)], 1):
        cost = node.step.multiply_adds([net.shape_of(i) for i in node.inputs], node.shape)
        shared = shared and isinstance(node.step, Affine)
        columns += inputs * cost / (batch if shared else 1)
        own += cost
        rows += own * _count(net, k, targets[k]) if k in targets else 0
    return columns <= rows


def _localise(net: Network, x: Tensor, last: int) -> list[LinearAt]:
    """Return what every step is near each point."""
    local: list[LinearAt] = []
    net.forward(x, lambda node, values: local.append(_at(node.step, values)), last)
    return local


def _at(step: object, values: list[Tensor]) -> LinearAt:
    if isinstance(step, Affine):
        return step
    at: LinearAt = step.at(*values)  # type: ignore[attr-defined]
    return at


def _by_columns(
    net: Network, local: list[LinearAt], batch: int, targets: Mapping[int, Tensor | None], at_once: int
) -> dict[int, Tensor]:
    """Push the unit vectors of the input forward, a block at a time; the weights come transposed in memory."""
    inputs = torch.Size(net.input_shape).numel()
    blocks: dict[int, list[Tensor]] = {v: [] for v in targets}
    for start in range(0, inputs, at_once):
        stop = min(inputs, start + at_once)
        eye = torch.zeros(1, stop - start, inputs, dtype=net.dtype, device=net.device)
        eye[0, :, start:stop].fill_diagonal_(1)
        images = _push(net, local, eye.reshape(1, stop - start, *net.input_shape), targets)
        for v, units in targets.items():
            image = flat(images[v], 2)
            image = image if units is None else image[:, :, units.to(image.device)]
            blocks[v].append(image.expand(batch, -1, -1))
    return {v: (torch.cat(b, 1) if len(b) > 1 else b[0]).mT for v, b in blocks.items()}


def _push(net: Network, local: list[LinearAt], columns: Tensor, wanted: Mapping[int, object]) -> dict[int, Tensor]:
    values, found = {0: columns}, {0: columns}
    for k, (node, step) in enumerate(zip(net.nodes, local, strict=False), 1):
        values[k] = found[k] = step.columns(*(values[i] for i in node.inputs))
        if k not in wanted:
            del found[k]
        for i in net.expiring[k]:
            values.pop(i, None)
    return found


def _by_rows(
    net: Network, local: list[LinearAt], batch: int, targets: Mapping[int, Tensor | None], at_once: int
) -> dict[int, Tensor]:
    """Pull the wanted units back to the input, a block at a time."""
    weights = {}
    for v, units in targets.items():
        count = torch.Size(net.shape_of(v)).numel()
        wanted = torch.arange(count) if units is None else units
        blocks = [torch.zeros(batch, 0, torch.Size(net.input_shape).numel(), dtype=net.dtype, device=net.device)]
        for part in wanted.split(at_once) if len(wanted) else ():
            rows = torch.zeros(1, len(part), count, dtype=net.dtype, device=net.device)
            rows[0, torch.arange(len(part)), part] = 1
            pulled = _pull(net, local, v, rows.reshape(1, len(part), *net.shape_of(v)))
            blocks.append(flat(pulled, 2).expand(batch, -1, -1))
        weights[v] = torch.cat(blocks, 1) if len(blocks) != 2 else blocks[1]
    return weights


def _pull(net: Network, local: list[LinearAt], value: int, rows: Tensor) -> Tensor:
    pending = {value: rows}
    for k in range(value, 0, -1):
        if k in pending:
            node, here = net.nodes[k - 1], pending.pop(k)
            parts = local[k - 1].rows(here, [net.shape_of(i) for i in node.inputs])
            for i, part in zip(node.inputs, parts, strict=True):
                pending[i] = pending[i] + part if i in pending else part
    return pending[0]


def _offsets(net: Network, local: list[LinearAt], x: Tensor, wanted: Mapping[int, Tensor | None]) -> dict[int, Tensor]:
    """Push the origin through the fixed gates: what comes out is b, free of the cancellation in f(x) - A x."""
    values, found = {0: torch.zeros_like(x)}, {0: torch.zeros_like(x)}
    for k, (node, step) in enumerate(zip(net.nodes, local, strict=False), 1):
        values[k] = found[k] = step.offset(*(values[i] for i in node.inputs))
        for i in net.expiring[k]:
            values.pop(i, None)
        if k not in wanted:
            del found[k]
    offsets = {v: flat(found[v], 1) for v in wanted}
    return {v: b if (units := wanted[v]) is None else b[:, units.to(x.device)] for v, b in offsets.items()}
