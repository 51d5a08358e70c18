"""What removing rows does to the singular values of a matrix, as a gate does with the units that are off.

Two statements hold for any matrix A and the rows A_P that stay: the values interlace, and a removed row that is weakly
correlated with all rows that stay forces a small one. Both come with numbers that can be checked.
"""

from __future__ import annotations

import importlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import torch
from torch import Tensor

from ._check import ArrayLike, array, as_tensor, finite, floating
from ._types import Result
from .errors import InputError, ShapeError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

EPS = torch.finfo(torch.float64).eps


@final
@dataclass(frozen=True, eq=False, slots=True, repr=False)
class WeakRow:
    """A removed row a_k that is weakly correlated with the `kept` rows a_j that stay: |<a_j, a_k>| <= c |a_k| / sqrt(kept).

    Then |A_P a_k| <= c |a_k|, so that the least of |A_P v| over unit vectors v is at most `c`. For the smallest *nonzero*
    singular value `row_space_share`, |Pi a_k| / |a_k| with Pi the projector onto the row space of A_P, has to be divided by:
    `bound` is c / row_space_share, infinite where a_k is orthogonal to all rows that stay. `in_row_space` says whether a_k
    lies in it. `sharper` is |A_P a_k| / |Pi a_k|, which says the same with the products themselves instead of the largest of
    them.
    """

    row: int
    kept: int
    c: float
    row_space_share: float
    in_row_space: bool
    bound: float
    sharper: float

    def __repr__(self) -> str:
        return f"WeakRow(row {self.row}, bound {self.bound:.4g})"

    def summary(self) -> str:
        """Return the bound and its reasons in words."""
        where = "in" if self.in_row_space else f"{self.row_space_share:.3g} of it in"
        return (
            f"row {self.row} is correlated with the {self.kept} rows that stay by c = {self.c:.4g} at most, and lies {where}"
            f" their span: the smallest nonzero singular value is at most {self.bound:.4g} (with all products:"
            f" {self.sharper:.4g})"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers in plain types."""
        return {
            "row": self.row,
            "kept": self.kept,
            "c": self.c,
            "row_space_share": self.row_space_share,
            "in_row_space": self.in_row_space,
            "bound": self.bound if math.isfinite(self.bound) else None,
            "sharper": self.sharper if math.isfinite(self.sharper) else None,
        }


@final
@dataclass(frozen=True, eq=False, slots=True, repr=False)
class RowRemoval(Result):
    """Singular values of a matrix `before` and `after` rows were removed, both (min(rows, columns),), largest first.

    Attributes: `kept` (rows,), a mask; `rank`, of what stays; `tolerance` (2,), up to which values before and after count as 0;
    `weakest`, the removed row with the best bound, None where no row is removed or none gives a bound. `after` ends in zeros
    where fewer rows stay than there are columns.
    """

    before: Tensor
    after: Tensor
    kept: Tensor
    rank: int
    tolerance: Tensor
    weakest: WeakRow | None

    @property
    def removed(self) -> int:
        """How many rows were removed."""
        return int((~self.kept).sum())

    @property
    def lower(self) -> Tensor:
        """What interlacing says that the values after are at least, (count,): sigma_{i + removed} of the matrix before."""
        shifted = self.before[self.removed :]
        return torch.nn.functional.pad(shifted, (0, len(self.before) - len(shifted)))

    @property
    def upper(self) -> Tensor:
        """What interlacing says that the values after are at most, (count,): those before."""
        return self.before

    @property
    def interlaces(self) -> bool:
        """Whether the computed values keep to both, up to rounding: a check of the computation, for it is a theorem."""
        room = self.tolerance.max()
        return bool(((self.lower - room <= self.after) & (self.after <= self.upper + room)).all())

    @property
    def smallest(self) -> float:
        """The smallest nonzero value after the removal; NaN where nothing stays."""
        return float(self.after[self.rank - 1]) if self.rank else math.nan

    def __repr__(self) -> str:
        return f"RowRemoval({self.removed} of {len(self.kept)} rows removed, rank {self.rank})"

    def summary(self) -> str:
        lines = [repr(self)]
        if len(self.before):
            lines.append(f"  largest value {float(self.before[0]):.4g} before, {float(self.after[0]):.4g} after")
        if self.rank:
            low = float(self.lower[self.rank - 1])
            lines.append(f"  smallest nonzero value {self.smallest:.4g} after, at least {low:.4g} by interlacing")
        return "\n".join(lines + ([f"  {self.weakest.summary()}"] if self.weakest else []))

    def to_dict(self) -> dict[str, Any]:
        return {
            "rows": len(self.kept),
            "removed": self.removed,
            "rank": self.rank,
            "before": self.before.tolist(),
            "after": self.after.tolist(),
            "interlaces": self.interlaces,
            "weakest": None if self.weakest is None else self.weakest.to_dict(),
        }

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Draw the values before and after, and between what bounds the latter have to lie."""
        axes: Axes = importlib.import_module("polylens.plotting.spectrum").draw(self, ax, **options)
        return axes


def row_removal(A: ArrayLike, kept: ArrayLike) -> RowRemoval:
    """Return the singular values of a matrix before and after rows are removed, with what bounds them.

    Removing r rows interlaces: sigma_{i+r}(A) <= sigma_i(A_P) <= sigma_i(A). And a removed row that is nearly orthogonal to all
    that stay is a direction which they hardly see: see `WeakRow`, which is found for the best of the removed rows.

    Args:
        A: matrix (rows, columns), such as `affine_map(net, x, layer, at="pre").weight`.
        kept: mask (rows,) of the rows that stay, such as `patterns(net, x).pieces(layer)[0]`, or their positions.

    Raises:
        ShapeError, InputError: not a matrix; a mask of another length; positions outside; NaN.

    Algorithm: two singular value decompositions and the products of all kept with all removed rows.

    References: Thompson, Principal submatrices IX, Linear Algebra Appl. 5, 1972 (interlacing); Behrmann, Dittmer, Fernsel,
    Maass, Analysis of invariance and robustness via invertibility of ReLU-networks (2018) (weakly correlated rows).

    Example:
        >>> found = row_removal([[1.0, 0.0], [0.0, 1.0], [1.0, 0.1]], [0, 2])  # the row (0, 1) goes
        >>> found.weakest.row, found.interlaces, found.smallest < found.weakest.bound
        (1, True, True)
    """
    given = array(A, "A")
    floating(given, "A")
    matrix = finite(as_tensor(given, torch.float64, torch.device("cpu")), "A")
    if matrix.ndim != 2:
        raise ShapeError(f"row_removal: expected a matrix (rows, columns); got shape {tuple(matrix.shape)}")
    mask = _mask(kept, len(matrix))
    before, (_, after, right) = torch.linalg.svdvals(matrix), torch.linalg.svd(matrix[mask], full_matrices=False)
    count = len(before)
    after = torch.nn.functional.pad(after, (0, count - len(after)))
    largest = torch.stack([before[0], after[0]]) if count else before.new_zeros(2)
    tolerance = max(matrix.shape) * EPS * largest
    rank = int((after > tolerance[1]).sum())
    return RowRemoval(before, after, mask, rank, tolerance, _weakest(matrix, mask, right[:rank]))


def _mask(kept: ArrayLike, rows: int) -> Tensor:
    given = torch.as_tensor(kept, device="cpu").reshape(-1)
    if given.dtype == torch.bool:
        if len(given) != rows:
            raise ShapeError(f"kept: expected a mask of {rows} rows, or positions; got {len(given)} truth values")
        return given
    if given.numel() and given.is_floating_point():
        raise InputError(f"kept: expected a mask of bools or integer positions; got {given.dtype}")
    if given.numel() and (int(given.min()) < 0 or int(given.max()) >= rows):
        raise InputError(f"kept: expected positions from 0 to {rows - 1}; got {given.tolist()}")
    mask = torch.zeros(rows, dtype=torch.bool)
    mask[given.long()] = True
    if int(mask.sum()) != given.numel():
        raise InputError(f"kept: expected positions without repeats; got {given.tolist()}; pass a mask as bools")
    return mask


def _weakest(matrix: Tensor, mask: Tensor, row_space: Tensor) -> WeakRow | None:
    """Return the removed row with the least bound on the smallest nonzero value of what stays, whose row space is given."""
    kept, rows = matrix[mask], (~mask).nonzero().reshape(-1)
    length = torch.linalg.vector_norm(matrix[rows], dim=1)
    rows, length = rows[length > 0], length[length > 0]
    if not len(rows) or not len(row_space):
        return None
    removed = matrix[rows] / length[:, None]
    products = kept @ removed.T
    share = torch.linalg.vector_norm(removed @ row_space.T, dim=1)
    rounding = max(matrix.shape) * EPS
    share = torch.where(share > rounding, share, 0.0).clamp(max=1.0)
    c = math.sqrt(len(kept)) * products.abs().amax(0)
    best = int((c / share).argmin())
    if not bool(share[best] > 0):
        return None
    outside = torch.linalg.vector_norm(removed[best] - (removed[best] @ row_space.T) @ row_space)
    seen = torch.linalg.vector_norm(products[:, best])
    numbers = (float(c[best]), float(share[best]), bool(outside <= rounding))
    return WeakRow(int(rows[best]), len(kept), *numbers, float(c[best] / share[best]), float(seen / share[best]))
