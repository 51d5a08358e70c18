"""Section: which entries of the inputs the outputs hang on: gradients, and integrals of them along lines."""

from __future__ import annotations

import math
import time
from typing import Any

from ..plotting.base import picture
from ..plotting.sensitivity import sensitivity_figure
from ..sensitivity import Sensitivity, _position, sensitivity
from .section import Drawing, Section, Table, number, rounded
from .subject import Example, Subject

_NAME, _TITLE = "sensitivities", "Which entries of the input count"
_SHOWN = 5  # inputs
_SECONDS = 6.0  # for all of them: the first tells how many there is time for
_TOP = 10  # entries of the input that are marked
_LISTED = 3  # and that are named


def sensitivities(subject: Subject) -> Section:
    """Return the gradients of the chosen outputs at some inputs, and integrated ones, with the entries that count most."""
    found = _found(subject)
    examples = subject.examples[: len(found)]
    rows = [_row(found, i, example) for i, example in enumerate(examples)]
    return Section(
        _NAME,
        _TITLE,
        _words(subject, found),
        _facts(subject, found),
        (_figure(found),),
        (_table(subject, rows),),
        {"examples": rows},
    )


def _found(subject: Subject) -> Sensitivity:
    begin = time.perf_counter()
    first = _at(subject, subject.examples[:1])
    one = time.perf_counter() - begin
    count = min(_SHOWN, len(subject.examples), int(_SECONDS / max(one, 1e-9)))
    return first if count < 2 else _at(subject, subject.examples[:count])


def _at(subject: Subject, examples: tuple[Example, ...]) -> Sensitivity:
    return sensitivity(subject.net, subject.data.inputs[[e.index for e in examples]].double(), units="largest")


def _words(subject: Subject, found: Sensitivity) -> tuple[str, ...]:
    exact = subject.net.is_piecewise_linear
    what = "the largest output" if found.values.numel() and math.prod(subject.net.output_shape) > 1 else "the output"
    lead = (
        f"How {what} hangs on every entry of an input. The gradient says how much it moves with an entry, here. Gradient"
        " times input leaves out entries that are 0; what it misses of the output is the offset of the local map. Integrated"
        " gradients add up what every entry brings on the straight way from an input of zeros."
    )
    way = (
        f"On that way the gradient changes at {_span(found.breakpoints.tolist())} breakpoints and is constant between them, so"
        " the integral is exact, and its entries sum to the change of the output but for rounding."
        if exact
        else "The network bends on that way, and the integral is one of quadrature; the table says how far its sum is from the"
        " change of the output."
    )
    return lead, way


def _facts(subject: Subject, found: Sensitivity) -> tuple[tuple[str, str], ...]:
    facts = [("breakpoints on the way", _span(found.breakpoints.tolist()))] if subject.net.gates else []
    return (
        *facts,
        ("missing in integrated gradients", rounded(float(found.gap("integrated_gradients").abs().max()), 2)),
        ("missing in gradient × input", rounded(float(found.gap("gradient_times_input").abs().max()), 2)),
    )


def _span(values: list[int]) -> str:
    low, high = min(values), max(values)
    return number(low) if low == high else f"{number(low)} to {number(high)}"


def _figure(found: Sensitivity) -> Drawing:
    pictures = picture(found.inputs[0]) is not None
    shown = f"over the input in light grey, with the {_TOP} entries that count most" if pictures else "as bars"
    return Drawing(
        "sensitivities",
        sensitivity_figure(found, most=_SHOWN, top=_TOP),
        f"What every entry of an input has to do with the output that it has most of, {shown}. Red raises the output, blue"
        " lowers it; every panel has a scale of its own."
        if pictures
        else f"What every entry of an input has to do with its largest output, {shown}; blue up, orange down.",
        f"Gradients, gradients times inputs and integrated gradients at {len(found)} inputs",
    )


def _row(found: Sensitivity, i: int, example: Example) -> dict[str, Any]:
    ranked = found.ranking("integrated_gradients", _TOP)
    return {
        "index": example.index,
        "label": example.label,
        "output": int(found.units[i, 0]),
        "value": float(found.values[i, 0]),
        "at_baseline": float(found.baseline_values[i, 0]),
        "breakpoints": int(found.breakpoints[i]),
        "missing": float(found.gap("integrated_gradients")[i, 0]),
        "offset": float(found.gap("gradient_times_input")[i, 0]),
        "on_boundaries": int(found.boundaries[i]),
        "features": ranked.features[i, 0].tolist(),
        "attributions": ranked.values[i, 0].tolist(),
    }


def _table(subject: Subject, rows: list[dict[str, Any]]) -> Table:
    shape = subject.net.input_shape
    shown = []
    for row in rows:
        pairs = list(zip(row["features"], row["attributions"], strict=True))[:_LISTED]
        top = ", ".join(f"{_position(f, shape)} {'+' if v > 0 else ''}{rounded(v, 2)}" for f, v in pairs if v) or "none"
        shown.append(
            (f"#{row['index']}", str(row["output"]), row["value"], row["at_baseline"], row["breakpoints"], row["missing"], top)
        )
    columns = ("input", "output", "value", "value at zeros", "breakpoints", "missing in the sum", "entries that count most")
    return Table("Integrated gradients from an input of zeros", columns, tuple(shown))
