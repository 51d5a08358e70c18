"""A layer as it is asked about, and the system E x = e, G x <= g that one of its outputs makes, in rows of length about 1."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple, final

import torch
from torch import Tensor

from . import _recession
from ._check import ArrayLike, array, as_tensor, finite, floating
from ._types import Tolerance
from .errors import GeometryError, InputError, ShapeError
from .polytope import Polytope

NEAR = 1e-9  # in parts of the terms: what programs and least squares leave where they mean 0
Gate = Literal["relu", "leaky_relu", "crelu", "abs", "identity"]
GATES: tuple[Gate, ...] = ("relu", "leaky_relu", "crelu", "abs", "identity")


class Scaled(NamedTuple):
    """The system around a point, and the powers of two that its rows were divided by."""

    system: _recession.System
    equal: Tensor
    less: Tensor


@final
@dataclass(frozen=True, eq=False, slots=True)
class Layer:
    """y = gate(W x + b) in float64, with the rows of what can be reached and what many questions share.

    `unit` are the rows divided by the powers of two `scale`, `sizes` the absolute values of W.
    """

    weight: Tensor
    bias: Tensor
    gate: Gate
    reachable: Polytope | Literal["orthant"] | None
    unit: Tensor
    scale: Tensor
    sizes: Tensor

    @classmethod
    def of(
        cls, weight: ArrayLike, bias: ArrayLike | None, gate: Gate, reachable: Literal["orthant"] | Polytope | None
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
        return cls(w, b, gate, reachable, *_unit(w), w.abs())

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

    def equal(self, x: Tensor, tolerance: Tolerance) -> Tensor:
        """Return the mask of the rows that hold with equality on the preimage of the output of x."""
        if self.gate != "relu":
            return torch.ones(self.m, dtype=torch.bool)
        return self.value(x) > self.room(x, tolerance)

    def inequalities(self, equal: Tensor) -> Polytope:
        """Return the rows that hold as inequalities: the layer's, then those of what can be reached."""
        return joined(Polytope.of(self.weight[~equal], -self.bias[~equal]), self.reachable)

    def known(self) -> Polytope:
        """Return the rows of what can be reached alone."""
        return joined(Polytope.of(torch.zeros(0, self.n, dtype=torch.float64), []), self.reachable)

    def scaled(self, x: Tensor, equal: Tensor, tolerance: Tolerance) -> Scaled:
        """Return the system around x; raises GeometryError where x is not within what can be reached."""
        off = ~equal
        slack, room = -self.value(x)[off], self.room(x, tolerance)[off]
        near = NEAR * (self.scale[off] * (1 + x.norm()) + self.bias[off].abs())
        less, g_scale = self.unit[off], self.scale[off]
        if isinstance(self.reachable, Polytope):
            p = self.reachable
            rows, scale = _unit(p.matrix)
            less, g_scale, slack = torch.cat([less, rows]), torch.cat([g_scale, scale]), torch.cat([slack, p.slack(x)])
            room = torch.cat([room, tolerance.relative * (p.matrix.abs() @ x.abs() + p.bound.abs())])
            near = torch.cat([near, NEAR * (scale * (1 + x.norm()) + p.bound.abs())])
        orthant = isinstance(self.reachable, str)
        if bool((slack < -near).any()) or (orthant and bool((x < -NEAR * (1 + x.norm())).any())):
            raise GeometryError("layer_preimage: expected an input within what is reachable; x violates its rows")
        slack = torch.where(slack <= room, 0.0, slack) / g_scale
        if orthant:  # whose rows are units already
            slack, g_scale = torch.cat([slack, x.clamp(min=0)]), torch.cat([g_scale, torch.ones_like(x)])
        system = _recession.System(self.unit[equal].numpy(), less.numpy(), slack.numpy(), orthant)
        return Scaled(system, self.scale[equal], g_scale)


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


def _unit(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return rows divided by powers of two near their lengths, and these."""
    norms = torch.linalg.vector_norm(rows, dim=1)
    scale = torch.exp2(torch.log2(torch.where(norms > 0, norms, 1.0)).round())
    return rows / scale[:, None], scale
