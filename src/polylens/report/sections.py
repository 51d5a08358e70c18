"""The sections of the report, in the order of the page. To add one: write the function and name it in SECTIONS."""

from __future__ import annotations

from collections.abc import Callable

from .classifiers import classifiers
from .forgotten import forgotten
from .frequencies import frequencies
from .overview import overview
from .pattern_geometry import pattern_geometry
from .performance import performance
from .regions import regions
from .section import Section
from .sensitivities import sensitivities
from .singular import singular_values
from .slices import slices
from .subject import Subject
from .undone import undone

SECTIONS: tuple[Callable[[Subject], Section], ...] = (
    overview,
    performance,
    frequencies,
    pattern_geometry,
    classifiers,
    sensitivities,
    singular_values,
    regions,
    slices,
    forgotten,
    undone,
)
