"""What is known of inputs beside their features: short ones, or pictures with little variation; values, batched."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from ..errors import InputError
from ..steps import Shape

PriorName = Literal["norm", "tv", "none"]
Prior = Callable[[Tensor], Tensor]  # inputs (batch, n) -> (batch,)
_ROUND = 1e-3  # of the largest entry: differences below are taken as squares, so that there is a gradient


def prior_of(name: PriorName, shape: Shape, image: Shape | None) -> Prior | None:
    """Return the prior by name for inputs of a shape, None for none; `image` (rows, columns) is what "tv" sees.

    Raises InputError for other names, and where no image fits.
    """
    if name == "none":
        return None
    if name == "norm":
        return lambda x: 0.5 * x.square().mean(1)
    if name != "tv":
        raise InputError(f"prior: expected 'norm', 'tv' or 'none'; got {name!r}")
    rows, columns = picture_shape(shape, image)
    return lambda x: total_variation(x.reshape(len(x), -1, rows, columns)) / x.shape[1]


def total_variation(x: Tensor) -> Tensor:
    """Return the isotropic total variation of pictures (batch, channels, rows, columns), its kink rounded off: (batch,).

    References: Rudin, Osher, Fatemi, Nonlinear total variation based noise removal algorithms (1992).
    """
    down = torch.nn.functional.pad(x[:, :, 1:] - x[:, :, :-1], (0, 0, 0, 1))
    right = torch.nn.functional.pad(x[:, :, :, 1:] - x[:, :, :, :-1], (0, 1))
    kink = _ROUND * x.detach().abs().flatten(1).amax(1).clamp(min=2.0**-500).reshape(-1, 1, 1, 1)
    return (torch.sqrt(down.square() + right.square() + kink.square()) - kink).flatten(1).sum(1)


def picture_shape(shape: Shape, image: Shape | None) -> tuple[int, int]:
    """Return rows and columns of the pictures that inputs are: as given, the last two axes, or the sides of a square."""
    size = math.prod(shape)
    if image is not None:
        if len(image) != 2 or math.prod(image) < 1 or size % math.prod(image):
            raise InputError(f"image: expected (rows, columns) whose product divides {size} entries of an input; got {image}")
        return image[0], image[1]
    if len(shape) >= 2 and min(shape[-2:]) > 1:
        return shape[-2], shape[-1]
    side = math.isqrt(size)
    if side * side != size:
        raise InputError(f"image: expected (rows, columns) for prior 'tv', as inputs of shape {shape} are no square; got None")
    return side, side
