"""Numbers of regions: against the cells themselves, within limits, in threads and in processes."""

from __future__ import annotations

import itertools
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

import joblib
import pytest
import torch
from torch import Tensor, nn

from polylens import Box, Cells, Network, Segment, WholeSpace, count_regions, dense, iter_cells, max_regions
from polylens.domain import Domain
from polylens.errors import InputError, ShapeError
from polylens.gates import MaxPool
from polylens.network import Node
from polylens.steps import Linear
from polylens.subdivision import RegionCount

Sizes = tuple[int, ...]


def random_network(sizes: Sizes) -> Network:
    generator = torch.Generator().manual_seed(0)
    return dense([_layer(n, m, generator) for n, m in itertools.pairwise(sizes)])


def _layer(inputs: int, units: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    options = {"generator": generator, "dtype": torch.float64}
    return torch.randn(units, inputs, **options) / math.sqrt(inputs), torch.randn(units, **options) / 2


def pooled_network() -> Network:
    """Return two layers with a max-pool of windows of three between them."""
    generator = torch.Generator().manual_seed(1)
    first, second = (Linear(*_layer(n, m, generator)) for n, m in ((2, 9), (3, 4)))
    relu = dense([(torch.eye(4), None), (torch.eye(4), None)]).nodes[1].step
    nodes = [Node("first", first, (0,), (9,)), Node("pool", MaxPool((3,), (3,), (0,), (1,), False), (1,), (3,))]
    nodes += [Node("second", second, (2,), (4,)), Node("relu", relu, (3,), (4,))]
    return Network(tuple(nodes), (2,), torch.float64, torch.device("cpu"), "a pooled network")


def unit_box(dim: int) -> Box:
    return Box([-1.0] * dim, [1.0] * dim)


def rows_of(parts: Iterator[Cells]) -> tuple[Counter[bytes], float]:
    """Return how often every pattern came, and the volume of all cells."""
    patterns: Counter[bytes] = Counter()
    volume = 0.0
    for part in parts:
        patterns.update(row.tobytes() for row in part.patterns.packed.numpy())
        volume += float(part.volumes().sum())
    return patterns, volume


def prefixes(net: Network, domain: Domain) -> list[int]:
    """Return how many distinct patterns the first gates have, for every number of gates."""
    packed = torch.cat([part.patterns.packed for part in iter_cells(net, domain)])
    ends = list(itertools.accumulate(layer.num_bytes for layer in net.gates))
    return [len(torch.unique(packed[:, :end], dim=0)) for end in ends]


CASES: dict[str, tuple[Callable[[], Network], Domain]] = {
    "a box": (lambda: random_network((3, 12, 10, 1)), unit_box(3)),
    "a segment": (lambda: random_network((3, 12, 10, 1)), Segment([-1.0, 0.5, 0.0], [1.0, 0.25, 1.0])),
    "three gates": (lambda: random_network((2, 6, 5, 4, 1)), unit_box(2)),
    "no gates": (lambda: random_network((2, 3)), unit_box(2)),
    "a single gate": (lambda: random_network((3, 15, 1)), unit_box(3)),
    "a max-pool": (pooled_network, unit_box(2)),
    "a first layer of one unit": (lambda: random_network((2, 1, 8, 6, 1)), unit_box(2)),
    "only layers of one unit": (lambda: random_network((2, 1, 1, 1)), unit_box(2)),
    "the plane": (lambda: random_network((2, 10, 8, 1)), WholeSpace(2)),
    "the space": (lambda: random_network((3, 7, 5, 1)), WholeSpace(3)),
    "the plane through a max-pool": (pooled_network, WholeSpace(2)),
    "the plane through one unit": (lambda: random_network((2, 1, 6, 1)), WholeSpace(2)),
}


@pytest.mark.parametrize("name", CASES)
def test_the_count_is_that_of_the_patterns_that_are_streamed(name: str) -> None:
    make, domain = CASES[name]
    net = make()
    patterns, volume = rows_of(iter_cells(net, domain))
    found = count_regions(net, domain, volumes=True)
    assert found.count == len(patterns)
    assert count_regions(net, domain).count == found.count
    assert found.complete
    assert found.reason is None
    assert found.covered == 1.0
    if domain.is_bounded:
        assert set(patterns.values()) == {1}
        assert found.volume is not None
        assert math.isclose(found.volume, volume * domain.scale, rel_tol=1e-12)  # sums in another order
        assert math.isclose(found.volume, domain.volume, rel_tol=1e-9)
    else:
        assert found.volume is None


@pytest.mark.parametrize("name", CASES)
def test_counts_per_layer_are_those_of_distinct_prefixes_of_the_patterns(name: str) -> None:
    make, domain = CASES[name]
    net = make()
    want = tuple(zip([gate.name for gate in net.gates], prefixes(net, domain), strict=True))
    assert count_regions(net, domain).per_layer == want
    assert count_regions(net, domain, volumes=True).per_layer == want
    assert all(count <= found for (_, count), (_, found) in itertools.pairwise(want))


def same(one: RegionCount, other: RegionCount) -> bool:
    volumes = (one.volume or 0.0, other.volume or 0.0)
    return (
        (one.count, one.per_layer, one.complete, one.fragile) == (other.count, other.per_layer, other.complete, other.fragile)
        and math.isclose(*volumes, rel_tol=1e-12)  # the same terms, added in another order
    )


@pytest.mark.parametrize("name", CASES)
def test_threads_find_what_one_thread_finds(name: str) -> None:
    make, domain = CASES[name]
    net = make()
    one, many = rows_of(iter_cells(net, domain)), rows_of(iter_cells(net, domain, n_jobs=3))
    assert set(many[0]) == set(one[0])
    if domain.is_bounded:
        assert many[0] == one[0]
        assert math.isclose(many[1], one[1], rel_tol=1e-12)
    for volumes in (False, True):
        assert same(count_regions(net, domain, volumes=volumes, n_jobs=2), count_regions(net, domain, volumes=volumes))


@pytest.fixture(scope="module")
def loky() -> Iterator[None]:
    with joblib.parallel_config(backend="loky"):
        yield
    joblib.externals.loky.get_reusable_executor().shutdown(wait=True, kill_workers=True)


@pytest.mark.slow
@pytest.mark.usefixtures("loky")
@pytest.mark.parametrize("name", CASES)
def test_processes_find_what_one_thread_finds(name: str) -> None:
    make, domain = CASES[name]
    net = make()
    one, many = rows_of(iter_cells(net, domain)), rows_of(iter_cells(net, domain, n_jobs=2))
    assert set(many[0]) == set(one[0])
    assert same(count_regions(net, domain, volumes=True, n_jobs=2), count_regions(net, domain, volumes=True))


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_limit_ends_the_count_and_says_what_is_covered(n_jobs: int) -> None:
    net, domain = random_network((3, 40, 40, 1)), unit_box(3)
    found = count_regions(net, domain, limit=9000, n_jobs=n_jobs)
    assert not found.complete
    assert found.reason == "limit"
    assert 9000 <= found.count < 9000 + 40_000  # give or take a chunk
    assert found.volume is not None
    assert found.covered is not None
    assert 0 < found.covered < 1
    assert found.covered == found.volume / 8
    assert found.count < count_regions(net, domain).count
    assert found.to_dict()["complete"] is False
    assert "ended by limit" in found.summary()


def test_what_is_covered_is_the_volume_of_the_cells_that_were_counted() -> None:
    net, domain = random_network((3, 40, 40, 1)), unit_box(3)
    found = count_regions(net, domain, limit=9000)
    count, volume = 0, 0.0
    for part in iter_cells(net, domain):  # one thread counts in the order of the stream
        count, volume = count + len(part), volume + float(part.volumes().sum())
        if count >= 9000:
            break
    assert (found.count, found.volume) == (count, pytest.approx(volume, rel=1e-12))


def test_a_limit_that_is_not_reached_changes_nothing() -> None:
    net, domain = random_network((2, 10, 8, 1)), unit_box(2)
    found = count_regions(net, domain, limit=10**9, time_limit=1e6, n_jobs=2)
    assert found.complete
    assert found.reason is None
    assert found.count == count_regions(net, domain).count


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_time_limit_ends_the_count_in_time(n_jobs: int) -> None:
    net, domain = random_network((4, 60, 60, 1)), unit_box(4)
    count_regions(net, domain, limit=1)  # compiles
    found = count_regions(net, domain, time_limit=0.5, n_jobs=n_jobs)
    assert not found.complete
    assert found.reason == "time_limit"
    assert found.seconds < 10  # half a second, a chunk, and whatever else the machine does
    assert found.covered is not None
    assert 0 <= found.covered < 1


def test_a_limit_in_an_unbounded_domain_covers_no_part_that_could_be_told() -> None:
    found = count_regions(random_network((3, 30, 30, 1)), WholeSpace(3), limit=100)
    assert not found.complete
    assert found.volume is None
    assert "ended by limit" in found.summary()
    found.to_dict()


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_the_callers_settings_hold_while_cells_come_and_after_the_stream_is_left(n_jobs: int) -> None:
    before = (torch.is_grad_enabled(), torch.get_num_threads())
    cells = iter_cells(random_network((2, 10, 8, 1)), unit_box(2), n_jobs=n_jobs)
    next(cells)
    assert (torch.is_grad_enabled(), torch.get_num_threads()) == before
    cells.close()
    assert (torch.is_grad_enabled(), torch.get_num_threads()) == before


def test_weights_that_take_gradients_are_subdivided_by_threads_too() -> None:
    torch.manual_seed(0)
    first, second = nn.Linear(2, 6).double(), nn.Linear(6, 1).double()
    net = dense([(first.weight, first.bias), (second.weight, second.bias)])
    assert count_regions(net, unit_box(2), n_jobs=2).count == count_regions(net, unit_box(2)).count


def test_a_stream_that_is_left_leaves_no_thread() -> None:
    def workers() -> set[str]:  # joblib and progress bars have threads of their own
        return {thread.name for thread in threading.enumerate() if thread.name.startswith("ThreadPoolExecutor")}

    before = workers()
    with joblib.parallel_config("threading"):
        cells = iter_cells(random_network((4, 60, 60, 1)), unit_box(4), n_jobs=2)
        next(cells)
        assert workers() - before
        cells.close()
    assert workers() <= before


def test_threads_wait_while_nobody_takes_their_cells() -> None:
    cells = iter_cells(random_network((3, 60, 60, 1)), unit_box(3), n_jobs=2)
    first = next(cells)
    time.sleep(0.5)
    used = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - used < 0.25  # some polling, no work
    assert len(first) + sum(len(part) for part in cells) == count_regions(random_network((3, 60, 60, 1)), unit_box(3)).count


INTERRUPTED = """
import signal, sys, threading, time
import joblib, torch
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job starts with it ignored
from test_counting import random_network, unit_box
from polylens import count_regions
if __name__ == "__main__":
    net, domain = random_network((5, 60, 60, 1)), unit_box(5)  # for minutes
    count_regions(net, domain, limit=1)
    print("begun", flush=True)
    try:
        with joblib.parallel_config(backend=sys.argv[1]):
            count_regions(net, domain, n_jobs=int(sys.argv[2]))
    except KeyboardInterrupt:
        assert threading.active_count() == 1 or sys.argv[1] == "loky", threading.enumerate()
        print("interrupted", flush=True)
"""


def children(process: int) -> list[int]:
    """Return the processes that a process has started."""
    done = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process)], capture_output=True, text=True, check=False)
    return [int(line) for line in done.stdout.split()]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows knows no interrupts from outside")
@pytest.mark.parametrize(
    ("backend", "n_jobs"), [("threading", 1), ("threading", 2), pytest.param("loky", 2, marks=pytest.mark.slow)]
)
def test_an_interrupt_leaves_nothing_running(backend: str, n_jobs: int) -> None:
    paths = os.pathsep.join([os.path.dirname(__file__), *sys.path])
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, backend, str(n_jobs)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": paths},
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        time.sleep(1.0 if backend == "threading" else 8.0)  # processes have to load the library
        workers = children(process.pid)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=60)
        assert rest == "interrupted\n"
        assert process.returncode == 0
        deadline = time.monotonic() + 20
        while any(os.path.exists(f"/proc/{w}") for w in workers) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert [w for w in workers if os.path.exists(f"/proc/{w}")] == []
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.mark.parametrize(("units", "rank"), [(0, 0), (0, 3), (1, 1), (5, 2), (7, 3), (4, 4), (3, 6), (10, 1)])
def test_the_largest_number_of_regions_follows_the_recursion_of_hyperplanes(units: int, rank: int) -> None:
    def by_recursion(m: int, n: int) -> int:
        return 1 if m == 0 or n == 0 else by_recursion(m - 1, n) + by_recursion(m - 1, n - 1)

    assert max_regions(units, rank) == by_recursion(units, rank)


def test_random_hyperplanes_reach_the_largest_number_and_networks_stay_below_the_bound() -> None:
    found = count_regions(random_network((3, 9, 1)), WholeSpace(3))
    assert found.count == found.bound == max_regions(9, 3)
    deep = count_regions(random_network((2, 5, 4, 1)), WholeSpace(2))
    assert deep.count < deep.bound == max_regions(5, 2) * max_regions(4, 2)


@pytest.mark.parametrize("options", [{"limit": 0}, {"limit": -3}, {"time_limit": 0.0}, {"time_limit": -1.0}, {"n_jobs": 0}])
def test_numbers_that_mean_nothing_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(InputError, match=next(iter(options))):
        count_regions(random_network((2, 3, 1)), unit_box(2), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [float("nan"), 1.5, "2"])
def test_a_number_of_jobs_that_is_none_is_refused(value: object) -> None:
    with pytest.raises(InputError, match="n_jobs"):
        count_regions(random_network((2, 3, 1)), unit_box(2), n_jobs=value)  # type: ignore[arg-type]


def test_domains_of_other_inputs_and_other_things_are_refused() -> None:
    net = random_network((2, 3, 1))
    with pytest.raises(ShapeError, match="2 entries"):
        count_regions(net, unit_box(3))
    with pytest.raises(InputError):
        count_regions(net, [[-1.0, 1.0]] * 2)  # type: ignore[arg-type]
    with pytest.raises(InputError):
        max_regions(-1, 2)
    with pytest.raises(InputError):
        max_regions(2, -1)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: count_regions(random_network((2, 3, 1)), unit_box(2), tolerance=1e-9), "expected a Tolerance"),  # type: ignore[arg-type]
        (lambda: count_regions(random_network((2, 3, 1)), unit_box(2), limit="a"), "limit: expected a positive number"),  # type: ignore[arg-type]
        (lambda: max_regions(5.0, 2), "units: expected a whole number"),  # type: ignore[arg-type]
        (lambda: iter_cells(random_network((2, 3, 1)), unit_box(3)), "entries"),
    ],
)
def test_what_does_not_fit_is_refused_at_the_call(call: Callable[[], object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        call()
