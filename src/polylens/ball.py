"""Balls as places to look at: round, so that they have no cells, and a few questions answer them in closed form."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from ._check import ArrayLike, array, as_tensor, finite, floating
from ._types import Result
from .errors import InputError, ShapeError


@final
@dataclass(frozen=True, eq=False, slots=True, repr=False, init=False)
class Ball(Result):
    """{x : |x - center| <= radius}, in the Euclidean norm.

    Args:
        center: an input of any shape; it is held flattened.
        radius: a positive number.

    Raises:
        ShapeError: an input without entries.
        InputError: NaN or infinity, integers, a radius that is not positive.

    Example:
        >>> from polylens import Ball
        >>> Ball([1.0, 2.0], 0.5)
        Ball(radius 0.5 in dimension 2)
    """

    center: Tensor
    radius: float

    def __init__(self, center: ArrayLike, radius: float) -> None:
        given = array(center, "ball.center")
        floating(given, "ball.center")
        point = finite(as_tensor(given, torch.float64, torch.device("cpu")).detach().reshape(-1), "ball.center")
        if not len(point):
            raise ShapeError(f"ball.center: expected an input of at least one entry; got shape {tuple(given.shape)}")
        if not (math.isfinite(radius) and radius > 0):
            raise InputError(f"ball.radius: expected a positive number; got {radius!r}")
        object.__setattr__(self, "center", point)
        object.__setattr__(self, "radius", float(radius))

    @property
    def dim(self) -> int:
        """The dimension of the space that it lies in."""
        return len(self.center)

    def __repr__(self) -> str:
        return f"Ball(radius {self.radius:.6g} in dimension {self.dim})"

    def summary(self) -> str:
        return repr(self)

    def to_dict(self) -> dict[str, Any]:
        return {"kind": "Ball", "center": self.center.tolist(), "radius": self.radius}
