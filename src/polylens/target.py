"""Sets of outputs: unions of polytopes over the flattened output, some of whose rows are equalities or strict.

They know no network. A strict row leaves its hyperplane to another set: `Argmax` gives ties to the lowest index that way.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from ._check import ArrayLike, array, finite, whole
from ._types import Result, Tolerance
from .errors import InputError, ShapeError
from .geometry import is_empty, support
from .polytope import Polytope


@final
@dataclass(frozen=True, eq=False, slots=True)
class Part:
    """One convex set {y : matrix y <= bound}: rows of `equal` hold with equality, those of `strict` without it.

    Rows of `added` only keep the part apart from other parts of a union.
    """

    matrix: Tensor
    bound: Tensor
    equal: Tensor
    strict: Tensor
    added: Tensor

    @classmethod
    def of(cls, matrix: Tensor, bound: Tensor, strict: Tensor | None = None) -> Part:
        """Return the part; a row and its negative with opposite bounds are one equality."""
        strict = torch.zeros(len(bound), dtype=torch.bool) if strict is None else strict
        twin = (matrix[:, None] == -matrix[None]).all(-1) & (bound[:, None] == -bound[None])
        twin &= matrix.any(1) & ~strict & ~strict[:, None]
        equal = twin.any(1)
        kept = ~torch.tril(twin, -1).any(1)  # the first of two stands for both
        return cls(matrix[kept], bound[kept], equal[kept], strict[kept], torch.zeros_like(strict[kept]))

    @property
    def polytope(self) -> Polytope:
        """The closure, every equality as two rows."""
        matrix = torch.cat([self.matrix, -self.matrix[self.equal]])
        return Polytope.of(matrix, torch.cat([self.bound, -self.bound[self.equal]]))

    def contains(self, y: Tensor, room: float, terms: Tensor) -> Tensor:
        """Return whether outputs (batch, outputs) lie in the part; hyperplanes are `room` wide in parts of their terms.

        `terms` (batch, outputs) are the sizes of what outputs are sums of: an output of 0 may be the rounding of large ones.
        """
        excess = y @ self.matrix.T - self.bound
        near = room * (terms @ self.matrix.abs().T + self.bound.abs())
        held = torch.where(self.strict, excess < 0, excess <= near) & ~(self.equal & (excess < -near))
        return held.all(1)


@final
@dataclass(frozen=True, slots=True)
class Argmax:
    """The outputs whose entry `k` is the largest, by at least `margin`.

    Without a margin ties go to the lowest index, as `torch.argmax` has it. k counts the entries of the flattened output.

    Raises InputError for a k that is no index, a margin that is negative or not finite.

    Example:
        >>> from polylens import Argmax
        >>> Argmax(3, margin=0.5)
        Argmax(k=3, margin=0.5)
    """

    k: int
    margin: float = 0.0

    def __post_init__(self) -> None:
        whole(self.k, "argmax: k", least=0)
        if not (isinstance(self.margin, int | float) and math.isfinite(self.margin) and self.margin >= 0):
            raise InputError(f"argmax: expected a margin of at least 0; got {self.margin!r}")

    def over(self, outputs: int) -> OutputSet:
        """Return the set among so many outputs."""
        if self.k >= outputs:
            raise InputError(f"argmax: expected an index below {outputs}, the number of outputs; got {self.k}")
        others = [j for j in range(outputs) if j != self.k]
        matrix = torch.eye(outputs, dtype=torch.float64)[others]
        matrix[:, self.k] = -1.0
        strict = torch.tensor([j < self.k and not self.margin for j in others], dtype=torch.bool)
        bound = torch.full((len(others),), -float(self.margin), dtype=torch.float64)
        return OutputSet((Part(matrix, bound, torch.zeros_like(strict), strict, torch.zeros_like(strict)),), outputs)


@final
@dataclass(frozen=True, eq=False, slots=True, repr=False)
class OutputSet(Result):
    """A union of convex sets over `dim` outputs; `|` unites sets, and a set without parts is empty.

    Example:
        >>> from polylens import OutputSet
        >>> either = OutputSet.parse(["y0 >= y1 + 1"], 2) | OutputSet.box([0.0, 0.0], [1.0, 1.0])
        >>> either.contains([[2.0, 1.0], [0.5, 0.5], [0.0, 3.0]]).tolist()
        [True, True, False]
    """

    parts: tuple[Part, ...]
    dim: int

    @classmethod
    def everything(cls, dim: int) -> OutputSet:
        """Return the set of all outputs."""
        return cls.halfspaces(torch.zeros(0, dim), torch.zeros(0))

    @classmethod
    def point(cls, y: ArrayLike) -> OutputSet:
        """Return the set of one output, of any shape."""
        value = _numbers(y, "output set: the point").reshape(-1)
        return cls.box(value, value)

    @classmethod
    def box(cls, low: ArrayLike, high: ArrayLike) -> OutputSet:
        """Return {low <= y <= high}, entry by entry; infinite sides are not there, equal ones fix their entry."""
        low, high = (torch.as_tensor(array(v, f"output set: {n}")).double().cpu() for v, n in ((low, "low"), (high, "high")))
        if bool(torch.isnan(low).any() | torch.isnan(high).any()):
            raise InputError("output set: expected sides without NaN; write -inf and inf for sides that are not there")
        side = Polytope.box(low, high)
        return cls((Part.of(side.matrix, side.bound),) if bool((low <= high).all()) else (), side.dim)

    @classmethod
    def halfspaces(cls, matrix: ArrayLike, bound: ArrayLike) -> OutputSet:
        """Return {matrix y <= bound}: matrix (rows, outputs), bound (rows,)."""
        return cls.of(Polytope.of(matrix, bound))

    @classmethod
    def of(cls, polytope: Polytope) -> OutputSet:
        """Return a polytope over the outputs as a set; an empty one has no part."""
        rows = polytope.select(polytope.matrix.any(1) | (polytope.bound < 0))
        empty = bool(is_empty(rows).answer) if len(rows) else False
        return cls(() if empty else (Part.of(rows.matrix, rows.bound),), polytope.dim)

    @classmethod
    def parse(cls, constraints: Sequence[str], dim: int) -> OutputSet:
        """Return the outputs that meet all constraints such as "y0 >= y1", "2*y3 - y0 <= 1.5" or "y2 == 0".

        Terms are numbers, entries y0, y1, ... of the flattened output, and numbers times entries, joined by + and -. Sets are
        closed: < is read as <=, > as >=.

        Raises InputError for anything else.
        """
        if isinstance(constraints, str):
            raise InputError(f"constraints: expected a list of them; got the text {constraints!r}; write [{constraints!r}]")
        rows = [row for text in constraints for row in _rows(text, dim)]
        matrix = torch.stack([r[0] for r in rows]) if rows else torch.zeros(0, dim, dtype=torch.float64)
        return cls.halfspaces(matrix, torch.tensor([r[1] for r in rows], dtype=torch.float64))

    @property
    def has_interior(self) -> bool:
        """Whether some part is not confined to a hyperplane by an equality."""
        return any(not bool(part.equal.any()) for part in self.parts)

    def __or__(self, other: OutputSet) -> OutputSet:
        """Return the union."""
        if not isinstance(other, OutputSet):
            return NotImplemented
        if self.dim != other.dim:
            raise ShapeError(f"union: expected sets of as many outputs; got {self.dim} and {other.dim}")
        return OutputSet(self.parts + other.parts, self.dim)

    def contains(self, y: ArrayLike, room: float = 0.0) -> Tensor:
        """Return for outputs (batch, ...) or one (outputs,) whether they lie in the set, hyperplanes being `room` wide.

        `room` is in parts of the terms of each row: 1e-12, say, for outputs that were computed.
        """
        value = _numbers(y, "output")
        flat = value.reshape(1, -1) if value.numel() == self.dim and value.ndim <= 1 else value.flatten(1)
        if flat.shape[-1] != self.dim:
            raise ShapeError(f"output: expected {self.dim} entries a sample; got {tuple(value.shape)}")
        found = self.holds(flat, room, flat.abs())
        return found if value.ndim > 1 else found[0]

    def holds(self, y: Tensor, room: float, terms: Tensor) -> Tensor:
        """Return for outputs (batch, outputs) whether they lie in the set, hyperplanes being `room` of the terms wide."""
        found = torch.zeros(len(y), dtype=torch.bool)
        for part in self.parts:
            found |= part.contains(y, room, terms)
        return found

    def disjoint(self) -> OutputSet:
        """Return the same union, each part without those in front of it: cut along their rows, strict on that side.

        Cost: a part less one of r rows is at most r parts; those whose closure is empty are left out.
        """
        done: list[Part] = []
        for part in self.parts:
            rest = [part]
            for other in done:
                rest = [piece for r in rest for piece in _without(r, other)]
            done += rest
        return OutputSet(tuple(done), self.dim)

    def __repr__(self) -> str:
        return f"OutputSet({len(self.parts)} convex {'part' if len(self.parts) == 1 else 'parts'} of {self.dim} outputs)"

    def summary(self) -> str:
        lines = [repr(self)]
        for part in self.parts:
            equal, strict = int(part.equal.sum()), int(part.strict.sum())
            lines.append(f"  {len(part.bound)} rows, {equal} of them equalities and {strict} strict")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        names = ("matrix", "bound", "equal", "strict")
        return {"outputs": self.dim, "parts": [{n: getattr(p, n).tolist() for n in names} for p in self.parts]}


Target = Any  # what `output_set` understands: a number or an array, a Polytope, an OutputSet, Argmax, or a list of these


def output_set(target: Target, shape: tuple[int, ...]) -> OutputSet:
    """Return what a caller means by a target over outputs of a shape.

    A number or an array is a point (a number for all entries); a list that holds sets is their union.

    Raises ShapeError for a set or a point of another size, InputError for what is none of these.
    """
    outputs = math.prod(shape)
    if isinstance(target, list | tuple) and any(isinstance(t, Polytope | OutputSet | Argmax) for t in target):
        sets = [output_set(t, shape) for t in target]
        return OutputSet(tuple(part for s in sets for part in s.parts), outputs)
    if isinstance(target, Argmax):
        return target.over(outputs)
    if target is None or isinstance(target, bool) or (isinstance(target, list | tuple) and not target):
        raise InputError(f"target: expected an output, a Polytope, an OutputSet, Argmax(k) or a list of sets; got {target!r}")
    if isinstance(target, str):
        raise InputError(f"target: expected a set of outputs; got {target!r}; OutputSet.parse([...], {outputs}) reads text")
    found = target if isinstance(target, OutputSet) else OutputSet.of(target) if isinstance(target, Polytope) else None
    if found is None:
        y = _numbers(target, "target")
        if y.numel() not in (1, outputs):
            raise ShapeError(f"target: expected an output of shape {shape} or one number for all; got {tuple(y.shape)}")
        found = OutputSet.point(y.reshape(-1).expand(outputs))
    if found.dim != outputs:
        raise ShapeError(f"target: expected a set over the {outputs} flattened outputs; got one over {found.dim}")
    return found


def _numbers(y: ArrayLike, what: str) -> Tensor:
    try:
        value = torch.as_tensor(array(y, what), dtype=torch.float64, device="cpu")
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{what}: expected numbers, a Polytope, an OutputSet, Argmax(k) or a list of sets; got {type(y).__name__}"
        ) from error
    return finite(value, what)


def _without(part: Part, other: Part) -> list[Part]:
    """Return convex sets that make up a part less another one."""
    found, kept = [], part
    sides = [(row, b, bool(s)) for row, b, s in zip(other.matrix, other.bound, other.strict, strict=True)]
    sides += [(-row, -b, False) for row, b in zip(other.matrix[other.equal], other.bound[other.equal], strict=True)]
    for row, bound, strict in sides:
        outside = _cut(kept, -row, -bound, not strict)
        if not _is_void(outside):
            found.append(outside)
        kept = _cut(kept, row, bound, strict)
    return found


def _is_void(part: Part) -> bool:
    """Say whether no output meets all rows: none of the closure, or none off the hyperplane of a strict row.

    One point off each is enough: their mean is off all.
    """
    polytope = part.polytope
    if bool(is_empty(polytope).answer):
        return True
    for row, bound in zip(part.matrix[part.strict], part.bound[part.strict], strict=True):
        room = Tolerance().relative * (float(bound.abs()) + float(row.abs().max()))
        if support(polytope, -row).value <= room - float(bound):
            return True
    return False


def _cut(part: Part, row: Tensor, bound: Tensor, strict: bool) -> Part:
    matrix, bounds = torch.cat([part.matrix, row[None]]), torch.cat([part.bound, bound[None]])
    no, yes = torch.tensor([False]), torch.tensor([True])
    strict_rows, added = torch.cat([part.strict, yes if strict else no]), torch.cat([part.added, yes])
    return Part(matrix, bounds, torch.cat([part.equal, no]), strict_rows, added)


_TERM = re.compile(r"\s*([+-]?)\s*(?:(\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?)\s*(\*?)\s*)?(y_?(\d+))?", re.ASCII)


def _rows(text: str, dim: int) -> list[tuple[Tensor, float]]:
    """Return the rows (coefficients, bound) of one constraint."""
    sides = re.split(r"(<=|>=|==|=|<|>)", text)
    if len(sides) != 3:
        raise InputError(f'constraint: expected one of <=, >=, == between two sums, as in "y0 >= y1 + 1"; got {text!r}')
    (left, a), (right, b) = (_sum(side, dim, text) for side in (sides[0], sides[2]))
    row, bound = left - right, b - a
    return {"<": [(row, bound)], ">": [(-row, -bound)], "=": [(row, bound), (-row, -bound)]}[sides[1][0]]


def _sum(text: str, dim: int, whole_text: str) -> tuple[Tensor, float]:
    """Return the coefficients and the constant of a sum of terms."""
    row, constant, at, text = torch.zeros(dim, dtype=torch.float64), 0.0, 0, text.strip()
    while at < len(text):
        found = _TERM.match(text, at)
        if found is None or not (found[2] or found[4]) or (found[3] and not found[4]) or (at and not found[1]):
            raise InputError(f'constraint: expected terms such as 2*y3 or -1.5 in {whole_text!r}; cannot read "{text[at:]}"')
        value = float(f"{found[1]}{found[2] or '1'}")
        if not found[4]:
            constant += value
        elif int(found[5]) < dim:
            row[int(found[5])] += value
        else:
            raise InputError(f"constraint: expected outputs y0 to y{dim - 1}; got {found[4]} in {whole_text!r}")
        at = found.end()
    if not text:
        raise InputError(f"constraint: expected a term on both sides; got {whole_text!r}")
    return row, constant
