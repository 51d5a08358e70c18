"""Formulas over the inputs X_i and outputs Y_i of a network: linear inequalities under `and` and `or`, in exact rationals."""

from __future__ import annotations

import contextlib
import itertools
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import NoReturn

from ._smt import Form, Node, Word, complain, forms, shown

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
_VARIABLE = re.compile(r"([XY])_(0|[1-9]\d*)")
_LARGEST_EXPONENT = 5000  # far beyond float64, and near enough that exact arithmetic stays cheap
_SILENT = {"set-logic", "set-info", "set-option", "check-sat", "get-model", "get-value", "exit"}
_COMPARISONS = ("<=", ">=", "<", ">", "=")
_ADVICE = {
    "not": "turn the inequality around",
    "=>": "write (or ...) of the cases",
    "distinct": "write (or ...) of < and >",
    "ite": "write (or ...) of the cases",
    "let": "write the terms out",
}

Variable = tuple[str, int]  # ("X", 3) is the input X_3
Linear = dict[Variable | None, Fraction]  # coefficients; that of None is the constant


@dataclass(frozen=True, slots=True)
class Row:
    """The inequality `sum coefficients[i] v_i <= bound`, where v are the inputs (kind "X") or the outputs (kind "Y").

    It is `<` where `strict`.
    """

    kind: str
    coefficients: Mapping[int, Fraction]
    bound: Fraction
    line: int
    strict: bool


@dataclass(frozen=True, slots=True)
class Every:
    """All parts hold; true without parts."""

    parts: tuple[Formula, ...]


@dataclass(frozen=True, slots=True)
class Some:
    """At least one part holds; false without parts."""

    parts: tuple[Formula, ...]


Formula = Row | Every | Some


@dataclass(frozen=True, slots=True)
class Problem:
    """What a file says: how many inputs and outputs it declares, the formula that it asserts, whether it has < or >."""

    num_inputs: int
    num_outputs: int
    formula: Every
    strict: bool


def read_problem(text: str, name: str) -> Problem:
    """Return what a VNN-LIB text declares and asserts.

    Raises FileError with the line of what is not understood.
    """
    return _Reader(name).read(forms(text, name))


def num_cases(formula: Formula) -> int:
    """Return how many cases the disjunctive normal form has, without writing it down."""
    if isinstance(formula, Row):
        return 1
    counts = [num_cases(part) for part in formula.parts]
    return math.prod(counts) if isinstance(formula, Every) else sum(counts)


def common(formula: Formula) -> Iterator[Row]:
    """Yield the rows that hold in every case."""
    if isinstance(formula, Row):
        yield formula
    elif isinstance(formula, Every):
        for part in formula.parts:
            yield from common(part)


def choices(formula: Formula) -> list[tuple[Row, ...]]:
    """Return for every case the rows that it has beside the common ones; their number is `num_cases`."""
    if isinstance(formula, Row):
        return [()]
    if isinstance(formula, Some):
        return [(*common(part), *rest) for part in formula.parts for rest in choices(part)]
    parts = [choices(part) for part in formula.parts if not isinstance(part, Row)]
    return [tuple(itertools.chain(*chosen)) for chosen in itertools.product(*parts)]


class _Reader:
    """From brackets to formulas, command by command."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.declared: dict[Variable, int] = {}  # with the line of the declaration
        self.strict = False

    def read(self, commands: Sequence[Form]) -> Problem:
        asserted = [formula for command in commands for formula in self._command(command)]
        inputs, outputs = (self._count(kind, len(commands)) for kind in "XY")
        return Problem(inputs, outputs, Every(tuple(asserted)), self.strict)

    def _count(self, kind: str, commands: int) -> int:
        """Return how many variables of a kind there are; their numbers have no gap."""
        found = {index: line for (k, index), line in self.declared.items() if k == kind}
        what = "inputs" if kind == "X" else "outputs"
        if not found:
            complain(self.name, 1, f"expected {what}, declared as ({kind}_0 ...); got none in {commands} commands")
        last = max(found)
        if last + 1 != len(found):
            missing = next(i for i in range(last) if i not in found)
            complain(
                self.name, found[last], f"expected {what} without a gap; {kind}_{last} is declared, {kind}_{missing} is not"
            )
        return len(found)

    # -- commands

    def _command(self, form: Form) -> list[Formula]:
        """Return what a command asserts: one formula or none."""
        if form.head in ("declare-const", "declare-fun"):
            self._declare(form)
        elif form.head == "assert":
            if len(form.items) != 2:
                self._complain(form, f"expected (assert FORMULA); got {len(form.items) - 1} formulas")
            return [self._formula(form.items[1])]
        elif form.head not in _SILENT:
            self._complain(form, f"expected declare-const, declare-fun or assert; got {shown(form)}; VNN-LIB 1.0 has no others")
        return []

    def _declare(self, form: Form) -> None:
        words = [item.text for item in form.items if isinstance(item, Word)]
        function = form.head == "declare-fun"
        empty = len(form.items) == 4 and isinstance(form.items[2], Form) and not form.items[2].items
        if len(words) != 3 or len(form.items) != 3 + function or (function and not empty):
            self._complain(form, f"expected ({form.head} X_0 {'() ' if function else ''}Real), or Y_0; got {shown(form)}")
        if words[2] != "Real":
            self._complain(form, f"expected the variable {words[1]} to be Real; got {words[2]}")
        variable = _variable(words[1])
        if variable is None:
            self._complain(form, f"expected an input X_0, X_1, ... or an output Y_0, Y_1, ...; got {words[1]!r}; rename it")
        if variable in self.declared:
            self._complain(form, f"{words[1]} is declared twice, first in line {self.declared[variable]}; remove one")
        self.declared[variable] = form.line

    # -- formulas

    def _formula(self, node: Node) -> Formula:
        if isinstance(node, Word):
            if node.text not in ("true", "false"):
                self._complain(node, f"expected a formula, as (<= X_0 1.0); got {shown(node)}")
            return Every(()) if node.text == "true" else Some(())
        if node.head in _COMPARISONS:
            return self._comparison(node)
        if node.head not in ("and", "or"):
            advice = f"; {_ADVICE[node.head]}" if node.head in _ADVICE else ""
            self._complain(node, f"expected and, or, {', '.join(_COMPARISONS)}; got {shown(node)}{advice}")
        parts = tuple(self._formula(item) for item in node.items[1:])
        if len(parts) == 1:
            return parts[0]
        return Every(parts) if node.head == "and" else Some(parts)

    def _comparison(self, form: Form) -> Formula:
        """Return a comparison of two terms, or of several in a chain, as rows."""
        if len(form.items) < 3:
            self._complain(form, f"expected two terms to compare; got {len(form.items) - 1}")
        terms = [self._term(item) for item in form.items[1:]]
        strict = form.head in ("<", ">")
        self.strict |= strict
        parts: list[Formula] = []
        for left, right in itertools.pairwise(terms):
            parts += [self._row(left, right, strict, form.line)] if form.head in ("<=", "<", "=") else []
            parts += [self._row(right, left, strict, form.line)] if form.head in (">=", ">", "=") else []
        return parts[0] if len(parts) == 1 else Every(tuple(parts))

    def _row(self, less: Linear, more: Linear, strict: bool, line: int) -> Formula:
        """Return `less <= more`, or `less < more`; without variables it is true or false."""
        difference = _sum([less, _scaled(more, Fraction(-1))])
        bound = -difference.pop(None, Fraction(0))
        coefficients = {variable: c for variable, c in difference.items() if variable is not None and c}
        kinds = sorted({kind for kind, _ in coefficients})
        if not kinds:
            return Every(()) if bound > 0 or (bound == 0 and not strict) else Some(())
        if len(kinds) > 1:
            names = [f"{kind}_{index}" for kind, index in coefficients]
            complain(
                self.name, line,
                f"expected inputs or outputs in one inequality; got both, {', '.join(names[:4])}; such sets are no preimages",
            )  # fmt: skip
        return Row(kinds[0], {index: c for (_, index), c in coefficients.items()}, bound, line, strict)

    # -- terms

    def _term(self, node: Node) -> Linear:
        if isinstance(node, Word):
            return self._leaf(node)
        combine: Callable[[Form, list[Linear]], Linear] | None = {
            "+": self._plus, "-": self._minus, "*": self._times, "/": self._over
        }.get(node.head)  # fmt: skip
        if combine is None or len(node.items) < 2:
            self._complain(node, f"expected a number, a variable, or a sum, difference or product of such; got {shown(node)}")
        return combine(node, [self._term(item) for item in node.items[1:]])

    def _leaf(self, word: Word) -> Linear:
        if _NUMBER.fullmatch(word.text):
            return {None: self._number(word)}
        variable = _variable(word.text)
        if variable not in self.declared:
            what = "a variable that is declared above" if variable else "a number or a variable X_0, Y_0, ..."
            self._complain(word, f"expected {what}; got {shown(word)}")
        return {variable: Fraction(1)}

    def _number(self, word: Word) -> Fraction:
        with contextlib.suppress(InvalidOperation):  # where the exponent itself is beyond what Decimal can hold
            value = Decimal(word.text)
            if not value or abs(value.adjusted()) <= _LARGEST_EXPONENT:
                return Fraction(value)
        self._complain(word, f"expected a number that float64 can hold; got {shown(word)}")

    def _plus(self, form: Form, terms: list[Linear]) -> Linear:
        return _sum(terms)

    def _minus(self, form: Form, terms: list[Linear]) -> Linear:
        negative = [_scaled(term, Fraction(-1)) for term in terms]
        return negative[0] if len(terms) == 1 else _sum([terms[0], *negative[1:]])

    def _times(self, form: Form, terms: list[Linear]) -> Linear:
        varying = [term for term in terms if not _is_constant(term)]
        if len(varying) > 1:
            self._complain(form, "expected a product with at most one factor that varies; products of variables are not linear")
        factor = math.prod((_constant(term) for term in terms if _is_constant(term)), start=Fraction(1))
        return _scaled(varying[0], factor) if varying else {None: factor}

    def _over(self, form: Form, terms: list[Linear]) -> Linear:
        divisors = terms[1:]
        if not divisors or not all(_is_constant(term) and _constant(term) for term in divisors):
            self._complain(form, "expected a division by numbers other than 0; other quotients are not linear")
        return _scaled(terms[0], 1 / math.prod((_constant(term) for term in divisors), start=Fraction(1)))

    def _complain(self, node: Node, problem: str) -> NoReturn:
        complain(self.name, node.line, problem)


def _variable(text: str) -> Variable | None:
    """Return the variable that a word names, None where it names none."""
    found = _VARIABLE.fullmatch(text)
    return (found[1], int(found[2])) if found and len(found[2]) < 10 else None


def _sum(terms: Sequence[Linear]) -> Linear:
    total: Linear = {}
    for term in terms:
        for variable, value in term.items():
            total[variable] = total.get(variable, Fraction(0)) + value
    return total


def _scaled(term: Linear, factor: Fraction) -> Linear:
    return {variable: value * factor for variable, value in term.items()}


def _is_constant(term: Linear) -> bool:
    """Say whether no variable is left, X_0 - X_0 being a constant."""
    return not any(value for variable, value in term.items() if variable is not None)


def _constant(term: Linear) -> Fraction:
    return term.get(None, Fraction(0))
