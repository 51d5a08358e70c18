"""Reading formulas: from brackets and words to linear inequalities under `and` and `or`, in exact rationals.

What a variable is called, and how it is declared, is for the versions of the format to say.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import NoReturn

from .formula import Every, Formula, Problem, Row, Some
from .words import Form, Node, Word, complain, shown

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
_LARGEST_EXPONENT = 5000  # far beyond float64, and near enough that exact arithmetic stays cheap
_SILENT = {"set-logic", "set-info", "set-option", "check-sat", "get-model", "get-value", "exit"}
_ADVICE = {
    "not": "turn the inequality around",
    "=>": "write (or ...) of the cases",
    "distinct": "write (or ...) of < and >",
    "ite": "write (or ...) of the cases",
    "let": "write the terms out",
}

Variable = tuple[str, int]  # ("X", 3) is the fourth input, ("Y", 0) the first output
Linear = dict[Variable | None, Fraction]  # coefficients; that of None is the constant


class Reader(ABC):
    """From brackets to formulas, command by command."""

    version: str
    commands: str  # what there is, for complaints
    comparisons: tuple[str, ...]

    def __init__(self, name: str) -> None:
        self.name = name
        self.strict = False

    @abstractmethod
    def problem(self, formula: Every, commands: int) -> Problem:
        """Return what the commands have declared, with the formula that they assert together."""

    @abstractmethod
    def declare(self, form: Form) -> bool:
        """Take up what a command declares; say whether it declares anything."""

    @abstractmethod
    def variable(self, word: Word) -> Variable:
        """Return the variable that a word stands for, or complain."""

    @abstractmethod
    def spelled(self, variable: Variable) -> str:
        """Return a variable as the text writes it."""

    def read(self, commands: Sequence[Form]) -> Problem:
        """Return what a text declares and asserts; all its assertions hold together."""
        asserted = [formula for command in commands for formula in self._command(command)]
        return self.problem(Every(tuple(asserted)), len(commands))

    def complain(self, node: Node, problem: str) -> NoReturn:
        """Raise FileError with the line of a bracket or word."""
        complain(self.name, node.line, problem)

    # -- commands

    def _command(self, form: Form) -> list[Formula]:
        """Return what a command asserts: one formula or none."""
        if form.head == "assert":
            if len(form.items) != 2:
                self.complain(form, f"expected (assert FORMULA); got {len(form.items) - 1} formulas")
            return [self._formula(form.items[1])]
        if not self.declare(form) and form.head not in _SILENT:
            self.complain(form, f"expected {self.commands} or assert; got {shown(form)}; VNN-LIB {self.version} has no others")
        return []

    # -- formulas

    def _formula(self, node: Node) -> Formula:
        if isinstance(node, Word):
            if node.text not in ("true", "false"):
                self.complain(node, f"expected a formula, as (<= X_0 1.0); got {shown(node)}")
            return Every(()) if node.text == "true" else Some(())
        if node.head in self.comparisons:
            return self._comparison(node)
        if node.head not in ("and", "or"):
            advice = f"; {_ADVICE[node.head]}" if node.head in _ADVICE else ""
            self.complain(node, f"expected and, or, {', '.join(self.comparisons)}; got {shown(node)}{advice}")
        parts = tuple(self._formula(item) for item in node.items[1:])
        if len(parts) == 1:
            return parts[0]
        return Every(parts) if node.head == "and" else Some(parts)

    def _comparison(self, form: Form) -> Formula:
        """Return a comparison of two terms, or of several in a chain, as rows."""
        if len(form.items) < 3:
            self.complain(form, f"expected two terms to compare; got {len(form.items) - 1}")
        terms = [self._term(item) for item in form.items[1:]]
        strict = form.head in ("<", ">", "!=")
        self.strict |= strict
        if form.head == "!=":
            return self._unequal(form, terms)
        parts: list[Formula] = []
        for left, right in itertools.pairwise(terms):
            parts += [self._row(left, right, strict, form.line)] if form.head in ("<=", "<", "=", "==") else []
            parts += [self._row(right, left, strict, form.line)] if form.head in (">=", ">", "=", "==") else []
        return parts[0] if len(parts) == 1 else Every(tuple(parts))

    def _unequal(self, form: Form, terms: Sequence[Linear]) -> Formula:
        if len(terms) != 2:
            self.complain(form, f"expected two terms that differ; got {len(terms)}")
        left, right = terms
        return Some((self._row(left, right, True, form.line), self._row(right, left, True, form.line)))

    def _row(self, less: Linear, more: Linear, strict: bool, line: int) -> Formula:
        """Return `less <= more`, or `less < more`; without variables it is true or false."""
        difference = _sum([less, _scaled(more, Fraction(-1))])
        bound = -difference.pop(None, Fraction(0))
        coefficients = {variable: c for variable, c in difference.items() if variable is not None and c}
        kinds = sorted({kind for kind, _ in coefficients})
        if not kinds:
            return Every(()) if bound > 0 or (bound == 0 and not strict) else Some(())
        if len(kinds) > 1:
            names = ", ".join(self.spelled(variable) for variable in list(coefficients)[:4])
            complain(
                self.name,
                line,
                f"expected inputs or outputs in one inequality; got both, {names}; make their difference an output of the"
                " model",
            )
        return Row(kinds[0], {index: c for (_, index), c in coefficients.items()}, bound, line, strict)

    # -- terms

    def _term(self, node: Node) -> Linear:
        if isinstance(node, Word):
            return self._leaf(node)
        combine: Callable[[Form, list[Linear]], Linear] | None = {
            "+": self._plus, "-": self._minus, "*": self._times, "/": self._over
        }.get(node.head)  # fmt: skip
        if combine is None or len(node.items) < 2:
            self.complain(node, f"expected a number, a variable, or a sum, difference or product of such; got {shown(node)}")
        return combine(node, [self._term(item) for item in node.items[1:]])

    def _leaf(self, word: Word) -> Linear:
        if _NUMBER.fullmatch(word.text):
            return {None: self._number(word)}
        return {self.variable(word): Fraction(1)}

    def _number(self, word: Word) -> Fraction:
        with contextlib.suppress(InvalidOperation):  # where the exponent itself is beyond what Decimal can hold
            value = Decimal(word.text)
            if not value or abs(value.adjusted()) <= _LARGEST_EXPONENT:
                return Fraction(value)
        self.complain(word, f"expected a number that float64 can hold; got {shown(word)}")

    def _plus(self, form: Form, terms: list[Linear]) -> Linear:
        return _sum(terms)

    def _minus(self, form: Form, terms: list[Linear]) -> Linear:
        negative = [_scaled(term, Fraction(-1)) for term in terms]
        return negative[0] if len(terms) == 1 else _sum([terms[0], *negative[1:]])

    def _times(self, form: Form, terms: list[Linear]) -> Linear:
        varying = [term for term in terms if not _is_constant(term)]
        if len(varying) > 1:
            self.complain(
                form,
                "expected a product with at most one factor that varies; products of variables are not linear;"
                " bound the factors, or make the product an output of the model",
            )
        factor = math.prod((_constant(term) for term in terms if _is_constant(term)), start=Fraction(1))
        return _scaled(varying[0], factor) if varying else {None: factor}

    def _over(self, form: Form, terms: list[Linear]) -> Linear:
        divisors = terms[1:]
        if not divisors or not all(_is_constant(term) and _constant(term) for term in divisors):
            self.complain(form, "expected a division by numbers other than 0; other quotients are not linear")
        return _scaled(terms[0], 1 / math.prod((_constant(term) for term in divisors), start=Fraction(1)))


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
