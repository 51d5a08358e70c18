"""What a preimage consists of as plain arrays and back, for files that hold no code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import torch

from ..errors import ShapeError
from ..target import OutputSet, Part
from .findings import Fate
from .gathered import Tie
from .pieces import Pieces

Array = np.ndarray[Any, Any]


def arrays_of(target: OutputSet, pieces: Pieces, ties: Sequence[Tie], fate: Fate) -> dict[str, Array]:
    """Return all parts of a preimage as named arrays."""
    found = _arrays_of_pieces(pieces) | _arrays_of_target(target) | _arrays_of_ties(ties, pieces.points.shape[1])
    return found | _arrays_of_fate(fate)


def parts_from(arrays: Mapping[str, Array]) -> dict[str, Any]:
    """Return the parts of a preimage by their names in it. Raises KeyError for a missing array, ShapeError for unfit ones."""
    return {
        "target": _target_from(arrays),
        "arrays": _pieces_from(arrays),
        "ties": _ties_from(arrays),
        "fate": _fate_from(arrays),
    }


def _arrays_of_pieces(pieces: Pieces) -> dict[str, Array]:
    """Return pieces as named arrays; which rows of the target each maps onto are joined into one."""
    own = {f.name: getattr(pieces, f.name) for f in fields(Pieces) if f.name != "level"}
    return own | {"level": _joined(pieces.level, bool), "levels": np.array([len(v) for v in pieces.level], np.int64)}


def _pieces_from(arrays: Mapping[str, Array]) -> Pieces:
    """Return the pieces of named arrays. Raises KeyError for one that is missing, ShapeError for some that do not fit."""
    own = {f.name: arrays[f.name] for f in fields(Pieces) if f.name != "level"}
    level = tuple(np.split(arrays["level"], np.cumsum(arrays["levels"])[:-1])) if len(arrays["levels"]) else ()
    pieces = Pieces(**own, level=level)
    counts = {len(pieces), len(pieces.words), len(pieces.dimension), len(pieces.volume), len(pieces.simple), len(level)}
    rows = {len(pieces.points), len(pieces.weight), len(pieces.facets), int(pieces.start[-1])}
    if len(counts) > 1 or len(rows) > 1 or len(pieces.start) != len(pieces) + 1:
        raise ShapeError(f"pieces: expected arrays that fit one another; got {counts} pieces and {rows} generators")
    return pieces


def _arrays_of_target(target: OutputSet) -> dict[str, Array]:
    """Return a set of outputs as named arrays."""
    found: dict[str, Array] = {"target": np.array([target.dim, len(target.parts)])}
    for i, part in enumerate(target.parts):
        found |= {f"target.{i}.{f.name}": getattr(part, f.name).cpu().numpy() for f in fields(Part)}
    return found


def _target_from(arrays: Mapping[str, Array]) -> OutputSet:
    """Return the set of outputs of named arrays. Raises KeyError for one that is missing."""
    dim, count = (int(n) for n in arrays["target"])
    parts = [Part(**{f.name: torch.from_numpy(arrays[f"target.{i}.{f.name}"]) for f in fields(Part)}) for i in range(count)]
    return OutputSet(tuple(parts), dim)


def _arrays_of_ties(ties: Sequence[Tie], dim: int) -> dict[str, Array]:
    """Return ties as named arrays; their corners (corners, dim) and outputs are joined."""
    return {
        "tie.vertices": np.concatenate([np.zeros((0, dim)), *(t.vertices for t in ties)]),
        "tie.corners": np.array([len(t.vertices) for t in ties], np.int64),
        "tie.volume": np.array([t.volume for t in ties], np.float64),
        "tie.outputs": _joined([np.array(t.outputs, np.int64) for t in ties], np.int64),
        "tie.count": np.array([len(t.outputs) for t in ties], np.int64),
        "tie.included": np.array([t.included for t in ties], bool),
    }


def _ties_from(arrays: Mapping[str, Array]) -> tuple[Tie, ...]:
    """Return the ties of named arrays. Raises KeyError for one that is missing."""
    corners = np.split(arrays["tie.vertices"], np.cumsum(arrays["tie.corners"]))
    outputs = np.split(arrays["tie.outputs"], np.cumsum(arrays["tie.count"]))
    return tuple(
        Tie(vertices=corners[i], volume=float(volume), outputs=tuple(int(k) for k in outputs[i]), included=bool(included))
        for i, (volume, included) in enumerate(zip(arrays["tie.volume"], arrays["tie.included"], strict=True))
    )


def _arrays_of_fate(fate: Fate) -> dict[str, Array]:
    """Return what became of the cells as named arrays."""
    return {"dropped": np.array(fate.dropped, np.int64), "fate": np.array([*fate.counts, fate.fragile], np.int64)}


def _fate_from(arrays: Mapping[str, Array]) -> Fate:
    """Return what became of the cells. Raises KeyError for an array that is missing."""
    outside, inside, cut, fragile = (int(n) for n in arrays["fate"])
    return Fate([int(n) for n in arrays["dropped"]], outside, inside, cut, fragile)


def _joined(parts: Sequence[Array], dtype: Any) -> Array:
    return np.concatenate([np.zeros(0, dtype), *parts]).astype(dtype)
