"""The operations of a program that move entries around or add them up along axes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from .. import steps
from ..steps import Fixed, Scale, Shape
from ._program import Live, Operand, Program, as_live


class Shapes(Program):
    """A program under construction that knows views, slices, joins and reductions."""

    def reshape(self, x: Live, target: Sequence[int]) -> Live:
        """Reshape to a shape as the source writes it (-1 for what is left); the batch must stay in front or be 1."""
        size = math.prod(x.shape)
        total = size * (self.batch if x.batched else 1)
        target = list(target)
        if -1 in target:
            known = math.prod(t for t in target if t != -1)
            target[target.index(-1)] = total // known if known else 0
        if math.prod(target) != total:
            self.refuse(f"reshapes {self.source_shape(x)} to {tuple(target)}", "the sizes do not fit; write the shape with -1")
        front = (
            bool(target) and not self.alone and target[0] == (self.batch if x.batched else 1) and math.prod(target[1:]) == size
        )
        if not front and x.batched and self.batch != 1:
            self.refuse(
                f"reshapes {self.source_shape(x)} to {tuple(target)}", "it mixes the batch with other axes; use flatten(1)"
            )
        shape = tuple(target[1:] if front else target)
        if shape == x.shape:
            return Live(x.value, shape, front)
        return self.emit(Fixed("reshape", steps.reshape, {"shape": shape}), [x], front)

    def permute(self, x: Live, dims: Sequence[int]) -> Live:
        """Reorder all axes; the batch must stay in front."""
        dims = [d % x.rank for d in dims]
        if x.batched and dims[0] != 0:
            self.refuse("moves the batch axis", "keep the batch as the first axis")
        inner = tuple(dims) if x.batched else (0, *(d + 1 for d in dims))
        return self.fixed("permute", steps.permute, x, dims=inner)

    def squeeze(self, x: Live, dims: Sequence[int] | None) -> Live:
        """Drop axes of size 1, all of them when dims is None."""
        shape = self.source_shape(x)
        drop = {d % x.rank for d in dims} if dims is not None else set(range(x.rank))
        return self.reshape(x, [s for d, s in enumerate(shape) if d not in drop or s != 1])

    def unsqueeze(self, x: Live, dims: Sequence[int]) -> Live:
        """Insert axes of size 1 at the given places of the result."""
        rank = x.rank + len(dims)
        places, rest = {d % rank for d in dims}, iter(self.source_shape(x))
        if x.batched and 0 in places:
            self.refuse("inserts an axis in front of the batch", "keep the batch as the first axis")
        return self.reshape(x, [1 if d in places else next(rest) for d in range(rank)])

    def expand(self, x: Live, target: Sequence[int]) -> Live:
        """Repeat along axes of size 1 up to a shape as the source writes it; -1 keeps an axis."""
        if len(target) > x.rank and x.batched:
            self.refuse("adds axes in front of the batch", "keep the batch as the first axis")
        old = (1,) * (len(target) - x.rank) + self.source_shape(x)
        full = [o if t == -1 else t for o, t in zip(old, target, strict=True)]
        shape = tuple(full[1:] if x.batched else full)
        return x if shape == x.shape else self.fixed("expand", steps.expand, x, shape=shape)

    def slice(self, x: Live, dim: int, start: int | None, stop: int | None, step: int = 1) -> Live:
        """start:stop:step along one axis, with Python's rules."""
        if x.batched and dim % x.rank == 0:
            if range(self.batch)[slice(start, stop, step)] == range(self.batch):
                return x
            self.axis(x, dim)
        axis = self.axis(x, dim)
        chosen = range(x.shape[axis - 1])[slice(start, stop, step)]
        if len(chosen) == x.shape[axis - 1] and step == 1:
            return x
        if not chosen:
            self.refuse("takes an empty slice", "remove it")
        return self.fixed("slice", steps.take, x, dim=axis, start=chosen.start, stop=chosen.stop, step=chosen.step)

    def gather(self, x: Live, dim: int, index: Tensor) -> Live:
        """Entries at constant indices along one axis; a scalar index removes the axis."""
        axis = self.axis(x, dim)
        places = [int(i) % x.shape[axis - 1] for i in index.reshape(-1)]
        y = self.fixed("gather", steps.gather, x, dim=axis, index=tuple(places))
        shape = list(self.source_shape(x))
        at = dim % x.rank
        return y if index.ndim == 1 else self.reshape(y, [*shape[:at], *index.shape, *shape[at + 1 :]])

    def select(self, x: Live, dim: int, index: int) -> Live:
        """One index of an axis, which is removed."""
        if x.batched and dim % x.rank == 0 and self.batch == 1:
            return Live(x.value, x.shape, batched=False)
        return self.gather(x, dim, torch.tensor(index))

    def split(self, x: Live, dim: int, sizes: Sequence[int]) -> list[Live]:
        """Consecutive slices of the given sizes."""
        edges = [sum(sizes[:i]) for i in range(len(sizes) + 1)]
        return [self.slice(x, dim, a, b) for a, b in itertools.pairwise(edges)]

    def concat(self, parts: Sequence[Operand], dim: int) -> Live:
        """Tensors joined along one axis; constants among them are kept as constants."""
        like = next(p for p in sorted(parts, key=lambda p: not (isinstance(p, Live) and p.batched)) if isinstance(p, Live))
        parts = [p for p in parts if isinstance(p, Live) or p.numel()]
        return self.emit(Fixed("concat", steps.concat, {"dim": self.axis(like, dim)}), [self.live(p, like) for p in parts])

    def stack(self, parts: Sequence[Operand], dim: int) -> Live:
        """Tensors joined along a new axis."""
        like = next(p for p in sorted(parts, key=lambda p: not (isinstance(p, Live) and p.batched)) if isinstance(p, Live))
        dim = dim % (like.rank + 1)
        if like.batched and dim == 0:
            self.axis(like, 0)
        step = Fixed("stack", steps.stack, {"dim": dim if like.batched else dim + 1})
        return self.emit(step, [self.live(p, like) for p in parts])

    def assign_slice(self, base: Operand, part: Operand, dim: int, start: int | None, stop: int | None, step: int) -> Live:
        """`base` with a slice of one axis replaced."""
        like = base if isinstance(base, Live) else as_live(part)
        base, part = self.live(base, like), self.live(part, like)
        if base.batched and dim % base.rank == 0:
            if range(self.batch)[slice(start, stop, step)] == range(self.batch):
                return self.expand(part, (self.batch, *base.shape))
            self.axis(base, dim)
        axis = self.axis(base, dim)
        chosen = range(base.shape[axis - 1])[slice(start, stop, step)]
        part = self.expand(part, self.source_shape(replace(base, shape=_with(base.shape, axis - 1, len(chosen)))))
        options = {"dim": axis, "start": chosen.start, "stop": chosen.stop, "step": chosen.step}
        return self.emit(Fixed("assign_slice", steps.assign_slice, options), [base, part])

    def assign_select(self, base: Operand, part: Operand, dim: int, index: int) -> Live:
        """`base` with one index of an axis replaced."""
        like = base if isinstance(base, Live) else as_live(part)
        rank = base.rank if isinstance(base, Live) else base.ndim
        part = self.unsqueeze(part, [dim % rank]) if isinstance(part, Live) else part.unsqueeze(dim % rank)
        if isinstance(base, Tensor):
            base = self.constant(base, like, like.batched)
        size = self.source_shape(base)[dim % rank]
        return self.assign_slice(base, part, dim, index % size, index % size + 1, 1)

    def assign_index(self, base: Operand, part: Operand, dim: int, index: Tensor) -> Live:
        """`base` with the entries at constant indices of one axis replaced; a part of fewer axes is repeated."""
        like = base if isinstance(base, Live) else as_live(part)
        base = self.live(base, like)
        axis = self.axis(base, dim)
        places = tuple(int(i) % base.shape[axis - 1] for i in index)
        shape = self.source_shape(replace(base, shape=_with(base.shape, axis - 1, len(places))))
        part = part if isinstance(part, Live) else part.expand(shape)
        part = self.expand(self.live(part, base), shape)
        return self.emit(Fixed("assign_index", steps.assign_index, {"dim": axis, "index": places}), [base, part])

    def pad(self, x: Live, pads: Sequence[int], mode: str = "constant", value: float = 0.0) -> Live:
        """Pad (or crop, where negative) in PyTorch's order: last axis first, two numbers an axis."""
        if len(pads) // 2 > len(x.shape):
            if any(pads[2 * len(x.shape) :]):
                self.refuse("pads the batch axis", "keep the batch as it is")
            pads = pads[: 2 * len(x.shape)]
        if mode == "constant":
            y = self.fixed("pad", F.pad, x, pad=tuple(pads))
            if value == 0:
                return y
            border = F.pad(torch.zeros(1, *x.shape, dtype=torch.float64), tuple(pads), value=value)
            return self.emit(Scale(None, border), [y])
        return self.fixed("pad", F.pad, x, pad=tuple(pads), mode=mode)

    def reduce(self, x: Live, dims: Sequence[int] | None, keepdim: bool, mean: bool) -> Live:
        """Sum or mean over axes, all but the batch when dims is None and the source has no batch."""
        if dims is None and x.batched:
            self.axis(x, 0)
        axes = tuple(self.axis(x, d) for d in (dims if dims is not None else range(x.rank)))
        return self.fixed("mean" if mean else "sum", torch.mean if mean else torch.sum, x, dim=axes, keepdim=keepdim)


def _with(shape: Shape, position: int, size: int) -> Shape:
    return (*shape[:position], size, *shape[position + 1 :])
