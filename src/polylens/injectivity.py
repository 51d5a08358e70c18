"""Whether a layer sends different inputs to different outputs, on the whole space, a ball, a box or a polytope.

On an open set, or a convex one with an interior, ReLU(A x + b) is injective iff for every x of it the rows with
a.x + b >= 0 span the space.
"""

from __future__ import annotations

import importlib
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ._check import ArrayLike, array, as_tensor, finite, floating, whole
from ._injectivity import spanning
from ._injectivity.collapse import Collapse, Hunt, Rows, constructed, hunt, kernel_step, null_vector
from ._injectivity.everywhere import Verdict, by_cells, by_flats, reduced, reflected
from ._injectivity.place import Place, Polyhedron, UnitBall
from ._lp import deepest
from ._types import Result, Tolerance
from .ball import Ball
from .domain import Box, Domain, Slice, WholeSpace, domain_of
from .errors import GeometryError, InputError, ShapeError, UnsupportedError
from .gates import Gate as GateStep
from .layer_map import layer_map
from .network import Network
from .polytope import Polytope
from .smooth import is_rising
from .steps import Affine
from .subdivision import max_regions

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[np.float64]
Gate = Literal["relu", "leaky_relu", "crelu", "abs", "identity"]
GATES: tuple[Gate, ...] = ("relu", "leaky_relu", "crelu", "abs", "identity")

TOLERANCE = Tolerance()
LIMIT = 1 << 20  # cells: a few seconds up to dimension 5, more beyond
PROGRAMS = 256  # cells take as long as a linear program
QUICK = 2000  # cells that take less than a search does
_CORNERS = 10  # dimensions up to which a box has few enough corners
MOST_ENTRIES = 1 << 25  # of a layer's matrix: 256 MB


@final
@dataclass(frozen=True, eq=False, slots=True, repr=False)
class Injectivity(Result):
    """Whether a layer is injective on its domain: `answer` True, False, or None for undecided.

    True: `constant` c, where known, has |f(x) - f(x')| >= c |x - x'| for all x and x' of the domain. False: the output is one
    along `direction` (n,), of length 1, from `point` (n,), for steps within `interval`; `pair` (2, n) are two inputs of it. For
    an `abs` gate the two of the pair share an output, which is another between them. None: `settled` of the `dim` directions
    of the domain always have an active row, and no point was met whose active rows, scaled to length 1, have a singular value
    below `lowest`.

    `method` says what decided: "rank", "lines" (every direction has a row that is always active), "cells" or "flats" (all
    `checked` of them), "counting" (fewer than twice as many units as inputs) or "search".
    """

    answer: bool | None
    gate: Gate
    weight: Tensor
    bias: Tensor
    domain: Domain | Ball
    dim: int
    method: str
    checked: int
    settled: int
    constant: float | None
    lowest: float | None
    point: Tensor | None
    direction: Tensor | None
    interval: tuple[float, float] | None
    pair: Tensor | None

    def __repr__(self) -> str:
        return f"Injectivity({self.answer}, {self.weight.shape[1]} -> {self.weight.shape[0]}, {self.gate}, by {self.method})"

    def summary(self) -> str:
        m, n = self.weight.shape
        of = f"{self.gate} layer of {m} units on {n} inputs, on {self.domain!r}"
        if self.answer is None:
            seen = "" if self.lowest is None else f"; the weakest active rows met have a singular value of {self.lowest:.3g}"
            return f"undecided: {of}\n  {self.settled} of {self.dim} directions always have an active row{seen}"
        if self.answer:
            bound = "" if self.constant is None else f"\n  |f(x) - f(x')| >= {self.constant:.3g} |x - x'|"
            return f"injective: {of}\n  decided by {self._how}{bound}"
        assert self.pair is not None
        assert self.interval is not None
        apart = float(torch.linalg.vector_norm(self.pair[1] - self.pair[0]))
        low, high = self.interval
        shared = "mirrored inputs" if self.gate == "abs" else f"steps from {low:.4g} to {high:.4g} along one direction"
        return (
            f"not injective: {of}\n  found by {self._how}\n  {shared} share an output; two inputs of them are {apart:.4g} apart"
        )

    @property
    def _how(self) -> str:
        return f"{self.method} ({self.checked:,} asked)" if self.checked else self.method

    def to_dict(self) -> dict[str, Any]:
        tensors = {name: getattr(self, name) for name in ("point", "direction", "pair")}
        return {
            "answer": self.answer,
            "gate": self.gate,
            "shape": list(self.weight.shape),
            "domain": self.domain.to_dict() | {"volume": None} if isinstance(self.domain, Domain) else self.domain.to_dict(),
            "dim": self.dim,
            "method": self.method,
            "checked": self.checked,
            "settled": self.settled,
            "constant": _finite(self.constant),
            "lowest": _finite(self.lowest),
            "interval": None if self.interval is None else [_finite(t) for t in self.interval],
            **{name: None if v is None else v.tolist() for name, v in tensors.items()},
        }

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Draw the plane of a layer with two inputs: how many directions its active rows span, and the pair of a collapse."""
        axes: Axes = importlib.import_module("polylens.plotting.injectivity").draw(self, ax, **options)
        return axes


def is_injective(
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    domain: Domain | Ball | Polytope | None = None,
    *,
    gate: Gate = "relu",
    slope: float = 0.01,
    limit: int = LIMIT,
    starts: int = 16,
    seed: int = 0,
) -> Injectivity:
    """Return whether a layer x -> gate(A x + b) is injective on a domain, with a lower bound of its stretch or two inputs.

    ReLU is iff for every x the rows with a.x + b >= 0 span the space; rows on the verge count, so that [B; -B] is injective
    though no row of it is positive at 0. LeakyReLU, CReLU and no gate are iff all rows span. |A x + b| is iff wherever rows
    vanish the others span. A flat domain is seen within its flat, a single point is injective; boundaries change nothing but
    for `abs`.

    Args:
        weight: (m, n).
        bias: (m,), 0 where None.
        domain: where inputs come from: the whole space when None, a `Ball`, a `Box` (infinite sides too), any other domain,
            or a polytope.
        gate: "relu", "leaky_relu", "crelu" (ReLU of z and of -z), "abs" or "identity".
        slope: that of "leaky_relu" below 0; positive.
        limit: the most cells that are looked at, if there may be more, all are not; a linear program counts as 256 of them.
        starts: of the search for two inputs with one output, where there are too many cells.
        seed: of its starts.

    Raises:
        InputError: NaN, infinity, an unknown gate, a slope that is not positive.
        ShapeError: weight, bias and domain do not fit one another.
        GeometryError: an empty polytope.

    Algorithm: directions along which a row is active throughout are settled (bounds of the rows over the domain; parallel
    rows whose halfspaces cover it). The others: fewer than 2 n units never are on the whole space; otherwise all cells of the
    arrangement of the rows by `iter_cells`, at most sum C(m, i) of them, with a singular value each; or, with few rows
    left in any dimension, a linear program for each of C(m', r - 1) flats; or a search by descent on how the active rows
    stretch their weakest direction. To decide it is coNP-complete, so that large layers may stay undecided.

    References: Puthawala, Kothari, Lassas, Dokmanic, de Hoop, Globally injective ReLU networks (JMLR 2022), theorem 2;
    Haider, Ehler, Balazs, Convex geometry of ReLU-layers, injectivity on the ball and local reconstruction (ICML 2023);
    Bruna, Szlam, LeCun, Signal recovery from pooling representations (2014).

    >>> is_injective([[1.0], [-1.0]], [-1.0, 2.0]).answer  # a row with a negative bias is needed here
    True
    >>> found = is_injective([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]])
    >>> found.answer, torch.relu(found.pair @ found.weight.T).diff(dim=0).abs().max().item() < 1e-14
    (False, True)
    """
    w, b = _checked(weight, bias)
    if gate not in GATES:
        raise InputError(f"gate: expected one of {', '.join(GATES)}; got {gate!r}")
    if gate == "leaky_relu" and not (math.isfinite(slope) and slope > 0):
        raise InputError(f"slope: expected a positive number; got {slope!r}; below 0 two inputs share an output")
    counts = whole(limit, "limit"), whole(starts, "starts", 0), whole(seed, "seed", 0)
    return _answer(_Question(w, b, gate, slope, _domain(domain, w.shape[1]), *counts))


def is_layer_injective(
    net: Network,
    layer: str | int,
    domain: Domain | Ball | Polytope | None = None,
    *,
    limit: int = LIMIT,
    starts: int = 16,
    seed: int = 0,
) -> Injectivity:
    """Return whether a layer of a network is injective on what reaches it: what is affine in front of a gate, and the gate.

    Args:
        net: any network.
        layer: a gate's name or position among the gates, ReLU, LeakyReLU, Abs or a strictly increasing function such as
            tanh, which hides nothing, but leaves no bound; or an affine step's name.
        domain: of the values that the layer starts from, flattened; when None the whole space, or x >= 0 behind a ReLU or Abs.
        limit: as for `is_injective`.
        starts: as for `is_injective`.
        seed: as for `is_injective`.

    Raises:
        UnsupportedError: another gate, a layer that joins several values, or a matrix of more than 2^25 entries.
        InputError: a name that is not there.
        GeometryError, ShapeError: as for `is_injective`.

    Algorithm: that of `is_injective`, on the layer's matrix.

    >>> from polylens import dense
    >>> net = dense([([[1.0], [-1.0]], None), ([[2.0, 1.0]], None)])
    >>> is_layer_injective(net, "relu1").answer, is_layer_injective(net, "linear2").answer
    (True, False)
    """
    value = net.value_of(layer)
    node = net.nodes[value - 1]
    gate, slope = _gate_of(node.name, node.step)
    found = layer_map(net, value if isinstance(node.step, Affine) else node.inputs[0])
    if found.inputs * found.outputs > MOST_ENTRIES:
        raise UnsupportedError(
            f"{node.name}: expected a layer whose matrix has at most {MOST_ENTRIES:,} entries; got {found.outputs:,} x"
            f" {found.inputs:,}; ask for a smaller layer"
        )
    if domain is None and found.source and _nonnegative(net, found.source):
        domain = Box(torch.zeros(found.inputs), torch.full((found.inputs,), torch.inf))
    weight, bias = found.matrix().cpu(), found.offset.cpu()
    answer = is_injective(weight, bias, domain, gate=gate, slope=slope, limit=limit, starts=starts, seed=seed)
    return replace(answer, constant=None) if is_rising(node.step) else answer  # such a gate may flatten without bound


def _gate_of(name: str, step: object) -> tuple[Gate, float]:
    """Return the word for what ends a layer, and the least of its slopes in size."""
    if isinstance(step, Affine) or is_rising(step):
        return "identity", 1.0
    if isinstance(step, GateStep):
        if step.kind == "relu":
            return "relu", 0.0
        if step.kind == "abs":
            return "abs", 1.0
        plain = step.num_pieces == 2 and not bool(step.breakpoints.any()) and not bool(step.intercepts.any())
        if plain and bool((step.slopes > 0).all()):
            return "leaky_relu", float(step.slopes.min())
    kind = getattr(step, "kind", type(step).__name__)
    raise UnsupportedError(
        f"{name}: expected ReLU, LeakyReLU, Abs, a strictly increasing gate or an affine step; got {kind};"
        " ask for another layer"
    )


def _nonnegative(net: Network, value: int) -> bool:
    step = net.nodes[value - 1].step
    return isinstance(step, GateStep) and step.kind in ("relu", "abs")


# -- what is asked


class _Question(NamedTuple):
    weight: Tensor
    bias: Tensor
    gate: Gate
    slope: float
    domain: Domain | Ball
    limit: int
    starts: int
    seed: int


class _Seen(NamedTuple):
    """A layer in the coordinates of its domain: unit rows, their lengths, the place, and the way back: x = origin + basis u."""

    rows: Rows
    lengths: Array
    place: Place
    cells: Domain
    origin: Array
    basis: Array

    @property
    def stretch(self) -> float:
        """The most that a step in coordinates is longer in the input."""
        return float(np.linalg.norm(self.basis, 2)) if self.basis.size else 1.0


class _Decision(NamedTuple):
    answer: bool | None
    method: str
    verdict: Verdict = Verdict(None)
    settled: int = 0
    constant: float = 0.0
    lowest: float = math.inf


def _checked(weight: ArrayLike, bias: ArrayLike | None) -> tuple[Tensor, Tensor]:
    tensors = []
    for value, what in ((weight, "weight"), (bias, "bias")):
        given = array([] if value is None else value, what)
        floating(given, what)
        tensors.append(finite(as_tensor(given, torch.float64, torch.device("cpu")).detach(), what))
    w, b = tensors
    if w.ndim != 2 or not w.shape[1]:
        raise ShapeError(f"weight: expected shape (units, inputs) with an input at least; got {tuple(w.shape)}")
    if bias is None:
        b = torch.zeros(len(w), dtype=torch.float64)
    if b.shape != w.shape[:1]:
        raise ShapeError(f"bias: expected shape ({len(w)},); got {tuple(b.shape)}")
    return w, b


def _domain(domain: Domain | Ball | Polytope | None, inputs: int) -> Domain | Ball:
    if domain is None:
        return WholeSpace(inputs)
    found = domain if isinstance(domain, Ball) else domain_of(domain)
    size = found.dim if isinstance(found, Ball) else found.num_inputs
    if size != inputs:
        raise ShapeError(f"domain: expected one of {inputs} entries, as the layer's inputs; got {found!r}")
    return found


def _seen(asked: _Question) -> _Seen:
    domain = asked.domain
    if isinstance(domain, Ball):
        place: Place = UnitBall(domain.dim)
        cells: Domain = Box(-torch.ones(domain.dim), torch.ones(domain.dim))
        origin, basis = domain.center.numpy(), domain.radius * np.eye(domain.dim)
        weight, bias = asked.weight * domain.radius, asked.bias + asked.weight @ domain.center
    else:
        unit = _size(domain)
        place, cells = _polyhedron(domain, unit)
        origin, basis = domain.origin.numpy(), unit * domain.basis.numpy()
        weight, bias = asked.weight @ domain.basis * unit, asked.bias + asked.weight @ domain.origin
    rows, lengths = spanning.unit(weight.numpy())
    kept = lengths > 0
    offsets = bias.numpy()[kept] / lengths[kept]
    return _Seen(Rows(rows[kept], offsets), lengths[kept], place, cells, origin, basis)


def _size(domain: Domain) -> float:
    """Return the power of two near the largest distance of a wall from the origin: what lengths are measured in."""
    sides = domain.sides
    norms = torch.linalg.vector_norm(sides.matrix, dim=1)
    far = float((sides.bound.abs() / norms)[norms > 0].amax()) if bool((norms > 0).any()) else 0.0
    return 2.0 ** math.frexp(far)[1] if 2.0**-1000 < far < 2.0**1000 else 1.0


def _polyhedron(domain: Domain, unit: float) -> tuple[Polyhedron, Domain]:
    """Return a domain in its own coordinates, in units of `unit`: as a place, and as what cells are cut from."""
    sides = Polytope.of(domain.sides.matrix, domain.sides.bound / unit)
    if isinstance(domain, WholeSpace):
        return Polyhedron(sides, np.zeros(domain.dim)), domain
    if isinstance(domain, Box):
        low, high = domain.low / unit, domain.high / unit
        ends = (
            torch.where(low.isfinite(), low, high.clamp(max=0.0) - 2),
            torch.where(high.isfinite(), high, low.clamp(min=0.0) + 2),
        )
        middle = (torch.where(ends[0] > low, ends[0], low) + ends[1]) / 2 if domain.dim else torch.zeros(0, dtype=torch.float64)
        return Polyhedron(sides, middle.numpy()), Box(low, high) if domain.dim else domain
    deep = deepest(sides.matrix, sides.bound)
    if deep is None or (domain.dim and deep.depth <= deep.rounding):
        raise GeometryError(f"domain: expected one with an interior in its flat; none was found in {domain!r}")
    return Polyhedron(sides, deep.point.numpy()), Slice(sides)


# -- the answer


def _answer(asked: _Question) -> Injectivity:
    seen = _seen(asked)
    decision = _decided(asked, seen)
    found = decision.verdict.found
    shown = (None, None, None, None) if found is None else _witness(asked, seen, found)
    if found is not None and shown[3] is None:
        decision = decision._replace(answer=None)
        shown = (None, None, None, None)
    constant = decision.constant / seen.stretch if decision.answer else 0.0
    return Injectivity(
        decision.answer,
        asked.gate,
        asked.weight,
        asked.bias,
        asked.domain,
        seen.place.dim,
        decision.method,
        decision.verdict.checked,
        decision.settled,
        constant if constant > 0 else None,
        decision.lowest if decision.answer is None and math.isfinite(decision.lowest) else None,
        *shown,
    )


def _decided(asked: _Question, seen: _Seen) -> _Decision:
    dim = seen.place.dim
    if dim == 0:
        return _Decision(True, "rank")
    least = spanning.least_value(seen.rows.rows)
    if least <= TOLERANCE.relative:
        v = null_vector(seen.rows.rows, dim)
        found = None if v is None else kernel_step(seen.rows, seen.place, v)
        return _Decision(False if found else None, "rank", Verdict(None, found=found), lowest=least)
    if asked.gate == "relu":
        return _relu(asked, seen)
    if asked.gate == "abs":
        verdict = reflected(seen.rows, seen.place, max(1, asked.limit // PROGRAMS))
        return _Decision(verdict.answer, "flats", verdict)
    stretch = {"identity": 1.0, "crelu": math.sqrt(0.5), "leaky_relu": min(1.0, asked.slope)}[asked.gate]
    return _Decision(True, "rank", settled=dim, constant=stretch * spanning.least_value(seen.rows.rows * seen.lengths[:, None]))


def _relu(asked: _Question, seen: _Seen) -> _Decision:
    found = constructed(seen.rows, seen.place)
    if found is not None:
        return _Decision(False, "counting", Verdict(False, found=found))
    rest = reduced(seen.rows, seen.lengths, seen.place)
    dim = seen.place.dim
    settled = dim - rest.rank
    if not rest.rank:
        return _Decision(True, "lines", settled=settled, constant=spanning.least_value(rest.always) / 2)
    many = max_regions(len(rest.left.rows), dim) if dim <= _CORNERS else math.inf
    hunted = Hunt(None, math.inf)
    if many > min(QUICK, asked.limit):
        hunted = hunt(seen.rows, seen.place, asked.starts, asked.seed)
        if hunted.found is not None:
            return _Decision(False, "search", Verdict(False, found=hunted.found))
    if many <= asked.limit:
        verdict = by_cells(rest, seen.cells, asked.limit)
        return _Decision(verdict.answer, "cells", verdict, settled, verdict.sigma / 2)
    if spanning.num_choices(len(rest.left.rows), rest.rank) * PROGRAMS <= asked.limit and _spans(rest.parts, rest.rank):
        verdict = by_flats(rest)
        return _Decision(verdict.answer, "flats", verdict, settled)
    return _Decision(None, "search", settled=settled, lowest=hunted.lowest)


def _spans(rows: Array, dim: int) -> bool:
    return len(rows) >= dim and spanning.least_value(rows) > TOLERANCE.relative


# -- two inputs with one output


def _witness(
    asked: _Question, seen: _Seen, found: Collapse
) -> tuple[Tensor | None, Tensor | None, tuple[float, float] | None, Tensor | None]:
    """Return the collapse in the input's coordinates, and two inputs whose outputs were compared; no pair if they differ."""
    point, step = seen.origin + seen.basis @ found.point, seen.basis @ found.direction
    largest = float(np.abs(step).max())  # whose square may be 0
    size = largest * float(np.linalg.norm(step / largest))
    direction, interval = step / size, (found.interval[0] * size, found.interval[1] * size)
    far = 1.0 + float(np.linalg.norm(point))
    ends = [math.copysign(min(abs(t), far), t) * (1 - 2.0**-20) for t in interval]
    pair = torch.from_numpy(np.stack([point + t * direction for t in ends]))
    return (
        torch.from_numpy(point),
        torch.from_numpy(direction),
        interval,
        pair if _same_output(asked, pair) else None,
    )


def _same_output(asked: _Question, pair: Tensor) -> bool:
    z = pair @ asked.weight.T + asked.bias
    gate = {"relu": torch.relu, "abs": torch.abs}.get(asked.gate, lambda values: values)
    size = torch.linalg.vector_norm(pair, dim=1).max() * torch.linalg.vector_norm(asked.weight, dim=1)
    room = TOLERANCE.relative * (size + asked.bias.abs())
    apart = float(torch.linalg.vector_norm(pair[1] - pair[0]))
    first, second = gate(z)
    return apart > 0 and bool(((first - second).abs() <= room).all())


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
