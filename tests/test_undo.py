"""Single steps undone: what rounding leaves open, and what operators without a rank prove."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from polylens import invert, load
from polylens._inverse.links import links


def test_values_that_may_lie_below_0_but_for_rounding_have_no_only_input_behind_a_gelu() -> None:
    module = nn.Sequential(nn.GELU(), nn.Linear(1, 1)).double()
    with torch.no_grad():
        module[1].weight.fill_(1.0)
        module[1].bias.fill_(1000.0)
    net = load(module, torch.zeros(1, 1, dtype=torch.float64)).double()
    near, far = (invert(net, net(torch.tensor([z], dtype=torch.float64)).float()) for z in (1e-4, 1.0))
    assert near.obstacle is not None
    assert near.obstacle.reason == "folded"
    assert far.kind == "unique"


@pytest.mark.parametrize("outputs", [3, 8])
def test_what_one_of_many_solutions_of_an_operator_meets_proves_nothing(monkeypatch: pytest.MonkeyPatch, outputs: int) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(outputs, 3, generator=generator, dtype=torch.float64)
    weight = weight @ torch.randn(3, 8, generator=generator, dtype=torch.float64)  # of rank 3, which operators do not tell
    module = nn.Sequential(nn.Sigmoid(), nn.Linear(8, outputs, bias=False)).double()
    with torch.no_grad():
        module[1].weight.copy_(weight)
    net = load(module, torch.zeros(1, 8, dtype=torch.float64)).double()
    x = 3 * torch.randn(20, 8, generator=generator, dtype=torch.float64)
    monkeypatch.setattr("polylens._inverse.affine._DENSE", 0.0)  # as for layers too large for a matrix
    back = invert(net, net(x), starts=0)
    solved = (weight @ (torch.linalg.pinv(weight) @ net(x).T)).T
    assert torch.allclose(solved, net(x))  # the least solutions are there, and some lie outside of the sigmoid's range
    assert set(back.kinds) == {"undecided"}
    if outputs < 8:
        assert {o.reason for o in back.obstacles if o is not None} == {"rank"}


def test_padding_with_a_constant_is_no_rearrangement() -> None:
    class Shift(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.pad(x, (1, -1), value=1.0)

    class Turn(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.roll(1, 1)

    example = torch.zeros(1, 4, dtype=torch.float64)
    shift, turn = (links(load(nn.Sequential(module, nn.ReLU()), example))[0].kind for module in (Shift(), Turn()))
    assert (shift, turn) == ("affine", "rearrangement")
