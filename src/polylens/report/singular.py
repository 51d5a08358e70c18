"""Section: the singular values of the local maps."""

from __future__ import annotations

from typing import Any

import torch

from ..plotting import decay_figure
from .section import Drawing, Section, Table, number
from .subject import Subject

_NAME, _TITLE = "singular_values", "Singular values of the local maps"


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
    return Section(
        _NAME, _TITLE, (lead, meaning), _facts(rows, inputs), (_figure(subject),), (_table(rows),), {"examples": rows}
    )


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
