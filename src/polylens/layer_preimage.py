"""All inputs of one layer with the same output: a single point, a bounded polyhedron or an unbounded one, with a proof.

For y = ReLU(A x + b) they are {x : A_P x = y_P - b_P, A_Z x + b_Z <= 0}, P the positive outputs and Z the others. Under
max-pooling they are a union of such sets. The words of the literature are singleton, finite (bounded) and infinite.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal, final

import torch
from torch import Tensor

from ._check import ArrayLike
from ._layers import recession
from ._layers.exact import exact_size
from ._layers.given import Solution, some_input
from ._layers.mirrors import Mirrors, mirrored
from ._layers.recession import Kind
from ._layers.system import NEAR, Gate, Layer, Scaled, Split, checked, joined
from ._layers.windows import over_windows
from ._types import Result, Tolerance
from .errors import InputError
from .polytope import Polytope

TOLERANCE = Tolerance()
KINDS: tuple[Kind, ...] = ("singleton", "bounded", "unbounded", "undecided")
WORDS = {"singleton": "singleton", "bounded": "finite", "unbounded": "infinite", "undecided": "undecided"}


@final
@dataclass(frozen=True, eq=False, repr=False)
class LayerPreimage(Result):
    """The inputs of a layer with one output, of the given `kind`, around a `point` (n,) of theirs.

    `equal` and `less` are the layer's rows that hold as equalities and as inequalities there; `reachable` what inputs are
    known to satisfy (None: nothing). Proofs, over the rows of `equalities` and `inequalities`: bounded and singleton have
    `levels` mu and `multipliers` lambda > 0 with mu^T E + lambda^T G = 0 (a singleton those of its tight rows, 0 elsewhere;
    none where the equalities have rank n), unbounded has a unit `ray` v with E v = 0 and G v <= 0.

    `dimension` is None where it is not settled. No two inputs are further apart than `diameter` (infinite where nothing is
    certified); `pair` (2, n) are two of them, far apart, None for a singleton. With an `abs` gate or `windows` the inputs are
    a union of such sets, of which dimension, rows and proofs describe the one around the point; the kind, the diameter and
    the pair are those of all. `caps` (m,) is what the pre-activations of `less` stay below.
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
    caps: Tensor
    windows: Tensor | None = None

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
        rows = Polytope.of(self.weight[self.less], (self.caps - self.bias)[self.less])
        return joined(rows, self.reachable)

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
        pooled = "" if self.windows is None else f" in {len(self.windows)} windows"
        lines = [f"{self.word} preimage ({self.kind}) of an output of {m} units{pooled} on {n} inputs{where}"]
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
    windows: ArrayLike | None = None,
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
        y: an output, (m,), or (2 m,) for "crelu"; an input is then sought first. Not for "abs". It is taken to be as exact as
            its type says: outputs in float32 are met up to their rounding.
        gate: "relu"; "leaky_relu", "crelu" (ReLU of z and of -z), "identity", whose rows are all equalities; "abs".
        windows: for max-pooling behind the gate, "relu" or "identity": the units of each window (windows, candidates), -1
            beside them where some have fewer; the output is then the largest of each.
        slope: the slope of "leaky_relu" below 0, where y is given; it has to be positive, or the gate is not injective.
        reachable: what is known of inputs: None, "orthant" (x >= 0, as behind a ReLU) or a polytope in R^n.
        exact: decide the kind and the dimension in rational arithmetic, where nothing is undecided; for m n <= 4096, not with
            windows.
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
    layer = Layer.of(weight, bias, gate, reachable, windows)
    if exact and windows is not None:
        raise InputError("exact: expected a layer without windows; leave exact=True out")
    if (x is None) == (y is None):
        raise InputError("layer_preimage: expected an input x or an output y; got both or neither")
    if y is not None:
        if windows is not None:
            raise InputError("layer_preimage: expected an input x for windows, whose outputs leave the winners open; got y")
        output = checked(y, "y", ((2 if gate == "crelu" else 1) * layer.m,))
        found, split = some_input(layer, output, slope, tolerance, _rounding(y))
        return _answer(layer, found, split, exact, tolerance)
    point = checked(x, "x", (layer.n,))
    return _answer(layer, Solution(point, torch.zeros_like(point)), layer.split(point, tolerance), exact, tolerance)


def _rounding(y: ArrayLike) -> float:
    """Return the rounding of outputs, 0 where it is that of float64."""
    name = str(getattr(y, "dtype", "float64")).removeprefix("torch.")
    return 0.0 if name == "float64" else torch.finfo(getattr(torch, name)).eps


# -- the answer


class Start:
    """What the answers to many questions about one layer hand on: multipliers (m,) of its units that were a proof."""

    units: Tensor | None = None


def kind_at(layer: Layer, x: Tensor, start: Start, tolerance: Tolerance = TOLERANCE) -> recession.Size:
    """Return the kind, dimension and diameter alone, from what the last question left in `start`."""
    split = layer.split(x, tolerance)
    found = _found(layer, x, layer.scaled(x, split, tolerance), split, start, tolerance)[0]
    if layer.gate != "abs" or found.kind != "singleton":
        return found
    mirrors = _mirrors(layer, x)
    return found._replace(kind=mirrors.kind, diameter=mirrors.diameter)


def _found(
    layer: Layer, x: Tensor, scaled: Scaled, split: Split, start: Start, tolerance: Tolerance
) -> tuple[recession.Size, recession.Flat]:
    kernel = recession.flat(scaled.system.equal)
    order = torch.cat([torch.nonzero(split.equal), torch.nonzero(split.less)]).reshape(-1)
    near = None if start.units is None else start.units[order].numpy()
    found = recession.size(scaled.system, kernel, tolerance, near)
    if found.start is not None:
        start.units = torch.zeros(layer.m, dtype=torch.float64)
        start.units[order] = torch.from_numpy(found.start)
    if layer.windows is not None:
        found = over_windows(layer, x, split, scaled, found, tolerance)
    return found, kernel


def _answer(layer: Layer, at: Solution, split: Split, exact: bool, tolerance: Tolerance) -> LayerPreimage:
    x = at.point
    scaled = layer.scaled(x, split, tolerance, at.error)
    found, kernel = _found(layer, x, scaled, split, Start(), tolerance)
    if exact:
        found = exact_size(layer, at, split, scaled, found)
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
        equal=torch.nonzero(split.equal).reshape(-1),
        less=torch.nonzero(split.less).reshape(-1),
        reachable=layer.reachable,
        dimension=None if found.dimension < 0 else found.dimension,
        diameter=0.0 if found.kind == "singleton" else found.diameter,
        levels=levels,
        multipliers=multipliers,
        ray=None if found.ray is None else torch.from_numpy(found.ray),
        pair=_pair(scaled.system, kernel, found, x),
        caps=split.cap,
        windows=layer.windows,
    )
    return _with_mirrors(answer, layer) if layer.gate == "abs" and found.kind == "singleton" else answer


def _pair(system: recession.System, kernel: recession.Flat, found: recession.Size, x: Tensor) -> Tensor | None:
    if found.other is not None:
        return torch.stack([x, torch.from_numpy(found.other)])
    if found.kind == "unbounded" and found.ray is not None:
        return torch.stack([x, x + max(1.0, float(x.norm())) * torch.from_numpy(found.ray)])
    if found.kind != "bounded" or found.inner is None:
        return None
    ends = recession.chord(system, kernel, x.numpy(), found.inner)
    return torch.stack([torch.from_numpy(v) for v in ends])


def _mirrors(layer: Layer, x: Tensor) -> Mirrors:
    known = layer.known()
    return mirrored(layer.weight, layer.bias, x, lambda z: bool(known.contains(z, NEAR)))


def _with_mirrors(found: LayerPreimage, layer: Layer) -> LayerPreimage:
    """Return a singleton under an absolute value, whose other signs may have inputs too, as what it is then."""
    mirrors = _mirrors(layer, found.point)
    pair = None if mirrors.other is None else torch.stack([found.point, mirrors.other])
    diameter = 0.0 if mirrors.kind == "singleton" else mirrors.diameter
    dimension = None if mirrors.kind == "undecided" else found.dimension
    return replace(found, kind=mirrors.kind, diameter=diameter, pair=pair, dimension=dimension)
