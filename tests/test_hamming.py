"""Hamming geometry against brute force over all pairs, and against what is known of wide random layers."""

from __future__ import annotations

import json
import math
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

from polylens import Distances, Patterns, UnitLayer, hamming, load, patterns
from polylens.data import read_data
from polylens.errors import InputError, ShapeError
from polylens.plotting.patterns import distance_figure, frequency_row

Tensor = torch.Tensor


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def bits(values: Tensor, name: str = "g") -> Patterns:
    return Patterns.from_pieces([UnitLayer(name, "relu", (values.shape[1],))], [values])


def mixed(count: int, seed: int = 0) -> tuple[Patterns, list[Tensor]]:
    """Return patterns of layers of two, three and nine pieces, the last a max-gate, and their pieces, one column a unit."""
    g = generator(seed)
    layers = [
        UnitLayer("a", "relu", (70,)),
        UnitLayer("b", "relu6", (3, 25), 3),
        UnitLayer("m", "max_pool", (5,), 9, True),
        UnitLayer("c", "relu", (130,)),
    ]
    pieces = [
        torch.rand(count, 70, generator=g) < torch.rand(70, generator=g),
        torch.randint(0, 3, (count, 3, 25), generator=g),
        torch.randint(0, 9, (count, 5), generator=g),
        torch.rand(count, 130, generator=g) + 0.3 * torch.randn(count, 1, generator=g) > 0.5,
    ]
    return Patterns.from_pieces(layers, pieces), [p.flatten(1).long() for p in pieces]


def naive(a: Tensor, b: Tensor) -> Tensor:
    return torch.stack([(row != b).sum(1) for row in a])


def above(table: Tensor) -> Tensor:
    i, j = torch.triu_indices(len(table), len(table), 1)
    return table[i, j]


def counted(values: Tensor, size: int) -> Tensor:
    return torch.bincount(values, minlength=size + 1)


# -- counts of pairs


@settings(deadline=None, max_examples=15)
@given(st.integers(2, 40), st.integers(0, 100))
def test_all_pairs_are_a_naive_count_by_layer_and_by_class(count: int, seed: int) -> None:
    p, pieces = mixed(count, seed)
    labels = torch.randint(0, 3, (count,), generator=generator(seed))
    found = hamming(p, labels=labels)
    same = above(labels[:, None] == labels)
    tables = [above(naive(one, one)) for one in pieces]
    wanted = [*tables, tables[0] + tables[1] + tables[3], tables[2]]
    assert found.windows is not None
    for one, want in zip([*found.layers, found.units, found.windows], wanted, strict=True):
        assert one.within is not None
        assert one.between is not None
        for part, values in ((one, want), (one.within, want[same]), (one.between, want[~same])):
            assert torch.equal(part.counts, counted(values, one.num_units))
            assert part.pairs == len(values)
            if len(values):
                assert math.isclose(part.mean, float(values.double().mean()), abs_tol=1e-9)
                assert math.isclose(part.variance, float(values.double().var(correction=0)), abs_tol=1e-9)
                assert part.quantile(0.5) == int(values.median())


def test_distances_to_others_are_counted_over_all_pairs() -> None:
    p, pieces = mixed(90)
    labels, other = torch.arange(50) % 4, torch.arange(40) % 5
    found = hamming(p[:50], p[50:], labels=labels, other_labels=other)
    want = sum(naive(pieces[i][:50], pieces[i][50:]) for i in (0, 1, 3))
    assert torch.equal(found.units.counts, counted(want.flatten(), 275))
    assert found.units.within is not None
    assert torch.equal(found.units.within.counts, counted(want[labels[:, None] == other], 275))
    assert (found.inputs, found.others) == (50, 40)


def test_many_tiles_and_blocks_give_what_one_gives() -> None:
    values = torch.rand(1200, 70, generator=generator()) > 0.4
    p, want = bits(values), naive(values, values)
    assert torch.equal(p.distances(), want)
    assert torch.equal(p[:700].distances(p), want[:700])
    assert torch.equal(hamming(p).units.counts, counted(above(want), 70))
    parts = [hamming(p[i : i + 300], p[:i]).units.counts for i in (300, 600, 900)]
    inner = [hamming(p[i : i + 300]).units.counts for i in (0, 300, 600, 900)]
    assert torch.equal(sum([*parts, *inner]), hamming(p).units.counts)


def test_patterns_of_more_words_than_a_tile_holds_are_compared() -> None:
    values = torch.rand(18, 140_000, generator=generator()) > 0.5
    assert torch.equal(bits(values).distances(), naive(values, values))


def test_memory_does_not_grow_with_the_number_of_pairs() -> None:
    p = bits(torch.rand(6000, 64, generator=generator()) > 0.5)
    hamming(p[:50])
    tracemalloc.start()
    hamming(p)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6000 * 6000 / 4  # a quarter of a byte a pair


def test_random_pairs_are_seeded_different_and_distributed_like_all() -> None:
    p, _ = mixed(200)
    every, some = hamming(p), hamming(p, pairs=20_000, seed=3)
    assert some.sampled
    assert some.units.pairs == 20_000
    assert torch.equal(some.units.counts, hamming(p, pairs=20_000, seed=generator(3)).units.counts)
    assert not torch.equal(some.units.counts, hamming(p, pairs=20_000, seed=4).units.counts)
    assert abs(some.mean - every.mean) < 4 * every.units.deviation / math.sqrt(20_000)  # 4 of the sampling's errors
    assert some.units.error > every.units.error
    two = bits(torch.tensor([[True, False], [True, True]]))
    assert hamming(two, pairs=50).units.counts.tolist() == [0, 50, 0]


def test_layers_of_windows_alone_have_no_units() -> None:
    p, pieces = mixed(30)
    found = hamming(p.layer("m"), labels=[0, 1] * 15)
    assert found.windows is not None
    assert torch.equal(found.windows.counts, counted(above(naive(pieces[2], pieces[2])), 5))
    assert found.units.counts.tolist() == [435]
    assert found.units.within is not None
    assert found.units.within.counts.tolist() == [210]
    assert hamming(p.layer("a")).windows is None


# -- errors, moments


def left_out(table: Tensor, of: Callable[[Tensor], Tensor], keep: Tensor | None = None) -> float:
    """Return the jackknife's error of a statistic of all pairs, by leaving every input out and starting afresh."""
    values = []
    for i in range(len(table)):
        rest = torch.arange(len(table)) != i
        chosen = above(table[rest][:, rest])
        values.append(of(chosen if keep is None else chosen[above(keep[rest][:, rest])]))
    found = torch.stack(values)
    return float(((len(table) - 1) / len(table) * (found - found.mean()).square().sum()).sqrt())


def test_standard_errors_are_the_jackknife_over_inputs() -> None:
    p, pieces = mixed(40)
    labels = torch.arange(40) % 3
    found = hamming(p, labels=labels)
    table = naive(pieces[3], pieces[3]).double()
    same = labels[:, None] == labels
    one = found.layer("c")
    assert one.within is not None
    assert one.between is not None
    for part, keep in ((one, None), (one.within, same), (one.between, ~same)):
        assert math.isclose(part.error, left_out(table, torch.mean, keep), rel_tol=1e-9)
    table, variance = naive(pieces[3][:25], pieces[3][25:]).double(), 0.0
    for sums, size in ((table.sum(1), 25), (table.sum(0), 15)):
        kept = (table.sum() - sums) / (table.numel() * (1 - 1 / size))
        variance += float((size - 1) / size * (kept - kept.mean()).square().sum())
    assert math.isclose(hamming(p[:25], p[25:]).layer("c").error, math.sqrt(variance), rel_tol=1e-9)


def test_moments_without_pairs_are_those_of_all_pairs() -> None:
    p, pieces = mixed(60)
    found = p.distance_moments()
    tables = [naive(one, one) for one in pieces]
    values = torch.stack([above(t) for t in tables]).double()
    assert torch.allclose(found.means, values.mean(1), rtol=1e-13)
    assert torch.allclose(found.covariance, torch.cov(values, correction=0), rtol=1e-10, atol=1e-10)
    assert torch.allclose(found.correlation, torch.corrcoef(values), rtol=1e-9, atol=1e-11)
    every = sum(tables).double()
    assert math.isclose(found.mean_error, left_out(every, torch.mean), rel_tol=1e-9)
    assert math.isclose(found.variance_error, left_out(every, lambda v: v.var(correction=0)), rel_tol=1e-9)
    units = p.layer("a", "b", "c")
    assert math.isclose(units.distance_moments().mean, hamming(p).mean, rel_tol=1e-13)
    assert math.isclose(units.distance_moments().variance, hamming(p).variance, rel_tol=1e-11)
    assert math.isclose(units.distance_moments().mean_error, hamming(p).units.error, rel_tol=1e-12)


def test_the_textbook_formulas_hold_over_ordered_pairs_with_an_input_and_itself_among_them() -> None:
    values = torch.rand(50, 30, generator=generator()) < torch.rand(30, generator=generator(1))
    share, signs = values.double().mean(0), values.double() * 2 - 1
    table = naive(values, values).double()
    covariance, mean = torch.cov(signs.T, correction=0), signs.mean(0)
    variance = (covariance.square() + 2 * covariance * mean[:, None] * mean).sum() / 4
    assert math.isclose(float((2 * share * (1 - share)).sum()), float(table.mean()), rel_tol=1e-12)
    assert math.isclose(float(variance), float(table.var(correction=0)), rel_tol=1e-12)
    assert math.isclose(bits(values).distance_moments().mean, float(table.mean()) * 50 / 49, rel_tol=1e-12)


def test_independent_bits_have_the_variance_of_independent_differences() -> None:
    p = torch.linspace(0.05, 0.95, 100)
    found = bits(torch.rand(4000, 100, generator=generator()) < p).distance_moments()
    q = 2 * p * (1 - p)
    assert abs(found.mean - float(q.sum())) < 3 * found.mean_error
    assert abs(found.variance - float((q * (1 - q)).sum())) < 3 * found.variance_error


def test_moments_of_too_few_and_of_constant_patterns_are_said_to_be_so() -> None:
    with pytest.raises(InputError, match="two patterns or more"):
        bits(torch.ones(1, 3, dtype=torch.bool)).distance_moments()
    found = bits(torch.ones(5, 3, dtype=torch.bool)).distance_moments()
    assert (found.mean, found.variance, found.mean_error) == (0.0, 0.0, 0.0)
    assert bool(found.correlation.isnan().all())
    assert math.isnan(bits(torch.eye(3).bool()).distance_moments().mean_error)


def test_separation_is_the_share_of_pairs_of_pairs_in_the_right_order() -> None:
    p, pieces = mixed(30)
    labels = torch.arange(30) % 2
    one = hamming(p, labels=labels).layer("c")
    table, same = above(naive(pieces[3], pieces[3])), above(labels[:, None] == labels)
    inner, outer = table[same][:, None], table[~same][None]
    want = (inner < outer).double().mean() + (inner == outer).double().mean() / 2
    assert math.isclose(one.separation, float(want), rel_tol=1e-12)
    assert math.isnan(hamming(p, labels=[0] * 30).units.separation)


# -- neighbours


def test_neighbours_are_the_first_of_a_stable_sort() -> None:
    p, pieces = mixed(70)
    table = sum(naive(one, one) for one in pieces)
    for k in (1, 5, 69):
        found = p.neighbours(k)
        want = table.clone().fill_diagonal_(10**6).sort(dim=1, stable=True)
        assert torch.equal(found.positions, want.indices[:, :k])
        assert torch.equal(found.distances, want.values[:, :k])
    want = table[:, :33].sort(dim=1, stable=True)
    assert torch.equal(p.neighbours(4, p[:33]).positions, want.indices[:, :4])


def test_of_equally_near_patterns_the_first_come_first_across_tiles() -> None:
    p = bits(torch.zeros(1000, 3, dtype=torch.bool))
    found = p.neighbours(3)
    assert found.positions[0].tolist() == [1, 2, 3]
    assert found.positions[2].tolist() == [0, 1, 3]
    assert found.positions[999].tolist() == [0, 1, 2]
    assert int(found.distances.sum()) == 0


def test_more_neighbours_than_there_are_are_refused() -> None:
    p, _ = mixed(5)
    with pytest.raises(InputError, match="at most 4, the number of patterns to choose from; got 5"):
        p.neighbours(5)
    with pytest.raises(InputError, match="at least 1"):
        p.neighbours(0, p)
    with pytest.raises(InputError, match="same layers"):
        p.neighbours(1, p.layer("a"))
    assert p[torch.zeros(5, dtype=torch.bool)].neighbours(2, p).positions.shape == (0, 2)


# -- what is known of wide random layers


def test_a_random_layer_without_biases_measures_the_angle() -> None:
    width, g = 40_000, generator()
    x = torch.eye(8, dtype=torch.float64)
    for angle in (0.1, 1.0, 2.5):
        y = math.cos(angle) * x[:1] + math.sin(angle) * x[1:2]
        signs = torch.cat([x[:1], y]) @ torch.randn(width, 8, generator=g, dtype=torch.float64).T > 0
        share = angle / math.pi
        # units are independent given the inputs: the standard error is that of a binomial share
        assert abs(hamming(bits(signs)).mean / width - share) < 3 * math.sqrt(share * (1 - share) / width)


def test_four_wide_layers_follow_the_arc_cosine_recursion() -> None:
    width, angle, networks = 1024, 1.2, 12
    x = torch.zeros(2, 64)
    x[0, 0], x[1, 0], x[1, 1] = 1.0, math.cos(angle), math.sin(angle)
    g, shares = generator(), torch.zeros(networks, 4, dtype=torch.float64)
    for k in range(networks):
        value = x
        for layer in range(4):
            before = value @ torch.randn(width, value.shape[1], generator=g).T * math.sqrt(2 / value.shape[1])
            shares[k, layer] = hamming(bits(before > 0)).mean / width
            value = before.relu()
    for layer in range(4):
        error = float(shares[:, layer].std()) / math.sqrt(networks)
        assert abs(float(shares[:, layer].mean()) - angle / math.pi) < 3 * error
        angle = math.acos((math.sin(angle) + (math.pi - angle) * math.cos(angle)) / math.pi)


# -- what does not fit, and how it is said


def test_what_cannot_be_compared_is_refused() -> None:
    p, _ = mixed(6)
    with pytest.raises(InputError, match="2 or more patterns; got 1"):
        hamming(p[:1])
    with pytest.raises(InputError, match="1 or more patterns; got 0"):
        hamming(p, p[6:])
    with pytest.raises(InputError, match="same layers"):
        hamming(p, p.layer("a"))
    with pytest.raises(ShapeError, match="one for each of 6 patterns"):
        hamming(p, labels=[0, 1])
    for wrong in ({"labels": [0] * 6, "other": p}, {"other_labels": [0] * 6}, {"other_labels": [0] * 6, "labels": [0] * 6}):
        with pytest.raises(InputError, match="both sides"):
            hamming(p, **wrong)
    with pytest.raises(InputError, match="pairs: expected a whole number"):
        hamming(p, pairs=0)
    found = hamming(p)
    with pytest.raises(InputError, match=r"expected one of \['a', 'b', 'm', 'c'\]"):
        found.layer("zz")
    with pytest.raises(InputError, match="share between 0 and 1"):
        found.units.quantile(1.5)


def test_quantiles_of_billions_of_pairs_are_exact() -> None:
    found = Distances("units", 1, torch.tensor([4_000_000_000, 1]), math.nan)
    assert found.quantile(1.0) == 1
    assert Distances("units", 2, torch.tensor([7, 1, 92]), math.nan).quantile(0.07) == 0  # 100 * 0.07 > 7 in floating point


def test_a_class_for_every_input_takes_no_matrix_of_inputs() -> None:
    bits = torch.rand(3000, 64, generator=torch.Generator().manual_seed(0)) < 0.5
    p = Patterns.from_pieces([UnitLayer("a", "relu", (64,))], [bits])
    plain = hamming(p)
    tracemalloc.start()
    found = hamming(p, labels=torch.arange(3000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3000**2  # bytes; a sum for each input and class would take eight times as many
    assert torch.equal(found.units.between.counts, plain.units.counts)
    assert found.units.between.error == pytest.approx(plain.units.error, rel=1e-12)
    assert found.units.within.pairs == 0


def test_results_speak_in_words_and_in_plain_types() -> None:
    p, _ = mixed(12)
    found = hamming(p, labels=list("aabbccddeeff"))
    assert "all 66 pairs of 12 inputs" in found.summary()
    assert "separation" in found.summary()
    assert "100 random pairs of 12 inputs with 5 others" in hamming(p, p[:5], pairs=100).summary()
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert plain["units"]["within"]["pairs"] == 6
    assert json.dumps(hamming(p[:2]).to_dict(), allow_nan=False)
    assert repr(found) == "Hamming(12 inputs, 66 pairs, 4 layers)"
    assert found.layer(-1) is found.layer("c")
    empty = Distances("g", 3, torch.zeros(4, dtype=torch.int64), math.nan)
    assert math.isnan(empty.mean)
    assert "no pairs" in empty.summary()


def test_drawings_have_an_axis_a_layer_or_a_row_a_layer() -> None:
    p, _ = mixed(30)
    found = hamming(p, labels=[0, 1] * 15)
    axes = Figure().subplots()
    assert [t.get_text() for t in found.plot(axes).get_yticklabels()] == ["c", "m", "b", "a"]
    assert found.plot(Figure().subplots(), layer="c").get_title(loc="left") == "c: 130 units"
    assert found.layer("a").plot(Figure().subplots()).get_legend() is not None
    assert len([ax for ax in distance_figure(found).axes if ax.axison]) == 4
    assert len(frequency_row(p.frequencies()).axes) == 4
    saturated = bits(torch.ones(4, 3, dtype=torch.bool))
    hamming(saturated).plot(Figure().subplots())
    frequency_row(saturated.frequencies())


def test_images_of_one_digit_are_nearer_than_images_of_two(data: Path) -> None:
    net = load(data / "nets" / "mnist-net_256x2.onnx")
    images = read_data(data / "mnist" / "t10k-images-idx3-ubyte.gz").first(600).fitted(net.input_shape)
    found = hamming(patterns(net, images.inputs), labels=images.labels)
    separations = [layer.separation for layer in found.layers]
    assert 0.6 < separations[0] < separations[1]
    assert found.units.within is not None
    assert found.units.between is not None
    assert found.units.within.mean + 5 * found.units.within.error < found.units.between.mean
    assert int(np.asarray(found.units.counts).sum()) == 600 * 599 // 2
