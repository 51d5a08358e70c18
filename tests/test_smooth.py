"""Smooth steps: where they have a derivative, and the first-order maps that they are there."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from polylens.smooth import Smooth


@pytest.mark.parametrize(
    ("step", "good", "bad"),
    [
        (Smooth("sqrt", torch.sqrt, elementwise=True), [1.0, 4.0], [4.0, 0.0]),
        (Smooth("log", torch.log, elementwise=True), [1.0, 4.0], [4.0, -1.0]),
        (Smooth("pow", torch.pow, {"exponent": -1.0}, elementwise=True), [1.0, -4.0], [1.0, 0.0]),
        (Smooth("vector norm", lambda z: z.pow(2).sum(1, True).sqrt()), [1.0, 0.0], [0.0, 0.0]),
        (Smooth("tanh", torch.tanh, elementwise=True, signed=True), [0.0, 100.0], None),
    ],
    ids=lambda v: v.kind if isinstance(v, Smooth) else None,
)
def test_a_step_is_differentiable_where_value_and_every_derivative_are_finite(
    step: Smooth, good: list[float], bad: list[float] | None
) -> None:
    assert step.is_differentiable(torch.tensor([good, good]))
    assert bad is None or not step.is_differentiable(torch.tensor([good, bad]))


def test_two_inputs_are_differentiated_together() -> None:
    divide = Smooth("divide", torch.div)
    one, zero = torch.ones(1, 2), torch.tensor([[0.0, 1.0]])
    assert divide.is_differentiable(zero, one)
    assert not divide.is_differentiable(one, zero)


@pytest.mark.parametrize("elementwise", [True, False])
def test_columns_and_rows_are_the_derivative_and_its_transpose(elementwise: bool) -> None:
    z = torch.tensor([[0.5, -1.0], [2.0, 0.0]], dtype=torch.float64)
    here = Smooth("sin", torch.sin, elementwise=elementwise).at(z)
    slope: Tensor = torch.diag_embed(torch.cos(z))
    eye = torch.eye(2, dtype=torch.float64).expand(2, 2, 2)
    assert torch.allclose(here.columns(eye), slope)
    assert torch.allclose(here.rows(eye, [(2,)])[0], slope)
    assert torch.allclose(here.offset(z), torch.sin(z))
