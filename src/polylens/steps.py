"""The affine steps of a program: `linear` (the map without its constant), `apply` (with it), `adjoint` (its transpose).

A tensor carries its batch as dimension 0. *Columns* are tensors of shape (batch, n, *shape), the images of n input
directions per input; *rows* of shape (batch, k, *shape) are k linear forms on a tensor. A batch of 1 is shared by all
inputs, which is how everything in front of the first gate is computed only once. This module knows no gate.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self, final

import torch
from torch import Tensor
from torch.nn import functional as F

Shape = tuple[int, ...]


class Step(ABC):
    """One operation of a program."""

    __slots__ = ()

    kind: str

    @abstractmethod
    def apply(self, *inputs: Tensor) -> Tensor:
        """Return the step's output on a batch."""

    def converted(self, convert: Callable[[Tensor], Tensor]) -> Self:
        """Return the step with every parameter passed through `convert`."""
        changed = {f.name: convert(v) for f in fields(self) if isinstance(v := getattr(self, f.name), Tensor)}  # type: ignore[arg-type]
        return replace(self, **changed) if changed else self  # type: ignore[type-var]

    def parameters(self) -> dict[str, Tensor]:
        """Return the tensors that the step holds, by field name."""
        return {f.name: v for f in fields(self) if isinstance(v := getattr(self, f.name), Tensor)}  # type: ignore[arg-type]

    def multiply_adds(self, inputs: Sequence[Shape], output: Shape) -> int:
        """Return the multiplications that one sample costs, to compare ways of computing."""
        return math.prod(output)


class LinearAt(ABC):
    """What a step is near a given batch of inputs: a map `z -> L z + c`, with L differing between inputs."""

    __slots__ = ()

    @abstractmethod
    def columns(self, *columns: Tensor) -> Tensor:
        """Return L applied to columns (batch or 1, n, *shape)."""

    @abstractmethod
    def offset(self, *offsets: Tensor) -> Tensor:
        """Return L applied to the offsets (batch, *shape), plus c."""

    @abstractmethod
    def rows(self, rows: Tensor, shapes: Sequence[Shape]) -> tuple[Tensor, ...]:
        """Return L transposed applied to rows (batch or 1, k, *output shape), one tensor for each input."""


class Affine(Step, LinearAt):
    """A step that is the same affine map everywhere, and so is its own local map."""

    __slots__ = ()

    @abstractmethod
    def linear(self, *inputs: Tensor) -> Tensor:
        """Return the image of a batch under the linear part."""

    def adjoint(self, rows: Tensor, shapes: Sequence[Shape]) -> tuple[Tensor, ...]:
        """Return the transpose applied to a batch of rows: by automatic differentiation of the linear part at zero."""
        zeros = tuple(rows.new_zeros(()).expand(len(rows), *shape) for shape in shapes)
        pull = torch.func.vjp(self.linear, *zeros)[1]
        return tuple(pull(rows))

    def columns(self, *columns: Tensor) -> Tensor:
        batch = max(len(c) for c in columns)
        flat = [c.expand(batch, *c.shape[1:]).flatten(0, 1) for c in columns]
        y = self.linear(*flat)
        return y.unflatten(0, (batch, columns[0].shape[1]))

    def offset(self, *offsets: Tensor) -> Tensor:
        return self.apply(*offsets)

    def rows(self, rows: Tensor, shapes: Sequence[Shape]) -> tuple[Tensor, ...]:
        return tuple(r.reshape(*rows.shape[:2], *r.shape[1:]) for r in self.adjoint(rows.flatten(0, 1), shapes))


@final
@dataclass(frozen=True, eq=False, slots=True)
class Linear(Affine):
    """`x -> x W^T + b` along the last axis; weight (outputs, inputs)."""

    weight: Tensor
    bias: Tensor | None
    kind: str = "linear"

    def apply(self, *inputs: Tensor) -> Tensor:
        return F.linear(inputs[0], self.weight, self.bias)

    def linear(self, *inputs: Tensor) -> Tensor:
        return F.linear(inputs[0], self.weight)

    def adjoint(self, rows: Tensor, shapes: Sequence[Shape]) -> tuple[Tensor, ...]:
        return (rows @ self.weight,)

    def multiply_adds(self, inputs: Sequence[Shape], output: Shape) -> int:
        return math.prod(output) * self.weight.shape[1]


@final
@dataclass(frozen=True, eq=False, slots=True)
class Convolution(Affine):
    """A convolution or transposed convolution over 1, 2 or 3 axes, with PyTorch's conventions for its weight."""

    weight: Tensor
    bias: Tensor | None
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    transposed: bool
    output_padding: tuple[int, ...]
    groups: int
    kind: str = "convolution"

    def _convolve(self, x: Tensor, bias: Tensor | None) -> Tensor:
        return torch.convolution(
            x, self.weight, bias, self.stride, self.padding, self.dilation, self.transposed, self.output_padding, self.groups
        )

    def apply(self, *inputs: Tensor) -> Tensor:
        return self._convolve(inputs[0], self.bias)

    def linear(self, *inputs: Tensor) -> Tensor:
        return self._convolve(inputs[0], None)

    def multiply_adds(self, inputs: Sequence[Shape], output: Shape) -> int:
        return math.prod(inputs[0] if self.transposed else output) * math.prod(self.weight.shape[1:])


@final
@dataclass(frozen=True, eq=False, slots=True)
class MatMul(Affine):
    """The product with a constant matrix, from the left (`C x`) or the right (`x C`), batched over leading axes."""

    matrix: Tensor
    left: bool
    kind: str = "matmul"

    def apply(self, *inputs: Tensor) -> Tensor:
        return self.matrix @ inputs[0] if self.left else inputs[0] @ self.matrix

    def linear(self, *inputs: Tensor) -> Tensor:
        return self.apply(*inputs)

    def multiply_adds(self, inputs: Sequence[Shape], output: Shape) -> int:
        return math.prod(output) * self.matrix.shape[-1 if self.left else -2]


@final
@dataclass(frozen=True, eq=False, slots=True)
class Einsum(Affine):
    """Einstein summation of the input with one constant; the input's first subscript is the batch."""

    equation: str
    constant: Tensor
    first: bool  # whether the constant is the first operand
    kind: str = "einsum"

    def apply(self, *inputs: Tensor) -> Tensor:
        operands = (self.constant, inputs[0]) if self.first else (inputs[0], self.constant)
        return torch.einsum(self.equation, *operands)

    def linear(self, *inputs: Tensor) -> Tensor:
        return self.apply(*inputs)


@final
@dataclass(frozen=True, eq=False, slots=True)
class Scale(Affine):
    """`x -> factor * x + offset` elementwise; either may be missing. Both broadcast against (1, *shape)."""

    factor: Tensor | None
    bias: Tensor | None
    kind: str = "scale"

    def apply(self, *inputs: Tensor) -> Tensor:
        y = self.linear(*inputs)
        return y if self.bias is None else y + self.bias

    def linear(self, *inputs: Tensor) -> Tensor:
        return inputs[0] if self.factor is None else inputs[0] * self.factor

    def adjoint(self, rows: Tensor, shapes: Sequence[Shape]) -> tuple[Tensor, ...]:
        if self.factor is None and rows.shape[1:] == torch.Size(shapes[0]):
            return (rows,)
        return Affine.adjoint(self, rows, shapes)


@final
@dataclass(frozen=True, eq=False, slots=True)
class Fixed(Affine):
    """A linear map without parameters, of one tensor or several: reshape, slice, concat, sum, average pool, upsample."""

    kind: str
    function: Callable[..., Tensor]
    options: Mapping[str, Any] = field(default_factory=dict)

    def apply(self, *inputs: Tensor) -> Tensor:
        return self.function(*inputs, **self.options)

    def linear(self, *inputs: Tensor) -> Tensor:
        return self.function(*inputs, **self.options)


def with_coefficients(step: Affine, change: Callable[[Tensor], Tensor]) -> Affine:
    """Return the step with every coefficient changed, those of a weighted sum too: to its magnitude, say, or its square."""
    step = step.converted(change)
    if isinstance(step, Fixed) and step.function is combine:
        weights = tuple(float(change(torch.tensor(float(w)))) for w in step.options["weights"])
        return replace(step, options={**step.options, "weights": weights})
    return step


def flat(x: Tensor, start: int) -> Tensor:
    """Return x with the axes from `start` on joined into one, which is new when there are none."""
    return x.flatten(start) if x.ndim > start else x.unsqueeze(start)


# The functions of `Fixed`: each takes batches (dimension 0), so shapes in the options are those of one sample.


def reshape(x: Tensor, shape: Shape) -> Tensor:
    """Return each sample in a new shape."""
    return x.reshape(len(x), *shape)


def permute(x: Tensor, dims: Shape) -> Tensor:
    """Return the batch with its axes reordered; dims[0] is 0."""
    return x.permute(dims)


def expand(x: Tensor, shape: Shape) -> Tensor:
    """Return each sample repeated along its axes of size 1, new axes in front."""
    x = x.reshape(len(x), *(1,) * (len(shape) + 1 - x.ndim), *x.shape[1:])
    return x.expand(len(x), *shape)


def take(x: Tensor, dim: int, start: int, stop: int, step: int) -> Tensor:
    """Return the slice start:stop:step along one axis; a negative step runs backwards."""
    if step > 0:
        return x[(slice(None),) * dim + (slice(start, stop, step),)]
    return x.index_select(dim, torch.arange(start, stop, step, device=x.device))


def gather(x: Tensor, dim: int, index: tuple[int, ...]) -> Tensor:
    """Return the entries of one axis at constant indices."""
    return x.index_select(dim, torch.tensor(index, dtype=torch.long, device=x.device))


def assign_slice(base: Tensor, part: Tensor, dim: int, start: int, stop: int, step: int) -> Tensor:
    """Return `base` with a slice of one axis replaced by `part`."""
    return torch.slice_scatter(base, part, dim, start, stop, step)


def assign_index(base: Tensor, part: Tensor, dim: int, index: tuple[int, ...]) -> Tensor:
    """Return `base` with the entries at constant indices of one axis replaced by `part`."""
    return base.index_copy(dim, torch.tensor(index, dtype=torch.long, device=base.device), part)


def concat(*parts: Tensor, dim: int) -> Tensor:
    """Return the tensors joined along one axis."""
    return torch.cat(parts, dim)


def stack(*parts: Tensor, dim: int) -> Tensor:
    """Return the tensors joined along a new axis."""
    return torch.stack(parts, dim)


def combine(*terms: Tensor, weights: tuple[float, ...]) -> Tensor:
    """Return the weighted sum of tensors that broadcast against each other sample by sample."""
    total = terms[0] if weights[0] == 1 else weights[0] * terms[0]
    for term, weight in zip(terms[1:], weights[1:], strict=True):
        total = torch.add(total, term, alpha=weight)
    return total


def zeros(x: Tensor, shape: Shape) -> Tensor:
    """Return the zero map into the given shape."""
    return (x.flatten(1)[:, :1] * 0).reshape(len(x), *(1,) * len(shape)).expand(len(x), *shape)
