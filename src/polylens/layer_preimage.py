"""All inputs of one layer with the same output: a single point, a bounded polyhedron or an unbounded one, with a proof.

For y = ReLU(A x + b) they are {x : A_P x = y_P - b_P, A_Z x + b_Z <= 0}, P the positive outputs and Z the others. The words
of the literature are singleton, finite (bounded) and infinite (unbounded).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, final

import numpy as np
import torch
from torch import Tensor

from . import _recession
from ._check import ArrayLike, array, as_tensor, finite, floating
from ._exact_layer import exact_size
from ._lp import deepest
from ._mirrors import mirrored
from ._recession import Kind
from ._types import Result, Tolerance
from .errors import GeometryError, InputError, ShapeError
from .polytope import Polytope

TOLERANCE = Tolerance()
NEAR = 1e-9  # in parts of the terms: what programs and least squares leave where they mean 0
Gate = Literal["relu", "leaky_relu", "crelu", "abs", "identity"]
KINDS: tuple[Kind, ...] = ("singleton", "bounded", "unbounded", "undecided")
WORDS = {"singleton": "singleton", "bounded": "finite", "unbounded": "infinite", "undecided": "undecided"}
GATES: tuple[Gate, ...] = ("relu", "leaky_relu", "crelu", "abs", "identity")


@final
@dataclass(frozen=True, eq=False, repr=False)
class LayerPreimage(Result):
    """The inputs of a layer with one output, of the given `kind`, around a `point` (n,) of theirs.

    `equal` and `less` are the layer's rows that hold as equalities and as inequalities there; `reachable` what inputs are
    known to satisfy (None: nothing). Proofs, over the rows of `equalities` and `inequalities`: bounded and singleton have
    `levels` mu and `multipliers` lambda > 0 with mu^T E + lambda^T G = 0 (a singleton those of its tight rows, 0 elsewhere;
    none where the equalities have rank n), unbounded has a unit `ray` v with E v = 0 and G v <= 0.

    `dimension` is None where it is not settled. No two inputs are further apart than `diameter` (infinite where nothing is
    certified); `pair` (2, n) are two of them, far apart, None for a singleton. With an `abs` gate the inputs are a union of
    such sets, of which the rows and proofs describe the one around the point.
    """

    kind: Kind
    gate: Gate
    weight: Tensor
    bias: Tensor
    point: Tensor
    equal: Tensor
    less: Tensor
    reachable: Polytope | Literal["orthant"] | None
    dimension: int | None
    diameter: float
    levels: Tensor | None
    multipliers: Tensor | None
    ray: Tensor | None
    pair: Tensor | None

    @property
    def word(self) -> str:
        """The kind in the words of the literature: singleton, finite, infinite or undecided."""
        return WORDS[self.kind]

    @property
    def positive(self) -> int:
        """How many outputs are positive."""
        return len(self.equal)

    @property
    def equalities(self) -> tuple[Tensor, Tensor]:
        """The matrix and the values of the rows that hold with equality: E x = e."""
        rows = self.weight[self.equal]
        return rows, rows @ self.point

    @property
    def inequalities(self) -> Polytope:
        """The rows that hold as inequalities: the layer's, then those of what can be reached."""
        rows = Polytope.of(self.weight[self.less], -self.bias[self.less])
        return _and(rows, self.reachable)

    @property
    def span(self) -> float:
        """The distance of the pair, 0 without one; infinite along a ray."""
        if self.kind == "unbounded":
            return math.inf
        return 0.0 if self.pair is None else float(torch.linalg.vector_norm(self.pair[1] - self.pair[0]))

    def __repr__(self) -> str:
        return f"LayerPreimage({self.word}, {self.positive} of {len(self.weight)} outputs positive)"

    def summary(self) -> str:
        m, n = self.weight.shape
        among = "x >= 0" if isinstance(self.reachable, str) else f"{len(self.reachable or ())} further rows"
        where = "" if self.reachable is None else f", among inputs with {among}"
        lines = [f"{self.word} preimage ({self.kind}) of an output of {m} units on {n} inputs{where}"]
        lines.append(f"  {len(self.equal)} equalities, {len(self.less)} inequalities of the layer")
        if self.kind == "undecided":
            lines.append("  nothing could be verified; exact=True decides small layers")
        if self.dimension is not None:
            lines.append(f"  dimension {self.dimension}")
        if self.kind == "bounded":
            lines.append(f"  two inputs {self.span:.6g} apart; none are further apart than {self.diameter:.6g}")
        if self.kind == "unbounded":
            lines.append("  holds a ray")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        tensors = {name: getattr(self, name) for name in ("point", "equal", "less", "levels", "multipliers", "ray", "pair")}
        plain = {name: None if v is None else v.tolist() for name, v in tensors.items()}
        return {
            "kind": self.kind,
            "word": self.word,
            "gate": self.gate,
            "shape": list(self.weight.shape),
            "dimension": self.dimension,
            "diameter": self.diameter if math.isfinite(self.diameter) else None,
            **plain,
        }


def layer_preimage(
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    x: ArrayLike | None = None,
    *,
    y: ArrayLike | None = None,
    gate: Gate = "relu",
    slope: float = 0.01,
    reachable: Literal["orthant"] | Polytope | None = None,
    exact: bool = False,
    tolerance: Tolerance = TOLERANCE,
) -> LayerPreimage:
    """Return all inputs with the output of x, or with the output y: singleton, bounded (finite) or unbounded (infinite).

    A layer with fewer units than inputs never has bounded preimages on the whole space; deeper layers are asked about what
    can reach them. Pre-activations within the tolerance of 0, relative to their terms, count as 0: tight inequalities.

    Args:
        weight: (m, n).
        bias: (m,), 0 where None.
        x: an input (n,); or else
        y: an output, (m,), or (2 m,) for "crelu"; an input is then sought first. Not for "abs".
        gate: "relu"; "leaky_relu", "crelu" (ReLU of z and of -z), "identity", whose rows are all equalities; "abs".
        slope: the slope of "leaky_relu" below 0, where y is given; it has to be positive, or the gate is not injective.
        reachable: what is known of inputs: None, "orthant" (x >= 0, as behind a ReLU) or a polytope in R^n.
        exact: decide the kind and the dimension in rational arithmetic, where nothing is undecided; for m n <= 4096.
        tolerance: the part of its terms up to which a pre-activation counts as 0.

    Raises: GeometryError where no input has the output y or x is not reachable; InputError, ShapeError.

    Algorithm: an orthonormal basis Q of the kernel of the equalities, then whether A_Z Q is omnidirectional (bounded) and
    whether its tight rows are (singleton); see `is_omnidirectional`. On the orthant a problem in the layer's m units where
    that is smaller than the kernel. Every proof is verified before it is returned.

    References: Behrmann, Dittmer, Fernsel, Maass, Analysis of invariance and robustness via invertibility of ReLU networks
    (2018); Stiemke (1915).

    >>> layer_preimage([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]], [-1.0, -1.0, -1.0, -1.0], [0.0, 0.0])
    LayerPreimage(finite, 0 of 4 outputs positive)
    >>> layer_preimage([[1.0, 0.0], [0.0, 1.0]], None, [1.0, 2.0]).kind, layer_preimage([[1.0, 0.0]], None, [1.0, 0.0]).word
    ('singleton', 'infinite')
    """
    layer = _layer(weight, bias, gate, reachable)
    if (x is None) == (y is None):
        raise InputError("layer_preimage: expected an input x or an output y; got both or neither")
    if y is not None:
        point, equal = _some_input(layer, _checked(y, "y", ((2 if gate == "crelu" else 1) * layer.m,)), slope, tolerance)
    else:
        point = _checked(x, "x", (layer.n,))
        equal = _equal(layer, point, tolerance)
    return _answer(layer, point, equal, exact, tolerance)


class Layer(NamedTuple):
    """A layer as it is asked about: in float64, with the rows of what can be reached."""

    weight: Tensor
    bias: Tensor
    gate: Gate
    reachable: Polytope | Literal["orthant"] | None

    @property
    def m(self) -> int:
        """The number of units."""
        return self.weight.shape[0]

    @property
    def n(self) -> int:
        """The number of inputs."""
        return self.weight.shape[1]


class _Scaled(NamedTuple):
    """The system around a point, and the powers of two that its rows were divided by."""

    system: _recession.System
    equal: Tensor
    less: Tensor


# -- what is asked


def _layer(weight: ArrayLike, bias: ArrayLike | None, gate: Gate, reachable: Literal["orthant"] | Polytope | None) -> Layer:
    w = _checked(weight, "weight", None)
    if w.ndim != 2:
        raise ShapeError(f"weight: expected shape (units, inputs); got {tuple(w.shape)}")
    b = torch.zeros(len(w), dtype=torch.float64) if bias is None else _checked(bias, "bias", (len(w),))
    if gate not in GATES:
        raise InputError(f"gate: expected one of {', '.join(GATES)}; got {gate!r}")
    if isinstance(reachable, str) and reachable != "orthant":
        raise InputError(f"reachable: expected None, 'orthant' or a Polytope; got {reachable!r}")
    if isinstance(reachable, Polytope) and reachable.dim != w.shape[1]:
        raise ShapeError(f"reachable: expected a Polytope in dimension {w.shape[1]}; got {reachable!r}")
    return Layer(w, b, gate, reachable)


def _checked(x: ArrayLike, what: str, shape: tuple[int, ...] | None) -> Tensor:
    given = array(x, what)
    floating(given, what)
    tensor = as_tensor(given, torch.float64, torch.device("cpu")).detach()
    if shape is not None and tensor.shape != shape:
        raise ShapeError(f"{what}: expected shape {shape}; got {tuple(tensor.shape)}")
    return finite(tensor, what)


def _room(layer: Layer, x: Tensor, tolerance: Tolerance) -> Tensor:
    """Return how much of the pre-activations counts as 0."""
    return tolerance.relative * (layer.weight.abs() @ x.abs() + layer.bias.abs())


def _equal(layer: Layer, x: Tensor, tolerance: Tolerance) -> Tensor:
    """Return the mask of the rows that hold with equality on the preimage of the output of x."""
    if layer.gate != "relu":
        return torch.ones(layer.m, dtype=torch.bool)
    return layer.weight @ x + layer.bias > _room(layer, x, tolerance)


# -- an input with a given output


def _some_input(layer: Layer, y: Tensor, slope: float, tolerance: Tolerance) -> tuple[Tensor, Tensor]:
    """Return an input with output y, and the mask of the equalities."""
    z = _pre_activation(layer, y, slope)
    equal = y > 0 if layer.gate == "relu" else torch.ones(layer.m, dtype=torch.bool)
    rows, values = layer.weight[equal], (z - layer.bias)[equal]
    x = torch.linalg.pinv(rows) @ values if len(rows) else torch.zeros(layer.n, dtype=torch.float64)
    size = rows.abs() @ x.abs() + values.abs() + layer.bias[equal].abs()
    missed = (rows @ x - values).abs() - 1024 * tolerance.relative * size  # solving leaves more than one product does
    if bool((missed > 0).any()):
        raise GeometryError("layer_preimage: expected an output of the layer; no input has the positive part of this y")
    less = _inequalities(layer, equal)
    return (x if bool((less.slack(x) >= 0).all()) else _moved_within(rows, less, x, tolerance)), equal


def _moved_within(rows: Tensor, less: Polytope, x: Tensor, tolerance: Tolerance) -> Tensor:
    """Return a point of {x + ker rows} within the inequalities: the deepest, put onto the walls that it lies on."""
    kernel = _recession.flat(_unit(rows)[0].numpy())
    basis = torch.from_numpy(np.ascontiguousarray(kernel.basis))
    system = _recession.System(kernel.rows, less.matrix.numpy(), less.slack(x).numpy(), False)
    seen, error = (torch.from_numpy(v) for v in kernel.seen(system))
    blind = torch.linalg.vector_norm(seen, dim=1) <= 2 * error
    slack, room = less.slack(x), _near(less, x)
    slack = torch.where(blind & (slack.abs() <= room), 0.0, slack)
    deep = deepest(torch.where(blind[:, None], 0.0, seen), slack, tolerance=tolerance)
    if deep is None:
        raise GeometryError("layer_preimage: the solver's answer could not be verified; give an input x instead of y")
    if deep.is_empty:
        raise GeometryError("layer_preimage: expected an output of the layer; no input within its inequalities has this y")
    z = x + basis @ deep.point
    walls = less.slack(z) <= _near(less, z)
    if not bool(walls.any()):
        return z
    held = torch.cat([rows, less.matrix[walls]])
    return z + torch.linalg.pinv(held) @ torch.cat([rows @ (x - z), less.slack(z)[walls]])


def _near(p: Polytope, x: Tensor) -> Tensor:
    """Return how much of the slacks at x the solver's accuracy can leave."""
    return NEAR * (torch.linalg.vector_norm(p.matrix, dim=1) * (1 + x.norm()) + p.bound.abs())


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


def _inequalities(layer: Layer, equal: Tensor) -> Polytope:
    return _and(Polytope.of(layer.weight[~equal], -layer.bias[~equal]), layer.reachable)


def _and(rows: Polytope, reachable: Polytope | Literal["orthant"] | None) -> Polytope:
    """Return the rows, then those of what can be reached."""
    known = Polytope.box([0.0] * rows.dim, [math.inf] * rows.dim) if isinstance(reachable, str) else reachable
    return rows if known is None else rows & known


# -- the answer


def _answer(layer: Layer, x: Tensor, equal: Tensor, exact: bool, tolerance: Tolerance) -> LayerPreimage:
    scaled = _scaled(layer, x, equal, tolerance)
    kernel = _recession.flat(scaled.system.equal)
    found = _recession.size(scaled.system, kernel, tolerance)
    if exact:
        known = _and(Polytope.of(torch.zeros(0, layer.n, dtype=torch.float64), []), layer.reachable)
        found = exact_size(layer.weight, layer.bias, x, None if layer.gate == "relu" else equal, known, found)
    levels, multipliers = (
        None if v is None else torch.from_numpy(v) / s
        for v, s in ((found.levels, scaled.equal), (found.multipliers, scaled.less))
    )
    answer = LayerPreimage(
        kind=found.kind,
        gate=layer.gate,
        weight=layer.weight,
        bias=layer.bias,
        point=x,
        equal=torch.nonzero(equal).reshape(-1),
        less=torch.nonzero(~equal).reshape(-1),
        reachable=layer.reachable,
        dimension=None if found.dimension < 0 else found.dimension,
        diameter=0.0 if found.kind == "singleton" else found.diameter,
        levels=levels,
        multipliers=multipliers,
        ray=None if found.ray is None else torch.from_numpy(found.ray),
        pair=_pair(scaled.system, kernel, found, x),
    )
    return _with_mirrors(answer, tolerance) if layer.gate == "abs" else answer


def _scaled(layer: Layer, x: Tensor, equal: Tensor, tolerance: Tolerance) -> _Scaled:
    orthant = isinstance(layer.reachable, str)
    less = _and(Polytope.of(layer.weight[~equal], -layer.bias[~equal]), None if orthant else layer.reachable)
    slack = less.slack(x)
    room = tolerance.relative * (less.matrix.abs() @ x.abs() + less.bound.abs())
    if bool((slack < -_near(less, x)).any()) or (orthant and bool((x < -NEAR * (1 + x.norm())).any())):
        raise GeometryError("layer_preimage: expected an input within what is reachable; x violates its rows")
    (e, e_scale), (g, g_scale) = _unit(layer.weight[equal]), _unit(less.matrix)
    slack = torch.where(slack <= room, 0.0, slack) / g_scale
    if orthant:  # whose rows are units already
        slack, g_scale = torch.cat([slack, x.clamp(min=0)]), torch.cat([g_scale, torch.ones_like(x)])
    return _Scaled(_recession.System(e.numpy(), g.numpy(), slack.numpy(), orthant), e_scale, g_scale)


def _unit(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return rows divided by powers of two near their lengths, and these."""
    norms = torch.linalg.vector_norm(rows, dim=1)
    scale = torch.exp2(torch.log2(torch.where(norms > 0, norms, 1.0)).round())
    return rows / scale[:, None], scale


def _pair(system: _recession.System, kernel: _recession.Flat, found: _recession.Size, x: Tensor) -> Tensor | None:
    if found.kind == "unbounded" and found.ray is not None:
        return torch.stack([x, x + max(1.0, float(x.norm())) * torch.from_numpy(found.ray)])
    if found.kind != "bounded" or found.inner is None:
        return None
    ends = _recession.chord(system, kernel, x.numpy(), found.inner)
    return torch.stack([torch.from_numpy(v) for v in ends])


def _with_mirrors(found: LayerPreimage, tolerance: Tolerance) -> LayerPreimage:
    """Return the preimage under an absolute value, whose other signs may have inputs too."""
    if found.kind != "singleton":
        return found
    known = _and(Polytope.of(torch.zeros(0, found.weight.shape[1], dtype=torch.float64), []), found.reachable)
    within: Callable[[Tensor], bool] = lambda z: bool(known.contains(z, NEAR))  # noqa: E731
    other, settled, bound = mirrored(found.weight, found.bias, found.point, within, tolerance)
    if other is not None:
        return replace(found, kind="bounded", diameter=bound, pair=torch.stack([found.point, other]))
    return found if settled else replace(found, kind="undecided", diameter=bound, dimension=None)
