"""The kinds of preimages of layers whose matrix is too large to write down, such as convolutions: by its nonzero entries.

Rank and counting come first: at least as many independent positive rows as inputs (one Cholesky factor of their Gram
matrix), or fewer rows than inputs in all. The one door to scipy's sparse matrices.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch

from .._types import Tolerance
from ..layer_map import LayerMap
from . import recession, stiemke
from .stiemke import Array, Mask

MOST_NONZEROS = 1 << 25
MOST_ENTRIES = 1 << 26  # of dense matrices on the way: 512 MB
_COLUMNS = 64
_STEPS = 4  # of LSQR, in parts of the layer's inputs


class LargeLayer(NamedTuple):
    """Rows of a layer, sparse and divided by their lengths `scale`, on the whole space or on the orthant."""

    rows: Any
    bias: Array
    scale: Array
    gate: str
    orthant: bool

    def kind(self, x: Array, tolerance: Tolerance) -> recession.Size:
        """Return what is proven of the preimage of the output of x; undecided where only dense matrices would tell."""
        z = self.rows @ x + self.bias
        room = tolerance.relative * (abs(self.rows) @ np.abs(x) + np.abs(self.bias))
        equal = z > room if self.gate == "relu" else np.ones(len(z), dtype=bool)
        n, p = len(x), int(equal.sum())
        tight = bool((np.abs(z[~equal]) <= room[~equal]).any()) or (self.orthant and bool((x <= 0).any()))
        if p >= n:  # of |A x + b| an input with other signs may share the output
            return _spanning(self.rows[equal]) if self.gate != "abs" else _undecided(-1)
        if len(z) <= n and not self.orthant:
            return _undecided(-1) if (ray := self._ray(equal, tolerance)) is None else _unbounded(ray)
        return self._within(equal, tight, tolerance)

    def _ray(self, equal: Mask, tolerance: Tolerance) -> Array | None:
        """Return v with E v = 0 and G v <= 0 for at most as many rows as inputs: -1 on G, or a vector of the kernel."""
        from scipy.sparse.linalg import lsqr

        n = self.rows.shape[1]
        options = {"atol": 0.0, "btol": tolerance.relative / 16, "conlim": 0.0, "iter_lim": _STEPS * n}
        random = np.random.default_rng(0).standard_normal(n)
        for right, from_ in ((np.where(equal, 0.0, -1.0), np.zeros(n)), (-self.rows @ random, random)):
            v = from_ + lsqr(self.rows, right, **options)[0]
            size = float(np.linalg.norm(v))
            if not size > math.sqrt(tolerance.relative):
                continue
            v = v / size
            image, room = self.rows @ v, max(tolerance.relative, 16 * n * stiemke.EPS)
            if (np.abs(image[equal]) <= room).all() and (image[~equal] <= room).all():
                return np.asarray(v)
        return None

    def _within(self, equal: Mask, tight: bool, tolerance: Tolerance) -> recession.Size:
        """Return what the inequalities say on a basis of the kernel of the equalities, where these are not too large."""
        n = self.rows.shape[1]
        least, others = n - int(equal.sum()), int((~equal).sum()) + n * self.orthant
        if max(n * n, least * others) > MOST_ENTRIES:
            return _undecided(-1)
        kernel = recession.flat(self.rows[equal].toarray())
        basis = kernel.basis
        seen = np.asarray(self.rows[~equal] @ basis)
        seen = np.concatenate([seen, -basis]) if self.orthant else seen
        error = np.full(len(seen), stiemke.EPS * (4 + math.sqrt(n) + kernel.condition))
        found = stiemke.alternative(seen, error, tolerance=tolerance)
        dimension = -1 if tight else kernel.dimension
        if found.ray is not None:
            return _unbounded(np.asarray(basis @ found.ray))._replace(dimension=dimension)
        if found.multipliers is None or tight:  # tight rows could make it a single point
            return _undecided(-1)
        return recession.Size("bounded", dimension, None, None, None, math.inf, None)


def large_layer(layer: LayerMap, gate: str, orthant: bool) -> LargeLayer | str:
    """Return a layer by its nonzero entries, or why it cannot be."""
    from scipy.sparse import csr_array, hstack

    parts, kept = [], 0
    for start in range(0, layer.inputs, _COLUMNS):
        stop = min(layer.inputs, start + _COLUMNS)
        columns = torch.zeros(stop - start, layer.inputs, dtype=torch.float64, device=layer.net.device)
        columns[:, start:stop].fill_diagonal_(1)
        image = layer.linear(columns.reshape(-1, *layer.input_shape)).flatten(1).cpu().numpy()
        parts.append(csr_array(image.T))
        kept += parts[-1].nnz
        if kept > MOST_NONZEROS:
            size = layer.inputs * layer.outputs
            return f"its matrix would have {size:,} entries, more than {MOST_NONZEROS:,} of them not 0"
    rows = csr_array(hstack(parts))
    scale = np.sqrt(np.asarray(rows.multiply(rows).sum(1)).reshape(-1))
    scale[scale == 0] = 1.0
    rows = csr_array(rows.multiply(1 / scale[:, None]))
    return LargeLayer(rows, layer.offset.cpu().numpy() / scale, scale, gate, orthant)


def _spanning(rows: Any) -> recession.Size:
    """Return a single point where the equalities' rows are proven to span the space."""
    n = rows.shape[1]
    if n * n > MOST_ENTRIES:
        return _undecided(-1)
    solver = stiemke.factored_columns((rows.T @ rows).toarray(), rows.shape[0])
    return _undecided(-1) if solver is None else recession.Size("singleton", 0, None, None, None, 0.0, None)


def _unbounded(ray: Array) -> recession.Size:
    return recession.Size("unbounded", -1, None, None, ray, math.inf, None)


def _undecided(dimension: int) -> recession.Size:
    return recession.Size("undecided", dimension, None, None, None, math.inf, None)
