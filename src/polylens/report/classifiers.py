"""Section: the linear classifiers that the network is at single inputs, shown in the shape of the input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..plotting.base import Panel, gallery, picture
from .section import Drawing, Section, Table, number, shape_text
from .subject import Subject

_BARS = 5  # samples side by side where they are drawn as bars, which need room
Row = tuple[str, list[Panel | None]]


def classifiers(subject: Subject) -> Section:
    """Return images beside the weights W_{c,x} of the local map for the classes that matter, and how exact these are."""
    right = [i for i, e in enumerate(subject.examples) if e.is_right]
    wrong = [i for i, e in enumerate(subject.examples) if not e.is_right]
    most = len(subject.examples) if picture(subject.data.inputs[0]) is not None else _BARS
    figures = [_right_figure(subject, right[:most])] if right else []
    figures += [_wrong_figure(subject, wrong[:most])] if wrong else []
    exact = subject.exactness
    data = {
        "exact": subject.net.is_piecewise_linear,
        "max_deviation": exact.at_examples,
        "max_deviation_nearby": exact.nearby,
        "nearby_points": exact.points,
        "max_abs_output": exact.scale,
        "examples": [_row(subject, i) for i in range(len(subject.examples))],
    }
    title = "Local classifiers" if subject.outputs.shape[1] > 1 else "Local maps"
    return Section(
        "classifiers", title, (_lead(subject), _measured(subject)), _facts(subject), tuple(figures), (_table(subject),), data
    )


# -- words


def _lead(subject: Subject) -> str:
    what = "exactly" if subject.net.is_piecewise_linear else "to first order"
    colours = "Red entries push the output up, blue ones down."
    if picture(subject.data.inputs[0]) is None:
        colours = "Blue bars push the output up, orange ones down."
    elif len(picture(subject.data.inputs[0]).shape) == 3:  # type: ignore[union-attr]
        colours += " For colour images the weights of the three channels are added."
    return (
        f"Around one input x the network is {what} an affine map, so each output c is ⟨W, x⟩ + b with weights W "
        "of the input's own "
        f"shape, {shape_text(subject.net.input_shape)}. These weights are what the network computes with at "
        "that input: they can "
        f"be looked at like an image. {colours}"
    )


def _measured(subject: Subject) -> str:
    exact = subject.exactness
    if not subject.net.is_piecewise_linear:
        return (
            f"This network is smooth, so the maps are first-order: they agree with it at the input itself (largest difference "
            f"{number(exact.at_examples)} where outputs reach {number(exact.scale)}, in float64) and drift away "
            "from it elsewhere."
        )
    text = (
        f"Measured in float64 over these {len(subject.examples)} inputs, max |f(x) − (W x + b)| is "
        f"{number(exact.at_examples)}, "
        f"where outputs reach {number(exact.scale)}"
    )
    if not exact.points:
        return f"{text}."
    return (
        f"{text}. The same maps were also tested at {exact.points} other points that share the activation "
        "pattern of one of these "
        f"inputs: the largest difference there is {number(exact.nearby)}. What is left is rounding."
    )


def _facts(subject: Subject) -> tuple[tuple[str, str], ...]:
    exact = subject.exactness
    word = "max |f(x) − (Wx + b)|" if subject.net.is_piecewise_linear else "first order, at x"
    facts = [(word, number(exact.at_examples))]
    if exact.points:
        facts.append(("the same, elsewhere in the regions", number(exact.nearby)))
    return (*facts, ("largest |f|", number(exact.scale)))


# -- figures


def _right_figure(subject: Subject, chosen: Sequence[int]) -> Drawing:
    rows = [_inputs(subject, chosen), _weights(subject, chosen, "chosen")]
    caption = "Inputs, and the local weights of their largest output; above each panel the output and its value."
    if subject.outputs.shape[1] > 1:
        rows = [*rows, _weights(subject, chosen, "runner_up"), _difference(subject, chosen, "runner_up")]
        caption = (
            "Inputs with the local weights of the class chosen and of the runner-up; above each panel the class "
            "and its output. "
            "The last row is their difference, which alone decides between the two."
        )
    return Drawing("classifiers", gallery(rows), caption, f"{len(chosen)} inputs with their local weights")


def _wrong_figure(subject: Subject, chosen: Sequence[int]) -> Drawing:
    rows = [
        _inputs(subject, chosen),
        _weights(subject, chosen, "chosen"),
        _weights(subject, chosen, "label"),
        _difference(subject, chosen, "label"),
    ]
    third = _weights(subject, chosen, "runner_up")
    third[1][:] = [
        None if subject.examples[i].runner_up == subject.examples[i].label else panel
        for i, panel in zip(chosen, third[1], strict=True)
    ]
    if any(panel is not None for panel in third[1]):
        rows.append(third)
    caption = (
        "Misclassified inputs: the local weights of the class chosen, of the true class, and their difference, which made the "
        "mistake. A runner-up is shown where it is not the true class."
    )
    return Drawing("misclassified", gallery(rows), caption, f"{len(chosen)} misclassified inputs with local weights")


_ROW_NAMES = {"chosen": "chosen", "runner_up": "runner-up", "label": "true class"}


def _inputs(subject: Subject, chosen: Sequence[int]) -> Row:
    panels: list[Panel | None] = []
    for i in chosen:
        e = subject.examples[i]
        title = f"#{e.index}" if e.label is None else f"#{e.index}, label {e.label}"
        panels.append(Panel(title, subject.data.inputs[e.index], signed=False, emphasis=not e.is_right))
    return "input", panels


def _weights(subject: Subject, chosen: Sequence[int], role: str) -> Row:
    panels: list[Panel | None] = []
    for i in chosen:
        e = subject.examples[i]
        output = getattr(e, role)
        value = float(subject.outputs[e.index, output])
        panels.append(Panel(f"{output}: {value:.3g}", subject.weights(i, output), signed=True))
    name = _ROW_NAMES[role] if subject.outputs.shape[1] > 1 else "weights"
    return name, panels


def _difference(subject: Subject, chosen: Sequence[int], role: str) -> Row:
    panels: list[Panel | None] = []
    for i in chosen:
        e = subject.examples[i]
        other = getattr(e, role)
        weights = subject.weights(i, e.chosen) - subject.weights(i, other)
        panels.append(Panel(f"{e.chosen} against {other}", weights, signed=True))
    return f"chosen −\n{_ROW_NAMES[role]}", panels


# -- numbers


def _row(subject: Subject, i: int) -> dict[str, Any]:
    e = subject.examples[i]
    row = subject.row(e.chosen)
    x = subject.data.inputs[e.index].double().flatten()
    return {
        "index": e.index,
        "label": e.label,
        "chosen": e.chosen,
        "runner_up": e.runner_up,
        "output": float(subject.outputs[e.index, e.chosen]),
        "runner_up_output": None if e.runner_up is None else float(subject.outputs[e.index, e.runner_up]),
        "linear_part": float(subject.maps.weight[i, row].cpu() @ x),
        "offset": float(subject.maps.offset[i, row]),
    }


def _table(subject: Subject) -> Table:
    rows = [_row(subject, i) for i in range(len(subject.examples))]
    if subject.outputs.shape[1] < 2:
        short = tuple((f"#{r['index']}", r["output"], r["linear_part"], r["offset"]) for r in rows)
        return Table("The output as ⟨W, x⟩ + b", ("input", "output", "⟨W, x⟩", "b"), short)
    shown = tuple(
        (
            f"#{r['index']}",
            None if r["label"] is None else str(r["label"]),
            str(r["chosen"]),
            r["output"],
            r["linear_part"],
            r["offset"],
            str(r["runner_up"]),
            r["runner_up_output"],
        )
        for r in rows
    )
    columns = ("input", "label", "chosen", "output", "⟨W, x⟩", "b", "runner-up", "its output")
    return Table("The output of the chosen class as ⟨W, x⟩ + b", columns, shown)
