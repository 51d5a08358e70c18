"""Convex cells in the plane painted onto a grid of pixels, compiled: which cell lies under every pixel's centre."""

from __future__ import annotations

from typing import Any

import numpy as np

from .compiled import compiled

Array = np.ndarray[Any, Any]


def painted(corners: Array, start: Array, low: Array, size: float, shape: tuple[int, int]) -> Array:
    """Return for every pixel (rows, columns) the cell that holds its centre, -1 for none.

    Cell i is the hull of `corners[start[i]:start[i+1]]`, in any order; the first pixel's corner is at `low`, and a pixel is
    `size` wide and high. Cost: the pixels, and the pairs of corners for every row that a cell reaches.
    """
    image = np.full(shape, -1, np.int64)
    pixels = (corners - low) / size - 0.5
    _paint(np.ascontiguousarray(pixels[:, 0]), np.ascontiguousarray(pixels[:, 1]), start, image)
    return image


@compiled
def _paint(x, y, start, image):
    rows, columns, slack = image.shape[0], image.shape[1], 1e-6
    for cell in range(len(start) - 1):
        low, high = np.inf, -np.inf
        for i in range(start[cell], start[cell + 1]):
            low, high = min(low, y[i]), max(high, y[i])
        for row in range(int(np.ceil(max(low, 0.0))), int(np.floor(min(high, rows - 1.0))) + 1):
            left, right = np.inf, -np.inf
            for i in range(start[cell], start[cell + 1]):
                for j in range(start[cell], start[cell + 1]):
                    if y[i] <= row <= y[j]:
                        t = (row - y[i]) / (y[j] - y[i]) if y[j] > y[i] else 0.0
                        at = x[i] + t * (x[j] - x[i])
                        left, right = min(left, at), max(right, at)
            first, last = np.ceil(max(left - slack, 0.0)), np.floor(min(right + slack, columns - 1.0))
            if first <= last:
                for column in range(int(first), int(last) + 1):
                    image[row, column] = cell
