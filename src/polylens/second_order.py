"""Whether a smooth network stays constant along its null space to second order, by Hessian-vector products.

With H^i the Hessian of output i: necessary v_j^T H^i v_k = 0 for all null directions, sufficient H^i v_j = 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor
from torch.autograd import grad
from torch.nn.attention import SDPBackend, sdpa_kernel

from ._check import ArrayLike
from ._progress import progress
from ._types import Tolerance
from .errors import InputError
from .germ import one_point
from .local import MAX_BYTES, at_points, push
from .network import Network
from .nullspace import EPS, Forgetting, NullSpace, in_double, null_space, up_to
from .smooth import Smooth
from .steps import LinearAt, flat

_PROBES = 4  # random directions that tell how large the terms of second derivatives are


@final
@dataclass(frozen=True, eq=False, slots=True)
class Violation:
    """The worst violation of a condition: `value`, at output `output` and the null directions `j` and `k`.

    `relative` is the value over the size of its terms. `k` is None for the sufficient condition, whose value is the length of
    H^output v_j; all three are None where there is nothing to violate it.
    """

    value: float
    relative: float
    output: int | None
    j: int | None
    k: int | None

    def words(self) -> str:
        """Return the violation in words."""
        if self.output is None:
            return "nothing violates it"
        where = f"output {self.output}, direction{'s' if self.k is not None else ''} {self.j}"
        where += f" and {self.k}" if self.k is not None else ""
        return f"at worst {self.value:.3g}, {self.relative:.3g} of its terms ({where})"


@final
@dataclass(frozen=True, eq=False, slots=True, repr=False)
class SecondOrder(Forgetting):
    """The second-order conditions at a point, over the columns of `directions` (inputs, k), with their worst violations.

    A violation counts as 0 up to `tolerance` of its terms. `exact` says that the network is piecewise linear, so that both
    hold exactly within the region.
    """

    null_space: NullSpace
    directions: Tensor
    necessary: Violation
    sufficient: Violation
    tolerance: float
    exact: bool

    @property
    def necessary_holds(self) -> bool:
        """Whether no output bends along the null space."""
        return self.necessary.relative <= self.tolerance

    @property
    def sufficient_holds(self) -> bool:
        """Whether the gradients do not turn either, so that the null space is the same at neighbouring points."""
        return self.sufficient.relative <= self.tolerance

    @property
    def verdict(self) -> str:
        """What the conditions say, in words."""
        if self.exact:
            return "constant along the null space within the region, exactly"
        if not self.directions.shape[1]:
            return "nothing is forgotten"
        if not self.necessary_holds:
            return "not constant: the output bends along the null space"
        if self.sufficient_holds:
            return "constant to second order, and the null space does not turn"
        return "constant to second order, while the null space turns"

    def __repr__(self) -> str:
        return f"SecondOrder({self.verdict})"

    def summary(self) -> str:
        lines = [repr(self), f"  {self.directions.shape[1]} of {int(self.null_space.nullity)} null directions"]
        if not self.exact:
            lines += [f"  necessary: {self.necessary.words()}", f"  sufficient: {self.sufficient.words()}"]
            lines.append(f"  up to {self.tolerance:.2g} of its terms a value counts as 0")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        kinds = (("necessary", self.necessary, self.necessary_holds), ("sufficient", self.sufficient, self.sufficient_holds))
        found = {name: {**_fields(violation), "holds": holds} for name, violation, holds in kinds}
        return {
            "verdict": self.verdict,
            **found,
            "tolerance": self.tolerance,
            "exact": self.exact,
            "directions": self.directions.shape[1],
            "nullity": int(self.null_space.nullity),
        }


def second_order(
    net: Network,
    x: ArrayLike,
    *,
    layer: str | int | None = None,
    directions: int | None = None,
    tolerance: float | None = None,
    seed: int = 0,
) -> SecondOrder:
    """Return whether the network stays constant to second order along the null space at a point.

    Args:
        net: any network. A piecewise-linear one is constant along its null space within the region; for it both conditions
            hold exactly, and nothing is computed.
        x: one point (*input_shape), inside a region as far as the network has kinks.
        layer: as for `null_space`.
        directions: how many random null directions to judge by, for inputs so large that a basis of inputs x inputs
            numbers is too much; the whole basis when None.
        tolerance: up to which part of the size of its terms a second derivative counts as 0. None for `Tolerance()`, some
            thousand roundings of the terms, and the rounding of the null space itself: max(outputs, inputs) * eps times
            the ratio of the largest to the smallest singular value that is kept.
        seed: of the random directions.

    Raises:
        ShapeError, InputError: as for `null_space`; a batch of points, a count of directions below 1.

    Algorithm: backward passes through backward passes, one for each output and null direction, for many directions at
    once; no Hessian is formed. The terms of second derivatives are those of the smooth steps, the only ones that bend: of
    each, its own second derivative along what reaches it from random directions, weighed with what its output does to f.

    References: Pearlmutter, Fast exact multiplication by the Hessian, Neural Computation 6 (1994).

    Example:
        >>> import torch
        >>> from polylens import dense, second_order
        >>> one = dense([([[1.0, 2.0]], [0.5]), ([[1.0]], None)], gate="tanh")  # tanh(a + 2 b + 0.5)
        >>> second_order(one, torch.tensor([0.3, 0.1])).verdict
        'constant to second order, and the null space does not turn'
        >>> two = dense([([[1.0, 0.0], [0.0, 1.0]], [0.5, 0.5]), ([[1.0, 1.0]], None)], gate="tanh")
        >>> second_order(two, torch.tensor([0.3, 0.1])).verdict  # the lines of equal value are curved
        'not constant: the output bends along the null space'
    """
    if directions is not None and (isinstance(directions, bool) or not isinstance(directions, int) or directions < 1):
        raise InputError(f"directions: expected a positive number, or None for the whole basis; got {directions!r}")
    if tolerance is not None and not (isinstance(tolerance, (int, float)) and 0 <= tolerance < math.inf):
        raise InputError(f"tolerance: expected a number of at least 0, or None; got {tolerance!r}")
    net = in_double(net)
    found = null_space(net, one_point(net, x), layer=layer)
    cut = up_to(found.network, layer)
    chosen = _chosen(found, directions, seed)
    if cut.is_piecewise_linear or not chosen.shape[1]:
        none = Violation(0.0, 0.0, None, None, None)
        return SecondOrder(found, chosen, none, none, 0.0, cut.is_piecewise_linear)
    with sdpa_kernel(SDPBackend.MATH):  # the fused attention has no second derivative
        terms = _terms(cut, found.point)
        necessary, sufficient = _worst(cut, found.point, chosen, terms)
    return SecondOrder(found, chosen, necessary, sufficient, _allowed(found) if tolerance is None else tolerance, False)


def _chosen(found: NullSpace, count: int | None, seed: int) -> Tensor:
    """Return the null directions to judge by, orthonormal columns (inputs, k)."""
    nullity = int(found.nullity)
    if count is None or count >= nullity:
        return found.basis
    generator = torch.Generator().manual_seed(seed)
    shape = (count, *found.network.input_shape)
    random = torch.randn(shape, generator=generator, dtype=torch.float64).to(found.point.device)
    return torch.linalg.qr(found.project(random).reshape(count, -1).mT)[0]


def _allowed(found: NullSpace) -> float:
    rank, values = int(found.rank), found.singular_values
    condition = float(values[0] / values[rank - 1]) if rank else 1.0
    outputs = math.prod(found.network.shape_of(found.network.value_of(found.layer)))
    return Tolerance().relative + max(found.inputs, outputs) * EPS * condition


# -- second derivatives along null directions


def _worst(net: Network, point: Tensor, directions: Tensor, terms: Tensor) -> tuple[Violation, Violation]:
    """Return the worst violations of the two conditions, relative to the terms (outputs,) of second derivatives."""
    necessary = sufficient = Violation(0.0, 0.0, None, None, None)
    for start, products in _hessian_products(net, point, directions):
        for i, rows in enumerate(products):
            size = float(terms[i])
            necessary = _worse(necessary, (rows @ directions).abs(), size, i, start)
            sufficient = _worse(sufficient, torch.linalg.vector_norm(rows, dim=1)[:, None], size, i, start)
    return necessary, Violation(sufficient.value, sufficient.relative, sufficient.output, sufficient.j, None)


def _worse(known: Violation, values: Tensor, size: float, output: int, start: int) -> Violation:
    """Return the worse of a known violation and the largest of some values (directions, anything) of an output."""
    at = int(values.argmax())
    value = float(values.reshape(-1)[at])
    relative = value / size if size else (math.inf if value else 0.0)
    if relative <= known.relative and known.output is not None:
        return known
    j, k = divmod(at, values.shape[1])
    return Violation(value, relative, output, start + j, k)


def _hessian_products(net: Network, point: Tensor, directions: Tensor) -> Iterator[tuple[int, list[Tensor]]]:
    """Yield H^i v for every output i and a chunk of the directions: (chunk, inputs) each, with the chunk's first number."""
    columns, shape = directions.mT, net.input_shape
    size = max(1, MAX_BYTES // (16 * net.sample_bytes))  # a graph of two backward passes holds every value several times
    for start in progress(range(0, len(columns), size), -(-len(columns) // size), "second derivatives"):
        v = columns[start : start + size].reshape(-1, *shape)
        x = point.expand(v.shape).clone().requires_grad_()
        with torch.enable_grad():
            outputs = net.forward(x).reshape(len(v), -1)
            yield start, [_second(y, (x,), (v,))[0].reshape(len(v), -1) for y in outputs.unbind(1)]


def _second(y: Tensor, at: tuple[Tensor, ...], along: tuple[Tensor, ...]) -> list[Tensor]:
    """Return, for values that are functions of `at` sample by sample, their Hessians applied to `along`."""
    first = grad(y.sum(), at, create_graph=True, materialize_grads=True)
    slope = sum(((g * v).sum() for g, v in zip(first, along, strict=True)), torch.zeros((), dtype=y.dtype, device=y.device))
    if not slope.requires_grad:  # linear all the way
        return [torch.zeros_like(v) for v in along]
    return list(grad(slope, at, retain_graph=True, materialize_grads=True))


# -- how large the terms of second derivatives are


def _terms(net: Network, point: Tensor) -> Tensor:
    """Return for every output (outputs,) the size of the terms that second derivatives are the sum of.

    Of a smooth step S at z, with the rows r that its output has on f, along dz that reaches it: sum over the entries a of
    |(D^2 (r S)(z) dz)_a dz_a|, for elementwise steps sum_u |r_u S''_u| |w_u|^2 with the rows w_u of the map input -> z.
    """
    last = len(net.nodes)
    local = at_points(net, point[None], last)
    shape = (1, _PROBES, *net.input_shape)
    probes = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(point.device)
    smooth = [k for k in range(1, last + 1) if isinstance(net.nodes[k - 1].step, Smooth)]
    reached = {i for k in smooth for i in net.nodes[k - 1].inputs}
    columns = push(net, local, probes, reached | {0})
    rows, values = _rows_at(net, local, set(smooth)), _values_at(net, point, reached)
    total = torch.zeros(math.prod(net.output_shape), dtype=torch.float64, device=point.device)
    for k in smooth:
        inputs = net.nodes[k - 1].inputs
        if k in rows:
            z = tuple(values[i].expand(_PROBES, *values[i].shape[1:]).clone().requires_grad_() for i in inputs)
            total += _bending(net.nodes[k - 1].step, z, tuple(columns[i][0] for i in inputs), rows[k][0])
    return total


def _bending(step: Any, z: tuple[Tensor, ...], along: tuple[Tensor, ...], rows: Tensor) -> Tensor:
    """Return the size of the terms of one smooth step for each of the rows (outputs, *shape) on it: their mean over probes."""
    with torch.enable_grad():
        value = step.apply(*z)
        products = [_second((value * r).flatten(1).sum(1), z, along) for r in rows]
    sizes = [sum(flat((h * v).abs(), 1).sum(1).mean() for h, v in zip(p, along, strict=True)) for p in products]
    return torch.stack([torch.as_tensor(s) for s in sizes]).detach()


def _rows_at(net: Network, local: list[LinearAt], wanted: set[int]) -> dict[int, Tensor]:
    """Return the rows (1, outputs, *shape) that the outputs have on the wanted values; none for values that do not matter."""
    last, shape = len(net.nodes), net.output_shape
    eye = torch.eye(math.prod(shape), dtype=net.dtype, device=net.device)
    pending, found = {last: eye.reshape(1, len(eye), *shape)}, dict[int, Tensor]()
    for k in range(last, 0, -1):
        if k not in pending:
            continue
        node, here = net.nodes[k - 1], pending.pop(k)
        if k in wanted:
            found[k] = here
        parts = local[k - 1].rows(here, [net.shape_of(i) for i in node.inputs])
        for i, part in zip(node.inputs, parts, strict=True):
            pending[i] = pending[i] + part if i in pending else part
    return found


def _values_at(net: Network, point: Tensor, wanted: set[int]) -> dict[int, Tensor]:
    found = {0: point[None]}

    def keep(node: Any, inputs: list[Tensor]) -> None:
        found.update({i: t.detach() for i, t in zip(node.inputs, inputs, strict=True) if i in wanted})

    with torch.no_grad():
        net.forward(point[None], keep)
    return found


def _fields(violation: Violation) -> dict[str, Any]:
    names = ("value", "relative", "output", "j", "k")
    return {n: None if (v := getattr(violation, n)) == math.inf else v for n in names}
