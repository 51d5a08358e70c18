"""Writing a store of cells: one Parquet partition for each task of a subdivision.

Partitions have fixed names and are renamed into place when they are whole, so that a killed run leaves finished partitions
and nothing else that counts; a run in the same directory computes the missing ones.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import secrets
from collections.abc import Iterator
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

from ._engine import Record
from ._files import write_atomically
from ._tasks import Job, Task, cells_of, end_orphan, engine_of, in_parallel, measured, tasks
from .cells import Cells
from .errors import FileError, InputError
from .network import Network
from .store import MANIFEST, META, footer, part_path, read_manifest, schema

_PARTS = 256


def stored(job: Job, directory: str | PathLike[str], n_jobs: int) -> Iterator[Record]:
    """Yield what the store holds so far, again and again while its missing partitions are written; the last is complete."""
    if not job.domain.is_bounded:
        raise InputError(f"store: expected a bounded domain; got {job.domain!r}; count it without a store")
    path, engine = Path(directory), job.engine()
    todo = tasks(engine, _PARTS)
    manifest = _manifest(job, len(todo))
    _claim(path, manifest)
    head, done = engine.record, [t for t in todo if part_path(path, t.index).exists()]
    for task in done:
        head.add(_record_of(part_path(path, task.index)))
        yield head
    missing = [t for t in todo if not part_path(path, t.index).exists()]
    work = functools.partial(_write, job, str(path.absolute()), manifest, os.getpid())
    for record in in_parallel(work, missing, n_jobs):
        head.add(record)
        yield head
    head.complete = True
    yield head


def _claim(path: Path, manifest: dict[str, Any]) -> None:
    """Make the directory this run's store, or check that it is."""
    found = read_manifest(path)
    if found is None:
        if path.exists() and any(path.iterdir()):
            raise FileError(f"{path}: expected a new or empty directory, or a store of this run; it holds other files")
        with _writing(path), write_atomically(path / MANIFEST) as part:
            part.write_text(json.dumps(manifest, indent=2))
        return
    differs = [k for k in manifest if found.get(k) != manifest[k]]
    if differs:
        raise FileError(
            f"{path}: expected a store of this network, domain, tolerance and version; it differs in {', '.join(differs)};"
            " choose another directory, or make the same call as before"
        )
    for left in path.glob(".part-*.tmp"):
        if not _alive(int(left.name.split(".")[2])):
            left.unlink(missing_ok=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _manifest(job: Job, parts: int) -> dict[str, Any]:
    """Return what a store says of itself; two runs with equal manifests have equal partitions."""
    layers = [[g.name, g.kind, list(g.shape), g.num_pieces, g.is_max] for g in job.network.gates]
    return {
        "fingerprint": fingerprint(job.network),
        "domain": _digest(job.domain.origin, job.domain.basis, *_arrays(job)),
        "tolerance": job.tolerance.factor,
        "version": metadata.version("polylens"),
        "parts": parts,
        "dim": job.domain.dim,
        "scale": job.domain.scale,
        "layers": layers,
    }


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


def _write(job: Job, directory: str, manifest: dict[str, Any], parent: int, task: Task) -> Record:
    """Write one partition, all or nothing, and return what it holds."""
    path, engine = part_path(Path(directory), task.index), engine_of(job)
    part = path.parent / f".part-{task.index:05d}.{os.getpid()}.{secrets.token_hex(4)}.tmp"
    try:
        with _writing(path.parent), pq.ParquetWriter(part, schema(manifest)) as writer:
            for cells in cells_of(engine, task):
                measured(engine.record, cells, True)
                writer.write_table(_table(cells, manifest))
                end_orphan(parent)
            record = engine.record
            summary = {"count": record.count, "inner": record.inner, "volume": record.volume, "fragile": record.tally.fragile}
            slack = [float(s).hex() for s in record.tally.slack]
            writer.add_key_value_metadata({META: json.dumps(summary | {"slack": slack}).encode()})
        with _writing(path.parent):
            os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return engine.record


class _writing:
    """A context that turns what the disk refuses into one clear error; what is finished stays."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError) and not isinstance(error, FileError):
            raise FileError(
                f"{self.path}: cannot be written ({error.strerror or error}); finished partitions are kept: make room, or"
                " the directory writable, and call again"
            ) from error


def _table(cells: Cells, manifest: dict[str, Any]) -> pa.Table:
    patterns = cells.patterns
    width = patterns.packed.shape[1]
    offsets = pa.py_buffer((np.arange(len(cells) + 1) * width).astype(np.int32).tobytes())
    packed = pa.Array.from_buffers(pa.binary(), len(cells), [None, offsets, pa.py_buffer(patterns.packed.numpy().tobytes())])
    centres = pa.FixedSizeListArray.from_arrays(pa.array(cells.centres().reshape(-1)), manifest["dim"])
    active = np.zeros(len(cells), np.int32)
    for layer in patterns.layers:
        if not layer.is_max:
            active += (patterns.pieces(layer.name).reshape(len(cells), -1) != 0).sum(1).numpy().astype(np.int32)
    columns = [packed, pa.array(cells.volumes() * manifest["scale"]), centres]
    columns += [pa.array(np.diff(cells.start).astype(np.int32)), pa.array(active)]
    return pa.table(columns, schema=schema(manifest))


def _record_of(path: Path) -> Record:
    """Return what a finished partition says of itself."""
    found = footer(path)
    record = Record(found["inner"], [set() for _ in found["inner"]])
    record.volume, record.tally.fragile = found["volume"], found["fragile"]
    record.tally.slack[:] = [float.fromhex(s) for s in found["slack"]]
    return record
