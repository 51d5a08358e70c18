"""The brackets and words of SMT-LIB 2 with their lines, and nothing of what they mean."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NoReturn

from ..errors import FileError

# A comment ends at the first line feed or carriage return (SMT-LIB 2.6, section 3.1). Indices or a shape belong to the word in
# front of them (VNN-LIB 2.0).
_TOKEN = re.compile(
    r'(?P<gap>\s+|;[^\n\r]*)|(?P<bracket>[()])|(?P<string>"[^"]*")|\|(?P<quoted>[^|]*)\|'
    r'|(?P<word>[^\s();"|\[\]]+(?:\s*\[[^();"|\[\]]*\])?)'
)
_LINE_END = re.compile(r"\r\n|\r|\n")
_DEEPEST = 100  # brackets in one another: what people and programs write stays below ten


@dataclass(frozen=True, slots=True)
class Word:
    """A symbol, a number or a string, and the line it stands in."""

    text: str
    line: int


@dataclass(frozen=True, slots=True)
class Form:
    """A bracket with what stands in it, and the line in which it opens."""

    items: tuple[Node, ...]
    line: int

    @property
    def head(self) -> str:
        """The first word, empty where there is none."""
        return self.items[0].text if self.items and isinstance(self.items[0], Word) else ""


Node = Word | Form


def complain(name: str, line: int, problem: str) -> NoReturn:
    """Raise FileError with the place of the problem."""
    raise FileError(f"{name}, line {line}: {problem}")


def shown(node: Node) -> str:
    """Return a node as text, shortened to what fits into a message."""
    text = node.text if isinstance(node, Word) else f"({node.head} ...)" if len(node.items) > 1 else f"({node.head})"
    return repr(text if len(text) <= 60 else text[:57] + "...")


def forms(text: str, name: str) -> tuple[Form, ...]:
    """Return the brackets of the outermost level, in order.

    Raises FileError for brackets that do not match, words outside of them, and quotes without an end.
    """
    levels: list[list[Node]] = [[]]
    opened: list[int] = []
    place, line = 0, 1
    while place < len(text):
        token = _TOKEN.match(text, place)
        if token is None:
            complain(name, line, _unreadable(text[place]))
        if token.lastgroup == "bracket":
            _bracket(token[0], levels, opened, name, line)
        elif token.lastgroup != "gap":
            if not opened:
                complain(name, line, f"expected a command in brackets, as (assert ...); got {token[0][:60]!r}")
            levels[-1].append(Word(_written(token), line))
        line += len(_LINE_END.findall(token[0]))
        place = token.end()
    if opened:
        complain(name, opened[-1], "expected the bracket that opens here to be closed; the file ends before")
    return tuple(form for form in levels[0] if isinstance(form, Form))


def _written(token: re.Match[str]) -> str:
    """Return a word as it is written, with line ends in front of and between its indices as spaces."""
    return " ".join(token[0].split()) if token.lastgroup == "word" else token[token.lastgroup or 0]


def _unreadable(character: str) -> str:
    if character in "[]":
        return f"expected indices right behind a variable, as X[0,1]; got {character!r}, which is not part of any"
    return f"expected the quote {character} to end; it goes on to the end of the file"


def _bracket(bracket: str, levels: list[list[Node]], opened: list[int], name: str, line: int) -> None:
    """Go one level down or up."""
    if bracket == "(":
        if len(opened) == _DEEPEST:
            complain(name, line, f"expected at most {_DEEPEST} brackets in one another; write the formula flatter")
        levels.append([])
        opened.append(line)
    elif not opened:
        complain(name, line, "expected a bracket to open before one is closed; remove this one")
    else:
        form = Form(tuple(levels.pop()), opened.pop())
        levels[-1].append(form)
