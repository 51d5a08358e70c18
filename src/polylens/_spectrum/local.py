"""The singular values of the local maps of several values at single inputs: which way each is decomposed, and that done."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, final

import torch
from torch import Tensor

from .._progress import progress
from .._rounding import flat_sizes, term_sizes
from .._types import Tolerance
from ..errors import InputError
from ..gates import Diagonal
from ..local import at_points, maps, pull, push
from ..network import Network
from ..smooth import Smooth
from ..steps import Affine
from .all_columns import all_columns, bytes_of_columns, passing
from .krylov import extremes
from .singular import Values, gram_of, singular_values


class Wanted(NamedTuple):
    """What is asked for: the numbers of `values`, and how large matrices may become before only extremes are searched for."""

    values: tuple[int, ...]
    most: int
    ends: int
    steps: int
    max_bytes: int


class Search(NamedTuple):
    """How many extreme values are searched for at either end, in how many steps, where nobody says so."""

    ends: int
    steps: int


EXTREMES = Search(3, 200)


@final
@dataclass(frozen=True, eq=False, slots=True)
class Found:
    """The singular values of one map at one input, their errors, how they were found, and the number of rows that are not 0."""

    values: Tensor
    error: Tensor
    method: str
    rows: int

    @property
    def complete(self) -> bool:
        """Whether these are all values but zeros."""
        return self.method != "krylov"


@torch.no_grad()
def local_spectra(net: Network, points: Tensor, wanted: Wanted) -> list[dict[int, Found]]:
    """Return the singular values of every wanted value at each of the points, in float64."""
    shared = dict[int, Found]()  # what is in front of every gate is the same at all points
    return [_Point(net, point, wanted, shared).spectra() for point in progress(points.split(1), len(points), "singular values")]


class _Point:
    """The network around one input."""

    def __init__(self, net: Network, point: Tensor, wanted: Wanted, shared: dict[int, Found]) -> None:
        self.net, self.wanted, self.shared, self.last = net, wanted, shared, max(wanted.values)
        self.local = at_points(net, point, self.last)
        self.inputs = math.prod(net.input_shape)
        self.constant = _in_front_of_gates(net, self.last)
        self.noise = self._noise()

    def spectra(self) -> dict[int, Found]:
        net, most, room = self.net, self.wanted.most, self.wanted.max_bytes
        if self.inputs <= most and bytes_of_columns(net, self.last) <= room:
            found = self._by_columns()
        else:
            small = [v for v in self.wanted.values if (m := self._units(v)) <= most and 8 * m * self.inputs <= room]
            found = {v: self._by_rows(v) if v in small else self._by_search(v) for v in self.wanted.values}
        self.shared |= {v: one for v, one in found.items() if v in self.constant}
        return found

    def _by_columns(self) -> dict[int, Found]:
        found, grams, wanted = dict[int, Found](), dict[int, Tensor](), set(self.wanted.values)
        for k, columns in all_columns(self.net, self.local, self.last):
            if k not in wanted:
                continue
            if k in self.shared and self._gate_of(k) is None:
                found[k] = self.shared[k]
                continue
            whole = self._halves(k, columns, grams)
            rows = self._rows_of(k)
            if k in self.shared:
                found[k] = self.shared[k]
            else:
                kept = columns if bool(rows.all()) else columns[:, rows]
                found[k] = self._found(k, singular_values(kept, whole if whole is not None else grams.pop(k, None)))
        return found

    def _halves(self, k: int, columns: Tensor, grams: dict[int, Tensor]) -> Tensor | None:
        """Return the Gram matrix in front of a ReLU, having kept that of the units it passes for the value behind it."""
        gate = self._gate_of(k)
        if gate is None or min(columns.shape) <= 256 or bool(self.noise[k].any()):
            return None
        passes = passing(self.local[gate - 1], columns.shape[1])
        if passes is None or int(passes.sum()) < len(columns):
            return None
        grams[gate] = gram_of(columns, passes)
        return None if k in self.shared else grams[gate] + gram_of(columns, ~passes)

    def _gate_of(self, k: int) -> int | None:
        """Return the value behind a gate of slopes 0 and 1 that reads value k and is wanted too."""
        for v in self.wanted.values:
            step = self.local[v - 1] if v else None
            if isinstance(step, Diagonal) and self.net.nodes[v - 1].inputs == (k,):
                return v if bool(((step.slope == 0) | (step.slope == 1)).all()) and not bool(self.noise[v].any()) else None
        return None

    def _by_rows(self, value: int) -> Found:
        weight = maps(self.net, 1, lambda _: self.local[:value], {value: None}, self.wanted.max_bytes)[value][0][0]
        return self._found(value, singular_values(weight[self._rows_of(value)].T))

    def _by_search(self, value: int) -> Found:
        if value in self.shared:
            return self.shared[value]
        shape, net, local = self.net.shape_of(value), self.net, self.local[:value]

        def product(x: Tensor) -> Tensor:
            return push(net, local, x.T.reshape(1, -1, *net.input_shape), {value})[value].reshape(x.shape[1], -1).T

        def adjoint(y: Tensor) -> Tensor:
            return pull(net, local, value, y.T.reshape(1, -1, *shape)).reshape(y.shape[1], -1).T

        start = torch.randn(self._units(value), 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        one = extremes(product, adjoint, start.to(net.device), self.inputs, steps=self.wanted.steps, count=self.wanted.ends)
        return Found(one.values, one.error, "krylov", int(self._passes(value).sum()))

    def _found(self, value: int, values: Values) -> Found:
        if not bool(torch.isfinite(values.values).all()):
            name = self.net.nodes[value - 1].name if value else "the input"
            raise InputError(
                f"spectrum: expected inputs at which the network is differentiable; the map of {name} is not finite"
            )
        return Found(*values, int(self._passes(value).sum()))

    def _units(self, value: int) -> int:
        return math.prod(self.net.shape_of(value))

    def _passes(self, value: int) -> Tensor:
        """Return which units of a value pass anything on, by the gate that puts it out."""
        units = self._units(value)
        mask = passing(self.local[value - 1], units) if value else None
        return torch.ones(units, dtype=torch.bool, device=self.net.device) if mask is None else mask

    def _rows_of(self, value: int) -> Tensor:
        """Return which rows of a map are neither 0 nor rounding of their terms."""
        return self._passes(value) & ~self.noise[value]

    def _noise(self) -> dict[int, Tensor]:
        """Return which units' rows are rounding of their terms, by value; none where the sizes of terms are not known."""
        values = {v for k in self.wanted.values if k for v in (k, *self.net.nodes[k - 1].inputs)}
        none = {v: torch.zeros(self._units(v), dtype=torch.bool, device=self.net.device) for v in values | {0}}
        if any(isinstance(node.step, Smooth) and not node.step.elementwise for node in self.net.nodes[: self.last]):
            return none
        relative = Tolerance().relative
        sizes = term_sizes(self.net, self.local, sorted(values - {0}), relative)
        lengths = self._lengths(sorted(values - {0}))
        return none | {v: lengths[v] <= flat_sizes(sizes[v]).row[0] * relative for v in values - {0}}

    def _lengths(self, values: list[int]) -> dict[int, Tensor]:
        """Return about how long the rows of maps are, by the images of a few random columns."""
        random = torch.randn(1, 8, *self.net.input_shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        images = push(self.net, self.local, random.to(self.net.device), set(values))
        return {v: images[v][0].reshape(8, -1).square().mean(0).sqrt() for v in values}


def _in_front_of_gates(net: Network, last: int) -> set[int]:
    """Return the values that only affine steps lead to."""
    found = {0}
    for k, node in enumerate(net.nodes[:last], 1):
        if isinstance(node.step, Affine) and found.issuperset(node.inputs):
            found.add(k)
    return found
