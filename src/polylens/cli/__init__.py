"""The command line: one file a command, each with `add` for its arguments and a function that runs it.

Exit code 0, 2 for a mistake of the user's with one line on stderr, 130 when interrupted. With `--json` the standard
output is one JSON object and nothing else. What is heavier than the package itself is imported where it is used.
"""

from .entry import main

__all__ = ["main"]
