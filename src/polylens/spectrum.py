"""The singular values of the local maps input -> layer, in front of every gate and behind it: what a network keeps.

`A` is the map of one value of the network at one input. In front of a gate it has all rows; behind it those of the units that
pass nothing on are 0, and left out.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, final

import torch
from torch import Tensor

from ._check import ArrayLike, whole
from ._spectrum.local import EXTREMES, Found, Wanted, local_spectra
from ._types import Result
from .errors import InputError
from .linearise import _points
from .network import Network, has_pattern
from .nullspace import _check_tolerance, _span, in_double

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Side = Literal["pre", "post"]
EPS = torch.finfo(torch.float64).eps
MAX_BYTES = 1 << 32
MOST = 4096


class Bounds(NamedTuple):
    """How much distances shrink at most (`lower`) and grow at most (`upper`), each (batch,); NaN where it is not known."""

    lower: Tensor
    upper: Tensor


@final
@dataclass(frozen=True, eq=False, slots=True)
class LayerSpectrum:
    """The singular values of one layer's local map at each input of a batch.

    Attributes: `name` of the layer; `kind`, its step's; `side`, "pre" for what reaches a gate, and for layers without one,
    "post" for what a gate puts out; `shape` (units, inputs) of the map; `rows` (batch,), how many units pass anything on;
    `values` (batch, count), largest first; `error` (batch, count), how far off each is; `tolerance` (batch,), up to which
    values count as 0; `complete`, whether these are all values, min(units, inputs) of them, or only the largest and the
    smallest nonzero ones that a search found (an input with fewer of them has NaN at the end); `method` (batch), "svd", "gram"
    or "krylov".

    With "svd" and "gram" `error` is an estimate from the rounding of sums; with "krylov" it is a computed residual, so that
    some singular value lies that near, but a smaller nonzero one than the least may have been missed.
    """

    name: str
    kind: str
    side: Side
    shape: tuple[int, int]
    rows: Tensor
    values: Tensor
    error: Tensor
    tolerance: Tensor
    complete: bool
    method: tuple[str, ...]

    @property
    def rank(self) -> Tensor:
        """How many values exceed the tolerance (batch,); -1 where not all values are known."""
        kept = (self.values > self.tolerance[:, None]).sum(-1)
        return kept if self.complete else torch.full_like(kept, -1)

    @property
    def largest(self) -> Tensor:
        """The largest value (batch,): the norm of the map; 0 of a map without units."""
        if self.values.shape[1]:
            return self.values[:, 0].nan_to_num(0.0)
        return self.tolerance.new_zeros(len(self.tolerance))

    @property
    def smallest(self) -> Tensor:
        """The smallest value above the tolerance (batch,), the least of those found; NaN where the map is 0."""
        kept = torch.where(self._kept, self.values, torch.inf)
        least = kept.amin(-1) if kept.shape[1] else torch.full_like(self.tolerance, torch.inf)
        return torch.where(least < torch.inf, least, torch.nan)

    @property
    def gap(self) -> Tensor:
        """The smallest value that is kept over the largest that is dropped (batch,): far from 1 where the rank is clear.

        Infinite where none is dropped but zeros, NaN where not all values are known or none is kept.
        """
        if not self.complete:
            return torch.full_like(self.tolerance, torch.nan)
        dropped = torch.where(self._kept, 0.0, self.values)
        return self.smallest / (dropped.amax(-1) if dropped.shape[1] else torch.zeros_like(self.tolerance))

    @property
    def condition(self) -> Tensor:
        """The largest over the smallest nonzero value (batch,): the condition number on the row space; NaN for a map of 0."""
        return self.largest / self.smallest

    @property
    def frobenius(self) -> Tensor:
        """The root of the sum of squares (batch,); NaN where not all values are known."""
        return self._of_all(torch.linalg.vector_norm(self.values, dim=-1))

    @property
    def nuclear(self) -> Tensor:
        """The sum of the values (batch,); NaN where not all are known."""
        return self._of_all(self.values.sum(-1))

    @property
    def stable_rank(self) -> Tensor:
        """|A|_F^2 / |A|^2 (batch,): by how many values of full size the others are worth; NaN where not all are known."""
        return self.frobenius.square() / self.largest.square()

    @property
    def effective_rank(self) -> Tensor:
        """exp of the entropy of the values as shares of their sum (batch,), after Roy and Vetterli; NaN as for `nuclear`."""
        share = self.values / self.nuclear[:, None]
        return torch.special.entr(share).sum(-1).exp() if self.complete else torch.full_like(self.tolerance, torch.nan)

    @property
    def log_volume(self) -> Tensor:
        """The sum of the logarithms of the nonzero values (batch,): how the map changes volumes of its row space."""
        return self._of_all(torch.where(self._kept, self.values, 1.0).log().sum(-1))

    @property
    def bounds(self) -> Bounds:
        """The numbers in lower |x - x'| <= |f(x) - f(x')| <= upper |x - x'|, with room for `error`.

        For x, x' in the linear region with x - x' orthogonal to the null space of the map (the upper one for all x, x' in it),
        f the network up to this layer. NaN where only extreme values are known.
        """
        if not self.complete:
            unknown = torch.full_like(self.tolerance, torch.nan)
            return Bounds(unknown, unknown)
        room = self.error.amax(-1) if self.error.shape[1] else torch.zeros_like(self.tolerance)
        return Bounds((self.smallest.nan_to_num(0.0) - room).clamp(min=0.0), self.largest + room)

    @property
    def _kept(self) -> Tensor:
        return self.values > self.tolerance[:, None]

    def _of_all(self, values: Tensor) -> Tensor:
        return values if self.complete else torch.full_like(values, torch.nan)

    def to_dict(self) -> dict[str, Any]:
        """Return the layer in plain types, with null for what is not known."""
        numbers = ("rank", "largest", "smallest", "gap", "condition", "stable_rank", "effective_rank", "log_volume")
        found = {name: _plain(getattr(self, name)) for name in numbers}
        return {
            "name": self.name,
            "kind": self.kind,
            "side": self.side,
            "units": self.shape[0],
            "rows": self.rows.tolist(),
            "complete": self.complete,
            "method": list(self.method),
            **found,
            "frobenius": _plain(self.frobenius),
            "nuclear": _plain(self.nuclear),
            "tolerance": self.tolerance.tolist(),
            "values": [_plain(row) for row in self.values],
        }


@final
@dataclass(frozen=True, eq=False, slots=True, repr=False)
class Spectrum(Result):
    """The singular values of all layers' local maps at inputs: `points` (batch, *input_shape), and `layers` in their order.

    `exact` says whether the network is piecewise linear up to the last of the layers: its maps then hold on the linear region,
    and to first order at the input otherwise.
    """

    network: Network
    points: Tensor
    layers: tuple[LayerSpectrum, ...]
    exact: bool

    def layer(self, name: str, side: Side | None = None) -> LayerSpectrum:
        """Return one layer's values, behind its gate where it has one unless `side` says "pre"."""
        found = [layer for layer in self.layers if layer.name == name and side in (None, layer.side)]
        if not found:
            known = [f"{layer.name} ({layer.side})" for layer in self.layers]
            raise InputError(f"layer: expected one of {', '.join(known)}; got {name!r}{'' if side is None else f' ({side})'}")
        return found[-1]

    def __len__(self) -> int:
        return len(self.points)

    def __repr__(self) -> str:
        return f"Spectrum({len(self.layers)} maps, {len(self)} inputs of {math.prod(self.network.input_shape)} entries)"

    def summary(self) -> str:
        how = "on the linear region of each input" if self.exact else "to first order at each input"
        table = [("", "", "units on", "rank", "largest", "smallest", "condition"), *(_cells(layer) for layer in self.layers)]
        wide = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = ["  ".join([f"{row[0]:<{wide[0]}}", *map(str.rjust, row[1:], wide[1:])]) for row in table]
        return "\n".join([f"{self!r}, {how}", *(f"  {line}" for line in lines)])

    def to_dict(self) -> dict[str, Any]:
        return {
            "inputs": math.prod(self.network.input_shape),
            "points": len(self),
            "exact": self.exact,
            "layers": [layer.to_dict() for layer in self.layers],
        }

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Draw how singular values decay, one curve a layer; `effect="gate"` draws them in front of gates and behind."""
        axes: Axes = importlib.import_module("polylens.plotting.spectrum").draw(self, ax, **options)
        return axes


def spectrum(
    net: Network,
    X: ArrayLike,
    layers: Sequence[str | int] | None = None,
    *,
    tolerance: float | None = None,
    most: int = MOST,
    count: int = EXTREMES.ends,
    steps: int = EXTREMES.steps,
    max_bytes: int = MAX_BYTES,
) -> Spectrum:
    """Return the singular values of the map input -> layer around each input, in front of every gate and behind it.

    Of a piecewise-linear network the maps hold on the whole linear region; of a smooth one to first order at the input. Rows of
    units that a gate lets nothing pass of are left out behind it. Everything is computed in float64.

    Args:
        net: any network, smooth or not.
        X: inputs (batch, *input_shape), or one of them, which counts as a batch of one.
        layers: names of nodes, or positions among `net.gates`; a gate gives two maps, any other node one. All gates and what is
            affine behind the last of them when None; a gate that reads another's output only gives the map behind it.
        tolerance: values up to this, in output per input, count as 0; None for max(units, inputs) * eps times the largest one.
        most: maps with more units and more inputs than this are not decomposed: only extreme values are searched for.
        count: how many of the largest and of the smallest nonzero values that search is to find.
        steps: how many products with the map and with its transpose it may take.
        max_bytes: bound on the memory for the columns of the maps; where they do not fit, rows, and then extremes are taken.

    Raises:
        ShapeError, InputError: as for `patterns`; also an unknown layer, a negative tolerance, a number below 1.

    Algorithm: all n input directions are pushed through the fixed gates once, n forward passes, and every layer's matrix is
    decomposed on the way. Up to 256 values by LAPACK's SVD, error about eps sigma_1. Larger ones by the eigenvalues of the Gram
    matrix, a third of the work (at n = 3 072: 1.4 s and 8 s), with error eps sigma_1^2 / sigma, as long as the smallest
    value keeps five digits, else by QR and SVD. The products for a ReLU's units that are on and off are summed for the map in
    front of it. Where fewer units than inputs pass a gate that all of the network depends on, the columns are rotated into as
    few, which leaves all later values as they are. Maps of more than `most` inputs but few units take their rows instead;
    others Golub and Kahan's bidiagonalisation, 2 * `steps` products.

    References: Golub, Van Loan, Matrix Computations (2013), sections 8.6 and 10.4; Roy, Vetterli, The effective rank, 2007;
    Behrmann, Dittmer, Fernsel, Maass, Analysis of invariance and robustness via invertibility of ReLU-networks (2018).

    Example:
        >>> from polylens import dense
        >>> net = dense([([[3.0, 0.0], [0.0, 2.0], [0.0, -1.0]], [0.0, 0.0, 0.0]), ([[1.0, 1.0, 1.0]], None)])
        >>> found = spectrum(net, [[1.0, 1.0], [1.0, -1.0]])
        >>> found.layers[1].values.round(decimals=6).tolist()  # behind the gate: rows 3 and 2, then 3 and -1
        [[3.0, 2.0], [3.0, 1.0]]
        >>> found.layers[1].condition.round(decimals=6).tolist()
        [1.5, 3.0]
    """
    net = in_double(net)
    _check_tolerance(tolerance)
    for value, what in ((most, "most"), (count, "count"), (steps, "steps"), (max_bytes, "max_bytes")):
        whole(value, what)
    points, _ = _points(net, X)
    asked = _asked(net, layers)
    wanted = Wanted(tuple(dict.fromkeys(a.value for a in asked)), most, count, steps, max_bytes)
    found = local_spectra(net, points.detach(), wanted)
    last = max(a.value for a in asked)
    exact = not any(node in net.smooth_steps for node in net.nodes[:last])
    return Spectrum(net, points, tuple(_layer(net, a, [one[a.value] for one in found], tolerance) for a in asked), exact)


class _Asked(NamedTuple):
    """One map to decompose: of a value, told by the name of a node and the side of it."""

    value: int
    node: int
    side: Side


def _asked(net: Network, layers: Sequence[str | int] | None) -> list[_Asked]:
    if isinstance(layers, (str, int)):
        raise InputError(f"layers: expected a list of names or positions; got {layers!r}; write [{layers!r}]")
    gates = [k for k, node in enumerate(net.nodes, 1) if has_pattern(node.step)]
    if layers is not None:
        nodes = [net.value_of(layer) for layer in layers]
    else:
        nodes = gates + ([len(net.nodes)] if len(net.nodes) not in gates and net.nodes else [])
    if not nodes:
        raise InputError("spectrum: expected at least one layer; got none; name some")
    asked = list[_Asked]()
    for k in dict.fromkeys(nodes):
        inputs = net.nodes[k - 1].inputs
        if k not in gates:
            asked.append(_Asked(k, k, "pre"))
            continue
        if len(inputs) == 1 and (inputs[0] not in gates or inputs[0] not in nodes):
            asked.append(_Asked(inputs[0], k, "pre"))
        asked.append(_Asked(k, k, "post"))
    return asked


def _layer(net: Network, asked: _Asked, found: list[Found], tolerance: float | None) -> LayerSpectrum:
    """Return the values of one map at all inputs as one table."""
    node, inputs = net.nodes[asked.node - 1], math.prod(net.input_shape)
    units, complete = math.prod(net.shape_of(asked.value)), all(one.complete for one in found)
    wide = min(units, inputs) if complete else max(len(one.values) for one in found)
    values, error = (_table([getattr(one, part) for one in found], wide, complete) for part in ("values", "error"))
    largest = values[:, 0].nan_to_num(0.0) if wide else values.new_zeros(len(found))
    limit = max(units, inputs) * EPS * largest if tolerance is None else torch.full_like(largest, float(tolerance))
    rows = torch.tensor([one.rows for one in found])
    method = tuple(one.method for one in found)
    return LayerSpectrum(node.name, node.step.kind, asked.side, (units, inputs), rows, values, error, limit, complete, method)


def _table(parts: list[Tensor], wide: int, complete: bool) -> Tensor:
    """Return lists of values as the rows of a table; what is missing is 0 of a complete list, and unknown of another."""
    missing = 0.0 if complete else torch.nan
    return torch.stack([torch.nn.functional.pad(p.cpu(), (0, wide - len(p)), value=missing) for p in parts])


def _cells(layer: LayerSpectrum) -> tuple[str, ...]:
    numbers = (_known(v) for v in (layer.largest, layer.smallest, layer.condition))
    rank = _span(layer.rank) if layer.complete else "?"
    return (layer.name, layer.side, f"{_span(layer.rows)} of {layer.shape[0]}", rank, *numbers)


def _known(values: Tensor) -> str:
    values = values[torch.isfinite(values)]
    return _span(values) if len(values) else "-"


def _plain(values: Tensor) -> list[float | int | None]:
    return [v if math.isfinite(v) else None for v in values.tolist()]
