"""A layer as it is asked about, and the system E x = e, G x <= g that one of its outputs makes, in rows of length about 1."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple, final

import torch
from torch import Tensor

from .._check import ArrayLike, array, as_tensor, finite, floating
from .._types import Tolerance
from ..errors import GeometryError, InputError, ShapeError
from ..polytope import Polytope
from . import recession

NEAR = 1e-9  # in parts of the terms: what programs and least squares leave where they mean 0
Gate = Literal["relu", "leaky_relu", "crelu", "abs", "identity"]
GATES: tuple[Gate, ...] = ("relu", "leaky_relu", "crelu", "abs", "identity")


class Split(NamedTuple):
    """Which rows hold as equalities on the inputs with one output, which as inequalities, and up to which value `cap`."""

    equal: Tensor
    less: Tensor
    cap: Tensor


class Scaled(NamedTuple):
    """The system around a point, and the powers of two that its rows were divided by."""

    system: recession.System
    equal: Tensor
    less: Tensor


@final
@dataclass(frozen=True, eq=False, slots=True)
class Layer:
    """y = gate(W x + b) in float64, or of its `windows` (windows, candidates; -1 for none) the largest each, with the rows of
    what can be reached and what many questions share.

    `unit` are the rows divided by the powers of two `scale`, `sizes` the absolute values of W.
    """

    weight: Tensor
    bias: Tensor
    gate: Gate
    reachable: Polytope | Literal["orthant"] | None
    unit: Tensor
    scale: Tensor
    sizes: Tensor
    windows: Tensor | None = None

    @classmethod
    def of(
        cls,
        weight: ArrayLike,
        bias: ArrayLike | None,
        gate: Gate,
        reachable: Literal["orthant"] | Polytope | None,
        windows: ArrayLike | None = None,
    ) -> Layer:
        """Return a layer, its arguments checked."""
        w = checked(weight, "weight", None)
        if w.ndim != 2:
            raise ShapeError(f"weight: expected shape (units, inputs); got {tuple(w.shape)}")
        b = torch.zeros(len(w), dtype=torch.float64) if bias is None else checked(bias, "bias", (len(w),))
        if gate not in GATES:
            raise InputError(f"gate: expected one of {', '.join(GATES)}; got {gate!r}")
        if isinstance(reachable, str) and reachable != "orthant":
            raise InputError(f"reachable: expected None, 'orthant' or a Polytope; got {reachable!r}")
        if isinstance(reachable, Polytope) and reachable.dim != w.shape[1]:
            raise ShapeError(f"reachable: expected a Polytope in dimension {w.shape[1]}; got {reachable!r}")
        table = None if windows is None else _table(windows, len(w))
        if table is not None and gate not in ("relu", "identity"):
            raise InputError(f"windows: expected the gate 'relu' or 'identity' in front of max-pooling; got {gate!r}")
        return cls(w, b, gate, reachable, *unit(w), w.abs(), table)

    @property
    def m(self) -> int:
        """The number of units."""
        return self.weight.shape[0]

    @property
    def n(self) -> int:
        """The number of inputs."""
        return self.weight.shape[1]

    def value(self, x: Tensor) -> Tensor:
        """Return the pre-activation."""
        return self.weight @ x + self.bias

    def room(self, x: Tensor, tolerance: Tolerance) -> Tensor:
        """Return how much of the pre-activation counts as 0."""
        return tolerance.relative * (self.sizes @ x.abs() + self.bias.abs())

    def split(self, x: Tensor, tolerance: Tolerance) -> Split:
        """Return which rows hold how around x on the preimage of its output; of windows the first winner is the equality."""
        z = self.value(x)
        if self.windows is None:
            equal = z > self.room(x, tolerance) if self.gate == "relu" else torch.ones_like(z, dtype=torch.bool)
            return Split(equal, ~equal, torch.zeros_like(z))
        z = torch.where(z > self.room(x, tolerance), z, 0.0) if self.gate == "relu" else z
        seen = torch.where(self.windows >= 0, z[self.windows], -torch.inf)
        top, winner = seen.max(1)
        return self.chosen(self.windows.gather(1, winner[:, None]).squeeze(1), top)

    def chosen(self, winner: Tensor, top: Tensor) -> Split:
        """Return which rows hold how where these units (windows,) attain the pooled values `top` (windows,)."""
        windows = self.windows
        if windows is None:
            raise InputError("chosen: expected a layer with windows; this one has none")
        cap = torch.full((self.m,), torch.inf, dtype=torch.float64)
        wide = top[:, None].expand(windows.shape)
        cap.scatter_reduce_(0, windows[windows >= 0], wide[windows >= 0], "amin")
        equal = torch.zeros(self.m, dtype=torch.bool)
        equal[winner[top > 0] if self.gate == "relu" else winner] = True
        return Split(equal, cap.isfinite() & ~equal, cap)

    def inequalities(self, split: Split) -> Polytope:
        """Return the rows that hold as inequalities: the layer's, then those of what can be reached."""
        rows = Polytope.of(self.weight[split.less], (split.cap - self.bias)[split.less])
        return joined(rows, self.reachable)

    def known(self) -> Polytope:
        """Return the rows of what can be reached alone."""
        return joined(Polytope.of(torch.zeros(0, self.n, dtype=torch.float64), []), self.reachable)

    def scaled(self, x: Tensor, split: Split, tolerance: Tolerance, error: Tensor | None = None) -> Scaled:
        """Return the system around x, whose entries were computed with the given `error` (n,), 0 where None.

        Raises GeometryError where x is not within what can be reached.
        """
        error = torch.zeros_like(x) if error is None else error
        equal, off, cap = split
        slack, room = (cap - self.value(x))[off], self.room(x, tolerance)[off] + tolerance.relative * cap[off].abs()
        room = room + self.sizes[off] @ error
        length = float(x.norm()) + distance(self.weight, self.bias)
        near = NEAR * (self.scale[off] * length + self.bias[off].abs() + cap[off].abs())
        less, g_scale = self.unit[off], self.scale[off]
        if isinstance(self.reachable, Polytope):
            p = self.reachable
            rows, scale = unit(p.matrix)
            less, g_scale, slack = torch.cat([less, rows]), torch.cat([g_scale, scale]), torch.cat([slack, p.slack(x)])
            sizes = p.matrix.abs()
            room = torch.cat([room, tolerance.relative * (sizes @ x.abs() + p.bound.abs()) + sizes @ error])
            near = torch.cat([near, NEAR * (scale * length + p.bound.abs())])
        orthant = isinstance(self.reachable, str)
        if bool((slack < -near).any()) or (orthant and bool((x < -NEAR * length).any())):
            raise GeometryError("layer_preimage: expected an input within what is reachable; x violates its rows")
        slack = torch.where(slack <= room, 0.0, slack) / g_scale
        if orthant:  # whose rows are units already
            slack, g_scale = torch.cat([slack, torch.where(x > error, x, 0.0)]), torch.cat([g_scale, torch.ones_like(x)])
        system = recession.System(self.unit[equal].numpy(), less.numpy(), slack.numpy(), orthant)
        return Scaled(system, self.scale[equal], g_scale)


def distance(rows: Tensor, offsets: Tensor) -> float:
    """Return the largest distance of a hyperplane r.x = offset from the origin: the unit of length of a system."""
    norms = torch.linalg.vector_norm(rows, dim=1)
    far = (offsets.abs() / norms)[(norms > 0) & offsets.isfinite()]
    return float(far.amax()) if len(far) else 0.0


def joined(rows: Polytope, reachable: Polytope | Literal["orthant"] | None) -> Polytope:
    """Return the rows, then those of what can be reached."""
    known = Polytope.box([0.0] * rows.dim, [math.inf] * rows.dim) if isinstance(reachable, str) else reachable
    return rows if known is None else rows & known


def checked(x: ArrayLike, what: str, shape: tuple[int, ...] | None) -> Tensor:
    """Return finite numbers in float64, of a shape where one is given."""
    given = array(x, what)
    floating(given, what)
    tensor = as_tensor(given, torch.float64, torch.device("cpu")).detach()
    if shape is not None and tensor.shape != shape:
        raise ShapeError(f"{what}: expected shape {shape}; got {tuple(tensor.shape)}")
    return finite(tensor, what)


def _table(windows: ArrayLike, units: int) -> Tensor:
    """Return windows as positions of units (windows, candidates), -1 for none; checked."""
    table = torch.as_tensor(windows)
    if table.ndim != 2 or table.dtype.is_floating_point or table.dtype.is_complex:
        raise ShapeError(f"windows: expected positions of units (windows, candidates); got {tuple(table.shape)}, {table.dtype}")
    table = table.long()
    if bool((table >= units).any()) or bool((table < -1).any()) or not bool((table >= 0).any(1).all()):
        raise InputError(f"windows: expected a unit below {units} in every row, -1 for none beside it; got others")
    return table


def unit(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return rows divided by powers of two near their lengths, and these."""
    norms = torch.linalg.vector_norm(rows, dim=1)
    scale = torch.exp2(torch.log2(torch.where(norms > 0, norms, 1.0)).round())
    return rows / scale[:, None], scale
