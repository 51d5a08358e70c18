"""The way on from a point of a fibre: the steepest that its patterns allow, along their walls and across them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, final

import torch
from torch import Tensor

from ..pattern import Patterns
from .chart import Chart, Ground
from .course import Sides
from .glide import Cone, Glide, glide

NOTHING = 2.0**-34  # a way that keeps less than this part of the pull gets nowhere: what is left is rounding
_SAME = 1e-9  # parts of the outputs by which two patterns may differ at a point that both hold
_TRIES = 2  # walls beyond which to look for a steeper way at every bend; where there is none, all are tried
_AROUND = 64  # patterns around one point that are asked for a way on before the search is given up
_AT_ONCE = 64  # walls taken up at a time


class Aim(NamedTuple):
    """Where one would like to go, `pull` (n,), and the directions that must not be gone against, `kept` (k, n).

    What is near to the pull is measured in units of `scale` (n,), so that coordinates of a small scale move less; the way is
    then not the steepest, but a longer one.
    """

    pull: Tensor
    kept: Tensor
    scale: Tensor

    @property
    def scaled(self) -> Tensor:
        """The pull in units of the scale."""
        return self.pull * self.scale


@final
@dataclass(frozen=True, eq=False, slots=True)
class Way:
    """A way on: the chart that it runs in, the pull's projection, the walls that were looked at, and all walls' speeds.

    `glide` is in units of the aim's `scale`, as `norms` are, the lengths of the looked at walls' gradients.
    """

    chart: Chart
    glide: Glide
    scale: Tensor
    walls: list[int]
    norms: Tensor
    speed: Tensor
    speed_room: Tensor

    @property
    def step(self) -> Tensor:
        """The direction and length of the projected pull, (n,)."""
        return self.scale * self.glide.way

    @property
    def gain(self) -> float:
        """How much of the pull is left."""
        return self.glide.length

    @property
    def _of_walls(self) -> slice:
        first = len(self.glide.way)
        return slice(first, first + len(self.walls))

    @property
    def weights(self) -> dict[int, float]:
        """The walls that it runs along and would cross, and with which force; the strongest first."""
        found = zip(self.walls, self.glide.weights[self._of_walls].tolist(), strict=True)
        return dict(sorted(((w, f) for w, f in found if f > 0), key=lambda item: -item[1]))

    @property
    def held_sides(self) -> Tensor:
        """Which coordinates stay at their bounds."""
        return self.glide.held[: len(self.glide.way)]

    @property
    def resting(self) -> Tensor:
        """Which walls it neither leaves nor crosses."""
        return self.chart.tight & (self.speed.abs() <= self.speed_room)

    def mended(self, x: Tensor, t: float, residue: Tensor) -> Tensor:
        """Return a point, t steps along, moved back onto the fibre by its residue, and onto the walls that are held."""
        held = self.glide.held[len(self.glide.way) :]
        off = torch.zeros(len(held), dtype=x.dtype, device=x.device)
        gap = self.chart.gap[self.walls] - t * self.speed[self.walls]
        off[: len(self.walls)] = -gap / self.norms
        size = self.chart.size
        wrong = residue / size if size else residue[:0]
        return x - self.scale * (self.glide.inverse @ torch.cat([wrong, off[held]]))


@final
@dataclass(frozen=True, eq=False, slots=True)
class Surroundings:
    """What is at hand around points of the fibre of `image` (outputs,): the network, and the domain's sides."""

    ground: Ground
    sides: Sides
    image: Tensor

    def chart(self, x: Tensor, way: Tensor) -> Chart:
        """Return the chart just behind a flat point in a direction."""
        shape = self.ground.net.input_shape
        return self.ground.chart(x.reshape(shape), way.reshape(shape))

    def way(self, chart: Chart, x: Tensor, aim: Aim, last: Way | None = None) -> Way:
        """Return the steepest way that stays within the closure of one pattern.

        Algorithm: walls of the pattern that the projection crosses are taken up until it crosses none; the walls and sides
        that the `last` way held are where it starts.
        """
        n, scale, met = len(x), aim.scale, self.sides.met(x)
        equal = chart.weight * (scale / chart.size) if chart.size else chart.weight[:0]
        others = torch.cat([self.sides.rows[self.sides.rows_met(x)], -aim.kept]) * scale
        walls, rows, norms = _rows(chart, _still_held(chart, last), scale)
        held = torch.cat(
            [x.new_zeros(n) if last is None else last.held_sides.to(x), x.new_ones(len(rows)), others.new_zeros(len(others))]
        )
        held = held > 0
        while True:
            found = glide(Cone(equal, torch.cat([rows, others]), met), aim.scaled, held)
            speed, room = chart.speeds((scale * found.way).reshape(self.ground.net.input_shape))
            crossed = chart.tight & (speed > room)
            crossed[walls] = False
            new = torch.nonzero(crossed).reshape(-1)
            fastest = new[speed[new].argsort(descending=True)][:_AT_ONCE].tolist()
            more, more_rows, more_norms = _rows(chart, fastest, scale)
            if not more or found.length <= NOTHING * _norm(aim.scaled):
                return Way(chart, found, scale, walls, norms, speed, room)
            known = n + len(rows)
            held = torch.cat([found.held[:known], found.held.new_zeros(len(more)), found.held[known:]])
            walls, rows, norms = walls + more, torch.cat([rows, more_rows]), torch.cat([norms, more_norms])

    def best(self, x: Tensor, aim: Aim, arrival: Tensor, last: Way | None) -> tuple[Way, bool]:
        """Return a way on, behind `arrival` or beside it, and whether all patterns around were asked if it leads nowhere."""
        way = self._steeper(self.way(self.chart(x, arrival), x, aim, last), x, aim)
        return (way, True) if leads(way, aim) else self._around(way, x, aim)

    def _steeper(self, way: Way, x: Tensor, aim: Aim) -> Way:
        """Look behind the walls that hold a way back most, as long as the way behind one is steeper."""
        tried = set[Patterns]({way.chart.pattern})
        behind = iter(way.weights)
        for _ in range(_TRIES):
            wall = next(behind, None)
            chart = None if wall is None else next(self._behind(way, x, wall))
            if chart is None or chart.pattern in tried or not self._continues(chart):
                continue
            tried.add(chart.pattern)
            other = self.way(chart, x, aim)
            if other.gain > way.gain * (1 + _SAME):
                way, behind = other, iter(other.weights)
        return way

    def _around(self, way: Way, x: Tensor, aim: Aim) -> tuple[Way, bool]:
        """Search the patterns around a point, from wall to wall, for one with a way on."""
        seen, queue = {way.chart.pattern}, [way]
        for here in queue:
            for chart in self._beside(here, x):
                if chart.pattern in seen or not self._continues(chart):
                    continue
                if len(seen) >= _AROUND:
                    return way, False
                seen.add(chart.pattern)
                other = self.way(chart, x, aim)
                if leads(other, aim):
                    return other, True
                queue.append(other)
        return way, True

    def _beside(self, way: Way, x: Tensor) -> Iterator[Chart]:
        """Yield patterns that share a wall with a way's at a point: behind those that bar it first, then behind others."""
        for wall in way.weights:
            yield from self._behind(way, x, wall)
        others = torch.nonzero(way.chart.tight & ~way.chart.jump).reshape(-1)[:_AROUND].tolist()
        for wall in _rows(way.chart, [w for w in others if w not in way.weights], way.scale)[0]:
            yield way.chart.beside(wall, x.reshape(self.ground.net.input_shape))

    def _behind(self, way: Way, x: Tensor, wall: int) -> Iterator[Chart]:
        """Yield the pattern just behind a wall, duplicates crossed together, and the one with its unit alone behind it."""
        row = way.chart.rows([wall])[0]
        yield self.chart(x, way.step + way.weights[wall] * row / _norm(row))
        if not bool(way.chart.jump[wall]):
            yield way.chart.beside(wall, x.reshape(self.ground.net.input_shape))

    def _continues(self, chart: Chart) -> bool:
        """Say whether a pattern has the fibre's output at the point: it has not where the network jumps."""
        return bool(((chart.value - self.image).abs() <= _SAME * (1 + self.image.abs().amax())).all())


def leads(way: Way, aim: Aim) -> bool:
    """Say whether a way keeps anything of the pull but rounding."""
    return way.gain > NOTHING * _norm(aim.scaled)


def _still_held(chart: Chart, last: Way | None) -> list[int]:
    """Return the walls of a chart that are met and whose units the last way held."""
    if last is None or not last.weights:
        return []
    units = last.chart.unit[list(last.weights)]
    return torch.nonzero(chart.tight & torch.isin(chart.unit, units)).reshape(-1).tolist()


def _rows(chart: Chart, walls: list[int], scale: Tensor) -> tuple[list[int], Tensor, Tensor]:
    """Return the walls whose gradient is not 0, the gradients at length 1 in units of the scale, and their lengths."""
    rows = chart.rows(walls) * scale
    norms = torch.linalg.vector_norm(rows, dim=1)
    kept = torch.nonzero(norms > 0).reshape(-1)
    return [walls[i] for i in kept.tolist()], rows[kept] / norms[kept, None], norms[kept]


def _norm(v: Tensor) -> float:
    return float(torch.linalg.vector_norm(v))
