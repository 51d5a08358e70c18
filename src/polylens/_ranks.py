"""Ranks of Jacobians whose rows have units of their own: judged row by row, and whether rounding leaves them open."""

from __future__ import annotations

import math
from typing import NamedTuple, final

import torch
from torch import Tensor

from ._rational import RationalNetwork, rank, rationals

EPS = 2.0**-52
PRODUCTS, ROUNDINGS = 4, 32  # of its terms, by which rows are off as a rule, and at most
CLEAR = 1e-6  # a least singular value of rows of length 1 that is above all rounding of a factorisation


class Jacobian(NamedTuple):
    """Jacobians (batch, units, inputs), rows that are rounding set to 0, and the sizes of the rows' terms (batch, units).

    `sizes` is None where they are not known.
    """

    weight: Tensor
    sizes: Tensor | None


@final
class Decomposition(NamedTuple):
    """Singular values, thresholds, ranks and bases of row spaces (batch, inputs, largest rank), 0 beyond a rank; `full`
    (batch,) where the rank is proven to be the largest that there can be."""

    values: Tensor
    threshold: Tensor
    rank: Tensor
    columns: Tensor
    full: Tensor


def decomposed(jacobian: Jacobian, tolerance: float | None) -> Decomposition:
    """Return what singular values say of a batch of Jacobians; without a tolerance every row counts in its own unit."""
    weight = jacobian.weight
    values, columns = _factored(weight)
    largest = values[..., 0] if values.shape[-1] else values.new_zeros(values.shape[:-1])
    if tolerance is not None:
        threshold = values.new_full(values.shape[:-1], float(tolerance))
        found = (values > threshold[..., None]).sum(-1)
        near = (values - float(tolerance)).abs() <= max(weight.shape[-2:]) * EPS * largest[..., None]
        full = ~near.any(-1)
    else:
        threshold = max(weight.shape[-2:]) * EPS * largest
        found, rows = ranks(jacobian), _in_own_units(weight)
        for i in torch.nonzero(found != (values > threshold[..., None]).sum(-1)).reshape(-1).tolist():
            columns[i, :, : int(found[i])] = _row_space(weight[i], rows[i], int(found[i]))
        full = _full(jacobian, found)
    kept = torch.arange(values.shape[-1], device=found.device) < found[:, None]
    wide = int(found.max())
    return Decomposition(values, threshold, found, torch.where(kept[:, None, :wide], columns[..., :wide], 0.0), full)


def ranks(jacobian: Jacobian, tolerance: float | None = None) -> Tensor:
    """Return the ranks (batch,) of Jacobians; without a tolerance those of their rows, each in its own unit."""
    weight = jacobian.weight
    if tolerance is not None:
        return torch.stack([(torch.linalg.svdvals(one[one.any(-1)]) > tolerance).sum() for one in weight])
    found, off = [], torch.linalg.vector_norm(_rounding(jacobian, PRODUCTS), dim=-1)
    for one, error in zip(_in_own_units(weight), off, strict=True):
        values = torch.linalg.svdvals(one[one.any(-1)])
        largest = values[0] if len(values) else values.new_zeros(())
        found.append((values > torch.maximum(max(weight.shape[-2:]) * EPS * largest, error)).sum())
    return torch.stack(found)


def _rounding(jacobian: Jacobian, roundings: int) -> Tensor:
    """Return how much of every row (batch, units), in parts of its length, so many roundings of its terms are; 0 for none."""
    weight, sizes = jacobian
    lengths = torch.linalg.vector_norm(weight, dim=-1)
    terms = lengths if sizes is None else sizes
    return torch.where(lengths > 0, roundings * EPS * terms / torch.where(lengths > 0, lengths, 1.0), 0.0)


def settled(point: Tensor, value: int, found: int, small: RationalNetwork | None) -> bool:
    """Say whether a rank that singular values leave open is the one in rational arithmetic; False where that is too dear."""
    return small is not None and rank(small.jacobian(rationals(point), value)) == found


def _factored(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return singular values (batch, k) and right singular vectors (batch, inputs, k)."""
    if weight.shape[-2] < weight.shape[-1]:
        q, r = torch.linalg.qr(weight.mT)
        _, values, right = torch.linalg.svd(r.mT)
        return values, q @ right.mT
    _, values, right = torch.linalg.svd(weight, full_matrices=False)
    return values, right.mT.contiguous()


def _in_own_units(weight: Tensor) -> Tensor:
    """Return the rows divided by powers of two near their lengths."""
    largest = weight.abs().amax(-1, keepdim=True) if weight.shape[-1] else weight.new_zeros(*weight.shape[:-1], 1)
    return weight / torch.exp2(torch.log2(torch.where(largest > 0, largest, 1.0)).round())


def _row_space(weight: Tensor, rows: Tensor, count: int) -> Tensor:
    """Return orthonormal columns (inputs, count) that span the rows, in their own units; the strongest of all first."""
    space = torch.linalg.svd(rows, full_matrices=False)[2][:count].mT
    return space @ torch.linalg.svd(weight @ space, full_matrices=False)[2].mT if count else space


def _full(jacobian: Jacobian, found: Tensor) -> Tensor:
    """Return where the rank is that of all rows or all inputs, by more than all rounding of the rows."""
    weight, sizes = jacobian
    if sizes is None:
        return torch.zeros_like(found, dtype=torch.bool)
    lengths = torch.linalg.vector_norm(weight, dim=-1)
    live = (sizes > 0) if weight.shape[-1] else torch.zeros_like(sizes, dtype=torch.bool)
    most = live.sum(-1).clamp(max=weight.shape[-1])
    off = torch.where(live & (lengths == 0), math.inf, _rounding(jacobian, ROUNDINGS))
    unit = torch.where(lengths[..., None] > 0, weight / torch.where(lengths > 0, lengths, 1.0)[..., None], 0.0)
    values = torch.linalg.svdvals(unit)
    least = values.gather(-1, (most - 1).clamp(min=0)[:, None])[:, 0] if values.shape[-1] else values.new_zeros(len(values))
    clear = least > torch.linalg.vector_norm(off, dim=-1) + CLEAR
    return (found == most) & ((most == 0) | clear)
