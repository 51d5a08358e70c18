"""Normal distributions seen on one side only: folded, truncated at 0, fitted to a histogram of positive values.

A sample is a histogram: `middles` (bins,) > 0 and `counts` (bins,). Densities are those of values y > 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

_STEPS = 200  # halvings: more than a double has digits
_FARTHEST = 30.0  # mean over deviation beyond which a truncated normal is an exponential to the last digit


class Normal(NamedTuple):
    """A mean and a deviation."""

    mean: float
    deviation: float


def density(z: Tensor) -> Tensor:
    """Return the density of the standard normal distribution."""
    return torch.exp(-0.5 * z.square()) / math.sqrt(2 * math.pi)


def below(z: Tensor) -> Tensor:
    """Return the standard normal distribution function."""
    return torch.special.ndtr(z)


def half_normal_below(y: Tensor, sigma: float) -> Tensor:
    """Return P(|Y| <= y) for Y normal with mean 0."""
    return torch.erf(y / (sigma * math.sqrt(2)))


def folded_density(y: Tensor, at: Normal) -> Tensor:
    """Return the density of |Y|, Y normal."""
    return (density((y - at.mean) / at.deviation) + density((y + at.mean) / at.deviation)) / at.deviation


def truncated_density(y: Tensor, at: Normal) -> Tensor:
    """Return the density of Y given Y > 0, Y normal."""
    log = -0.5 * ((y - at.mean) / at.deviation).square() - torch.special.log_ndtr(y.new_tensor(at.mean / at.deviation))
    return torch.exp(log) / (at.deviation * math.sqrt(2 * math.pi))


def moments(middles: Tensor, counts: Tensor) -> tuple[float, float, float]:
    """Return the means of y, y^2 and y^4."""
    total = counts.sum()
    first, second, fourth = (float((counts * middles**k).sum() / total) for k in (1, 2, 4))
    return first, second, fourth


def fit_folded(middles: Tensor, counts: Tensor) -> Normal:
    """Return the most likely mean >= 0 and deviation of Y where |Y| was seen.

    Algorithm: where the likelihood is stationary, mean^2 + deviation^2 is the second moment, which leaves one equation in
    the mean, E[y tanh(mean y / deviation^2)] = mean, solved by halving. Unless the fourth moment lies below three times
    the square of the second, 0 is its only solution.
    """
    _, second, fourth = moments(middles, counts)
    if fourth >= 3 * second**2 * (1 - 1e-12):
        return Normal(0.0, math.sqrt(second))
    share = counts / counts.sum()

    least = float((middles[1:] - middles[:-1]).min()) ** 2 / 12 if len(middles) > 1 else 0.0  # what a bin blurs

    def left(mean: float) -> float:
        return max(second - mean**2, least, second * 1e-30)

    def excess(mean: float) -> float:
        return float((share * middles * torch.tanh(mean * middles / left(mean))).sum()) - mean

    mean = _root(excess, math.sqrt(second) * 1e-9, math.sqrt(second))
    return Normal(mean, math.sqrt(left(mean)))


def fit_truncated(middles: Tensor, counts: Tensor) -> Normal | None:
    """Return the most likely mean and deviation of Y where Y given Y > 0 was seen; None where no normal is best.

    Algorithm: the likelihood's two equations say that first and second moment agree. Their quotient depends on mean over
    deviation alone and grows with it, from 1/2 (an exponential distribution, which no normal reaches) to 1.
    """
    first, second, _ = moments(middles, counts)
    quotient = first**2 / second

    def excess(ratio: float) -> float:
        one, two = _truncated_moments(ratio)
        return quotient - one**2 / two

    if excess(-_FARTHEST) <= 0 or excess(_FARTHEST) >= 0:
        return None
    ratio = _root(excess, -_FARTHEST, _FARTHEST)
    deviation = first / _truncated_moments(ratio)[0]
    return Normal(ratio * deviation, deviation)


def _truncated_moments(ratio: float) -> tuple[float, float]:
    """Return the first two moments of Z given Z > 0, Z normal with mean `ratio` and deviation 1."""
    z = torch.tensor(ratio, dtype=torch.float64)
    hazard = float(torch.exp(-0.5 * z.square() - torch.special.log_ndtr(z))) / math.sqrt(2 * math.pi)
    return ratio + hazard, 1 + ratio * (ratio + hazard)


def _root(excess: Callable[[float], float], low: float, high: float) -> float:
    """Return where a function goes from positive at `low` to negative at `high`."""
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if not low < middle < high:
            break
        low, high = (middle, high) if excess(middle) > 0 else (low, middle)
    return (low + high) / 2
