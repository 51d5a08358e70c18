"""An input of a layer with a given output: the pre-activation first, then a point within the inequalities."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .._lp import deepest
from .._types import Tolerance
from ..errors import GeometryError, InputError
from ..polytope import Polytope
from . import recession
from .stiemke import EPS
from .system import NEAR, Layer, Split, distance, unit


class Solution(NamedTuple):
    """A computed point (n,) and how far each of its entries may be from the exact solution's.

    `wanted` (m,) are the pre-activations that its equalities ask for, None where the point itself was given.
    """

    point: Tensor
    error: Tensor
    wanted: Tensor | None = None


def some_input(layer: Layer, y: Tensor, slope: float, tolerance: Tolerance, precision: float = 0.0) -> tuple[Solution, Split]:
    """Return an input with output y, which is rounded to `precision` of its terms, and which rows hold how."""
    z = _pre_activation(layer, y, slope)
    equal = y > 0 if layer.gate == "relu" else torch.ones(layer.m, dtype=torch.bool)
    split = Split(equal, ~equal, torch.zeros_like(z))
    x = some_point(layer, split, z, tolerance, precision)
    if isinstance(x, str):
        raise GeometryError(f"layer_preimage: expected an output of the layer; no input {x}")
    return x._replace(wanted=z), split


def some_point(layer: Layer, split: Split, z: Tensor, tolerance: Tolerance, precision: float = 0.0) -> Solution | str:
    """Return an input whose pre-activations are z where equalities hold and within the inequalities elsewhere, or what no
    input does. Raises GeometryError where the solver's answer cannot be verified."""
    equal = split.equal
    rows, values, offsets = layer.weight[equal], (z - layer.bias)[equal], layer.bias[equal].abs()
    x, error, _ = found = _solved(rows, values, offsets, precision)
    size = rows.abs() @ x.abs() + values.abs() + offsets
    room = max(1024 * tolerance.relative, 16 * precision)  # solving leaves more than one product does
    missed = (rows @ x - values).abs() - room * size - rows.abs() @ error
    if bool((missed > 0).any()):
        return "has the positive part of this y"
    less = layer.inequalities(split)
    if bool((less.slack(x) >= -less.matrix.abs() @ error).all()):
        return found
    return _moved_within(layer, equal, less, found, tolerance, precision)


def _solved(rows: Tensor, values: Tensor, offsets: Tensor, precision: float) -> Solution:
    """Return the least solution of rows x = values and its error: an entry that ought to be 0 is as wrong as its terms are
    large, not as it is itself.

    One step of refinement makes the residue that of a product, r <= u (|rows| |x| + |values|), entry by entry (Skeel 1980);
    it moves the solution by |rows^+| r. `offsets` are the sizes of what the values are differences of. Rows are brought to
    lengths about 1 first, or short ones would count as none.
    """
    if not len(rows):
        none = torch.zeros(rows.shape[1], dtype=torch.float64)
        return Solution(none, none)
    rows, scale = unit(rows)
    values, offsets = values / scale, offsets / scale
    inverse = torch.linalg.pinv(rows)
    x = inverse @ values
    x = x + inverse @ (values - rows @ x)
    rounding = max(4 * sum(rows.shape) * EPS, 16 * precision)
    return Solution(x, rounding * (inverse.abs() @ (rows.abs() @ x.abs() + values.abs() + offsets)))


def _moved_within(
    layer: Layer, equal: Tensor, less: Polytope, start: Solution, tolerance: Tolerance, precision: float
) -> Solution | str:
    """Return a point of {x + ker rows} within the inequalities: the deepest, put onto the walls that it lies on."""
    rows, x = layer.weight[equal], start.point
    kernel = recession.flat(layer.unit[equal].numpy())
    basis = torch.from_numpy(np.ascontiguousarray(kernel.basis))
    system = recession.System(kernel.rows, less.matrix.numpy(), less.slack(x).numpy(), False)
    seen, error = (torch.from_numpy(v) for v in kernel.seen(system))
    blind = torch.linalg.vector_norm(seen, dim=1) <= 2 * error
    slack, room = less.slack(x), _near(less, x)
    slack = torch.where(blind & (slack.abs() <= room), 0.0, slack)
    deep = deepest(torch.where(blind[:, None], 0.0, seen), slack, tolerance=tolerance)
    if deep is None:
        raise GeometryError("layer_preimage: the solver's answer could not be verified; give an input x instead of y")
    if deep.is_empty:
        return "within its inequalities has this y"
    z = x + basis @ deep.point
    walls = less.slack(z) <= _near(less, z)
    if not bool(walls.any()):
        return Solution(z, start.error)
    held = torch.cat([rows, less.matrix[walls]])
    sizes = torch.cat([rows.abs() @ x.abs() + layer.bias[equal].abs(), less.bound[walls].abs()])
    moved = _solved(held, torch.cat([rows @ (x - z), less.slack(z)[walls]]), sizes + held.abs() @ z.abs(), precision)
    return Solution(z + moved.point, start.error + moved.error)


def _near(p: Polytope, x: Tensor) -> Tensor:
    """Return how much of the slacks at x the solver's accuracy can leave."""
    length = float(x.norm()) + distance(p.matrix, p.bound)
    return NEAR * (torch.linalg.vector_norm(p.matrix, dim=1) * length + p.bound.abs())


def _pre_activation(layer: Layer, y: Tensor, slope: float) -> Tensor:
    if layer.gate == "abs":
        raise InputError("layer_preimage: expected an input x for the gate 'abs', whose outputs leave the signs open; got y")
    if layer.gate == "identity":
        return y
    if layer.gate == "leaky_relu":
        if not slope > 0:
            raise InputError(f"slope: expected a positive number; got {slope!r}; below 0 two inputs share an output")
        return torch.where(y > 0, y, y / slope)
    if bool((y < 0).any()):
        raise GeometryError(f"y: expected outputs of {layer.gate}, which are at least 0; got {float(y.min()):.6g}")
    if layer.gate == "relu":
        return y
    up, down = y[: layer.m], y[layer.m :]
    if bool((torch.minimum(up, down) > 0).any()):
        raise GeometryError("y: expected outputs of crelu, of which one of each pair is 0; got both positive")
    return up - down
