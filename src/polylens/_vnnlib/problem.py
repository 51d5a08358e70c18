"""From a text to what it declares and asserts, by the version of VNN-LIB that it is written in."""

from __future__ import annotations

import re

from .formula import Problem
from .reader import Reader
from .scalars import Scalars
from .tensors import Tensors
from .words import Form, Word, complain, forms

_VERSION = re.compile(r"<?(\d+)\.(\d+)>?")


def read_problem(text: str, name: str) -> Problem:
    """Return what a VNN-LIB text declares and asserts.

    A text that says no version is of version 2.0 if it declares a network, and else of 1.0.

    Raises FileError with the line of what is not understood.
    """
    found = forms(text, name)
    commands = [form for form in found if form.head != "vnnlib-version"]
    stated = [_stated(form, name) for form in found if form.head == "vnnlib-version"]
    if len(set(stated)) > 1:
        complain(name, 1, "expected one version; got several")
    second = stated[0] == 2 if stated else any(form.head == "declare-network" for form in commands)
    reader: Reader = Tensors(name) if second else Scalars(name)
    return reader.read(commands)


def _stated(form: Form, name: str) -> int:
    """Return the first number of a version, which says what the text means."""
    words = [item.text for item in form.items if isinstance(item, Word)]
    version = _VERSION.fullmatch(words[1]) if len(words) == len(form.items) == 2 else None
    if version is None or int(version[1]) not in (1, 2):
        complain(name, form.line, f"expected (vnnlib-version <1.0>) or (vnnlib-version <2.0>); got {' '.join(words)}")
    return int(version[1])
