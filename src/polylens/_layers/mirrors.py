"""Inputs z with |A z + b| = |A x + b|: those of other signs, for a matrix of full column rank."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from .._types import Tolerance

MOST_SIGNS = 12  # 4 096 systems


class Mirrors(NamedTuple):
    """The farthest `other` input that was found, whether the search was `settled`, and a bound of all their distances."""

    other: Tensor | None
    settled: bool
    diameter: float

    @property
    def kind(self) -> Literal["singleton", "bounded", "undecided"]:
        """What an input that its own signs determine is."""
        return "bounded" if self.other is not None else "singleton" if self.settled else "undecided"


def mirrored(a: Tensor, b: Tensor, x: Tensor, within: Callable[[Tensor], bool], tolerance: Tolerance) -> Mirrors:
    """Return another input with the same absolute values, if there is one.

    Algorithm: all signs of n independent rows, for up to 12 inputs; beyond that only the reflection in the point where
    A p + b = 0, so that nothing is settled when that fails.
    """
    value = a @ x + b
    n = a.shape[1]
    least = float(torch.linalg.svdvals(a)[-1]) if len(a) >= n and n else 0.0
    bound = 2 * float(value.norm()) / least if least > 0 else math.inf
    full = least > max(a.shape) * torch.finfo(torch.float64).eps * float(torch.linalg.matrix_norm(a, 2)) if n else True
    if n == 0:
        return Mirrors(None, True, 0.0)
    if not full:
        return Mirrors(None, False, math.inf)
    candidates = _signed(a, b, value) if n <= MOST_SIGNS else torch.linalg.lstsq(a, (-value - b)[:, None]).solution.T
    reached = candidates @ a.T + b
    room = 1024 * tolerance.relative * (candidates.abs() @ a.abs().T + b.abs() + value.abs())  # solving leaves that much
    same = ((reached.abs() - value.abs()).abs() <= room).all(1)
    away = torch.linalg.vector_norm(candidates - x, dim=1)
    size = float(x.norm()) + float(b.norm() + value.norm()) / least  # of the terms that a candidate is made of
    apart = away > 1e-9 * size  # others are x again
    others = [z for z in candidates[same & apart][away[same & apart].argsort(descending=True)] if within(z)]
    return Mirrors(others[0] if others else None, n <= MOST_SIGNS, bound)


def _signed(a: Tensor, b: Tensor, value: Tensor) -> Tensor:
    """Return the solutions (signs, n) of n independent rows for all signs of their values."""
    rows = _independent(a)
    signs = torch.tensor(list(itertools.product([1.0, -1.0], repeat=len(rows))), dtype=torch.float64)
    return torch.linalg.solve(a[rows], (signs * value[rows] - b[rows]).T).T


def _independent(a: Tensor) -> list[int]:
    """Return as many independent rows as there are columns, the longest remainder first."""
    left, rows = a.clone(), list[int]()
    for _ in range(a.shape[1]):
        k = int(torch.linalg.vector_norm(left, dim=1).argmax())
        way = left[k] / left[k].norm()
        left = left - (left @ way)[:, None] * way
        rows.append(k)
    return rows
