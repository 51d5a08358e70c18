"""A walk back through a chain of links: what is known of every value, how sure it is, and why it ends where it ends.

A batch walks together. Known entries have a value and probes of its error; others lie in an interval. Rounding is noise of
known size, added where it arises and carried back by the derivatives of the inverses.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, final

import torch
from torch import Tensor

from .._types import Tolerance
from ..errors import UnsupportedError
from ..gates import Diagonal, MaxGate
from ..network import section
from ..smooth import Smooth
from ..steps import Scale, flat
from . import elementwise as _undo
from .affine import EPS, ROUNDING, Affine
from .factors import Factors
from .links import Link
from .residual import residual

PROBES = 16
_SURE = 8.0  # standard deviations of its error that a value is known up to
_PROOF = 32.0  # of what is left of equations, to call them a contradiction: four times the most that was met in 8 000 stacks
_LEAST_SLOPE = 1e-150


class Obstacle(NamedTuple):
    """Why a layer could not be undone: `reason` is one word, `words` say it.

    Reasons: "rank" (more dimensions go in than come out), "sign" (a gate is flat there), "folded" (several inputs have one
    value), "range" (no input has the value), "rows" (the equations contradict one another), "bound" (no contraction is
    proven), "size" (too large for a rank).
    """

    layer: str
    reason: str
    words: str


class Rows(NamedTuple):
    """All inputs with {equal x = value, matrix x <= bound}, over the flattened input."""

    equal: Tensor
    value: Tensor
    matrix: Tensor
    bound: Tensor


@final
@dataclass(eq=False, slots=True)
class State:
    """What is known of one value, for a batch: flat tensors (batch, entries), and `errors` (batch, probes, entries).

    An entry that is not `known` is any number between `low` and `high`, or, where `loose`, one of some of them only.
    """

    value: Tensor
    known: Tensor
    low: Tensor
    high: Tensor
    loose: Tensor
    errors: Tensor

    @classmethod
    def of(cls, value: Tensor) -> State:
        """Return the state of a value that is known as it stands."""
        return cls.exactly(value, value.new_zeros(len(value), PROBES, value.shape[1]))

    @classmethod
    def exactly(cls, value: Tensor, errors: Tensor) -> State:
        """Return the state of a value all of whose entries are known."""
        known = torch.ones_like(value, dtype=torch.bool)
        return cls(value, known, value, value, ~known, errors)

    def room(self, precision: float) -> Tensor:
        """Return up to what the entries are known."""
        return _SURE * self.errors.square().mean(1).sqrt() + 2 * precision * self.value.abs()


@final
@dataclass(frozen=True, eq=False, slots=True)
class Undone:
    """One layer, undone for a batch: all tensors (batch,), NaN where the walk did not come here.

    `amplification`: the largest factor by which the inverse makes differences grow at the point, and `worst` over all
    points. `missed`: how far the equations are from having a solution, and `allowed`, how far rounding takes them.
    `error`: the predicted length of the error of what was in front of the layer. `rank` of an affine layer, where known.
    """

    layer: str
    kind: str
    inputs: int
    outputs: int
    rank: int | None
    worst: float
    amplification: Tensor
    missed: Tensor
    allowed: Tensor
    error: Tensor


@final
class Walk:
    """A batch on its way back: `state` of the present value, who is `live`, and for each sample where and why it stopped.

    `settled` is the number of links in front of the last value of which every entry was known, and `targets` that value.
    `unproven` are those that went on with one of perhaps several solutions: what is met from there on proves nothing.
    """

    def __init__(self, chain: tuple[Link, ...], y: Tensor, precision: float, seed: int) -> None:
        self.chain, self.precision = chain, precision
        self.state = State.of(y)
        self.live = torch.ones(len(y), dtype=torch.bool)
        self.obstacle: list[Obstacle | None] = [None] * len(y)
        self.impossible = torch.zeros(len(y), dtype=torch.bool)
        self.unproven = torch.zeros(len(y), dtype=torch.bool)
        self.family: list[Rows | None] = [None] * len(y)
        self.settled = [len(chain)] * len(y)
        self.targets = list(y)
        self._rooms = list(self.state.room(precision))
        self.steps: list[Undone] = []
        self._random = torch.Generator().manual_seed(seed)
        self._rank: int | None = None
        self._nothing = torch.full((len(y),), torch.nan, dtype=torch.float64)

    def run(self) -> None:
        """Undo link after link, from the output on."""
        for j in range(len(self.chain), 0, -1):
            link = self.chain[j - 1]
            came = self.live.clone()
            self._amplification, self._missed, self._allowed = (self._nothing.clone() for _ in range(3))
            self._rank, self._worst = None, math.inf
            if bool(came.any()):
                self._undo(link, j)
            self._noted(link, came)
            whole, room = self.state.known.all(1) & self.live, self.state.room(self.precision)
            for i in torch.nonzero(whole).reshape(-1).tolist():
                if not self.impossible[i] and self.family[i] is None:
                    self.obstacle[i] = None
                if not self.unproven[i]:
                    self.settled[i], self.targets[i], self._rooms[i] = j - 1, self.state.value[i], room[i]
        self._at_the_input()

    def error(self) -> Tensor:
        """Return the predicted length of the error of the present value, (batch,): the geometric mean of the probes.

        Where one direction dominates, the error is as large as one normal number; no other mean is as near to it in ratio.
        """
        lengths = torch.linalg.vector_norm(self.state.errors, dim=2)
        return torch.where((lengths > 0).all(1), lengths.log().mean(1).exp(), 0.0)

    def _undo(self, link: Link, j: int) -> None:
        undone = {
            "rearrangement": self._rearranged,
            "scale": self._scaled,
            "affine": self._affine,
            "gate": self._elementwise,
            "smooth": self._elementwise,
            "block": self._block,
        }
        undone[link.kind](link, j)

    def _at_the_input(self) -> None:
        """Note what is known of inputs that a gate or a scale in front has forgotten in part."""
        s = self.state
        self.live &= ~s.loose.any(1)  # which of the numbers in between they are only a search can tell
        for i in torch.nonzero(~s.known.all(1) & self.live).reshape(-1).tolist():
            eye = torch.eye(s.value.shape[1], dtype=torch.float64)
            rows, upper, lower = s.known[i], torch.isfinite(s.high[i]) & ~s.known[i], torch.isfinite(s.low[i]) & ~s.known[i]
            bound = torch.cat([s.high[i][upper], -s.low[i][lower]])
            self.family[i] = Rows(eye[rows], s.value[i][rows], torch.cat([eye[upper], -eye[lower]]), bound)

    # -- what is noted

    def _noted(self, link: Link, came: Tensor) -> None:
        if link.kind == "rearrangement":
            return
        none = ~(came & self.live)
        error = torch.where(none, torch.nan, self.error())
        grown, missed, allowed = (torch.where(~came, torch.nan, t) for t in (self._amplification, self._missed, self._allowed))
        names = (link.name, link.word, link.inputs, link.outputs)
        self.steps.append(Undone(*names, self._rank, self._worst, grown, missed, allowed, error))

    def _stop(self, who: Tensor, obstacle: Obstacle, impossible: bool = False) -> None:
        for i in torch.nonzero(who & self.live).reshape(-1).tolist():
            self.obstacle[i] = self.obstacle[i] or obstacle
        self.impossible |= who & self.live & ~self.unproven & impossible
        self.live &= ~who

    def _noise(self, size: Tensor) -> Tensor:
        """Return random errors (batch, probes, entries) of the given standard deviations (batch, entries)."""
        normal = torch.randn(len(size), PROBES, size.shape[1], generator=self._random, dtype=torch.float64)
        return normal * (ROUNDING * size)[:, None]

    # -- entry by entry

    def _rearranged(self, link: Link, _: int) -> None:
        shape = link.net.shape_of(link.source)
        places = link.map().linear(torch.arange(float(link.inputs), dtype=torch.float64).reshape(1, *shape)).reshape(-1).long()
        s = self.state
        for name in ("value", "known", "low", "high", "loose", "errors"):
            old = getattr(s, name)
            new = torch.empty_like(old)
            new[..., places] = old
            setattr(s, name, new)

    def _scaled(self, link: Link, _: int) -> None:
        step, s = link.nodes[0].step, self.state
        if not isinstance(step, Scale):
            return
        shape = (1, *link.net.shape_of(link.source))
        factor, bias = (
            torch.full((link.inputs,), default, dtype=torch.float64) if t is None else t.double().expand(shape).reshape(-1)
            for t, default in ((step.factor, 1.0), (step.bias, 0.0))
        )
        gone = factor == 0
        terms = s.value.abs() + bias.abs()
        room = s.room(self.precision) + 4 * self.precision * terms
        by = torch.where(gone, 1.0, factor)
        wrong = (gone & s.known & ((s.value - bias).abs() > room)).any(1)
        self._missed = torch.where(gone & s.known, (s.value - bias).abs(), 0.0).amax(1)
        self._allowed = torch.where(gone & s.known, room, 0.0).amax(1)
        words = "entries that it multiplies by 0 are not its constant"
        self._stop(wrong, Obstacle(link.name, "rows", words), impossible=True)
        value = (s.value - bias) / by
        ends = torch.stack([(s.low - bias) / by, (s.high - bias) / by])
        errors = (s.errors + self._noise(self.precision * terms)) / by
        none = gone | ~s.known
        low, high = (torch.where(gone, e, v) for e, v in ((-torch.inf, ends.amin(0)), (torch.inf, ends.amax(0))))
        self._keep(value, s.known & ~gone, low, high, s.loose | (gone & _bounded(s)), errors)
        self._worst = float((1 / by.abs())[~gone].max()) if bool((~gone).any()) else 1.0
        self._amplification = torch.where(none, 0.0, 1 / by.abs()).amax(1)
        if bool(gone.any()):
            lost = Obstacle(link.name, "rank", f"it multiplies {int(gone.sum())} of {len(gone)} entries by 0")
            self._pending(gone.any().expand(len(value)), lost)

    def _elementwise(self, link: Link, _: int) -> None:
        node, s = link.nodes[0], self.state
        shape = link.net.shape_of(link.source)
        room = s.room(self.precision)
        try:
            found = _undo.undo(node, s.value.reshape(-1, *shape), room.reshape(-1, *shape))
        except UnsupportedError as error:
            self._stop(self.live.clone(), Obstacle(link.name, "folded", str(error)))
            return
        z, known, low, high, missing, several = (t.flatten(1) for t in found)
        known = known & s.known
        for i in torch.nonzero((missing & s.known).any(1) & self.live).reshape(-1).tolist():
            self._stop(_only(i, len(z)), _out_of_range(link, s.value[i], missing[i] & s.known[i]), impossible=True)
        slope = self._slopes(link, z)
        errors = (s.errors + self._noise(self.precision * s.value.abs())) / slope[:, None] + self._noise(EPS * z.abs())
        first, last, lost = (t.flatten(1) for t in _undo.carried(node, s.low.reshape(-1, *shape), s.high.reshape(-1, *shape)))
        low, high = torch.where(s.known, low, first), torch.where(s.known, high, last)
        loose = torch.where(s.known, several, s.loose | lost)
        self._keep(torch.where(known, z, 0.0), known, low, high, loose, errors)
        self._amplification = torch.where(known, 1 / slope, 0.0).amax(1)
        self._worst = _undo.steepest(node)
        folded, flat = (several & s.known).any(1), (~known & s.known & ~several).any(1)
        for i in torch.nonzero((folded | flat) & self.live).reshape(-1).tolist():
            self._pending(_only(i, len(z)), _forgotten(link, ~known[i] & s.known[i], several[i] & s.known[i]))

    def _slopes(self, link: Link, z: Tensor) -> Tensor:
        step = link.nodes[0].step
        at = step.at(z.reshape(-1, *link.net.shape_of(link.source)))  # type: ignore[attr-defined]
        slope = at.slope.expand(len(z), *link.net.shape_of(link.source)) if isinstance(at, Diagonal) else torch.ones_like(z)
        return slope.reshape(len(z), -1).abs().nan_to_num(nan=_LEAST_SLOPE).clamp(min=_LEAST_SLOPE)

    def _pending(self, who: Tensor, obstacle: Obstacle) -> None:
        """Note what was forgotten: layers in front may tell it all the same, and then it is no obstacle."""
        for i in torch.nonzero(who & self.live).reshape(-1).tolist():
            self.obstacle[i] = self.obstacle[i] or obstacle

    def _keep(self, value: Tensor, known: Tensor, low: Tensor, high: Tensor, loose: Tensor, errors: Tensor) -> None:
        low, high = torch.where(known, value, low), torch.where(known, value, high)
        self.state = State(value, known, low, high, loose, torch.where(known[:, None], errors, 0.0))

    # -- affine maps

    def _affine(self, link: Link, j: int) -> None:
        own, s = Affine(link.map()), self.state
        at_input = j == 1
        self._rank = own.factors.rank if own.is_dense else None
        self._worst = 1 / own.least if (own.is_dense and self._rank) else math.inf
        whole = s.known.all(1)
        x, errors = self._solved(own, s.value - own.offset, s.errors)
        new = State.exactly(x, errors)
        b = s.value - own.offset
        rest, noise = own.rest(b, x), own.rest((s.errors + self._rounding(own, x)).flatten(0, 1), errors.flatten(0, 1))
        self._missed = torch.linalg.vector_norm(rest, dim=1)
        spread = noise.reshape(len(x), PROBES, -1).square().sum(2).mean(1).sqrt()
        terms = torch.linalg.vector_norm(own.terms(x) + b.abs(), dim=1)
        self._allowed = _PROOF * spread + Tolerance().relative * terms
        self._amplification = torch.full_like(self._missed, 1 / own.least)
        self._partial(own, link, new, j)
        bad = (self._missed > self._allowed) & self.live
        if not own.is_dense:
            words = "conjugate gradients come to no solution: there is none, or the layer is too ill-conditioned for them"
            self._stop(bad, Obstacle(link.name, "size", words))
        bad = bad & self.live
        words = "its output lies outside of what its matrix reaches: the equations contradict one another"
        for i in torch.nonzero(bad).reshape(-1).tolist():
            self.obstacle[i] = Obstacle(link.name, "rows", words)
        self.impossible |= bad & ~self.unproven
        self.live &= ~(bad & self.unproven)
        if not own.is_dense:
            self._unranked(own, link, whole & self.live, at_input)
        elif own.factors.rank < own.map.inputs:
            self._wide(own, link, whole & self.live, at_input)
        self.state = new

    def _rounding(self, own: Affine, x: Tensor) -> Tensor:
        return self._noise(math.hypot(self.precision, EPS) * own.terms(x))

    def _solved(self, own: Affine, b: Tensor, errors: Tensor) -> tuple[Tensor, Tensor]:
        """Return solutions and their errors, those of rounding added."""
        x = own.solve(b)
        carried = own.solve((errors + self._rounding(own, x)).flatten(0, 1), rough=True)
        return x, carried.reshape(len(x), PROBES, -1)

    def _wide(self, own: Affine, link: Link, who: Tensor, at_input: bool) -> None:
        """Stop where more goes in than comes out, unless it is the input, whose family is an answer."""
        if at_input:
            free = Obstacle(link.name, "rank", f"of {own.map.inputs} dimensions it passes on {own.factors.rank}")
            for i in torch.nonzero(who).reshape(-1).tolist():
                self.obstacle[i] = self.obstacle[i] or free
                none = self.state.value.new_zeros(0)
                empty = self.state.value.new_zeros(0, own.map.inputs)
                self.family[i] = Rows(own.factors.matrix, self.state.value[i] - own.offset, empty, none)
            return
        rank, n = own.factors.rank, own.map.inputs
        words = f"of {n} dimensions it passes on {rank}: {n - rank} are free, and what comes before is not affine"
        self._stop(who & ~self.impossible, Obstacle(link.name, "rank", words))

    def _unranked(self, own: Affine, link: Link, who: Tensor, at_input: bool) -> None:
        """Go on with a solution that is one of several, for all that is known; stop where it is one for sure."""
        m, n = own.map.outputs, own.map.inputs
        if m < n and not at_input:
            words = f"of {n} dimensions it passes on {m} at most, and what comes before is not affine"
            self._stop(who, Obstacle(link.name, "rank", words))
        self.unproven |= who

    def _partial(self, own: Affine, link: Link, new: State, j: int) -> None:
        """Solve for samples of whose outputs only some entries are known, one after the other."""
        s = self.state
        for i in torch.nonzero(~s.known.all(1) & self.live).reshape(-1).tolist():
            if not own.is_dense:
                self._stop(_only(i, len(s.value)), Obstacle(link.name, "size", "too large for some of its rows alone"))
                continue
            rows = s.known[i]
            factors = Factors(own.factors.matrix[rows])
            b = (s.value[i] - own.offset)[rows]
            new.value[i] = factors.solve(b[None])[0]
            noise = self._rounding(own, new.value[i : i + 1])[0][:, rows] + s.errors[i][:, rows]
            new.errors[i] = factors.solve(noise)
            self._amplification[i] = 1 / factors.least
            self._missed[i] = torch.linalg.vector_norm(factors.rest(b))
            self._allowed[i] = _PROOF * factors.rest(noise).square().sum(1).mean().sqrt() + Tolerance().relative * (
                torch.linalg.vector_norm(b.abs() + own.terms(new.value[i : i + 1])[0][rows])
            )
            if factors.rank == own.map.inputs:
                self._within(own, j, i, new.value[i], new.errors[i])
            elif j == 1 and self._missed[i] <= self._allowed[i] and not bool(s.loose[i].any()):
                self.family[i] = self._rows(own, i)
            else:
                passed = f"of {own.map.inputs} dimensions the known outputs pass on {factors.rank}"
                self._stop(_only(i, len(s.value)), Obstacle(link.name, "rank", passed))

    def _within(self, own: Affine, j: int, i: int, x: Tensor, errors: Tensor) -> None:
        """Check the intervals of the other entries at the only point that is left, or what the point gives behind the gates."""
        s = self.state
        z = own.apply(x[None])[0]
        moved = own.linear(errors)
        room = _PROOF * moved.square().mean(0).sqrt() + Tolerance().relative * (own.terms(x[None])[0] + z.abs())
        wrong = bool(((z < s.low[i] - room) | (z > s.high[i] + room)).any())
        if wrong or (bool(s.loose[i].any()) and self._misses(j, i, z, moved)):
            words = "the one input that its known outputs leave gives others that do not fit"
            self.obstacle[i] = None
            self._stop(_only(i, len(s.value)), Obstacle(self.chain[j - 1].name, "rows", words), impossible=True)

    def _misses(self, j: int, i: int, z: Tensor, moved: Tensor) -> bool:
        """Say whether the value z (entries,) behind link j, known up to `moved`, does not lead to the last whole value."""
        behind = section(self.chain[0].net, self.chain[j - 1].value, self.chain[self.settled[i] - 1].value)
        with torch.no_grad():
            out = flat(behind.forward(torch.stack([z, *(z + moved)]).reshape(-1, *behind.input_shape)), 1)
        spread = (out[1:] - out[0]).square().mean(0).sqrt()
        terms = out[0].abs() + self.targets[i].abs()
        room = _PROOF * (spread + self._rooms[i] / _SURE) + Tolerance().relative * terms
        return bool(((out[0] - self.targets[i]).abs() > room).any())

    def _rows(self, own: Affine, i: int) -> Rows:
        """Return what is known of the input of an affine map."""
        s, m = self.state, own.factors.matrix
        rows, others = s.known[i], ~s.known[i]
        upper, lower = others & torch.isfinite(s.high[i]), others & torch.isfinite(s.low[i])
        matrix = torch.cat([m[upper], -m[lower]])
        bound = torch.cat([(s.high[i] - own.offset)[upper], (own.offset - s.low[i])[lower]])
        return Rows(m[rows], (s.value[i] - own.offset)[rows], matrix, bound)

    # -- blocks

    def _block(self, link: Link, _: int) -> None:
        s = self.state
        self._stop(~s.known.all(1), Obstacle(link.name, "sign", "not all entries of its output are known"))
        found, bound = residual(link)
        if found is None:
            self._stop(self.live.clone(), _no_inverse(link, bound.share, bound.slope))
            return
        z = s.value.reshape(-1, *link.net.shape_of(link.value))
        x, left = found.solve(z)
        noise = s.errors + self._noise(self.precision * (s.value.abs() + x.flatten(1).abs()))
        errors = found.carried(x, noise.reshape(len(z), PROBES, *z.shape[1:])).flatten(2)
        errors = errors + self._noise((left / math.sqrt(link.inputs) / ROUNDING)[:, None].expand(-1, link.inputs))
        self.state = State.exactly(x.flatten(1), errors)
        self._worst = found.amplification
        self._amplification = torch.full((len(z),), found.amplification, dtype=torch.float64)


def _bounded(s: State) -> Tensor:
    """Return which entries lie in an interval that has an end."""
    return ~s.known & (torch.isfinite(s.low) | torch.isfinite(s.high))


def _only(i: int, count: int) -> Tensor:
    return torch.arange(count) == i


def _out_of_range(link: Link, value: Tensor, missing: Tensor) -> Obstacle:
    low, high = (t.reshape(-1) for t in _undo.reach(link.nodes[0]))
    first = int(torch.nonzero(missing)[0])
    words = (
        f"{int(missing.sum())} of {len(missing)} entries lie outside of its range, as entry {first}:"
        f" {float(value[first]):.6g} is not between {float(low[first]):.6g} and {float(high[first]):.6g}"
    )
    return Obstacle(link.name, "range", words)


def _forgotten(link: Link, unknown: Tensor, several: Tensor) -> Obstacle:
    if bool(several.any()):
        words = f"{int(several.sum())} of {len(several)} entries come from more than one input"
        return Obstacle(link.name, "folded", words)
    if isinstance(link.nodes[0].step, Smooth):
        words = f"{int(unknown.sum())} of {len(unknown)} entries are an end of its range up to rounding"
        return Obstacle(link.name, "range", words)
    return Obstacle(link.name, "sign", f"{int(unknown.sum())} of {len(unknown)} entries lie where it is flat")


def _no_inverse(link: Link, share: float, slope: float) -> Obstacle:
    step = link.nodes[-1].step
    if len(link.nodes) == 1 and isinstance(step, MaxGate):
        return Obstacle(link.name, "folded", "it keeps the largest of several entries and forgets the others")
    if len(link.nodes) == 1:
        return Obstacle(link.name, "folded", f"no inverse of {step.kind} is known here")
    words = (
        f"its branches are {share:.4g} x + g(x), and the bound on the slope of g, {slope:.4g}, is not below {abs(share):.4g}"
    )
    return Obstacle(link.name, "bound", words)
