"""Networks after one another: x -> net(generator(x)), a network like any other, so that everything works on it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ._check import ArrayLike, array
from .affine import AffineMap
from .errors import InputError, ShapeError
from .network import Network, Node
from .steps import Fixed, Linear, Shape, Step, reshape

Generator = Network | AffineMap | Sequence[ArrayLike]


def compose(generator: Generator, net: Network) -> Network:
    """Return the network z -> net(generator(z)): what `net` does on what a generator makes.

    With it, regions and preimages of a network in high dimension can be looked at in the coordinates of a generator's
    latent space, or on an affine subspace.

    Args:
        generator: a Network; an AffineMap; or a pair (matrix, offset) of arrays, (inputs of net, latent) and (inputs of
            net,) or None, for z -> matrix z + offset. What it puts out is flattened and takes the shape of the net's
            inputs; two networks must have equal shapes, unless one of them is flat.
        net: the network behind it.

    Returns: a network whose nodes have the net's names, behind those of the generator with "generator." in front (or the
        first of "generator2.", "generator3.", ... that the net does not use). Its dtype is the wider of both, where lists
        and integers count as float64.

    Raises:
        ShapeError: the generator does not put out what the net takes in.
        InputError: they are on different devices, NaN or infinity, or something else than a generator.

    Algorithm: the nodes of both in one program; nothing is multiplied out.

    Example:
        >>> from polylens import Segment, compose, count_regions, dense
        >>> net = dense([([[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0]), ([[1.0, 1.0]], None)])
        >>> diagonal = compose(([[1.0], [1.0]], [0.0, 0.5]), net)  # z -> (z, z + 0.5)
        >>> diagonal.input_shape, count_regions(diagonal, Segment([-1.0], [1.0])).count
        ((1,), 3)
    """
    if not isinstance(net, Network):
        raise InputError(f"compose: expected a Network to put behind; got {type(net).__name__}; polylens.load makes one")
    made = generator if isinstance(generator, Network) else _map_of(generator, net)
    device = made.device if isinstance(made, Network) else made.weight.device
    if device != net.device:
        raise InputError(
            f"compose: expected both on one device; got a generator on {device} and a network on {net.device};"
            " move one with .to(device=...)"
        )
    front = made if isinstance(made, Network) else _affine(made, net)
    dtype = torch.promote_types(front.dtype, net.dtype)
    return _joined(front.to(dtype=dtype), net.to(dtype=dtype))


def _map_of(generator: AffineMap | Sequence[ArrayLike], net: Network) -> AffineMap:
    """Return one affine map from a map or a pair of arrays."""
    if isinstance(generator, AffineMap):
        if generator.weight.ndim != 2:
            raise ShapeError(f"compose: expected one affine map; got {generator!r}; choose one by indexing")
        return generator
    if not isinstance(generator, Sequence) or len(generator) != 2:
        raise InputError(
            f"compose: expected a Network, an AffineMap or a pair (matrix, offset); got {type(generator).__name__}"
        )
    matrix = _tensor(generator[0], "generator.matrix", net.device)
    if matrix.ndim != 2:
        raise ShapeError(f"compose: expected a matrix ({math.prod(net.input_shape)}, latent); got shape {tuple(matrix.shape)}")
    given = generator[1]
    offset = matrix.new_zeros(len(matrix)) if given is None else _tensor(given, "generator.offset", net.device)
    dtype = torch.promote_types(matrix.dtype, offset.dtype)
    return AffineMap(matrix.to(dtype), offset.reshape(-1).to(dtype), (matrix.shape[1],), (len(matrix),))


def _tensor(value: ArrayLike, what: str, device: torch.device) -> Tensor:
    """Return a tensor as it is, and other arrays on `device`; what is not floating is counted as float64."""
    value = array(value, what)
    tensor = value.detach() if isinstance(value, Tensor) else torch.as_tensor(value, device=device)
    return tensor if tensor.is_floating_point() else tensor.double()


def _affine(map: AffineMap, net: Network) -> Network:
    """Return an affine map as a network of one linear step, with reshapes around it where shapes ask for them."""
    weight, offset = map.weight.contiguous(), map.offset.contiguous()
    nodes: list[Node] = []

    def append(name: str, step: Step, shape: Shape) -> None:
        nodes.append(Node(name, step, (len(nodes),), shape))

    if len(map.input_shape) != 1:
        append("flatten", _reshape((weight.shape[1],)), (weight.shape[1],))
    append("linear", Linear(weight, offset), (len(weight),))
    if math.prod(net.input_shape) == len(weight) and net.input_shape != (len(weight),):
        append("reshape", _reshape(net.input_shape), net.input_shape)
    return Network(tuple(nodes), map.input_shape, weight.dtype, weight.device, "affine map")


def _reshape(shape: Shape) -> Fixed:
    return Fixed("reshape", reshape, {"shape": shape})


def _joined(front: Network, net: Network) -> Network:
    """Return one program of both: the net's value 0 becomes the generator's output, all others move behind it."""
    prefix = _prefix(net)
    nodes = [replace(node, name=prefix + node.name) for node in front.nodes]
    if front.output_shape != net.input_shape:
        _check_shapes(front.output_shape, net.input_shape)
        name = _unused(f"{prefix}reshape", {node.name for node in nodes})
        nodes.append(Node(name, _reshape(net.input_shape), (len(nodes),), net.input_shape))
    behind = len(nodes)
    nodes += [replace(node, inputs=tuple(i + behind for i in node.inputs)) for node in net.nodes]
    return Network(tuple(nodes), front.input_shape, net.dtype, net.device, f"{net.source} behind {front.source}", front.inputs)


def _check_shapes(made: Shape, taken: Shape) -> None:
    """Raise ShapeError unless one is the other flattened."""
    if math.prod(made) != math.prod(taken) or min(len(made), len(taken)) != 1:
        raise ShapeError(f"compose: expected a generator of outputs {taken}, as the network takes; got {made}")


def _prefix(net: Network) -> str:
    """Return the first of "generator.", "generator2.", ... that begins no name of the network."""
    number, prefix = 1, "generator."
    while any(node.name.startswith(prefix) for node in net.nodes):
        number += 1
        prefix = f"generator{number}."
    return prefix


def _unused(name: str, names: set[str]) -> str:
    return name if name not in names else next(n for k in range(2, len(names) + 3) if (n := f"{name}{k}") not in names)
