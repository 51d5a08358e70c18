"""Building a program: one method for each kind of operation, whatever front door it came through.

Constants are tensors; an operation on constants alone never reaches the builder, the doors evaluate it themselves.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .. import steps
from ..errors import ConversionError
from ..gates import Gate, MaxPool, ReduceMax, clip
from ..smooth import Smooth
from ..steps import Convolution, Fixed, Linear, MatMul, Scale
from ._program import Live, Operand, as_live
from ._shapes import Shapes


class Builder(Shapes):
    """A program under construction that knows all operations."""

    # -- affine

    def linear(self, x: Live, weight: Tensor, bias: Tensor | None) -> Live:
        """x W^T + b along the last axis."""
        return self.emit(Linear(weight, bias), [x])

    def convolution(
        self,
        x: Live,
        weight: Tensor,
        bias: Tensor | None,
        stride: Sequence[int],
        padding: Sequence[int],
        dilation: Sequence[int],
        transposed: bool = False,
        output_padding: Sequence[int] = (0,),
        groups: int = 1,
    ) -> Live:
        """A convolution in PyTorch's terms; single numbers are repeated over the axes."""
        rank = weight.ndim - 2
        wide = [tuple(v) * (rank if len(v) == 1 else 1) for v in (stride, padding, dilation, output_padding)]
        step = Convolution(weight, bias, wide[0], wide[1], wide[2], transposed, wide[3], groups)
        if len(x.shape) != rank + 1:
            self.refuse(f"convolves {x.shape}", f"give it channels and {rank} axes with a batch axis in front")
        return self.emit(step, [x])

    def matmul(self, a: Operand, b: Operand) -> Live:
        """The matrix product; of two live values it is smooth."""
        if isinstance(a, Live) and isinstance(b, Live):
            return self.emit(Smooth("matmul", torch.matmul), [a, b])
        if isinstance(a, Live) and isinstance(b, Tensor):
            if b.ndim == 1:
                return self.reshape(self.linear(a, b[None], None), self.source_shape(a)[:-1])
            if b.ndim == 2:
                return self.linear(a, b.T, None)
            return self.emit(MatMul(self.aligned(b, a) if b.ndim == a.rank else b, left=False), [a])
        if isinstance(a, Tensor) and isinstance(b, Live):
            if a.ndim < 2 or len(b.shape) < 2:
                self.refuse("multiplies a vector from the left", "write it as a linear layer")
            return self.emit(MatMul(self.aligned(a, b) if a.ndim == b.rank else a, left=True), [b])
        raise ConversionError(f"{self.where}: both factors are constant")

    def scale(self, x: Live, factor: Tensor | None, shift: Tensor | None) -> Live:
        """factor * x + shift elementwise; constants may broadcast x to a larger shape."""
        if not all(bool(torch.isfinite(c).all()) for c in (factor, shift) if c is not None):
            self.refuse("adds or multiplies by infinity or NaN", "use a large finite number, say -1e9 in a mask before softmax")
        x = self.spread(x, factor, shift)  # a shift alone would leave the linear part in the smaller shape
        parts = [None if c is None else self.aligned(c, x) for c in (factor, shift)]
        return self.emit(Scale(parts[0], parts[1]), [x])

    def spread(self, x: Live, *constants: Tensor | float | None) -> Live:
        """x expanded to the shape that it has beside constants: steps that take them keep the shape of their input."""
        tensors = [c for c in constants if isinstance(c, Tensor)]
        x = self.lifted(x, max([x.rank, *(c.ndim for c in tensors)]))
        shape = torch.broadcast_shapes(x.shape, *(self.aligned(c, x).shape[1:] for c in tensors))
        return self.expand(x, (self.batch, *shape) if x.batched else shape)

    def add(self, a: Operand, b: Operand, weight: float = 1.0, first: float = 1.0) -> Live:
        """first * a + weight * b."""
        if isinstance(a, Live) and isinstance(b, Live):
            return self.emit(Fixed("add", steps.combine, {"weights": (first, weight)}), self.pair(a, b))
        if isinstance(a, Live) and isinstance(b, Tensor):
            return self.scale(a, None if first == 1 else torch.tensor(first, dtype=b.dtype), weight * b)
        if isinstance(b, Live) and isinstance(a, Tensor):
            return self.scale(b, None if weight == 1 else torch.tensor(weight, dtype=a.dtype), first * a)
        raise ConversionError(f"{self.where}: both terms are constant")

    def multiply(self, a: Operand, b: Operand) -> Live:
        """a * b elementwise; of two live values it is smooth."""
        if isinstance(a, Live) and isinstance(b, Live):
            return self.emit(Smooth("multiply", torch.mul), self.pair(a, b))
        x, c = (a, b) if isinstance(a, Live) else (b, a)
        return self.scale(as_live(x), c, None)  # type: ignore[arg-type]

    def divide(self, a: Operand, b: Operand) -> Live:
        """a / b elementwise; smooth unless b is constant."""
        if isinstance(b, Tensor):
            return self.scale(a, 1 / b, None)  # type: ignore[arg-type]
        if isinstance(a, Live):
            return self.emit(Smooth("divide", torch.div), self.pair(a, b))
        return self.multiply(self.elementwise("reciprocal", torch.reciprocal, b), a)

    # -- gates

    def gate(self, x: Live, step: Gate) -> Live:
        """An elementwise gate."""
        return self.emit(step, [x])

    def clamp(self, x: Live, low: Tensor | float | None, high: Tensor | float | None, kind: str = "clip") -> Live:
        """Clip to bounds, which may broadcast x to a larger shape; missing or infinite ones do not bind."""
        x = self.spread(x, low, high)
        low, high = (self._bound(x, b) for b in (low, high))
        return x if low is None and high is None else self.gate(x, clip(low, high, kind))

    def _bound(self, x: Live, bound: Tensor | float | None) -> Tensor | float | None:
        if isinstance(bound, Tensor):
            if bool(torch.isinf(bound).all()) or bool((bound.abs() >= torch.finfo(torch.float32).max).all()):
                return None
            limit = torch.finfo(torch.float32).max  # beyond any value, and finite, where only some entries do not bind
            return bound.item() if bound.numel() == 1 else self.aligned(bound, x)[0].clamp(-limit, limit)
        return None if bound is None or abs(bound) >= torch.finfo(torch.float32).max else bound

    def max_pool(
        self,
        x: Live,
        size: Sequence[int],
        stride: Sequence[int],
        padding: Sequence[int],
        dilation: Sequence[int],
        ceil_mode: bool,
    ) -> Live:
        """Max-pooling in PyTorch's terms; single numbers are repeated over the axes."""
        rank = len(x.shape) - 1
        wide = [tuple(v) * (rank if len(v) == 1 else 1) for v in (size, stride or size, padding, dilation)]
        if math.prod(wide[0]) == 1 and not any(wide[2]):  # one candidate leaves no choice
            return reduce(lambda y, d: self.slice(y, d - rank, None, None, wide[1][d]), range(rank), x)
        return self.emit(MaxPool(wide[0], wide[1], wide[2], wide[3], ceil_mode), [x])

    def extreme(self, x: Live, dims: Sequence[int] | None, keepdim: bool, largest: bool) -> Live:
        """The largest or smallest entry over axes (all of them when None); several axes are joined first."""
        if dims is None and x.batched:
            self.axis(x, 0)
        places = sorted(d % x.rank for d in (dims if dims is not None else range(x.rank)))
        shape = self.source_shape(x)
        rest = [d for d in range(x.rank) if d not in places]
        kept = [1 if d in places else s for d, s in enumerate(shape)] if keepdim else [shape[d] for d in rest]
        if all(x.shape[self.axis(x, d) - 1] == 1 for d in places):  # one candidate leaves no choice
            return self.reshape(x, kept)
        y = x
        if len(places) > 1:
            y = self.permute(x, [*rest, *places])
            y = self.reshape(y, [*(shape[d] for d in rest), math.prod(shape[d] for d in places)])
        axis = self.axis(y, places[0] if len(places) == 1 else -1)
        y = self.emit(ReduceMax(axis, y.shape[axis - 1], largest, "reduce_max" if largest else "reduce_min"), [y])
        return self.reshape(y, kept) if keepdim else y

    def bigger(self, a: Operand, b: Operand, largest: bool) -> Live:
        """The elementwise maximum or minimum; against a constant it is a clip."""
        if isinstance(a, Live) and isinstance(b, Live):
            a, b = self.pair(a, b)
            shape = torch.broadcast_shapes(self.source_shape(a), self.source_shape(b))
            a, b = self.expand(a, shape), self.expand(b, shape)
            both = self.emit(Fixed("stack", steps.stack, {"dim": 1}), [a, b])
            return self.emit(ReduceMax(1, 2, largest, "maximum" if largest else "minimum"), [both])
        x, c = (a, b) if isinstance(a, Live) else (b, a)
        return self.clamp(as_live(x), c if largest else None, None if largest else c, "maximum" if largest else "minimum")  # type: ignore[arg-type]

    # -- smooth

    def activation(self, kind: str, function: Callable[..., Tensor], x: Live, **options: Any) -> Live:
        """A smooth activation, whose pattern is the sign of its pre-activation."""
        return self.emit(Smooth(kind, function, options, elementwise=True, signed=True), [x])

    def elementwise(self, kind: str, function: Callable[..., Tensor], x: Live, **options: Any) -> Live:
        """A smooth function of every entry, without pattern."""
        return self.emit(Smooth(kind, function, options, elementwise=True), [x])

    def softmax(self, x: Live, dim: int, log: bool = False) -> Live:
        """Softmax or log-softmax along one axis."""
        kind, function = ("log_softmax", torch.log_softmax) if log else ("softmax", torch.softmax)
        return self.emit(Smooth(kind, function, {"dim": self.axis(x, dim)}), [x])

    def masked_attention(self, query: Operand, key: Operand, value: Operand, mask: Tensor, scale: float | None) -> Live:
        """Return softmax(scale query key^T + mask) value; a mask of truth values keeps what is true.

        Minus infinity becomes -1e9, whose exponential beside that of any other entry is 0 as well.
        """
        mask = torch.where(mask, 0.0, -torch.inf) if mask.dtype == torch.bool else mask
        if bool((mask == -torch.inf).all(-1).any()):
            self.refuse("has a query that may look at no key", "leave such queries out")
        width = key.shape[-1]
        turned = self.permute(key, [*range(key.rank - 2), key.rank - 1, key.rank - 2]) if isinstance(key, Live) else key.mT
        scores = self.matmul(query, turned)
        factor = torch.tensor(1 / math.sqrt(width) if scale is None else scale, dtype=torch.float64)
        return self.matmul(self.softmax(self.scale(scores, factor, mask.double().clamp(min=-1e9)), -1), value)

    def layer_norm(self, x: Live, shape: Sequence[int], weight: Tensor | None, bias: Tensor | None, eps: float) -> Live:
        """Layer norm over the last axes; its weights are a scale step of their own."""
        y = self.emit(Smooth("layer_norm", F.layer_norm, {"normalized_shape": tuple(shape), "eps": eps}), [x])
        return y if weight is None and bias is None else self.emit(Scale(_one(weight), _one(bias)), [y])

    def group_norm(self, x: Live, groups: int, weight: Tensor | None, bias: Tensor | None, eps: float) -> Live:
        """Group norm over groups of channels; its weights are a scale step of their own."""
        y = self.emit(Smooth("group_norm", F.group_norm, {"num_groups": groups, "eps": eps}), [x])
        return y if weight is None and bias is None else self.channelwise(y, weight, bias)

    def channelwise(self, x: Live, factor: Tensor | None, shift: Tensor | None) -> Live:
        """factor * x + shift with one number for each channel (the first axis of a sample)."""
        shape = (1, -1, *(1,) * (len(x.shape) - 1))
        parts = [None if c is None else c.reshape(shape) for c in (factor, shift)]
        return self.emit(Scale(parts[0], parts[1]), [x])

    def batch_norm(
        self, x: Live, weight: Tensor | None, bias: Tensor | None, mean: Tensor, variance: Tensor, eps: float
    ) -> Live:
        """Batch norm with its running statistics: one scale and shift for each channel."""
        factor = torch.rsqrt(variance.double() + eps)
        factor = factor if weight is None else factor * weight
        shift = -mean * factor if bias is None else bias - mean * factor
        return self.channelwise(x, factor, shift)


def _one(parameter: Tensor | None) -> Tensor | None:
    return None if parameter is None else parameter[None]
