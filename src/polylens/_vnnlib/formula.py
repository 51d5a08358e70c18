"""Formulas over the inputs and outputs of a network: linear inequalities under `and` and `or`, in exact rationals."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction


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
    """What a file says: how many inputs and outputs it declares, the formula that it asserts, whether it has < or >.

    `inputs` and `outputs` are the tensors that it declares, none where it declares numbers.
    """

    num_inputs: int
    num_outputs: int
    formula: Every
    strict: bool
    inputs: tuple[Declared, ...] = ()
    outputs: tuple[Declared, ...] = ()


@dataclass(frozen=True, slots=True)
class Declared:
    """A tensor that a text declares: its name there, the type of its entries, its shape, and its name in the model if given."""

    name: str
    element_type: str
    shape: tuple[int, ...]
    node: str | None


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
