"""ONNX operators that add products up: cumulative and Einstein sums, triangles, overlapping blocks, attention."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ..smooth import Smooth
from ._einsum import einsum
from ._onnx_call import Call, operator
from ._program import Live, Operand

# -- linear


@operator("Einsum")
def _einsum(n: Call) -> Live:
    return einsum(n.builder, str(n.attribute("equation", "")), n.operands, n.whole)


def cumulative(x: Tensor, dim: int, exclusive: bool, reverse: bool) -> Tensor:
    """Return the sums of all entries up to each along one axis, without itself if exclusive, from the end if reverse."""
    x = x.flip(dim) if reverse else x
    if exclusive:
        x = torch.cat([torch.zeros_like(x.narrow(dim, 0, 1)), x.narrow(dim, 0, x.shape[dim] - 1)], dim)
    y = x.cumsum(dim)
    return y.flip(dim) if reverse else y


@operator("CumSum")
def _cumsum(n: Call) -> Live:
    (axis,) = n.needed(1).reshape(-1).tolist()
    x = n.along(n.x, int(axis))
    options = {"exclusive": bool(n.attribute("exclusive", 0)), "reverse": bool(n.attribute("reverse", 0))}
    return n.builder.fixed("cumsum", cumulative, x, dim=n.builder.axis(x, int(axis)), **options)


@operator("Trilu")
def _trilu(n: Call) -> Live:
    x, diagonal = n.along(n.x, -1, -2), int(n.number("k", 1, 0.0) or 0)
    for dim in (-1, -2):
        n.builder.axis(x, dim)
    ones = torch.ones(x.shape[-2:], dtype=torch.float64)
    return n.builder.multiply(x, ones.triu(diagonal) if n.attribute("upper", 1) else ones.tril(diagonal))


@operator("Col2Im")
def _col2im(n: Call) -> Live:
    """Blocks of entries are put where they were taken, and overlapping ones added: a transposed convolution of ones."""
    x, image, block = n.image(n.x), n.ints("image_shape", 1) or [], n.ints("block_shape", 2) or []
    rank, size = len(block), math.prod(block)
    strides, dilations = n.ints("strides") or [1] * rank, n.ints("dilations") or [1] * rank
    pads = n.ints("pads") or [0] * 2 * rank
    extents = [(k - 1) * d + 1 for k, d in zip(block, dilations, strict=True)]
    padded = [i + b + e for i, b, e in zip(image, pads[:rank], pads[rank:], strict=True)]
    grid = [(p - e) // s + 1 for p, e, s in zip(padded, extents, strides, strict=True)]
    if len(x.shape) != 2 or x.shape[0] % size or x.shape[1] != math.prod(grid):
        n.builder.refuse(f"puts columns {x.shape} into blocks {block} of an image {image}", "check the file with onnx.checker")
    channels = x.shape[0] // size
    weight = torch.eye(size, dtype=torch.float64).reshape(size, 1, *block).repeat(channels, *(1,) * (rank + 1))
    y = n.builder.reshape(x, (n.builder.batch, x.shape[0], *grid))
    y = n.builder.convolution(y, weight, None, strides, [0] * rank, dilations, True, [0] * rank, channels)
    reached = [(g - 1) * s + e for g, s, e in zip(grid, strides, extents, strict=True)]
    ends = [(-b, i + b - r) for b, i, r in zip(pads[:rank], image, reached, strict=True)]
    return n.builder.pad(y, [p for pair in reversed(ends) for p in pair]) if any(map(any, ends)) else y


# -- smooth


@operator("RMSNormalization")
def _rms_norm(n: Call) -> Live:
    axis = n.axis(n.x, -1)
    x = n.along(n.x, axis)
    n.builder.axis(x, axis)
    options = {"normalized_shape": n.builder.source_shape(x)[axis:], "eps": float(n.attribute("epsilon", 1e-5))}
    y = n.builder.emit(Smooth("rms_norm", F.rms_norm, options), [x])
    return n.builder.multiply(*n.pair(y, n.operand(1)))


_MASKED = -1e30  # added to a score, it leaves a weight of 0 and, unlike -inf, a derivative


@operator("Attention")
def _attention(n: Call) -> Live:
    for position, what in ((4, "a cache of keys"), (5, "a cache of values"), (6, "a length for each input of a batch")):
        if n.given(position) is not None:
            n.builder.refuse(f"has {what}", "export the model without cache")
    if n.outputs > 1:
        n.builder.refuse("gives its cache or its scores", "leave those outputs out")
    joined, heads = _rank(n.operand(0)) == 3, (n.attribute("q_num_heads", 0), *[n.attribute("kv_num_heads", 0)] * 2)
    q, k, v = (_by_head(n, n.operand(i), int(count)) if joined else n.operand(i) for i, count in enumerate(heads))
    if isinstance(q, Tensor) and isinstance(k, Tensor):
        n.builder.refuse("has constant scores", "multiply by their softmax instead")
    groups = _shape(n, q)[1] // _shape(n, k)[1]
    k, v = (_repeated(n, x, groups) for x in (k, v))
    width = float(n.attribute("scale", 0.0)) or _shape(n, q)[-1] ** -0.5
    scores = n.builder.scale(n.builder.matmul(q, _turned(n, k)), torch.tensor(width, dtype=torch.float64), None)
    y = n.builder.matmul(n.builder.softmax(_masked(n, _capped(n, scores)), -1), v)
    if not joined:
        return y
    batch, count, length, size = n.builder.source_shape(y)
    return n.builder.reshape(n.builder.permute(y, [0, 2, 1, 3]), (batch, length, count * size))


def _rank(x: Operand) -> int:
    return x.rank if isinstance(x, Live) else x.ndim


def _shape(n: Call, x: Operand) -> Sequence[int]:
    return n.builder.source_shape(x) if isinstance(x, Live) else tuple(x.shape)


def _by_head(n: Call, x: Operand, heads: int) -> Operand:
    """Return (batch, length, heads * size) as (batch, heads, length, size)."""
    batch, length, joined = _shape(n, x)
    if heads < 1 or joined % heads:
        n.builder.refuse(f"splits {joined} columns into {heads} heads", "check the file with onnx.checker")
    shape = (batch, length, heads, joined // heads)
    if isinstance(x, Tensor):
        return x.reshape(shape).permute(0, 2, 1, 3)
    return n.builder.permute(n.builder.reshape(x, shape), [0, 2, 1, 3])


def _repeated(n: Call, x: Operand, groups: int) -> Operand:
    """Return every head of keys or values as often as heads of queries read it."""
    if groups == 1:
        return x
    if isinstance(x, Tensor):
        return x.repeat_interleave(groups, 1)
    return n.builder.gather(x, 1, torch.arange(_shape(n, x)[1]).repeat_interleave(groups))


def _turned(n: Call, x: Operand) -> Operand:
    return x.transpose(-1, -2) if isinstance(x, Tensor) else n.builder.permute(x, [0, 1, 3, 2])


def _capped(n: Call, scores: Live) -> Live:
    cap = torch.tensor(float(n.attribute("softcap", 0.0)), dtype=torch.float64)
    if not cap:
        return scores
    return n.builder.scale(n.builder.elementwise("tanh", torch.tanh, n.builder.scale(scores, 1 / cap, None)), cap, None)


def _masked(n: Call, scores: Live) -> Live:
    """Return the scores with the mask added, and with those of later keys out of reach where it is causal."""
    length, keys = scores.shape[-2:]
    mask = n.given(3)
    if isinstance(mask, Live):
        scores = n.builder.add(*n.pair(scores, mask))
        mask = None
    if n.opset >= 24 and mask is not None and mask.shape[-1] != keys:
        n.builder.refuse(f"has a mask for {mask.shape[-1]} of {keys} keys", "write it for all of them")
    bias = torch.zeros(length, keys, dtype=torch.float64)
    if mask is not None:
        bias = torch.where(mask, 0.0, -math.inf).double() if mask.dtype == torch.bool else mask.double()
    if n.attribute("is_causal", 0):
        bias = bias + torch.full((length, keys), -math.inf, dtype=torch.float64).triu(1)
    if bool((bias == -math.inf).all(-1).any()):
        n.builder.refuse("has a query that may look at no key", "leave such queries out")
    if not bool(bias.any()):
        return scores
    return n.builder.add(*n.pair(scores, bias.clamp(min=_MASKED)))
