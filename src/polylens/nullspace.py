"""What a network forgets at a point: the null space of its Jacobian there, as the complement of a row space of low rank.

Bases and projectors act on flattened inputs. No matrix of inputs x inputs is formed unless it is asked for.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, final

import torch
from torch import Tensor

from ._check import ArrayLike, array, as_tensor, finite, floating
from ._ranks import Jacobian, decomposed, ranks, settled
from ._rational import RationalNetwork
from ._rounding import flat_sizes, term_sizes
from ._types import Result, Tolerance
from .errors import InputError, ShapeError
from .linearise import _not_differentiable, _points, _smooth_in_front
from .local import MAX_BYTES, at_points, maps
from .network import Network, ancestors, has_pattern
from .smooth import Smooth
from .steps import LinearAt

if TYPE_CHECKING:
    from matplotlib.axes import Axes

EPS = torch.finfo(torch.float64).eps


class Forgetting(Result):
    """A result on what a network forgets, whose drawing is one of `polylens.plotting.nullspace`."""

    __slots__ = ()

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Draw the answer on `ax` (a new figure's when None) and return the Axes; `options` are the drawing's own."""
        axes: Axes = importlib.import_module("polylens.plotting.nullspace").draw(self, ax, **options)
        return axes


@final
@dataclass(frozen=True, eq=False, repr=False)
class NullSpace(Forgetting):
    """The null space of the Jacobian at one point, or at each point of a batch (then all tensors have a batch axis first).

    Attributes: `point` (*batch, *input_shape); `row_space` (*batch, inputs, rank), orthonormal columns that span what the
    network sees, the strongest first; `singular_values` (*batch, min(outputs, inputs)), largest first; `tolerance`
    (*batch,), up to which they count as 0; `rank` (*batch,), how many exceed it, or would with every row in its own unit
    (singular values below eps times the largest are rounding). In a batch `row_space` is as wide as the largest rank and
    has columns of zeros where a rank is smaller. `settled` (*batch,) says whether exact arithmetic gives the same rank: full
    by more than rounding, or counted in rationals (networks of up to 4 096 weights); elsewhere it may differ. `network` is
    in float64, `layer` None for the output.
    """

    network: Network
    layer: str | None
    point: Tensor
    row_space: Tensor
    singular_values: Tensor
    tolerance: Tensor
    rank: Tensor
    settled: Tensor

    @property
    def inputs(self) -> int:
        """How many entries an input has."""
        return self.row_space.shape[-2]

    @property
    def nullity(self) -> Tensor:
        """The dimension of the null space, (*batch,)."""
        return self.inputs - self.rank

    @property
    def is_batch(self) -> bool:
        """Whether this is a batch of null spaces, which can be indexed."""
        return self.rank.ndim > 0

    @property
    def gap(self) -> Tensor:
        """The smallest singular value that is kept over the largest that is dropped, (*batch,): far from 1 where the rank is
        clear. Infinite where none is dropped but zeros; where none is kept, the tolerance stands in for the kept one."""
        values = self.singular_values
        kept = torch.arange(values.shape[-1], device=values.device) < self.rank[..., None]
        least = (
            torch.where(kept, values, torch.inf).amin(-1) if values.shape[-1] else torch.full_like(self.tolerance, torch.inf)
        )
        most = torch.where(kept, 0.0, values).amax(-1) if values.shape[-1] else torch.zeros_like(self.tolerance)
        return torch.where(most > 0, torch.where(self.rank > 0, least, self.tolerance) / most, torch.inf)

    @cached_property
    def basis(self) -> Tensor:
        """Orthonormal columns that span the null space, (*batch, inputs, nullity), completed from the row space by QR.

        In a batch it is as wide as the largest nullity, with columns of zeros where a nullity is smaller. The matrix has
        nearly inputs x inputs entries: `project` needs none.
        """
        if not self.is_batch:
            return _completed(self.row_space)
        found = self.row_space.new_zeros(len(self), self.inputs, int(self.nullity.max()))
        for i in range(len(self)):
            found[i, :, : int(self.nullity[i])] = self[i].basis
        return found

    def project(self, v: ArrayLike) -> Tensor:
        """Return directions with what the network sees of them taken away: the nearest ones of the null space.

        Args:
            v: one direction (*input_shape) or many, (k, *input_shape); for a batch of points as many as points, or one for
                all of them.

        Raises: ShapeError, InputError (NaN, integers).
        """
        shape, given = self.network.input_shape, array(v, "direction")
        floating(given, "direction")
        x = finite(as_tensor(given, torch.float64, self.row_space.device), "direction")
        lead = x.shape[: max(0, x.ndim - len(shape))]
        if x.shape != (*lead, *shape) or len(lead) > 1 or (lead and self.is_batch and lead[0] != len(self)):
            want = f"({len(self)}, {', '.join(map(str, shape))})" if self.is_batch else f"(k, {', '.join(map(str, shape))})"
            raise ShapeError(f"project: expected directions of shape {shape} or {want}; got {tuple(x.shape)}")
        flat = x.reshape(*lead, self.inputs)
        for _ in range(2):  # the second time removes the rounding of the first
            flat = flat - self._seen(flat)
        return flat.reshape(*flat.shape[:-1], *shape)

    def _seen(self, flat: Tensor) -> Tensor:
        if not self.is_batch:
            return (flat @ self.row_space) @ self.row_space.mT
        return (self.row_space @ (self.row_space.mT @ flat.unsqueeze(-1))).squeeze(-1)

    def projector(self) -> Tensor:
        """Return the matrix (*batch, inputs, inputs) that projects flattened directions onto the null space."""
        eye = torch.eye(self.inputs, dtype=torch.float64, device=self.row_space.device)
        return eye - self.row_space @ self.row_space.mT

    def __len__(self) -> int:
        if not self.is_batch:
            raise TypeError("this is the null space at one point, not a batch of them; it has no length")
        return len(self.rank)

    def __getitem__(self, index: int | slice | Sequence[int] | Tensor) -> NullSpace:
        """Return some points' null spaces; an integer gives that of one point, without batch axis."""
        if not self.is_batch:
            raise TypeError("this is the null space at one point, not a batch of them; it cannot be indexed")
        rank = self.rank[index]
        wide = int(rank.max()) if rank.numel() else 0
        point, rows, values, tolerance = (t[index] for t in (self.point, self.row_space, self.singular_values, self.tolerance))
        return NullSpace(self.network, self.layer, point, rows[..., :wide], values, tolerance, rank, self.settled[index])

    def __repr__(self) -> str:
        where = f"{len(self)} points, " if self.is_batch else ""
        return f"NullSpace({where}{_span(self.nullity)} of {self.inputs} dimensions)"

    def summary(self) -> str:
        name = "the output" if self.layer is None else self.layer
        lines = [repr(self), f"  {name} changes to first order along {_span(self.rank)} of {self.inputs} directions"]
        values = self.singular_values
        if values.numel():
            largest, clear = float(values.max()), float(self.gap.min())
            beyond = "none but zeros is dropped" if math.isinf(clear) else f"kept ones exceed dropped ones {clear:.3g} times"
            lines.append(f"  singular values up to {largest:.4g}; those up to {_span(self.tolerance)} count as 0, {beyond}")
        if not bool(self.settled.all()):
            lines.append("  rounding leaves the rank open: in exact arithmetic it may differ")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        gap = self.gap
        return {
            "layer": self.layer,
            "inputs": self.inputs,
            "rank": self.rank.tolist(),
            "nullity": self.nullity.tolist(),
            "singular_values": self.singular_values.tolist(),
            "tolerance": self.tolerance.tolist(),
            "settled": self.settled.tolist(),
            "gap": [g if math.isfinite(g) else None for g in gap.tolist()] if self.is_batch else _plain(float(gap)),
        }


def null_space(net: Network, x: ArrayLike, *, layer: str | int | None = None, tolerance: float | None = None) -> NullSpace:
    """Return the null space of the network's Jacobian at each point: the directions that leave the output as it is.

    For a piecewise-linear network they do so exactly as far as the map does not change (`constant_along`,
    `constant_polytope`); for a smooth one to first order (`second_order`). On a boundary between regions the Jacobian is
    that of the pattern that `patterns` gives. Everything is computed in float64.

    Args:
        net: any network, smooth or not.
        x: one point (*input_shape), or a batch of them (batch, *input_shape), which gives a result that can be indexed.
        layer: the name of a node, or a position among `net.gates`: what the network up to there forgets; the output when
            None.
        tolerance: singular values up to this, in output per input, count as 0. None: every output counts in its own unit, and
            the rank is that of the rows divided by their lengths, where those up to max(outputs, inputs) * eps times the
            largest count as 0.

    Raises:
        ShapeError, InputError: as for `patterns`; also an unknown layer, a negative tolerance, a point where a smooth step
            has no finite derivative.

    A row of the Jacobian that is rounding of its terms, by `Tolerance().relative` of their size, counts as 0: an output
    whose terms cancel sees nothing.

    Algorithm: `linearise`, then for each point a QR factorisation of the transposed Jacobian and an SVD of the small
    factor, O(inputs * outputs^2). The basis of the null space itself is completed from the row space when asked for.

    References: Golub, Van Loan, Matrix Computations (2013), sections 5.4 and 5.5 (numerical rank).

    Example:
        >>> import torch
        >>> from polylens import dense, null_space
        >>> net = dense([([[3.0, 4.0]], [0.0]), ([[1.0]], None)])  # relu(3 a + 4 b)
        >>> found = null_space(net, torch.tensor([[1.0, 1.0], [-1.0, -1.0]]))  # behind the kink it forgets all
        >>> found.nullity.tolist()
        [1, 2]
        >>> found[0].project(torch.tensor([25.0, 0.0])).round().tolist()  # along 4, -3
        [16.0, -12.0]
    """
    net = in_double(net)
    value = net.value_of(layer)
    points, batched = _detached(net, x)
    _check_tolerance(tolerance)
    parts = [decomposed(_jacobians(net, part, [value])[value], tolerance) for part in _split(net, points, [value])]
    values, threshold, rank, full = (torch.cat([p[k] for p in parts]) for k in (0, 1, 2, 4))
    wide = int(rank.max())
    rows = torch.cat([torch.nn.functional.pad(p[3], (0, max(0, wide - p[3].shape[-1])))[..., :wide] for p in parts])
    name = None if layer is None else net.nodes[value - 1].name
    if tolerance is None and not bool(full.all()):
        small = RationalNetwork.of(net)
        for i in torch.nonzero(~full).reshape(-1).tolist():
            full[i] = settled(points[i], value, int(rank[i]), small)
    found = NullSpace(net, name, points, rows, values, threshold, rank, full)
    return found if batched else found[0]


@final
@dataclass(frozen=True, eq=False, slots=True, repr=False)
class Forgotten(Forgetting):
    """How many dimensions of the input are lost up to each layer: `rank` and `nullity` (*batch, layers) by `names`.

    `names` are those of the gates in their order, and "output" at the end; `inputs` is the dimension of the input.
    """

    names: tuple[str, ...]
    inputs: int
    rank: Tensor

    @property
    def nullity(self) -> Tensor:
        """The dimension of what is forgotten, (*batch, layers)."""
        return self.inputs - self.rank

    def __repr__(self) -> str:
        return f"Forgotten({len(self.names)} layers, {self.inputs} inputs)"

    def summary(self) -> str:
        wide = max(map(len, self.names))
        columns = self.nullity.reshape(-1, len(self.names)).T
        rows = zip(self.names, columns, strict=True)
        return "\n".join([repr(self), *(f"  up to {n:<{wide}}  {_span(c)} of {self.inputs} dimensions" for n, c in rows)])

    def to_dict(self) -> dict[str, Any]:
        return {
            "layers": list(self.names),
            "inputs": self.inputs,
            "rank": self.rank.tolist(),
            "nullity": self.nullity.tolist(),
        }


def forgotten_by_layer(net: Network, x: ArrayLike, *, tolerance: float | None = None) -> Forgotten:
    """Return how many dimensions of the input the network has forgotten behind each gate, and at its output.

    Arguments, errors and conventions are those of `null_space`: every count is the nullity of the map input -> layer. Along
    a chain it never falls; a skip connection can bring back what another branch has lost.

    Algorithm: one pass for the Jacobians of all layers, and the singular values of each.

    Example:
        >>> import torch
        >>> from polylens import dense, forgotten_by_layer
        >>> net = dense([([[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0]), ([[1.0, 1.0]], None)])
        >>> forgotten_by_layer(net, torch.tensor([[1.0, 1.0], [1.0, -1.0]])).nullity.tolist()  # by point, then by layer
        [[0, 1], [1, 1]]
    """
    net = in_double(net)
    points, batched = _detached(net, x)
    _check_tolerance(tolerance)
    values = [*(k for k, node in enumerate(net.nodes, 1) if has_pattern(node.step)), len(net.nodes)]
    parts = (_jacobians(net, part, values) for part in _split(net, points, values))
    rank = torch.cat([torch.stack([ranks(part[v], tolerance) for v in values], -1) for part in parts])
    names = (*(g.name for g in net.gates), "output")
    return Forgotten(names, points[0].numel(), rank if batched else rank[0])


def in_double(net: Network) -> Network:
    """Return the network in float64, or raise InputError where it is none."""
    if not isinstance(net, Network):
        raise InputError(f"network: expected a Network of polylens; got {type(net).__name__}; polylens.load makes one of it")
    return net.double()


def up_to(net: Network, layer: str | int | None) -> Network:
    """Return the network whose output is the given layer's: the nodes that it depends on and no others."""
    if layer is None:
        return net
    value = net.value_of(layer)
    kept = sorted(ancestors(net, value) - {0})
    number = {0: 0} | {k: i for i, k in enumerate(kept, 1)}
    nodes = (net.nodes[k - 1] for k in kept)
    return replace(net, nodes=tuple(replace(n, inputs=tuple(number[i] for i in n.inputs)) for n in nodes))


# -- Jacobians and their singular values


def _detached(net: Network, x: ArrayLike) -> tuple[Tensor, bool]:
    points, batched = _points(net, x)
    return points.detach(), batched


def _check_tolerance(tolerance: float | None) -> None:
    if tolerance is not None and not (isinstance(tolerance, (int, float)) and 0 <= tolerance < math.inf):
        raise InputError(f"tolerance: expected a number of at least 0, or None; got {tolerance!r}")


def _split(net: Network, points: Tensor, values: Iterable[int]) -> Iterable[Tensor]:
    """Return the points in parts whose Jacobians stay within a fixed amount of memory."""
    rows = sum(math.prod(net.shape_of(v)) for v in set(values))
    return points.split(max(1, MAX_BYTES // max(1, 8 * rows * points[0].numel())))


def _jacobians(net: Network, points: Tensor, values: Sequence[int]) -> dict[int, Jacobian]:
    """Return the Jacobians of some values, with rows of zeros where only rounding is left."""
    last = max(values)
    with torch.no_grad():
        local = at_points(net, points, last)
        found = maps(net, len(points), lambda part: _some(net, points, local, part, last), dict.fromkeys(values))
    if not all(bool(torch.isfinite(w).all()) for w, _ in found.values()):
        raise _not_differentiable(net, points, _smooth_in_front(net, last))
    if any(isinstance(n.step, Smooth) and not n.step.elementwise for n in net.nodes[:last]):
        return {v: Jacobian(w, None) for v, (w, _) in found.items()}  # sizes are known for gates and activations only
    relative = Tolerance().relative
    with torch.no_grad():
        sizes = term_sizes(net, local, [v for v in values if v], relative)
    rows = {v: flat_sizes(sizes[v]).row if v else torch.ones_like(w[..., 0]) for v, (w, _) in found.items()}
    return {v: Jacobian(_without_rounding(w, rows[v] * relative), rows[v].expand(w.shape[:-1])) for v, (w, _) in found.items()}


def _some(net: Network, points: Tensor, local: list[LinearAt], part: slice, last: int) -> list[LinearAt]:
    return local if part == slice(0, len(points)) else at_points(net, points[part], last)


def _without_rounding(weight: Tensor, room: Tensor) -> Tensor:
    noise = torch.linalg.vector_norm(weight, dim=-1) <= room
    return torch.where(noise[..., None], 0.0, weight) if bool(noise.any()) else weight


def _completed(columns: Tensor) -> Tensor:
    """Return an orthonormal basis of the complement of orthonormal columns."""
    inputs, rank = columns.shape
    if not rank:
        return torch.eye(inputs, dtype=columns.dtype, device=columns.device)
    return torch.linalg.qr(columns, mode="complete")[0][:, rank:]


def _span(values: Tensor) -> str:
    """Return one number in words, or the least and the largest of many."""
    low, high = values.min().item(), values.max().item()
    text = [f"{v:.3g}" if isinstance(v, float) else str(v) for v in (low, high)]
    return text[0] if low == high else f"{text[0]} to {text[1]}"


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None
