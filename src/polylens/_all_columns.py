"""The columns of the map input -> value for one value after another, all input directions at once, each pushed once.

Where a single value carries everything and fewer of its units pass than there are columns, the columns are rotated into as
few as there are units: singular values of all later values stay as they are, but for zeros.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ._singular import BLOCK, triangular
from .gates import Diagonal
from .network import Network
from .steps import LinearAt

_CHUNK_BYTES = 1 << 25  # of images of columns that are computed at once


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
    for start in range(0, count, at_once):
        part = slice(start, start + at_once)
        image[part] = step.columns(*(x[None, part] for x in inputs))[0]
    return image


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
