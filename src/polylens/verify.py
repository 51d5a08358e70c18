"""Is there an input of a property whose output the property names? With a witness, by a complete cover, or not decided.

A preimage in float64 answers, and what it finds counts only when the original network confirms it in its own precision.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, final

import numpy as np
import torch
from torch import Tensor

from ._check import whole as whole_number
from ._falsify import Ascents, in_box
from ._preimage.findings import Fate, Found
from ._progress import reached
from ._rounding import evaluated
from ._types import Result
from ._vnnlib.formula import Declared
from .convert.original import original as original_of
from .domain import CUTTING, Domain, domain_of
from .errors import InputError, ShapeError
from .geometry import is_empty
from .germ import exact
from .network import Network
from .polytope import Polytope
from .preimage import Preimage, preimage
from .target import OutputSet, Part
from .vnnlib import Case, Property, holding, read_vnnlib

Array = np.ndarray[Any, Any]
_TRIED = 8  # points of a chunk of cells that the original is asked about, the deepest first
_NEAR = 1e-9  # of its terms: how far off a closed row a computed centre may be, far above rounding
_INNER = 1 << 14  # points of a chunk whose depth is computed
_BETWEEN = 1 << 13  # cells between two rounds of ascents along gradients, which take about a sixth of the time then


class Witness(NamedTuple):
    """An input (*input_shape) and the output (*output_shape) of the original there, in the original's precision."""

    input: Tensor
    output: Tensor


@final
@dataclass(frozen=True, eq=False, slots=True, repr=False)
class Verdict(Result):
    """Whether some input of a property has an output that the property names.

    `verdict` is "sat" with a `witness` that the original confirms, "unsat" where the cover of all input sets is complete and
    reaches none of the outputs, and "unknown" with the `reason`. `cells` were looked at, or dropped as a whole. `unsafe` holds
    the preimage of the outputs in each input set where the whole set was asked for, and is None otherwise. `runner` says what
    the original ran in. `fragile` decisions were taken on the way that rounding may have turned, as in `RegionCount`;
    where there are some, "unsat" is a proof up to rounding alone.
    """

    verdict: Literal["sat", "unsat", "unknown"]
    witness: Witness | None
    reason: str | None
    cells: int
    seconds: float
    unsafe: tuple[Preimage, ...] | None
    property: Property
    runner: str
    fragile: int

    def __repr__(self) -> str:
        return f"Verdict({self.verdict}, {self.property.source}, in {self.seconds:.3g} s)"

    def summary(self) -> str:
        lines = [f"{self.property.source}: {self.verdict} in {self.seconds:.3g} s, {self.cells} cells looked at"]
        if self.witness is not None:
            numbers = (" ".join(f"{v:.7g}" for v in t.reshape(-1)[:10].tolist()) for t in self.witness)
            lines += [f"  {name}: {text}" for name, text in zip(("input ", "output"), numbers, strict=True)]
            lines.append(f"  confirmed by {self.runner}")
        if self.reason is not None:
            lines.append(f"  {self.reason}")
        if self.fragile:
            lines.append(f"  {self.fragile} decisions that rounding may have turned")
        for found in self.unsafe or ():
            lines += [f"  {line}" for line in found.summary().splitlines()]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        witness = None if self.witness is None else {n: v.tolist() for n, v in self.witness._asdict().items()}
        return {
            "verdict": self.verdict,
            "property": self.property.source,
            "witness": witness,
            "confirmed_by": None if witness is None else self.runner,
            "reason": self.reason,
            "cells": self.cells,
            "fragile": self.fragile,
            "seconds": self.seconds,
            "unsafe": None if self.unsafe is None else [found.to_dict() for found in self.unsafe],
        }


def verify(
    net: Network,
    property: Property | str | os.PathLike[str],
    *,
    original: Callable[[Tensor], Tensor] | None = None,
    whole: bool = False,
    limit: int | None = None,
    time_limit: float | None = None,
    n_jobs: int = 1,
) -> Verdict:
    """Return whether some input in a property's input sets has an output in its output sets: sat, unsat or unknown.

    Properties of the verification competition name the outputs that must not occur: there sat is a counterexample, unsat a
    proof, and the whole set all counterexamples.

    Args:
        net: a piecewise-linear network; it is looked at in float64.
        property: what `read_vnnlib` or `parse_vnnlib` gives, or a file. Entries are those of the flattened input and output.
        original: what has to confirm a witness: a callable from inputs (batch, *input_shape) to outputs, such as
            `original(source, net)`; the network in float32 when None. Its attribute `dtype` tells its precision,
            float32 without one.
        whole: find all such inputs and not only one.
        limit: stop when so many pieces are found in an input set, give or take a chunk of cells.
        time_limit: stop after so many seconds.
        n_jobs: as for `iter_cells`.

    Returns: the verdict. A witness is an input in the original's precision that lies in the input set: its box, unless
        there is no such number between two sides, and its further rows up to the rounding of the input. The original's
        output there satisfies the rows of a case as they are, and all strict inequalities hold strictly.

    Raises:
        SmoothError: the network is not piecewise linear.
        ShapeError: the property is of other inputs or outputs than the network's, or declares a tensor of another shape
            (axes of size 1 may differ, and either may be flat) or the inputs that a network joins in another order.
        GeometryError: more dimensions than a subdivision can start with: 16 for a box. `preimage_near` looks around one
            input of any dimension; a plane or a generator of few inputs (`compose`) has few dimensions.
        InputError: no property, a limit that is not positive.
        FileError: as for `read_vnnlib`.

    Algorithm: for each input set the stream of `preimage`, of the union of its output sets. The centres and corners of the
    pieces that a chunk of cells holds are sorted by how deep their outputs lie; the deepest are put to the original, and
    the first that it confirms ends the search. Every 8 192 cells a round of ascents along the gradient, from random starts in
    the box and from around the deepest points so far, looks for further ones; it proves nothing, and what it finds has to be
    confirmed alike. Pieces that lie wholly on a strict row of the outputs, as float64 has it at their centres, do not count.

    References: C. Brix et al., First three years of the international verification of neural networks competition,
    STTT 25 (2023), on properties and what counts as a witness.

    Example:
        >>> from polylens import dense, parse_vnnlib, verify
        >>> net = dense([([[1.0], [-1.0]], [0.0, 0.0]), ([[1.0, 1.0]], None)])  # |x|
        >>> text = "(declare-const X_0 Real)(declare-const Y_0 Real)(assert (<= -1 X_0 2))"
        >>> verify(net, parse_vnnlib(text + "(assert (>= Y_0 2.5))")).verdict
        'unsat'
        >>> found = verify(net, parse_vnnlib(text + "(assert (>= Y_0 1.5))"), whole=True)
        >>> found.verdict, found.unsafe[0].volume
        ('sat', 0.5)
    """
    begin = time.perf_counter()
    property = _fitting(property, net)
    if limit is not None:
        whole_number(limit, "limit")
    if time_limit is not None and not (type(time_limit) in (int, float) and time_limit > 0):
        raise InputError(f"time_limit: expected a positive number of seconds, or None for no limit; got {time_limit!r}")
    confirm = _Confirm(net, original)
    run = _Run(exact(net), confirm, limit, None if time_limit is None else time.time() + time_limit, n_jobs)
    sets = list(_input_sets(property))
    unsafe = tuple(run.whole(domain, cases) for domain, cases in sets) if whole else None
    if not whole:
        for domain, cases in sets:
            run.first(domain, cases)
            if run.ended:
                break
    verdict, reason = run.verdict()
    seconds = time.perf_counter() - begin
    return Verdict(verdict, run.witness, reason, run.cells, seconds, unsafe, property, confirm.runner, run.fragile)


def _fitting(property: Property | str | os.PathLike[str], net: Network) -> Property:
    """Return the property, or raise where it is none of this network."""
    found = read_vnnlib(property) if isinstance(property, str | os.PathLike) else property
    if not isinstance(found, Property):
        raise InputError(f"verify: expected a Property or a VNN-LIB file; got {type(found).__name__}; parse_vnnlib reads text")
    sizes = math.prod(net.input_shape), math.prod(net.output_shape)
    if (found.num_inputs, found.num_outputs) != sizes:
        raise ShapeError(
            f"{found.source}: expected {sizes[0]} inputs and {sizes[1]} outputs, as the network's; the property has"
            f" {found.num_inputs} and {found.num_outputs}"
        )
    if net.inputs and len(found.inputs) > 1:
        _side_by_side(found, net)
    elif len(found.inputs) == 1:
        _in_order(found, "an input", found.inputs[0], net.input_shape)
    if len(found.outputs) == 1:
        _in_order(found, "an output", found.outputs[0], net.output_shape)
    return found


def _in_order(property: Property, what: str, declared: Declared, shape: Sequence[int]) -> None:
    """Refuse a tensor whose entries lie in another order than the network's: of other sizes, axes of size 1 apart."""
    own, other = ([size for size in sizes if size != 1] for sizes in (declared.shape, shape))
    if own != other and (min(len(own), len(other)) > 1 or math.prod(own) != math.prod(other)):
        raise ShapeError(
            f"{property.source}: expected {what} of shape {tuple(shape)}, as the network's; the property declares"
            f" {declared.name} as {declared.shape}; declare it as the model has it"
        )


def _side_by_side(property: Property, net: Network) -> None:
    """Refuse several tensors that are not the joined inputs of a network, one after the other."""
    parts, declared = [part.name for part in net.inputs], [tensor.node or tensor.name for tensor in property.inputs]
    named = all(tensor.node for tensor in property.inputs)
    if len(parts) != len(declared) or (named and parts != declared):
        raise ShapeError(
            f"{property.source}: expected the inputs {parts}, in the order in which the network joins them; the property"
            f" declares {declared}; declare all of them in this order"
        )
    for part, tensor in zip(net.inputs, property.inputs, strict=True):
        _in_order(property, f"{part.name!r}", tensor, part.shape)


def _input_sets(property: Property) -> Iterator[tuple[Domain, list[Case]]]:
    """Yield the input sets that hold a point, each with its cases."""
    for cases in property.groups():
        place = cases[0].domain
        if not (isinstance(place, Polytope) and is_empty(place).answer):
            yield domain_of(place), cases


# -- the search


@dataclass(slots=True)
class _Run:
    """A search over input sets: what it has looked at, and what it has found so far."""

    network: Network
    confirm: _Confirm
    limit: int | None
    deadline: float | None
    n_jobs: int
    cells: int = 0
    fragile: int = 0
    pieces: int = 0
    witness: Witness | None = None
    stopped: str | None = None

    @property
    def ended(self) -> bool:
        """Whether there is nothing more to look for."""
        return self.witness is not None or self.stopped is not None

    def first(self, domain: Domain, cases: list[Case]) -> None:
        """Look at an input set until a witness is confirmed."""
        from ._preimage.pullback import Search
        from ._subdivision.tasks import Job

        job = Job(self.network, domain, CUTTING, deadline=self.deadline)
        job.engine()  # what does not fit is refused here
        search = Search(job, self._target(cases))
        before, start = self.pieces, self.cells
        first, rows = cases[0], all(len(case.outputs) for case in cases)
        ascents = in_box(self.network, first.low, first.high, lambda y: _depth(y, cases)) if rows else None
        with contextlib.closing(search.found(self.n_jobs)) as stream:
            for found, fate in reached(stream, "cells", "cell", lambda _: self.cells):
                if self.limit is not None and self.pieces - before >= self.limit:
                    self.stopped = "limit"  # and there is more to look at
                    return
                self._count(fate)
                self._try(domain, cases, _of_chunk(found))
                self._ascend(ascents, self.cells - start, cases)
                self.pieces += self._reaching(domain, cases, _centres(found))
                if self.ended or self._late():
                    return
        self._late()  # workers may have ended before their last cells

    def whole(self, domain: Domain, cases: list[Case]) -> Preimage:
        """Return the preimage in an input set, and look for a witness in it."""
        left = None if self.deadline is None else max(self.deadline - time.time(), 1e-3)
        found = preimage(
            self.network, self._target(cases, strict=True), domain, limit=self.limit, time_limit=left, n_jobs=self.n_jobs
        )  # fmt: skip
        self._count(found.fate)
        self.pieces += len(found)
        self.stopped = self.stopped or found.reason
        self._try(domain, cases, _of_preimage(found))
        if found.is_empty and _is_strict(cases) and not self.ended:
            self.first(domain, cases)  # what a strict row leaves out by less than the tolerance may still be reached
        return found

    def verdict(self) -> tuple[Literal["sat", "unsat", "unknown"], str | None]:
        """Return what is known in the end, and why it is no more."""
        if self.witness is not None:
            return "sat", None
        unconfirmed = f"{self.pieces} pieces reach the outputs in float64, but {self.confirm.runner} confirms none of"
        unconfirmed += f" {self.confirm.asked} points"
        if self.stopped is not None:
            return "unknown", f"ended by {self.stopped}" + (f"; {unconfirmed}" if self.pieces else "")
        return ("unknown", unconfirmed) if self.pieces else ("unsat", None)

    def _target(self, cases: list[Case], strict: bool = False) -> OutputSet:
        """Return the outputs of any case, closed unless `strict` rows are to stay so."""
        held = [case for case in cases if not (len(case.outputs) and is_empty(case.outputs).answer)]
        parts = (Part.of(c.outputs.matrix, c.outputs.bound, c.strict.outputs if strict else None) for c in held)
        return OutputSet(tuple(parts), math.prod(self.network.output_shape)).disjoint()

    @torch.no_grad()
    def _reaching(self, domain: Domain, cases: list[Case], centres: Array) -> int:
        """Return how many pieces do not lie wholly on a strict row: their centres, which are interior, lie on none."""
        if not len(centres) or not _is_strict(cases):
            return len(centres)
        x = domain.embed(centres).reshape(-1, *self.network.input_shape)
        y, terms = (t.flatten(1).cpu() for t in evaluated(self.network, x.to(self.network.device), _NEAR))
        return int(self._target(cases, strict=True).holds(y, _NEAR, terms).sum())

    def _count(self, fate: Fate) -> None:
        self.cells += sum(fate.dropped) + sum(fate.counts)
        self.fragile += fate.fragile

    def _try(self, domain: Domain, cases: list[Case], points: Array) -> None:
        if len(points) and self.witness is None:
            self.witness = self.confirm(domain.embed(points), cases)

    def _ascend(self, ascents: Ascents | None, cells: int, cases: list[Case]) -> None:
        """Follow gradients now and then: a witness may lie far ahead of the cells."""
        if ascents is not None and self.witness is None and cells >= (ascents.rounds + 1) * _BETWEEN:
            inputs = ascents.next_round()
            self.witness = self.confirm(inputs, cases) if len(inputs) else None

    def _late(self) -> bool:
        if self.deadline is not None and time.time() > self.deadline:
            self.stopped = "time_limit"
        return self.stopped is not None


def _is_strict(cases: list[Case]) -> bool:
    return any(bool(case.strict.outputs.any()) for case in cases)


def _centres(found: Found) -> Array:
    """Return a point (pieces, dim) in the relative interior of every piece that a chunk holds."""
    parts = [solid.cells.centres() for solid in found.solid]
    for flat in found.flat:
        rays = flat.generators.points[flat.generators.weight == 0]
        parts.append((_corners(flat.generators.points, flat.generators.weight).mean(0) + rays.sum(0))[None])
    return np.concatenate(parts) if parts else np.zeros((0, 0))


def _of_chunk(found: Found) -> Array:
    """Return points (points, dim) of the pieces that a chunk holds: their centres and their corners."""
    parts = [_centres(found)]
    parts += [_corners(solid.cells.points, solid.cells.weight) for solid in found.solid]
    parts += [_corners(flat.generators.points, flat.generators.weight) for flat in found.flat]
    return np.concatenate(parts) if len(parts[0]) else parts[0]


def _of_preimage(found: Preimage) -> Array:
    middles = [piece.middle for piece in found]
    return (
        np.concatenate([np.stack(middles), _corners(found.arrays.points, found.arrays.weight)]) if middles else np.zeros((0, 0))
    )


def _corners(points: Array, weight: Array) -> Array:
    finite = weight > 0
    corners: Array = points[finite] / weight[finite, None]
    return corners


# -- the witness


class _Confirm:
    """Puts inputs to the original, those first whose outputs lie deepest."""

    def __init__(self, net: Network, original: Callable[[Tensor], Tensor] | None) -> None:
        self.network = net.double()
        self.original = original_of(net, net) if original is None else original
        self.dtype = getattr(self.original, "dtype", torch.float32)
        self.runner = getattr(self.original, "runner", "the original")
        self.asked = 0

    @torch.no_grad()
    def __call__(self, x: Tensor, cases: list[Case]) -> Witness | None:
        """Return the first of the deepest inputs (batch, num_inputs) that the original confirms."""
        x = x[torch.linspace(0, len(x) - 1, min(len(x), _INNER)).long()]
        x = torch.cat([x, _plain(x, cases[0])])
        rounded = _rounded(x, cases[0], self.dtype)
        allowed = _within(rounded, x, cases[0])
        depth = _depth(self.network(self._shaped(rounded.double())).flatten(1).cpu(), cases)
        order = torch.where(allowed, depth, -torch.inf).argsort(descending=True, stable=True)[:_TRIED]
        order = order[allowed[order]]
        if not len(order):
            return None
        inputs = self._shaped(rounded[order])
        outputs = self.original(inputs)
        self.asked += len(order)
        held = _holds(outputs.double().flatten(1).cpu(), cases)
        first = int(held.long().argmax())
        return Witness(inputs[first].cpu(), outputs[first].cpu()) if bool(held[first]) else None

    def _shaped(self, x: Tensor) -> Tensor:
        return x.reshape(-1, *self.network.input_shape)


def _plain(x: Tensor, case: Case) -> Tensor:
    """Return inputs rounded to 18 bits of the box: outputs that are only touched are, as a rule, touched at plain numbers."""
    sides = torch.cat([torch.stack([case.low, case.high]), x]).abs()
    size = torch.where(torch.isfinite(sides), sides, 0.0).amax(0).clamp(min=1e-300)
    unit = torch.exp2(torch.ceil(torch.log2(size)) - 18)
    return torch.round(x / unit) * unit


def _rounded(x: Tensor, case: Case, dtype: torch.dtype) -> Tensor:
    """Return the nearest inputs of a precision within the box; the nearest of all where the box holds none."""
    near = x.to(dtype)
    step = torch.finfo(dtype).eps * x.abs() + torch.finfo(dtype).tiny
    above, below = _boxed(near, case)
    for out, moved in ((~above, x + step), (~below, x - step)):
        moved = moved.to(dtype)  # the next number, or the one behind it
        near = torch.where(out & torch.stack(_boxed(moved, case)).all(0), moved, near)
    return near


def _boxed(x: Tensor, case: Case) -> tuple[Tensor, Tensor]:
    """Return whether entries are on the right side of their lower and of their upper side."""
    exact = x.double()
    return holding(exact - case.low, case.strict.low), holding(case.high - exact, case.strict.high)


def _within(rounded: Tensor, x: Tensor, case: Case) -> Tensor:
    """Return whether rounded inputs are in the input set: entries without a number between their sides are the nearest."""
    exact = rounded.double()
    unit = torch.finfo(rounded.dtype).eps
    inside, meant = (torch.stack(_boxed(v, case)).all(0) for v in (rounded, x))
    inside |= meant & (case.high - case.low < unit * x.abs()) & ((exact - x).abs() <= unit * x.abs())
    rows = case.inputs
    room = torch.where(case.strict.inputs, 0.0, unit * (exact.abs() @ rows.matrix.abs().T))
    return inside.all(1) & holding(rows.slack(exact) + room, case.strict.inputs).all(1)


def _depth(y: Tensor, cases: list[Case]) -> Tensor:
    """Return how far outputs are from the nearest side of the case in which they lie deepest; negative outside of all."""
    return torch.stack([case.outputs.distance_to_boundary(y).distance for case in cases]).amax(0)


def _holds(y: Tensor, cases: list[Case]) -> Tensor:
    """Return whether outputs satisfy all rows of some case."""
    finite = torch.isfinite(y).all(1)
    y = torch.where(finite[:, None], y, 0.0)
    return finite & torch.stack([holding(c.outputs.slack(y), c.strict.outputs).all(1) for c in cases]).any(0)
