"""What can be asked: the parser, the arguments that several commands share, and how their words are read."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

_MODEL = "an .onnx, .pt2 or .npz file, or package.module:factory for a torch module of your own"


def complain(message: str, code: int) -> int:
    """Say in one line on stderr what went wrong, and return the exit code."""
    print(f"polylens: {' '.join(message.split())}", file=sys.stderr)
    return code


class Parser(argparse.ArgumentParser):
    """Complains in one line, as every other mistake does; the examples at the end of its help keep their lines."""

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **options)

    def error(self, message: str) -> NoReturn:
        sys.exit(complain(f"{message}; see {self.prog} --help", 2))


class Version(argparse.Action):
    """Prints the version, which is in the package's metadata."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        from importlib import metadata

        print(f"polylens {metadata.version('polylens')}")
        parser.exit()


def shielded(arguments: Sequence[str]) -> list[str]:
    """Put a blank before what begins with a minus and is no option: -1e0, -inf, and constraints such as "-y0<=1"."""
    return [f" {word}" if _is_value(word) else word for word in arguments]


def _is_value(word: str) -> bool:
    constraint = any(sign in word for sign in ("<", ">", "==")) and not word.startswith("--")
    return word.startswith("-") and (constraint or is_number(word))


def is_number(text: str) -> bool:
    """Say whether a word is a number, inf and nan among them."""
    try:
        float(text)
    except ValueError:
        return False
    return True


# -- arguments that several commands have


def add_command(commands: Any, name: str, summary: str, description: str, *examples: str) -> argparse.ArgumentParser:
    """Return the parser of a new command; its help ends with the examples."""
    import textwrap

    text = "\n".join(textwrap.wrap(description, 100, break_on_hyphens=False))
    shown = ["examples:" if len(examples) > 1 else "example:", *(f"  {line}" for line in examples)]
    command: argparse.ArgumentParser = commands.add_parser(
        name, help=summary, description=text, epilog="\n".join(shown) if examples else None
    )
    return command


def add_model(command: argparse.ArgumentParser, optional: bool) -> None:
    """Add the network: a file, or a factory with its weights."""
    command.add_argument("model", metavar="MODEL", nargs="?" if optional else None, help=_MODEL)
    command.add_argument("--weights", metavar="FILE", help="for a factory: .safetensors or a state dict")
    command.add_argument(
        "--example-shape",
        metavar="SHAPE",
        type=shape,
        action="append",
        help="for a factory: the shape of an input batch, as 1,3,32,32; once for each input that stays free",
    )
    command.add_argument(
        "--inputs",
        metavar="NAME[=FILE]",
        action="append",
        help="for a model of several inputs: one that stays free, or one fixed at the array of a .npy file; free ones are"
        " joined into one flat input",
    )
    command.add_argument("--outputs", metavar="NAME", help="for a model of several outputs: the one to look at")


def add_place(command: argparse.ArgumentParser, required: bool) -> None:
    """Add where to look: a box, a plane or a segment."""
    place = command.add_mutually_exclusive_group(required=required)
    add_box(place)
    place.add_argument(
        "--plane", metavar="FILE", help="three inputs, (3, *input_shape): the rectangle around them in their plane"
    )
    place.add_argument("--segment", metavar="FILE", help="two inputs, (2, *input_shape): the straight line between them")


def add_box(command: Any, required: bool = False) -> None:
    """Add a box whose sides are numbers or files."""
    options = {"required": True} if required else {}
    command.add_argument(
        "--box",
        metavar=("LO", "HI"),
        nargs=2,
        help="LO <= x <= HI: numbers for every entry, or .npy files; inf is no side, equal sides fix an entry",
        **options,
    )


def add_effort(command: argparse.ArgumentParser, what: str) -> None:
    """Add when to stop, and how many threads to use."""
    command.add_argument("--limit", metavar="N", type=positive, help=f"stop when so many {what} are found")
    command.add_argument("--time-limit", metavar="S", type=seconds, help="stop after so many seconds")
    command.add_argument("--jobs", metavar="N", type=jobs, default=1, help="threads; -1 for all cores (default: %(default)s)")


def add_seed(command: argparse.ArgumentParser) -> None:
    """Add the seed of what is drawn."""
    command.add_argument("--seed", metavar="S", type=natural, default=0, help="of what is drawn (default: %(default)s)")


def add_output(command: argparse.ArgumentParser) -> None:
    """Add how the answer is told."""
    command.add_argument("--json", action="store_true", help="print one JSON object")
    command.add_argument("-q", "--quiet", action="store_true", help="do not say what is being done")


# -- words to values


def end(text: str) -> float:
    """Return the end of an interval."""
    if not is_number(text) or math.isnan(float(text)):
        raise argparse.ArgumentTypeError(f"expected a number, or inf where there is no side; got {text.strip()!r}")
    return float(text)


def seconds(text: str) -> float:
    """Return a time above 0."""
    if not is_number(text) or not 0 < float(text) < math.inf:
        raise argparse.ArgumentTypeError(f"expected seconds above 0; got {text.strip()!r}")
    return float(text)


def at_least_zero(text: str) -> float:
    """Return a finite number that is not negative."""
    if not is_number(text) or not 0 <= float(text) < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number of at least 0; got {text.strip()!r}")
    return float(text)


def jobs(text: str) -> int:
    """Return a number of threads."""
    return -1 if text.strip() == "-1" else positive(text.strip())


def positive(text: str) -> int:
    """Return a whole number of at least 1."""
    return _whole(text, 1)


def natural(text: str) -> int:
    """Return a whole number of at least 0."""
    return _whole(text, 0)


def _whole(text: str, least: int) -> int:
    if not text.isdigit() or int(text) < least:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least {least}; got {text.strip()!r}")
    return int(text)


def shape(text: str) -> tuple[int, ...]:
    """Return a shape such as 1,3,32,32."""
    parts = text.replace("x", ",").split(",")
    if not all(part.strip().isdigit() and int(part) > 0 for part in parts):
        raise argparse.ArgumentTypeError(f"expected whole numbers with commas, as 1,3,32,32; got {text!r}")
    return tuple(int(part) for part in parts)
