"""Stores of cells: what they hold, what they refuse, and what is left of a run that was killed."""

from __future__ import annotations

import importlib.metadata
import itertools
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import torch

from polylens import Box, Network, Segment, Store, WholeSpace, count_regions, dense, iter_cells, open_store
from polylens._types import Tolerance
from polylens.errors import FileError, InputError
from polylens.steps import Linear
from test_counting import CASES, children, random_network, unit_box

NET, BOX = random_network((3, 12, 10, 1)), unit_box(3)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a complete store, to be copied before it is changed."""
    path = tmp_path_factory.mktemp("stores") / "made"
    count_regions(NET, BOX, store=path)
    return path


@pytest.fixture
def store(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "store"))


def partitions(path: Path) -> list[Path]:
    return sorted(path.glob("part-*.parquet"))


def contents(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir()}


def patterns_of(store: Store) -> Counter[bytes]:
    return Counter(row.tobytes() for part in store.patterns() for row in part.packed.numpy())


def test_a_store_holds_the_cells_of_the_stream(made: Path) -> None:
    store = open_store(made)
    cells = list(iter_cells(NET, BOX))
    want = Counter(row.tobytes() for part in cells for row in part.patterns.packed.numpy())
    assert patterns_of(store) == want
    assert store.complete
    assert store.count == len(want) == count_regions(NET, BOX).count
    assert math.isclose(store.volume, 8.0, rel_tol=1e-9)
    assert next(store.patterns()).layers == NET.gates
    assert len(store.finished) == store.parts == len(partitions(made))
    assert store.to_dict()["regions"] == store.count
    assert json.dumps(store.to_dict())
    assert "complete" in store.summary()


def test_columns_are_those_of_the_cells(made: Path) -> None:
    table = open_store(made).dataset().to_table()
    assert table.schema.names == ["pattern", "volume", "centre", "vertices", "active"]
    rows = {row["pattern"]: row for row in table.to_pylist()}
    seen = 0
    for part in iter_cells(NET, BOX):
        pieces = torch.cat([part.patterns.pieces(i).reshape(len(part), -1) for i in range(len(NET.gates))], 1)
        for i, (key, volume, centre) in enumerate(
            zip(part.patterns.packed.numpy(), part.volumes(), part.centres(), strict=True)
        ):
            row = rows[key.tobytes()]
            assert math.isclose(row["volume"], volume, rel_tol=1e-9, abs_tol=1e-14)  # corners are met in another order
            np.testing.assert_allclose(row["centre"], centre, atol=1e-12)
            assert row["vertices"] == part.start[i + 1] - part.start[i]
            assert row["active"] == int(pieces[i].sum())
            seen += 1
    assert seen == len(rows)


@pytest.mark.parametrize("name", [name for name, (_, domain) in CASES.items() if domain.is_bounded])
def test_stores_of_all_kinds_of_networks_hold_every_cell_once(name: str, tmp_path: Path) -> None:
    make, domain = CASES[name]
    net = make()
    found = count_regions(net, domain, store=tmp_path / "new" / "store")
    plain = count_regions(net, domain, volumes=True)
    assert (found.count, found.per_layer, found.complete) == (plain.count, plain.per_layer, True)
    store = open_store(tmp_path / "new" / "store")
    patterns = patterns_of(store)
    assert patterns.total() == len(patterns) == found.count
    assert plain.volume is not None
    assert math.isclose(store.volume, plain.volume, rel_tol=1e-12)
    volumes = store.dataset().to_table(columns=["volume"])["volume"]
    assert math.isclose(pc.sum(volumes).as_py(), domain.volume, rel_tol=1e-9)


def test_units_of_several_pieces_are_active_off_piece_0_and_windows_are_not_counted(tmp_path: Path) -> None:
    clip = dense([(torch.eye(2) * 3, None), (torch.ones(1, 2), None)], ["hardtanh", None])
    count_regions(clip, unit_box(2), store=tmp_path / "clip")
    table = open_store(tmp_path / "clip").dataset().to_table(columns=["active", "centre"]).to_pylist()
    assert len(table) == 9
    for row in table:
        assert row["active"] == sum(3 * u > -1 for u in row["centre"])
    make, domain = CASES["a max-pool"]
    count_regions(make(), domain, store=tmp_path / "pool")
    assert max(open_store(tmp_path / "pool").dataset().to_table()["active"].to_pylist()) <= 4  # units, beside three windows


def test_any_arrow_tool_reads_a_store(made: Path) -> None:
    dataset = ds.dataset(made)
    assert sorted(dataset.files) == [str(path) for path in partitions(made)]
    large = dataset.to_table(columns=["volume"], filter=ds.field("volume") > 0.01)["volume"].to_pylist()
    every = dataset.to_table(columns=["volume"])["volume"].to_pylist()
    assert sorted(large) == sorted(v for v in every if v > 0.01)
    assert 0 < len(large) < len(every)
    assert open_store(made).dataset().count_rows(filter=ds.field("volume") > 0.01) == len(large)


def test_volumes_are_in_units_of_the_input(tmp_path: Path) -> None:
    count_regions(NET, Segment([0.0, 0.0, 0.0], [0.0, 3.0, 4.0]), store=tmp_path)
    assert math.isclose(pc.sum(open_store(tmp_path).dataset().to_table()["volume"]).as_py(), 5.0, rel_tol=1e-12)
    assert math.isclose(open_store(tmp_path).volume, 5.0, rel_tol=1e-12)


def test_cells_of_six_dimensions_are_measured_only_when_that_is_asked(tmp_path: Path) -> None:
    net, box = random_network((6, 5, 4, 1)), unit_box(6)
    found = count_regions(net, box, store=tmp_path / "plain", n_jobs=2)
    assert (found.count, found.complete, found.volume) == (count_regions(net, box).count, True, None)
    plain = open_store(tmp_path / "plain")
    assert (plain.count, plain.volume, plain.to_dict()["volume"]) == (found.count, None, None)
    assert "volume" not in plain.summary()
    assert (
        plain.dataset().schema.names
        == ds.dataset(tmp_path / "plain").schema.names
        == ["pattern", "centre", "vertices", "active"]
    )
    partitions(tmp_path / "plain")[0].unlink()
    assert count_regions(net, box, store=tmp_path / "plain").count == found.count  # taken up again, and as before
    measured = count_regions(net, box, store=tmp_path / "measured", volumes=True)
    assert measured.count == found.count
    assert math.isclose(measured.volume or 0.0, 64.0, rel_tol=1e-9)
    assert math.isclose(open_store(tmp_path / "measured").volume or 0.0, 64.0, rel_tol=1e-9)
    assert patterns_of(open_store(tmp_path / "measured")) == patterns_of(plain)
    with pytest.raises(FileError, match="it has no volumes, with volumes=True now"):
        count_regions(net, box, store=tmp_path / "plain", volumes=True)
    with pytest.raises(FileError, match="it has volumes, without volumes=True now"):
        count_regions(net, box, store=tmp_path / "measured")


# -- taken up again


def test_a_run_is_taken_up_where_partitions_are_missing(store: Path) -> None:
    clean = count_regions(NET, BOX, volumes=True)
    for path in partitions(store)[1::3]:
        path.unlink()
    kept = {path: path.stat().st_mtime_ns for path in partitions(store)}
    assert not open_store(store).complete
    assert "incomplete" in open_store(store).summary()
    assert open_store(store).dataset().count_rows() == open_store(store).count < clean.count
    again = count_regions(NET, BOX, store=store)
    assert (again.count, again.per_layer, again.complete) == (clean.count, clean.per_layer, True)
    assert math.isclose(again.volume or 0.0, clean.volume or 0.0, rel_tol=1e-12)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept  # nothing was made twice
    assert patterns_of(open_store(store)).total() == clean.count


def test_partitions_do_not_depend_on_threads(made: Path, tmp_path: Path) -> None:
    count_regions(NET, BOX, store=tmp_path / "two", n_jobs=2)
    assert contents(tmp_path / "two") == contents(made)


def test_a_complete_store_is_only_read(store: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in store.iterdir()}
    assert count_regions(NET, BOX, store=store, n_jobs=2).count == open_store(store).count
    assert {path: path.stat().st_mtime_ns for path in store.iterdir()} == before


def test_a_time_limit_leaves_whole_partitions_and_the_rest_for_later(tmp_path: Path) -> None:
    net = random_network((4, 20, 20, 1))
    count_regions(net, unit_box(4), limit=1)  # compiles
    part = count_regions(net, unit_box(4), store=tmp_path, time_limit=1e-3, n_jobs=2)
    assert not part.complete
    assert part.reason == "time_limit"
    assert not list(tmp_path.glob(".*"))
    assert open_store(tmp_path).count == sum(1 for _ in itertools.chain.from_iterable(open_store(tmp_path).patterns()))


def test_no_partition_is_begun_when_the_time_is_over(tmp_path: Path) -> None:
    part = count_regions(NET, BOX, store=tmp_path / "store", time_limit=1e-9)
    assert (part.complete, part.reason) == (False, "time_limit")
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["_manifest.json"]


@pytest.mark.parametrize("n_jobs", [1, 2])
@pytest.mark.parametrize("limits", [{"limit": 1}, {"time_limit": 1e-9}])
def test_finished_partitions_count_within_every_limit(limits: dict[str, Any], n_jobs: int, store: Path) -> None:
    clean = count_regions(NET, BOX, volumes=True)
    full = count_regions(NET, BOX, store=store, n_jobs=n_jobs, **limits)
    assert (full.count, full.per_layer, full.complete, full.reason) == (clean.count, clean.per_layer, True, None)
    for path in partitions(store)[1::3]:
        path.unlink()
    held = open_store(store).count
    part = count_regions(NET, BOX, store=store, n_jobs=n_jobs, **limits)
    assert (part.count, part.complete, part.reason) == (held, False, next(iter(limits)))
    assert 0 < held == open_store(store).count < clean.count
    assert math.isclose(part.volume or 0.0, open_store(store).volume or 0.0, rel_tol=1e-12)


def test_an_empty_store_opens(store: Path) -> None:
    for path in partitions(store):
        path.unlink()
    empty = open_store(store)
    assert (empty.count, empty.volume, empty.finished, list(empty.patterns())) == (0, 0.0, (), [])
    assert empty.dataset().to_table().num_rows == 0


# -- what is refused


def other_weights() -> Network:
    layers = [(node.step.weight.clone(), node.step.bias) for node in NET.nodes if isinstance(node.step, Linear)]
    layers[0][0][0, 0] += 2.0**-50
    return dense(layers)


OTHERS: dict[str, Callable[[Path], object]] = {
    "network": lambda path: count_regions(other_weights(), BOX, store=path),
    "domain": lambda path: count_regions(NET, Box([-1.0] * 3, [1.0, 1.0, 1.0 + 2.0**-40]), store=path),
    r"tolerance \d+\.0 for 12345\.0": lambda path: count_regions(NET, BOX, tolerance=Tolerance(12345.0), store=path),
}


@pytest.mark.parametrize("differs", OTHERS)
def test_a_store_of_something_else_is_refused_and_left_as_it_is(differs: str, store: Path) -> None:
    before = contents(store)
    with pytest.raises(FileError, match=differs) as caught:
        OTHERS[differs](store)
    for other in {"network", "domain", "tolerance "} - {differs.split()[0]}:
        assert f"another {other}" not in str(caught.value)
    assert contents(store) == before


def test_a_store_of_another_version_is_refused(store: Path) -> None:
    manifest = json.loads((store / "_manifest.json").read_text())
    manifest["version"] = "0.0.7"
    (store / "_manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(FileError, match=rf"version 0\.0\.7 for {importlib.metadata.version('polylens')}"):
        count_regions(NET, BOX, store=store)


def test_another_division_into_partitions_is_refused(store: Path) -> None:
    manifest = json.loads((store / "_manifest.json").read_text())
    (store / "_manifest.json").write_text(json.dumps(manifest | {"tasks": "0" * 64}))
    with pytest.raises(FileError, match="another division into partitions"):
        count_regions(NET, BOX, store=store)


def test_a_directory_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(FileError, match=r"empty directory.*thesis\.tex"):
        count_regions(NET, BOX, store=tmp_path)
    assert contents(tmp_path) == {"thesis.tex": b"mine"}
    with pytest.raises(FileError, match="is a file"):
        count_regions(NET, BOX, store=tmp_path / "thesis.tex")
    with pytest.raises(FileError, match=r"no _manifest\.json"):
        open_store(tmp_path)
    with pytest.raises(FileError, match=r"no _manifest\.json"):
        open_store(tmp_path / "nowhere")


@pytest.mark.parametrize("place", [5, b"store", None])
def test_what_is_no_path_is_no_store(place: Any) -> None:
    with pytest.raises(InputError, match=r"expected the path of a directory; got"):
        open_store(place)
    if place is not None:  # which is how to ask for none
        with pytest.raises(InputError, match=r"expected the path of a directory; got"):
            count_regions(NET, BOX, store=place)


def test_an_unbounded_domain_has_no_store(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="bounded"):
        count_regions(NET, WholeSpace(3), store=tmp_path / "store")
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"parts": 3}', '"manifest"'])
def test_a_damaged_manifest_is_a_clear_error(text: str, store: Path) -> None:
    (store / "_manifest.json").write_text(text)
    for call in (lambda: open_store(store), lambda: count_regions(NET, BOX, store=store)):
        with pytest.raises(FileError, match=r"_manifest\.json: expected the manifest"):
            call()


@pytest.mark.parametrize("damage", ["empty", "half", "foreign"])
def test_a_damaged_partition_is_a_clear_error_and_made_anew_when_it_is_deleted(
    damage: str, store: Path, tmp_path: Path
) -> None:
    clean = open_store(store).count
    path = partitions(store)[3]
    if damage == "foreign":
        count_regions(other_weights(), BOX, store=tmp_path / "other")
        shutil.copy(partitions(tmp_path / "other")[3], path)
    else:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2 if damage == "half" else 0])
    with pytest.raises(FileError, match=f"{path.name}.*delete it"):
        count_regions(NET, BOX, store=store)
    with pytest.raises(FileError, match=path.name):
        _ = open_store(store).count
    path.unlink()
    assert count_regions(NET, BOX, store=store).count == clean == open_store(store).count


# -- what the disk refuses


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a program that can import the tests."""
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False, env=environment(), timeout=120
    )


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join([os.path.dirname(__file__), *sys.path])}


FULL = """
import resource, signal, sys
from polylens.errors import FileError
from polylens import count_regions
from test_store import BOX, NET
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
try:
    count_regions(NET, BOX, store=sys.argv[1], n_jobs=int(sys.argv[3]))
except FileError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such limits on Windows")
@pytest.mark.parametrize("n_jobs", ["1", "2"])
def test_a_full_disk_is_one_error_and_leaves_the_finished_partitions(n_jobs: str, store: Path) -> None:
    clean, paths = open_store(store).count, partitions(store)
    room = sorted(path.stat().st_size for path in paths)[len(paths) // 4]  # no file may grow beyond that
    for path in paths[3:]:
        path.unlink()
    done = run(FULL, str(store), str(room), n_jobs)
    assert done.returncode == 0, done.stderr
    assert "cannot be written" in done.stdout
    assert "make room" in done.stdout
    assert done.stderr == ""
    assert not list(store.glob(".*"))
    left = open_store(store)
    assert left.dataset().count_rows() == left.count  # every one that is there is whole
    assert set(paths[:3]) <= set(partitions(store))
    assert count_regions(NET, BOX, store=store).count == clean


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
def test_a_disk_that_is_full_from_the_start_is_one_error(store: Path) -> None:
    missing = partitions(store)[0]
    missing.unlink()
    code = """
import os, resource, signal, sys
from polylens.errors import FileError
from polylens import count_regions
from test_store import BOX, NET
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1, 1))
for store in sys.argv[1:]:
    try:
        count_regions(NET, BOX, store=store)
    except FileError as error:
        print(error)
"""
    done = run(code, str(store), str(store.parent / "new"))
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == 2
    assert all("cannot be written" in line for line in done.stdout.splitlines())
    assert not missing.exists()
    assert not (store.parent / "new" / "_manifest.json").exists()
    assert count_regions(NET, BOX, store=store.parent / "new").complete  # the failed attempt is in nobody's way


UNWRITABLE = """
import os, sys
from polylens.errors import FileError
from polylens import count_regions
from test_store import BOX, NET
count_regions(NET, BOX, store=sys.argv.pop())  # loads all that is needed, which nobody else may read
if os.getuid() == 0:  # root writes everywhere
    os.setgid(65534), os.setuid(65534)
for store in sys.argv[1:]:
    try:
        count_regions(NET, BOX, store=store)
    except FileError as error:
        print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such permissions")
def test_a_directory_that_cannot_be_written_is_one_error_and_is_left_as_it_is(store: Path) -> None:
    with tempfile.TemporaryDirectory() as directory:  # the temporary paths of tests are closed to others
        path = Path(shutil.copytree(store, Path(directory, "store")))
        partitions(path)[0].unlink()
        before = contents(path)
        Path(directory).chmod(0o755)
        path.chmod(0o555)
        done = run(UNWRITABLE, str(path), str(path / "below"), str(store))
        assert done.stderr == ""
        assert done.stdout.count("cannot be written") == 2
        assert done.stdout.count("finished partitions are kept") == 1  # below it, there were never any
        assert contents(path) == before
        path.chmod(0o755)
        assert count_regions(NET, BOX, store=path).complete


# -- killed


def test_what_dead_processes_left_is_deleted_and_what_living_ones_write_is_not(store: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    dead, living = (store / f".part-00000.parquet.{pid}-0123abcd.part" for pid in (gone.pid, os.getpid()))
    half = store / f"._manifest.json.{gone.pid}-0123abcd.part"
    for path in (dead, living, half):
        path.write_bytes(b"PAR1")
    count_regions(NET, BOX, store=store)
    assert not dead.exists()
    assert not half.exists()
    assert living.exists()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="there is no list of processes to look them up in")
def test_what_the_dead_left_is_deleted_even_when_nobody_has_waited_for_them(store: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    assert os.waitid(os.P_PID, gone.pid, os.WEXITED | os.WNOWAIT)  # it has ended and is still in the list
    left = store / f".part-00000.parquet.{gone.pid}-0123abcd.part"
    left.write_bytes(b"PAR1")
    count_regions(NET, BOX, store=store)
    gone.wait()
    assert not left.exists()


def test_a_run_that_was_killed_before_its_manifest_was_there_is_begun_anew(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    (tmp_path / f"._manifest.json.{gone.pid}-0123abcd.part").write_text("{")
    assert count_regions(NET, BOX, store=tmp_path).complete
    assert not list(tmp_path.glob(".*"))


RUN = """
import sys
import joblib
from polylens import count_regions
from test_counting import random_network, unit_box
if __name__ == "__main__":
    sizes = tuple(int(n) for n in sys.argv[2].split("-"))
    with joblib.parallel_config(backend=sys.argv[3]):
        count_regions(random_network(sizes), unit_box(sizes[0]), store=sys.argv[1], n_jobs=2)
"""


def begun(path: Path, sizes: str, backend: str) -> subprocess.Popen[bytes]:
    """Start a stored run as the head of its own group."""
    return subprocess.Popen([sys.executable, "-c", RUN, str(path), sizes, backend], env=environment(), start_new_session=True)


def kill_when(process: subprocess.Popen[bytes], path: Path, finished: int, delay: float, group: bool) -> None:
    """Kill a run, or its group, some time after it has finished so many partitions; it may have ended by itself."""
    deadline = time.monotonic() + 60
    while len(partitions(path)) < finished and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    time.sleep(delay)
    if process.poll() is None:
        if group:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    process.wait()


def holds_every_cell_once(path: Path, clean: dict[str, Any]) -> None:
    """A store has the rows of a clean run, partition by partition, and no pattern twice."""
    store = open_store(path)
    assert store.complete
    assert [pq.read_metadata(p).num_rows for p in partitions(path)] == clean["rows"]
    assert store.count == clean["count"]
    assert math.isclose(store.volume, clean["volume"], rel_tol=1e-12)
    packed = np.concatenate([part.packed.numpy() for part in store.patterns()])
    assert len(np.unique(np.ascontiguousarray(packed).view(np.dtype((np.void, packed.shape[1]))))) == clean["count"]


def clean_run(path: Path, sizes: str) -> dict[str, Any]:
    shape = tuple(int(n) for n in sizes.split("-"))
    found = count_regions(random_network(shape), unit_box(shape[0]), store=path)
    assert found.complete
    return {"count": found.count, "volume": found.volume, "rows": [pq.read_metadata(p).num_rows for p in partitions(path)]}


def killed_and_resumed(path: Path, sizes: str, clean: dict[str, Any], backend: str, group: bool, times: int, seed: int) -> None:
    """Kill a run at several random times, take it up at once each time, and end it while orphans may still run."""
    dice, shape = random.Random(seed), tuple(int(n) for n in sizes.split("-"))
    for _ in range(times):
        more = len(partitions(path)) + dice.randrange(1, max(2, len(clean["rows"]) // (times + 1)))
        kill_when(begun(path, sizes, backend), path, more, dice.uniform(0.0, 0.05), group)
    assert 0 < len(partitions(path)) < len(clean["rows"])
    found = count_regions(random_network(shape), unit_box(shape[0]), store=path)
    assert (found.count, found.complete) == (clean["count"], True)
    assert math.isclose(found.volume or 0.0, clean["volume"], rel_tol=1e-12)
    holds_every_cell_once(path, clean)
    deadline = time.monotonic() + 30
    while list(path.glob(".*")) and time.monotonic() < deadline:
        time.sleep(0.1)  # an orphan still deletes what it has begun
    holds_every_cell_once(path, clean)
    assert not list(path.glob(".*"))


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return clean_run(tmp_path_factory.mktemp("clean"), SMALL)


SMALL, LARGE = "3-110-110-1", "3-180-180-1"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows knows no such signals")
@pytest.mark.parametrize(("group", "times"), [(False, 1), pytest.param(True, 2, marks=pytest.mark.slow)])
def test_threads_that_are_killed_lose_and_double_nothing(
    group: bool, times: int, tmp_path: Path, clean: dict[str, Any]
) -> None:
    killed_and_resumed(tmp_path / "store", SMALL, clean, "threading", group, times, seed=times)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows knows no such signals")
@pytest.mark.parametrize("group", [False, True])
def test_processes_that_are_killed_lose_and_double_nothing(group: bool, tmp_path: Path, clean: dict[str, Any]) -> None:
    killed_and_resumed(tmp_path / "store", SMALL, clean, "loky", group, 2, seed=int(group))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").exists(), reason="there is no list of processes to look them up in")
def test_workers_do_not_outlive_a_run_that_was_killed(tmp_path: Path) -> None:
    run = begun(tmp_path / "store", LARGE, "loky")
    try:
        while not partitions(tmp_path / "store") and run.poll() is None:
            time.sleep(0.01)
        workers = children(run.pid)
    finally:
        run.kill()
        run.wait()
    assert workers
    deadline = time.monotonic() + 120  # each finishes the chunk that it is at, however busy the machine
    while any(Path("/proc", str(w)).exists() for w in workers) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert [w for w in workers if Path("/proc", str(w)).exists()] == []
    assert not list((tmp_path / "store").glob(".*"))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows knows no such signals")
def test_a_large_run_that_is_killed_many_times_loses_and_doubles_nothing(tmp_path: Path) -> None:
    large = clean_run(tmp_path / "clean", LARGE)
    assert large["count"] > 10**6
    for backend, group in (("threading", True), ("loky", False)):
        killed_and_resumed(tmp_path / backend, LARGE, large, backend, group, 2, seed=7)
