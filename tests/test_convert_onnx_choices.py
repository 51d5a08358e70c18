"""Comparisons and choices of ONNX models: against onnxruntime, at the places too where a choice changes, and in rationals."""

from __future__ import annotations

import logging
import warnings
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from polylens import load
from polylens.convert._piecewise import IDENTITY, SIGN, Piecewise, constant, spike, step
from polylens.convert.onnx import from_onnx
from polylens.errors import UnsupportedError
from polylens.gates import Gate
from test_convert_onnx import Case, assert_affine_near, assert_touches, disagreement, expected

HALF = {"h": np.float32(0.5), "m": np.float32(-0.5), "o": np.float32(0)}
PLACES = np.array([[-2, -1, -0.5, np.nextafter(np.float32(-0.5), np.float32(0))], [-0.25, 0, 0.25, 0.5]], dtype=np.float32)
MORE = np.array([[np.nextafter(np.float32(0.5), np.float32(1)), 0.75, 1, 2], [1e-30, -1e-30, 30, -30]], dtype=np.float32)
X = np.concatenate([PLACES, MORE, np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)])
CASES = {
    "leaky": "c = Greater(x, o) a = Mul(x, h) y = Where(c, x, a)",
    "leaky the other way round": "c = Less(x, o) a = Mul(x, h) y = Where(c, a, x)",
    "the constant first": "c = GreaterOrEqual(o, x) a = Mul(x, h) y = Where(c, a, x)",
    "threshold": "c = LessOrEqual(x, h) y = Where(c, m, x)",
    "threshold from above": "c = Less(x, h) y = Where(c, m, x)",
    "hard shrink by its size": "s = Abs(x) c = LessOrEqual(s, h) y = Where(c, o, x)",
    "hard shrink by both sides": "g = Greater(x, h) l = Less(x, m) c = Or(g, l) y = Where(c, x, o)",
    "hard shrink by and": "g = LessOrEqual(x, h) l = GreaterOrEqual(x, m) c = And(g, l) y = Where(c, o, x)",
    "hard shrink by not": "g = Greater(x, h) l = Less(x, m) c = Or(g, l) n = Not(c) y = Where(n, o, x)",
    "soft shrink by the sign": "s = Abs(x) c = Greater(s, h) g = Sign(x) w = Mul(g, h) a = Sub(x, w) y = Where(c, a, o)",
    "soft shrink in two": "g = Greater(x, h) a = Sub(x, h) p = Where(g, a, o) l = Less(x, m) b = Add(x, h) q = Where(l, b, o)"
    " y = Add(p, q)",
    "clip": "g = Greater(x, h) a = Where(g, h, x) l = Less(x, m) y = Where(l, m, a)",
    "size by the sign": "g = Sign(x) a = Mul(g, x) c = Greater(a, h) y = Where(c, a, h)",
    "behind a relu": "r = Relu(x) c = Greater(r, h) y = Where(c, r, o)",
    "cast to numbers and back": "g = Greater(x, h) a = Cast <to = 1> (g) c = Cast <to = 9> (a) y = Where(c, x, o)",
    "between two functions of one value": "a = Mul(x, h) b = Neg(x) c = Greater(a, b) y = Where(c, a, b)",
    "between constants": "c = Greater(x, h) y = Where(c, h, m)",
    "always": "s = Abs(x) c = GreaterOrEqual(s, o) y = Where(c, x, h)",
}


def model(nodes: str) -> Case:
    return Case(nodes, weights={name: value for name, value in HALF.items() if f" {name}" in nodes or f"({name}" in nodes})


@pytest.mark.parametrize("name", CASES)
def test_a_choice_agrees_with_the_runtime_wherever_it_changes(name: str) -> None:
    case = model(CASES[name])
    net = from_onnx(case.model(), "hand-built")
    assert disagreement(net(torch.from_numpy(X)), expected(case.model(), X)) <= 1e-7
    assert net.is_piecewise_linear
    assert_affine_near(net, torch.from_numpy(X[4:]))


def test_a_choice_is_one_gate_of_the_value_that_is_compared() -> None:
    net = from_onnx(model("r = Relu(x) s = Abs(r) c = Greater(s, h) y = Where(c, r, o)").model(), "hand-built")
    gates = [node.step for node in net.nodes if isinstance(node.step, Gate)]
    assert [gate.kind for gate in gates] == ["relu", "where"]
    assert gates[1].breakpoints.reshape(-1).tolist() == [-0.5, 0.5]


SOFT = "s = Softplus(z) c = Greater(z, t) "
SOFTPLUS = {
    "plain": ("z = Identity(x) " + SOFT + "y = Where(c, z, s)", {"t": np.float32(20)}, 1.0),
    "sharper": ("z = Mul(x, b) " + SOFT + "d = Div(s, b) y = Where(c, x, d)", {"t": np.float32(20), "b": np.float32(2)}, 2.0),
    "softer": ("z = Mul(x, b) " + SOFT + "d = Div(s, b) y = Where(c, x, d)", {"t": np.float32(4), "b": np.float32(0.25)}, 0.25),
}


@pytest.mark.parametrize("name", SOFTPLUS)
def test_softplus_with_a_threshold_is_one_smooth_step(name: str) -> None:
    nodes, weights, beta = SOFTPLUS[name]
    case = Case(nodes, weights=weights)
    net = from_onnx(case.model(), "hand-built")
    assert [node.step.kind for node in net.nodes if node.step.kind != "scale"] == ["softplus"]
    assert disagreement(net(torch.from_numpy(X)), expected(case.model(), X)) <= 1e-6
    soft = nn.functional.softplus(torch.from_numpy(X).double(), beta, float(weights["t"]))
    assert (net.double()(torch.from_numpy(X).double()) - soft).abs().max() <= 1e-12
    assert_touches(net, torch.from_numpy(X))


MODULES = {
    "softplus": nn.Softplus(),
    "softplus of its own": nn.Softplus(2.0, 10.0),
    "threshold": nn.Threshold(0.1, -0.3),
    "hard shrink": nn.Hardshrink(0.2),
    "soft shrink": nn.Softshrink(0.3),
}


@pytest.mark.slow
@pytest.mark.parametrize("dynamo", [False, True])
@pytest.mark.parametrize("name", MODULES)
def test_a_file_that_torch_exports_is_its_module(name: str, dynamo: bool, tmp_path: Path) -> None:
    if name == "threshold" and not dynamo:
        pytest.skip("the older exporter knows no threshold but 0")
    logging.disable(logging.CRITICAL)
    torch.manual_seed(0)
    module, x = nn.Sequential(nn.Linear(6, 8), MODULES[name], nn.Linear(8, 3)).eval(), torch.randn(50, 6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporters' own
        torch.onnx.export(module, (x[:2],), tmp_path / "m.onnx", dynamo=dynamo, verbose=False)
    logging.disable(logging.NOTSET)
    net = load(tmp_path / "m.onnx")
    with torch.no_grad():
        assert (net(x) - module(x)).abs().max() <= 1e-5
    inside = load(module, x)
    assert net.is_piecewise_linear == inside.is_piecewise_linear
    assert net.num_units == inside.num_units or not dynamo


REFUSED = {
    "a comparison as output": ("c = Greater(x, h) y = Cast <to = 1> (c)", r"Greater 'c' \(node 0 of 2\): jumps with its input"),
    "a product by a comparison": ("c = Greater(x, h) a = Cast <to = 1> (c) b = Exp(a) y = Mul(b, x)", r"Greater 'c' \(node 0"),
    "one point": ("c = Equal(x, h) y = Where(c, m, x)", "has a value at one point"),
    "several values": ("r = ReduceSum <keepdims = 1> (x, i) c = Greater(x, r) y = Where(c, x, o)", "several values"),
    "another value": ("r = Sin(x) c = Greater(x, h) y = Where(c, r, o)", "several values of the network"),
    "several constants": ("c = Greater(x, v) y = Where(c, x, o)", "not one finite number"),
    "infinity": ("c = Greater(x, h) y = Where(c, x, n)", "not one finite number"),
    "a square": ("c = Sign(x) a = Mul(c, x) b = Mul(c, a) d = Mul(c, x) e = Sub(c, x) y = Mul(e, b)", "jumps with its input"),
    "a rounded sign": ("g = Sign(x) a = Mul(g, h) b = Cast <to = 7> (a) c = Cast <to = 1> (b) y = Mul(c, x)", "jumps"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_choice_of_one_value_is_refused_with_the_way_out(name: str) -> None:
    nodes, words = REFUSED[name]
    extra = {"v": np.arange(4.0), "n": np.float32(-np.inf), "i": np.array([1])}
    case = Case(nodes, weights=model(nodes).weights | {k: v for k, v in extra.items() if f" {k})" in nodes})
    with pytest.raises(UnsupportedError, match=words) as caught:
        from_onnx(case.model(), "model.onnx")
    assert str(caught.value).startswith("model.onnx: ")
    assert ";" in str(caught.value)


# -- in rationals

SMALL = st.integers(-4, 4).map(lambda k: Fraction(k, 2))


@st.composite
def functions(draw: st.DrawFn) -> Piecewise:
    knots = sorted(draw(st.sets(SMALL, max_size=3)))
    parts = [(draw(SMALL), draw(SMALL)) for _ in range(len(knots) + 1)]
    return Piecewise(tuple(knots), tuple(parts), tuple(draw(SMALL) for _ in knots))


@given(functions(), functions(), st.lists(SMALL.map(lambda v: v * 3 / 5) | SMALL, min_size=1, max_size=8))
def test_functions_are_added_multiplied_and_put_behind_one_another_point_by_point(
    f: Piecewise, g: Piecewise, points: list[Fraction]
) -> None:
    product = f.times(g)
    for x in [*points, *f.knots, *g.knots]:
        assert (f + g).at(x) == f.at(x) + g.at(x)
        assert product is None or product.at(x) == f.at(x) * g.at(x)
        assert f.behind(g).at(x) == f.at(g.at(x))
        assert f.simplified().at(x) == f.at(x)
        assert f.scaled(Fraction(3, 2)).at(x) == f.at(x) * 3 / 2


@given(functions(), st.lists(SMALL | SMALL.map(lambda v: v * 5 / 7), max_size=6))
def test_a_function_with_further_knots_is_the_same(f: Piecewise, points: list[Fraction]) -> None:
    fine = f.refined(points)
    assert set(fine.knots) == {*f.knots, *points}
    assert all(fine.at(x) == f.at(x) for x in [*points, *f.knots, *(x + Fraction(1, 9) for x in points)])
    assert fine.simplified() == f.simplified()


def test_the_side_of_a_knot_that_has_its_value_is_known() -> None:
    assert step(Fraction(0)).inclusive() == ()
    assert step(Fraction(1)).inclusive() == (0,)
    assert SIGN.inclusive() is None
    assert spike().simplified().inclusive() is None
    assert (SIGN + step(Fraction(1)).scaled(Fraction(-2))).at(Fraction(0)) == -2
    assert IDENTITY.times(IDENTITY) is None
    assert constant(Fraction(3)).behind(SIGN).simplified() == constant(Fraction(3))
