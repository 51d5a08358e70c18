"""Constellations: trees and clusters against scipy's, groups against the definition, tables against scikit-learn's."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform
from sklearn.metrics import adjusted_rand_score

from polylens import Patterns, UnitLayer, constellations
from polylens._clusters.tree import spanning_tree
from polylens.errors import InputError, ShapeError

Array = np.ndarray[Any, Any]


def of_bits(bits: Any) -> Patterns:
    on = torch.as_tensor(np.asarray(bits, dtype=bool))
    return Patterns.from_pieces([UnitLayer("relu", "relu", (on.shape[1],))], [on])


def naive(pieces: Array) -> Array:
    """Return how many entries of each two rows differ."""
    return (pieces[:, None] != pieces[None]).sum(2)


def partition(labels: Array) -> set[frozenset[int]]:
    return {frozenset(np.flatnonzero(labels == k).tolist()) for k in np.unique(labels)}


def seeded(seed: int, count: int, units: int) -> Array:
    """Return bits with duplicates, near-duplicates and very unequal frequencies."""
    generator = np.random.default_rng(seed)
    bits = generator.random((count, units)) < generator.random(units)
    copies = generator.integers(0, count, (2, count // 2))
    bits[copies[0]] = bits[copies[1]]
    near = generator.integers(0, count, count // 4)
    bits[near, generator.integers(0, units, len(near))] ^= True
    return bits


@st.composite
def tied_bits(draw: st.DrawFn) -> Array:
    """Draw few units and many inputs, so that distances tie massively and patterns repeat."""
    count, units = draw(st.integers(1, 14)), draw(st.integers(1, 6))
    return np.array(draw(st.lists(st.lists(st.booleans(), min_size=units, max_size=units), min_size=count, max_size=count)))


BITS = st.one_of(tied_bits(), st.builds(seeded, st.integers(0, 99), st.integers(2, 40), st.integers(1, 90)))


def by_definition(distances: Array, t: float) -> set[frozenset[int]]:
    """Return the connected sets of two or more, not all, with diameter <= t < distance to everything else."""
    found = set()
    for i in range(len(distances)):
        group = frozenset(np.flatnonzero(distances[i] <= t).tolist())  # it must hold all that is near to any member
        inside = sorted(group)
        outside = [j for j in range(len(distances)) if j not in group]
        if len(inside) < 2 or not outside:
            continue
        if distances[np.ix_(inside, inside)].max() <= t < distances[np.ix_(inside, outside)].min():
            found.add(group)
    return found


@given(BITS)
def test_the_tree_spans_and_weighs_what_scipys_heights_add_up_to(bits: Array) -> None:
    words = of_bits(bits).packed.numpy().view(np.uint64)
    edges, distances = spanning_tree(words), naive(bits)
    assert [distances[a, b] for a, b in edges[:, :2]] == edges[:, 2].tolist()
    assert sorted([0, *edges[:, 1].tolist()]) == list(range(len(bits)))  # each row joins once, at one that is there
    assert all(a == 0 or a in edges[:k, 1] for k, a in enumerate(edges[:, 0].tolist()))
    if len(bits) > 1:
        assert edges[:, 2].sum() == linkage(squareform(distances), "single")[:, 2].sum()


@given(BITS)
def test_ties_go_to_the_lowest_row(bits: Array) -> None:
    edges, distances = spanning_tree(of_bits(bits).packed.numpy().view(np.uint64)), naive(bits)
    inside = [0]
    for origin, row, height in edges.tolist():
        outside = [j for j in range(len(bits)) if j not in inside]
        nearest = distances[np.ix_(inside, outside)].min()
        joined = next(j for j in outside if distances[inside, j].min() == nearest)
        assert (joined, height) == (row, nearest)
        assert origin == next(i for i in inside if distances[i, joined] == nearest)
        inside.append(joined)


@given(BITS)
def test_single_linkage_gives_scipys_partition_at_every_threshold(bits: Array) -> None:
    found = constellations(of_bits(bits), null=())
    steps = linkage(squareform(naive(bits)), "single") if len(bits) > 1 else None
    for t in range(bits.shape[1] + 1):
        labels = found.cut(t)
        expected = fcluster(steps, t, "distance") if steps is not None else np.ones(1)
        assert partition(labels.numpy()) == partition(expected)
        assert labels.max() + 1 == found.counts[t] == len(set(expected.tolist()))
        assert labels.unique(return_inverse=False).tolist() == sorted(set(labels.tolist()))
        assert [labels.tolist().index(k) for k in range(int(labels.max()) + 1)] == sorted(
            labels.tolist().index(k) for k in range(int(labels.max()) + 1)
        )


@given(BITS)
def test_constellations_are_those_of_the_definition_at_every_threshold(bits: Array) -> None:
    found, distances = constellations(of_bits(bits), null=()), naive(bits)
    curve = found.group_curve()
    assert (found.groups.diameter < found.groups.death).all()
    assert (found.groups.birth <= found.groups.diameter).all()
    for t in range(bits.shape[1] + 1):
        groups = by_definition(distances, t)
        members = found.members(t)
        assert {frozenset(m.tolist()) for m in members} == groups
        assert curve.constellations[t] == len(members) == len(groups)
        assert curve.inputs[t] == sum(map(len, groups))
        others = distances + np.diag(np.full(len(bits), bits.shape[1] + 1))
        assert curve.alone[t] == (others.min(1) > t).sum()


def test_groups_are_the_same_when_the_work_is_interrupted_after_every_row(monkeypatch: pytest.MonkeyPatch) -> None:
    patterns = of_bits(seeded(5, 120, 20))
    whole = constellations(patterns, null=())
    monkeypatch.setattr("polylens._clusters.tree._BUDGET", 1)
    pieces = constellations(patterns, null=())
    assert torch.equal(whole.order, pieces.order)
    assert torch.equal(whole.gaps, pieces.gaps)
    assert all(np.array_equal(a, b) for a, b in zip(whole.groups, pieces.groups, strict=True))


@pytest.mark.parametrize("method", ["average", "complete"])
@settings(max_examples=25)
@given(bits=BITS)
def test_other_linkages_cut_as_scipy_does(method: Any, bits: Array) -> None:
    found, units = constellations(of_bits(bits), linkage=method, null=()), bits.shape[1]
    if len(bits) == 1:
        assert found.counts.tolist() == [1] * (units + 1)
        return
    steps = linkage(squareform(naive(bits)), method)
    for t in [*range(units + 1), 0.5, units / 3]:
        assert partition(found.cut(t).numpy()) == partition(fcluster(steps, t + 1e-9, "distance"))
    assert found.score == pytest.approx(units + steps[:, 2].sum())


@given(BITS)
def test_clusters_of_complete_linkage_are_no_wider_than_the_threshold(bits: Array) -> None:
    found, distances = constellations(of_bits(bits), linkage="complete", null=()), naive(bits)
    for t in range(bits.shape[1] + 1):
        labels = found.cut(t).numpy()
        assert all(distances[np.ix_(labels == k, labels == k)].max() <= t for k in np.unique(labels))


@given(BITS)
def test_the_score_is_the_area_under_the_curve(bits: Array) -> None:
    found = constellations(of_bits(bits), null=())
    assert found.score == found.counts[:-1].sum()
    assert 0 <= found.normalised <= 1


def test_units_of_several_pieces_count_once_and_windows_beside_them() -> None:
    generator = torch.Generator().manual_seed(3)
    layers = [UnitLayer("a", "relu", (3, 5)), UnitLayer("b", "hardtanh", (7,), 3), UnitLayer("c", "max", (70,), 5, True)]
    pieces = [torch.randint(layer.num_pieces, (40, *layer.shape), generator=generator) for layer in layers]
    pieces = [torch.where(torch.rand(p.shape, generator=generator) < 0.7, p[:1], p) for p in pieces]
    patterns = Patterns.from_pieces(layers, pieces)
    found = constellations(patterns, draws=2)
    distances = naive(torch.cat([p.flatten(1) for p in pieces], 1).numpy())
    steps = linkage(squareform(distances), "single")
    assert (found.num_units, found.num_windows, found.size) == (22, 70, 92)
    assert found.gaps.sort().values.tolist() == steps[:, 2].tolist()
    for t in range(found.size + 1):
        assert {frozenset(m.tolist()) for m in found.members(t)} == by_definition(distances, t)
    assert "22 units and 70 windows" in found.summary()
    assert [null.counts.shape for null in found.nulls] == [(2, 93)] * 2


def test_one_pattern_is_one_cluster() -> None:
    found = constellations(of_bits([[True, False]]))
    assert (found.counts.tolist(), found.score, found.normalised) == ([1, 1, 1], 2.0, 0.0)
    assert (found.plateaus(), found.members(1), found.cut(0).tolist()) == ([], [], [0])
    assert found.group_curve().alone.tolist() == [1, 1, 1]


@pytest.mark.parametrize("linkage", ["single", "average", "complete"])
def test_equal_patterns_are_one_cluster_from_the_start(linkage: Any) -> None:
    found = constellations(of_bits(np.ones((5, 3))), linkage=linkage)
    assert found.counts.tolist() == [1, 1, 1, 1]
    assert (found.plateaus(), found.members(0), found.normalised) == ([], [], 0.0)


def test_patterns_of_no_units_are_all_equal() -> None:
    found = constellations(Patterns.from_pieces([], [], batch=3))
    assert (found.counts.tolist(), found.score, found.normalised) == ([1], 0.0, 0.0)


def test_two_tight_groups_far_apart_are_a_plateau_and_two_constellations() -> None:
    bits = np.zeros((6, 40), bool)
    bits[3:, 20:] = True
    for i, j in enumerate([0, 1, 2, 3, 4, 5]):
        bits[i, j] ^= True
    found = constellations(of_bits(bits), null=())
    assert found.plateaus(1) == [(2.0, 22.0, 2)]
    assert [m.tolist() for m in found.members(2)] == [[0, 1, 2], [3, 4, 5]]
    assert found.members(1) == []
    assert found.members(22) == []


def test_a_chain_is_one_cluster_and_no_constellation() -> None:
    chain = np.tri(9, 8, -1).astype(bool)  # neighbours at distance 1, ends at distance 8
    far = np.concatenate([np.concatenate([chain, np.zeros((9, 20), bool)], 1), np.ones((1, 28), bool)])
    found = constellations(of_bits(far), null=())
    assert found.cut(1).tolist() == [0] * 9 + [1]
    assert found.members(1) == []
    assert [m.tolist() for m in found.members(8)] == [list(range(9))]


def test_random_patterns_have_the_frequencies_that_they_are_drawn_with() -> None:
    from polylens.constellations import _random, _shares

    layers = [UnitLayer("a", "relu", (4,)), UnitLayer("b", "hardtanh", (3,), 3)]
    generator = torch.Generator().manual_seed(0)
    first = torch.rand(20_000, 4, generator=generator) < torch.tensor([0.0, 0.1, 0.6, 1.0])
    second = torch.multinomial(torch.tensor([0.2, 0.0, 0.8]), 60_000, replacement=True, generator=generator).reshape(-1, 3)
    patterns = Patterns.from_pieces(layers, [first, second])
    made = _random(patterns, _shares(patterns, "marginals"), torch.Generator().manual_seed(1)).frequencies()
    for a, b in zip(patterns.frequencies().counts, made.counts, strict=True):
        assert (a - b).abs().max() < 5 * (2 * 20_000 * 0.25) ** 0.5  # five standard deviations of a difference
        assert torch.equal(a == 0, b == 0)
    fair = _random(patterns, _shares(patterns, "fair"), torch.Generator().manual_seed(1)).frequencies()
    assert all(((c - 20_000 / len(c)).abs() < 5 * (20_000 * 0.25) ** 0.5).all() for c in fair.counts)


def test_the_null_curves_go_by_the_seed_and_the_number_of_draws() -> None:
    patterns = of_bits(seeded(1, 60, 30))
    one, two, other = (constellations(patterns, draws=3, seed=s).nulls for s in (0, 0, 1))
    assert [torch.equal(a.counts, b.counts) for a, b in zip(one, two, strict=True)] == [True, True]
    assert not torch.equal(one[0].counts, other[0].counts)
    assert torch.allclose(one[0].scores, one[0].counts[:, :-1].sum(1).double())


def test_dependent_units_lie_nearer_than_independent_ones_of_the_same_frequencies() -> None:
    generator = np.random.default_rng(0)
    bits = np.repeat(generator.random((80, 8)) < 0.5, 16, axis=1) ^ (generator.random((80, 128)) < 0.02)
    found = constellations(of_bits(bits), draws=2)
    assert found.score < 0.5 * float(found.nulls[0].scores.min())


@settings(max_examples=20)
@given(BITS, st.integers(1, 4))
def test_tables_agree_with_scikit_learn_at_every_threshold(bits: Array, classes: int) -> None:
    labels = np.random.default_rng(len(bits)).integers(0, classes, len(bits)) * 7 - 3
    found = constellations(of_bits(bits), labels=labels, null=())
    agreement = found.agreement()
    for t in range(bits.shape[1] + 1):
        cut, contents = found.cut(t).numpy(), found.contents(t)
        most = sum(np.unique(labels[cut == k], return_counts=True)[1].max() for k in np.unique(cut))
        assert contents.purity == agreement.purity[t] == pytest.approx(most / len(bits))
        assert contents.adjusted_rand == agreement.adjusted_rand[t] == pytest.approx(adjusted_rand_score(labels, cut))
        sizes = [row["size"] for row in contents.rows()]
        assert sizes == sorted(sizes, reverse=True)
        assert [int((cut == row["cluster"]).sum()) for row in contents.rows()] == sizes


def test_results_speak_and_go_into_json() -> None:
    found = constellations(of_bits(seeded(2, 50, 20)), labels=[i % 3 for i in range(50)])
    plain = json.loads(json.dumps(found.to_dict()))
    assert (plain["inputs"], plain["num_units"], plain["num_windows"]) == (50, 20, 0)
    assert plain["clusters"] == found.counts.tolist()
    assert "single linkage of 50 patterns" in found.summary()
    assert "Constellations(50 inputs" in repr(found)
    contents = found.contents(3)
    assert json.loads(json.dumps(contents.to_dict()))["purity"] == contents.purity
    assert "clusters at threshold 3" in contents.summary()
    assert "Contents(" in repr(contents)


def test_drawings_show_curves_nulls_and_plateaus() -> None:
    found = constellations(of_bits(seeded(2, 50, 20)), labels=[i % 3 for i in range(50)], draws=2)
    ax = found.plot()
    assert len(ax.get_lines()) == 3
    assert "clusters" in ax.get_ylabel()
    assert len(found.plot(of="constellations").get_lines()) == 3
    assert "purity" in found.contents(3).plot(most=2).get_title(loc="right")
    assert constellations(of_bits([[True]]), null=()).plot(full=True).get_xlim()[1] == 1


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda p: constellations(p[:0]), "expected patterns of one input or more"),
        (lambda p: constellations(p.packed), "expected Patterns"),
        (lambda p: constellations(p, linkage="ward"), "expected one of single, average, complete"),
        (lambda p: constellations(p, null="fair"), "expected a sequence"),
        (lambda p: constellations(p, null=("even",)), "expected a sequence"),
        (lambda p: constellations(p, draws=0), "draws"),
        (lambda p: constellations(p, labels=[0.5] * 12), "expected whole numbers"),
        (lambda p: constellations(p, linkage="average", max_bytes=800), "expected at most 10 inputs"),
        (lambda p: constellations(p).cut(-1), "threshold"),
        (lambda p: constellations(p).cut(float("nan")), "threshold"),
        (lambda p: constellations(p).contents(1), "expected one for each input"),
    ],
)
def test_what_cannot_be_answered_is_refused_with_words(call: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        call(of_bits(seeded(0, 12, 9)))


def test_labels_must_be_as_many_as_inputs() -> None:
    with pytest.raises(ShapeError, match="one for each of 12"):
        constellations(of_bits(seeded(0, 12, 9)), labels=[1, 2])


def test_the_tree_of_many_patterns_takes_memory_in_proportion_to_them() -> None:
    code = """
import resource
import numpy as np
from polylens._clusters.tree import spanning_tree
words = np.random.default_rng(0).integers(0, 2**63, (6000, 4), dtype=np.uint64)
spanning_tree(words[:100])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
edges = spanning_tree(words)
print(len(edges), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    if sys.platform != "linux":
        pytest.skip("the peak memory is read as Linux counts it")
    edges, kilobytes = map(int, subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout.split())
    assert edges == 5999
    assert kilobytes < 20_000  # the distances of all pairs would take 144 MB


def test_all_pairs_of_a_small_space_are_found_in_any_order() -> None:
    corners = np.array(list(itertools.product([False, True], repeat=5)))
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(corners))
        found = constellations(of_bits(corners[order]), null=())
        assert found.counts.tolist() == [32, 1, 1, 1, 1, 1]
        assert found.score == 5 + 31


@pytest.mark.parametrize("of", ["clusters", "constellations"])
def test_patterns_of_no_units_and_equal_ones_are_drawn(of: str) -> None:
    equal = Patterns.from_pieces([UnitLayer("a", "relu", (3,))], [torch.zeros(5, 3, dtype=torch.bool)])
    assert constellations(equal).plot(of=of).get_yscale() == "log"
    none = Patterns.from_pieces([UnitLayer("a", "relu", (0,))], [torch.zeros(5, 0, dtype=torch.bool)])
    assert constellations(none).plot(of=of).get_xlim() == (0, 1)


def test_a_single_step_is_no_plateau_in_words_and_pictures() -> None:
    bits = torch.tensor([[0, 0, 0, 0], [1, 0, 0, 0], [1, 1, 1, 0]], dtype=torch.bool)
    steps = constellations(Patterns.from_pieces([UnitLayer("a", "relu", (4,))], [bits]), null=())
    assert [plateau.is_flat for plateau in steps.plateaus()] == [False]
    assert "no plateau" in steps.summary()
    assert not steps.plot().texts
