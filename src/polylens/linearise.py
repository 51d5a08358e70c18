"""The affine map that a network is at a point: of its output, of any layer, of chosen units, for many points at once.

The gates are fixed at each point, and what is left is linear: n input directions are pushed forward (*columns*), or
the wanted units pulled back (*rows*), whichever takes fewer multiplications. In front of the first gate both are
shared by all points.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from ._check import ArrayLike, array, as_tensor, finite, floating, is_batch
from .affine import AffineMap
from .errors import InputError, SmoothError
from .local import MAX_BYTES, Localiser, at_points, maps
from .network import Network, Node, ancestors, has_pattern
from .smooth import Smooth
from .steps import Shape

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
        units: positions in the flattened layer, or a mask of bools for it; all when None. None at all ([]), or a layer of
            no units, gives maps without rows.
        dtype: converts the network to another floating dtype first, so that the pattern too is the one decided in that
            dtype; None keeps the network as it is.
        max_bytes: bound on the memory for intermediate tensors, in bytes: a chunk's slopes and what is pushed or pulled
            through them, though at least one vector at one point. The result itself comes on top.

    Raises:
        SmoothError: a step in front of the layer is not piecewise linear; `linearise` accepts such a network.
        ShapeError, InputError: as for `patterns`; also an unknown layer or unit, a mask of another length.

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
    Arguments and errors are those of `affine_map`, except that smooth steps are welcome.

    Raises:
        InputError: a smooth step has no finite derivative at a point (the square root at 0); the message names it.

    Algorithm: as for `affine_map`. Smooth activations cost what gates do. Softmax, normalisations and products of live
    tensors are differentiated anew for every vector that passes: that costs a few evaluations of the step each,
    with intermediate tensors that `max_bytes` does not count.

    Example:
        >>> from polylens import dense, linearise
        >>> import torch
        >>> net = dense([([[1.0]], [0.0]), ([[2.0]], None)], gate="tanh")  # 2 tanh(x), saturated far out
        >>> linearise(net, torch.tensor([[0.0], [50.0]])).weight.flatten().tolist()
        [2.0, 0.0]
    """
    net = net.to(dtype=dtype) if dtype is not None else net
    value = _target(net, layer, at)
    points, batched = _points(net, x)
    shape = net.shape_of(value)
    chosen = _units(units, shape)
    weight, offset = maps(net, len(points), _near(net, points, value), {value: chosen}, max_bytes)[value]
    if (smooth := _smooth_in_front(net, value)) and not bool(torch.isfinite(weight).all() & torch.isfinite(offset).all()):
        raise _not_differentiable(net, points, smooth)
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
    if value == 0:
        raise InputError("at='pre': expected a network with layers; this one puts out its input; use at='post'")
    node = net.nodes[value - 1]
    if len(node.inputs) != 1:
        raise InputError(f"at='pre': expected a layer with one input; {node.name} ({node.step.kind}) has {len(node.inputs)}")
    return node.inputs[0]


def _near(net: Network, points: Tensor, last: int) -> Localiser:
    return lambda part: at_points(net, points[part], last)


def _points(net: Network, x: ArrayLike) -> tuple[Tensor, bool]:
    x = array(x)
    floating(x)
    batched = is_batch(x, net.input_shape)
    points = finite(as_tensor(x, net.dtype, net.device), "input")
    return (points if batched else points[None]), batched


def _units(units: Sequence[int] | Tensor | None, shape: Shape) -> Tensor | None:
    if units is None:
        return None
    count = math.prod(shape)
    try:
        chosen = torch.as_tensor(units, device="cpu")
    except (TypeError, ValueError) as error:
        raise InputError(f"units: expected positions or a mask of bools; got {units!r}; {error}") from None
    if chosen.dtype == torch.bool:
        if chosen.shape not in ((count,), shape):
            raise InputError(f"units: expected a mask of shape ({count},) or {shape}; got {tuple(chosen.shape)}")
        return chosen.reshape(-1).nonzero().reshape(-1)
    if chosen.numel() and (chosen.is_floating_point() or chosen.is_complex()):
        raise InputError(f"units: expected integer positions or a mask of bools; got {chosen.dtype}")
    chosen = chosen.long().reshape(-1)
    if len(chosen) and (int(chosen.min()) < 0 or int(chosen.max()) >= count):
        raise InputError(f"units: expected positions from 0 to {count - 1}; got {chosen.tolist()}")
    return chosen


def _smooth_in_front(net: Network, value: int) -> list[Node]:
    nodes = [net.nodes[k - 1] for k in sorted(ancestors(net, value) - {0})]
    return [node for node in nodes if isinstance(node.step, Smooth)]


def _refuse_smooth(net: Network, value: int) -> None:
    for node in _smooth_in_front(net, value):
        raise SmoothError(
            f"an exact affine map needs piecewise-linear steps; {node.name} ({node.step.kind}) is smooth; ask for a"
            " layer in front of it, or use linearise, the first-order map at a point"
        )


def _not_differentiable(net: Network, points: Tensor, smooth: list[Node]) -> InputError:
    """Return the error for a first-order map that is not finite; it names the first step that is to blame."""
    culprits: list[str] = []

    def visit(node: Node, values: list[Tensor]) -> None:
        if node in smooth and isinstance(node.step, Smooth) and not node.step.is_differentiable(*values):
            culprits.append(f"{node.name} ({node.step.kind}) has no finite derivative there")

    with torch.no_grad():
        net.forward(points, visit)
    problem = culprits[0] if culprits else f"the numbers exceed the range of {net.dtype}"
    return InputError(f"linearise: expected points at which the network is differentiable; {problem}; move the points")
