"""Drawings of results, one file a topic: the only folder that knows matplotlib. `base` has the style and what all share."""

from .base import BLUE, GREEN, GREY, INK, ORANGE, Panel, draw, frequency_figure, gallery, new_figure, picture, saved, style

__all__ = [
    "BLUE",
    "GREEN",
    "GREY",
    "INK",
    "ORANGE",
    "Panel",
    "draw",
    "frequency_figure",
    "gallery",
    "new_figure",
    "picture",
    "saved",
    "style",
]
