"""VNN-LIB 2.0 against the same property in 1.0, against a naive evaluator, and what it cannot say here."""

from __future__ import annotations

import itertools
import math
import re
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from polylens import Property, dense, load, parse_vnnlib, read_vnnlib, verify
from polylens.errors import FileError, ShapeError
from test_vnnlib import Formula, formulas, holds, written

VERSION = "(vnnlib-version <2.0>)\n"


def network(inputs: str = "(declare-input X Real [2])", outputs: str = "(declare-output Y Real [1])") -> str:
    return f"(declare-network f\n  {inputs}\n  {outputs})\n"


def read(
    *assertions: str, inputs: str = "(declare-input X Real [2])", outputs: str = "(declare-output Y Real [1])"
) -> Property:
    return parse_vnnlib(VERSION + network(inputs, outputs) + "\n".join(f"(assert {a})" for a in assertions))


# -- what is understood


def test_an_entry_is_counted_from_0_and_row_by_row() -> None:
    found = read(
        "(<= X[0,0,0] 1)",
        "(<= X[0,0,2] 3)",
        "(<= X[0,1,0] 4)",
        "(>= X[0,1,2] 6)",
        "(<= Y[1,0] 0)",
        inputs="(declare-input X float32 [1,2,3])",
        outputs="(declare-output Y float32 [2,2])",
    )
    (case,) = found.cases
    assert (found.num_inputs, found.num_outputs) == (6, 4)
    assert case.high.tolist() == [1, math.inf, 3, 4, math.inf, math.inf]
    assert case.low.tolist() == [-math.inf] * 5 + [6]
    assert case.outputs.matrix.tolist() == [[0, 0, 1, 0]]


def test_several_inputs_and_outputs_lie_one_after_the_other() -> None:
    found = read(
        "(<= A[1] 2)",
        "(<= B 3)",
        "(>= C[1,1] 7)",
        "(<= (+ U[0] (* 2 V[1])) 5)",
        inputs="(declare-input A Real [2]) (declare-input B Real []) (declare-input C Real [2,2])",
        outputs='(declare-output U Real [1] "first") (declare-output V Real [2] "second")',
    )
    (case,) = found.cases
    assert case.high.tolist() == [math.inf, 2, 3, math.inf, math.inf, math.inf, math.inf]
    assert case.low.tolist() == [-math.inf] * 6 + [7]
    assert case.outputs.matrix.tolist() == [[1, 0, 2]]
    assert [(t.name, t.element_type, t.shape, t.node) for t in (*found.inputs, *found.outputs)] == [
        ("A", "Real", (2,), None),
        ("B", "Real", (), None),
        ("C", "Real", (2, 2), None),
        ("U", "Real", (1,), "first"),
        ("V", "Real", (2,), "second"),
    ]
    assert found.to_dict()["outputs"][0] == {"name": "U", "element_type": "Real", "shape": (1,), "node": "first"}


def test_an_equality_is_two_inequalities_and_both_count() -> None:
    for sign in ("==", "="):
        (case,) = read(f"({sign} X[0] 0.5)", f"({sign} Y[0] (+ 1 1))").cases
        assert (case.low[0], case.high[0]) == (0.5, 0.5)
        assert (case.outputs.matrix.tolist(), case.outputs.bound.tolist()) == ([[1.0], [-1.0]], [2.0, -2.0])
        assert not any(bool(mask.any()) for mask in case.strict)


def test_what_is_unequal_lies_strictly_on_either_side() -> None:
    found = read("(<= 0 X[0])", "(<= X[0] 2)", "(!= X[0] 1)", "(!= Y[0] 0)")
    assert len(found.cases) == 4
    assert found.strict
    x = [[0.0, 0.0], [1.0, 0.0], [2.0, 0.0], [0.5, 0.0]]
    assert found.contains(x, [[1.0], [1.0], [-1.0], [0.0]]).tolist() == [True, False, True, False]
    assert read("(!= 1 2)").cases
    assert not read("(!= (- X[0] X[0]) 0)").cases


def test_strict_stays_strict() -> None:
    found = read("(< X[0] 1)", "(> Y[0] 0)")
    (case,) = found.cases
    assert (case.strict.high.tolist(), case.strict.outputs.tolist()) == ([True, False], [True])
    assert found.contains([[1.0, 0.0], [0.0, 0.0], [0.0, 0.0]], [[1.0], [0.0], [1.0]]).tolist() == [False, False, True]


def test_assertions_hold_together_wherever_they_stand() -> None:
    found = read("(<= X[0] 3)", "(or (<= X[0] 1) (<= Y[0] 2))", "(>= X[0] 0)", "(<= X[0] 2)")
    assert [case.high[0].item() for case in found.cases] == [1.0, 2.0]
    assert all(case.low[0] == 0 for case in found.cases)


@pytest.mark.parametrize("spelling", ["X[0,1]", "X[0, 1]", "X [0,1]", "X[ 0 , 1 ]", "X\n  [0,\n1]", "X[00,01]", "X\r[0,1]"])
def test_blanks_do_not_matter_in_indices(spelling: str) -> None:
    (case,) = read(f"(<= {spelling} 1)", inputs="(declare-input X Real [ 1 ,2 ])").cases
    assert case.high.tolist() == [math.inf, 1.0]


def test_comments_names_and_line_ends_are_read_as_in_version_1() -> None:
    text = VERSION + '; (assert (<= X[0] -5)) [\n(declare-network my_net1 ; of [2\n (declare-input In_put Real [2] "a ( ; [b")'
    text += "\n(declare-output o2 real [])) ; c\n(assert ; d\n(and (<= In_put[1] 1e0) (>= o2 2)))\n"
    for end in ("\n", "\r\n", "\r"):
        found = parse_vnnlib(text.replace("\n", end))
        assert found.cases[0].high.tolist() == [math.inf, 1.0]
        assert found.inputs[0].node == "a ( ; [b"


@pytest.mark.parametrize("version", ["<2.0>", "2.0", "<2.3>", None])
def test_a_text_of_version_2_says_so_or_declares_a_network(version: str | None) -> None:
    text = network() + "(assert (<= X[1] 1))"
    found = parse_vnnlib(text if version is None else f"(vnnlib-version {version}){text}")
    assert found.cases[0].high.tolist() == [math.inf, 1.0]


def test_a_text_of_version_1_may_say_so() -> None:
    text = "(vnnlib-version <1.0>)(declare-const X_0 Real)(declare-const Y_0 Real)(assert (<= X_0 1))"
    found = parse_vnnlib(text)
    assert (found.cases[0].high.tolist(), found.inputs) == ([1.0], ())


@pytest.mark.parametrize("kind", ["Real", "real", "float16", "bfloat16", "float32", "float64"])
def test_tensors_of_real_numbers_are_read_over_the_real_numbers(kind: str) -> None:
    found = read("(<= X[0] 0.1)", inputs=f"(declare-input X {kind} [2])")
    assert (found.cases[0].high[0], found.inputs[0].element_type) == (0.1, kind)


# -- against version 1.0


def translated(text: str, shapes: dict[str, tuple[int, ...]]) -> str:
    """Return a text with X_3 written as an entry of a tensor of its kind's shape."""

    def entry(match: re.Match[str]) -> str:
        kind, number, indices = match[1], int(match[2]), list[int]()
        for size in reversed(shapes[kind]):
            number, index = divmod(number, size)
            indices.append(index)
        return f"{kind}[{','.join(map(str, reversed(indices)))}]"

    return re.sub(r"([XY])_(\d+)", entry, text)


SHAPES = {4: [(4,), (2, 2), (1, 4), (1, 2, 2), (4, 1)], 2: [(2,), (1, 2), (2, 1)], 1: [(1,), (1, 1)]}


@given(st.data(), st.sampled_from([1, 2, 4]), st.sampled_from([1, 2, 4]))
def test_a_formula_means_what_a_naive_evaluator_says(data: st.DataObject, inputs: int, outputs: int) -> None:
    asserted: list[Formula] = data.draw(st.lists(formulas(inputs, outputs), max_size=3))
    shapes = {"X": data.draw(st.sampled_from(SHAPES[inputs])), "Y": data.draw(st.sampled_from(SHAPES[outputs]))}
    declared = [f"(declare-{w} {k} Real {list(shapes[k])})" for w, k in (("input", "X"), ("output", "Y"))]
    found = read(*(translated(written(a), shapes) for a in asserted), inputs=declared[0], outputs=declared[1])
    quarters = st.integers(-8, 8).map(lambda k: Fraction(k, 4))
    for _ in range(4):
        x, y = (data.draw(st.lists(quarters, min_size=n, max_size=n)) for n in (inputs, outputs))
        wanted = all(holds(formula, {"X": x, "Y": y}) for formula in asserted)
        assert found.contains([[float(v) for v in x]], [[float(v) for v in y]]).item() == wanted


@pytest.mark.parametrize("number", range(1, 5))
def test_a_property_of_acas_xu_is_the_same_in_both_versions(data: Path, number: int) -> None:
    path = data / "acasxu" / "vnnlib" / f"prop_{number}.vnnlib"
    text = re.sub(r"\(declare-const [XY]_\d+ Real\)", "", path.read_text())
    second = parse_vnnlib(
        VERSION
        + network("(declare-input X float32 [1,1,1,5])", "(declare-output Y float32 [1,5])")
        + translated(text, {"X": (1, 1, 1, 5), "Y": (1, 5)})
    )
    assert second.to_dict()["cases"] == read_vnnlib(path).to_dict()["cases"]


# -- with a network


def test_verify_answers_a_file_of_version_2(tmp_path: Path) -> None:
    net = dense([([[1.0], [-1.0]], [0.0, 0.0]), ([[1.0, 1.0]], None)])  # |x|
    path = tmp_path / "p.vnnlib"
    for sign, bound, verdict in ((">=", 2.5, "unsat"), (">=", 1.5, "sat"), ("==", 2.0, "sat"), ("<", 0.0, "unsat")):
        declared = network("(declare-input X Real [1,1])", "(declare-output Y Real [])")
        path.write_text(f"{VERSION}{declared}(assert (and (<= -1 X[0,0]) (<= X[0,0] 2)))(assert ({sign} Y {bound}))")
        assert verify(net, path).verdict == verdict


@pytest.mark.parametrize(
    ("shape", "fits"),
    [("[1,2,3]", True), ("[2,3]", True), ("[2,1,3]", True), ("[6]", True), ("[3,2]", False), ("[1,3,2]", False)],
)
def test_a_tensor_of_another_shape_than_the_network_takes_is_refused(shape: str, fits: bool) -> None:
    """Its entries would lie in another order; a flat one is in the order that version 1.0 means."""
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(6, 1, bias=False))
    with torch.no_grad():
        module[1].weight.copy_(torch.arange(6.0))
    net = load(module.eval(), torch.zeros(2, 2, 3))
    sizes = [range(int(size)) for size in shape.strip("[]").split(",")]
    entries = [f"X[{','.join(map(str, place))}]" for place in itertools.product(*sizes)]
    bounds = [f"(and (<= 0 {entry}) (<= {entry} {k}))" for k, entry in enumerate(entries)]
    found = read(*bounds, "(>= Y[0] 54.5)", inputs=f"(declare-input X Real {shape})")
    if fits:
        verdict = verify(net, found)  # the most is 0 + 1 + 4 + 9 + 16 + 25 = 55
        assert verdict.verdict == "sat"
    else:
        with pytest.raises(ShapeError, match=r"expected an input of shape \(2, 3\), .* declares X as \((1, )?3, 2\)"):
            verify(net, found)


class Two(torch.nn.Module):
    """2 a_0 + a_1 - b."""

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (a * torch.tensor([2.0, 1.0])).sum(1, keepdim=True) - b


def test_several_inputs_are_those_that_a_network_joins() -> None:
    net = load(Two(), (torch.zeros(2, 2), torch.zeros(2, 1)))
    bounds = [f"(and (<= 0 {x}) (<= {x} 1))" for x in ("P[0,0]", "P[0,1]", "Q")]
    for first, second in (("", ""), ('"a"', '"b"')):
        tensors = f"(declare-input P Real [1,2] {first}) (declare-input Q Real [] {second})"
        for bound, verdict in ((2.5, "sat"), (3.5, "unsat")):
            assert verify(net, read(*bounds, f"(>= Y[0] {bound})", inputs=tensors)).verdict == verdict


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ('(declare-input Q Real [1] "b") (declare-input P Real [2] "a")', r"expected the inputs \['a', 'b'\], in the order"),
        ("(declare-input Q Real [1]) (declare-input P Real [2])", r"expected 'a' of shape \(2,\), .* declares Q as \(1,\)"),
        (
            "(declare-input P Real [1]) (declare-input Q Real [1]) (declare-input R Real [1])",
            "declare all of them in this order",
        ),
    ],
)
def test_inputs_in_another_order_than_the_network_joins_them_are_refused(tensors: str, words: str) -> None:
    net = load(Two(), (torch.zeros(2, 2), torch.zeros(2, 1)))
    with pytest.raises(ShapeError, match=words):
        verify(net, read("(<= Y[0] 0)", inputs=tensors))


# -- what is refused, and where


@pytest.mark.parametrize(
    ("assertion", "line", "words"),
    [
        ("(<= X[2] 1)", 5, "indices below [2], counted from 0; got 'X[2]'"),
        ("(<= X[0,0] 1)", 5, "1 index of X, which has the shape [2]; got 'X[0,0]'"),
        ("(<= X 1)", 5, "1 index of X, which has the shape [2]; got 'X'"),
        ("(<= X[] 1)", 5, "1 index of X"),
        ("(<= X[-1] 1)", 5, "an entry of a tensor, as X[0,1]; got 'X[-1]'"),
        ("(<= X[0 1] 1)", 5, "1 index of X, which has the shape [2]; got 'X[0 1]'"),
        ("(<= X[0.0] 1)", 5, "got 'X[0.0]'"),
        ("(<= X[0][1] 1)", 5, "expected indices right behind a variable"),
        ("(<= X[0 1)", 5, "expected indices right behind a variable"),
        ("(<= X_0 1)", 5, "a tensor that is declared above; got 'X_0'"),
        ("(<= Z[0] 1)", 5, "a tensor that is declared above; got 'Z[0]'"),
        ("(and (<= X[0] 1)\n(<= Y[1] 1))", 6, "indices below [1]"),
        ("(<= (* X[0] X[1]) 1)", 5, "bound the factors, or make the product an output of the model"),
        ("(<= (* X[0] X[0]) 1)", 5, "products of variables are not linear"),
        ("(<= X[1] Y[0])", 5, "got both, X[1], Y[0]; make their difference an output of the model"),
        ("(!= X[0] 1 2)", 5, "two terms that differ; got 3"),
        ("(distinct X[0] 1)", 5, "write (or ...) of < and >"),
        ("(not (<= X[0] 1))", 5, "expected and, or, <=, >=, <, >, ==, !=, =; got '(not ...)'"),
        ("(<= X[0] 1e400)", 5, "rescale the inequality"),
    ],
)  # fmt: skip
def test_a_problem_is_reported_with_its_line(assertion: str, line: int, words: str) -> None:
    with pytest.raises(FileError) as caught:
        parse_vnnlib(VERSION + network() + f"(assert {assertion})", "some.vnnlib")
    assert str(caught.value).startswith(f"some.vnnlib, line {line}: ")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def declared(*parts: str, name: str = "f") -> str:
    return f"(declare-network {name} {' '.join(parts)})"


IN, OUT = "(declare-input X Real [2])", "(declare-output Y Real [1])"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (declared(IN, OUT) + declared("(declare-input A Real [1])", "(declare-output B Real [1])", name="g"), "second one"),
        (declared("(equal-to g)", IN, OUT), "expected one network; got '(equal-to ...)', which speaks of another; join them"),
        (declared("(isomorphic-to g)", IN, OUT), "join them into one model"),
        (declared(IN, '(declare-hidden H Real [1] "n")', OUT) + "(assert (<= H[0] 1))", "a hidden value; make it an output"),
        (declared("(declare-input X int64 [2])", OUT), "real numbers, real, float16, bfloat16, float32, float64; got 'int64'"),
        (declared("(declare-input X float8e4m3fn [2])", OUT), "got 'float8e4m3fn'"),
        (declared("(declare-input X bool [2])", OUT), "state the property for a model of real numbers"),
        (declared(IN), "expected (declare-output Y Real [1,5]) in the network; got none"),
        (declared(OUT), "expected (declare-input X Real [1,5]) in the network; got none"),
        (declared(IN, "(declare-output X Real [1])"), "X is declared twice, first in line 1"),
        (declared(IN, '(declare-hidden X Real [1] "n")', OUT), "X is declared twice"),
        (declared("(declare-input X Real [0])", OUT), "between 1 and 67108864 entries; X has 0"),
        (declared("(declare-input X Real [99999,99999])", OUT), "X has 9999800001"),
        (declared("(declare-input X Real)", OUT), "a name, a type and a shape; got (declare-input X Real)"),
        (declared("(declare-input X [2] Real)", OUT), "a name, a type and a shape"),
        (declared("(declare-input X Real [2 2])", OUT), "got (declare-input X Real [2 2])"),
        (declared("(declare-input X Real [-2])", OUT), "a name, a type and a shape"),
        (declared("(declare-input X_ü Real [2])", OUT), "a name, a type and a shape"),
        (declared("(declare-input X (Real) [2])", OUT), "expected indices right behind a variable"),
        (declared("(declare-tensor X Real [2])", OUT), "expected declare-input, declare-hidden or declare-output"),
        (declared("X", IN, OUT), "expected declare-input, declare-hidden or declare-output; got 'X'"),
        (declared(IN, OUT, name="2f"), "expected a name behind declare-network"),
        ("(declare-network)", "expected a name behind declare-network"),
        (VERSION, "expected a network, as (declare-network f ...)"),
        (VERSION + "(declare-const X_0 Real)", "expected declare-network or assert; got '(declare-const ...)'; VNN-LIB 2.0"),
        ("(assert (<= X[0] 1))" + declared(IN, OUT), "a tensor that is declared above; got 'X[0]'"),
    ],
)  # fmt: skip
def test_what_cannot_be_said_here_is_refused_by_name_with_the_way_out(text: str, words: str) -> None:
    with pytest.raises(FileError) as caught:
        parse_vnnlib(text)
    assert words in str(caught.value)


def test_a_hidden_tensor_that_no_assertion_speaks_of_does_no_harm() -> None:
    text = declared(IN, '(declare-hidden H float32 [1] "n")', OUT) + "(assert (<= X[0] 1))"
    assert len(parse_vnnlib(text).inputs) == 1
