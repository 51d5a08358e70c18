"""Section: what the network forgets at single inputs: null spaces, how far they reach, and inputs it cannot tell apart."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..constancy import Constancy, End, constant_along
from ..explore import in_words as unit_in_words
from ..nullspace import Forgotten, NullSpace, forgotten_by_layer, null_space
from ..plotting.base import Panel, gallery, new_figure, picture, style
from .fibres import Pair, aims, data_range, fibre_drawing, pairs
from .preimages import Found, preimage_drawing, preimages
from .preimages import in_words as preimages_in_words
from .section import Cell, Drawing, Section, Table, number, rounded
from .subject import Subject

_NAME, _TITLE = "forgotten", "What this network forgets at these inputs"
_SHOWN = 6  # examples looked at closely
_WORK = 30_000_000_000  # multiplications spent on ranks of all layers: some seconds
_MOST_WORK, _MOST_ENTRIES = 100_000_000_000, 60_000_000  # and what is too much, or too large, for a single input
_BARRED = 30  # layers with a bar each
_ENDS = {"bends": "time", "domain": "range of the data", "maximum": "no way nearer", "reached": "there", "point": "no way"}


class _Look(NamedTuple):
    """One input: its null space, the input that its null direction leads towards, and how far f is constant along it."""

    number: int
    space: NullSpace
    aim: int | None
    constant: Constancy | None


def forgotten(subject: Subject) -> Section:
    """Return what the network forgets at some inputs, layer by layer, how far that holds, and pairs it cannot tell apart."""
    if _work([subject.outputs.shape[1]], _inputs(subject)) > _MOST_WORK:
        why = (
            f"The local maps have {subject.outputs.shape[1]:,} outputs and {_inputs(subject):,} inputs, too many for this page."
        )
        return Section(_NAME, _TITLE, (why,), data={"examples": []})
    shown = [e.index for e in subject.examples[:_SHOWN]]
    towards = aims(subject, shown)
    looks = _looks(subject, shown, towards)
    layers = _layers(subject, shown)
    walks = pairs(subject, {i: aim for i, aim in towards.items() if _nullity(looks, i)}) if _is_exact(subject) else []
    places = preimages(subject)
    words = (_lead(subject), _measured(looks, layers), _far(subject, looks), _walked(subject, walks), _over(places))
    rows = [pair.row(subject) for pair in walks]
    return Section(
        _NAME,
        _TITLE,
        tuple(filter(None, words)),
        _facts(looks, rows),
        tuple(_figures(subject, looks, layers, walks, places)),
        tuple(_tables(subject, looks, layers, rows, places)),
        {
            "examples": [_row(look) for look in looks],
            "layers": None if layers is None else layers.to_dict(),
            "walks": rows,
            "preimages": [found.row() for found in places],
        },
    )


def _is_exact(subject: Subject) -> bool:
    return subject.net.is_piecewise_linear


def _inputs(subject: Subject) -> int:
    return math.prod(subject.net.input_shape)


def _nullity(looks: list[_Look], index: int) -> int:
    return next(int(look.space.nullity) for look in looks if look.number == index)


# -- what is computed


def _looks(subject: Subject, shown: list[int], towards: dict[int, int]) -> list[_Look]:
    x = subject.data.inputs[shown].double()
    spaces = null_space(subject.net, x)
    looks = []
    for k, index in enumerate(shown):
        space, aim = spaces[k], towards.get(index)
        way = None if aim is None else space.project(subject.data.inputs[aim].double() - x[k])
        looks.append(_Look(index, space, aim, _constant(subject, x[k], way)))
    return looks


def _constant(subject: Subject, x: Tensor, way: Tensor | None) -> Constancy | None:
    """Return how far the outputs stay the same along a null direction, in units of the input."""
    length = 0.0 if way is None else float(torch.linalg.vector_norm(way))
    if way is None or not _is_exact(subject) or length <= 1e-9 * (1.0 + float(torch.linalg.vector_norm(x))):
        return None
    return constant_along(subject.net, x, way / length)


def _layers(subject: Subject, shown: list[int]) -> Forgotten | None:
    """Return what is forgotten up to each layer, at as many inputs as can be afforded."""
    dim = _inputs(subject)
    units = [math.prod(gate.shape) for gate in subject.net.gates] + [subject.outputs.shape[1]]
    one = _work(units, dim)
    if one > _MOST_WORK or max(units) * dim > _MOST_ENTRIES:
        return None
    return forgotten_by_layer(subject.net, subject.data.inputs[shown[: max(1, _WORK // one)]].double())


def _work(units: list[int], inputs: int) -> int:
    """Return about how many multiplications the singular values of maps to so many units take."""
    return sum(u * inputs * min(u, inputs) for u in units)


# -- words


def _lead(subject: Subject) -> str:
    far = "no output changes, exactly, for as long as the local map stays the same"
    far = far if _is_exact(subject) else "no output changes to first order"
    return (
        "At an input the network sees only some directions, the row space of its local map. Along all others, the null space,"
        f" {far}. That is what it forgets there; a picture is the sum of the part that is seen and the part"
        " that is not."
    )


def _measured(looks: list[_Look], layers: Forgotten | None) -> str:
    inputs, lost = looks[0].space.inputs, _span([int(k.space.nullity) for k in looks])
    if not any(int(look.space.nullity) for look in looks):
        return "Nothing is forgotten: around each of these inputs the output changes along every direction."
    text = f"Of the {inputs:,} dimensions of an input {lost} are forgotten at these inputs."
    if layers is None:
        return (
            f"{text} The ranks up to each layer are left out: they take too long here. The command “polylens nullspace” has"
            " them."
        )
    first = layers.nullity.reshape(-1, len(layers.names))
    if len(layers.names) > 1 and bool(first.any()):
        text += f" Behind the first gate ({layers.names[0]}) it is {_span(first[:, 0].tolist())} of them"
        text += "." if len(first) == len(looks) else f"; layers were measured at {len(first)} of these inputs."
    return text


def _far(subject: Subject, looks: list[_Look]) -> str:
    if not _is_exact(subject):
        kinds = ", ".join(dict.fromkeys(node.step.kind for node in subject.net.smooth_steps))
        return (
            f"How far this holds, and which inputs have the same output, is left out: the network is smooth ({kinds}), so its"
            " map turns at every step. The library's function “second_order” says whether it holds to second order."
        )
    found = [look.constant for look in looks if look.constant is not None]
    if not found:
        return ""
    ahead = torch.tensor([c.t_max for c in found], dtype=torch.float64)
    middle = float(ahead.median())
    reach = "no output changes at any distance" if math.isinf(middle) else ""
    reach = (
        reach or f"no output changes over {rounded(middle, 2)} units of the input in the median; the table says what ends it"
    )
    if not middle:
        reach = "outputs change at once at half of these inputs or more, which lie on boundaries, as the table says"
    crossed = sum(c.crossed for c in found)
    over = f" {number(crossed)} boundaries lie within these intervals, at which the outputs do not bend." if crossed else ""
    return (
        f"One null direction of each input is followed, the one that leads most towards another input. Along it {reach}.{over}"
    )


def _walked(subject: Subject, walks: list[Pair]) -> str:
    if not walks:
        return ""
    low, high = data_range(subject)
    rows = [pair.row(subject) for pair in walks]
    other = "an input of another class" if subject.outputs.shape[1] > 1 else "another input"
    away = _span([float(f"{r['distance']:.3g}") for r in rows])
    text = (
        "Behind a boundary the inputs with the same output go on, in the null space of the next map. Walked along these, within"
        f" the range of the data, {number(low)} ≤ x ≤ {number(high)}, and as near to {other} as they come,"
        f" inputs end up {away} away, while no output has changed by more than"
        f" {rounded(max(r['largest_difference'] for r in rows), 1)}, in float64."
    )
    own = max(r["largest_difference_in_own_precision"] for r in rows)
    if subject.net.dtype != torch.float64:
        text += f" Rounded to the network's own precision they differ by {rounded(own, 1)}."
    if any(p.moved for p in walks):
        text += " Inputs that lie on boundaries were moved off them first, by less than can be seen."
    if any(p.walk.reason == "bends" for p in walks):
        text += " Walks that the time for this page ended would go on."
    if not any(p.is_visible(subject) for p in walks):
        text += " So short ways cannot be seen, and are not shown."
    return text


def _over(places: list[Found]) -> str:
    return preimages_in_words(places) if places else ""


def _span(values: list[Any]) -> str:
    low, high = number(min(values)), number(max(values))
    return low if low == high else f"{low} to {high}"


def _facts(looks: list[_Look], rows: list[dict[str, Any]]) -> tuple[tuple[str, str], ...]:
    inputs = looks[0].space.inputs
    facts = [("dimensions forgotten", f"{_span([int(k.space.nullity) for k in looks])} of {inputs:,}")]
    facts.append(("dimensions seen", _span([int(look.space.rank) for look in looks])))
    if rows:
        facts.append(("farthest input with the same output", rounded(max(r["distance"] for r in rows), 3)))
        facts.append(("largest difference of outputs", rounded(max(r["largest_difference"] for r in rows), 1)))
    return tuple(facts)


# -- figures


def _figures(
    subject: Subject, looks: list[_Look], layers: Forgotten | None, walks: list[Pair], places: list[Found]
) -> list[Drawing]:
    figures = [_parts(looks)] if _inputs(subject) > 3 and picture(subject.data.inputs[0]) is not None else []
    figures += [_bars(layers)] if _is_worth_bars(layers) and layers is not None else []
    visible = [pair for pair in walks if pair.is_visible(subject)]
    figures += [fibre_drawing(subject, visible)] if visible and _inputs(subject) > 3 else []
    return figures + ([preimage_drawing(places)] if any(len(found.preimage) for found in places) else [])


def _parts(looks: list[_Look]) -> Drawing:
    """Return inputs as the sum of what is seen and what is forgotten of them."""
    rows: list[tuple[str, list[Panel | None]]] = [("input", []), ("seen", []), ("forgotten", [])]
    for look in looks:
        x, lost = look.space.point.cpu(), look.space.project(look.space.point).cpu()
        rows[0][1].append(Panel(f"#{look.number}", x, signed=False))
        rows[1][1].append(Panel(f"{int(look.space.rank):,} dimensions", x - lost, signed=True))
        rows[2][1].append(Panel(f"{int(look.space.nullity):,} dimensions", lost, signed=False))
    caption = (
        "Inputs, the part of them in the directions that the network sees there, and the rest: the input is the sum of the two."
        " The local map gives the same outputs for the seen part alone as for the input; where the third row looks like the"
        " first, almost all of the picture plays no part."
    )
    figure = gallery(rows, signed="part of the input", unit="units of the input")
    return Drawing("forgotten", figure, caption, "inputs split into what the network sees and what it forgets")


def _is_worth_bars(layers: Forgotten | None) -> bool:
    return layers is not None and layers.inputs > 3 and 1 < len(layers.names) <= _BARRED and bool(layers.nullity.any())


def _bars(layers: Forgotten) -> Drawing:
    with style():
        figure = new_figure(10.8, 1.1 + 0.34 * len(layers.names))
        layers.plot(figure.subplots()).set_title("")
    points = layers.nullity.reshape(-1, len(layers.names))
    spread = " Orange lines reach from the least to the most." if len(points) > 1 else ""
    at = f"the mean over {len(points)} inputs" if len(points) > 1 else "at one input"
    caption = f"Of the dimensions of an input those that are forgotten up to each layer: {at}.{spread}"
    return Drawing("forgotten_layers", figure, caption, "bars of how many dimensions are forgotten up to each layer")


# -- numbers


def _row(look: _Look) -> dict[str, Any]:
    space = look.space
    return {
        "index": look.number,
        **space.to_dict(),
        "share_seen": _share(space),
        "towards": look.aim,
        "constant": None if look.constant is None else look.constant.to_dict(),
    }


def _share(space: NullSpace) -> float | None:
    """Return the part of the squared length of the input that is seen."""
    total = float(space.point.square().sum())
    return 1.0 - min(1.0, float(space.project(space.point).square().sum()) / total) if total else None


def _tables(
    subject: Subject, looks: list[_Look], layers: Forgotten | None, rows: list[dict[str, Any]], places: list[Found]
) -> list[Table]:
    tables = [_table(subject, looks)]
    if layers is not None and len(layers.names) > 1:
        tables.append(_layer_table(layers))
    if rows:
        tables.append(_walk_table(rows))
    return tables + ([_place_table(places)] if places else [])


def _table(subject: Subject, looks: list[_Look]) -> Table:
    rows, followed = [], any(look.constant is not None for look in looks)
    for look in looks:
        share, gap = _share(look.space), float(look.space.gap)
        cells: list[Cell] = [f"#{look.number}", int(look.space.rank), int(look.space.nullity)]
        cells += [None if share is None else f"{share:.1%}", "∞" if math.isinf(gap) else rounded(gap, 2)]
        if followed:
            cells += [None if look.aim is None else f"#{look.aim}", *_interval(subject, look.constant)]
        rows.append(tuple(cells))
    columns = ["input", "seen", "forgotten", "of |x|² seen", "gap"]
    caption = "Dimensions seen and forgotten at single inputs"
    if followed:
        columns += ["towards", "constant from", "to", "what ends it there"]
        caption += ", and how far the outputs stay the same along one null direction, in units of the input"
    return Table(caption, tuple(columns), tuple(rows))


def _interval(subject: Subject, constant: Constancy | None) -> list[Cell]:
    if constant is None:
        return [None, None, None]
    low, high = (rounded(t, 3) if math.isfinite(t) else "∞" for t in (constant.t_min, constant.t_max))
    return ["−∞" if math.isinf(constant.t_min) else low, high, _reason(subject, constant.above)]


def _reason(subject: Subject, end: End) -> str:
    if end.units and end.reason == "the map changes":
        more = f" and {len(end.units) - 1} more" if len(end.units) > 1 else ""
        return f"{unit_in_words(subject.net, end.units[0])}{more}"
    return end.reason


def _layer_table(layers: Forgotten) -> Table:
    lost = layers.nullity.reshape(-1, len(layers.names)).double()
    rows = tuple(
        (name, int(column.min()), float(column.median()), int(column.max()))
        for name, column in zip(layers.names, lost.T, strict=True)
    )
    where = f"over {len(lost)} inputs" if len(lost) > 1 else "at one input"
    return Table(
        f"Dimensions of {layers.inputs:,} forgotten up to each layer, {where}", ("layer", "least", "median", "most"), rows
    )


def _walk_table(rows: list[dict[str, Any]]) -> Table:
    shown = tuple(
        (
            f"#{r['index']}",
            f"#{r['towards']}",
            r["from_target"],
            r["to_target"],
            r["distance"],
            r["crossings"],
            r["largest_difference"],
            r["largest_output"],
            _ENDS.get(r["reason"], r["reason"]),
        )
        for r in rows
    )
    columns = (
        "input",
        "towards",
        "from it before",
        "after",
        "from the input",
        "regions entered",
        "outputs differ by",
        "largest output",
        "ended by",
    )
    return Table(
        "Walks through inputs with the same output, and the distances from the input that they went towards and from their own",
        columns,
        shown,
    )


def _place_table(places: list[Found]) -> Table:
    rows = tuple(
        (
            found.name,
            len(found.preimage),
            found.preimage.dimension if len(found.preimage) else None,
            None if found.share is None else f"{found.share:.2%}",
            "yes" if found.preimage.complete else "no",
        )
        for found in places
    )
    columns = ("output", "pieces", "dimension", "share of the range", "all found")
    return Table("All inputs of the data's range with an output", columns, rows)
