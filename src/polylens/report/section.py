"""What a section of the report is made of: plain text, tables, figures and data; nothing here is HTML."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, final

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Cell = str | int | float | None
_NUMBER = re.compile(r"−?(\d[\d,]*\.?\d*(e−?\d+)?%?|∞)", re.ASCII)


@final
@dataclass(frozen=True, slots=True)
class Table:
    """Rows under column heads; numbers are aligned right, None is a dash. `caption` says what a row is."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    @property
    def aligned_right(self) -> tuple[bool, ...]:
        """Which columns hold numbers only; the first names the row and never counts as one."""
        cells = [[row[k] for row in self.rows] for k in range(len(self.columns))]
        return tuple(k > 0 and all(map(_is_numeric, column)) for k, column in enumerate(cells))


def _is_numeric(cell: Cell) -> bool:
    return not isinstance(cell, str) or cell == "–" or _NUMBER.fullmatch(cell) is not None


@final
@dataclass(frozen=True, eq=False, slots=True)
class Drawing:
    """A figure with its file name (without ending), a caption, and a description for those who cannot see it."""

    name: str
    figure: Figure
    caption: str
    alt: str


@final
@dataclass(frozen=True, eq=False, slots=True)
class Section:
    """One part of the report.

    Attributes: `name`, the key in report.json and the page's anchor; `title`; `paragraphs`, the first of which says what
    the reader sees; `facts`, headline numbers as (label, value); `figures`; `tables`; `data`, plain types for report.json.
    """

    name: str
    title: str
    paragraphs: tuple[str, ...]
    facts: tuple[tuple[str, str], ...] = ()
    figures: tuple[Drawing, ...] = ()
    tables: tuple[Table, ...] = ()
    data: dict[str, Any] = field(default_factory=dict)


def number(value: Cell) -> str:
    """Return a cell as text: four significant digits, thousands set apart, a dash for what is missing."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        text = f"{value:,}"
    elif value and not 1e-3 <= abs(value) < 1e6:
        text = f"{value:.2e}"
    else:
        text = f"{value:,.4g}" if abs(value) < 1e4 else f"{float(f'{value:.4g}'):,.0f}"
    return _tidy(text)


def _tidy(text: str) -> str:
    return text.replace("e-0", "e-").replace("e+0", "e").replace("e+", "e").replace("-", "−")


def rounded(value: float, digits: int = 3) -> str:
    """Return a number as text with so many significant digits."""
    text = f"{value:.{digits - 1}e}"
    return _tidy(text) if value and not 1e-3 <= abs(float(text)) < 1e6 else number(float(text))


def plain(value: Any) -> Any:
    """Return a value ready for strict JSON: infinite and undefined numbers become null, tuples lists."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def shape_text(shape: tuple[int, ...] | list[int]) -> str:
    """Return a shape as `3 × 32 × 32`, or `scalar`."""
    return " × ".join(map(str, shape)) or "scalar"
