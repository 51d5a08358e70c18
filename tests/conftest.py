"""Shared by all tests: where the real data lie, and how examples are searched for."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# The suite finds the same examples everywhere; `make search` looks for new ones, and what it finds becomes an @example.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("search", deadline=None, print_blob=True)
settings.load_profile("repeatable")


@pytest.fixture(scope="session")
def data() -> Path:
    """Return the folder of real networks and images, or skip the test when POLYLENS_DATA does not name one."""
    place = os.environ.get("POLYLENS_DATA")
    if not place or not Path(place).is_dir():
        pytest.skip("POLYLENS_DATA does not name a folder of real networks and images")
    return Path(place)


@pytest.fixture(autouse=True)
def _no_figure_stays_open() -> Iterator[None]:
    """Close what a test has drawn: pyplot keeps figures, and warns of many."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")
