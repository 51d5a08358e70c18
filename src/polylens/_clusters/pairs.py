"""Distances of all pairs of a few inputs, and how two kinds of them go together: correlations with errors, and their change."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

Array = np.ndarray[Any, Any]


class Correlation(NamedTuple):
    """A coefficient and its standard error; both NaN where one side does not vary, as with fewer than three inputs."""

    value: float
    error: float


def squared_euclidean(a: Tensor, b: Tensor) -> Tensor:
    """Return the squared distances (n, m) of rows, in float64: differences of large sums, so near 0 good to 1e-16 of them."""
    a, b = a.flatten(1).cpu().double(), b.flatten(1).cpu().double()
    return (a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.T).clamp_(min=0)


def pearson(a: Array, b: Array) -> Correlation:
    """Return the correlation of two matrices (m, m) over the pairs i < j, with its jackknife error over the m inputs.

    Pairs share inputs, so they are no sample; leaving out one input leaves out all of its pairs, and takes row sums alone.
    """
    m = len(a)
    if m < 2:
        return Correlation(math.nan, math.nan)
    above = np.triu_indices(m, 1)
    a, b = (_standard(v, above) for v in (a, b))
    moments = np.stack([a, b, a * a, b * b, a * b])
    by_input = moments.sum(2)
    value = float(_coefficient(by_input.sum(1) / 2, m * (m - 1) / 2))
    if m < 4 or not math.isfinite(value):
        return Correlation(value, math.nan)
    left = _coefficient(by_input.sum(1)[:, None] / 2 - by_input, (m - 1) * (m - 2) / 2)
    return Correlation(value, float(np.sqrt((m - 1) / m * ((left - left.mean()) ** 2).sum())))


def spearman(a: Array, b: Array) -> Correlation:
    """Return the rank correlation over the pairs, ties at their mean rank; the jackknife leaves the ranks as they are."""
    return pearson(_ranks(a), _ranks(b))


def _standard(values: Array, above: tuple[Array, ...]) -> Array:
    """Return a matrix with pairs of mean 0 and size 1, the diagonal 0, so that sums of products keep their digits."""
    part = values[above].astype(np.float64)
    middle, spread = part.mean(), part.std()
    found: Array = (values - middle) / (spread if spread > 1e-12 * np.abs(part).max() else np.inf)
    np.fill_diagonal(found, 0.0)
    return found


def _coefficient(sums: Array, count: float) -> Any:
    x, y, xx, yy, xy = sums / count
    with np.errstate(invalid="ignore", divide="ignore"):
        return (xy - x * y) / np.sqrt((xx - x * x) * (yy - y * y))


def _ranks(values: Array) -> Array:
    above = np.triu_indices(len(values), 1)
    _, inverse, counts = np.unique(values[above], return_inverse=True, return_counts=True)
    mean = np.cumsum(counts) - (counts - 1) / 2
    found = np.zeros(values.shape)
    found[above] = mean[inverse]
    return found + found.T


def alignment(a: Array, b: Array) -> float:
    """Return <A, B> / (|A| |B|) of two matrices (m, m) of squared distances, U-centred; NaN where one of them is constant.

    The U-centred A_ij = a_ij - sum_k a_ik / (m - 2) - sum_k a_kj / (m - 2) + sum a / ((m - 1) (m - 2)), off the diagonal, makes
    <A, B> unbiased: without it wide layers look alike because there are few inputs. m >= 4.
    """
    a, b = _u_centred(a), _u_centred(b)
    size = math.sqrt(float((a * a).sum()) * float((b * b).sum()))
    return float((a * b).sum()) / size if size > 0 else math.nan


def _u_centred(a: Array) -> Array:
    m, a = len(a), a.astype(np.float64)
    a = a / (float(a.max()) or 1.0)
    sums = a.sum(1)
    found: Array = a - sums / (m - 2) - sums[:, None] / (m - 2) + sums.sum() / ((m - 1) * (m - 2))
    np.fill_diagonal(found, 0.0)
    found[np.abs(found) < 1e-12] = 0.0  # rounding of a matrix whose entries are at most 1
    return found


def transport(a: Array, b: Array) -> float:
    """Return how far the distances that each input has to the others change in distribution: the mean over the rows of two
    matrices (m, m) of the area between the distribution functions of their entries, the 1-Wasserstein distance.
    """
    a, b = (np.sort(_off_diagonal(v), 1) for v in (a, b))
    return float(np.abs(a - b).mean())


def _off_diagonal(a: Array) -> Array:
    """Return the entries off the diagonal, row by row: (m, m - 1)."""
    m = len(a)
    found: Array = a[~np.eye(m, dtype=bool)].reshape(m, m - 1)
    return found


def as_array(a: Tensor) -> Array:
    """Return a tensor as an array on the host."""
    found: Array = torch.as_tensor(a).cpu().numpy()
    return found
