"""Hierarchies of clusters as an order of their elements with gaps between neighbours, and what is read off them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]


class Dendrogram(NamedTuple):
    """A hierarchy of clusters: the elements in an `order` (n,) in which every cluster is a range, and `gaps` (n - 1,).

    Two neighbours in the order are in one cluster at every threshold t >= their gap; any two elements from the largest gap
    between them on. The sorted gaps are the heights at which clusters merge.
    """

    order: Array
    gaps: Array


class Groups(NamedTuple):
    """Ranges `start` to `stop` (exclusive) of a dendrogram's order, each a cluster of two elements or more from the
    threshold `birth` to below `death`, and its `diameter`, the largest distance within it; all (groups,) and diameter < death.
    """

    start: Array
    stop: Array
    birth: Array
    death: Array
    diameter: Array


def expanded(tree: Dendrogram, inverse: Array, counts: Array) -> Dendrogram:
    """Return the hierarchy of inputs from that of distinct patterns: equal ones side by side with a gap of 0."""
    rank = np.empty(len(counts), np.int64)
    rank[tree.order] = np.arange(len(counts))
    gaps = np.zeros(len(inverse) - 1, tree.gaps.dtype)
    gaps[np.cumsum(counts[tree.order])[:-1] - 1] = tree.gaps
    return Dendrogram(np.argsort(rank[inverse], kind="stable"), gaps)


def counts(gaps: Array, size: int) -> Array:
    """Return the number of clusters at the thresholds 0, ..., size."""
    return len(gaps) + 1 - np.searchsorted(np.sort(gaps), np.arange(size + 1), side="right")


def cut(order: Array, gaps: Array, threshold: float) -> Array:
    """Return the clusters of the inputs, numbered as they first appear."""
    ranges = np.concatenate([np.zeros(1, np.int64), np.cumsum(gaps > threshold)])
    found = np.empty(len(order), np.int64)
    found[order] = ranges
    _, first, inverse = np.unique(found, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse]


def alive(birth: Array, death: Array, weight: Array, size: int) -> Array:
    """Return the weight of the ranges [birth, death) that hold each of the thresholds 0, ..., size."""
    change = np.zeros(size + 2, np.int64)
    np.add.at(change, birth, weight)
    np.subtract.at(change, death, weight)
    return np.cumsum(change)[: size + 1]
