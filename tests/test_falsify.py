"""Ascents to witnesses: what they return lies in the box and in the set, and a verdict counts it only when it is confirmed."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from torch import Tensor

from polylens import Argmax, Box, Network, count_regions, dense, load, original, parse_vnnlib, preimage, verify
from polylens._falsify import Ascents
from polylens.errors import GeometryError


def double(values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def ascents(net: Network, low: list[float], high: list[float], above: float) -> Ascents:
    return Ascents(net.double(), double(low), double(high), lambda y: y[:, 0] - above)


def drawn(*widths: int) -> Network:
    random = torch.Generator().manual_seed(0)
    pairs = itertools.pairwise(widths)
    return dense([(torch.randn(m, n, generator=random).double() / n**0.5, torch.randn(m, generator=random)) for n, m in pairs])


def test_a_narrow_peak_is_climbed_from_anywhere_in_the_box() -> None:
    tent = dense([([[1.0, 0.0], [-1.0, 0.0]], [-0.3, 0.3]), ([[-1.0, -1.0]], [0.0])])  # -|x - 0.3|
    found = ascents(tent, [-1.0, -1.0], [1.0, 1.0], -1e-3).next_round()
    assert len(found)
    assert float((found[:, 0] - 0.3).abs().max()) <= 1e-3 * (1 + 1e-6)
    assert bool((found.abs() <= 1).all())


def test_what_cannot_be_reached_is_never_returned() -> None:
    square = dense([([[1.0], [-1.0]], [0.0, 0.0]), ([[1.0, 1.0]], [0.0])])  # |x|
    search = ascents(square, [-1.0], [2.0], 2.0 + 1e-9)
    assert [len(search.next_round()) for _ in range(3)] == [0, 0, 0]
    assert len(ascents(square, [-1.0], [2.0], 2.0).next_round())  # the corner itself is


def test_later_rounds_start_around_the_deepest_points_and_keep_them() -> None:
    net = drawn(4, 30, 30, 1)
    search = ascents(net, [-2.0] * 4, [2.0] * 4, 0.0)
    depths = []
    for _ in range(3):
        search.next_round()
        depths.append(float(search._deepest[1].max()))
    assert depths == sorted(depths)


def test_a_witness_near_the_highest_output_is_found_and_confirmed() -> None:
    net, side = drawn(4, 40, 40, 1), "".join(f"(declare-const X_{i} Real)(assert (<= -2 X_{i} 2))" for i in range(4))
    search = ascents(net, [-2.0] * 4, [2.0] * 4, -1e9)
    highest = float(net.double()(search.next_round()).max())
    asked = parse_vnnlib(side + f"(declare-const Y_0 Real)(assert (>= Y_0 {highest - 1e-4:.6f}))")
    found = verify(net, asked)
    assert found.verdict == "sat"
    assert found.witness is not None
    assert float(net.to(dtype=torch.float32)(found.witness.input[None])) >= float(f"{highest - 1e-4:.6f}")
    none = verify(net, parse_vnnlib(side + f"(declare-const Y_0 Real)(assert (>= Y_0 {highest + 20:.6f}))"))
    assert none.verdict == "unsat"


SIDES = [(-0.328422877, 0.679857769), (-0.499999896, 0.499999896), (-0.499999896, 0.499999896), (-0.5, 0.5), (-0.5, 0.5)]


@pytest.mark.slow
def test_a_witness_far_ahead_of_the_cells_is_found_by_ascents(data: Path) -> None:
    """Property 7 of ACAS Xu on network 1_9: 1.1 million cells are looked at before one of them holds a witness."""
    text = "".join(f"(declare-const X_{i} Real)(assert (<= {low} X_{i} {high}))" for i, (low, high) in enumerate(SIDES))
    text += "".join(f"(declare-const Y_{i} Real)" for i in range(5))
    strong = ("".join(f"(<= Y_{k} Y_{j})" for j in range(3)) for k in (3, 4))
    source = data / "acasxu" / "onnx" / "ACASXU_run2a_1_9_batch_2000.onnx"
    net = load(source)
    found = verify(net, parse_vnnlib(text + "(assert (or " + "".join(f"(and {rows})" for rows in strong) + "))"))
    assert found.verdict == "sat"
    assert found.cells < 200_000
    assert found.witness is not None
    y = original(source, net)(found.witness.input[None]).reshape(-1)
    assert float(y[3:].min()) <= float(y[:3].min())


def test_more_dimensions_than_can_be_subdivided_name_what_to_do_instead() -> None:
    net, wide = drawn(17, 3, 2), Box([-1.0] * 17, [1.0] * 17)
    text = "".join(f"(declare-const X_{i} Real)(assert (<= -1 X_{i} 1))" for i in range(17))
    text += "(declare-const Y_0 Real)(declare-const Y_1 Real)(assert (<= Y_0 Y_1))"
    for ask in (
        lambda: preimage(net, Argmax(0), wide),
        lambda: verify(net, parse_vnnlib(text)),
        lambda: count_regions(net, wide),
    ):
        with pytest.raises(GeometryError, match=r"at most 16 dimensions.*got 17.*plane.*compose.*preimage_near"):
            ask()
