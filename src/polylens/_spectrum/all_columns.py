"""The columns of the map input -> value for one value after another, all input directions at once, each pushed once.

Where a single value carries everything and fewer of its units pass than there are columns, the columns are rotated into as
few as there are units: singular values of all later values stay as they are, but for zeros.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..gates import Diagonal
from ..network import Network
from ..steps import Convolution, LinearAt
from .singular import BLOCK, triangular

_CHUNK_BYTES = 1 << 25  # of images of columns that are computed at once
_WINDOW = 0.5  # convolutions of columns that reach less than this part of a picture are computed there only


def all_columns(net: Network, local: Sequence[LinearAt], last: int) -> Iterator[tuple[int, Tensor]]:
    """Yield every value up to `last` with its columns (count, units), for one input whose steps are `local`.

    What is yielded is valid until the next value is asked for: a gate may then work in place.

    Algorithm: one pass with as many columns as inputs, in chunks; the columns of the values that are still needed are in
    memory.
    """
    n = math.prod(net.input_shape)
    unit = torch.eye(n, dtype=net.dtype, device=net.device)[_order(net.input_shape).to(net.device)]
    alive = {0: unit.reshape(n, *net.input_shape)}
    del unit
    yield 0, alive[0].reshape(n, -1)
    for k, node in enumerate(net.nodes[:last], 1):
        inputs = [alive[i] for i in node.inputs]
        for i in net.expiring[k]:
            del alive[i]
        alone = not alive and len(inputs) == 1
        alive[k] = _image(local[k - 1], inputs, node.shape, inputs[0] if alone else None)
        del inputs
        if alone:
            alive[k] = _rotated(local[k - 1], alive[k])
        yield k, alive[k].reshape(len(alive[k]), math.prod(node.shape))


def _order(shape: tuple[int, ...]) -> Tensor:
    """Return the entries of an input, neighbours of a picture one after another: so are the units that see them."""
    n, side = math.prod(shape), 8
    if len(shape) < 2 or min(shape[-2:]) < 2 * side:
        return torch.arange(n)
    side = max(2, math.isqrt(BLOCK * shape[-1] * shape[-2] // n))  # about as many entries a tile as rows a block
    down, across = (torch.arange(length) // side for length in shape[-2:])
    tile = (down[:, None] * (int(across[-1]) + 1) + across).expand(shape).reshape(-1)
    return tile.argsort(stable=True)


def bytes_of_columns(net: Network, last: int) -> int:
    """Return the most bytes that `all_columns` holds at once."""
    n, alive, most = math.prod(net.input_shape), {0}, 0
    for k in range(1, last + 1):
        alive.add(k)
        most = max(most, sum(math.prod(net.shape_of(i)) for i in alive))
        alive -= set(net.expiring[k])
    return n * most * net.dtype.itemsize


def passing(step: LinearAt, units: int) -> Tensor | None:
    """Return which units of a gate pass anything on (units,), None where all do."""
    if not isinstance(step, Diagonal):
        return None
    slope = step.slope[0].reshape(-1)
    return None if bool(slope.all()) else (slope != 0).expand(units)


def _image(step: LinearAt, inputs: list[Tensor], shape: tuple[int, ...], spare: Tensor | None) -> Tensor:
    """Return the images of columns, written over `spare` where the step can do so."""
    if spare is not None and isinstance(step, Diagonal):
        return spare.mul_(step.slope)
    count = len(inputs[0])
    image = inputs[0].new_empty(count, *shape)
    at_once = max(1, _CHUNK_BYTES // max(1, 8 * math.prod(shape)))
    at_once = min(BLOCK, at_once) if at_once < BLOCK // 2 else BLOCK  # whole tiles where they fit
    for start in range(0, count, at_once):
        part = slice(start, start + at_once)
        window = _window(step, inputs[0][part], shape)
        if window is None:
            image[part] = step.columns(*(x[None, part] for x in inputs))[0]
        else:
            image[part] = 0.0
            image[part][..., window.down, window.across] = window.image
    return image


class _Window(NamedTuple):
    """A rectangle of the outputs of a convolution and what is in it, columns (count, maps, height, width); all else is 0."""

    down: slice
    across: slice
    image: Tensor


def _window(step: LinearAt, x: Tensor, shape: tuple[int, ...]) -> _Window | None:
    """Return the image of columns that are 0 on most of a picture; None where the whole has to be computed."""
    if not isinstance(step, Convolution) or step.transposed or len(step.stride) != 2:
        return None
    seen = (x != 0).flatten(0, 1).any(0)
    sides = [_side(step, axis, seen.any(1 - axis), shape[axis + 1]) for axis in (0, 1)]
    (down, top), (across, left) = sides
    if (
        not down.stop
        or not across.stop
        or (down.stop - down.start) * (across.stop - across.start) > _WINDOW * shape[1] * shape[2]
    ):
        return None
    height, width = x.shape[-2:]
    inner = x[..., max(0, top.start) : top.stop, max(0, left.start) : left.stop]
    edges = (max(0, -left.start), max(0, left.stop - width), max(0, -top.start), max(0, top.stop - height))
    piece = torch.nn.functional.pad(inner, edges)
    image = torch.convolution(piece, step.weight, None, step.stride, (0, 0), step.dilation, False, (0, 0), step.groups)
    return _Window(down, across, image)


def _side(step: Convolution, axis: int, seen: Tensor, length: int) -> tuple[slice, range]:
    """Return which outputs see anything along one axis, and from where to where in the input they look."""
    where = seen.nonzero()
    if not len(where):
        return slice(0, 0), range(0)
    stride, padding = step.stride[axis], step.padding[axis]
    reach = step.dilation[axis] * (step.weight.shape[2 + axis] - 1)
    first = max(0, -((reach - padding - int(where[0])) // stride))
    last = min(length - 1, (int(where[-1]) + padding) // stride)
    if last < first:
        return slice(0, 0), range(0)
    return slice(first, last + 1), range(first * stride - padding, last * stride - padding + reach + 1)


def _rotated(step: LinearAt, columns: Tensor) -> Tensor:
    """Return the columns behind a gate in the basis of what passes it, where that is smaller."""
    flat = columns.reshape(len(columns), math.prod(columns.shape[1:]))
    passes = passing(step, flat.shape[1])
    if passes is None or int(passes.sum()) >= len(columns):
        return columns
    r = triangular(flat[:, passes])
    image = flat.new_zeros(len(r), flat.shape[1])
    image[:, passes] = r
    return image.reshape(len(r), *columns.shape[1:])
