"""What every result has in common: `summary()` in words, `to_dict()` in plain types, `plot()` as matplotlib Axes.

With it, the words of numerical answers: how large a residue counts (`Tolerance`), and what was proven (`Status`).
"""

from __future__ import annotations

import html
import importlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How large a residue of rounding may be before it counts: `factor` times machine epsilon times the terms' size.

    A comparison of a sum s = sum z_q v_q with 0 takes |s| <= factor * eps * sum |z_q v_q| as equal. The default leaves
    room for some thousand roundings and stays decades below differences that anybody means.
    """

    factor: float = 4096.0

    @property
    def relative(self) -> float:
        """The largest relative residue that counts as 0: about 1e-12."""
        return self.factor * 2.0**-52


class Status(Enum):
    """What is proven about a linear program; each but UNDECIDED comes with data that prove it."""

    OPTIMAL = "optimal"
    UNBOUNDED = "unbounded"
    INFEASIBLE = "infeasible"
    UNDECIDED = "undecided"


class Result(ABC):
    """A frozen answer that can describe and draw itself."""

    __slots__ = ()

    @abstractmethod
    def summary(self) -> str:
        """Return the answer in words, a few lines of text."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Return the answer in plain types, ready for `json.dumps`."""

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Draw the answer on `ax` (a new figure's when None) and return the Axes; `options` are the drawing's own.

        The drawings live in `polylens.plotting`, the one module that this layer reaches only when asked to draw.
        """
        axes: Axes = importlib.import_module("polylens.plotting").draw(self, ax, **options)
        return axes

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self.summary())}</pre>"
