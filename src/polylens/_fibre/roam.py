"""Choosing whose wall to walk to next, for walks that are to see many regions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import final

import torch
from torch import Tensor

from .chart import Chart
from .course import Sides

_SAMPLED = 24  # units that are compared when the next one is chosen
_PATIENCE = 12  # bends on the way to one unit until another is chosen
_RESTED = 16  # units that were crossed last and are not chosen again


@final
@dataclass(eq=False, slots=True)
class Roamer:
    """The unit that a walk is on its way to, chosen at random among near ones and kept until it is crossed."""

    random: torch.Generator
    unit: int = -1
    beyond: int = -1
    bends: int = 0
    crossed: list[int] = field(default_factory=list)

    def pull(self, chart: Chart, x: Tensor, sides: Sides) -> Tensor | None:
        """Return the gradient (n,) towards the unit's wall at a flat point, None where there is no unit to go to."""
        self.bends += 1
        wall = self._wall(chart)
        if wall is None or self.bends > _PATIENCE:
            wall = self._next(chart, x, sides)
        return None if wall is None else chart.rows([wall])[0]

    def give_up(self) -> None:
        """Have the next pull go to another unit."""
        self.bends = _PATIENCE
        self.crossed = [*self.crossed[1 - _RESTED :], self.unit]

    def _wall(self, chart: Chart) -> int | None:
        found = torch.nonzero((chart.unit == self.unit) & (chart.beyond == self.beyond)).reshape(-1)
        if not len(found) and self.unit >= 0:
            self.give_up()
        return int(found[0]) if len(found) else None

    def _next(self, chart: Chart, x: Tensor, sides: Sides) -> int | None:
        """Choose of some walls the one that is nearest, compared with how near the sides are on the way to it."""
        rested = torch.tensor(self.crossed, dtype=torch.long, device=chart.unit.device)
        free = torch.nonzero(~chart.tight & ~chart.jump & ~torch.isin(chart.unit, rested)).reshape(-1)
        if not len(free):
            return None
        order = torch.randperm(len(free), generator=self.random)[:_SAMPLED]
        some = free[order.to(free.device)].tolist()
        ways = _unseen(chart, some, sides.room(x, torch.zeros_like(x)))
        lengths = ways.square().sum(1)
        steps = torch.where(lengths > 0, chart.gap[some] / lengths, torch.inf)
        best = int((steps / sides.least(x, ways)).nan_to_num(nan=torch.inf, posinf=torch.inf).argmin())
        if not bool(steps[best] < torch.inf):
            return None
        self.unit, self.beyond, self.bends = int(chart.unit[some[best]]), int(chart.beyond[some[best]]), 0
        return int(some[best])


def _unseen(chart: Chart, walls: list[int], scale: Tensor) -> Tensor:
    """Return the ways to walls within the null space of the chart's map, in units of the scale; they are as long as steep."""
    rows = chart.rows(walls) * scale
    if not chart.size:
        return rows
    _, values, right = torch.linalg.svd(chart.weight * scale, full_matrices=False)
    right = right[values > 2.0**-40 * values[:1]]
    return rows - (rows @ right.T) @ right
