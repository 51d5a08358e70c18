"""What is affine in front of a value, as an operator."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from polylens import affine_map, dense, load, patterns
from polylens.errors import UnsupportedError
from polylens.layer_map import layer_map
from polylens.network import Network


class Block(nn.Module):
    def __init__(self, gated: bool) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(2, 2, 3, padding=1), nn.Conv2d(2, 2, 3, padding=1)
        self.gate = nn.ReLU() if gated else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x + self.two(self.gate(self.one(x)))).flatten(1)


def convolutional() -> Network:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(2, 3, 3, stride=2), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 5))
    return load(module.eval(), example=torch.zeros(1, 2, 5, 5))


@pytest.mark.parametrize("layer", [None, 0])
def test_the_operator_its_matrix_and_its_adjoint_are_one_map(layer: int | None) -> None:
    net = convolutional()
    value = net.value_of(None) if layer is None else net.nodes[net.value_of(layer) - 1].inputs[0]
    way = layer_map(net, value)
    x = torch.randn(4, *way.input_shape, dtype=torch.float64)
    rows = torch.randn(4, *way.output_shape, dtype=torch.float64)
    matrix = way.matrix()
    assert matrix.shape == (way.outputs, way.inputs)
    torch.testing.assert_close(way(x).flatten(1), x.flatten(1) @ matrix.T + way.offset, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(way.linear(x).flatten(1), x.flatten(1) @ matrix.T, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(way.adjoint(rows).flatten(1), rows.flatten(1) @ matrix, rtol=1e-12, atol=1e-12)


def test_the_first_layers_matrix_is_its_local_map() -> None:
    net = convolutional().double()
    value = net.nodes[net.value_of(0) - 1].inputs[0]
    x = torch.randn(2, 5, 5, dtype=torch.float64)
    local = affine_map(net, x, layer=0, at="pre")
    torch.testing.assert_close(layer_map(net, value).matrix(), local.weight, rtol=1e-12, atol=1e-12)
    assert len(patterns(net, x[None])) == 1


def test_branches_from_one_value_are_one_map_and_from_several_are_refused() -> None:
    example = torch.zeros(1, 2, 4, 4)
    net = load(Block(gated=False).eval(), example=example)
    before = net.nodes[net.value_of(0) - 1].inputs[0]
    x = torch.randn(2, 4, 4, dtype=torch.float64)
    expected = affine_map(net.double(), x, layer=0, at="pre").weight
    torch.testing.assert_close(layer_map(net, before).matrix(), expected, rtol=1e-12, atol=1e-12)
    gated = load(Block(gated=True).eval(), example=example)
    with pytest.raises(UnsupportedError, match="joins the input, gate"):
        layer_map(gated, gated.nodes[gated.value_of(1) - 1].inputs[0])


def test_a_value_behind_a_gate_and_the_input_have_the_identity() -> None:
    net = dense([([[1.0, 2.0]], [3.0]), ([[1.0]], None)])
    assert layer_map(net, 0).matrix().tolist() == [[1.0, 0.0], [0.0, 1.0]]
    behind = layer_map(net, net.value_of(0))
    assert behind.way == ()
    assert behind.matrix().tolist() == [[1.0]]
    assert behind.offset.tolist() == [0.0]
