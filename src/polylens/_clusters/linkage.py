"""Average and complete linkage, from scipy: all distances at once, so for a stated number of elements only."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from .dendrogram import Dendrogram

Array = np.ndarray[Any, Any]
_COPIES = 2  # scipy works on a copy of the distances


def bytes_needed(count: int) -> int:
    """Return how many bytes the distances of so many elements take here."""
    return _COPIES * 8 * (count * (count - 1) // 2)


def full_linkage(distances: Array, method: Literal["average", "complete"]) -> Dendrogram:
    """Return the hierarchy of average or complete linkage from condensed whole distances (n (n - 1) / 2,), float64.

    Where distances tie, scipy's choice among the merges that they allow decides. Heights of average linkage are fractions
    with denominators of at most n^2 / 4, so one within 1e-9 of a whole number is that number but for rounding.
    """
    from scipy.cluster.hierarchy import linkage

    from .tree import from_merges

    steps = linkage(distances, method)
    count = len(steps) + 1
    lowest, pairs = list(range(count)), np.zeros((count - 1, 2), np.int64)
    for k, (a, b) in enumerate(steps[:, :2].astype(np.int64).tolist()):
        pairs[k] = lowest[a], lowest[b]
        lowest.append(min(lowest[a], lowest[b]))
    heights, whole = steps[:, 2].copy(), np.rint(steps[:, 2])
    near = np.abs(heights - whole) < 1e-9
    heights[near] = whole[near]
    return from_merges(pairs, heights)
