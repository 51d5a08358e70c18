"""The crossings of a ray through the regions of a network: in floats, and in rationals where floats cannot tell their order."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple, cast, final

import torch
from torch import Tensor

from ._progress import progress
from ._rational import RationalNetwork, rationals
from ._rounding import behind_gate, magnitudes, of_walls
from .gates import Choice
from .germ import Germ, pattern_of, towards, walls_of
from .network import Network
from .pattern import Patterns
from .steps import Affine, flat

EPS = 2.0**-52
ROUNDINGS = 32  # how many roundings of its terms a sum may be off by, before a decision on it counts as safe
UNSURE = 1e-9  # of a crossing's t: one that may be off by more is no crossing that floats know
UNTOLD = 16  # roundings of the points of a ray within which two crossings are one


class Course(NamedTuple):
    """The crossings of a ray: their parameters, the pattern at its start and the one behind each."""

    times: list[float]
    patterns: list[Patterns]
    complete: bool
    fragile: int


def course(net: Network, point: Tensor, direction: Tensor, count: int) -> Course:
    """Return the first crossings of a ray; what lies within rounding is decided in rationals where the network is small."""
    found, doubtful = _in_floats(Ray(net, point, direction, magnitudes(net)), count)
    small = RationalNetwork.of(net) if doubtful else None
    return found if small is None else _in_rationals(net, small, point, direction, count)


# -- in floats


class _Walls(NamedTuple):
    """All walls of a germ's pieces: how far off and how fast, and how much of both may be rounding; (walls,) each."""

    gap: Tensor
    speed: Tensor
    ahead: Tensor
    gap_error: Tensor
    speed_error: Tensor

    def next(self) -> tuple[float, Tensor]:
        """Return how far the ray runs until a wall is met, infinite where none is, and which walls are met there."""
        times = torch.where(self.ahead, self.gap / torch.where(self.ahead, self.speed, 1.0), math.inf)
        step = float(times.min()) if len(times) else math.inf
        return step, self.ahead & (times == step)

    def lateness(self, step: float, met: Tensor) -> float:
        """Return how much rounding may move the place where these walls are met."""
        return float(((self.gap_error + step * self.speed_error) / self.speed)[met].max())

    def doubts(self, late: float, together: int) -> Doubts:
        """Return which decisions are rounding at a place that may be off by `late`, where so many walls were met at once."""
        near = (self.gap.abs() <= self.gap_error + late * self.speed.abs()) & (self.gap_error > 0)
        still = (self.speed.abs() <= self.speed_error) & (self.speed_error > 0)
        exact = (self.gap == 0) & (self.speed == 0)
        extra, slow = int((near & ~exact).sum()) - together, int((still & ~near & (self.speed != 0)).sum())
        return Doubts(bool(still.any()) or int(near.sum()) > min(together, 1), max(0, extra) + slow)


class Doubts(NamedTuple):
    """Whether decisions at a place may be rounding, and how many floats do not take for one and the same."""

    any: bool
    apart: int


class Place(NamedTuple):
    """Where a ray meets walls: the network just behind, and whether the pattern changes there."""

    t: float
    germ: Germ
    crossed: bool
    doubts: Doubts


@final
@dataclass(frozen=True, eq=False, slots=True)
class Ray:
    """point + t direction, and the network's magnitudes."""

    net: Network
    point: Tensor
    direction: Tensor
    rough: Sequence[Affine | None]

    def terms(self, t: float) -> Tensor:
        """Return the sizes of what the entries of a point of the ray are sums of."""
        return self.point.abs() + t * self.direction.abs()

    def germ(self, t: float) -> Germ:
        """Return the network just behind a point of the ray."""
        return towards(self.net, self.point + t * self.direction, self.direction, rough=self.rough, terms=self.terms(t))

    def places(self) -> Iterator[Place]:
        """Yield the start and then every place where a wall is met, until none is ahead."""
        t, late, together = 0.0, 0.0, 0
        before = self.germ(t).pattern
        while True:
            germ = self.germ(t)
            walls = self._walls(germ, t)
            step, met = walls.next()
            doubts, changed = walls.doubts(late, together), int(before.distances(germ.pattern))
            unsure = (late > UNSURE * t) + (_skipped(before, germ.pattern) if changed else 0)
            doubts = Doubts(doubts.any or unsure > 0 or changed > 1, doubts.apart + unsure)
            yield Place(t, germ, changed > 0, doubts)
            if step == math.inf:
                return
            late, together, before = walls.lateness(step, met), int(met.sum()), germ.pattern
            t = max(t + step, math.nextafter(t, math.inf))  # a wall that is nearer than the next number is met there

    def _walls(self, germ: Germ, t: float) -> _Walls:
        """Return the walls of a germ. Those met already, up to the rounding of their terms, are settled by it."""
        none = torch.zeros(0, dtype=torch.float64)
        parts, errors = [(none, none, none.bool(), none, none)], self._errors(germ, t)
        for node in self.net.nodes:
            if node.name in germ.inputs:
                z, dz, room, speed_room = (flat(v, 0).reshape(-1) for v in germ.inputs[node.name])
                walls = walls_of(self.net, node, germ.pattern)
                gap, speed = walls.bound - walls.values(z), walls.values(dz)
                room, speed_room = of_walls(walls, room), of_walls(walls, speed_room)
                ahead = (speed > speed_room) & (gap > room)
                error, speed_error = (of_walls(walls, e) for e in errors[node.name])
                parts.append((gap, speed, ahead, torch.maximum(room, error), torch.maximum(speed_room, speed_error)))
        return _Walls(*(torch.cat([v.cpu() for v in column]) for column in zip(*parts, strict=True)))

    def _errors(self, germ: Germ, t: float) -> dict[str, tuple[Tensor, Tensor]]:
        """Return how large the rounding of every gate's input and of its derivative can be, from the input on.

        The rooms of a germ take terms afresh behind every gate, which is what deep networks mean; a small value that is a
        difference of large ones keeps their error here.
        """
        sizes = {0: (self.terms(t)[None], self.direction.abs()[None])}
        found = {}
        for k, (node, rough) in enumerate(zip(self.net.nodes, self.rough, strict=True), 1):
            values, speeds = zip(*(sizes[i] for i in node.inputs), strict=True)
            if rough is not None:
                sizes[k] = rough.apply(*values), rough.linear(*speeds)
                continue
            value, speed = (ROUNDINGS * EPS * flat(v[0], 0).reshape(-1) for v in (values[0], speeds[0]))
            found[node.name] = value, speed
            pieces = germ.pattern.pieces(node.name).to(self.net.device)
            here = cast(Choice, node.step).on(pieces, self.net.shape_of(node.inputs[0]))
            sizes[k] = behind_gate(here, values[0]), behind_gate(here, speeds[0], constant=False)
        return found


def _skipped(before: Patterns, behind: Patterns) -> int:
    """Return how many pieces of gates were passed over at once."""
    layers = [layer.name for layer in before.layers if layer.num_pieces > 2 and not layer.is_max]
    steps = [(before.pieces(name).long() - behind.pieces(name).long()).abs() for name in layers]
    return sum(int((step - 1).clamp(min=0).sum()) for step in steps)


def _in_floats(ray: Ray, count: int) -> tuple[Course, bool]:
    """Return the crossings of a ray as floats see them, and whether any of them was decided within rounding."""
    times, patterns, fragile, doubtful, complete = list[float](), list[Patterns](), 0, False, True
    for place in progress(ray.places(), count, "crossings"):
        if place.crossed and len(times) == count:
            complete = False
            break
        times += [place.t] if place.crossed else []
        patterns += [place.germ.pattern] if place.crossed or not patterns else []
        fragile, doubtful = fragile + place.doubts.apart, doubtful or place.doubts.any
    return Course(times, patterns, complete, fragile), doubtful


# -- in rationals


def _in_rationals(net: Network, small: RationalNetwork, point: Tensor, direction: Tensor, count: int) -> Course:
    """Return the crossings of a ray in exact arithmetic; those that no floats t tell apart are one, and count as fragile."""
    x, v = rationals(point), rationals(direction)
    size = max(map(abs, x)) / max(map(abs, v))
    times, patterns, fragile, complete = [Fraction(0)], list[Patterns](), 0, True
    for t, pieces in small.crossings(x, v):
        if patterns and t - times[-1] <= UNTOLD * Fraction(EPS) * (t + size):
            fragile += 1
            patterns.pop()
        elif patterns and len(times) > count:
            complete = False
            break
        elif patterns:
            times.append(t)
        patterns.append(_pattern(net, small, pieces))
        if len(patterns) > 1 and patterns[-1] == patterns[-2]:  # there and back within rounding
            patterns.pop()
            times.pop()
    return Course([float(t) for t in times[1:]], patterns, complete, fragile)


def _pattern(net: Network, small: RationalNetwork, pieces: list[list[int]]) -> Patterns:
    shapes = {gate.name: gate.shape for gate in net.gates}
    found = {name: torch.tensor(some).reshape(1, *shapes[name]) for name, some in zip(small.names, pieces, strict=True)}
    return pattern_of(net, found)
