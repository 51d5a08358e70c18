"""Writing a store of cells: one Parquet partition for each task of a subdivision.

Partitions have fixed names and are renamed into place when they are whole, so that a killed run leaves finished partitions
and nothing else that counts; a run in the same directory computes the missing ones.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import re
from collections.abc import Generator, Iterator
from dataclasses import fields
from importlib import metadata
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from .._files import write_atomically
from ..cells import Cells
from ..errors import FileError, InputError
from ..network import Network
from ..pattern import UnitLayer
from ..store import MANIFEST, META, directory_of, footer, part_path, read_manifest, schema
from .engine import Record
from .tasks import Ended, Job, Task, added, cells_of, engine_of, in_parallel, tasks

Array = np.ndarray[Any, Any]
_PARTS = 128
_BYTES = 1 << 25  # of a row group
_LEFT = re.compile(r"\.(?:part-\d+\.parquet|_manifest\.json)\.(\d+)-[0-9a-f]+\.part")  # as write_atomically names them


def stored(job: Job, directory: str | PathLike[str], n_jobs: int) -> Generator[Record, None, None]:
    """Yield what the store holds so far, again and again while its missing partitions are written."""
    if not job.domain.is_bounded:
        raise InputError(f"store: expected a bounded domain; got {job.domain!r}; count it without a store")
    path, engine = directory_of(directory).absolute(), job.engine()
    todo = tasks(engine, _PARTS)
    manifest = _manifest(job, todo)
    _claim(path, manifest)
    missing = _missing(path, todo, manifest, engine.record)
    engine.record.complete = not missing
    yield engine.record
    work = functools.partial(_partition, job, path, manifest)
    try:
        yield from added(engine.record, in_parallel(work, missing, job, n_jobs), len(missing))
    finally:
        _clean(path)


def _missing(path: Path, todo: list[Task], manifest: dict[str, Any], record: Record) -> list[Task]:
    """Return the tasks that have no partition yet, and add to the record what the others hold."""
    missing = []
    for task in todo:
        part = part_path(path, task.index)
        if part.exists():
            record.add(_record_of(part, manifest))
        else:
            missing.append(task)
    return missing


def _claim(path: Path, manifest: dict[str, Any]) -> None:
    """Make the directory this run's store, or check that it is."""
    if path.exists() and not path.is_dir():
        raise FileError(f"{path}: expected a directory for the store; it is a file")
    found = read_manifest(path)
    if found is None:
        with _writing(path):
            others = [f.name for f in path.iterdir() if not _LEFT.fullmatch(f.name)] if path.exists() else []
            if others:
                raise FileError(f"{path}: expected a new or empty directory, or a store of this run; it holds {others[0]}")
            with write_atomically(path / MANIFEST) as part:
                part.write_text(json.dumps(manifest, indent=2))
    elif differs := _differences(found, manifest):
        raise FileError(
            f"{path}: expected a store of this network, domain, tolerance and version; it has {differs};"
            " choose another directory, or make the same call as before"
        )
    _clean(path)


def _differences(found: dict[str, Any], manifest: dict[str, Any]) -> str:
    """Return in words what a store's manifest has otherwise, nothing where that is nothing."""
    other = [f"another {k}" for k in ("network", "domain") if found[k] != manifest[k]]
    other += [f"{k} {found[k]} for {manifest[k]}" for k in ("tolerance", "version") if found[k] != manifest[k]]
    if found["measured"] != manifest["measured"]:
        other.append("volumes, without volumes=True now" if found["measured"] else "no volumes, with volumes=True now")
    if not other and found != manifest:
        other = ["another division into partitions, made on another machine or by other versions of libraries"]
    return ", ".join(other)


def _clean(path: Path) -> None:
    """Delete what killed processes left half written."""
    for left in path.glob(".*.part"):
        match = _LEFT.fullmatch(left.name)
        if match and not _alive(int(match[1])):
            with contextlib.suppress(OSError):
                left.unlink(missing_ok=True)


def _alive(process: int) -> bool:
    """Say whether a process of this machine runs; Windows refuses to delete what a process has open, so nobody asks."""
    if os.name == "nt":
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    with contextlib.suppress(OSError):  # where there is no /proc, it counts as alive
        return " Z " not in Path("/proc", str(process), "stat").read_text().rpartition(")")[2]  # dead, if nobody buried it
    return True


def _manifest(job: Job, todo: list[Task]) -> dict[str, Any]:
    """Return what a store says of itself; two runs with equal manifests have equal partitions."""
    manifest: dict[str, Any] = {
        "network": fingerprint(job.network),
        "domain": _digest(job.domain.origin, job.domain.basis, *_arrays(job)),
        "tolerance": job.tolerance.factor,
        "version": metadata.version("polylens"),
        "tasks": _digest(*(torch.from_numpy(np.ascontiguousarray(a).view(np.uint8)) for t in todo for a in _shape(t))),
        "parts": len(todo),
        "dim": job.domain.dim,
        "scale": job.domain.scale,
        "measured": job.measured,
        "layers": [[g.name, g.kind, list(g.shape), g.num_pieces, g.is_max] for g in job.network.gates],
    }
    return manifest | {"id": hashlib.sha256(json.dumps(manifest).encode()).hexdigest()}


def _shape(task: Task) -> list[Any]:
    """Return what of a task's cells does not depend on the last digits: their patterns and incidences."""
    return [np.array([task.level]), task.chunk.words, task.chunk.cells.start, task.chunk.cells.mask]


def _arrays(job: Job) -> list[Tensor]:
    start = job.domain.start()
    return [torch.as_tensor(np.ascontiguousarray(a)) for a in (start.points, start.weight, start.matrix, start.bound)]


def fingerprint(net: Network) -> str:
    """Return a digest of a network's program and all its numbers."""
    digest = hashlib.sha256()
    for node in net.nodes:
        plain = {f.name: repr(v) for f in fields(node.step) if not isinstance(v := getattr(node.step, f.name), Tensor)}  # type: ignore[arg-type]
        plain = {k: v.split(" at 0x")[0] for k, v in plain.items()}
        digest.update(json.dumps([node.name, type(node.step).__name__, node.inputs, node.shape, plain]).encode())
        digest.update(_digest(*node.step.parameters().values()).encode())
    return digest.hexdigest()


def _digest(*values: Tensor) -> str:
    digest = hashlib.sha256()
    for value in values:
        digest.update(str((value.dtype, tuple(value.shape))).encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _partition(job: Job, directory: Path, manifest: dict[str, Any], task: Task) -> Iterator[Record]:
    """Write one partition, all or nothing, and yield what it holds; nothing when the run is over before."""
    path = part_path(directory, task.index)
    if path.exists():
        yield _record_of(path, manifest)
        return
    if job.is_over():
        return
    with contextlib.suppress(Ended):
        with _writing(directory), write_atomically(path) as part:
            record = _write(part, job, manifest, task)
            with part.open("rb+") as file:
                os.fsync(file.fileno())  # or the name could outlive a power failure, and the content not
        record.complete = True
        yield record


def _write(part: Path, job: Job, manifest: dict[str, Any], task: Task) -> Record:
    engine, waiting = engine_of(job), list[pa.Table]()
    columns: dict[str, Any] = {"compression": "zstd", "compression_level": 1, "use_dictionary": ["vertices", "active"]}
    with pq.ParquetWriter(part, schema(manifest), **columns) as writer:
        for cells in cells_of(job, engine, task):
            volumes = cells.volumes() if job.measured else None
            engine.record.volume += 0.0 if volumes is None else float(volumes.sum())
            waiting.append(_table(cells, volumes, manifest))
            if sum(t.nbytes for t in waiting) > _BYTES:
                writer.write_table(pa.concat_tables(waiting))
                waiting.clear()
        if waiting:
            writer.write_table(pa.concat_tables(waiting))
        writer.add_key_value_metadata({META: json.dumps(_footer(engine.record, manifest)).encode()})
    return engine.record


def _footer(record: Record, manifest: dict[str, Any]) -> dict[str, Any]:
    """Return what a partition says of itself: whose it is, and what a resumed run adds up."""
    found = {"id": manifest["id"], "count": record.count, "inner": record.inner, "volume": record.volume}
    return found | {"fragile": record.tally.fragile, "slack": [float(s).hex() for s in record.tally.slack]}


class _writing:
    """A context that turns what the disk refuses into one clear error; what is finished stays."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError) and not isinstance(error, FileError):
            advice = "make room, or choose a directory that can be written, and call again"
            if any(self.path.glob("part-*.parquet")):
                advice = "finished partitions are kept: make room, or the directory writable, and call again"
            raise FileError(f"{self.path}: cannot be written ({error.strerror or error}); {advice}") from error


def _table(cells: Cells, volumes: Array | None, manifest: dict[str, Any]) -> pa.Table:
    words = np.ascontiguousarray(cells.words)
    offsets = np.arange(len(cells) + 1) * (8 * words.shape[1])
    buffers = [None, pa.py_buffer(offsets.astype(np.int32)), pa.py_buffer(words)]
    columns = [
        pa.Array.from_buffers(pa.binary(), len(cells), buffers),
        *([] if volumes is None else [pa.array(volumes * manifest["scale"])]),
        pa.FixedSizeListArray.from_arrays(pa.array(cells.centres().reshape(-1)), manifest["dim"]),
        pa.array(np.diff(cells.start).astype(np.int32)),
        pa.array(_active(words, cells.layers)),
    ]
    return pa.table(columns, schema=schema(manifest))


def _active(words: Array, layers: tuple[UnitLayer, ...]) -> Array:
    """Return how many units are off piece 0: bits that are set in one plane or another."""
    count, first = np.zeros(len(words), np.int32), 0
    for layer in layers:
        last = first + layer.num_bytes // 8
        if not layer.is_max:
            planes = words[:, first:last].reshape(len(words), layer.planes, layer.plane_bytes // 8)
            count += np.bitwise_count(np.bitwise_or.reduce(planes, axis=1)).sum(1, dtype=np.int32)
        first = last
    return count


def _record_of(path: Path, manifest: dict[str, Any]) -> Record:
    """Return what a finished partition says of itself."""
    found = footer(path, manifest)
    record = Record(found["inner"], [set() for _ in found["inner"]])
    record.volume, record.tally.fragile, record.complete = found["volume"], found["fragile"], True
    record.tally.slack[:] = [float.fromhex(s) for s in found["slack"]]
    return record
