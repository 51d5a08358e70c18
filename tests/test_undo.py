"""Single steps undone: what rounding leaves open, and what operators without a rank prove."""

from __future__ import annotations

import torch
from torch import nn

from polylens import invert, load


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
