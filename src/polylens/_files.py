"""Writing so that a reader never sees half of it: into a temporary place on the same disk, then moved.

What fails, or is interrupted, leaves what was there before. Files that polylens did not write are never touched.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import FileError


@contextmanager
def write_atomically(path: str | Path) -> Iterator[Path]:
    """Give the path of a temporary file to write; it takes the place of `path` when the block ends without an error.

    Raises FileError when `path` is a directory, OSError when its folder cannot be written.
    """
    path = Path(path)
    if path.is_dir():
        raise FileError(f"{path}: expected a file to write; it is a directory")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.parent / _temporary_name(path.name)
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def write_directory_atomically(path: str | Path) -> Iterator[Path]:
    """Give a temporary directory to fill; it becomes `path`, or its files join those in `path`, when the block ends.

    Where `path` exists, files of the same names are replaced one by one, those at the top last, and all others stay.
    Nothing is created before the block has ended: the temporary directory lies in `path`, or where that is missing in
    its nearest existing ancestor, so that moving never crosses a disk.

    Raises FileError when `path` is a file or one of its directories stands where a file should go.
    """
    path = Path(path).absolute()
    if path.exists() and not path.is_dir():
        raise FileError(f"{path}: expected a directory to write into; it is a file")
    part = _nearest_directory(path) / _temporary_name(path.name)
    try:
        part.mkdir()
        yield part
        if path.is_dir():
            _move_into(part, path)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            os.replace(part, path)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _temporary_name(name: str) -> str:
    return f".{name}.{os.getpid()}-{secrets.token_hex(4)}.part"


def _nearest_directory(path: Path) -> Path:
    found = next(p for p in (path, *path.parents) if p.exists())
    if not found.is_dir():
        raise FileError(f"{path}: expected a directory to write into; {found} is a file")
    return found


def _move_into(part: Path, path: Path) -> None:
    """Move the files, deepest first, so that what a reader opens is the last to change."""
    files = sorted((f.relative_to(part) for f in part.rglob("*") if f.is_file()), key=lambda f: (-len(f.parts), str(f)))
    for file in files:
        for place in (path / file.parent, *(path / p for p in file.parent.parents)):
            if place.exists() and not place.is_dir():
                raise FileError(f"{place}: expected a directory to write into; it is a file")
        if (path / file).is_dir():
            raise FileError(f"{path / file}: expected a file to write; it is a directory")
    for file in files:
        (path / file).parent.mkdir(parents=True, exist_ok=True)
        os.replace(part / file, path / file)
