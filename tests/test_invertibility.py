"""Invertibility over a data set: what each layer is, against its own preimages, and what is said of layers left out."""

from __future__ import annotations

import sys

import pytest
import torch
from matplotlib import pyplot

from polylens import Polytope, dense, invertibility, is_layer_injective, layer_preimage, load, zoo
from polylens._layers.large import LargeLayer, large_layer
from polylens._types import Tolerance
from polylens.errors import InputError, UnsupportedError
from polylens.layer_map import layer_map
from polylens.layer_preimage import KINDS


def test_every_layer_is_asked_on_what_can_reach_it() -> None:
    net, x = zoo.digits(), zoo.digits_data("test").inputs[:12]
    found = invertibility(net, x)
    assert [layer.reach for layer in found.layers] == ["space", "orthant", "orthant"]
    assert [(layer.inputs, layer.outputs) for layer in found.layers] == [(64, 64), (64, 32), (32, 10)]
    assert [layer.gate for layer in found.layers] == ["relu", "relu", "identity"]
    assert all(sum(layer.counts.values()) == 12 for layer in found.layers)
    assert all(layer.counts["undecided"] == 0 for layer in found.layers)
    assert "finite" in found.summary()


def test_kinds_are_those_of_each_layer_alone() -> None:
    gen = torch.Generator().manual_seed(0)
    sizes = [(12, 4), (6, 12), (3, 6)]
    layers = [(torch.randn(m, n, generator=gen, dtype=torch.float64), torch.randn(m, generator=gen)) for m, n in sizes]
    net, x = dense(layers), torch.randn(10, 4, generator=gen, dtype=torch.float64)
    found, values = invertibility(net, x), x
    for layer, (weight, bias), reach in zip(found.layers, layers, [None, "orthant", "orthant"], strict=True):
        for i, value in enumerate(values):
            gate = "identity" if layer.gate == "identity" else "relu"
            alone = layer_preimage(weight, bias.double(), value, gate=gate, reachable=reach)  # type: ignore[arg-type]
            assert KINDS[int(layer.kind[i])] == alone.kind
            assert int(layer.dimension[i]) == alone.dimension
        values = torch.relu(values @ weight.T + bias.double())
    assert found[0].kind.tolist() != found[1].kind.tolist()


def test_a_convolution_is_its_matrix() -> None:
    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Conv2d(1, 3, 3, padding=1),
        torch.nn.BatchNorm2d(3),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(48, 2),
    ).eval()
    x = torch.rand(3, 1, 4, 4)
    found = invertibility(load(module, x), x)
    assert [(layer.inputs, layer.outputs) for layer in found.layers] == [(16, 48), (48, 2)]
    with torch.no_grad():
        active = (module[:2](x) > 0).flatten(1).sum(1)
    assert torch.equal(found[0].positive, active)


def test_a_domain_bounds_what_the_first_layer_forgets() -> None:
    net = dense([([[1.0, 1.0]], [0.0]), ([[1.0]], None)])
    x = torch.tensor([[0.5, 0.25]])
    assert invertibility(net, x, [0])[0].counts["unbounded"] == 1
    found = invertibility(net, x, [0], domain=Polytope.box([0.0, 0.0], [1.0, 1.0]))
    assert found[0].counts["bounded"] == 1
    assert found[0].reach == "polytope"


@pytest.mark.parametrize("gate", ["tanh", "sigmoid", "elu", "softplus"])
def test_strictly_increasing_gates_hide_nothing(gate: str) -> None:
    wide = dense([([[1.0, 1.0]], [0.0]), ([[1.0]], None)], gate=gate)
    assert invertibility(wide, torch.tensor([[0.5, 1.0]]), [0])[0].counts["unbounded"] == 1
    square = dense([([[1.0, 1.0], [0.0, 2.0]], [0.0, 1.0]), ([[1.0, 1.0]], None)], gate=gate)
    assert invertibility(square, torch.tensor([[0.5, 1.0]]), [0])[0].counts["singleton"] == 1
    assert is_layer_injective(square, 0).answer is True
    assert is_layer_injective(square, 0).constant is None
    found = is_layer_injective(wide, 0)
    assert found.answer is False
    assert found.pair is not None
    one, other = wide.double().forward(found.pair, last=wide.value_of(0))
    torch.testing.assert_close(one, other)


def test_layers_that_cannot_be_asked_are_named_with_reasons() -> None:
    net = dense([([[1.0]], [0.0]), ([[2.0]], None)], gate="gelu")
    found = invertibility(net, torch.tensor([[0.5]]))
    assert list(found.skipped) == [net.gates[0].name, net.nodes[-1].name][:1]
    assert "gelu" in found.skipped[net.gates[0].name]
    assert "not asked" in found.summary()
    with pytest.raises(UnsupportedError, match="gelu"):
        invertibility(net, torch.tensor([[0.5]]), [0])
    with pytest.raises(InputError, match="layer"):
        invertibility(net, torch.tensor([[0.5]]), ["nowhere"])


def test_the_drawing_counts_every_input_and_marks_the_inputs_of_the_layer() -> None:
    net, x = zoo.digits(), zoo.digits_data("test").inputs[:30]
    found = invertibility(net, x)
    for layer in (0, "relu2"):
        ax = found.plot(layer=layer)
        assert sum(patch.get_height() for patch in ax.patches) == 30
        assert ax.lines[0].get_xdata()[0] == found[layer].inputs  # type: ignore[index]
        pyplot.close(ax.figure)  # type: ignore[arg-type]


def test_bars_hold_equally_many_counts() -> None:
    found = invertibility(zoo.digits(), zoo.digits_data("test").inputs[:100])
    for layer, bins in ((0, 40), (1, 40), (1, 7), (2, 40)):
        ax = found.plot(layer=layer, bins=bins)
        edges = [bar.get_x() for bar in ax.patches]
        widths = {round(bar.get_width(), 9) for bar in ax.patches}
        pyplot.close(ax.figure)  # type: ignore[arg-type]
        assert len(widths) == 1
        assert next(iter(widths)) % 1 == 0
        assert all((edge + 0.5) % 1 == 0 for edge in edges)
        assert len(set(edges)) <= bins


def test_a_single_input_is_a_narrow_bar_at_a_whole_number() -> None:
    found = invertibility(zoo.digits(), zoo.digits_data("test").inputs[:1])
    ax = found.plot(layer=1)
    left, right = ax.get_xlim()
    assert right - left >= 10
    assert all(tick == round(tick) for tick in (*ax.get_xticks(), *ax.get_yticks()))
    assert ax.get_title(loc="left").startswith("Preimages of 1 output of relu2")
    pyplot.close(ax.figure)  # type: ignore[arg-type]


def test_results_are_plain() -> None:
    net = dense([([[1.0], [-1.0]], [0.0, 0.0]), ([[1.0, 1.0]], None)])
    plain = invertibility(net, torch.tensor([[2.0], [-1.0]])).to_dict()
    assert plain["layers"][0]["kind"] == ["singleton", "singleton"]
    assert plain["skipped"] == {}


def test_max_pooling_is_asked_with_the_relu_in_front_of_it() -> None:
    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.MaxPool2d(2), torch.nn.Flatten(), torch.nn.Linear(16, 2)
    ).eval()
    x = torch.rand(4, 1, 4, 4)
    net = load(module, x)
    found = invertibility(net, x)
    assert [(layer.inputs, layer.outputs) for layer in found.layers] == [(16, 64), (16, 16), (16, 2)]
    assert found[1].gate == "relu, max-pooling"
    with torch.no_grad():
        assert torch.equal(found[1].positive, (module[:4](x) > 0).sum(1))


def test_layers_that_join_two_values_are_skipped_with_the_reason() -> None:
    class Residual(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = torch.nn.Linear(3, 3), torch.nn.Linear(3, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            inner = torch.relu(self.first(x))
            return torch.relu(inner + self.second(torch.relu(inner - 1)))

    x = torch.rand(2, 3)
    found = invertibility(load(Residual().eval(), x), x)
    assert len(found.layers) == 2
    assert all("joins" in why for why in found.skipped.values())
    assert len(found.skipped) == 1


def test_layers_by_their_nonzero_entries_agree_with_their_matrices() -> None:
    torch.manual_seed(0)
    for channels in (1, 2, 8):
        module = torch.nn.Sequential(torch.nn.Conv2d(2, channels, 3, padding=1), torch.nn.ReLU()).eval()
        x = torch.randn(8, 2, 4, 4)
        net = load(module, x)
        for orthant in (False, True):
            points = x.abs().double() if orthant else x.double()
            affine = layer_map(net, net.value_of(net.gates[0].name) - 1)
            large = large_layer(affine, "relu", orthant)
            assert isinstance(large, LargeLayer)
            for value in points.flatten(1):
                plain = layer_preimage(affine.matrix(), affine.offset, value, reachable="orthant" if orthant else None)
                found = large.kind(value.numpy(), Tolerance())
                assert found.kind == plain.kind
                if found.ray is not None:
                    assert bool(
                        (plain.equalities[0] @ torch.from_numpy(found.ray)).abs().max() < 1e-11 if plain.positive else True
                    )
                    assert bool((plain.inequalities.matrix @ torch.from_numpy(found.ray)).max() < 1e-11)


def test_nonzero_entries_alone_do_not_make_an_input_the_only_one_under_an_absolute_value() -> None:
    net = dense([([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], [1.0, 1.0, 2.0])], gate=["abs"])  # even around (-1, -1)
    affine, x = layer_map(net, net.value_of(0) - 1), torch.tensor([1.0, 3.0], dtype=torch.float64)
    large = large_layer(affine, "abs", False)
    assert isinstance(large, LargeLayer)
    assert large.kind(x.numpy(), Tolerance()).kind == "undecided"
    assert layer_preimage(affine.matrix(), affine.offset, x, gate="abs").kind == "bounded"


def test_a_layer_too_large_for_its_entries_is_skipped_unless_it_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["polylens.invertibility"], "MOST_ENTRIES", 3)
    monkeypatch.setattr("polylens._layers.large.MOST_NONZEROS", 3)
    net = dense([([[1.0], [2.0]], None), ([[1.0, 2.0], [3.0, 4.0]], None), ([[1.0, 1.0]], None)])
    found = invertibility(net, [[1.0]])
    assert [layer.name for layer in found.layers] == ["relu1", "linear3"]
    assert "4 entries" in found.skipped["relu2"]
    with pytest.raises(UnsupportedError, match="leave it out"):
        invertibility(net, [[1.0]], ["relu2"])
