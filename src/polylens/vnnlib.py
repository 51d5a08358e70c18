"""Properties of networks in the VNN-LIB format: an input set, and the outputs that must not (or may) be reached from it.

The formula is brought into cases, each an input set and a polytope of outputs: a preimage answers each of them.
"""

from __future__ import annotations

import gzip
import math
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple, final

import torch
from torch import Tensor

from ._check import ArrayLike, array, as_tensor, whole
from ._types import Result
from ._vnnlib.formula import Declared, Problem, Row, choices, common, num_cases
from ._vnnlib.problem import read_problem
from ._vnnlib.words import complain
from .domain import Box
from .errors import FileError, ShapeError
from .polytope import Polytope

_MOST_CASES = 100_000
_Side = tuple[Fraction, int]


class Strict(NamedTuple):
    """Which sides (num_inputs,) and which rows of a case hold without equality: masks."""

    low: Tensor
    high: Tensor
    inputs: Tensor
    outputs: Tensor


@final
@dataclass(frozen=True, eq=False, slots=True, repr=False)
class Case:
    """Inputs x with low <= x <= high that satisfy the rows of `inputs`, and outputs that satisfy those of `outputs`.

    `low` and `high` (num_inputs,), float64, are -inf and inf where a side is not bounded; `inputs` has a row for each
    inequality of several inputs, often none. `low <= high` everywhere. `strict` says which of them hold without equality.
    """

    low: Tensor
    high: Tensor
    inputs: Polytope
    outputs: Polytope
    strict: Strict

    @property
    def domain(self) -> Box | Polytope:
        """The input set, closed: a box, or a polytope where inequalities have several inputs."""
        return Polytope.box(self.low, self.high) & self.inputs if len(self.inputs) else Box(self.low, self.high)

    def contains(self, x: Tensor, y: Tensor) -> Tensor:
        """Return for inputs (batch, num_inputs) with their outputs (batch, num_outputs) whether both are in the case."""
        boxed = holding(x - self.low, self.strict.low) & holding(self.high - x, self.strict.high)
        inputs, outputs = holding(self.inputs.slack(x), self.strict.inputs), holding(self.outputs.slack(y), self.strict.outputs)
        return boxed.all(1) & inputs.all(1) & outputs.all(1)

    def to_dict(self) -> dict[str, Any]:
        """Return the case in plain types; a side that is not bounded is None."""
        low, high = ([v if math.isfinite(v) else None for v in side.tolist()] for side in (self.low, self.high))
        strict = {name: mask.tolist() for name, mask in self.strict._asdict().items()}
        sides = {"low": low, "high": high, "strict_low": strict["low"], "strict_high": strict["high"]}
        return sides | {
            n: {"matrix": p.matrix.tolist(), "bound": p.bound.tolist(), "strict": strict[n]}
            for n, p in (("inputs", self.inputs), ("outputs", self.outputs))
        }


def holding(slack: Tensor, strict: Tensor) -> Tensor:
    """Return whether inequalities hold whose two sides differ by `slack` (..., rows)."""
    return torch.where(strict, slack > 0, slack >= 0)


@final
@dataclass(frozen=True, eq=False, slots=True, repr=False)
class Property(Result):
    """The set of pairs (x, y) of inputs and outputs that a VNN-LIB file describes, as a union of `cases`.

    Domains and polytopes are closed; each case knows which of its sides and rows are strict (<), and `strict` says whether
    the text has any. Numbers are read exactly as decimals, combined exactly, and rounded once to the nearest float64.
    `dropped` counts the cases whose input bounds contradict one another, exactly; they are not among the cases. Outputs
    that contradict one another are. `source` is the file's name.

    `inputs` and `outputs` are the tensors that a text in VNN-LIB 2.0 declares, each with its name, the type of its entries,
    its shape, and its name in the model if that is given; empty for version 1.0. Their entries lie one after the other, tensor
    by tensor and row by row.
    """

    num_inputs: int
    num_outputs: int
    cases: tuple[Case, ...]
    dropped: int
    strict: bool
    source: str
    inputs: tuple[Declared, ...] = ()
    outputs: tuple[Declared, ...] = ()

    def contains(self, x: ArrayLike, y: ArrayLike) -> Tensor:
        """Return for inputs with their outputs whether they are in some case: (batch,), evaluated in float64.

        x is (batch, *any shape of num_inputs entries), y is (batch, *any shape of num_outputs entries).
        Raises ShapeError for other shapes, InputError for NaN and infinity.
        """
        x, y = _flat(x, self.num_inputs, "input"), _flat(y, self.num_outputs, "output")
        if len(x) != len(y):
            raise ShapeError(f"{self.source}: expected as many outputs as inputs; got {len(x)} inputs and {len(y)} outputs")
        found = torch.zeros(len(x), dtype=torch.bool)
        for case in self.cases:
            found |= case.contains(x, y)
        return found

    def groups(self) -> list[list[Case]]:
        """Return the cases of equal input sets together, in the order in which they first occur."""
        found: dict[tuple[bytes, ...], list[Case]] = {}
        for case in self.cases:
            own = (case.low, case.high, case.inputs.matrix, case.inputs.bound, *case.strict[:3])
            key = tuple(t.numpy().tobytes() for t in own)
            found.setdefault(key, []).append(case)
        return list(found.values())

    def grouped(self) -> list[tuple[Box | Polytope, list[Polytope]]]:
        """Return every input set once, with the output polytopes of all cases that have it; all of them closed.

        One preimage of the union of these polytopes answers the cases together.
        """
        return [(cases[0].domain, [case.outputs for case in cases]) for cases in self.groups()]

    def __repr__(self) -> str:
        return f"Property({self.source}: {self.num_inputs} inputs, {self.num_outputs} outputs, {len(self.cases)} cases)"

    def summary(self) -> str:
        lines = [repr(self)]
        for domain, outputs in self.grouped():
            rows = sorted({len(p) for p in outputs})
            lines.append(f"  {domain!r}: {len(outputs)} output polytopes of {' or '.join(map(str, rows))} rows")
        if self.dropped:
            lines.append(f"  {self.dropped} more cases have contradictory input bounds")
        if self.strict:
            lines.append("  some inequalities are strict; sets are shown with their boundaries")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        return {
            "source": self.source,
            "num_inputs": self.num_inputs,
            "num_outputs": self.num_outputs,
            "dropped_cases": self.dropped,
            "strict": self.strict,
            "inputs": [asdict(tensor) for tensor in self.inputs],
            "outputs": [asdict(tensor) for tensor in self.outputs],
            "cases": [case.to_dict() for case in self.cases],
        }


def read_vnnlib(path: str | os.PathLike[str], *, limit: int = _MOST_CASES) -> Property:
    """Return the property that a VNN-LIB file describes: a union of input sets, each with a polytope of outputs.

    Args:
        path: a file in VNN-LIB 1.0 or 2.0, gzipped or not; what counts is the content, not the name.
        limit: the largest number of cases that is written out.

    Raises:
        FileError: missing or damaged, or not such a text, as for `parse_vnnlib`.

    Algorithm: as for `parse_vnnlib`.

    References: as for `parse_vnnlib`.

    Example:
        >>> import tempfile, pathlib
        >>> from polylens import read_vnnlib
        >>> text = "(declare-const X_0 Real)(declare-const Y_0 Real)(assert (<= 0 X_0 1))(assert (>= Y_0 3.5))"
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder) / "high.vnnlib"
        ...     _ = path.write_text(text)
        ...     read_vnnlib(path)
        Property(high.vnnlib: 1 inputs, 1 outputs, 1 cases)
    """
    path = Path(path)
    return parse_vnnlib(_text(path), path.name, limit=limit)


def parse_vnnlib(text: str, name: str = "text", *, limit: int = _MOST_CASES) -> Property:
    """Return the property that a VNN-LIB text describes, in disjunctive normal form.

    Version 1.0: declare-const and declare-fun of Real variables X_0, X_1, ... and Y_0, Y_1, ... without gaps.
    Version 2.0: one declare-network with any number of inputs and outputs, tensors of real numbers; `X[0,1]` is an entry,
    counted from 0, and a tensor of shape [] is its name alone. Several inputs are joined in the order of their declaration,
    which has to be that of `net.inputs`; several outputs stand for one output of the model that holds them in a row. The text
    says so by (vnnlib-version <2.0>), or declares one.

    Both assert `and` and `or` of `<=`, `>=`, `<`, `>` and `=` (in chains too) between sums, differences and products with
    numbers; 2.0 also has `==` and `!=`. All assertions hold together, an equality is two inequalities, and a strict
    inequality stays strict. Whatever the types of its entries, 2.0 is read over the real numbers, as the type Real says:
    a witness of `verify` is confirmed in the model's own precision, while unsat is about the network in exact arithmetic.

    Refused with the way out, because no polytope of outputs says them: several networks, hidden tensors (where they are
    used), products of variables, inequalities of inputs and outputs together, and tensors of integers.

    Args:
        text: the whole of it.
        name: what complaints call it.
        limit: the largest number of cases that is written out; a conjunction of disjunctions has as many as their
            product.

    Raises:
        FileError: with the line: brackets that do not match, unknown commands, undeclared variables, indices beyond a shape,
            terms that are not linear, numbers beyond float64, more cases than the limit.
        InputError: a limit that is no positive whole number.

    Algorithm: the formula is read in exact rational arithmetic; cases are counted before they are written out, and share
    what is common to all. Cost: linear in the text and in the rows of all cases.

    References: the standard VNN-LIB 2.0 (15 December 2025), https://www.vnnlib.org; A. Roy, A. Antony, A. Gimelli and
    M. L. Daggitt, VNN-LIB 2.0: Rigorous Foundations for Neural Network Verification, arXiv:2605.07451 (2026). For 1.0:
    S. Demarchi, D. Guidotti, L. Pulina and A. Tacchella, Supporting Standardization of Neural Networks Verification with
    VNN-LIB and CoCoNet, FoMLAS (2023).

    Example:
        >>> from polylens import parse_vnnlib
        >>> both = parse_vnnlib('''
        ...     (declare-const X_0 Real)
        ...     (declare-const Y_0 Real)
        ...     (assert (or (and (>= X_0 0) (<= X_0 1)) (and (>= X_0 2) (<= X_0 3))))  ; two boxes
        ...     (assert (<= (* 2 Y_0) 1e-1))
        ... ''')
        >>> [(case.low.tolist(), case.high.tolist(), case.outputs.bound.tolist()) for case in both.cases]
        [([0.0], [1.0], [0.1]), ([2.0], [3.0], [0.1])]
        >>> second = parse_vnnlib('''
        ...     (vnnlib-version <2.0>)
        ...     (declare-network f (declare-input X Real [1,2]) (declare-output Y Real []))
        ...     (assert (and (<= 0 X[0,0]) (<= X[0,0] 1) (== X[0,1] 0.5)))
        ...     (assert (> Y 3))
        ... ''')
        >>> (case,) = second.cases
        >>> case.low.tolist(), case.high.tolist(), case.outputs.bound.tolist(), case.strict.outputs.tolist()
        ([0.0, 0.5], [1.0, 0.5], [-3.0], [True])
    """
    problem = read_problem(text.removeprefix("\ufeff"), name)  # the mark that some editors begin a text with
    count, limit = num_cases(problem.formula), whole(limit, "limit")
    if count > limit:
        raise FileError(f"{name}: expected at most {limit} cases; the formula has {count}; raise limit, or split the file")
    cases = tuple(_cases(problem, name))
    return Property(
        problem.num_inputs,
        problem.num_outputs,
        cases,
        count - len(cases),
        problem.strict,
        name,
        problem.inputs,
        problem.outputs,
    )


# -- rows to boxes and polytopes


def _cases(problem: Problem, name: str) -> Iterator[Case]:
    """Yield the cases whose input bounds do not contradict one another; what they have in common is read once."""
    rows = list(common(problem.formula))
    shared = _Sides.unbounded(problem.num_inputs).narrowed(rows, name)
    if shared is None:
        return
    inputs = _matrix(rows, "X", problem.num_inputs, name)
    outputs = _matrix(rows, "Y", problem.num_outputs, name)
    for extra in choices(problem.formula):
        sides = shared.narrowed(extra, name)
        if sides is not None:
            further = inputs.joined(_matrix(extra, "X", problem.num_inputs, name))
            reached = outputs.joined(_matrix(extra, "Y", problem.num_outputs, name))
            strict = Strict(*sides.strict(problem.num_inputs), further.strict, reached.strict)
            yield Case(sides.low, sides.high, further.polytope, reached.polytope, strict)


@dataclass(frozen=True, slots=True)
class _Sides:
    """A box, exactly where it is bounded (`least`, `most`) and rounded to the nearest float64 (`low`, `high`).

    Exact sides are (number, 0), (number, 1) from which a strict lower side starts, and (number, -1) for a strict upper side:
    as pairs they are in the order of what they let through.
    """

    least: Mapping[int, _Side]
    most: Mapping[int, _Side]
    low: Tensor
    high: Tensor

    @classmethod
    def unbounded(cls, num_inputs: int) -> _Sides:
        high = torch.full((num_inputs,), torch.inf, dtype=torch.float64)
        return cls({}, {}, -high, high)

    def narrowed(self, rows: Iterable[Row], name: str) -> _Sides | None:
        """Return the part where the rows of one input hold, None where they contradict one another."""
        single = [row for row in rows if row.kind == "X" and len(row.coefficients) == 1]
        if not single:
            return self
        least, most = dict(self.least), dict(self.most)
        low, high = self.low.clone(), self.high.clone()
        for row in single:
            ((i, c),) = row.coefficients.items()
            side = row.bound / c
            if c > 0:
                most[i] = min((side, -int(row.strict)), most.get(i, (side, 0)))
                high[i] = _nearest(most[i][0], row, name)
            else:
                least[i] = max((side, int(row.strict)), least.get(i, (side, 0)))
                low[i] = _nearest(least[i][0], row, name)
            if i in least and i in most and least[i] > most[i]:
                return None
        return _Sides(least, most, low, high)

    def strict(self, num_inputs: int) -> tuple[Tensor, Tensor]:
        """Return which lower and which upper sides are strict."""
        low, high = ([i in ends and ends[i][1] != 0 for i in range(num_inputs)] for ends in (self.least, self.most))
        return torch.tensor(low, dtype=torch.bool), torch.tensor(high, dtype=torch.bool)


class _Rows(NamedTuple):
    """Inequalities matrix v <= bound, and which of them are strict."""

    matrix: Tensor
    bound: Tensor
    strict: Tensor

    def joined(self, extra: _Rows) -> _Rows:
        """Return these rows and then the others."""
        return _Rows(*(torch.cat(pair) for pair in zip(self, extra, strict=True)))

    @property
    def polytope(self) -> Polytope:
        return Polytope.of(self.matrix, self.bound)


def _matrix(rows: Iterable[Row], kind: str, size: int, name: str) -> _Rows:
    """Return the rows of the outputs, or those of several inputs, rounded to the nearest float64."""
    chosen = [row for row in rows if row.kind == kind and (kind == "Y" or len(row.coefficients) > 1)]
    matrix = torch.zeros(len(chosen), size, dtype=torch.float64)
    for k, row in enumerate(chosen):
        for i, c in row.coefficients.items():
            matrix[k, i] = _nearest(c, row, name)
    bound = torch.tensor([_nearest(row.bound, row, name) for row in chosen], dtype=torch.float64)
    return _Rows(matrix, bound, torch.tensor([row.strict for row in chosen], dtype=torch.bool))


def _nearest(value: Fraction, row: Row, name: str) -> float:
    """Return the nearest float64, or complain about a number that is too large or too small for it."""
    try:
        found = float(value)
    except OverflowError:
        found = math.inf
    if math.isinf(found) or (value and not found):
        complain(
            name, row.line, "expected coefficients and bounds that float64 can hold; got one beyond; rescale the inequality"
        )
    return found


# -- what comes in


def _flat(x: ArrayLike, size: int, what: str) -> Tensor:
    found = as_tensor(array(x, what), torch.float64, torch.device("cpu"))
    if found.ndim < 2 or math.prod(found.shape[1:]) != size:
        raise ShapeError(f"{what}: expected (batch, *shape) with {size} entries each; got {tuple(found.shape)}")
    return found.reshape(len(found), size)


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
        return content.decode("utf-8")
    except FileNotFoundError:
        raise FileError(f"{path}: expected a VNN-LIB file; there is none") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise FileError(f"{path}: the gzip file is damaged or truncated; {error}; fetch it again") from None
    except UnicodeDecodeError:
        raise FileError(f"{path}: expected a VNN-LIB file, which is text; got something else") from None
    except OSError as error:
        raise FileError(f"{path}: cannot be read; {error.strerror}") from None
