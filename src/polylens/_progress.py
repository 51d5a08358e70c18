"""The one door to progress bars: silent unless the standard error is a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import TypeVar

T = TypeVar("T")
S = TypeVar("S", bound=Sized)


def progress(items: Iterable[T], total: int, label: str) -> Iterator[T]:
    """Yield the items, drawing a bar once the loop has run for a second on a terminal."""
    if total < 2 or not sys.stderr.isatty():
        yield from items
        return
    from tqdm import tqdm

    yield from tqdm(items, total=total, desc=label, delay=1.0, leave=False)


def counted(batches: Iterable[S], label: str, unit: str) -> Iterator[S]:
    """Yield batches whose number nobody knows yet, showing on a terminal how many things they held so far."""
    if not sys.stderr.isatty():
        yield from batches
        return
    from tqdm import tqdm

    with tqdm(desc=label, unit=unit, unit_scale=True, delay=1.0, leave=False) as bar:
        for batch in batches:
            bar.update(len(batch))
            yield batch


def reached(states: Iterable[T], label: str, unit: str, count: Callable[[T], int]) -> Iterator[T]:
    """Yield states of a search whose end nobody knows yet, showing on a terminal how far each has got."""
    if not sys.stderr.isatty():
        yield from states
        return
    from tqdm import tqdm

    with tqdm(desc=label, unit=unit, unit_scale=True, delay=1.0, leave=False) as bar:
        for state in states:
            bar.update(count(state) - bar.n)
            yield state
