"""Priors p(x) over inputs and likelihoods p(y | x) of outputs, each with a bound that exact rejection needs."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from ._check import ArrayLike, array, finite, whole
from .errors import InputError, ShapeError

Sampler = Callable[[int, torch.Generator], Tensor]  # n and a generator -> inputs (n, *input_shape)


@final
@dataclass(frozen=True, eq=False, slots=True)
class Gaussian:
    """A normal prior with independent entries: `mean` and `std`, numbers or arrays of the input's shape; std > 0."""

    mean: ArrayLike = 0.0
    std: ArrayLike = 1.0

    def log_density(self, x: Tensor) -> Tensor:
        """Return log p at points (..., inputs), up to a constant."""
        mean, std = self.entries(x.shape[-1])
        return -0.5 * ((x - mean) / std).square().sum(-1)

    def log_bound(self, corners: Tensor) -> Tensor:
        """Return what log p is at most on hulls of points (batch, corners, inputs), by their boxes and by balls."""
        mean, std = self.entries(corners.shape[-1])
        scaled = (corners - mean) / std
        box = torch.maximum(scaled.amin(1), -scaled.amax(1)).clamp(min=0.0).square().sum(-1).sqrt()
        middle = scaled.mean(1)
        radius = torch.linalg.vector_norm(scaled - middle[:, None], dim=2).amax(1)
        ball = (torch.linalg.vector_norm(middle, dim=1) - radius).clamp(min=0.0)
        return -0.5 * torch.maximum(box, ball).square()

    def entries(self, inputs: int) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation, an entry each for so many inputs."""
        found = []
        for name, value in (("mean", self.mean), ("std", self.std)):
            t = finite(torch.as_tensor(array(value, name)).double().cpu().reshape(-1), f"gaussian: {name}")
            if t.numel() not in (1, inputs):
                raise ShapeError(f"gaussian: expected {name} of one entry or {inputs}; got {t.numel()}")
            found.append(t.expand(inputs))
        if bool((found[1] <= 0).any()):
            raise InputError("gaussian: expected std > 0 everywhere; got an entry that is not positive")
        return found[0], found[1]


Prior = Gaussian | Sampler


class Likelihood(ABC):
    """p(y | x) as a function of the network's outputs, between 0 and 1 up to a constant factor."""

    __slots__ = ()

    @abstractmethod
    def log_density(self, outputs: Tensor) -> Tensor:
        """Return log p at outputs (..., outputs), nowhere more than 0 unless `log_bound` says so."""

    def log_bound(self, corners: Tensor) -> Tensor:
        """Return what log p is at most on hulls of outputs (batch, corners, outputs): 0 if nothing better is known."""
        return torch.zeros(len(corners), dtype=corners.dtype)


@final
@dataclass(frozen=True, slots=True)
class Softmax(Likelihood):
    """The probability of class `k` under a softmax of the outputs, at a temperature > 0."""

    k: int
    temperature: float = 1.0

    def __post_init__(self) -> None:
        whole(self.k, "softmax: k", least=0)
        if not (isinstance(self.temperature, int | float) and 0 < self.temperature < math.inf):
            raise InputError(f"softmax: expected a temperature > 0; got {self.temperature!r}")

    def _check(self, outputs: int) -> None:
        if self.k >= outputs:
            raise InputError(f"softmax: expected a class below {outputs}, the number of outputs; got {self.k}")

    def log_density(self, outputs: Tensor) -> Tensor:
        self._check(outputs.shape[-1])
        return torch.log_softmax(outputs / self.temperature, -1)[..., self.k]

    def log_bound(self, corners: Tensor) -> Tensor:
        self._check(corners.shape[-1])
        lead = (corners - corners[..., self.k : self.k + 1]).amin(1)  # each rival at its lowest
        return -torch.logsumexp(lead / self.temperature, -1)


@final
@dataclass(frozen=True, eq=False, slots=True)
class GaussianNoise(Likelihood):
    """Outputs seen with independent normal noise of standard deviation `std` around `y`, as exp(-|f(x) - y|^2 / 2 std^2)."""

    y: ArrayLike
    std: float

    def __post_init__(self) -> None:
        if not (isinstance(self.std, int | float) and 0 < self.std < math.inf):
            raise InputError(f"noise: expected std > 0; got {self.std!r}")

    def _seen(self, outputs: int) -> Tensor:
        y = finite(torch.as_tensor(array(self.y, "noise: y")).double().cpu().reshape(-1), "noise: y")
        if y.numel() != outputs:
            raise ShapeError(f"noise: expected y of {outputs} entries; got {y.numel()}")
        return y

    def log_density(self, outputs: Tensor) -> Tensor:
        return -0.5 * ((outputs - self._seen(outputs.shape[-1])) / self.std).square().sum(-1)

    def log_bound(self, corners: Tensor) -> Tensor:
        y = self._seen(corners.shape[-1])
        away = torch.maximum(corners.amin(1) - y, y - corners.amax(1)).clamp(min=0.0)
        return -0.5 * (away / self.std).square().sum(-1)
