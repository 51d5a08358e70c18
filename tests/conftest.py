"""Shared by all tests: where the real data lie."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data() -> Path:
    """Return the folder of real networks and images, or skip the test when POLYLENS_DATA does not name one."""
    place = os.environ.get("POLYLENS_DATA")
    if not place or not Path(place).is_dir():
        pytest.skip("POLYLENS_DATA does not name a folder of real networks and images")
    return Path(place)
