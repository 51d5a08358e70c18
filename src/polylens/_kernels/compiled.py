"""Compiling with numba, and a cache of compiled code that is never older than its sources.

numba looks at the file of a function alone before it takes compiled code from its cache, not at the files of the functions
that it calls, and fails where a type has moved. So the sources of all kernels have one digest beside the cache, and what
was compiled from others is deleted.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba import njit, types
from numba.extending import intrinsic

# Values are finite. Without numba's reference counts (no kernel allocates) the kernels are five times as fast.
_OPTIONS: dict[str, Any] = {"cache": True, "nogil": True, "_nrt": False, "error_model": "numpy", "fastmath": {"nnan", "nsz"}}
_MARK = "polylens-kernels.sha256"


def compiled(function: Callable[..., Any]) -> Any:
    """Return the function compiled at its first call, from the cache where it has been compiled before."""
    dispatcher = njit(**_OPTIONS)(function)
    _forget_stale(Path(dispatcher.stats.cache_path))
    return dispatcher


@intrinsic
def popcount(_context: Any, _word: Any) -> Any:
    """Return, in a compiled kernel, how many bits of a 64-bit word are set: one instruction, or one for a vector of words."""
    return types.int64(types.uint64), lambda _context, builder, _signature, arguments: builder.ctpop(arguments[0])


@functools.cache
def _forget_stale(cache: Path) -> None:
    """Delete compiled kernels whose sources have changed."""
    sources = sorted(Path(__file__).parents[1].rglob("*.py"))
    kernels = {path.stem: text for path in sources if b"@compiled" in (text := path.read_bytes())}
    digest = hashlib.sha256(b"".join(kernels.values())).hexdigest()
    mark = cache / _MARK
    with contextlib.suppress(OSError):  # a cache that cannot be read or written is numba's to deal with
        if mark.exists() and mark.read_text() == digest:
            return
        for name in kernels:
            for old in [*cache.glob(f"{name}.*.nbi"), *cache.glob(f"{name}.*.nbc")]:
                old.unlink(missing_ok=True)
        cache.mkdir(parents=True, exist_ok=True)
        mark.write_text(digest)
