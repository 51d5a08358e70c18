"""The affine map that a network is at a point: of its output, of any layer, of chosen units, for many points at once.

The gates are fixed at each point, and what is left is linear: n input directions are pushed forward (*columns*), or
the wanted units pulled back (*rows*), whichever takes fewer multiplications. In front of the first gate both are
shared by all points.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from ._check import ArrayLike, as_tensor, finite, floating, is_batch
from .affine import AffineMap
from .errors import InputError, SmoothError
from .local import MAX_BYTES, Localiser, at_points, maps
from .network import Network, has_pattern
from .smooth import Smooth

Side = Literal["pre", "post"]


def affine_map(
    net: Network,
    x: ArrayLike,
    layer: str | int | None = None,
    *,
    at: Side = "post",
    units: Sequence[int] | Tensor | None = None,
    dtype: torch.dtype | None = None,
    max_bytes: int = MAX_BYTES,
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
    max_bytes: int = MAX_BYTES,
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
    weight, offset = maps(net, len(points), _near(net, points, value), {value: chosen}, max_bytes)[value]
    out = AffineMap(weight, offset, net.input_shape, shape if units is None else (weight.shape[1],))
    return out if batched else out[0]


def affine_maps(
    net: Network, x: ArrayLike, *, dtype: torch.dtype | None = None, max_bytes: int = MAX_BYTES
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
    if not gates:
        return {}
    found = maps(net, len(points), _near(net, points, max(gates.values())), dict.fromkeys(gates.values()), max_bytes)
    result = {k: AffineMap(*found[v], net.input_shape, net.shape_of(v)) for k, v in gates.items()}
    return result if batched else {k: m[0] for k, m in result.items()}


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


def _near(net: Network, points: Tensor, last: int) -> Localiser:
    return lambda part: at_points(net, points[part], last)


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
