"""Inputs z with |A z + b| = |A x + b|: those of other signs, for a matrix of full column rank."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from .stiemke import EPS
from .system import unit

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


def mirrored(a: Tensor, b: Tensor, x: Tensor, within: Callable[[Tensor], bool]) -> Mirrors:
    """Return another input with the same absolute values, if there is one.

    Algorithm: all signs of n independent rows, for up to 12 inputs; beyond that only the reflection in the point where
    A p + b = 0, so that nothing is settled when that fails.
    """
    a, scale = unit(a)
    b = b / scale
    value = a @ x + b
    n = a.shape[1]
    least = float(torch.linalg.svdvals(a)[-1]) if len(a) >= n and n else 0.0
    bound = 2 * float(value.norm()) / least if least > 0 else math.inf
    full = least > max(a.shape) * EPS * float(torch.linalg.matrix_norm(a, 2)) if n else True
    if n == 0:
        return Mirrors(None, True, 0.0)
    if not full:
        return Mirrors(None, False, math.inf)
    rows = _independent(a) if n <= MOST_SIGNS else list(range(len(a)))
    inverse = torch.linalg.pinv(a[rows])
    signs = list(itertools.product([1.0, -1.0], repeat=n)) if n <= MOST_SIGNS else [[-1.0] * len(a)]
    wanted = torch.tensor(signs, dtype=torch.float64) * value[rows] - b[rows]
    candidates = wanted @ inverse.T
    candidates = candidates + (wanted - candidates @ a[rows].T) @ inverse.T  # what the first product left
    reached, terms = candidates @ a.T + b, candidates.abs() @ a.abs().T + b.abs() + value.abs()
    rounding = 4 * sum(a.shape) * EPS
    off = rounding * (terms[:, rows] @ inverse.abs().T)  # entries are as wrong as their terms are large
    room = rounding * terms + off @ a.abs().T
    same = ((reached.abs() - value.abs()).abs() <= room).all(1)
    away = torch.linalg.vector_norm(candidates - x, dim=1)
    apart = ((candidates - x).abs() > off).any(1)  # others are x again
    others = [z for z in candidates[same & apart][away[same & apart].argsort(descending=True)] if within(z)]
    return Mirrors(others[0] if others else None, n <= MOST_SIGNS, bound)


def _independent(a: Tensor) -> list[int]:
    """Return as many independent rows as there are columns, the longest remainder first."""
    left, rows = a.clone(), list[int]()
    for _ in range(a.shape[1]):
        k = int(torch.linalg.vector_norm(left, dim=1).argmax())
        way = left[k] / left[k].norm()
        left = left - (left @ way)[:, None] * way
        rows.append(k)
    return rows
