"""Affine maps `x -> A x + b` between tensors of any shape, flattened row by row."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from ._types import Result
from .errors import ShapeError


@final
@dataclass(frozen=True, eq=False, slots=True, repr=False)
class AffineMap(Result):
    """One affine map, or a batch of them: `weight` (*batch, outputs, inputs), `offset` (*batch, outputs).

    `outputs` and `inputs` are flattened; `output_shape` and `input_shape` say what they stand for. The weight may be
    a transposed or expanded view: call `.contiguous()` on it before writing into memory.
    """

    weight: Tensor
    offset: Tensor
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]

    def __post_init__(self) -> None:
        want = (math.prod(self.output_shape), math.prod(self.input_shape))
        if self.weight.shape[-2:] != want or self.offset.shape != self.weight.shape[:-1]:
            raise ShapeError(
                f"affine map {self.input_shape} -> {self.output_shape}: expected weight (..., {want[0]}, {want[1]}) and"
                f" offset (..., {want[0]}); got {tuple(self.weight.shape)} and {tuple(self.offset.shape)}"
            )

    def __call__(self, x: Tensor) -> Tensor:
        """Return A x + b for x (*batch, *input_shape): one x for each map of the batch, or many x for a single map.

        A single x goes through every map of a batch. No x at all, (0, *input_shape), has images (0, *output_shape) under
        a single map. Raises ShapeError for another shape, and for a number of points that is not that of the maps.
        """
        lead = x.shape[: max(0, x.ndim - len(self.input_shape))]
        if x.shape != (*lead, *self.input_shape):
            raise ShapeError(f"affine map: expected x (..., {self.input_shape}); got {tuple(x.shape)}")
        if not _broadcast(lead, self.weight.shape[:-2]):
            raise ShapeError(
                f"{self!r}: expected one x for each map or one x in all, {(*self.weight.shape[:-2], *self.input_shape)} or"
                f" {self.input_shape}; got {tuple(x.shape)}; choose maps by indexing"
            )
        flat = x.reshape(*lead, math.prod(self.input_shape)).to(self.weight.dtype)
        y = (self.weight @ flat.unsqueeze(-1)).squeeze(-1) if self.weight.ndim > 2 else flat @ self.weight.mT
        return (y + self.offset).reshape((*y.shape[:-1], *self.output_shape))

    def __matmul__(self, other: AffineMap) -> AffineMap:
        """Return the map that applies `other` first: `(self @ other)(x) == self(other(x))`."""
        if not isinstance(other, AffineMap):
            return NotImplemented
        if self.weight.shape[-1] != other.weight.shape[-2]:
            raise ShapeError(
                f"composition: expected {self.weight.shape[-1]} outputs of the inner map; got {other.weight.shape[-2]}"
            )
        dtype = torch.promote_types(self.weight.dtype, other.weight.dtype)
        outer, inner = self.weight.to(dtype), other.weight.to(dtype)
        offset = (outer @ other.offset.to(dtype).unsqueeze(-1)).squeeze(-1) + self.offset
        return AffineMap(outer @ inner, offset, other.input_shape, self.output_shape)

    def __len__(self) -> int:
        if self.weight.ndim == 2:
            raise TypeError("this is one affine map, not a batch of them; it has no length")
        return len(self.weight)

    def __getitem__(self, index: int | slice | Sequence[int] | Tensor) -> AffineMap:
        """Return some maps of the batch; an integer gives one map without batch axis."""
        if self.weight.ndim == 2:
            raise TypeError("this is one affine map, not a batch of them; it cannot be indexed")
        return AffineMap(self.weight[index], self.offset[index], self.input_shape, self.output_shape)

    def __repr__(self) -> str:
        batch = f"{tuple(self.weight.shape[:-2])} maps, " if self.weight.ndim > 2 else ""
        return f"AffineMap({batch}{self.input_shape} -> {self.output_shape})"

    def images(self) -> Tensor:
        """Return the weight with its inputs in their own shape: (*batch, outputs, *input_shape)."""
        return self.weight.reshape((*self.weight.shape[:-1], *self.input_shape))

    def singular_values(self) -> Tensor:
        """Return the singular values of A, largest first: (*batch, min(outputs, inputs)), in float64.

        Algorithm: LAPACK's SVD of the dense matrix, O(outputs * inputs * min(outputs, inputs)) each.
        """
        return torch.linalg.svdvals(self.weight.double())

    def summary(self) -> str:
        values = self.singular_values()
        high, low = float(values.max()), float(values.min())
        return f"{self!r}\n  singular values from {high:.4g} down to {low:.4g}"

    def to_dict(self) -> dict[str, Any]:
        return {
            "input_shape": list(self.input_shape),
            "output_shape": list(self.output_shape),
            "batch": list(self.weight.shape[:-2]),
            "singular_values": self.singular_values().tolist(),
        }


def _broadcast(a: Sequence[int], b: Sequence[int]) -> bool:
    return all(m == n or 1 in (m, n) for m, n in zip(reversed(a), reversed(b), strict=False))
