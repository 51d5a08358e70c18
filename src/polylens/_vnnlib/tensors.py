"""VNN-LIB 2.0: a network is declared with its tensors, and `X[0,1]` is an entry of one, counted from 0.

Entries are numbered in the order of the tensors and row by row. Tensors of several inputs lie one after the other.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from .formula import Declared, Every, Problem
from .reader import Reader, Variable
from .words import Form, Node, Word, complain, shown

_NAME = re.compile(r"[A-Za-z]\w*", re.ASCII)
_INDEXED = re.compile(r"([A-Za-z]\w*) ?(?:\[([\d, ]*)\])?", re.ASCII)
_REAL = ("real", "float16", "bfloat16", "float32", "float64")
_MOST_ENTRIES = 2**26  # half a gigabyte of float64 for each side of a box
_PARTS = {"declare-input": "X", "declare-output": "Y"}
_SAME = ("isomorphic-to", "equal-to")


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the entries of a tensor begin among all inputs or outputs, and the line in which it is declared."""

    kind: str
    start: int
    line: int
    tensor: Declared


class Tensors(Reader):
    """From the brackets of a text in version 2.0 to its formula."""

    version = "2.0"
    commands = "declare-network"
    comparisons = ("<=", ">=", "<", ">", "==", "!=", "=")

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.network: Form | None = None
        self.places: dict[str, _Place] = {}
        self.hidden: dict[str, int] = {}  # with the line of the declaration
        self.counts = {"X": 0, "Y": 0}

    def problem(self, formula: Every, commands: int) -> Problem:
        if self.network is None:
            complain(self.name, 1, f"expected a network, as (declare-network f ...); got none in {commands} commands")
        inputs, outputs = (tuple(p.tensor for p in self.places.values() if p.kind == kind) for kind in "XY")
        return Problem(self.counts["X"], self.counts["Y"], formula, self.strict, inputs, outputs)

    # -- declarations

    def declare(self, form: Form) -> bool:
        if form.head != "declare-network":
            return False
        if self.network is not None:
            self.complain(
                form,
                f"expected one network, declared in line {self.network.line}; got a second one, {shown(form)}; join the"
                " networks into one model that has the inputs and outputs of all",
            )
        self.network = form
        if len(form.items) < 2 or not (isinstance(form.items[1], Word) and _NAME.fullmatch(form.items[1].text)):
            self.complain(form, "expected a name behind declare-network, of letters, digits and underscores")
        for part in form.items[2:]:
            self._part(part)
        for kind, what in (("X", "declare-input"), ("Y", "declare-output")):
            if not any(place.kind == kind for place in self.places.values()):
                self.complain(form, f"expected ({what} {kind} Real [1,5]) in the network; got none")
        return True

    def _part(self, part: Node) -> None:
        """Take up a tensor of the network."""
        head = part.head if isinstance(part, Form) else ""
        if not isinstance(part, Form) or head not in (*_PARTS, "declare-hidden", *_SAME):
            self.complain(part, f"expected declare-input, declare-hidden or declare-output; got {shown(part)}")
        if head in _SAME:
            self.complain(part, f"expected one network; got {shown(part)}, which speaks of another; join them into one model")
        words = [item.text for item in part.items if isinstance(item, Word)]
        node = words.pop() if len(words) > 3 and words[-1].startswith('"') else None
        # a shape belongs to the word in front of it
        kind, _, shape = words[2].partition("[") if len(words) == 3 else ("", "", "")
        sizes = _numbers(shape.removesuffix("]")) if shape else None
        if (
            len(words) != 3
            or len(words) + (node is not None) != len(part.items)
            or sizes is None
            or not _NAME.fullmatch(words[1])
        ):
            self.complain(part, f"expected ({head} X Real [1,5]), a name, a type and a shape; got {_text(part)}")
        self._take(part, Declared(words[1], kind.strip(), sizes, None if node is None else node[1:-1]))

    def _take(self, part: Form, tensor: Declared) -> None:
        taken = {name: place.line for name, place in self.places.items()} | self.hidden
        if tensor.name in taken:
            self.complain(part, f"{tensor.name} is declared twice, first in line {taken[tensor.name]}; rename one")
        if part.head == "declare-hidden":
            self.hidden[tensor.name] = part.line
            return
        if tensor.element_type.lower() not in _REAL:
            self.complain(
                part,
                f"expected entries of {tensor.name} that are real numbers, {', '.join(_REAL)}; got {tensor.element_type!r};"
                " state the property for a model of real numbers",
            )
        kind, size = _PARTS[part.head], math.prod(tensor.shape)
        if not 0 < size <= _MOST_ENTRIES:
            self.complain(part, f"expected between 1 and {_MOST_ENTRIES} entries; {tensor.name} has {size}")
        self.places[tensor.name] = _Place(kind, self.counts[kind], part.line, tensor)
        self.counts[kind] += size

    # -- entries

    def variable(self, word: Word) -> Variable:
        found = _INDEXED.fullmatch(word.text)
        if found is None:
            self.complain(word, f"expected a number or an entry of a tensor, as X[0,1]; got {shown(word)}")
        name, indices = found[1], () if found[2] is None else _numbers(found[2])
        if name in self.hidden:
            self.complain(
                word, f"expected inputs and outputs; got {shown(word)}, a hidden value; make it an output of the model"
            )
        if name not in self.places:
            self.complain(word, f"expected a tensor that is declared above; got {shown(word)}")
        place = self.places[name]
        shape = place.tensor.shape
        if indices is None or len(indices) != len(shape) or (found[2] is not None and not shape):
            self.complain(word, f"expected {_indices(shape)} of {name}, which has the shape {list(shape)}; got {shown(word)}")
        if not all(i < size for i, size in zip(indices, shape, strict=True)):
            self.complain(word, f"expected indices below {list(shape)}, counted from 0; got {shown(word)}")
        return place.kind, place.start + _number(indices, shape)

    def spelled(self, variable: Variable) -> str:
        kind, number = variable
        place = next(p for p in reversed(self.places.values()) if p.kind == kind and p.start <= number)
        rest, indices = number - place.start, list[int]()
        for size in reversed(place.tensor.shape):
            rest, index = divmod(rest, size)
            indices.append(index)
        return place.tensor.name + (f"[{','.join(map(str, reversed(indices)))}]" if indices else "")


def _numbers(text: str) -> tuple[int, ...] | None:
    """Return the numbers between commas, none of an empty text; None where there is anything else."""
    parts = [part.strip() for part in text.split(",")] if text.strip() else []
    return tuple(map(int, parts)) if all(part.isdecimal() and len(part) < 10 for part in parts) else None


def _number(indices: Sequence[int], shape: Sequence[int]) -> int:
    """Return the number of an entry, row by row."""
    found = 0
    for index, size in zip(indices, shape, strict=True):
        found = found * size + index
    return found


def _indices(shape: Sequence[int]) -> str:
    return f"{len(shape)} {'index' if len(shape) == 1 else 'indices'}" if shape else "the name alone"


def _text(form: Form) -> str:
    return "(" + " ".join(item.text if isinstance(item, Word) else f"({item.head} ...)" for item in form.items) + ")"
