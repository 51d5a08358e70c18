"""A walk on a fibre under way: from bend to bend, until there is a reason to end."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import final

import torch
from torch import Tensor

from .._progress import reached
from ..polytope import RowOrigin
from .chart import changes
from .course import Goal, Sides, time_in, time_to
from .roam import Roamer
from .ways import Aim, Surroundings, Way, leads

_ARRIVED = 1e-9  # a target is reached from so near on, in parts of its size
_MENDED = 2.0**-43  # residues below this part of the output are left to grow
_MOVES = 2.0**-50  # a move below this part of where one is, and a coordinate below that of what it was, are rounding
_IDLE = 40  # bends without a move after which there is no way on
_DIRECTIONS = 3  # random ones tried where the distance has no gradient along the fibre, each with its opposite
_UNITS = 24  # units tried one after another where the ways to them are barred


@final
@dataclass(frozen=True, slots=True)
class Limits:
    """How many regions to enter, how many pieces to walk, how far away from the start to get."""

    crossings: int
    bends: int
    until: float


@final
@dataclass(eq=False, slots=True)
class Walker:
    """Where a walk has been: flat points, the units that changed at each, and the way by which it came last."""

    around: Surroundings
    goal: Goal
    limits: Limits
    random: torch.Generator
    roams: bool
    path: list[Tensor] = field(default_factory=list)
    crossed: list[tuple[RowOrigin, ...]] = field(default_factory=list)
    reason: str = ""
    step: Tensor = field(init=False)
    _last: Way | None = None
    _pieces: Tensor | None = None
    _count: int = 0
    _idle: int = 0
    _roamer: Roamer = field(init=False)
    _largest: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.path, self.crossed = [self.goal.start], [()]
        self.step = self._noise()
        self._roamer = Roamer(self.random)
        self._largest = self.goal.start.abs()

    def walk(self) -> str:
        """Walk as far as possible and return the reason why not farther."""
        for _ in reached(self._bends(), "fibre walk", " crossings", lambda _: self._count):
            pass
        return self.reason

    def _bends(self) -> Iterator[int]:
        while not self.reason:
            self.reason = self._go_on()
            yield len(self.path)

    def _go_on(self) -> str:
        """Walk one straight piece; return why the walk ends here, nothing where it does not."""
        x = self.path[-1]
        target = self.goal.target
        if target is not None and _norm(target - x) <= _ARRIVED * (1 + _norm(target)):
            return "reached"
        if self._idle > _IDLE:
            return "undecided"
        way, complete, found = self._choose(x)
        if not found:
            return self._no_way(way, complete)
        self._enter(way)
        if self._count >= self.limits.crossings:
            return "crossings"
        if len(self.path) > self.limits.bends:
            return "bends"
        roaming, until = self._is_roaming(x), self.limits.until
        ends = math.inf if roaming else time_to(self.goal.start, x, way.step, until)
        t = min(self._reach(way, x), ends)
        if roaming and until < math.inf and not self._is_at_edge(x):
            t = min(t, time_in(self.goal.start, x, way.step, until))
        if t == math.inf:
            return "unbounded"
        self._move(way, x, t)
        return "distance" if t == ends and not self.roams else ""

    def _is_roaming(self, x: Tensor) -> bool:
        far = self.limits.until == math.inf or _norm(x - self.goal.start) >= self.limits.until * (1 - 1e-12)
        return self.roams and far

    def _is_at_edge(self, x: Tensor) -> bool:
        """Say whether a roaming walk must not come nearer to its start."""
        return self.limits.until < math.inf and _norm(x - self.goal.start) <= self.limits.until * (1 + 1e-9)

    # -- choosing the way

    def _choose(self, x: Tensor) -> tuple[Way, bool, bool]:
        """Return the way on; whether all patterns were asked, if there is none; and whether there is one."""
        every, way = True, None
        for aim in self._aims(x):
            arrival = self.step if self._last is not None else aim.pull
            way, complete = self.around.best(x, aim, arrival, self._last)
            if leads(way, aim):
                self._last, self.step = way, way.step
                return way, True, True
            every = every and complete
        nothing = Aim(torch.zeros_like(x), x.new_zeros(0, len(x)), torch.ones_like(x))
        return way or self.around.way(self.around.chart(x, self.step), x, nothing), every, False

    def _aims(self, x: Tensor) -> Iterator[Aim]:
        """Yield where one would like to go, and where else if that is barred."""
        offset = x - self.goal.start
        away = bool(offset.any())
        free, outwards = x.new_zeros(0, len(x)), (offset / (_norm(offset) or 1.0))[None]
        kept = outwards if away else free
        even = torch.ones_like(x)
        if self._is_roaming(x):
            kept = outwards if self._is_at_edge(x) else free
            yield from self._units(x, kept)
        elif self.goal.kind != "away":
            yield Aim(self.goal.pull(x), free, even)
        elif away:
            yield Aim(offset, free, self.around.sides.room(x, offset) if self.roams else even)
        if self.goal.kind == "away" and not self._is_roaming(x):
            for noise in (self._noise() for _ in range(_DIRECTIONS)):
                yield Aim(noise, kept, even)
                yield Aim(-noise, kept, even)

    def _units(self, x: Tensor, kept: Tensor) -> Iterator[Aim]:
        chart = self.around.chart(x, self.step)
        for _ in range(_UNITS):
            pull = self._roamer.pull(chart, x, self.around.sides)
            if pull is None:
                return
            yield Aim(pull, kept, self.around.sides.room(x, pull))
            self._roamer.give_up()

    def _noise(self) -> Tensor:
        like = self.goal.start
        return torch.randn(len(like), generator=self.random, dtype=like.dtype, device=self.random.device).to(like.device)

    def _no_way(self, way: Way, complete: bool) -> str:
        """Say why there is no way on."""
        x, n = self.path[-1], len(self.goal.start)
        if not complete:
            return "undecided"
        if bool((self.around.sides.met(x) != 0).any()) or len(self.around.sides.rows_met(x)):
            open_space = Surroundings(self.around.ground, Sides.of(None, x), self.around.image)
            if any(leads(open_space.way(way.chart, x, aim), aim) for aim in self._aims(x)):
                return "domain"
        alone = len(self.path) == 1
        full = len(way.chart.weight) >= n and int(torch.linalg.matrix_rank(way.chart.weight)) == n
        return "point" if alone and (full or (self.goal.kind == "away" and not self.roams)) else "maximum"

    # -- walking it

    def _enter(self, way: Way) -> None:
        """Note the units that change their piece where the way begins; one that rests on a wall keeps the piece it had."""
        now, before = way.chart.pieces.clone(), self._pieces
        if before is not None:
            unit, resting = way.chart.unit, way.resting
            keeps = unit[resting & (way.chart.beyond == before[unit])]
            now[keeps] = before[keeps]
            self.crossed[-1] = changes(self.around.ground, before, now)
            self._count += bool(self.crossed[-1])
        self._pieces = now

    def _reach(self, way: Way, x: Tensor) -> float:
        """Return how many steps there are to the next wall or side, or until the goal gets worse."""
        chart = way.chart
        ahead = ~chart.tight & (way.speed > way.speed_room)
        gap = torch.where(chart.jump, chart.gap - chart.room / 2, chart.gap)
        times = gap[ahead] / way.speed[ahead]
        walls = float(times.min()) if len(times) else math.inf
        return min(walls, self.around.sides.reach(x, way.step), self.goal.longest)

    def _move(self, way: Way, x: Tensor, t: float) -> None:
        """Go along, and mend what rounding did to the output."""
        net, sides = self.around.ground.net, self.around.sides
        before, x = x, sides.inside(self._whole(x + t * way.step))
        image = self.around.image
        residue = net.forward(x.reshape(1, *net.input_shape)).reshape(-1) - image
        if bool((residue.abs() > _MENDED * (1 + image.abs().amax())).any()):
            x = sides.inside(self._whole(way.mended(x, t, residue)))
        self.path.append(x)
        self.crossed.append(())
        moves = _norm(x - before) > _MOVES * (_norm(x) + _norm(self.goal.start))
        self._idle = 0 if moves else self._idle + 1

    def _whole(self, x: Tensor) -> Tensor:
        """Return the point with the coordinates that only rounding keeps from 0 put there, where walls may be."""
        self._largest = torch.maximum(self._largest, x.abs())
        return torch.where(x.abs() <= _MOVES * self._largest, 0.0, x)


def _norm(v: Tensor) -> float:
    return float(torch.linalg.vector_norm(v))
