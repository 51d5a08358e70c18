"""Section: how far apart inputs are by their patterns, what neighbours tell, and whether inputs fall into clusters."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..constellations import Constellations, Plateau, constellations
from ..hamming import Distances, Hamming, hamming
from ..pattern_neighbours import LayerNeighbours, NeighbourAccuracy, neighbour_accuracy, pattern_neighbours
from ..plotting.base import new_figure, picture, style
from ..plotting.patterns import distance_figure
from .section import Cell, Drawing, Section, Table
from .subject import Subject

_NAME, _TITLE = "pattern_geometry", "How alike inputs are to the network"
_INPUTS, _ENTRIES, _WORK = 2000, 3e7, 3e9  # inputs, their units, and words compared at most: some seconds
_VALUES = 1 << 25  # numbers in front of and behind gates that are kept for the votes
_QUERIES, _VOTERS = 500, 10
_LAYERS = 12
_ROWS, _COLUMNS = 8, 9  # of the grid of neighbours


class _Votes(NamedTuple):
    """The votes of neighbours; `best` is the layer whose patterns vote best, `raw` the share of right votes by inputs."""

    found: NeighbourAccuracy
    best: LayerNeighbours
    raw: float


def pattern_geometry(subject: Subject) -> Section:
    """Return distances between patterns by layer and class, votes of neighbours, the curve of clusters, and neighbours."""
    why = _nothing(subject)
    if why:
        return Section(_NAME, _TITLE, (why,), data={"inputs": len(subject.data)})
    at = _some(subject)
    seen, labels = subject.patterns[at], None if subject.labels is None else subject.labels[at]
    apart = hamming(seen, labels=None if labels is None else labels.numpy())
    votes = _votes(subject, at, labels)
    clusters = constellations(seen, labels=labels)
    return Section(
        _NAME,
        _TITLE,
        (_lead(subject, len(at)), _distances(apart), *([] if votes is None else [_voted(votes)]), _clustered(clusters)),
        _facts(apart, votes, clusters),
        tuple(_figures(subject, apart, votes, clusters)),
        (_table(apart, votes),),
        _data(subject, apart, votes, clusters),
    )


def _nothing(subject: Subject) -> str:
    if not any(gate.num_units for gate in subject.net.gates):
        return "The network has no gates: all inputs have the same pattern, and there is nothing to compare."
    if len(subject.data) < 2:
        return "There is one input only, and nothing to compare it with."
    return ""


def _some(subject: Subject) -> Tensor:
    """Return positions of the inputs that are looked at, evenly spaced: as many as take some seconds."""
    units = max(1, sum(gate.num_units for gate in subject.net.gates))
    most = min(_INPUTS, int(_ENTRIES / units), int(math.sqrt(_WORK * 64 / units)))
    count = min(len(subject.data), max(2, most))
    return torch.linspace(0, len(subject.data) - 1, count, dtype=torch.float64).round().long()


def _votes(subject: Subject, at: Tensor, labels: Tensor | None) -> _Votes | None:
    if labels is None:
        return None
    kept = sum(gate.num_units for gate in subject.net.gates) + subject.data.inputs[0].numel()
    queries = max(1, min(_QUERIES, _VALUES // kept))
    voters = min(_VOTERS, len(at) - 1)
    found = neighbour_accuracy(subject.net, subject.data.inputs[at], labels, voters, queries=queries)
    best = max((line for line in found.table if line.hamming is not None), key=lambda line: line.hamming or 0.0)
    return _Votes(found, best, found.table[0].euclidean or 0.0)


# -- words


def _lead(subject: Subject, count: int) -> str:
    total = len(subject.data)
    which = f"all {total:,} inputs" if count == total else f"{count:,} of the {total:,} inputs, evenly spaced"
    same = (
        "0 where both have the same affine map" if subject.net.is_piecewise_linear else "0 where both switch the same units on"
    )
    return (
        "The pattern of an input says which units it switches on. The distance of two inputs is the number of units that one"
        f" switches on and the other does not: {same}, and half of the units where these are on and off as by tossing coins."
        f" This section compares {which}."
    )


def _whole(found: Hamming) -> Distances:
    """Return the distances over all layers; in windows where there are no units."""
    return found.units if found.units.num_units or found.windows is None else found.windows


def _distances(found: Hamming) -> str:
    whole = _whole(found)
    what = "windows" if whole.name == "windows" else "units"
    text = f"Two inputs differ in {whole.mean:.1f} of {whole.num_units:,} {what} on average."
    if whole.within is None or whole.between is None or math.isnan(whole.separation):
        return text
    best = max(found.layers, key=lambda layer: layer.separation)
    return (
        f"{text} Two of the same class differ in {whole.within.mean:.1f}, two of different classes in"
        f" {whole.between.mean:.1f}. Of single layers, {best.name} tells classes apart best: there a pair of one class is"
        f" nearer than a pair of two in {best.separation:.1%} of all comparisons, where 50% would be chance."
    )


def _voted(votes: _Votes) -> str:
    found, best = votes.found, votes.best
    where = "all layers together" if best.name == "all layers" else f"layer {best.name}"
    compared = (
        "more often than"
        if (best.hamming or 0) > votes.raw
        else "as often as"
        if best.hamming == votes.raw
        else "less often than"
    )
    return (
        f"Do inputs of similar patterns have the same label? For each of {found.queries:,} inputs the {found.k} others with the"
        f" nearest patterns vote. Patterns of {where} vote best and are right for {best.hamming:.1%}, {compared} the {found.k}"
        f" inputs that are nearest entry by entry, with {votes.raw:.1%}."
    )


def _clustered(found: Constellations) -> str:
    beside = next(null for null in found.nulls if null.kind == "marginals")
    random = float(beside.scores.mean()) - found.size
    text = (
        "Do inputs fall into groups? Join any two that differ in at most t units, and count what hangs together; the curve"
        " shows how the number of groups falls as t grows. A flat stretch is a number of groups that many thresholds agree on."
        " Dashed are random patterns: with units as often on as these but independent of one another, and with fair coins."
    )
    if random <= 0:
        return text
    share = (found.score - found.size) / random
    return (
        f"{text} The steps that join the inputs are {share:.0%} as long as those that join patterns of independent units."
        " Much less than 100% says that inputs lie near one another, in groups or in chains; whether in groups, flat"
        " stretches tell."
    )


def _facts(apart: Hamming, votes: _Votes | None, clusters: Constellations) -> tuple[tuple[str, str], ...]:
    whole = _whole(apart)
    facts = [("mean distance", f"{whole.mean:.1f} of {whole.num_units:,}")]
    if whole.within is not None and whole.between is not None and not math.isnan(whole.separation):
        facts.append(("within, between classes", f"{whole.within.mean:.1f}, {whole.between.mean:.1f}"))
    if votes is not None:
        facts.append((f"right votes, {votes.best.name}", f"{votes.best.hamming:.1%}"))
        facts.append(("right votes, inputs", f"{votes.raw:.1%}"))
    if (flat := _flat(clusters)) is not None:
        facts.append(("longest flat stretch", f"{flat.clusters:,} groups, t = {flat.start:g} to {flat.stop:g}"))
    return tuple(facts)


def _flat(found: Constellations) -> Plateau | None:
    """Return the longest range of thresholds without a merge, if it is longer than a step."""
    longest = found.plateaus(1)
    return longest[0] if longest and longest[0].is_flat else None


# -- figures


def _figures(subject: Subject, apart: Hamming, votes: _Votes | None, clusters: Constellations) -> list[Drawing]:
    drawn = [_distance_drawing(apart)]
    if votes is not None:
        text = "How often neighbours vote for the right label: by patterns, and by the values behind the gates."
        drawn.append(_drawing("votes", votes.found, 3.8, text, "Line chart of right votes of neighbours, layer by layer"))
    drawn.append(_cluster_drawing(clusters))
    if picture(subject.data.inputs[0]) is not None:
        drawn.append(_neighbours(subject))
    return drawn


def _cluster_drawing(found: Constellations) -> Drawing:
    flat = _flat(found) is not None
    text = "Groups that hang together by steps of at most t units, beside random patterns"
    text += "; shaded: the longest flat stretch." if flat else "."
    alt = f"Number of clusters of {len(found):,} patterns against the threshold, falling"
    return _drawing("clusters", found, 4.4, text, alt, plateaus=int(flat))


def _drawing(name: str, result: Any, height: float, caption: str, alt: str, **options: Any) -> Drawing:
    with style():
        figure = new_figure(10.8, height)
        result.plot(figure.subplots(), **options)
    return Drawing(name, figure, caption, alt)


def _distance_drawing(apart: Hamming) -> Drawing:
    shown = min(_LAYERS, len(apart.layers))
    cut = "" if shown == len(apart.layers) else f" The first {shown} of {len(apart.layers)} layers are drawn."
    classes = " Blue: of one class, grey: of two." if apart.units.within is not None else ""
    text = f"In how many units two inputs differ, over all {apart.units.pairs:,} pairs, layer by layer.{classes}{cut}"
    words = "; ".join(f"{layer.name}: mean {layer.mean:.1f} of {layer.num_units}" for layer in apart.layers[:shown])
    return Drawing("distances", distance_figure(apart, _LAYERS), text, f"Histograms of distances: {words}")


def _neighbours(subject: Subject) -> Drawing:
    shown = list(dict.fromkeys(example.index for example in subject.examples))[:_ROWS]
    count = min(_COLUMNS, len(subject.data) - 1)
    near = pattern_neighbours(subject.patterns, shown, count, images=subject.data.inputs, labels=subject.labels)
    below = "label and distance; orange: another label" if subject.labels is not None else "the distance"
    text = f"Inputs, and among all {len(subject.data):,} those with the nearest patterns, over all layers; below each, {below}."
    alt = f"{len(shown)} inputs, each in front of the {count} inputs with the nearest patterns"
    return _drawing("neighbours", near, 0.5 + 1.16 * len(shown), text, alt)


# -- numbers


def _table(apart: Hamming, votes: _Votes | None) -> Table:
    """Return a line for every layer and one for all of them; what needs labels only where there are some."""
    parts = {layer.name: layer for layer in apart.layers}
    if len(apart.layers) > 1:
        parts["all layers"] = _whole(apart)
    labelled = apart.units.within is not None
    columns = ["layer", "units", "mean distance", "deviation", "in parts of the units"]
    columns += ["within classes", "between classes", "nearer within"] if labelled else []
    rows: list[list[Cell]] = [[name, *_row(part)] for name, part in parts.items()]
    if votes is not None:
        lines = {line.name: line for line in votes.found.table}
        rows = [["input", lines["input"].units, *[None] * (len(columns) - 2)], *rows]
        rows = [[*row, _percent(line.hamming), _percent(line.euclidean)] for row in rows if (line := lines[str(row[0])])]
        columns += ["right votes by patterns", "right votes by values"]
    return Table("Distances and votes by layer", tuple(columns), tuple(map(tuple, rows)))


def _row(part: Distances) -> list[Cell]:
    share = part.mean / part.num_units if part.num_units else None
    row: list[Cell] = [part.num_units, part.mean, part.deviation, _percent(share)]
    if part.within is not None and part.between is not None:
        row += [part.within.mean, part.between.mean, _percent(part.separation)]
    return row


def _percent(value: float | None) -> str | None:
    return None if value is None or math.isnan(value) else f"{value:.1%}"


def _data(subject: Subject, apart: Hamming, votes: _Votes | None, clusters: Constellations) -> dict[str, Any]:
    nulls = {null.kind: float(null.scores.mean()) for null in clusters.nulls}
    return {
        "inputs": len(clusters),
        "of_inputs": len(subject.data),
        "distances": [_distance_data(part) for part in (*apart.layers, _whole(apart))],
        "votes": None if votes is None else votes.found.to_dict(),
        "clusters": {
            "score": clusters.score,
            "normalised": clusters.normalised,
            "scores_of_random": nulls,
            "plateaus": [plateau._asdict() for plateau in clusters.plateaus()],
        },
    }


def _distance_data(part: Distances) -> dict[str, Any]:
    row: dict[str, Any] = {"name": part.name, "units": part.num_units, "mean": part.mean, "deviation": part.deviation}
    if part.within is None or part.between is None:
        return row
    return row | {"within": part.within.mean, "between": part.between.mean, "separation": part.separation}
