"""What the answers have in common: plain types, verification, and the errors of questions that have none."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, NoReturn

import torch
from torch import Tensor

from .._lp import Deepest, Proofs, accuracy_of, deepest
from .._types import Result, Status, Tolerance
from ..errors import GeometryError
from ..polytope import Polytope

TOLERANCE = Tolerance()


class Answer(Result):
    """A result whose fields are its plain types."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.summary()})"

    def to_dict(self) -> dict[str, Any]:
        return {f.name: _plain(getattr(self, f.name)) for f in fields(self)}  # type: ignore[arg-type]


def _plain(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.tolist()
    return value.value if isinstance(value, Status) else value


def refuse_empty(question: str) -> NoReturn:
    raise GeometryError(
        f"{question}: expected a polytope with points; got an empty one; is_empty gives the multipliers that prove it"
    )


def refuse_undecided(question: str) -> NoReturn:
    raise GeometryError(
        f"{question}: expected rows that the solver can settle; its answer could not be verified within tolerance;"
        " rescale rows or coordinates to comparable size, or pass a larger tolerance"
    )


def proofs_of(p: Polytope, tolerance: Tolerance) -> Proofs:
    return Proofs(p.matrix.numpy(), p.bound.numpy(), accuracy_of(tolerance))


def deepest_of(p: Polytope, tolerance: Tolerance) -> Deepest | None:
    return deepest(p.matrix, p.bound, tolerance=tolerance)


def unit_rows(p: Polytope) -> tuple[Tensor, Tensor]:
    """Return matrix and bound with rows of length 1 (rows of zeros stay)."""
    norms = torch.linalg.vector_norm(p.matrix, dim=1)
    norms = torch.where(norms > 0, norms, 1.0)
    return p.matrix / norms[:, None], p.bound / norms


def row_space(matrix: Tensor, accuracy: float) -> tuple[Tensor, Tensor]:
    """Return orthonormal bases (dim, rank) of the row space and (dim, dim - rank) of its complement, rows counted alike."""
    norms = torch.linalg.vector_norm(matrix, dim=1)
    unit = matrix[norms > 0] / norms[norms > 0, None]
    _, values, right = torch.linalg.svd(unit, full_matrices=unit.shape[0] < unit.shape[1])  # `right` is square either way
    rank = int((values > accuracy * values.amax()).sum()) if len(values) else 0
    return right[:rank].T.contiguous(), right[rank:].T.contiguous()
