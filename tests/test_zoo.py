"""Networks with known answers: what each docstring states is so."""

from __future__ import annotations

import itertools
import math
import os
import shutil
from pathlib import Path

import pytest
import torch

from polylens import Network, affine_map, patterns, zoo
from polylens.errors import InputError


def distinct(net: Network, points: torch.Tensor) -> int:
    return len(patterns(net, points).unique().patterns)


def test_the_absolute_value_is_two_maps() -> None:
    net = zoo.absolute_value()
    x = torch.tensor([[-2.0], [-0.5], [0.0], [3.0]])
    assert torch.equal(net(x), x.abs())
    assert affine_map(net, x).weight.flatten().tolist() == [-1.0, -1.0, 0.0, 1.0]
    assert distinct(net, x) == 3


@pytest.mark.parametrize("dim", [1, 2, 4])
def test_the_identity_is_one_map_on_all_orthants(dim: int) -> None:
    net = zoo.identity(dim)
    corners = torch.tensor(list(itertools.product([-1.5, 2.0], repeat=dim)), dtype=torch.float64)
    assert distinct(net, corners) == 2**dim
    maps = affine_map(net, corners)
    assert torch.equal(maps.weight, torch.eye(dim, dtype=torch.float64).expand(2**dim, -1, -1))
    assert not maps.offset.any()


def test_the_triangles_preimage_is_the_rectangle() -> None:
    grid = torch.cartesian_prod(torch.linspace(-1, 2, 97), torch.linspace(-2, 1, 97))  # steps of 1/32 are exact
    net = zoo.triangle()
    assert torch.equal(net(grid).flatten() <= -1, grid[:, 0] >= 1)
    assert distinct(net, torch.tensor([[1.0, 0.0], [1.0, 1.5], [1.0, 3.0], [-2.0, -3.0]])) == 4
    assert affine_map(net, torch.tensor([1.5, 0.0])).weight.tolist() == [[-1.0, 0.0]]


@pytest.mark.parametrize("depth", [1, 2, 5, 9])
def test_the_sawtooth_has_two_to_the_depth_pieces(depth: int) -> None:
    net, count = zoo.sawtooth(depth), 2**depth
    middles = ((torch.arange(count, dtype=torch.float64) + 0.5) / count)[:, None]
    slopes = affine_map(net, middles).weight.flatten()
    assert slopes.tolist() == [count * (-1) ** k for k in range(count)]
    ends = torch.arange(count + 1, dtype=torch.float64)[:, None] / count
    assert net(ends).flatten().tolist() == [k % 2 for k in range(count + 1)]
    assert distinct(net, middles) == count


def sectors(net: Network) -> torch.Tensor:
    """Return points in all regions of a one-layer network: around each vertex, all sectors of its hyperplanes."""
    weight, bias = (net.nodes[0].step.parameters()[k] for k in ("weight", "bias"))
    found = []
    for rows in itertools.combinations(range(len(weight)), weight.shape[1]):
        w = weight[list(rows)]
        vertex = torch.linalg.solve(w, -bias[list(rows)])
        signs = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=len(rows))), dtype=w.dtype)
        found.append(vertex + torch.linalg.solve(w, 1e-7 * signs.T).T)
    return torch.cat(found)


@pytest.mark.parametrize(("units", "dim"), [(1, 1), (6, 1), (7, 2), (12, 2), (6, 3), (5, 5)])
def test_the_arrangement_has_zaslavskys_number_of_regions(units: int, dim: int) -> None:
    net = zoo.arrangement(units, dim, seed=3)
    points = sectors(net)  # in general position every region has a vertex, so none is missed
    assert distinct(net, points) == sum(math.comb(units, i) for i in range(dim + 1))
    first = patterns(net, points).unique().inverse
    maps = affine_map(net, points).weight.flatten(1)
    keys = {tuple(row) for row in torch.cat([maps, affine_map(net, points).offset], 1).round(decimals=9).tolist()}
    assert len(keys) == int(first.max()) + 1


def test_the_arrangement_depends_on_its_seed_only() -> None:
    x = torch.ones(2, dtype=torch.float64)
    torch.manual_seed(5)
    first = zoo.arrangement(4, 2, seed=1)(x)
    torch.manual_seed(6)
    assert torch.equal(first, zoo.arrangement(4, 2, seed=1)(x))
    assert not torch.equal(first, zoo.arrangement(4, 2, seed=2)(x))


def test_sizes_below_one_are_refused() -> None:
    for make in (
        lambda: zoo.sawtooth(0),
        lambda: zoo.identity(0),
        lambda: zoo.arrangement(0, 2),
        lambda: zoo.arrangement(2, 0),
    ):
        with pytest.raises(InputError, match="at least 1; got 0"):
            make()


# -- digits


CACHE = "digits-v1.safetensors"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache file that a first call has written, in inference mode, where training is hardest to get right."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
        patch.setenv("XDG_CACHE_HOME", str(folder))
        before = settings()
        zoo.digits()
        after = settings()
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]
    return folder / "polylens" / CACHE


def settings() -> tuple[torch.Tensor, object, object, object]:
    return torch.random.get_rng_state(), torch.get_num_threads(), torch.is_grad_enabled(), torch.get_default_dtype()


@pytest.fixture
def cache(tmp_path: Path, trained: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the cache of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    copy = tmp_path / "polylens" / CACHE
    copy.parent.mkdir()
    shutil.copy(trained, copy)
    return copy


def accuracy(net: Network) -> float:
    data = zoo.digits_data("test")
    assert data.labels is not None
    return float((net(data.inputs).argmax(1) == data.labels).double().mean())


def test_the_digits_network_reads_more_than_95_per_cent(cache: Path) -> None:
    assert accuracy(zoo.digits()) >= 0.95


def test_training_leaves_one_file_and_no_settings_changed(trained: Path) -> None:
    assert [p.name for p in trained.parent.iterdir()] == [CACHE]


def test_the_cache_gives_the_same_network_and_damage_to_it_is_repaired(cache: Path) -> None:
    x = zoo.digits_data("all").inputs[:50]
    first = zoo.digits()(x)
    whole = cache.read_bytes()
    assert torch.equal(zoo.digits()(x), first)
    flipped = bytearray(whole)
    flipped[-9] ^= 0x40
    for damaged in (whole[:100], bytes(flipped)):
        cache.write_bytes(damaged)
        assert torch.allclose(zoo.digits()(x), first, atol=1e-3)  # retrained: equal but for the order of sums
        assert cache.read_bytes() != damaged


def test_without_a_writable_cache_the_network_is_trained_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file" / "below"))
    assert accuracy(zoo.digits()) >= 0.95
    assert os.listdir(tmp_path) == ["file"]


def test_the_splits_part_the_data() -> None:
    train, test, everything = (zoo.digits_data(s) for s in ("train", "test", "all"))
    assert (len(train), len(test), len(everything)) == (1347, 450, 1797)
    joined = torch.cat([train.inputs, test.inputs])
    assert torch.equal(joined.sum(0), everything.inputs.sum(0))
    assert float(everything.inputs.min()) == 0.0
    assert float(everything.inputs.max()) == 1.0
    with pytest.raises(InputError, match="'dev'"):
        zoo.digits_data("dev")  # type: ignore[arg-type]
