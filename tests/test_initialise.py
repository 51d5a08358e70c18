"""Initialisation from data: variances and shares as asked for, in every layer, and modules left as they were on mistakes."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from polylens import initialise, load, patterns
from polylens.errors import InputError


def chain(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 3))


def inputs(count: int = 400, n: int = 8) -> torch.Tensor:
    return torch.rand(count, n, generator=torch.Generator().manual_seed(1)) + 2


@pytest.mark.parametrize("active", [0.1, 0.5, 0.9])
def test_every_unit_has_the_variance_and_fires_as_often_as_asked(active: float) -> None:
    module, x = chain(), inputs()
    found = initialise(module, x, variance=2.0, active=active)
    assert [row.name for row in found.layers] == ["0", "2"]
    frequencies = patterns(load(module), x).frequencies()
    for k, row in enumerate(found.layers):
        assert row.variance == pytest.approx(2.0, rel=1e-4)  # weights are float32
        shares = frequencies.active(k)
        assert float((shares - active).abs().max()) <= 1 / len(x) + 1e-9


def test_directions_stay_and_the_last_layer_is_left_alone_unless_asked_for() -> None:
    module = chain()
    before = copy.deepcopy(module)
    initialise(module, inputs())
    for one, other in ((module[0], before[0]), (module[2], before[2])):
        cosine = nn.functional.cosine_similarity(one.weight, other.weight)
        assert bool((cosine > 1 - 1e-5).all())
    assert torch.equal(module[4].weight, before[4].weight)
    assert len(initialise(module, inputs(), last=True).layers) == 3


def test_channels_of_convolutions_are_units_over_all_positions() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 6, 2, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(24, 2)
    )
    x = torch.rand(50, 1, 5, 5, generator=torch.Generator().manual_seed(1))
    found = initialise(module, x, variance=1.0, active=0.5)
    z = module[0](x).transpose(0, 1).flatten(1)
    torch.testing.assert_close(z.var(1, correction=0), torch.ones(4), rtol=1e-4, atol=0)
    assert found.layers[0].active == pytest.approx(0.5, abs=0.01)
    assert found.layers[1].variance == pytest.approx(1.0, rel=1e-4)  # which has no bias to shift


def test_none_leaves_weights_or_biases_as_they_are() -> None:
    module = chain()
    weight, bias = module[0].weight.clone(), module[0].bias.clone()
    initialise(module, inputs(), variance=None)
    assert torch.equal(module[0].weight, weight)
    assert not torch.equal(module[0].bias, bias)
    bias = module[0].bias.clone()
    initialise(module, inputs(), active=None)
    assert torch.equal(module[0].bias, bias)


def test_units_that_do_not_move_are_counted_and_left_alone() -> None:
    module = chain()
    with torch.no_grad():
        module[0].weight[3] = 0
    found = initialise(module, inputs())
    assert found.layers[0].constant == 1
    assert bool((module[0].weight[3] == 0).all())
    assert "1 constant" in found.summary()


@pytest.mark.parametrize("n", [7, 77, 300])
def test_units_that_move_by_rounding_alone_are_constant(n: int) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(n, 50), nn.ReLU(), nn.Linear(50, 40), nn.ReLU(), nn.Linear(40, 2))
    before = copy.deepcopy(module.state_dict())
    found = initialise(module, torch.full((513, n), 0.1))  # the last input makes a chunk of its own, which rounds otherwise
    assert [row.constant for row in found.layers] == [50, 40]
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())


def test_large_biases_take_no_digits_from_what_is_set() -> None:
    module = chain()
    with torch.no_grad():
        module[0].bias.fill_(1e8)  # float32 there is spaced by 8
    row = initialise(module, inputs()).layers[0]
    assert (row.active, row.constant) == (0.5, 0)
    assert row.variance == pytest.approx(1.0, rel=1e-4)  # weights are float32


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_modules_of_other_precisions_are_set(dtype: torch.dtype) -> None:
    found = initialise(chain().to(dtype), torch.randn(400, 8, generator=torch.Generator().manual_seed(2)))
    assert [row.constant for row in found.layers] == [0, 0]
    for row in found.layers:
        assert row.variance == pytest.approx(1.0, rel=2 * torch.finfo(dtype).eps)  # weights are rounded to the type
        assert row.active == pytest.approx(0.5, abs=0.01)  # and biases


def test_no_hook_and_no_change_of_mode_stay() -> None:
    module = chain().train()
    module[1].eval()
    initialise(module, inputs())
    assert module.training
    assert not module[1].training
    assert not any(part._forward_hooks for part in module.modules())


@pytest.mark.parametrize("wrong", [{"active": 0.0}, {"active": 1.0}, {"variance": 0.0}, {"variance": float("inf")}])
def test_mistakes_leave_the_module_as_it_was(wrong: dict[str, float]) -> None:
    module = chain()
    before = copy.deepcopy(module.state_dict())
    with pytest.raises(InputError, match="expected"):
        initialise(module, inputs(), **wrong)
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())


def test_a_module_without_layers_to_set_is_refused() -> None:
    with pytest.raises(InputError, match="last=True"):
        initialise(nn.Sequential(nn.Linear(8, 2)), inputs())


def test_weights_that_weight_norm_makes_are_refused_and_initialised_ones_can_get_it() -> None:
    module = chain()
    nn.utils.parametrizations.weight_norm(module[0])
    with pytest.raises(InputError, match="put it on afterwards"):
        initialise(module, inputs())
    module = chain()
    initialise(module, inputs())
    before = module(inputs())
    nn.utils.parametrizations.weight_norm(module[0])
    torch.testing.assert_close(module(inputs()), before)
