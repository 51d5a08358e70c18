"""ATen operations that move entries around: views, axes, slices, assignments, joins."""

from __future__ import annotations

import itertools
import math
from typing import Any

import torch
from torch import Tensor

from ._aten_call import Arguments, listed, operand, operation
from ._builder import Builder
from ._program import Live


@operation("view", "reshape", "_unsafe_view", "view_copy", "_reshape_copy")
def _view(b: Builder, a: Arguments) -> Live:
    return b.reshape(a.self, a.size if a.has("size") else a.shape)


@operation("flatten")
def _flatten(b: Builder, a: Arguments) -> Live:
    shape = b.source_shape(a.self)
    first, last = a.start_dim % len(shape), a.end_dim % len(shape)
    return b.reshape(a.self, [*shape[:first], math.prod(shape[first : last + 1]), *shape[last + 1 :]])


@operation("unflatten")
def _unflatten(b: Builder, a: Arguments) -> Live:
    shape, dim = b.source_shape(a.self), a.dim % a.self.rank
    return b.reshape(a.self, [*shape[:dim], *_resolved(a.sizes, shape[dim]), *shape[dim + 1 :]])


def _resolved(sizes: list[int], total: int) -> list[int]:
    known = math.prod(s for s in sizes if s != -1)
    return [total // known if s == -1 else s for s in sizes]


@operation("permute", "permute_copy")
def _permute(b: Builder, a: Arguments) -> Live:
    return b.permute(a.self, a.dims)


@operation("transpose", "swapaxes", "swapdims", "t", "numpy_T", "transpose_copy", "mT")
def _transpose(b: Builder, a: Arguments) -> Live:
    names = [k for k in ("dim0", "axis0") if k in a.given]
    dims = list(range(a.self.rank))
    i, j = (a.given[names[0]], a.given[names[0].replace("0", "1")]) if names else (-2, -1)
    dims[i], dims[j] = dims[j], dims[i]
    return b.permute(a.self, dims)


@operation("movedim", "moveaxis")
def _movedim(b: Builder, a: Arguments) -> Live:
    order = torch.zeros([1] * a.self.rank)
    sizes = torch.empty(tuple(range(1, order.ndim + 1)), device="meta")
    return b.permute(a.self, [s - 1 for s in sizes.movedim(listed(a.source), listed(a.destination)).shape])


@operation("squeeze", "squeeze_copy")
def _squeeze(b: Builder, a: Arguments) -> Live:
    return b.squeeze(a.self, listed(a.dim) if a.has("dim") else None)


@operation("unsqueeze", "unsqueeze_copy")
def _unsqueeze(b: Builder, a: Arguments) -> Live:
    return b.unsqueeze(a.self, [a.dim])


@operation("expand", "expand_copy")
def _expand(b: Builder, a: Arguments) -> Live:
    return b.expand(a.self, a.size)


@operation("expand_as")
def _expand_as(b: Builder, a: Arguments) -> Live:
    return b.expand(a.self, b.source_shape(a.other) if isinstance(a.other, Live) else tuple(a.other.shape))


@operation("repeat", "tile")
def _repeat(b: Builder, a: Arguments) -> Live:
    counts = list(a.repeats if a.has("repeats") else a.dims)
    counts = [1] * (a.self.rank - len(counts)) + counts
    if len(counts) > a.self.rank or (a.self.batched and counts[0] != 1):
        b.refuse("repeats the batch", "keep the batch as it is")
    inner = counts[1:] if a.self.batched else counts
    return b.fixed("repeat", Tensor.repeat, a.self, repeats=(1, *inner))


@operation("slice", "slice_copy")
def _slice(b: Builder, a: Arguments) -> Live:
    return b.slice(a.self, a.dim, a.start, a.end, a.step)


@operation("narrow")
def _narrow(b: Builder, a: Arguments) -> Live:
    return b.slice(a.self, a.dim, a.start, a.start + a.length)


@operation("select", "select_copy")
def _select(b: Builder, a: Arguments) -> Live:
    return b.select(a.self, a.dim, a.index)


@operation("index_select")
def _index_select(b: Builder, a: Arguments) -> Live:
    return b.gather(a.self, a.dim, _indices(b, a.index))


@operation("index", "_unsafe_index")
def _index(b: Builder, a: Arguments) -> Live:
    places = [(d, i) for d, i in enumerate(a.indices) if i is not None]
    if len(places) != 1:
        b.refuse("indexes several axes at once", "index one axis after the other")
    dim, index = places[0]
    index = _indices(b, index)
    return b.gather(a.self, dim, index.nonzero().reshape(-1) if index.dtype == torch.bool else index)


def _indices(b: Builder, index: Any) -> Tensor:
    if isinstance(index, Live):
        b.refuse("takes indices that depend on the input", "only constant indices keep the network piecewise linear")
    return index


@operation("slice_scatter")
def _slice_scatter(b: Builder, a: Arguments) -> Live:
    return b.assign_slice(operand(a.self), operand(a.src), a.dim, a.start, a.end, a.step)


@operation("select_scatter")
def _select_scatter(b: Builder, a: Arguments) -> Live:
    return b.assign_select(operand(a.self), operand(a.src), a.dim, a.index)


@operation("index_put")
def _index_put(b: Builder, a: Arguments) -> Live:
    places = [(d, i) for d, i in enumerate(a.indices) if i is not None]
    if len(places) != 1 or a.accumulate or _indices(b, places[0][1]).ndim != 1:
        b.refuse("assigns at several axes at once", "assign along one axis after the other")
    dim, index = places[0]
    index = index.nonzero().reshape(-1) if index.dtype == torch.bool else index
    return b.assign_index(operand(a.self), operand(a.given["values"]), dim, index)


@operation(
    "split", "split_with_sizes", "chunk", "unsafe_chunk", "unsafe_split", "tensor_split", "split_copy", "split_with_sizes_copy"
)
def _split(b: Builder, a: Arguments) -> list[Live]:
    size, name = b.source_shape(a.self)[a.dim], b.where.split()[0]
    if name == "tensor_split" and a.has("indices"):
        edges = [0, *a.indices, size]
        return b.split(a.self, a.dim, [j - i for i, j in itertools.pairwise(edges)])
    if name == "tensor_split":
        return b.split(a.self, a.dim, [size // a.sections + (i < size % a.sections) for i in range(a.sections)])
    if "chunk" in name:
        each = -(-size // a.chunks)
    elif a.has("split_sizes") or not isinstance(a.split_size, int):
        return b.split(a.self, a.dim, a.split_sizes if a.has("split_sizes") else a.split_size)
    else:
        each = a.split_size
    return b.split(a.self, a.dim, [min(each, size - start) for start in range(0, size, each)])


@operation("unbind")
def _unbind(b: Builder, a: Arguments) -> list[Live]:
    return [b.select(a.self, a.dim, i) for i in range(b.source_shape(a.self)[a.dim])]


@operation("cat", "concat", "concatenate")
def _cat(b: Builder, a: Arguments) -> Live:
    return b.concat([operand(t) for t in a.tensors], a.dim)


@operation("stack")
def _stack(b: Builder, a: Arguments) -> Live:
    return b.stack([operand(t) for t in a.tensors], a.dim)


@operation("hstack")
def _hstack(b: Builder, a: Arguments) -> Live:
    return b.concat([operand(t) for t in a.tensors], 1)
