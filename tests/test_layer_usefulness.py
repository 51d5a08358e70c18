"""Usefulness of layers: a layer that is almost the identity is the least useful; bypassing edits the program as said."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import wasserstein_distance
from sklearn.datasets import load_digits
from torch import Tensor, nn

from polylens import dense, layer_usefulness, load, patterns
from polylens._clusters.pairs import alignment
from polylens.errors import InputError, ShapeError
from polylens.layer_usefulness import LayerUsefulness, bypassed

Weights = list[tuple[Tensor, Tensor]]


def layers(sizes: list[int], seed: int = 0) -> Weights:
    generator = torch.Generator().manual_seed(seed)
    return [
        (torch.randn(m, n, generator=generator) / n**0.5, torch.randn(m, generator=generator) / 4) for n, m in pairwise(sizes)
    ]


def inputs(count: int, size: int, seed: int = 1) -> Tensor:
    return torch.randn(count, size, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def trained() -> tuple[Weights, Tensor, Tensor]:
    """Return three hidden layers of 48 units trained on the digits, and 600 of them."""
    x, y = (torch.from_numpy(v) for v in load_digits(return_X_y=True))
    x, y = x.float() / 16, y.long()
    weights = [(w.requires_grad_(), b.requires_grad_()) for w, b in layers([64, 48, 48, 48, 10])]
    optimiser = torch.optim.Adam([p for pair in weights for p in pair], lr=3e-3)
    for batch in torch.randint(len(x), (200, 100), generator=torch.Generator().manual_seed(0)):
        h = x[batch]
        for w, b in weights[:-1]:
            h = torch.relu(h @ w.T + b)
        optimiser.zero_grad()
        nn.functional.cross_entropy(h @ weights[-1][0].T + weights[-1][1], y[batch]).backward()
        optimiser.step()
    return [(w.detach(), b.detach()) for w, b in weights], x[:600], y[:600]


def near_identity(size: int) -> tuple[Tensor, Tensor]:
    """Return a layer that changes values a little; its bias keeps what was 0 below 0."""
    noise = torch.randn(size, size, generator=torch.Generator().manual_seed(5))
    return torch.eye(size) + 5e-4 * noise, torch.full((size,), -0.01)


@pytest.mark.parametrize("place", [1, 2, 3])
def test_an_inserted_layer_that_is_almost_the_identity_is_the_least_useful(trained: Any, place: int) -> None:
    weights, x, y = trained
    net = dense([*weights[:place], near_identity(48), *weights[place:]])
    found = layer_usefulness(net, x, y, compared=400)
    assert found.accuracy is not None
    assert found.accuracy > 0.95
    assert len(found.table) == 4
    for name in ("distance_change", "pattern_change", "accuracy_lost", "decisions_changed"):
        scores = [value for line in found.table if (value := getattr(line, name)) is not None]
        assert min(scores) == getattr(found.table[place], name), name
    assert found.table[place].accuracy_lost == pytest.approx(0, abs=0.01)
    assert min(v for k, line in enumerate(found.table) if k != place and (v := line.accuracy_lost) is not None) > 0.1
    assert (found.table[0].pattern_change, found.table[0].accuracy_lost) == (None, None)  # 64 inputs, 48 units


def test_a_bypassed_layer_leaves_the_network_that_one_would_write() -> None:
    weights, x = layers([6, 5, 5, 7, 7, 3]), inputs(20, 6)
    net = dense(weights)
    assert [bypassed(net, k) is None for k in range(4)] == [True, False, True, False]
    second, fourth = bypassed(net, 1), bypassed(net, 3)
    assert second is not None
    assert fourth is not None
    assert torch.allclose(second(x), dense([weights[0], *weights[2:]])(x))
    assert torch.allclose(fourth(x), dense([*weights[:3], weights[4]])(x))
    assert (len(second.nodes), len(second.gates), len(net.gates)) == (len(net.nodes) - 2, 3, 4)
    assert "without" in second.source


def test_the_first_layer_is_bypassed_where_it_has_the_inputs_shape_and_the_last_where_the_output_is_a_gate() -> None:
    weights, x = layers([4, 4, 4]), inputs(9, 4)
    net = load(nn.Sequential(*(part for w, b in weights for part in (_linear(w, b), nn.ReLU()))).eval())
    first, last = bypassed(net, 0), bypassed(net, 1)
    assert first is not None
    assert last is not None
    assert torch.allclose(first(x), torch.relu(x @ weights[1][0].T + weights[1][1]))
    assert torch.allclose(last(x), torch.relu(x @ weights[0][0].T + weights[0][1]))


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    made = nn.Linear(weight.shape[1], weight.shape[0])
    made.load_state_dict({"weight": weight, "bias": bias})
    return made


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Linear(4, n) for n in (4, 4, 3))

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.a(x))
        return self.c(h + torch.relu(self.b(h)))


def test_what_goes_around_a_bypassed_layer_stays() -> None:
    module = Residual().eval()
    with torch.no_grad():
        for k, parameter in enumerate(module.parameters()):
            parameter.copy_(inputs(1, parameter.numel(), k).reshape(parameter.shape))
    net, x = load(module, example=torch.zeros(1, 4)), inputs(12, 4)
    without = bypassed(net, 1)
    assert without is not None
    with torch.no_grad():
        h = torch.relu(module.a(x))
        assert torch.allclose(without(x), module.c(2 * h), atol=1e-5)


def test_scores_are_those_of_their_formulas() -> None:
    net, x = dense(layers([5, 9, 30, 3])), inputs(40, 5)
    first, second = layer_usefulness(net, x).table
    p = patterns(net, x)
    bits = [p.pieces(k).double() for k in (0, 1)]
    before, behind = (torch.cdist(b, b).square().round().numpy() for b in bits)
    plain = torch.cdist(x.double(), x.double()).square().numpy()
    assert first.distance_change == pytest.approx(1 - alignment(plain, before))
    assert second.distance_change == pytest.approx(1 - alignment(before, behind))
    rows = [wasserstein_distance(np.delete(before[i], i) / 9, np.delete(behind[i], i) / 30) for i in range(40)]
    assert second.pattern_change == pytest.approx(np.mean(rows))


def test_without_labels_changed_decisions_stand_for_accuracy(trained: Any) -> None:
    weights, x, y = trained
    net = dense(weights)
    plain, labelled = layer_usefulness(net, x, compared=50), layer_usefulness(net, x, y, compared=50)
    assert plain.accuracy is None
    assert all(line.accuracy_lost is None for line in plain.table)
    assert [a.decisions_changed for a in plain.table] == [b.decisions_changed for b in labelled.table]
    own = net(x).argmax(1)
    again = layer_usefulness(net, x, own, compared=50)
    assert (again.accuracy, again.table[1].accuracy_lost) == (1.0, again.table[1].decisions_changed)


def test_correlations_are_over_the_layers_that_have_both() -> None:
    net, x = dense(layers([6, 6, 6, 6, 6, 4])), inputs(60, 6)
    found = layer_usefulness(net, x)
    table = [(line.distance_change, line.decisions_changed) for line in found.table]
    assert found.correlations()["distance_change"] == pytest.approx(np.corrcoef(np.array(table).T)[0, 1])
    assert layer_usefulness(dense(layers([6, 6, 6, 4])), x).correlations() == {"distance_change": None, "pattern_change": None}


def test_outputs_that_are_no_classes_leave_the_scores_alone() -> None:
    found = layer_usefulness(dense(layers([3, 4, 4, 1])), inputs(10, 3))
    assert [(line.accuracy_lost, line.decisions_changed) for line in found.table] == [(None, None)] * 2
    assert found.table[1].distance_change is not None


def test_a_dead_layer_has_no_alignment() -> None:
    dead = (torch.zeros(4, 4), -torch.ones(4))
    first, last = layer_usefulness(dense([*layers([3, 4]), dead, *layers([4, 2])]), inputs(10, 3)).table
    assert first.distance_change is not None
    assert last.distance_change is None
    assert last.pattern_change is not None


def test_batches_change_nothing(trained: Any) -> None:
    weights, x, y = trained
    net = dense(weights).double()
    one, two = (layer_usefulness(net, x.double(), y, compared=60, batch_size=b) for b in (17, None))
    assert one.table == two.table
    assert layer_usefulness(net, x.double(), y, compared=60, seed=1).table != one.table


def test_results_speak_and_draw(trained: Any) -> None:
    weights, x, y = trained
    found = layer_usefulness(dense(weights), x, y, compared=50)
    assert isinstance(found, LayerUsefulness)
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["layers"][1]["name"] == found.table[1].name
    assert "accuracy lost" in found.summary()
    assert len(found.plot().patches) == 9
    assert len(layer_usefulness(dense(weights), x, compared=50).plot().patches) == 9


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda net: layer_usefulness(net, inputs(3, 3)), InputError, "4 inputs or more; got 3"),
        (lambda net: layer_usefulness(net, inputs(1, 3)[0]), InputError, "got 1"),
        (lambda net: layer_usefulness(net, inputs(5, 3), [0, 1, 2, 0, 1]), InputError, "0 to 1; got 0 to 2"),
        (lambda net: layer_usefulness(net, inputs(5, 3), [0, 1]), ShapeError, "one for each of 5"),
        (lambda net: layer_usefulness(net, inputs(5, 4)), ShapeError, "expected shape"),
        (lambda net: layer_usefulness(net, inputs(5, 3), compared=0), InputError, "compared"),
    ],
)
def test_what_cannot_be_answered_is_refused_with_words(call: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        call(dense(layers([3, 4, 2])))
