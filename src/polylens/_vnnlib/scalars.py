"""VNN-LIB 1.0: inputs X_0, X_1, ... and outputs Y_0, Y_1, ..., declared number by number."""

from __future__ import annotations

import re

from .formula import Every, Problem
from .reader import Reader, Variable
from .words import Form, Word, complain, shown

_VARIABLE = re.compile(r"([XY])_(0|[1-9]\d*)")


class Scalars(Reader):
    """From the brackets of a text in version 1.0 to its formula."""

    version = "1.0"
    commands = "declare-const, declare-fun"
    comparisons = ("<=", ">=", "<", ">", "=")

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.declared: dict[Variable, int] = {}  # with the line of the declaration

    def problem(self, formula: Every, commands: int) -> Problem:
        inputs, outputs = (self._count(kind, commands) for kind in "XY")
        return Problem(inputs, outputs, formula, self.strict)

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

    def declare(self, form: Form) -> bool:
        if form.head not in ("declare-const", "declare-fun"):
            return False
        words = [item.text for item in form.items if isinstance(item, Word)]
        function = form.head == "declare-fun"
        empty = len(form.items) == 4 and isinstance(form.items[2], Form) and not form.items[2].items
        if len(words) != 3 or len(form.items) != 3 + function or (function and not empty):
            self.complain(form, f"expected ({form.head} X_0 {'() ' if function else ''}Real), or Y_0; got {shown(form)}")
        if words[2] != "Real":
            self.complain(form, f"expected the variable {words[1]} to be Real; got {words[2]}")
        variable = _variable(words[1])
        if variable is None:
            self.complain(form, f"expected an input X_0, X_1, ... or an output Y_0, Y_1, ...; got {words[1]!r}; rename it")
        if variable in self.declared:
            self.complain(form, f"{words[1]} is declared twice, first in line {self.declared[variable]}; remove one")
        self.declared[variable] = form.line
        return True

    def variable(self, word: Word) -> Variable:
        found = _variable(word.text)
        if found is None or found not in self.declared:
            what = "a variable that is declared above" if found else "a number or a variable X_0, Y_0, ..."
            self.complain(word, f"expected {what}; got {shown(word)}")
        return found

    def spelled(self, variable: Variable) -> str:
        kind, index = variable
        return f"{kind}_{index}"


def _variable(text: str) -> Variable | None:
    """Return the variable that a word names, None where it names none."""
    found = _VARIABLE.fullmatch(text)
    return (found[1], int(found[2])) if found and len(found[2]) < 10 else None
