"""Docstrings as the API page reads them: the house says "Example", mkdocstrings "Examples"; `*shape` is no emphasis."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object


class HouseStyle(Extension):
    """Translates every docstring when it has been read."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Rename the section, and escape asterisks outside of code."""
        if obj.docstring is not None:
            text = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)
            prose, found, examples = text.partition("Examples:\n")
            obj.docstring.value = re.sub(r"(`[^`]*`)|\*", lambda m: m[1] or r"\*", prose) + found + examples
