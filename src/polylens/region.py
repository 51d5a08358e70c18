"""The linear region around a point: its pattern, its affine map and its polytope; what lies across its facets.

Everything is computed in float64. A region is the closure of the set of inputs with one pattern, so its polytope holds
its boundary too; neighbours are found by patterns and not by stepping a small distance, so thin ones are not missed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, final

import torch
from torch import Tensor

from ._check import ArrayLike
from ._lp import accuracy_of
from ._rounding import Terms, flat_sizes, of_walls, term_sizes
from ._types import Result, Tolerance
from .affine import AffineMap
from .errors import GeometryError, InputError, ShapeError
from .facets import Facets, facets
from .germ import exact, fixed_at, one_point, pattern_of, towards, walls_of
from .local import maps, on_patterns
from .network import Network, Node
from .pattern import Patterns
from .polytope import DOMAIN, Origins, Polytope, RowOrigin, slack_rounding
from .steps import LinearAt


@final
@dataclass(frozen=True, eq=False, slots=True, repr=False)
class Region(Result):
    """One linear region of a network: `pattern` (a batch of one), `map` of the output, `polytope` over flat inputs.

    `point` (*input_shape) is where it was asked for: inside, or on the boundary for a point on a hyperplane. `domain` is
    what the polytope was cut with, None for the whole space; `layers` the gates whose units give its rows.
    """

    network: Network
    point: Tensor
    pattern: Patterns
    map: AffineMap
    polytope: Polytope
    domain: Polytope | None
    layers: tuple[str, ...]

    @property
    def num_active(self) -> int:
        """How many units are off piece 0 (for ReLU: active); max-gates do not count."""
        elementwise = [g for g in self.pattern.layers if not g.is_max]
        return sum(int((self.pattern.pieces(g.name) != 0).sum()) for g in elementwise)

    @property
    def nearest(self) -> tuple[float, RowOrigin | None]:
        """The distance from the point to the nearest wall of a unit, and whose it is; the domain's sides do not count."""
        distance, row = self._nearest_row()
        return distance, None if row is None else self.polytope.origins[row]

    @property
    def nearest_point(self) -> Tensor | None:
        """The point (*input_shape) on the nearest wall of a unit, straight across from `point`; None without walls."""
        distance, row = self._nearest_row()
        if row is None:
            return None
        normal = self.polytope.matrix[row] / torch.linalg.vector_norm(self.polytope.matrix[row])
        return self.point.cpu() + distance * normal.reshape(self.point.shape)

    def _nearest_row(self) -> tuple[float, int | None]:
        of_units = torch.nonzero(self.polytope.origins.layer != DOMAIN).reshape(-1)
        found = self.polytope.select(of_units).distance_to_boundary(self.point.reshape(-1))
        row = int(found.row)
        return float(found.distance), int(of_units[row]) if row >= 0 else None

    def __repr__(self) -> str:
        return f"Region({self.num_active} of {self.network.num_units} units active, {len(self.polytope)} rows)"

    def summary(self) -> str:
        distance, unit = self.nearest
        lines = [repr(self), f"  {self.map!r}"]
        if unit is not None:
            lines.append(
                f"  the nearest boundary is {distance:.4g} away, where {unit.name}[{unit.unit}] goes to piece {unit.piece}"
            )
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        distance, unit = self.nearest
        return {
            "num_units": self.network.num_units,
            "active_units": self.num_active,
            "num_rows": len(self.polytope),
            "layers": list(self.layers),
            "boundary_distance": distance if unit is not None else None,
            "boundary_unit": None if unit is None else unit._asdict(),
        }


def region(net: Network, x: ArrayLike, *, domain: Polytope | None = None, layers: Sequence[str] | None = None) -> Region:
    """Return the linear region around a point, as a polytope whose rows know their units.

    Every unit contributes the hyperplanes at which it would leave its piece: one for ReLU, one or two for gates of
    several breakpoints, one for each rival of a max-gate's winner. Rows need not be facets: `facets` tells. Of a unit
    whose terms cancel all over the region, up to `Tolerance().relative` of their size, rounding is left: its rows are 0.

    Args:
        net: piecewise linear as far as the output.
        x: one point (*input_shape); on a hyperplane, the region is that of the pattern that `patterns` gives.
        domain: a polytope over the flattened input to intersect with, such as `Polytope.box`; None for all of R^n. It holds
            x, up to 1e-9 of the terms of its rows.
        layers: names of gates whose units count; all when None. The maps are those at x, so rows of a layer hold
            exactly as long as the layers in front of it keep their pattern.

    Raises:
        SmoothError: the network is not piecewise linear.
        ShapeError, InputError: as for `patterns`; x outside the domain; an unknown layer.

    Algorithm: one push of the input's columns through the network with its gates fixed, O(inputs) forward passes; a few
    more tell the sizes of the terms.

    References: Hanin, Rolnick, Deep ReLU networks have surprisingly few activation patterns, NeurIPS 2019 (regions are
    convex polytopes).

    Example:
        >>> import torch
        >>> from polylens import dense, region
        >>> net = dense([([[1.0], [-1.0]], [0.0, 0.0]), ([[1.0, 1.0]], None)])  # |x|: two units share one hyperplane
        >>> region(net, torch.tensor([2.0])).polytope.matrix.tolist()
        [[-1.0], [-1.0]]
    """
    net = exact(net)
    point = one_point(net, x)
    if domain is not None:
        _check_domain(net, point, domain)
    local, pieces = fixed_at(net, point[None], len(net.nodes))
    return _region(net, point, pattern_of(net, pieces), local, domain, _layers(net, layers))


def neighbour(of: Region, facet: int, found: Facets | None = None) -> Region:
    """Return the region across a facet: all units whose hyperplane holds that facet change their piece together.

    Units that are on a breakpoint all over this region may wake behind the facet, and change too; a unit that would be so
    behind it keeps its piece. Where a gate jumps (threshold, hardshrink) what lies behind depends on where the facet is
    crossed; the region is then the one behind the facet's witness.

    Args:
        of: a region with rows of all layers.
        facet: its number in `facets(of.polytope)`.
        found: those facets, when they are at hand already.

    Raises:
        GeometryError: the facet is a side of the domain, behind which there is nothing.
        InputError: no such facet, or a region with rows of chosen layers only, where other units may change unseen.
        ShapeError: the facets of another polytope.

    Algorithm: at a point in the facet's relative interior the network is evaluated together with its derivative across
    the facet; where a unit's pre-activation vanishes the derivative decides. One forward pass, and one `region`.

    Example:
        >>> import torch
        >>> from polylens import dense, neighbour, region
        >>> net = dense([([[1.0], [-1.0]], [0.0, 0.0]), ([[1.0, 1.0]], None)])  # |x|: both units flip at 0
        >>> neighbour(region(net, torch.tensor([2.0])), 0).pattern.pieces().int().tolist()
        [[0, 1]]
    """
    names = tuple(g.name for g in of.network.gates)
    if of.layers != names:
        raise InputError(
            f"neighbour: expected a region with rows of all layers {list(names)}; got {list(of.layers)}; omit layers"
        )
    found = found or facets(of.polytope)
    if len(found.facet_of_row) != len(of.polytope):
        raise ShapeError(
            f"neighbour: expected the facets of this region, of {len(of.polytope)} rows; got those of {len(found.facet_of_row)}"
        )
    if not 0 <= facet < found.num_facets:
        raise InputError(f"facet: expected 0 to {found.num_facets - 1}; got {facet}")
    rows = torch.nonzero(found.facet_of_row == facet).reshape(-1)
    if bool((of.polytope.origins.layer[rows] == DOMAIN).all()):
        raise GeometryError(f"facet {facet} is a side of the domain; there is no region of it behind")
    net = of.network
    point, normal = (t[facet].reshape(net.input_shape).to(net.device) for t in (found.witnesses, found.normals))
    pattern = towards(net, point, normal).pattern
    local = on_patterns(net, pattern, len(net.nodes))
    return _region(net, point, pattern, local, of.domain, of.layers)


def region_on(net: Network, pattern: Patterns, point: Tensor) -> Region:
    """Return the region of one pattern, in all of R^n; the point (*input_shape) lies in its closure."""
    net = exact(net)
    return _region(net, point, pattern, on_patterns(net, pattern, len(net.nodes)), None, tuple(g.name for g in net.gates))


def _check_domain(net: Network, point: Tensor, domain: Polytope) -> None:
    """Raise where the domain is no polytope over the inputs, or the point outside by more than the solver's accuracy."""
    dim = math.prod(net.input_shape)
    if not isinstance(domain, Polytope):
        raise InputError(f"domain: expected a Polytope, such as Polytope.box(low, high); got {type(domain).__name__}")
    if domain.dim != dim:
        raise ShapeError(f"domain: expected a polytope over the {dim} flattened inputs; got one in dimension {domain.dim}")
    x = point.reshape(-1).cpu()
    room = slack_rounding(domain, x, accuracy_of(Tolerance()))
    if bool((domain.slack(x) < -room).any()):
        raise InputError("region: expected a point inside the domain; move the point or widen the domain")


def _layers(net: Network, layers: Sequence[str] | None) -> tuple[str, ...]:
    names = [g.name for g in net.gates]
    if isinstance(layers, str):
        raise InputError(f"layers: expected a list of names, some of {names}; got {layers!r}; write [{layers!r}]")
    unknown = [n for n in layers or () if n not in names]
    if unknown:
        raise InputError(f"layers: expected some of {names}; got {unknown}")
    return tuple(n for n in names if layers is None or n in layers)


def _region(
    net: Network, point: Tensor, pattern: Patterns, local: list[LinearAt], domain: Polytope | None, layers: tuple[str, ...]
) -> Region:
    gates, output = [n for n in net.nodes if n.name in layers], len(net.nodes)
    found = maps(net, 1, lambda _: local, {**{n.inputs[0]: None for n in gates}, output: None})
    sizes = term_sizes(net, local, [n.inputs[0] for n in gates], Tolerance().relative)
    dim = math.prod(net.input_shape)
    parts = [_Rows.none(dim)]
    for k, node in enumerate(gates):
        weight, offset = (t[0] for t in found[node.inputs[0]])
        parts.append(_rows(net, node, pattern, weight, offset, Terms(*(t[0] for t in flat_sizes(sizes[node.inputs[0]]))), k))
    matrix, bound, *where = (torch.cat(column) for column in zip(*parts, strict=True))
    polytope = Polytope(matrix, bound, Origins(layers, *where))
    affine = AffineMap(found[output][0][0], found[output][1][0], net.input_shape, net.output_shape)
    return Region(net, point, pattern, affine, polytope if domain is None else polytope & domain, domain, layers)


class _Rows(NamedTuple):
    """Rows of a polytope and their origins, one entry a row."""

    matrix: Tensor
    bound: Tensor
    layer: Tensor
    unit: Tensor
    piece: Tensor

    @classmethod
    def none(cls, dim: int) -> _Rows:
        real, whole = torch.zeros(0, dtype=torch.float64), torch.zeros(0, dtype=torch.long)
        return cls(real.reshape(0, dim), real, whole, whole, whole)


def _rows(net: Network, node: Node, pattern: Patterns, weight: Tensor, offset: Tensor, sizes: Terms, k: int) -> _Rows:
    """Return the rows that one gate contributes.

    A row that is rounding of its terms says nothing: it becomes 0, and its bound too where that is rounding.
    """
    walls, relative = walls_of(net, node, pattern), Tolerance().relative
    matrix, bound = walls.values(weight.mT).mT.contiguous(), walls.bound - walls.values(offset)
    none = torch.linalg.vector_norm(matrix, dim=1) <= relative * of_walls(walls, sizes.row)
    rest = bound.abs() <= relative * (of_walls(walls, sizes.offset) + walls.bound.abs())
    matrix, bound = torch.where(none[:, None], 0.0, matrix), torch.where(none & rest, 0.0, bound)
    layer = torch.full((len(matrix),), k)
    return _Rows(*(t.cpu() for t in (matrix, bound, layer, walls.unit, walls.beyond)))
