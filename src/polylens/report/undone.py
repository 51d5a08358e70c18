"""Section: which layers can be undone at some inputs: preimages of layers, counted by kind."""

from __future__ import annotations

import time
from typing import Any

import torch

from ..invertibility import Invertibility, LayerKinds, invertibility
from ..layer_preimage import KINDS, WORDS
from ..plotting.invertibility import invertibility_figure
from .section import Cell, Drawing, Section, Table
from .subject import Subject

_NAME, _TITLE = "undone", "Can its layers be undone?"
_INPUTS = 60
_SECONDS = 2.5  # for all layers and inputs: the first input tells how many there is time for
_LARGEST = 1 << 22  # entries of a layer's matrix; larger ones take seconds an input
_DRAWN = 3


def undone(subject: Subject) -> Section:
    """Return how many of some inputs each layer leaves as the only one with their output, and of which kind the others are."""
    layers, large = _layers(subject)
    found = _over(subject, layers)
    if found is None or not found.layers:
        why = "No layer was asked: none has a ReLU, LeakyReLU, Abs or max-pooling behind an affine map that is small enough."
        return Section(_NAME, _TITLE, (why,), data={"layers": [], "skipped": large})
    return Section(
        _NAME,
        _TITLE,
        _words(found, found.skipped | large),
        tuple((f"layer {layer.name}", _most(layer)) for layer in found.layers[:4]),
        (_figure(found),),
        (_table(found),),
        {"layers": [_row(layer) for layer in found.layers], "skipped": found.skipped | large},
    )


def _layers(subject: Subject) -> tuple[list[str], dict[str, str]]:
    """Return the layers that can be asked in time, and why others cannot."""
    from .._layers.asked import Asked, all_layers, asked_layer

    names, large = list[str](), dict[str, str]()
    net = subject.net
    for value in all_layers(net):
        layer, name = asked_layer(net, value, None), net.nodes[value - 1].name
        if not isinstance(layer, Asked):
            large[name] = layer
        elif layer.map.inputs * layer.map.outputs > _LARGEST:
            large[name] = f"its matrix would have {layer.map.inputs * layer.map.outputs:,} entries; ask with invertibility()"
        else:
            names.append(name)
    return names, large


def _over(subject: Subject, layers: list[str]) -> Invertibility | None:
    if not layers:
        return None
    at = torch.linspace(0, len(subject.data) - 1, min(_INPUTS, len(subject.data))).round().long()
    x = subject.data.inputs[at]
    start = time.perf_counter()
    first = invertibility(subject.net, x[:1], layers)
    count = min(len(x), int(_SECONDS / max(time.perf_counter() - start, 1e-9)))
    return first if count < 2 else invertibility(subject.net, x[:count], layers)


def _words(found: Invertibility, skipped: dict[str, str]) -> tuple[str, ...]:
    count = len(found.layers[0].kind)
    lead = (
        f"Of {count} inputs: which other inputs of a layer have the same output? None (singleton), a bounded set of them"
        " (finite) or an unbounded one (infinite). A layer is what is affine between two gates, with the gate behind it; the"
        " first is asked on the whole space, one behind a ReLU among inputs of at least 0."
    )
    why = (
        "With fewer positive outputs than the layer has inputs, the equalities leave room; then only the inequalities of the"
        " outputs at 0 can close it. Every answer has been verified; what could not be is undecided."
    )
    left = "; ".join(f"{name}: {reason}" for name, reason in skipped.items())
    return (lead, why, f"Not asked: {left}.") if left else (lead, why)


def _most(layer: LayerKinds) -> str:
    kind, count = max(layer.counts.items(), key=lambda item: item[1])
    return f"{WORDS[kind]}, {count} of {len(layer.kind)}"


def _row(layer: LayerKinds) -> dict[str, Any]:
    return {
        "name": layer.name,
        "inputs": layer.inputs,
        "outputs": layer.outputs,
        "gate": layer.gate,
        "reach": layer.reach,
        "counts": {WORDS[kind]: count for kind, count in layer.counts.items()},
        "positive": [int(layer.positive.min()), int(layer.positive.median()), int(layer.positive.max())],
        "median_seconds": float(layer.seconds.median()),
    }


def _figure(found: Invertibility) -> Drawing:
    shown = min(_DRAWN, len(found.layers))
    return Drawing(
        "preimages_of_layers",
        invertibility_figure(found, most=_DRAWN),
        f"Kinds of preimages by the number of positive outputs, of {shown} of {len(found.layers)} layers. Dashed: the number"
        " of the layer's inputs, beyond which a preimage is one point unless rows depend on one another.",
        "Stacked bars of kinds of preimages over the number of positive outputs, one panel a layer",
    )


def _table(found: Invertibility) -> Table:
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (
            layer.name,
            f"{layer.inputs:,} → {layer.outputs:,}",
            layer.reach,
            int(layer.positive.median()),
            *(layer.counts[kind] for kind in KINDS),
        )
        for layer in found.layers
    )
    words = tuple(WORDS[kind] for kind in KINDS)
    return Table("Preimages of layers", ("layer", "inputs → outputs", "among", "positive outputs (median)", *words), rows)
