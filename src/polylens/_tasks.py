"""A subdivision in independent tasks: groups of first cells, each taken through all gates by whichever thread or process.

Tasks depend on the network, the domain and their number alone, so that a run can be taken up by another process later.
"""

from __future__ import annotations

import functools
import os
import signal
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import joblib
import numpy as np
import threadpoolctl
import torch

from ._cut import Cells as Incidences
from ._engine import Chunk, Engine, Record
from ._types import Tolerance
from .cells import Cells
from .domain import Domain
from .network import Network

R = TypeVar("R")
_PARTS = 128  # enough tasks to share out evenly, few enough to keep chunks full


@dataclass(frozen=True, eq=False, slots=True)
class Task:
    """Some cells in front of a gate, with the place of the task among all."""

    index: int
    level: int
    chunk: Chunk


def tasks(engine: Engine, parts: int) -> list[Task]:
    """Return the first cells in about `parts` groups; cells are cut by units of the first gates until they are enough."""
    level, chunks = 0, list(engine.first())
    while level < len(engine.levels) and sum(len(c.words) for c in chunks) < parts:
        units = 1
        while True:
            finer = [part for chunk in chunks for part in engine.parted(level, chunk, units)]
            if sum(len(c.words) for c in finer) >= parts or units >= engine.units(level):
                break
            units *= 2
        chunks = finer
        if sum(len(c.words) for c in chunks) >= parts or level == len(engine.levels) - 1:
            break
        chunks = [child for chunk in chunks for child in engine.children(level, chunk)]
        level += 1
    count = sum(len(c.words) for c in chunks)
    size = max(1, count // max(1, parts))
    groups = (_group(c, i, min(i + size, len(c.words))) for c in chunks for i in range(0, len(c.words), size))
    return [Task(i, level, group) for i, group in enumerate(groups)]


def _group(chunk: Chunk, first: int, last: int) -> Chunk:
    """Return some of a chunk's cells with the vertices that they have."""
    begin, end = chunk.cells.start[first], chunk.cells.start[last]
    used, vertex = np.unique(chunk.cells.vertex[begin:end], return_inverse=True)
    cells = Incidences(chunk.cells.start[first : last + 1] - begin, vertex.astype(np.int32), chunk.cells.mask[begin:end])
    carried = {v: rows[used] for v, rows in chunk.carried.items()}
    return Chunk(cells, chunk.words[first:last], chunk.points[used], chunk.weight[used], chunk.error[used], carried)


def in_parallel(work: Callable[[Task], R], todo: Iterable[Task], n_jobs: int) -> Iterator[R]:
    """Yield the results of tasks in their order: by threads, or by what backend the caller has configured for joblib."""
    if n_jobs == 1:
        yield from map(work, todo)
        return
    pool = joblib.Parallel(n_jobs=n_jobs, prefer="threads", return_as="generator", pre_dispatch="2*n_jobs")
    yield from pool(joblib.delayed(work)(task) for task in todo)


@functools.cache
def _controller() -> threadpoolctl.ThreadpoolController:
    return threadpoolctl.ThreadpoolController()


def one_thread() -> AbstractContextManager[Any]:
    """Return a context in which products of the calling thread take one core: the tasks themselves are what runs at once."""
    limit: AbstractContextManager[Any] = _controller().limit(limits=1)
    return limit


@dataclass(frozen=True, eq=False, slots=True)
class Job:
    """What is to be subdivided, and whether volumes are measured: all that a task needs besides itself."""

    network: Network
    domain: Domain
    tolerance: Tolerance
    measured: bool = False
    key: str = field(default_factory=lambda: uuid.uuid4().hex)

    def engine(self, *, counting: bool = False) -> Engine:
        """Return a new engine."""
        return Engine(self.network, self.domain, self.tolerance, counting=counting)

    def cells(self, n_jobs: int) -> Iterator[Cells]:
        """Yield all cells: one stream in this thread, or the cells of one task after the other."""
        if n_jobs == 1:
            with one_thread():
                yield from self.engine().run()
            return
        todo = tasks(self.engine(), _PARTS)
        for part in in_parallel(functools.partial(_cells, self), todo, n_jobs):
            yield from part

    def records(self, n_jobs: int) -> Iterator[Record]:
        """Yield what was met so far, again and again; the last one is complete."""
        engine = self.engine(counting=not self.measured)
        if n_jobs == 1:
            with one_thread():
                for cells in engine.run():
                    yield measured(engine.record, cells, self.measured)
            engine.record.complete = True
            yield engine.record
            return
        todo = tasks(engine, _PARTS)
        for record in in_parallel(functools.partial(_record, self), todo, n_jobs):
            engine.record.add(record)
            yield engine.record
        engine.record.complete = True
        yield engine.record


def measured(record: Record, cells: Cells, volumes: bool) -> Record:
    """Return the record with the volume of some cells added to it."""
    if volumes:
        record.volume += float(cells.volumes().sum())
    return record


_local = threading.local()


def engine_of(job: Job) -> Engine:
    """Return this thread's engine for a job, with a new record."""
    if getattr(_local, "key", None) != job.key:
        _local.key, _local.engine = job.key, job.engine(counting=not job.measured)
    _local.engine.new_record()
    engine: Engine = _local.engine
    return engine


def _record(job: Job, task: Task) -> Record:
    engine = engine_of(job)
    for cells in cells_of(engine, task):
        measured(engine.record, cells, job.measured)
    return engine.record


def _cells(job: Job, task: Task) -> list[Cells]:
    return list(cells_of(job.engine(), task))


def cells_of(engine: Engine, task: Task) -> Iterator[Cells]:
    """Yield the cells that a task comes to."""
    with torch.no_grad(), one_thread():
        yield from engine.descend(task.level, task.chunk)


def is_orphan(parent: int) -> bool:
    """Say whether the process that handed out the work has gone: nobody waits for what is left of it."""
    return os.getpid() != parent and os.getppid() != parent


def end_orphan(parent: int) -> None:
    """End this process at once when its parent has gone, so that it writes nothing that a resumed run writes too."""
    if is_orphan(parent):
        os.kill(os.getpid(), signal.SIGKILL)
