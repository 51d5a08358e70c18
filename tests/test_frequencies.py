"""Frequencies of units over streams: what passes is counted as if it had been kept, and intervals are Wilson's."""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterator
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from polylens import Frequencies, Network, UnitLayer, dense, frequencies, load, patterns
from polylens.data import read_data
from polylens.errors import InputError, ShapeError


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def network(gate: str = "relu6") -> Network:
    g = generator()
    sizes = ((8, 50), (50, 40), (40, 3))
    return dense([(torch.randn(m, n, generator=g).double(), torch.randn(m, generator=g).double()) for n, m in sizes], gate)


def same(a: Frequencies, b: Frequencies) -> bool:
    pairs = zip(a.counts, b.counts, strict=True)
    return a.layers == b.layers and a.total == b.total and all(torch.equal(x, y) for x, y in pairs)


def test_any_division_into_batches_gives_the_counts_of_the_kept_patterns(tmp_path: Path) -> None:
    net, x = network(), torch.randn(101, 8, generator=generator(1)).double()
    np.save(tmp_path / "x.npy", x.numpy())
    want = patterns(net, x).frequencies()
    loader = DataLoader(TensorDataset(x, torch.zeros(101)), batch_size=13)
    streams = (
        x,
        x.numpy(),
        x.tolist(),
        np.load(tmp_path / "x.npy", mmap_mode="r"),
        x.split(9),
        iter(x.split(50)),
        loader,
        iter(x),
    )
    for stream in streams:
        assert same(frequencies(net, stream), want)
    assert same(frequencies(net, x, batch_size=7), want)
    assert same(Frequencies.concat([frequencies(net, part) for part in x.split(30)]), want)


def test_max_gates_and_networks_without_gates_are_counted() -> None:
    module = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.ReLU(), torch.nn.MaxPool2d(2), torch.nn.Flatten())
    x = torch.randn(20, 1, 6, 6, generator=generator())
    net = load(module.eval(), x[:1])
    assert same(frequencies(net, x, batch_size=3), patterns(net, x).frequencies())
    bare = frequencies(dense([(torch.ones(2, 3), None)]), torch.ones(4, 3))
    assert (bare.total, bare.layers) == (4, ())


def test_batches_are_let_go_once_they_are_counted() -> None:
    alive: weakref.WeakSet[torch.Tensor] = weakref.WeakSet()
    most = 0

    def stream() -> Iterator[torch.Tensor]:
        nonlocal most
        for seed in range(20):
            batch = torch.randn(5, 8, generator=generator(seed)).double()
            alive.add(batch)
            most = max(most, len(alive))
            yield batch
            del batch

    assert frequencies(network(), stream()).total == 100
    assert most <= 2


def test_streams_that_hold_nothing_or_something_else_are_refused() -> None:
    net = network()
    with pytest.raises(InputError, match="got none"):
        frequencies(net, iter(()))
    with pytest.raises(ShapeError, match="expected shape"):
        frequencies(net, iter([torch.ones(3, 9)]))
    with pytest.raises(InputError, match="floating-point"):
        frequencies(net, iter([torch.ones(3, 8, dtype=torch.int64)]))
    with pytest.raises(InputError, match="at least 1"):
        frequencies(net, torch.ones(3, 8), batch_size=0)
    one = frequencies(net, torch.ones(3, 8))
    for parts in ([], [one, frequencies(network("relu"), torch.ones(3, 8))]):
        with pytest.raises(InputError, match="equal layers"):
            Frequencies.concat(parts)


def counted(active: list[int], total: int) -> Frequencies:
    on = torch.tensor(active)
    return Frequencies((UnitLayer("g", "relu", (len(active),)),), (torch.stack([total - on, on]),), total)


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.999])
def test_wilson_bounds_are_where_the_score_test_just_rejects(confidence: float) -> None:
    found, z = counted([0, 1, 17, 50, 99, 100], 100), NormalDist().inv_cdf((1 + confidence) / 2)
    share, bounds = found.active("g"), found.interval("g", confidence)
    for bound in bounds:
        score = (share - bound).square() * 100 - z * z * bound * (1 - bound)
        assert float(score.abs().max()) < 1e-12  # a hundred roundings of numbers of size 10
    assert bool((bounds.low <= share).all())
    assert bool((bounds.high >= share).all())
    assert (float(bounds.low[0]), float(bounds.high[-1])) == (0.0, 1.0)
    assert math.isclose(float(bounds.high[0]), z * z / (100 + z * z))


def test_wilson_intervals_cover_the_truth_as_often_as_they_say() -> None:
    draws = torch.binomial(torch.full((4000,), 40.0), torch.tensor(0.1), generator=generator()).long().tolist()
    low, high = counted(draws, 40).interval(0)
    covered = float(((low <= 0.1) & (high >= 0.1)).double().mean())
    assert 0.92 < covered < 0.98  # at 40 inputs Wilson's coverage oscillates around .95 by two per cent or so


def test_confidences_that_are_none_are_refused() -> None:
    for confidence in (0, 1, -0.1, 95):
        with pytest.raises(InputError, match=r"between 0 and 1, such as 0\.95"):
            counted([1], 2).interval(0, confidence)


def test_entropy_is_that_of_the_pieces_and_sums_over_a_layer() -> None:
    found = counted([0, 2, 1, 4], 4)
    want = [0.0, 1.0, 2 - 0.75 * math.log2(3), 0.0]
    assert torch.allclose(found.entropy("g"), torch.tensor(want, dtype=torch.float64), atol=1e-15)
    assert math.isclose(found.units()[0]["entropy"], sum(want))
    three = Frequencies((UnitLayer("h", "relu6", (1,), 3),), (torch.tensor([[2], [1], [1]]),), 4)
    assert float(three.entropy(0)) == 1.5


def test_the_summary_says_what_a_unit_that_never_switched_may_still_do() -> None:
    assert "on less than 0.037 of such inputs" in counted([0, 50], 100).summary()
    assert "never switched" not in counted([10, 50], 100).summary()


def test_real_images_are_counted_as_they_pass(data: Path) -> None:
    net = load(data / "nets" / "mnist-net_256x2.onnx")
    x = read_data(data / "mnist" / "t10k-images-idx3-ubyte.gz").first(2000).fitted(net.input_shape).inputs
    found = frequencies(net, iter(x.split(300)))
    kept = patterns(net, x).frequencies()
    # Batches of other sizes round matrix products otherwise; single inputs may change sides at a breakpoint
    assert all(int((a - b).abs().sum()) <= 4 for a, b in zip(found.counts, kept.counts, strict=True))
    assert found.total == 2000
    assert all(0 < row["entropy"] < row["units"] for row in found.units())
