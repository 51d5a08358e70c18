"""Choosing whose wall to walk to next, for walks that are to see many regions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import final

import torch
from torch import Tensor

from ._chart import Chart

_SAMPLED = 24  # units that are compared when the next one is chosen
_PATIENCE = 25  # bends on the way to one unit until another is chosen
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

    def pull(self, chart: Chart, scale: Tensor) -> Tensor | None:
        """Return the way (n,) to the unit's wall within the chart's null space, None where there is no such unit."""
        self.bends += 1
        wall = self._wall(chart)
        if wall is None or self.bends > _PATIENCE:
            wall = self._next(chart, scale)
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

    def _next(self, chart: Chart, scale: Tensor) -> int | None:
        """Choose the nearest of some walls, as the null space goes in units of the scale."""
        rested = torch.tensor(self.crossed, dtype=torch.long, device=chart.unit.device)
        free = torch.nonzero(~chart.tight & ~chart.jump & ~torch.isin(chart.unit, rested)).reshape(-1)
        if not len(free):
            return None
        order = torch.randperm(len(free), generator=self.random)[:_SAMPLED]
        some = free[order.to(free.device)].tolist()
        lengths = torch.linalg.vector_norm(_unseen(chart, some, scale), dim=1)
        distance = torch.where(lengths > 0, chart.gap[some] / lengths, torch.inf)
        best = int(distance.argmin())
        if not bool(distance[best] < torch.inf):
            return None
        self.unit, self.beyond, self.bends = int(chart.unit[some[best]]), int(chart.beyond[some[best]]), 0
        return int(some[best])


def _unseen(chart: Chart, walls: list[int], scale: Tensor) -> Tensor:
    """Return the gradients of walls, projected onto the null space of the chart's map."""
    rows = chart.rows(walls) * scale
    if not chart.size:
        return rows
    _, values, right = torch.linalg.svd(chart.weight * scale, full_matrices=False)
    right = right[values > 2.0**-40 * values[:1]]
    return rows - (rows @ right.T) @ right
