"""Einstein sums of live values and constants: products of constants with one live value are affine, others smooth."""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..smooth import Smooth
from ..steps import Einsum
from ._builder import Builder
from ._program import Live, Operand

_ADVICE = "write it with the batch as first subscript of every operand and of the result"


def einsum(builder: Builder, equation: str, operands: Sequence[Operand], whole: Callable[[Live], Live] = lambda x: x) -> Live:
    """Return the Einstein sum of operands, at least one of which is live.

    The batch has to be the first subscript of every live operand and of the result, and to occur nowhere else; or no live
    operand shows a batch, which `whole` may bring about for a source that declares a batch of one.
    """
    ranks = [o.rank if isinstance(o, Live) else o.ndim for o in operands]
    terms, result = _explicit(builder, equation, ranks)
    if not _keeps_batch(terms, result, operands):
        operands = [whole(o) if isinstance(o, Live) else o for o in operands]
        if any(isinstance(o, Live) and o.batched for o in operands):
            builder.refuse(f"sums {equation!r}, which does not keep the inputs of a batch apart", _ADVICE)
        batch = _unused("".join(terms) + result, 1)
        terms = [batch + t if isinstance(o, Live) else t for t, o in zip(terms, operands, strict=True)]
        result = batch + result
    live = [(t, o) for t, o in zip(terms, operands, strict=True) if isinstance(o, Live)]
    constants = [(t, o.double()) for t, o in zip(terms, operands, strict=True) if isinstance(o, Tensor)]
    if constants:
        live[0] = _scaled(builder, live, constants, result)
    equation = f"{','.join(t for t, _ in live)}->{result}"
    if len(live) > 1:
        return builder.emit(Smooth("einsum", contracted, {"equation": equation}), [x for _, x in live])
    ((term, x),) = live
    return x if term == result else builder.fixed("einsum", contracted, x, equation=equation)


def contracted(*operands: Tensor, equation: str) -> Tensor:
    """Return the Einstein sum; all operands and the result have the batch as first subscript."""
    return torch.einsum(equation, *operands)


def _scaled(
    builder: Builder, live: Sequence[tuple[str, Live]], constants: Sequence[tuple[str, Tensor]], result: str
) -> tuple[str, Live]:
    """Return the first live operand with all constants in it, summed over what no other operand and no result needs."""
    (term, x), *others = live
    outside = {letter for t, _ in live for letter in t} | set(result)
    kept = "".join(sorted({letter for t, _ in constants for letter in t} & outside))
    constant = torch.einsum(f"{','.join(t for t, _ in constants)}->{kept}", *(c for _, c in constants))
    needed = {letter for t, _ in others for letter in t} | set(result)
    left = term[0] + "".join(sorted({*term[1:], *kept} & needed)) if others else result
    return left, builder.emit(Einsum(f"{term},{kept}->{left}", constant, first=False), [x])


def _keeps_batch(terms: Sequence[str], result: str, operands: Sequence[Operand]) -> bool:
    """Say whether the batch leads every live operand and the result, and is in no other place."""
    live = [t for t, o in zip(terms, operands, strict=True) if isinstance(o, Live)]
    batch = result[:1]
    return (
        bool(batch)
        and all(isinstance(o, Tensor) or o.batched for o in operands)
        and all(t[:1] == batch for t in live)
        and "".join(terms).count(batch) == len(live)
        and result.count(batch) == 1
    )


def _explicit(builder: Builder, equation: str, ranks: Sequence[int]) -> tuple[list[str], str]:
    """Return one subscript for every axis of the operands, and those of the result, with no dots and nothing left out."""
    left, arrow, result = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    named = [len(t.replace("...", "")) for t in terms]
    if len(terms) != len(ranks) or any(
        n > r or (n < r and "..." not in t) for n, r, t in zip(named, ranks, terms, strict=False)
    ):
        builder.refuse(f"sums {equation!r} of operands with {list(ranks)} axes", "write one subscript for each axis")
    widths = [rank - n if "..." in t else 0 for t, rank, n in zip(terms, ranks, named, strict=True)]
    dots = _unused(equation, max(widths, default=0))
    full = [t.replace("...", dots[len(dots) - w :]) for t, w in zip(terms, widths, strict=True)]
    if arrow:
        return full, result.replace("...", dots)
    counts = Counter(left.replace("...", "").replace(",", ""))
    return full, dots + "".join(sorted(letter for letter, count in counts.items() if count == 1))


def _unused(text: str, count: int) -> str:
    """Return letters that do not occur in a text."""
    return "".join([letter for letter in string.ascii_letters if letter not in text][:count])
