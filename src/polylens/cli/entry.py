"""The entry point: which commands there are, and how a run ends."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from ..errors import PolylensError
from . import info, invert, invertibility, nullspace, patterns, preimage, region, regions, report, sensitivity, spectrum, zeros
from .arguments import Parser, Version, complain, shielded

_COMMANDS = (report, info, patterns, regions, region, preimage, nullspace, spectrum, sensitivity, zeros, invert, invertibility)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    try:
        options = _parser().parse_args(shielded(sys.argv[1:] if arguments is None else arguments))
        code: int = options.run(options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return complain("interrupted", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader has gone; the exit must not complain
        return 0
    except OSError as error:
        return complain(f"{error.filename or 'file'}: {error.strerror or error}", 2)
    except PolylensError as error:
        return complain(str(error), 2)
    return code


def _parser() -> Parser:
    parser = Parser(prog="polylens", description="Look at a trained network through its polytopes.")
    parser.add_argument("--version", action=Version, nargs=0, help="show the version and exit")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND", parser_class=Parser)
    for command in _COMMANDS:
        command.add(commands)
    return parser
