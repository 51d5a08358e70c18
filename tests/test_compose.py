"""A network behind a generator is a network: its values, patterns, maps, regions and names."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import polylens as pl
from polylens import AffineMap, Box, Network, compose, dense
from polylens.compose import Generator
from polylens.errors import InputError, ShapeError
from strategies import degenerate_network, layer


def random_dense(*sizes: int, seed: int = 0, gate: str = "relu", dtype: torch.dtype = torch.float64) -> Network:
    gen = torch.Generator().manual_seed(seed)
    pairs = itertools.pairwise(sizes)
    layers = [(torch.randn(m, n, generator=gen, dtype=dtype), torch.randn(m, generator=gen, dtype=dtype)) for n, m in pairs]
    return dense(layers, gate)


def latent(net: Network, count: int = 50) -> Tensor:
    return torch.randn(count, *net.input_shape, generator=torch.Generator().manual_seed(1), dtype=net.dtype)


@pytest.mark.parametrize("gate", ["relu", "hardtanh", "tanh"])
def test_a_composition_evaluates_the_network_at_what_the_generator_makes(gate: str) -> None:
    front, net = random_dense(2, 5, 3, gate=gate), random_dense(3, 6, 2, seed=1)
    both = compose(front, net)
    z = latent(both)
    assert torch.equal(both(z), net(front(z)))
    assert (both.input_shape, both.output_shape) == ((2,), (2,))


def test_patterns_of_both_stand_one_after_the_other() -> None:
    front, net = random_dense(2, 5, 3), random_dense(3, 6, 2, seed=1)
    both = compose(front, net)
    z = latent(both)
    found = pl.patterns(both, z)
    assert torch.equal(found.pieces("generator.relu1"), pl.patterns(front, z).pieces("relu1"))
    assert torch.equal(found.pieces("relu1"), pl.patterns(net, front(z)).pieces("relu1"))


@pytest.mark.parametrize("gate", ["relu", "tanh"])
def test_the_map_of_a_composition_is_the_product_of_maps(gate: str) -> None:
    front, net = random_dense(2, 5, 3, gate=gate), random_dense(3, 6, 2, seed=1, gate=gate)
    both = compose(front, net)
    for z in latent(both, 10):
        product = pl.linearise(net, front(z)) @ pl.linearise(front, z)
        found = pl.linearise(both, z)
        assert torch.allclose(found.weight, product.weight, atol=1e-12)  # some ten roundings of terms of size 10
        assert torch.allclose(found.offset, product.offset, atol=1e-12)


@given(degenerate_network(), st.data())
def test_an_affine_generator_is_evaluated_exactly(
    layers: list[tuple[list[list[float]], list[float]]], data: st.DataObject
) -> None:
    net = dense(layers).double()
    matrix, offset = data.draw(layer(2, net.input_shape[0]))
    both = compose((matrix, offset), net)
    z = torch.tensor([[0.5, -1.0], [0.0, 0.0], [2.0, 1.5]], dtype=torch.float64)
    x = z @ torch.tensor(matrix, dtype=torch.float64).T + torch.tensor(offset, dtype=torch.float64)
    assert torch.equal(both(z), net(x))  # dyadic numbers: nothing is rounded


def test_pairs_maps_and_networks_say_the_same() -> None:
    net, z = random_dense(3, 6, 2), torch.randn(7, 2, dtype=torch.float64)
    matrix, offset = torch.randn(3, 2, dtype=torch.float64), torch.randn(3, dtype=torch.float64)
    want = net(z @ matrix.T + offset)
    given: list[Generator] = [
        (matrix, offset),
        (matrix.numpy(), offset.tolist()),
        AffineMap(matrix, offset, (2,), (3,)),
        dense([(matrix, offset)]),
    ]
    for generator in given:
        assert torch.allclose(compose(generator, net)(z), want, atol=1e-14)


def test_without_offset_the_generator_is_linear() -> None:
    net = random_dense(3, 6, 2)
    assert torch.equal(compose((torch.eye(3, 1), None), net)(torch.zeros(1)), net(torch.zeros(3)))


def test_flat_outputs_take_the_shape_of_images() -> None:
    conv = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(8, 2)).eval()
    net = pl.load(conv, torch.zeros(1, 1, 4, 4))
    matrix = torch.randn(16, 2, generator=torch.Generator().manual_seed(0))
    both, z = compose((matrix, torch.zeros(16)), net), torch.randn(5, 2)
    assert torch.allclose(both(z), net((z @ matrix.T).reshape(5, 1, 4, 4)), atol=1e-6)  # single precision
    front = random_dense(2, 4, 16, dtype=torch.float32)
    assert torch.equal(compose(front, net)(z), net(front(z).reshape(5, 1, 4, 4)))


def test_a_map_of_images_is_flattened_first() -> None:
    net = random_dense(3, 4, 1)
    matrix = torch.randn(3, 4, dtype=torch.float64)
    both = compose(AffineMap(matrix, torch.zeros(3, dtype=torch.float64), (2, 2), (3,)), net)
    z = torch.randn(5, 2, 2, dtype=torch.float64)
    assert torch.allclose(both(z), net(z.flatten(1) @ matrix.T), atol=1e-14)


def test_regions_of_a_plane_are_counted_through_the_generator() -> None:
    # |x| and |y| on the plane (s, t) -> (s, t, 0): four quadrants, and the hyperplane z = 1 does not meet it
    net = dense([([[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]], [0.0, 0.0, -1.0]), ([[1.0, 1.0, 1.0]], None)])
    both = compose(([[1.0, 0], [0, 1.0], [0, 0]], None), net)
    assert pl.count_regions(both, Box([-1.0, -1.0], [1.0, 1.0])).count == 4


def test_regions_agree_with_those_of_the_plane_itself() -> None:
    net = random_dense(4, 8, 8, 1)
    centre, first, second = torch.randn(3, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    both = compose((torch.stack([first, second], 1), centre), net)
    want = pl.count_regions(net, pl.Plane(centre, first, second)).count
    assert pl.count_regions(both, Box([-1.0, -1.0], [1.0, 1.0])).count == want > 10


def test_names_stay_unique_when_compositions_are_composed() -> None:
    net = random_dense(2, 3, 2)
    twice = compose(net, compose(net, net))
    names = [node.name for node in twice.nodes]
    assert len(set(names)) == len(names)
    assert [gate.name for gate in twice.gates] == ["generator2.relu1", "generator.relu1", "relu1"]
    x = latent(net)
    assert torch.equal(twice(x), net(net(net(x))))


def test_a_residual_network_reads_the_right_values_behind_a_generator() -> None:
    class Residual(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = torch.nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return x + torch.relu(self.inner(x))

    net = pl.load(Residual().eval(), torch.zeros(1, 3))
    both = compose(net, net)
    x = latent(net)
    assert torch.equal(both(x), net(net(x)))


def test_the_wider_dtype_wins() -> None:
    single, double = random_dense(2, 3, 2, dtype=torch.float32), random_dense(2, 3, 2)
    assert compose(single, single).dtype == torch.float32
    assert compose(single, double).dtype == compose(double, single).dtype == torch.float64
    assert compose((np.eye(2, dtype=np.float32), None), single).dtype == torch.float32
    assert compose(([[1, 0], [0, 1]], None), single).dtype == torch.float64


def test_what_does_not_fit_is_refused_with_both_shapes() -> None:
    net = random_dense(3, 4, 1)
    for generator in [(torch.zeros(2, 2), None), random_dense(3, 4)]:
        with pytest.raises(ShapeError, match=r"\(3,\).*got \((2|4),\)"):
            compose(generator, net)
    with pytest.raises(ShapeError, match="matrix"):
        compose((torch.zeros(3), None), net)
    with pytest.raises(ShapeError, match="offset"):
        compose((torch.zeros(3, 2), torch.zeros(2)), net)
    with pytest.raises(ShapeError, match="indexing"):
        compose(AffineMap(torch.zeros(5, 3, 2), torch.zeros(5, 3), (2,), (3,)), net)


def test_what_is_no_generator_is_refused() -> None:
    net = random_dense(3, 4, 1)
    with pytest.raises(InputError, match="pair"):
        compose(3.0, net)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="Network"):
        compose(net, "net")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="NaN"):
        compose((torch.full((3, 2), torch.nan), None), net)


def test_networks_on_different_devices_are_refused() -> None:
    net = random_dense(3, 4, 1)
    with pytest.raises(InputError, match="device"):
        compose(AffineMap(torch.zeros(3, 2, device="meta"), torch.zeros(3, device="meta"), (2,), (3,)), net)
