"""ONNX operators that move entries: shapes, slices, joins, selections at constant places, padding."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from ._onnx_call import Call, operator
from ._onnx_constants import gathered_at, gathered_elements, scattered_at, scattered_elements
from ._program import Live, Operand, as_live

# -- shapes


@operator("Identity")
def _identity(n: Call) -> Live:
    return n.x


@operator("Dropout")
def _dropout(n: Call) -> Live:
    training = n.constant(2)
    active = not n.attribute("is_test", 0) if n.opset < 7 else training is not None and bool(training.any())
    if active and n.number("ratio", 1, 0.5) != 0:
        n.builder.refuse("drops units at random", "export the model in eval mode")
    return n.x


_REAL = {1, 10, 11, 16}  # TensorProto.FLOAT, FLOAT16, DOUBLE, BFLOAT16


@operator("Cast")
def _cast(n: Call) -> Live:
    if n.attribute("to", 1) not in _REAL:
        n.builder.refuse("turns the network's values into integers or booleans", "cut the model in front of it")
    return n.x


@operator("Flatten")
def _flatten(n: Call) -> Live:
    axis, shape = n.axis(n.x, 1), n.builder.source_shape(n.x)
    return n.builder.reshape(n.x, (math.prod(shape[:axis]), math.prod(shape[axis:])))


@operator("Reshape")
def _reshape(n: Call) -> Live:
    shape = n.builder.source_shape(n.x)
    target = n.ints("shape", 1) or []
    if not n.attribute("allowzero", 0):
        target = [shape[i] if t == 0 else t for i, t in enumerate(target)]
    return n.builder.reshape(n.x, target)


@operator("Transpose")
def _transpose(n: Call) -> Live:
    dims = n.ints("perm") or list(range(n.x.rank))[::-1]
    return n.builder.permute(n.along(n.x, 0) if dims[0] % n.x.rank else n.x, dims)


@operator("Squeeze")
def _squeeze(n: Call) -> Live:
    x, dims = n.x, n.ints("axes", 1)
    if x.batched and not n.single:
        dims = [d for d in range(1, x.rank) if x.shape[d - 1] == 1] if dims is None else dims
        if any(d % x.rank == 0 for d in dims):
            n.builder.refuse("drops the batch axis", "keep the batch as the first axis")
    return n.builder.squeeze(x, dims)


@operator("Unsqueeze")
def _unsqueeze(n: Call) -> Live:
    dims = n.ints("axes", 1) or []
    in_front = any(d % (n.x.rank + len(dims)) == 0 for d in dims)
    return n.builder.unsqueeze(n.whole(n.x) if in_front else n.x, dims)


@operator("Expand")
def _expand(n: Call) -> Live:
    size = tuple(int(i) for i in n.needed(1))
    x = as_live(n.fitted([n.x, torch.zeros(size)])[0])
    return n.builder.expand(x, torch.broadcast_shapes(n.builder.source_shape(x), size))


@operator("Tile")
def _tile(n: Call) -> Live:
    y = n.x
    for axis, count in enumerate(n.ints("repeats", 1) or []):
        if count > 1:
            y = n.along(y, axis)
            y = n.builder.concat([y] * count, axis)
    return y


@operator("Concat")
def _concat(n: Call) -> Live:
    axis = n.axis(next(o for o in n.operands if isinstance(o, Live)), 1)
    operands = n.fitted(n.operands)
    if axis == 0:
        operands = [n.whole(o) if isinstance(o, Live) else o for o in operands]
    return n.builder.concat(operands, axis)


@operator("Split")
def _split(n: Call) -> list[Live]:
    axis = n.axis(n.x, 0)
    x = n.along(n.x, axis)
    size = n.builder.source_shape(x)[axis]
    each = -(-size // n.outputs)
    sizes = n.ints("split", 1) or [min(each, size - i * each) for i in range(n.outputs)]
    return n.builder.split(x, axis, sizes)


@operator("Slice")
def _slice(n: Call) -> Live:
    starts, ends = n.ints("starts", 1) or [], n.ints("ends", 2) or []
    axes = n.ints("axes", 3) or list(range(len(starts)))
    strides = n.ints("steps", 4) or [1] * len(starts)
    y = n.x
    for axis, start, stop, step in zip(axes, starts, ends, strides, strict=True):
        size = n.builder.source_shape(y)[axis]
        if range(size)[start:stop:step] != range(size):
            y = n.builder.slice(n.along(y, axis), axis, start, stop, step)
    return y


# -- selections at constant places


@operator("Gather")
def _gather(n: Call) -> Live:
    axis, index = n.axis(n.x, 0), n.needed(1).long()
    x = n.along(n.x, axis)
    size = n.builder.source_shape(x)[axis]
    if index.numel() and not (-size <= int(index.min()) and int(index.max()) < size):
        n.builder.refuse(f"takes entries {index.tolist()} of {size}", "check the file with onnx.checker")
    return n.builder.gather(x, axis, index)


@operator("GatherElements", "GatherND")
def _gather_many(n: Call) -> Live:
    index = n.needed(1).numpy()
    gathered = gathered_at if n.op == "GatherND" else gathered_elements
    return n.picked([n.x], gathered(n.arguments(*n.places(n.builder.source_shape(n.x)), index)))


@operator("ScatterElements", "Scatter", "ScatterND")
def _scatter(n: Call) -> Live:
    if n.attribute("reduction", "none") != "none":
        n.builder.refuse("adds to what is there", "use reduction = 'none'")
    data, index, updates = n.operand(0), n.needed(1).numpy(), n.operand(2)
    shapes = [n.builder.source_shape(o) if isinstance(o, Live) else tuple(o.shape) for o in (data, updates)]
    old, new = n.places(*shapes)
    scattered = scattered_at if n.op == "ScatterND" else scattered_elements
    return n.picked([data, updates], scattered(n.arguments(old, index, new)))


@operator("Where")
def _where(n: Call) -> Live:
    condition = n.needed(0).bool()
    return n.builder.add(*n.pair(_masked(n, n.operand(1), condition), _masked(n, n.operand(2), ~condition)))


def _masked(n: Call, x: Operand, mask: Tensor) -> Operand:
    """Return x where the mask is set and 0 elsewhere; an infinity that is masked away does no harm."""
    if isinstance(x, Tensor):
        return torch.where(mask, x, torch.zeros((), dtype=x.dtype))
    return n.builder.multiply(*n.pair(x, mask.double()))


@operator("DepthToSpace", "SpaceToDepth")
def _depth_to_space(n: Call) -> Live:
    x, block = n.image(n.x), int(n.attributes["blocksize"])
    channels, height, width = x.shape
    batch = n.builder.batch
    if n.op == "SpaceToDepth":
        y = n.builder.reshape(x, (batch, channels, height // block, block, width // block, block))
        y = n.builder.permute(y, [0, 3, 5, 1, 2, 4])
        return n.builder.reshape(y, (batch, channels * block**2, height // block, width // block))
    deep = channels // block**2
    if n.attribute("mode", "DCR") == "DCR":
        y = n.builder.permute(n.builder.reshape(x, (batch, block, block, deep, height, width)), [0, 3, 4, 1, 5, 2])
    else:
        y = n.builder.permute(n.builder.reshape(x, (batch, deep, block, block, height, width)), [0, 1, 4, 2, 5, 3])
    return n.builder.reshape(y, (batch, deep, height * block, width * block))


def place_along(size: int, before: int, after: int, mode: str) -> list[int]:
    """Return which entries of an axis stand along it after cropping (negative numbers), then edge, reflection or wrapping."""
    kept = np.arange(size)[max(-before, 0) : size - max(-after, 0)]
    return [int(i) for i in np.pad(kept, (max(before, 0), max(after, 0)), mode)]  # type: ignore[call-overload]


@operator("Pad")
def _pad(n: Call) -> Live:
    x, mode = n.x, n.attribute("mode", "constant")
    pads, axes = n.ints("pads", 1) or [], n.ints("axes", 3) or list(range(x.rank))
    value = n.number("value", 2, 0.0) or 0.0
    ends = {a % x.rank: (b, e) for a, b, e in zip(axes, pads, pads[len(axes) :], strict=False)}
    x = n.along(x, *(a for a, pair in ends.items() if any(pair)))
    if mode == "constant":
        if not math.isfinite(value):
            n.builder.refuse(f"pads with {value}", "pad inside the pooling operator instead")
        return n.builder.pad(x, [p for a in range(x.rank)[::-1] for p in ends.get(a, (0, 0))], "constant", value)
    for axis, (before, after) in ends.items():
        if before or after:
            size = n.builder.source_shape(x)[axis]
            if mode == "reflect" and max(before, after) >= size + min(before, 0) + min(after, 0):
                n.builder.refuse("reflects more entries than there are", "make the pads smaller than the axis")
            x = n.builder.gather(x, axis, torch.tensor(place_along(size, before, after, mode)))
    return x
