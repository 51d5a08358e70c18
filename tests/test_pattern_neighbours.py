"""Neighbours in pattern space against naive searches and scikit-learn, correlations against scipy and a jackknife by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.neighbors import NearestNeighbors

from polylens import Patterns, UnitLayer, dense, load, neighbour_accuracy, pattern_neighbours, patterns
from polylens._clusters.pairs import alignment, pearson, spearman, squared_euclidean, transport
from polylens.data import read_data
from polylens.errors import InputError, ShapeError
from polylens.network import Network
from polylens.pattern_neighbours import _first, _Nearest, vote

Array = np.ndarray[Any, Any]


def network(sizes: list[int], seed: int = 0) -> Network:
    generator = torch.Generator().manual_seed(seed)
    return dense(
        [(torch.randn(m, n, generator=generator) / n**0.5, torch.randn(m, generator=generator) / 4) for n, m in pairwise(sizes)]
    )


def inputs(count: int, size: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(count, size, generator=torch.Generator().manual_seed(seed))


def of_pieces(seed: int, count: int) -> Patterns:
    generator = torch.Generator().manual_seed(seed)
    layers = [UnitLayer("a", "relu", (3,)), UnitLayer("b", "clip", (2, 2), 3)]
    return Patterns.from_pieces(layers, [torch.randint(a.num_pieces, (count, *a.shape), generator=generator) for a in layers])


def nearest_by_hand(distances: Array, k: int, own: list[int] | None) -> list[list[int]]:
    """Return for each row the k columns of least distance, of equal ones the first, leaving out the row's own."""
    found = []
    for i, row in enumerate(distances.tolist()):
        others = [j for j in range(len(row)) if own is None or j != own[i]]
        found.append(sorted(others, key=lambda j: (row[j], j))[:k])
    return found


@given(st.integers(0, 99), st.integers(2, 30), st.data())
def test_neighbours_are_the_nearest_others_and_the_first_of_equals(seed: int, count: int, data: st.DataObject) -> None:
    p = of_pieces(seed, count)
    k = data.draw(st.integers(1, count - 1))
    places = data.draw(st.lists(st.integers(-count, count - 1), min_size=1, max_size=5))
    found = pattern_neighbours(p, places, k)
    distances, own = p[torch.tensor(places) % count].distances(p).numpy(), [i % count for i in places]
    assert found.index.tolist() == nearest_by_hand(distances, k, own)
    assert found.distance.tolist() == [[int(distances[i, j]) for j in row] for i, row in enumerate(found.index.tolist())]
    assert pattern_neighbours(p, k=k).index[own].tolist() == found.index.tolist()


def test_other_inputs_may_be_asked_for_and_may_be_equal_to_some() -> None:
    p, q = of_pieces(0, 40), of_pieces(1, 7)
    found = pattern_neighbours(p, q, 5, layer="b")
    assert found.index.tolist() == nearest_by_hand(q.layer("b").distances(p.layer("b")).numpy(), 5, None)
    assert pattern_neighbours(p, p[3:4], 1, layer="b").distance.tolist() == [[0]]


def test_an_input_with_many_equals_in_front_of_it_gets_them_and_not_itself() -> None:
    p = Patterns.from_pieces([UnitLayer("a", "relu", (2,))], [torch.ones(6, 2, dtype=torch.bool)])
    assert pattern_neighbours(p, [5], 2).index.tolist() == [[0, 1]]
    assert pattern_neighbours(p, [0], 5).index.tolist() == [[1, 2, 3, 4, 5]]


def test_votes_go_to_the_most_frequent_label_and_then_to_the_nearest() -> None:
    assert vote(torch.tensor([[3, 1, 1], [2, 1, 2], [5, 4, 6], [1, 2, 2]])).tolist() == [1, 2, 5, 2]
    assert vote(torch.tensor([[7, 3, 3, 7]])).tolist() == [7]


def test_shares_and_accuracy_are_those_of_the_labels() -> None:
    p, labels = of_pieces(3, 60), torch.arange(60) % 3
    found = pattern_neighbours(p, k=4, labels=labels)
    assert found.same_label is not None
    assert found.same_label.tolist() == [float((labels[found.index[:, r]] == labels).double().mean()) for r in range(4)]
    assert found.accuracy == float((vote(labels[found.index]) == labels).double().mean())
    other = pattern_neighbours(p, p[:2], 4, labels=labels, query_labels=[0, 1])
    assert other.accuracy in (0.0, 0.5, 1.0)
    assert pattern_neighbours(p, p[:2], 4, labels=labels).accuracy is None


@given(st.integers(0, 9), st.integers(1, 8))
def test_chunks_of_distances_leave_the_nearest_and_the_first_of_equals(seed: int, k: int) -> None:
    generator = np.random.default_rng(seed)
    distances = generator.integers(0, 5, (6, 23)).astype(float)
    places = torch.tensor([0, 3, 7, 11, 20, 22])
    best = _Nearest(6, k)
    for start, stop in pairwise([0, 2, 9, 10, 23]):
        best.add(torch.from_numpy(distances[:, start:stop].copy()), start, places)
    assert best.index.tolist() == nearest_by_hand(distances, k, places.tolist())
    assert _first(torch.from_numpy(distances), k).tolist() == nearest_by_hand(distances, k, None)


def test_accuracies_are_those_of_scikit_learns_neighbours() -> None:
    net, x = network([6, 12, 8, 3]), inputs(150, 6)
    labels = (x[:, 0] > 0).long() + (x[:, 1] > 0.5).long()
    found = neighbour_accuracy(net, x, labels, k=1, batch_size=40)
    p = patterns(net, x)
    spaces = {"input": x, "hamming": torch.cat([p.pieces(i) for i in (0, 1)], 1).float()}
    for name, rate in [("input", found.table[0].euclidean), ("hamming", found.table[3].hamming)]:
        points = spaces[name].numpy()
        nearest = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(points).kneighbors(return_distance=False)[:, 0]
        right = float((labels[nearest] == labels).double().mean())
        assert rate == pytest.approx(right, abs=0.05 if name == "hamming" else 0)  # it breaks ties in its own way
    assert [line.name for line in found.table] == ["input", net.gates[0].name, net.gates[1].name, "all layers"]
    assert [line.units for line in found.table] == [6, 12, 8, 20]


def test_lines_hold_the_correlations_of_their_layer() -> None:
    net, x = network([5, 40, 9, 2]), inputs(60, 5)
    table = neighbour_accuracy(net, x, [0] * 60, k=3).table
    above = np.triu_indices(60, 1)
    behind = torch.relu(x @ net.nodes[0].step.parameters()["weight"].T + net.nodes[0].step.parameters()["bias"])
    hamming = patterns(net, x).layer(0).distances().numpy()[above]
    values = torch.cdist(behind.double(), behind.double()).numpy()[above]
    plain = torch.cdist(x.double(), x.double()).numpy()[above]
    assert table[1].pearson.value == pytest.approx(stats.pearsonr(hamming, values)[0])
    assert table[1].spearman.value == pytest.approx(stats.spearmanr(hamming, values)[0], abs=1e-9)
    assert table[1].pearson_input.value == pytest.approx(stats.pearsonr(hamming, plain)[0])
    assert table[1].pearson_input.value > 0.5 > 0.1 > table[1].pearson_input.error > 0


def test_wide_random_layers_give_distances_that_go_with_angles() -> None:
    net, x = network([30, 2000, 2]), torch.nn.functional.normalize(inputs(50, 30), dim=1) * 8  # biases matter little there
    line = neighbour_accuracy(net, x, [0] * 50, k=1).table[1]
    assert line.spearman_input.value > 0.9
    assert line.spearman.value > 0.9


def symmetric(seed: int, count: int) -> Array:
    generator = np.random.default_rng(seed)
    found = np.triu(generator.integers(0, 9, (count, count)), 1)
    return (found + found.T).astype(float)


@given(st.integers(0, 50), st.integers(4, 12))
def test_the_jackknife_leaves_out_one_input_with_all_its_pairs(seed: int, count: int) -> None:
    a, b = symmetric(seed, count), symmetric(seed + 100, count)
    left = []
    for i in range(count):
        rest = np.delete(np.arange(count), i)
        above = np.triu_indices(count - 1, 1)
        x, y = a[np.ix_(rest, rest)][above], b[np.ix_(rest, rest)][above]
        if x.std() == 0 or y.std() == 0:
            return
        left.append(np.corrcoef(x, y)[0, 1])
    error = np.sqrt((count - 1) / count * ((np.array(left) - np.mean(left)) ** 2).sum())
    found, above = pearson(a, b), np.triu_indices(count, 1)
    assert found.value == pytest.approx(np.corrcoef(a[above], b[above])[0, 1], abs=1e-9)
    assert found.error == pytest.approx(error, abs=1e-7)  # a value of exactly 1 or -1 has no digits of its error left
    assert spearman(a, b).value == pytest.approx(stats.spearmanr(a[above], b[above])[0], abs=1e-9)


def test_the_jackknife_error_is_that_of_new_inputs() -> None:
    def drawn(seed: int) -> tuple[float, float]:
        x = inputs(60, 3, seed).double()
        first, second = (squared_euclidean(v, v).sqrt().numpy() for v in (x, x[:, :2] + inputs(60, 2, seed + 999).double() / 2))
        return pearson(first, second)

    found = np.array([drawn(seed) for seed in range(60)])
    assert found[:, 1].mean() == pytest.approx(found[:, 0].std(), rel=0.35)  # 60 draws know a deviation to 9 per cent


def test_a_constant_side_has_no_correlation() -> None:
    assert all(np.isnan(v) for f in (pearson, spearman) for v in f(symmetric(0, 6), np.ones((6, 6)) - np.eye(6)))
    net = dense([([[0.0], [0.0]], [1.0, -1.0]), ([[1.0, 1.0]], None)])
    found = neighbour_accuracy(net, inputs(9, 1), [0] * 9, k=2)
    assert np.isnan(found.table[1].pearson.value)
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["layers"][1]["pearson"] == [None, None]


def test_alignment_of_squared_distances_is_that_of_kernels() -> None:
    x, y = inputs(200, 4).double(), inputs(200, 6, 2).double()
    y[:, :4] += x
    a, b = (squared_euclidean(v, v).numpy() for v in (x, y))
    centre = np.eye(200) - 1 / 200
    k, m = (centre @ v.numpy() @ v.numpy().T @ centre for v in (x, y))
    biased = (k * m).sum() / np.sqrt((k * k).sum() * (m * m).sum())
    assert alignment(a, b) == pytest.approx(biased, abs=0.03)  # the bias is of the order of dimensions over inputs
    assert alignment(a, a) == pytest.approx(1)
    assert np.isnan(alignment(a, np.ones((200, 200)) - np.eye(200)))


def test_alignment_of_independent_wide_values_is_zero_on_average() -> None:
    found = [
        alignment(*(squared_euclidean(v, v).numpy() for v in (inputs(20, 300, s), inputs(20, 300, s + 500)))) for s in range(40)
    ]
    assert abs(np.mean(found)) < 4 * np.std(found) / 40**0.5


def test_transport_is_scipys_distance_row_by_row() -> None:
    a, b = symmetric(0, 20), symmetric(1, 20) ** 2
    rows = [stats.wasserstein_distance(np.delete(a[i], i), np.delete(b[i], i)) for i in range(20)]
    assert transport(a, b) == pytest.approx(np.mean(rows))


def test_batches_change_nothing_in_the_patterns_and_little_else() -> None:
    net, x = network([6, 12, 8, 3]).double(), inputs(90, 6).double()
    one, two = (neighbour_accuracy(net, x, torch.arange(90) % 3, k=5, queries=20, batch_size=b) for b in (7, None))
    assert [a.hamming for a in one.table] == [b.hamming for b in two.table]
    assert [a.euclidean for a in one.table] == [b.euclidean for b in two.table]
    assert (one.queries, one.inputs) == (20, 90)
    other = neighbour_accuracy(net, x, torch.arange(90) % 3, k=5, queries=20, seed=1)
    assert other.table[1].pearson != one.table[1].pearson


def test_results_speak_and_draw() -> None:
    net, x = network([64, 12, 8, 3]), inputs(30, 64)
    found = pattern_neighbours(patterns(net, x), [0, 4], 3, images=x, labels=torch.arange(30) % 2)
    assert json.loads(json.dumps(found.to_dict()))["index"] == found.index.tolist()
    assert "3 nearest patterns of each of 2 inputs" in found.summary()
    assert len(found.plot().images) == 2 * 4
    assert len(pattern_neighbours(patterns(net, x), k=2, images=x[:, :5].numpy()).plot(most=3).images) == 3 * 3
    table = neighbour_accuracy(net, x, torch.arange(30) % 2, k=3)
    assert "all layers" in table.summary()
    assert len(table.plot().get_xticklabels()) == 4
    assert repr(found) == "PatternNeighbours(2 queries, 3 neighbours each)"


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda p: pattern_neighbours(p, k=12), InputError, "at most 11"),
        (lambda p: pattern_neighbours(p, k=0), InputError, "k: expected"),
        (lambda p: pattern_neighbours(p, [12], 1), InputError, "each below 12"),
        (lambda p: pattern_neighbours(p, [], 1), InputError, "expected"),
        (lambda p: pattern_neighbours(p, torch.ones(12, dtype=torch.bool), 1), InputError, "positions"),
        (lambda p: pattern_neighbours(p, p[:0], 1), InputError, "got none"),
        (lambda p: pattern_neighbours(p, p.layer("a"), 1), InputError, "same layers"),
        (lambda p: pattern_neighbours(p, [1], 1, query_labels=[1]), InputError, "Patterns as query"),
        (lambda p: pattern_neighbours(p, k=1, labels=[1.0] * 12), InputError, "whole numbers"),
        (lambda p: pattern_neighbours(p, k=1, labels=[1]), ShapeError, "one for each of 12"),
        (lambda p: pattern_neighbours(p, k=1, images=torch.ones(3, 4)), ShapeError, "images: expected one for each of 12"),
        (lambda p: pattern_neighbours(p, k=1).plot(), InputError, "expected images"),
        (lambda p: neighbour_accuracy(network([2, 3, 2]), inputs(3, 2), [0, 1, 0], k=3), InputError, "4 inputs or more; got 3"),
        (lambda p: neighbour_accuracy(network([2, 3, 2]), inputs(3, 2), [0, 1], k=1), ShapeError, "one for each of 3"),
    ],
)
def test_what_cannot_be_answered_is_refused_with_words(call: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        call(of_pieces(0, 12))


def test_neighbours_of_handwritten_digits_are_of_their_class(data: Path) -> None:
    net = load(data / "nets" / "mnist-net_256x2.onnx")
    digits = read_data(data / "mnist" / "t10k-images-idx3-ubyte.gz").first(1500).fitted(net.input_shape)
    table = neighbour_accuracy(net, digits.inputs, digits.labels, queries=300).table
    assert table[0].euclidean is not None
    assert table[-1].hamming is not None
    assert table[-1].hamming > 0.93 > table[0].euclidean  # the network knows more than distances of pixels do


def test_one_query_has_votes_and_no_correlations() -> None:
    line = neighbour_accuracy(network([3, 8, 2]), inputs(20, 3), torch.arange(20) % 2, k=3, queries=1).table[1]
    assert line.hamming in (0.0, 1.0)
    assert all(np.isnan(link.value) and np.isnan(link.error) for link in line[4:])


def test_the_last_of_chosen_layers_is_drawn_as_a_layer() -> None:
    found = neighbour_accuracy(network([3, 8, 6, 2]), inputs(20, 3), torch.arange(20) % 2, k=3)
    assert len(found.plot().lines[0].get_xdata()) == 3  # the input and two layers; all of them together stand apart
    chosen = replace(found, table=found.table[:3])
    assert len(chosen.plot().lines[0].get_xdata()) == 3


@pytest.mark.parametrize("query", [["a"], [1.5], [True]])
def test_queries_that_are_no_positions_are_refused(query: list[Any]) -> None:
    with pytest.raises(InputError, match="query: expected Patterns, or positions among 9 inputs"):
        pattern_neighbours(of_pieces(0, 9), query, 1)


def test_no_queries_and_labels_in_words_are_refused() -> None:
    with pytest.raises(InputError, match="one position or more"):
        pattern_neighbours(of_pieces(0, 9), [], 1)
    with pytest.raises(InputError, match="labels: expected an array of whole numbers"):
        pattern_neighbours(of_pieces(0, 9), k=1, labels=list("abcabcabc"))
