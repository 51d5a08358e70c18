"""Docstrings as the API page reads them: the house says "Example", mkdocstrings "Examples"; `*shape` is no emphasis."""

from __future__ import annotations

import re
import textwrap
from typing import Any

from griffe import Extension, Object


class HouseStyle(Extension):
    """Translates every docstring when it has been read."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Rename the section, give one to bare examples, and escape asterisks outside of code."""
        if obj.docstring is not None:
            text = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)
            if "Examples:\n" not in text and (bare := re.search(r"^>>> ", text, re.MULTILINE)):  # an example without a title
                text = text[: bare.start()] + "Examples:\n" + textwrap.indent(text[bare.start() :], "    ")
            prose, found, examples = text.partition("Examples:\n")
            obj.docstring.value = re.sub(r"(`[^`]*`)|\*", lambda m: m[1] or r"\*", prose) + found + examples
