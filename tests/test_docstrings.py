"""What `__all__` makes public is described: every function's parameters, every class, every public method."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

import pytest

import polylens

FUNCTIONS = [name for name in polylens.__all__ if inspect.isfunction(getattr(polylens, name))]
CLASSES = [name for name in polylens.__all__ if inspect.isclass(getattr(polylens, name))]
METHODS = [
    (name, member)
    for name in CLASSES
    for member, value in inspect.getmembers(getattr(polylens, name))
    if not member.startswith("_") and (inspect.isroutine(value) or isinstance(value, property))
]


def text(thing: object) -> str:
    return inspect.getdoc(thing) or ""


def described(function: Callable[..., Any]) -> str:
    """Return a function's docstring with that of the function to which it refers for its arguments."""
    own = text(function)
    other = re.search(r"\b(?:are those of|as for) `(\w+)`", own)
    return own + (text(getattr(polylens, other[1])) if other else "")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_parameter_of_a_public_function_is_described(name: str) -> None:
    function = getattr(polylens, name)
    words = described(function)
    missing = [p for p in inspect.signature(function).parameters if not re.search(rf"^\s+\**{p}:", words, re.MULTILINE)]
    assert not missing, f"{name} says nothing of {missing}"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_public_function_shows_an_example(name: str) -> None:
    assert ">>>" in described(getattr(polylens, name))


@pytest.mark.parametrize("name", polylens.__all__)
def test_a_docstring_opens_with_one_sentence(name: str) -> None:
    first = text(getattr(polylens, name)).split("\n\n")[0]
    assert first, f"{name} has no docstring"
    assert first.rstrip()[-1] in ".:", f"{name}: {first}"


@pytest.mark.parametrize(("owner", "member"), METHODS, ids=lambda value: value)
def test_every_public_method_has_a_docstring(owner: str, member: str) -> None:
    cls = getattr(polylens, owner)
    inherited = any(text(vars(base).get(member)) for base in cls.__mro__)
    field = member in getattr(cls, "__dataclass_fields__", {}) or member in getattr(cls, "_fields", ())
    assert inherited or field, f"{owner}.{member}"
