"""A subdivision in independent tasks: groups of first cells, each taken through all gates by whichever thread or process.

Tasks depend on the network, the domain and their number alone, so that a run can be taken up by another process later.
"""

from __future__ import annotations

import contextlib
import functools
import os
import queue
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import joblib
import numpy as np
import threadpoolctl
import torch

from .._types import Tolerance
from ..cells import Cells
from ..domain import Domain
from ..errors import InputError
from ..network import Network
from .engine import Chunk, Engine, Record

R = TypeVar("R")
_PARTS = 32  # enough tasks to share out evenly, few enough to keep chunks full


@dataclass(frozen=True, eq=False, slots=True)
class Task:
    """Some cells in front of a gate, with the place of the task among all."""

    index: int
    level: int
    chunk: Chunk


def tasks(engine: Engine, parts: int) -> list[Task]:
    """Return the first cells in about `parts` groups; cells are cut by units of the first gates until they are enough."""
    with torch.no_grad(), one_thread():  # the same products, and so the same cells, whatever the number of cores
        level, chunks = _first_cells(engine, parts)
    count = sum(map(len, chunks))
    size = max(1, count // max(1, parts))
    groups = (c.select(np.arange(i, min(i + size, len(c)))) for c in chunks for i in range(0, len(c), size))
    return [Task(i, level, group) for i, group in enumerate(groups)]


def _first_cells(engine: Engine, parts: int) -> tuple[int, list[Chunk]]:
    """Return some `parts` cells, and the gate that they are in front of."""
    level, chunks = 0, list(engine.first())
    while level < len(engine.levels) and sum(map(len, chunks)) < parts:
        units = 1
        while True:
            finer = [part for chunk in chunks for part in engine.parted(level, chunk, units)]
            if sum(map(len, finer)) >= parts or units >= engine.units(level):
                break
            units *= 2
        chunks = finer
        if sum(map(len, chunks)) >= parts or level == len(engine.levels) - 1:
            break
        chunks = [child.kept() for chunk in chunks for child in engine.children(level, chunk)]
        level += 1
    return level, chunks


def in_parallel(
    work: Callable[[Task], Iterator[R]], todo: list[Task], job: Job, n_jobs: int, *, held: int | None = None
) -> Iterator[R]:
    """Yield what the tasks yield: of one after the other, of threads, or of what backend the caller configured for joblib.

    Threads wait while nobody takes what they have made. A process sends all of a task at once; `held` bounds for how many
    tasks a process that may be so, which costs the time in which one waits for the others. When the caller ends early, by
    an error or by an interrupt, so does everything that runs.
    """
    if n_jobs == 1:
        try:
            for task in todo:
                yield from work(task)
        finally:
            _local.__dict__.clear()
        return
    if not isinstance(n_jobs, int) or n_jobs == 0:
        raise InputError(f"n_jobs: expected a number of threads or processes, or -1 for one on every core; got {n_jobs!r}")
    workers = joblib.effective_n_jobs(n_jobs)
    if getattr(joblib.parallel.get_active_backend(prefer="threads")[0], "uses_threads", False):
        yield from _in_threads(work, todo, job, workers)
    else:
        yield from _in_processes(work, todo, job, workers, held * workers if held else len(todo))


_END = object()


@dataclass(frozen=True, slots=True)
class _Failed:
    error: BaseException


def _in_threads(work: Callable[[Task], Iterator[R]], todo: list[Task], job: Job, workers: int) -> Iterator[R]:
    ready: queue.Queue[Any] = queue.Queue(2 * workers)
    with ThreadPoolExecutor(workers) as pool:
        try:
            for task in todo:
                pool.submit(_put_all, work, task, ready, job.stop)
            left = len(todo)
            while left:
                item = ready.get()
                if isinstance(item, _Failed):
                    raise item.error
                if item is _END:
                    left -= 1
                else:
                    yield cast(R, item)
        finally:
            job.stop.asked = True
            pool.shutdown(wait=False, cancel_futures=True)


def _put_all(work: Callable[[Task], Iterator[R]], task: Task, ready: queue.Queue[Any], stop: Stop) -> None:
    try:
        for item in work(task):
            _put(ready, item, stop)
        _put(ready, _END, stop)
    except BaseException as error:  # whatever it is, it belongs to the thread that waits
        _put(ready, _Failed(error), stop)


def _put(ready: queue.Queue[Any], item: object, stop: Stop) -> None:
    while not stop.asked:
        with contextlib.suppress(queue.Full):
            ready.put(item, timeout=0.1)
            return


def _in_processes(work: Callable[[Task], Iterator[R]], todo: list[Task], job: Job, workers: int, some: int) -> Iterator[R]:
    pool = joblib.Parallel(n_jobs=workers, return_as="generator", pre_dispatch="2*n_jobs", max_nbytes=None)
    for first in range(0, len(todo), some):  # joblib itself does not wait for the caller
        batch = pool(joblib.delayed(_listed)(work, task, job.parent) for task in todo[first : first + some])
        try:
            for items in batch:
                yield from items
        finally:
            with warnings.catch_warnings():  # joblib has advice for callers who leave early
                warnings.simplefilter("ignore", UserWarning)
                batch.close()


_running: set[int] = set()  # threads of a worker that are at work


def _listed(work: Callable[[Task], Iterator[R]], task: Task, parent: int) -> list[R]:
    _parent_of(os.getpid())
    _running.add(threading.get_ident())
    try:
        return [] if is_orphan(parent) else list(work(task))
    finally:
        _running.discard(threading.get_ident())


@functools.cache
def _parent_of(process: int) -> int:
    """Return the parent that a worker has had from its first task on; from then on it does not outlive it for long."""
    parent = os.getppid()
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    return parent


def _end_with(parent: int) -> None:
    """End this process when its parent has gone and its own tasks have seen that, which would wait for others in vain."""
    while os.getppid() == parent or _running:
        time.sleep(0.2)
    os._exit(1)


def is_orphan(parent: int) -> bool:
    """Say whether this is a worker whose own parent has gone: nobody waits for what it does."""
    return os.getpid() != parent and os.getppid() != _parent_of(os.getpid())


@functools.cache
def _controller() -> threadpoolctl.ThreadpoolController:
    return threadpoolctl.ThreadpoolController().select(user_api="openmp")


def one_thread() -> AbstractContextManager[Any]:
    """Return a context in which products of the calling thread take one core: the tasks themselves are what runs at once.

    OpenMP keeps its number of threads for each thread, so that contexts of several threads may overlap.
    """
    limit: AbstractContextManager[Any] = _controller().limit(limits=1)
    return limit


def alone(items: Iterator[R]) -> Iterator[R]:
    """Yield the items, made on one core and without gradients; the caller's own settings hold in between."""
    try:
        while True:
            with torch.no_grad(), one_thread():
                item = next(items, _END)
            if item is _END:
                return
            yield cast(R, item)
    finally:
        with torch.no_grad(), one_thread():
            cast(Any, items).close()  # a generator that is left halfway puts back settings of its own


@dataclass(eq=False, slots=True)
class Stop:
    """A wish to end, shared by the threads of a run; a process that it is sent to has one of its own."""

    asked: bool = False


class Ended(Exception):
    """A task ended early: its cells are not all there."""


@dataclass(frozen=True, eq=False, slots=True)
class Job:
    """What is to be subdivided, whether volumes are measured, and when to end: all that a task needs besides itself.

    `deadline` is in seconds of the system's clock; a task of more than `limit` cells is not finished.
    """

    network: Network
    domain: Domain
    tolerance: Tolerance
    measured: bool = False
    limit: int | None = None
    deadline: float | None = None
    key: str = field(default_factory=lambda: uuid.uuid4().hex)
    parent: int = field(default_factory=os.getpid)
    stop: Stop = field(default_factory=Stop)

    def engine(self, *, counting: bool = False) -> Engine:
        """Return a new engine."""
        return Engine(self.network, self.domain, self.tolerance, counting=counting)

    def cells(self, n_jobs: int) -> Iterator[Cells]:
        """Yield all cells: one stream in this thread, or the cells of several tasks as they come."""
        if n_jobs == 1:
            yield from alone(self.engine().run())
            return
        yield from in_parallel(functools.partial(_cells, self), tasks(self.engine(), _PARTS), self, n_jobs, held=2)

    def records(self, n_jobs: int) -> Generator[Record, None, None]:
        """Yield what was met so far, again and again; the last one is complete, if nothing ended early."""
        engine = self.engine(counting=not self.measured)
        if n_jobs == 1:
            for cells in alone(engine.run()):
                yield measured(engine.record, cells, self.measured)
            engine.record.complete = True
            yield engine.record
            return
        todo = tasks(engine, _PARTS)
        yield from added(engine.record, in_parallel(functools.partial(_record, self), todo, self, n_jobs), len(todo))

    def is_over(self) -> bool:
        """Whether nobody waits for more, or there is no time for it."""
        late = self.deadline is not None and time.time() > self.deadline
        return late or self.stop.asked or is_orphan(self.parent)


def added(head: Record, records: Iterator[Record], count: int) -> Iterator[Record]:
    """Yield a record again and again as others are added to it; it is complete when `count` complete ones were."""
    for record in records:
        head.add(record)
        count -= record.complete
        head.complete = count == 0
        yield head
    head.complete = count == 0
    yield head


def measured(record: Record, cells: Cells, volumes: bool) -> Record:
    """Return the record with the volume of some cells added to it."""
    if volumes:
        record.volume += float(cells.volumes().sum())
    return record


_local = threading.local()


def engine_of(job: Job, *, counting: bool = False) -> Engine:
    """Return this thread's engine for a job, with a new record."""
    if getattr(_local, "key", None) != job.key:
        _local.key, _local.engine = job.key, job.engine(counting=counting)
    _local.engine.new_record()
    engine: Engine = _local.engine
    return engine


def _record(job: Job, task: Task) -> Iterator[Record]:
    engine = engine_of(job, counting=not job.measured)
    with contextlib.suppress(Ended):
        for cells in cells_of(job, engine, task):
            measured(engine.record, cells, job.measured)
            if job.limit is not None and engine.record.count >= job.limit:
                raise Ended
        engine.record.complete = True
    yield engine.record


def _cells(job: Job, task: Task) -> Iterator[Cells]:
    with contextlib.suppress(Ended):
        yield from cells_of(job, engine_of(job), task)


def cells_of(job: Job, engine: Engine, task: Task) -> Iterator[Cells]:
    """Yield the cells that a task comes to, or raise Ended on the way when the job is over."""
    for cells in alone(engine.cells(task.level, task.chunk)):
        yield cells
        if job.is_over():
            raise Ended
