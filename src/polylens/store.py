"""A store of cells: Parquet partitions, one for each task of a subdivision, beside a manifest that says of what.

Any Arrow tool can read the partitions. This module reads them; what is not finished is not seen.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np
import torch

from ._types import Result
from .errors import FileError, InputError
from .pattern import Patterns, UnitLayer

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.dataset as ds

MANIFEST = "_manifest.json"  # Arrow passes over names that begin so
META = b"polylens"
_KEYS = {"network", "domain", "tolerance", "version", "tasks", "parts", "dim", "scale", "measured", "layers", "id"}


@final
@dataclass(frozen=True, eq=False, slots=True, repr=False)
class Store(Result):
    """The cells of a subdivision on disk, opened lazily.

    `directory` holds `_manifest.json` and the partitions; `parts` says how many partitions there are to be and `finished`
    which of them are there. Columns: `pattern` (binary, packed as in `Patterns.packed`), `volume` (in units of the
    input; absent where cells were not measured), `centre` (the mean of the cell's vertices, in the domain's coordinates),
    `vertices` (how many) and `active` (how many units are off piece 0).
    """

    directory: Path
    manifest: dict[str, Any]
    finished: tuple[int, ...]

    @property
    def parts(self) -> int:
        """How many partitions a complete store has."""
        return int(self.manifest["parts"])

    @property
    def complete(self) -> bool:
        """Whether all partitions are there."""
        return len(self.finished) == self.parts

    @property
    def count(self) -> int:
        """How many cells the finished partitions hold, from their footers alone."""
        return sum(int(f["count"]) for f in self._footers())

    @property
    def volume(self) -> float | None:
        """The volume of the stored cells, in units of the input; None where they were not measured."""
        if not self.manifest["measured"]:
            return None
        return float(self.manifest["scale"]) * sum(f["volume"] for f in self._footers())

    def dataset(self) -> ds.Dataset:
        """Return the finished partitions as an Arrow dataset: nothing is read until it is asked."""
        import pyarrow.dataset as ds

        return ds.dataset(
            [str(part_path(self.directory, i)) for i in self.finished], format="parquet", schema=schema(self.manifest)
        )

    def patterns(self) -> Iterator[Patterns]:
        """Yield the stored patterns, partition by partition."""
        layers = tuple(UnitLayer(a[0], a[1], tuple(a[2]), a[3], a[4]) for a in self.manifest["layers"])
        width = sum(layer.num_bytes for layer in layers)
        for batch in self.dataset().to_batches(columns=["pattern"]):
            if len(batch):
                packed = np.frombuffer(b"".join(batch.column(0).to_pylist()), np.uint8).reshape(len(batch), width)
                yield Patterns(torch.from_numpy(packed.copy()), layers)

    def _footers(self) -> Iterator[dict[str, Any]]:
        return (footer(part_path(self.directory, i), self.manifest) for i in self.finished)

    def __repr__(self) -> str:
        return f"Store({self.directory}, {len(self.finished)} of {self.parts} partitions)"

    def summary(self) -> str:
        state = "complete" if self.complete else "incomplete: the same call of count_regions goes on"
        volume = "" if self.volume is None else f" of volume {self.volume:.6g}"
        return f"{self!r}\n  {self.count} cells{volume}, {state}"

    def to_dict(self) -> dict[str, Any]:
        sizes = {"parts": self.parts, "finished": len(self.finished), "complete": self.complete}
        return {"directory": str(self.directory), **sizes, "regions": self.count, "volume": self.volume}


def open_store(directory: str | PathLike[str]) -> Store:
    """Return a store of cells that `count_regions(..., store=directory)` has written, complete or not.

    Args:
        directory: where its manifest lies.

    Raises:
        InputError: not a path.
        FileError: there is no manifest, or it is not one of a store.

    Example:
        >>> import tempfile
        >>> from polylens import Box, count_regions, dense, open_store
        >>> net = dense([([[1.0], [2.0]], [0.0, -1.0]), ([[1.0, 1.0]], None)])
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     _ = count_regions(net, Box([-1.0], [1.0]), store=directory)
        ...     print(sorted(open_store(directory).dataset().to_table()["volume"].to_pylist()))
        [0.5, 0.5, 1.0]
    """
    path = directory_of(directory)
    manifest = read_manifest(path)
    if manifest is None:
        raise FileError(f"{path}: expected a store of cells; there is no {MANIFEST}; count_regions(..., store=...) writes one")
    found = tuple(i for i in range(int(manifest["parts"])) if part_path(path, i).exists())
    return Store(path, manifest, found)


def directory_of(value: str | PathLike[str]) -> Path:
    """Return the path of a store, or raise InputError."""
    if not isinstance(value, str | PathLike):
        raise InputError(f"store: expected the path of a directory; got {value!r}")
    return Path(value)


def read_manifest(path: Path) -> dict[str, Any] | None:
    """Return a directory's manifest, None where it has none."""
    try:
        manifest = json.loads((path / MANIFEST).read_text())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise FileError(f"{path / MANIFEST}: expected the manifest of a store; {error}") from None
    if not isinstance(manifest, dict) or not manifest.keys() >= _KEYS:
        raise FileError(f"{path / MANIFEST}: expected the manifest of a store of cells; it holds something else")
    return manifest


def part_path(path: Path, index: int) -> Path:
    """Return where a partition lies."""
    return path / f"part-{index:05d}.parquet"


def schema(manifest: dict[str, Any]) -> pa.Schema:
    """Return the columns of a store's partitions."""
    import pyarrow as pa

    return pa.schema(
        [
            ("pattern", pa.binary()),
            *([("volume", pa.float64())] if manifest["measured"] else []),
            ("centre", pa.list_(pa.float64(), manifest["dim"])),
            ("vertices", pa.int32()),
            ("active", pa.int32()),
        ]
    )


def footer(path: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    """Return what a finished partition says of itself: how many cells it holds, and of what volume."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        found: dict[str, Any] = json.loads(pq.read_metadata(path).metadata[META])
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise FileError(
            f"{path}: expected a whole partition of a store; {error}; delete it, and the same call of count_regions makes it"
            " anew"
        ) from None
    if found.get("id") != manifest["id"]:
        raise FileError(
            f"{path}: expected a partition of the store it lies in; it is one of another network, domain or version; delete"
            " it, and the same call of count_regions makes it anew"
        )
    return found
