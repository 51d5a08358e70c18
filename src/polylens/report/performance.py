"""Section: how often the network is right where labels tell, and what the report's numbers cost to compute."""

from __future__ import annotations

from typing import Any

import torch

from .section import Section, Table, number
from .subject import Subject

_ROWS = 20


def performance(subject: Subject) -> Section:
    """Return accuracy by class, or how often each output is the largest, and timings."""
    count, seconds = len(subject.data), subject.seconds
    timing = {"seconds": seconds, "inputs": count}
    ratio = seconds["patterns"] / max(seconds["outputs"], 1e-9)
    cost = (
        f"Evaluating {count:,} inputs took {seconds['outputs']:.2g} s, finding all their activation patterns "
        f"{seconds['patterns']:.2g} s ({ratio:.2g} times as long), and the local maps of {len(subject.examples)} of them "
        f"{seconds['affine maps']:.2g} s."
    )
    if subject.labels is None:
        return Section("performance", "Answers and time", (_unlabelled(subject), cost), (), (), _winners(subject), timing)
    right = subject.chosen == subject.labels
    accuracy = float(right.double().mean())
    lead = (
        f"The largest output is the labelled class for {int(right.sum()):,} of {count:,} inputs of {subject.data.source}. "
        "The table shows where the network is weak, and what it takes a class for when it is wrong."
    )
    facts = (("accuracy", f"{accuracy:.2%}"), ("wrong", number(int((~right).sum()))))
    classes = _by_class(subject)
    data = {"accuracy": accuracy, "right": int(right.sum()), **timing, "classes": classes}
    return Section("performance", "Accuracy and time", (lead, cost), facts, (), (_table(classes),), data)


def _unlabelled(subject: Subject) -> str:
    if subject.outputs.shape[1] < 2:
        low, high = float(subject.outputs.min()), float(subject.outputs.max())
        return f"The network has one output; over these inputs it runs from {number(low)} to {number(high)}."
    return "The data have no labels, so nothing is said about right and wrong; the table shows which output is the largest."


def _winners(subject: Subject) -> tuple[Table, ...]:
    if subject.outputs.shape[1] < 2:
        return ()
    classes, counts = subject.chosen.unique(return_counts=True)
    order = counts.argsort(descending=True, stable=True)[:_ROWS]
    rows = tuple((str(int(classes[i])), int(counts[i]), f"{int(counts[i]) / len(subject.data):.1%}") for i in order)
    return (Table("How often each output is the largest", ("output", "inputs", "share"), rows),)


def _by_class(subject: Subject) -> list[dict[str, Any]]:
    found = []
    labels = subject.labels if subject.labels is not None else subject.chosen
    for c in labels.unique().tolist():
        answers = subject.chosen[labels == c]
        wrong = answers[answers != c]
        most = torch.mode(wrong).values if len(wrong) else None
        row = {"class": c, "inputs": len(answers), "right": int((answers == c).sum())}
        found.append(row | {"taken_for": None if most is None else int(most), "wrong": len(wrong)})
    return found


def _table(classes: list[dict[str, Any]]) -> Table:
    worst = sorted(classes, key=lambda r: r["right"] / r["inputs"])[:_ROWS]
    shown = classes if len(classes) <= _ROWS else worst
    caption = "By class" if len(classes) <= _ROWS else f"The {_ROWS} classes that it knows least, of {len(classes)}"
    rows = tuple(
        (
            str(r["class"]),
            r["inputs"],
            r["right"],
            f"{r['right'] / r['inputs']:.1%}",
            "–" if r["taken_for"] is None else str(r["taken_for"]),
        )
        for r in shown
    )
    return Table(caption, ("class", "inputs", "right", "share right", "most often taken for"), rows)
