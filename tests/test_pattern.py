"""Packed patterns: what goes in comes out, distances count units, equality goes by content."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from polylens import Patterns, UnitLayer, dense, load, patterns
from polylens.errors import InputError


@st.composite
def batches(draw: st.DrawFn) -> tuple[list[UnitLayer], list[torch.Tensor]]:
    """Draw layers of odd sizes and of two to ten pieces, with pieces for a few inputs."""
    count = draw(st.integers(1, 6))
    layers, pieces = [], []
    for i in range(draw(st.integers(1, 3))):
        shape = tuple(draw(st.lists(st.integers(1, 9), min_size=1, max_size=2)))
        k = draw(st.integers(2, 10))
        seed = draw(st.integers(0, 1000))
        values = torch.randint(0, k, (count, *shape), generator=torch.Generator().manual_seed(seed))
        layers.append(UnitLayer(f"g{i}", "relu" if k == 2 else "clip", shape, k))
        pieces.append(values.bool() if k == 2 else values)
    return layers, pieces


@settings(deadline=None)
@given(batches())
def test_pieces_survive_packing(drawn: tuple[list[UnitLayer], list[torch.Tensor]]) -> None:
    layers, pieces = drawn
    packed = Patterns.from_pieces(layers, pieces)
    for layer, piece in zip(layers, pieces, strict=True):
        assert torch.equal(packed.pieces(layer.name), piece)
        assert torch.equal(packed.layer(layer.name).pieces(), piece)
        assert torch.equal(packed[1:].pieces(layer.name), piece[1:])


@settings(deadline=None)
@given(batches())
def test_distances_count_units_on_different_pieces(drawn: tuple[list[UnitLayer], list[torch.Tensor]]) -> None:
    layers, pieces = drawn
    p = Patterns.from_pieces(layers, pieces)
    flat = torch.cat([v.flatten(1).long() for v in pieces], 1)
    want = (flat[:, None] != flat[None]).sum(2)
    assert torch.equal(p.distances(), want)
    assert torch.equal(p.distances(p[:1]), want[:, :1])
    assert torch.equal(p.matches(p[0]), want[:, 0] == 0)


@settings(deadline=None)
@given(batches())
def test_frequencies_are_the_fraction_of_inputs_on_each_piece(drawn: tuple[list[UnitLayer], list[torch.Tensor]]) -> None:
    layers, pieces = drawn
    f = Patterns.from_pieces(layers, pieces).frequencies()
    for layer, piece, count, row in zip(layers, pieces, f.counts, f.units(), strict=True):
        assert torch.equal(count, torch.stack([(piece.long() == k).sum(0) for k in range(layer.num_pieces)]))
        assert torch.allclose(f.active(layer.name), (piece.long() > 0).double().mean(0))
        assert row["dead"] == int((piece.long() == 0).all(0).sum())
        assert row["dead"] + row["always_on"] + row["mixed"] == layer.num_units


def test_unique_patterns_come_in_order_of_appearance_with_their_counts() -> None:
    layer = UnitLayer("g", "relu", (3,))
    bits = torch.tensor([[1, 0, 0], [0, 1, 1], [1, 0, 0], [0, 0, 0]]).bool()
    p = Patterns.from_pieces([layer], [bits])
    unique = p.unique()
    assert unique.patterns == p[[0, 1, 3]]
    assert unique.counts.tolist() == [2, 1, 1]
    assert unique.patterns[unique.inverse] == p


def test_equality_and_hash_go_by_content_and_by_layer() -> None:
    a, b = UnitLayer("a", "relu", (70,)), UnitLayer("b", "relu", (70,))
    bits = torch.rand(4, 70, generator=torch.Generator().manual_seed(0)) > 0.5
    p, q, other = (Patterns.from_pieces([x], [bits]) for x in (a, a, b))
    assert p == q
    assert hash(p) == hash(q)
    assert p != other
    assert p != "something else"
    assert p[0] != p[1]
    seen = {p[i]: i for i in range(4)}
    assert [seen[q[i]] for i in range(4)] == [0, 1, 2, 3]
    assert hash(p[torch.tensor([0, 1])]) == hash(q[:2])


def test_layer_views_share_memory_and_know_their_names() -> None:
    net = dense([(torch.randn(5, 3), None), (torch.randn(4, 5), None), (torch.randn(2, 4), None)])
    p = patterns(net, torch.randn(6, 3))
    view = p.layer("relu2")
    assert view.packed.untyped_storage().data_ptr() == p.packed.untyped_storage().data_ptr()
    assert [layer.name for layer in p.layer("relu2", "relu1").layers] == ["relu2", "relu1"]
    assert p.layer("relu1", "relu2") == p
    assert view.num_units == 4
    with pytest.raises(InputError, match=r"\['relu1', 'relu2'\].*got 'relu9'"):
        p.layer("relu9")
    with pytest.raises(InputError, match="same layers"):
        p.distances(view)


def test_a_pattern_takes_one_bit_a_unit_in_whole_words() -> None:
    net = dense([(torch.randn(100, 3), None), (torch.randn(2, 100), None)])
    assert patterns(net, torch.randn(6, 3)).packed.shape == (6, 16)
    assert UnitLayer("clip", "clip", (100,), 3).num_bytes == 2 * 16


def test_arrays_memory_maps_and_lists_are_read_alike(tmp_path) -> None:
    net = dense([(torch.randn(7, 3), None), (torch.randn(2, 7), None)])
    x = torch.randn(10, 3)
    np.save(tmp_path / "x.npy", x.numpy())
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert patterns(net, mapped, batch_size=3) == patterns(net, x)
    assert patterns(net, x.tolist()) == patterns(net, x)
    with pytest.raises(InputError, match="at least 1"):
        patterns(net, x, batch_size=0)


def test_indexing_beyond_the_batch_ends_iteration_and_raises() -> None:
    p = patterns(dense([(torch.randn(7, 3), None), (torch.randn(2, 7), None)]), torch.randn(3, 3))
    assert len(list(p)) == 3
    assert p[-1] == p[2]
    with pytest.raises(IndexError):
        p[3]


def test_networks_without_gates_have_empty_patterns() -> None:
    p = patterns(dense([(torch.randn(2, 3), None)]), torch.randn(4, 3))
    assert len(p) == 4
    assert p.num_units == 0
    assert p.distances().tolist() == [[0] * 4] * 4
    assert len(p.unique().patterns) == 1
    assert p.frequencies().units() == []


def test_units_and_windows_of_max_gates_are_counted_apart() -> None:
    module = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.ReLU(), torch.nn.MaxPool2d(2), torch.nn.Flatten())
    net = load(module.eval(), torch.randn(1, 1, 6, 6))
    p = patterns(net, torch.randn(3, 1, 6, 6))
    assert [layer.is_max for layer in p.layers] == [False, True]
    assert (p.num_units, p.num_windows) == (net.num_units, 8) == (32, 8)
    assert repr(p) == "Patterns(3 inputs, 32 units and 8 windows, 2 layers)"
    assert p.layer(0).summary().startswith("3 patterns of 32 units, ")
    assert {"num_units": 32, "num_windows": 8}.items() <= p.to_dict().items()


def test_a_layer_of_one_piece_is_counted() -> None:
    p = Patterns.from_pieces([UnitLayer("g", "reduce_max", (2,), 1, True)], [torch.zeros(3, 2, dtype=torch.long)])
    assert p.frequencies().counts[0].tolist() == [[3, 3]]


def two_layers() -> Patterns:
    bits = torch.rand(4, 70, generator=torch.Generator().manual_seed(0)) > 0.5
    layers = [UnitLayer("a", "relu", (70,)), UnitLayer("b", "relu6", (2, 35), 3)]
    return Patterns.from_pieces(layers, [bits, bits.long().reshape(4, 2, 35)])


def test_an_empty_selection_answers_like_any_other_and_has_no_frequencies() -> None:
    p = two_layers()
    none = p[torch.zeros(4, dtype=torch.bool)]
    assert len(none) == 0
    assert none.distances().shape == (0, 0)
    assert none.distances(p).shape == (0, 4)
    assert p.distances(none).shape == (4, 0)
    assert none.pieces("b").shape == (0, 2, 35)
    assert none.matches(p[0]).shape == (0,)
    unique = none.unique()
    assert (len(unique.patterns), len(unique.inverse), len(unique.counts)) == (0, 0, 0)
    assert Patterns.concat([none, p]) == p
    assert Patterns.from_pieces(p.layers, [none.pieces(0), none.pieces(1)]) == none
    assert "0 patterns of 140 units" in none.summary()
    with pytest.raises(InputError, match="one input or more; got an empty selection"):
        none.frequencies()


@pytest.mark.parametrize("index", [2, np.int64(2), np.array(2), torch.tensor(2), -2, np.int32(-2)])
def test_any_kind_of_integer_takes_one_pattern(index: object) -> None:
    p = two_layers()
    assert p[index] == p[2:3]  # type: ignore[index]


def test_layers_that_are_not_there_are_refused_with_the_names_that_are() -> None:
    p = two_layers()
    for ask in (p.frequencies().active, p.pieces, p.layer):
        for name in ("zz", 2, -3):
            with pytest.raises(InputError, match=r"expected one of \['a', 'b'\]"):
                ask(name)
    assert torch.equal(p.frequencies().active(-1), p.frequencies().active("b"))
    with pytest.raises(InputError, match=r"one or more of \['a', 'b'\]; got none"):
        p.layer()


def test_layers_of_no_units_are_packed_and_counted() -> None:
    p = Patterns.from_pieces([UnitLayer("g", "relu", (0,))], [torch.zeros(3, 0, dtype=torch.bool)])
    assert (len(p), p.num_units, p.pieces().shape) == (3, 0, (3, 0))
    assert p.distances().tolist() == [[0] * 3] * 3
    assert p.frequencies().units()[0]["units"] == 0


def test_patterns_stay_on_the_cpu_whatever_the_default_device() -> None:
    net = dense([(torch.randn(5, 3), None), (torch.randn(4, 5), None), (torch.randn(2, 4), None)], "relu6")
    x = torch.randn(6, 3)
    with torch.device("meta"):
        p = patterns(net, x)
        found = [p.packed, p.pieces(), p.distances(), *p.unique()[1:], *p.frequencies().counts, p.frequencies().active(0)]
    assert {t.device.type for t in found} == {"cpu"}


PEAK = """
import resource, sys, torch
from polylens import dense, patterns

g = torch.Generator().manual_seed(0)
net = dense([(torch.randn(m, n, generator=g), None) for n, m in ((784, 256), (256, 256), (256, 10))])
p = patterns(net, torch.rand(784, generator=g).expand(int(sys.argv[1]), 784))
assert p.num_units == 512
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024))
"""


def peak_bytes(count: int) -> int:
    done = subprocess.run([sys.executable, "-c", PEAK, str(count)], check=True, capture_output=True, text=True)
    return int(done.stdout)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no module resource")
def test_peak_memory_grows_with_the_packed_result_and_not_with_the_inputs() -> None:
    small, large = 12_000, 60_000  # both are several chunks
    growth = peak_bytes(large) - peak_bytes(small)
    more = large - small
    assert growth <= more * 784 * 4 // 2  # half of the inputs, had they been held; the result takes a fiftieth
