"""Building a program: one method for each kind of operation, whatever front door it came through.

A source counts its axes with the batch among them, or without one where it dropped it; a `Live` value knows which, so
that the doors pass axes and shapes as the source has them. Inside, the batch is always dimension 0. Constants are
tensors; an operation on constants alone never reaches the builder, the doors evaluate it themselves.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.nn import functional as F

from .. import steps
from ..errors import ConversionError, UnsupportedError
from ..gates import Choice, Gate, MaxPool, ReduceMax, clip
from ..network import Network, Node
from ..smooth import Smooth
from ..steps import Convolution, Einsum, Fixed, Linear, MatMul, Scale, Shape, Step


@dataclass(frozen=True, slots=True)
class Live:
    """A value that depends on the input: its number, the shape of one sample, and whether the source shows a batch axis."""

    value: int
    shape: Shape
    batched: bool = True

    @property
    def rank(self) -> int:
        """How many axes the source counts."""
        return len(self.shape) + self.batched


Operand = Live | Tensor


class Builder:
    """Collects nodes; `batch` is the size of the batch axis in the source's example or declaration."""

    def __init__(self, input_shape: Shape, batch: int = 1, dtype: torch.dtype = torch.float32) -> None:
        self.input_shape = input_shape
        self.batch = batch
        self.dtype = dtype  # the source's, for constants that depend on it
        self.nodes: list[Node] = []  # named for the operation they came from; `finish` tells them apart
        self.groups: list[int] = []  # which operation of the source each node came from
        self.where = ""
        self.name = ""
        self._operations = 0

    # -- bookkeeping

    def begin(self, name: str, where: str) -> None:
        """Start an operation of the source: `name` for its nodes, `where` for complaints ("relu in features.2")."""
        self.name, self.where = name, where
        self._operations += 1

    def refuse(self, problem: str, advice: str) -> NoReturn:
        """Raise UnsupportedError that names the operation and where it stands."""
        raise UnsupportedError(f"{self.where}: {problem}; {advice}")

    def source_shape(self, x: Live) -> Shape:
        """Return the shape as the source sees it."""
        return (self.batch, *x.shape) if x.batched else x.shape

    def axis(self, x: Live, dim: int) -> int:
        """Return the axis, batch as dimension 0, for an axis as the source counts it; never the batch itself."""
        dim = dim + x.rank if dim < 0 else dim
        if x.batched and dim == 0:
            self.refuse("acts along the batch axis", "networks act on every input alone; move the operation out of the model")
        return dim if x.batched else dim + 1

    def emit(self, step: Step, inputs: Sequence[Live], batched: bool | None = None) -> Live:
        """Append a step in float64; the shape of its output is found by running it on a sample of zeros."""
        exact = step.converted(lambda t: t.detach().to(device="cpu", dtype=torch.float64))
        with torch.no_grad():
            sample = exact.apply(*(torch.zeros(1, *x.shape, dtype=torch.float64) for x in inputs))
        self.nodes.append(Node(self.name or step.kind, exact, tuple(x.value for x in inputs), tuple(sample.shape[1:])))
        self.groups.append(self._operations)
        return Live(len(self.nodes), tuple(sample.shape[1:]), inputs[0].batched if batched is None else batched)

    def fixed(self, kind: str, function: Callable[..., Tensor], *inputs: Live, **options: Any) -> Live:
        """Append a linear map without parameters."""
        return self.emit(Fixed(kind, function, options), inputs)

    def finish(self, output: Live, dtype: torch.dtype, source: str) -> Network:
        """Return the network: nodes that the output does not read are dropped, lone shifts join the map in front."""
        nodes = _fold_shifts(_named(self.nodes, self.groups), output.value)
        needed = {output.value}
        for k in range(output.value, 0, -1):
            if k in needed:
                needed.update(nodes[k - 1].inputs)
        kept = [k for k in sorted(needed) if k]
        number = {0: 0} | {k: i for i, k in enumerate(kept, 1)}
        program = tuple(replace(nodes[k - 1], inputs=tuple(number[i] for i in nodes[k - 1].inputs)) for k in kept)
        program = tuple(replace(n, step=n.step.converted(lambda t: t.to(dtype).contiguous())) for n in program)
        return Network(program, self.input_shape, dtype, torch.device("cpu"), source)

    # -- constants beside live values

    def aligned(self, constant: Tensor, x: Live) -> Tensor:
        """Return a constant so that it broadcasts against (batch, *x.shape); a batch axis in it must repeat itself."""
        rank = x.rank
        if constant.ndim == rank and x.batched and constant.shape[0] != 1:
            if not bool((constant == constant[:1]).all()):
                self.refuse("differs between the inputs of a batch", "make the constant the same for every input")
            constant = constant[:1]
        if x.batched:
            return constant.reshape(*(1,) * (rank - constant.ndim), *constant.shape) if constant.ndim < rank else constant
        return constant.reshape(1, *(1,) * (rank - constant.ndim), *constant.shape)

    def constant(self, value: Tensor, like: Live, batched: bool) -> Live:
        """Return a constant as a live value, zero times the input plus the constant."""
        value = value[:1] if batched else value[None]
        zero = self.emit(Fixed("zeros", steps.zeros, {"shape": tuple(value.shape[1:])}), [like], batched)
        return self.emit(Scale(None, value), [zero], batched)

    def live(self, x: Operand, like: Live) -> Live:
        """Return an operand as a live value of the kind that `like` is."""
        if isinstance(x, Live):
            return self.matched(x, like.rank, like.batched)
        x = x.reshape(1, *x.shape) if like.batched and x.ndim == like.rank - 1 else x
        return self.constant(x, like, like.batched and x.ndim == like.rank)

    def matched(self, x: Live, rank: int, batched: bool) -> Live:
        """Return x with the given source rank and batch axis, as the source's own broadcasting would align it."""
        if x.batched == batched:
            return x if rank <= x.rank else self.lifted(x, rank)
        if x.batched:
            self.refuse("joins tensors with and without batch axis", "keep the batch as the first axis of both")
        if rank == len(x.shape) and x.shape[0] != 1:
            self.refuse(f"broadcasts {x.shape} against the batch", "keep the batch as the first axis of both")
        shape = (1,) * (rank - 1 - len(x.shape)) + x.shape if rank > len(x.shape) else x.shape[1:]
        return (
            self.emit(Fixed("reshape", steps.reshape, {"shape": shape}), [x], True)
            if shape != x.shape
            else replace(x, batched=True)
        )

    def pair(self, a: Live, b: Live) -> tuple[Live, Live]:
        """Return two live values so that they broadcast against each other sample by sample."""
        rank, batched = max(a.rank, b.rank), a.batched or b.batched
        return self.matched(a, rank, batched), self.matched(b, rank, batched)

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

    def einsum(self, equation: str, operands: Sequence[Operand]) -> Live:
        """Einstein summation: affine for one live operand and at most one constant, smooth for live operands only."""
        terms, _, result = equation.replace(" ", "").partition("->")
        live = [x for x in operands if isinstance(x, Live)]
        letters = {t[:1] for t, x in zip(terms.split(","), operands, strict=True) if isinstance(x, Live)}
        fixed = [t for t, x in zip(terms.split(","), operands, strict=True) if not isinstance(x, Live)]
        batch = next(iter(letters))
        if "." in equation or not result or len(letters) != 1 or result[0] != batch or any(batch in t for t in fixed):
            self.refuse(f"sums {equation!r}", "write it with the batch as first subscript of every operand and of the result")
        if not all(x.batched for x in live):
            self.refuse(f"sums {equation!r} of tensors without batch axis", "keep the batch as the first axis")
        if not fixed:
            return self.emit(Smooth("einsum", partial(torch.einsum, equation)), live)
        if len(operands) != 2:
            self.refuse(f"sums {len(operands)} operands", "multiply the constants first")
        constant = operands[0] if isinstance(operands[0], Tensor) else operands[1]
        return self.emit(Einsum(equation.replace(" ", ""), constant, isinstance(operands[0], Tensor)), live)  # type: ignore[arg-type]

    def scale(self, x: Live, factor: Tensor | None, shift: Tensor | None) -> Live:
        """factor * x + shift elementwise; constants may broadcast x to a larger shape."""
        x = self.lifted(x, max([x.rank, *(c.ndim for c in (factor, shift) if c is not None)]))
        parts = [None if c is None else self.aligned(c, x) for c in (factor, shift)]
        shape = torch.broadcast_shapes(x.shape, *(p.shape[1:] for p in parts if p is not None))
        # a shift alone would leave the linear part in the smaller shape
        x = self.expand(x, (self.batch, *shape) if x.batched else shape)
        return self.emit(Scale(parts[0], parts[1]), [x])

    def lifted(self, x: Live, rank: int) -> Live:
        """Return x with axes of size 1 in front until it has `rank`, where x shows no batch axis."""
        if rank <= x.rank:
            return x
        if x.batched:
            self.refuse("broadcasts over axes in front of the batch", "keep the batch as the first axis")
        return self.fixed("reshape", steps.reshape, x, shape=(1,) * (rank - x.rank) + x.shape)

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

    # -- shapes

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
        front = bool(target) and target[0] == (self.batch if x.batched else 1) and math.prod(target[1:]) == size
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

    # -- gates

    def gate(self, x: Live, step: Gate) -> Live:
        """An elementwise gate."""
        return self.emit(step, [x])

    def clamp(self, x: Live, low: Tensor | float | None, high: Tensor | float | None, kind: str = "clip") -> Live:
        """Clip to bounds; missing or infinite ones do not bind."""
        low, high = (self._bound(x, b) for b in (low, high))
        return x if low is None and high is None else self.gate(x, clip(low, high, kind))

    def _bound(self, x: Live, bound: Tensor | float | None) -> Tensor | float | None:
        if isinstance(bound, Tensor):
            if bool(torch.isinf(bound).all()) or bool((bound.abs() >= torch.finfo(torch.float32).max).all()):
                return None
            return bound.item() if bound.numel() == 1 else self.aligned(bound, x)[0]
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
        return self.emit(MaxPool(wide[0], wide[1], wide[2], wide[3], ceil_mode), [x])

    def extreme(self, x: Live, dims: Sequence[int] | None, keepdim: bool, largest: bool) -> Live:
        """The largest or smallest entry over axes (all of them when None); several axes are joined first."""
        if dims is None and x.batched:
            self.axis(x, 0)
        places = sorted(d % x.rank for d in (dims if dims is not None else range(x.rank)))
        shape = self.source_shape(x)
        rest = [d for d in range(x.rank) if d not in places]
        y = x
        if len(places) > 1:
            y = self.permute(x, [*rest, *places])
            y = self.reshape(y, [*(shape[d] for d in rest), math.prod(shape[d] for d in places)])
        axis = self.axis(y, places[0] if len(places) == 1 else -1)
        y = self.emit(ReduceMax(axis, y.shape[axis - 1], largest, "reduce_max" if largest else "reduce_min"), [y])
        return self.reshape(y, [1 if d in places else s for d, s in enumerate(shape)]) if keepdim else y

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


def _named(nodes: list[Node], groups: list[int]) -> list[Node]:
    """Give every node a name of its own: the operation's name to its main step, with the step's kind to the others.

    The main step is the first that chooses a piece or is smooth, else the first product, else the last of all.
    """
    members: dict[int, list[int]] = {}
    for k, group in enumerate(groups):
        members.setdefault(group, []).append(k)
    main = {_main(nodes, ks) for ks in members.values()}
    taken, named = {"input"}, []
    for k, node in enumerate(nodes):
        base = node.name if k in main else f"{node.name}.{node.step.kind}"
        name = next(n for n in (base, *(f"{base}_{i}" for i in range(1, len(nodes) + 2))) if n not in taken)
        taken.add(name)
        named.append(replace(node, name=name))
    return named


def _main(nodes: list[Node], members: list[int]) -> int:
    for kinds in ((Choice, Smooth), (Linear, Convolution, MatMul)):
        for k in members:
            if isinstance(nodes[k].step, kinds):
                return k
    return members[-1]


def as_live(x: Operand) -> Live:
    """Return x, which must depend on the input: the doors evaluate operations on constants themselves."""
    if not isinstance(x, Live):
        raise ConversionError("an operation on constants reached the program; please report the model")
    return x


def _one(parameter: Tensor | None) -> Tensor | None:
    return None if parameter is None else parameter[None]


def _with(shape: Shape, position: int, size: int) -> Shape:
    return (*shape[:position], size, *shape[position + 1 :])


def _fold_shifts(nodes: list[Node], output: int) -> list[Node]:
    """Turn a product followed by the addition of a vector into one linear step, as most ONNX files write their layers."""
    readers: dict[int, list[int]] = {}
    for k, node in enumerate(nodes, 1):
        for i in node.inputs:
            readers.setdefault(i, []).append(k)
    nodes, moved = list(nodes), dict[int, int]()
    for k, node in enumerate(nodes, 1):
        if not isinstance(node.step, Linear) or node.step.bias is not None or len(readers.get(k, [])) != 1 or k == output:
            continue
        shift = nodes[readers[k][0] - 1]
        if not isinstance(shift.step, Scale) or shift.step.factor is not None or shift.step.bias is None:
            continue
        bias = shift.step.bias
        if math.prod(bias.shape) in (1, bias.shape[-1]) and shift.shape == node.shape:
            linear = Linear(node.step.weight, bias.reshape(-1).expand(node.shape[-1]))
            nodes[readers[k][0] - 1] = replace(shift, step=linear, inputs=node.inputs, name=node.name)
            moved[k] = readers[k][0]
    return nodes
