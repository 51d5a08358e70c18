"""Section: the singular values of the local maps, of the output and layer by layer."""

from __future__ import annotations

import math
from typing import Any

import torch

from ..plotting.base import decay_figure, new_figure, style
from ..plotting.spectrum import effect_figure
from ..spectrum import Spectrum, spectrum
from .section import Drawing, Section, Table, number
from .subject import Subject

_NAME, _TITLE = "singular_values", "Singular values of the local maps"
_WORK, _MOST_WORK = 1e10, 1e11  # multiplications that all examples may take, and a single one where it alone takes more
_MOST_ENTRIES = 1 << 27  # of a layer's matrix: 1 GB


def singular_values(subject: Subject) -> Section:
    """Return how strongly the local map stretches its directions, its rank and its condition number, for each example."""
    if not subject.is_complete:
        text = (
            f"The local maps have {subject.outputs.shape[1]:,} outputs and {subject.maps.weight.shape[-1]:,} "
            "inputs, too many to hold "
            "for all examples at once; their singular values are left out of this report."
        )
        return Section(_NAME, _TITLE, (text,), data={"examples": []})
    rows = [_row(subject, i) for i in range(len(subject.examples))]
    inputs = subject.maps.weight.shape[-1]
    top = max(r["rank"] for r in rows)
    lead = (
        "A singular value says how much the local map stretches one direction of the input: the first the most, "
        "the last the least. "
        "Their number above rounding is the rank; the ratio of the largest to the smallest of them, the "
        "condition number, says how "
        "unevenly errors are passed on when the map is inverted."
    )
    meaning = (
        f"With rank at most {top} on {inputs:,} inputs, the local map ignores at least {inputs - top:,} directions: "
        + ("moving along them within the region changes no output." if subject.net.is_piecewise_linear else "to first order.")
        if inputs > top
        else f"The local map has full rank {top} at some of these inputs: there it ignores no direction."
    )
    layers = _layers(subject)
    return Section(
        _NAME,
        _TITLE,
        (lead, meaning, _along_layers(subject, layers)),
        _facts(rows, inputs),
        (_figure(subject), *([] if layers is None else _layer_figures(layers))),
        (_table(rows), *([] if layers is None else [_layer_table(layers)])),
        {"examples": rows, "layers": None if layers is None else layers.to_dict()},
    )


def _layers(subject: Subject) -> Spectrum | None:
    """Return the values of all layers at as many examples as can be afforded."""
    net, dim = subject.net, subject.maps.weight.shape[-1]
    units = [math.prod(gate.shape) for gate in net.gates]
    one = sum(u * dim * min(u, dim) for u in units)
    if not units or one > _MOST_WORK or max(units) * dim > _MOST_ENTRIES:
        return None
    shown = [e.index for e in subject.examples][: max(1, int(_WORK / one))]
    return spectrum(net, subject.data.inputs[shown].double())


def _along_layers(subject: Subject, layers: Spectrum | None) -> str:
    if not subject.net.gates:
        return "There are no gates: every input has this one map."
    if layers is None:
        return "The maps to the layers in between are too large for a report; spectrum(net, x) decomposes them, given time."
    many = f"these {len(layers)} inputs" if len(layers) > 1 else "one of these inputs"
    return (
        f"Layer by layer, at {many}: the maps from the input to each layer, in front of its gate and behind it. A gate"
        " removes the rows of the units that are off; singular values can only fall by that, and where few rows stay"
        " directions are lost."
    )


def _layer_figures(layers: Spectrum) -> list[Drawing]:
    with style():
        figure = new_figure(10.8, 4.4)
        layers.plot(figure.subplots())
    drawn = [
        Drawing(
            "layer_spectra",
            figure,
            "Singular values behind every gate and at the output, one curve a layer, from dark to bright.",
            "Line chart of the singular values of the maps from the input to each layer",
        )
    ]
    fronts = [layer.name for layer in layers.layers if layer.side == "pre"]
    if any(layer.side == "post" and layer.name in fronts for layer in layers.layers):
        text = "Singular values in front of each gate and behind it; the number of units that are on is in the corner."
        drawn.append(Drawing("gate_effects", effect_figure(layers, 3), text, "Singular values in front of gates and behind"))
    return drawn


def _layer_table(layers: Spectrum) -> Table:
    columns = ("layer", "gate", "units on", "rank", "largest", "smallest above rounding", "condition number", "effective rank")
    rows = tuple(
        (
            layer.name,
            {"pre": "in front", "post": "behind"}[layer.side],
            int(layer.rows.median()),
            int(layer.rank.median()),
            *(_middle(v) for v in (layer.largest, layer.smallest, layer.condition, layer.effective_rank)),
        )
        for layer in layers.layers
    )
    return Table("The map from the input to each layer, medians over the inputs", columns, rows)


def _middle(values: torch.Tensor) -> float | None:
    known = values[torch.isfinite(values)]
    return float(known.median()) if len(known) else None


def _row(subject: Subject, i: int) -> dict[str, Any]:
    values = subject.maps[i].singular_values()
    outputs, inputs = subject.maps.weight.shape[-2:]
    noise = max(outputs, inputs) * torch.finfo(torch.float64).eps * float(values[0])  # the usual threshold of matrix_rank
    rank = int((values > noise).sum())
    e = subject.examples[i]
    return {
        "index": e.index,
        "label": e.label,
        "chosen": e.chosen,
        "rank": rank,
        "condition": float(values[0] / values[rank - 1]) if rank else None,
        "singular_values": values.tolist(),
    }


def _facts(rows: list[dict[str, Any]], inputs: int) -> tuple[tuple[str, str], ...]:
    ranks = [r["rank"] for r in rows]
    conditions = [r["condition"] for r in rows if r["condition"] is not None]
    rank = str(ranks[0]) if len(set(ranks)) == 1 else f"{min(ranks)} to {max(ranks)}"
    facts = [("rank", f"{rank} of {min(inputs, len(rows[0]['singular_values']))}")]
    if conditions:
        facts.append(("condition number", _span(min(conditions), max(conditions))))
    return (*facts, ("largest singular value", number(max(r["singular_values"][0] for r in rows))))


def _span(low: float, high: float) -> str:
    low_text, high_text = f"{low:,.3g}", f"{high:,.3g}"
    return low_text if low_text == high_text else f"{low_text} to {high_text}"


def _figure(subject: Subject) -> Drawing:
    maps = [(f"#{e.index}", subject.maps[i], not e.is_right) for i, e in enumerate(subject.examples)]
    wrong = " Orange: misclassified inputs." if any(not e.is_right for e in subject.examples) else ""
    return Drawing(
        "singular_values",
        decay_figure(maps),
        f"Singular values of the local map, one line for each of {len(maps)} inputs, in decreasing order on a "
        "logarithmic scale; "
        f"values of 0 are left out.{wrong}",
        "Line chart of the singular values of the local maps, decreasing",
    )


def _table(rows: list[dict[str, Any]]) -> Table:
    shown = tuple(
        (
            f"#{r['index']}",
            None if r["label"] is None else str(r["label"]),
            r["rank"],
            r["singular_values"][0],
            r["singular_values"][r["rank"] - 1] if r["rank"] else None,
            r["condition"],
        )
        for r in rows
    )
    columns = ("input", "label", "rank", "largest", "smallest above rounding", "condition number")
    return Table("Rank and condition of the local map", columns, shown)
