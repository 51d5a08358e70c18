"""What a run tells and writes: words or JSON, progress, pictures and arrays."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from .._files import write_atomically
from ..errors import FileError, InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..domain import Domain

_PICTURES = (".png", ".pdf", ".svg")


def say(options: argparse.Namespace, what: str) -> None:
    """Tell a person at a terminal what takes the time."""
    if not options.quiet and sys.stderr.isatty():
        print(f"polylens: {what}", file=sys.stderr)


def answer(options: argparse.Namespace, content: Callable[[], Mapping[str, Any]], text: Callable[[], str]) -> int:
    """Print the answer as it was asked for, and return the exit code."""
    print(json.dumps(content(), allow_nan=False) if options.json else text())
    return 0


def refuse_pictures_nowhere(name: str | None) -> None:
    """Complain before the work of what would fail after it."""
    _refuse_nowhere("--plot", name, _PICTURES)


def refuse_arrays_nowhere(name: str | None) -> None:
    """Complain before the work of an array that cannot be written."""
    _refuse_nowhere("--out", name, (".npy",))


def _refuse_nowhere(option: str, name: str | None, endings: tuple[str, ...]) -> None:
    if name is None:
        return
    if Path(name).suffix.lower() not in endings:
        raise FileError(f"{option} {name}: expected a name that ends in {', '.join(endings)}")
    if Path(name).is_dir() or not Path(name).absolute().parent.is_dir():
        raise FileError(f"{option} {name}: expected a file in a directory that exists")


def refuse_pictures_of_solids(options: argparse.Namespace, domain: Domain) -> None:
    """Complain about a picture of what has no one or two dimensions."""
    if options.plot and domain.dim not in (1, 2):
        raise InputError(f"--plot: expected a domain of 1 or 2 dimensions; got {domain.dim}; cut it with --plane or --segment")


def write_picture(result: Any, name: str, size: tuple[float, float], **options: Any) -> None:
    """Draw a result on one pair of axes of `size` inches and write it."""
    from ..plotting.base import new_figure, style

    with style():
        figure = new_figure(*size)
        result.plot(figure.subplots(), **options)
    write_figure(figure, name)


def write_figure(figure: Figure, name: str) -> None:
    """Write a figure in the format that its name ends in."""
    from ..plotting.base import saved

    kind = Path(name).suffix.lower().removeprefix(".")
    with write_atomically(name) as part:
        saved(figure, lambda drawn: drawn.savefig(part, dpi=150, format=kind))


def write_array(values: Tensor, name: str) -> None:
    """Write a .npy file."""
    with write_atomically(name) as part, part.open("wb") as file:
        np.save(file, values.cpu().numpy())
