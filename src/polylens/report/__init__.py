"""The report: one self-contained page on a network and its data, with figures and numbers beside it.

A section is a function from the Subject to a Section, listed in SECTIONS; rendering knows nothing of what they say.
"""

from .render import write_report
from .section import Cell, Drawing, Section, Table
from .sections import SECTIONS
from .subject import Example, Subject, examine

__all__ = ["SECTIONS", "Cell", "Drawing", "Example", "Section", "Subject", "Table", "examine", "write_report"]
