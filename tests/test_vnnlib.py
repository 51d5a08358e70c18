"""VNN-LIB texts: what they mean against a naive evaluator, what is refused and where, and the files of ACAS Xu."""

from __future__ import annotations

import gzip
import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from polylens import Box, Polytope, Property, parse_vnnlib, read_vnnlib
from polylens.errors import FileError, InputError, ShapeError


def declared(inputs: int, outputs: int) -> str:
    names = [f"X_{i}" for i in range(inputs)] + [f"Y_{i}" for i in range(outputs)]
    return "".join(f"(declare-const {name} Real)\n" for name in names)


def read(*assertions: str, inputs: int = 2, outputs: int = 1) -> Property:
    return parse_vnnlib(declared(inputs, outputs) + "\n".join(f"(assert {a})" for a in assertions))


def boxes(found: Property) -> list[tuple[list[float], list[float]]]:
    return [(case.low.tolist(), case.high.tolist()) for case in found.cases]


# -- what is understood


def test_bounds_become_a_box_and_outputs_become_rows() -> None:
    found = read("(<= X_0 1.5)", "(>= X_0 -1)", "(<= X_1 0.25)", "(>= X_1 0)", "(>= Y_0 3)")
    (case,) = found.cases
    assert boxes(found) == [([-1.0, 0.0], [1.5, 0.25])]
    assert case.outputs.matrix.tolist() == [[-1.0]]
    assert case.outputs.bound.tolist() == [-3.0]
    assert isinstance(case.domain, Box)
    assert (found.num_inputs, found.num_outputs, found.dropped, found.strict) == (2, 1, 0, False)


@pytest.mark.parametrize(
    ("number", "value"),
    [
        ("1e-3", 0.001),
        ("1E+2", 100.0),
        ("-2.5e-1", -0.25),
        (".5", 0.5),
        ("5.", 5.0),
        ("+7", 7.0),
        ("(- 3.5)", -3.5),
        ("(/ 1 3)", 1 / 3),
        ("(/ (- 1) 3 2)", -1 / 6),
        ("(* 0.1 3)", 0.3),
        ("(- (+ 0.1 0.2) 0.3)", 0.0),
        ("0.1000000000000000055511151231257827", 0.1),
        ("0e9999", 0.0),
        ("123456789012345678901234567890", 123456789012345678901234567890.0),
    ],
)
def test_numbers_of_all_notations_are_combined_exactly_and_rounded_once(number: str, value: float) -> None:
    (case,) = read(f"(<= X_0 {number})", "(<= Y_0 0)").cases
    assert case.high[0] == value


def test_comments_blank_lines_quoted_names_and_windows_line_ends_are_read_over() -> None:
    text = (
        "; (assert (<= X_0 -5)) (\r\n(set-logic LRA)(set-info :source \"a ) ; b\")\r\n\r\n(declare-const |X_0| Real);x\r\n"
        "(declare-fun Y_0 () Real)\r\n(assert ; here\r\n (<= X_0 ;; there\r\n 1))(check-sat)(exit)"
    )  # fmt: skip
    assert boxes(parse_vnnlib(text)) == [([-math.inf], [1.0])]


LINES = (
    "; (assert (<= X_0 -5))",
    "(declare-const X_0 Real) ; an input",
    "(declare-const Y_0 Real);an output",
    "(assert (>= X_0 0)) ; lower",
    "(assert (and ; both",
    " (<= X_0 1) ; upper (",
    " (< Y_0 2))) ;",
    ";",
    "(assert (>= Y_0 -1)) ; the last line",
)


def test_a_byte_order_mark_in_front_of_a_text_is_no_command() -> None:
    text = "(declare-const X_0 Real)(declare-const Y_0 Real)(assert (<= 0 X_0 1))(assert (<= Y_0 2))"
    (case,) = parse_vnnlib("\ufeff" + text).cases
    assert (case.low.tolist(), case.high.tolist()) == ([0.0], [1.0])


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\n\r", "\r\r", " \r\t"])
def test_a_comment_ends_with_its_line_however_lines_end(end: str) -> None:
    """SMT-LIB 2.6, section 3.1: at the first line feed or carriage return."""
    (case,) = parse_vnnlib(end.join(LINES)).cases
    assert (case.low.tolist(), case.high.tolist()) == ([0.0], [1.0])
    assert (case.outputs.matrix.tolist(), case.outputs.bound.tolist()) == ([[1.0], [-1.0]], [2.0, 1.0])
    assert case.strict.outputs.tolist() == [True, False]


@pytest.mark.parametrize(("end", "each"), [("\n", 1), ("\r\n", 1), ("\r", 1), ("\r\r", 2), ("\n\r", 2)])
def test_lines_are_counted_however_they_end(end: str, each: int) -> None:
    with pytest.raises(FileError, match=f"line {1 + len(LINES) * each}: .*'Z'"):
        parse_vnnlib(end.join([*LINES, "(assert (<= Z 0))"]))


def test_missing_bounds_are_infinite() -> None:
    found = read("(<= X_1 1)", "(<= Y_0 0)")
    assert boxes(found) == [([-math.inf, -math.inf], [math.inf, 1.0])]
    assert found.to_dict()["cases"][0]["high"] == [None, 1.0]
    assert isinstance(found.cases[0].domain, Box)
    assert not found.cases[0].domain.is_bounded


def test_the_tightest_of_several_bounds_holds() -> None:
    assert boxes(read("(<= X_0 3)", "(<= X_0 1)", "(<= (* 2 X_0) 4)", "(<= 0 X_0)", "(<= -1 X_0)", "(= X_1 0.5)")) == [
        ([0.0, 0.5], [1.0, 0.5])
    ]


def test_comparisons_may_be_chained_and_have_terms_on_both_sides() -> None:
    found = read("(<= 0 X_0 1)", "(>= 5 (+ X_1 2) (- 1))", "(<= (+ Y_0 1) (- (* 3 Y_0) 5))")
    assert boxes(found) == [([0.0, -3.0], [1.0, 3.0])]
    assert found.cases[0].outputs.matrix.tolist() == [[-2.0]]
    assert found.cases[0].outputs.bound.tolist() == [-6.0]


def test_a_negative_coefficient_turns_the_bound_around() -> None:
    assert boxes(read("(<= (* -2 X_0) 4)", "(>= (- X_1) 1)")) == [([-2.0, -math.inf], [math.inf, -1.0])]


def test_variables_that_cancel_leave_a_bound_or_a_truth() -> None:
    found = read("(<= (+ X_0 Y_0) (+ 1 Y_0))", "(<= (- X_1 X_1) 0)", "(<= (* (- X_1 X_1 -2) X_1) 6)")
    assert boxes(found) == [([-math.inf, -math.inf], [1.0, 3.0])]
    assert not len(found.cases[0].outputs)


def test_inequalities_of_several_inputs_make_a_polytope() -> None:
    (case,) = read("(<= 0 X_0 1)", "(<= 0 X_1)", "(<= (+ X_0 (* 2 X_1)) 3)").cases
    assert isinstance(case.domain, Polytope)
    assert len(case.domain) == 4  # X_1 has no upper side
    inside = case.domain.contains([[0.5, 1.0], [1.0, 1.25], [0.5, -0.1]])
    assert inside.tolist() == [True, False, False]


def test_a_disjunction_of_outputs_shares_its_input_box() -> None:
    found = read("(<= 0 X_0 1)", "(<= 0 X_1 1)", "(or (and (<= Y_0 Y_1)) (and (<= Y_0 Y_2)))", outputs=3)
    ((domain, outputs),) = found.grouped()
    assert isinstance(domain, Box)
    assert [p.matrix.tolist() for p in outputs] == [[[1.0, -1.0, 0.0]], [[1.0, 0.0, -1.0]]]


def test_a_disjunction_of_input_boxes_comes_out_box_by_box() -> None:
    """The form of ACAS Xu's property 6: two boxes, and for each of them any of several outputs."""
    found = read(
        "(or (and (<= X_0 2) (>= X_0 1)) (and (<= X_0 -1) (>= X_0 -2)))",
        "(and (<= X_1 1) (>= X_1 0))",
        "(or (>= Y_0 Y_1) (>= Y_0 Y_2))",
        outputs=3,
    )
    groups = found.grouped()
    assert [len(outputs) for _, outputs in groups] == [2, 2]
    assert [(d.low.tolist(), d.high.tolist()) for d, _ in groups if isinstance(d, Box)] == [
        ([1.0, 0.0], [2.0, 1.0]),
        ([-2.0, 0.0], [-1.0, 1.0]),
    ]


def test_one_disjunction_may_hold_inputs_and_outputs_case_by_case() -> None:
    found = read("(or (and (<= 0 X_0 1) (>= Y_0 1)) (and (<= 2 X_0 3) (or (>= Y_0 2) (and (<= Y_0 -2) (<= X_1 0)))))")
    assert len(found.cases) == 3
    assert len(found.grouped()) == 3
    assert found.contains([[0.5, 0.0], [2.5, 0.0], [2.5, 1.0]], [[1.5], [-2.5], [-2.5]]).tolist() == [True, True, False]


def test_what_one_case_bounds_stays_open_in_the_others() -> None:
    found = read("(or (and (<= 1 X_0 2) (<= Y_0 0)) (and (<= 3 X_1 4) (>= Y_0 0)))", "(<= -9 X_0 9)", "(>= (+ X_0 X_1) 0)")
    assert boxes(found) == [([1.0, -math.inf], [2.0, math.inf]), ([-9.0, 3.0], [9.0, 4.0])]
    assert [len(case.inputs) for case in found.cases] == [1, 1]


def test_contradictory_cases_are_dropped_and_counted() -> None:
    found = read("(or (<= X_0 1) (<= X_1 1))", "(or (>= X_0 2) (>= X_1 2))")
    assert (len(found.cases), found.dropped) == (2, 2)
    assert "2 more cases" in found.summary()


def test_bounds_that_contradict_in_every_case_leave_none() -> None:
    found = read("(<= X_0 1)", "(>= X_0 1.0000000000000000000001)", "(or (<= Y_0 1) (<= Y_0 2))")  # equal in float64
    assert (found.cases, found.dropped) == ((), 2)
    assert found.grouped() == []
    assert not found.contains([[1.0, 0.0]], [[0.0]]).any()


@pytest.mark.parametrize(
    "formula",
    ["false", "(or)", "(<= 2 1)", "(and (<= Y_0 1) false)", "(or (< 1 0) (or false))", "(< 1 1)", "(> (- Y_0 Y_0) 0)"],
)
def test_what_is_false_has_no_case(formula: str) -> None:
    assert read("(<= X_0 1)", formula).cases == ()


@pytest.mark.parametrize("formula", ["true", "(and)", "(<= 1 2)", "(or true false)", "(= X_0 X_0)"])
def test_what_is_true_says_nothing(formula: str) -> None:
    (case,) = read("(<= X_0 1)", "(<= Y_0 1)", formula).cases
    assert (len(case.inputs), len(case.outputs)) == (0, 1)


def test_strict_inequalities_are_kept_side_by_side_and_row_by_row() -> None:
    found = read("(< X_0 1)", "(<= 0 X_0)", "(> Y_0 0)", "(<= Y_0 2)", "(< (+ X_0 X_1) 3)")
    (case,) = found.cases
    assert found.strict
    assert [mask.tolist() for mask in case.strict] == [[False, False], [True, False], [True], [True, False]]
    x = [[0.0, 0.0], [1.0, 0.0], [0.5, 0.0], [0.5, 2.5], [0.5, 2.0]]
    y = [[2.0], [1.0], [0.0], [1.0], [1.0]]
    assert found.contains(x, y).tolist() == [True, False, False, False, True]
    assert isinstance(found.cases[0].domain, Polytope)
    assert "sets are shown with their boundaries" in found.summary()


def test_of_equal_bounds_the_strict_one_holds() -> None:
    for formula in (("(< X_0 1)", "(<= X_0 1)"), ("(<= X_0 1)", "(< X_0 1)"), ("(< X_0 1)", "(<= X_0 2)")):
        (case,) = read(*formula).cases
        assert (case.high[0], case.strict.high.tolist()) == (1.0, [True, False])
    (case,) = read("(< X_0 2)", "(<= X_0 1)", "(> X_0 0)", "(>= X_0 0)").cases
    assert (case.strict.low.tolist(), case.strict.high.tolist()) == ([True, False], [False, False])


@pytest.mark.parametrize("sides", [("(<= 1 X_0)", "(< X_0 1)"), ("(< 1 X_0)", "(<= X_0 1)"), ("(< 1 X_0)", "(< X_0 1)")])
def test_equal_bounds_of_which_one_is_strict_contradict(sides: tuple[str, str]) -> None:
    found = read(*sides)
    assert (found.cases, found.dropped) == ((), 1)


def test_input_sets_that_differ_in_a_strict_side_are_two() -> None:
    assert len(read("(or (<= 0 X_0 1) (and (< 0 X_0) (<= X_0 1)))").groups()) == 2


def test_no_assertions_leave_everything() -> None:
    (case,) = read().cases
    assert not case.low.isfinite().any()
    assert not len(case.outputs)


def test_files_are_read_gzipped_or_not(tmp_path: Path) -> None:
    text = declared(1, 1) + "(assert (<= X_0 1))"
    (tmp_path / "plain.vnnlib").write_text(text)
    (tmp_path / "zipped.vnnlib.gz").write_bytes(gzip.compress(text.encode()))
    for name in ("plain.vnnlib", "zipped.vnnlib.gz"):
        found = read_vnnlib(str(tmp_path / name))
        assert boxes(found) == [([-math.inf], [1.0])]
        assert found.source == name


# -- what is refused, and where


@pytest.mark.parametrize(
    ("assertion", "line", "words"),
    [
        ("(<= X_0 Y_0)", 4, "both, X_0, Y_0"),
        ("(and (<= X_0 1)\n (<= X_7 1))", 5, "declared above; got 'X_7'"),
        ("(<= Z 1)", 4, "a number or a variable X_0, Y_0, ...; got 'Z'"),
        ("(<= (* X_0 X_1) 1)", 4, "products of variables are not linear"),
        ("(<= (/ 1 X_0) 1)", 4, "numbers other than 0"),
        ("(<= (/ X_0 0) 1)", 4, "numbers other than 0"),
        ("(<= (^ X_0 2) 1)", 4, "a sum, difference or product of such; got '(^ ...)'"),
        ("(<= (+) 1)", 4, "a sum, difference or product of such; got '(+)'"),
        ("(<= (and true) 1)", 4, "a sum, difference or product"),
        ("(<= X_0)", 4, "two terms to compare; got 1"),
        ("(not (<= X_0 1))", 4, "got '(not ...)'; turn the inequality around"),
        ("(=> true false)", 4, "write (or ...) of the cases"),
        ("(xor true false)", 4, "expected and, or, <=, >=, <, >, =; got '(xor ...)'"),
        ("X_0", 4, "expected a formula, as (<= X_0 1.0); got 'X_0'"),
        ("(X_0)", 4, "expected and, or"),
        ("((<= X_0 1))", 4, "expected and, or"),
        ("()", 4, "got '()'"),
        ("true false", 4, "(assert FORMULA); got 2 formulas"),
        ("", 4, "(assert FORMULA); got 0 formulas"),
        ("(<= X_0 1.2.3)", 4, "got '1.2.3'"),
        ("(<= X_0 1e99999999999999999999)", 4, "that float64 can hold"),
        ("(<= X_0 1e6000)", 4, "that float64 can hold"),
        ("(<= X_0 1e400)", 4, "rescale the inequality"),
        ("(<= (* 1e-200 X_0) 1e200)", 4, "rescale the inequality"),
        ("(<= (* 1e-400 Y_0) 1)", 4, "rescale the inequality"),
        ("(<= X_0 inf)", 4, "got 'inf'"),
        ("(<= X_0 1", 4, "the file ends before"),
        ("\n(and\n(<= X_0 1", 5, "the bracket that opens here"),
        ("(<= X_0 1)))", 4, "remove this one"),
        ("(<= |X_0 1)", 4, "expected the quote | to end"),
        ('(<= "X_0 1)', 4, 'expected the quote " to end'),
        ("(" * 200 + ")" * 200, 4, "at most 100 brackets"),
    ],
)  # fmt: skip
def test_a_problem_is_reported_with_its_line(assertion: str, line: int, words: str) -> None:
    with pytest.raises(FileError) as caught:
        parse_vnnlib(declared(2, 1) + f"(assert {assertion})", "some.vnnlib")
    assert str(caught.value).startswith(f"some.vnnlib, line {line}: ")
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "line 1: expected inputs, declared as (X_0 ...); got none in 0 commands"),
        ("; nothing\n", "expected inputs"),
        ("hello", "expected a command in brackets"),
        ("(declare-const X_0 Real)", "expected outputs"),
        ("(declare-const Y_0 Real)", "expected inputs"),
        ("(declare-const X_0 Real)(declare-const X_2 Real)", "X_2 is declared, X_1 is not"),
        ("(declare-const X_0 Real)\n(declare-const X_0 Real)", "line 2: X_0 is declared twice, first in line 1"),
        ("(declare-const X_0 Int)", "expected the variable X_0 to be Real; got Int"),
        ("(declare-const x Real)", "expected an input X_0, X_1, ... or an output Y_0, Y_1, ...; got 'x'"),
        ("(declare-const X_00 Real)", "got 'X_00'"),
        ("(declare-const X_99999999999 Real)", "got 'X_99999999999'"),
        ("(declare-const X_0)", "expected (declare-const X_0 Real)"),
        ("(declare-fun X_0 Real)", "expected (declare-fun X_0 () Real)"),
        ("(declare-fun X_0 (Real) Real)", "expected (declare-fun X_0 () Real)"),
        ("(define-fun f () Real 1)", "expected declare-const, declare-fun or assert; got '(define-fun ...)'"),
        ("(declare-input X Real [1])", "VNN-LIB 1.0 has no others"),
        ("(vnnlib-version <3.0>)", "expected (vnnlib-version <1.0>) or (vnnlib-version <2.0>); got vnnlib-version <3.0>"),
        ("(vnnlib-version)", "expected (vnnlib-version <1.0>)"),
        ("(vnnlib-version <1.0>)(vnnlib-version <2.0>)", "expected one version"),
        ("()", "expected declare-const"),
    ],
)  # fmt: skip
def test_a_text_that_declares_no_network_is_refused(text: str, words: str) -> None:
    with pytest.raises(FileError) as caught:
        parse_vnnlib(text)
    assert words in str(caught.value)


def test_more_cases_than_the_limit_are_refused_before_they_are_written_out() -> None:
    many = ["(or " + " ".join(f"(<= Y_0 {k}.{i})" for k in range(10)) + ")" for i in range(40)]
    with pytest.raises(FileError, match=f"expected at most 100000 cases; the formula has {10**40}"):
        read(*many)
    assert len(read(*many[:2]).cases) == 100
    with pytest.raises(FileError, match="at most 99 cases"):
        parse_vnnlib(declared(1, 1) + "".join(f"(assert {a})" for a in many[:2]), limit=99)
    with pytest.raises(InputError, match="limit"):
        parse_vnnlib(declared(1, 1), limit=0)


def test_files_that_are_no_text_are_refused(tmp_path: Path) -> None:
    place = tmp_path / "property.vnnlib"
    with pytest.raises(FileError, match="there is none"):
        read_vnnlib(place)
    with pytest.raises(FileError, match="cannot be read"):
        read_vnnlib(tmp_path)
    place.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FileError, match="which is text"):
        read_vnnlib(place)
    place.write_bytes(gzip.compress(declared(1, 1).encode())[:-6])
    with pytest.raises(FileError, match="damaged or truncated"):
        read_vnnlib(place)


def test_points_of_another_size_are_refused() -> None:
    found = read("(<= X_0 1)")
    with pytest.raises(ShapeError, match="2 entries each"):
        found.contains(torch.zeros(4, 3), torch.zeros(4, 1))
    with pytest.raises(ShapeError, match="as many outputs as inputs"):
        found.contains(torch.zeros(4, 2), torch.zeros(3, 1))


def test_inputs_of_any_shape_are_flattened() -> None:
    assert read("(<= X_3 1)", inputs=4).contains(torch.zeros(3, 1, 2, 2), torch.zeros(3, 1)).all()


# -- against a naive evaluator

HALVES = st.integers(-6, 6).map(lambda k: Fraction(k, 2))
Formula = Any  # ("and" | "or", parts) or (comparison, coefficients of one kind, kind, bound)


def formulas(inputs: int, outputs: int) -> st.SearchStrategy[Formula]:
    def row(kind: str, size: int) -> st.SearchStrategy[Formula]:
        coefficients = st.lists(HALVES, min_size=size, max_size=size)
        single = st.builds(lambda i, c: [c if k == i else Fraction(0) for k in range(size)], st.integers(0, size - 1), HALVES)
        return st.tuples(st.sampled_from(["<=", ">=", "=", "<", ">"]), st.one_of(single, coefficients), st.just(kind), HALVES)

    rows = st.one_of(row("X", inputs), row("Y", outputs))
    return st.recursive(rows, lambda part: st.tuples(st.sampled_from(["and", "or"]), st.lists(part, max_size=3)), max_leaves=6)


def number(value: Fraction) -> str:
    return f"(- {-float(value)})" if value < 0 else str(float(value))


def written(formula: Formula) -> str:
    if len(formula) == 2:
        return f"({formula[0]} {' '.join(written(part) for part in formula[1])})"
    comparison, coefficients, kind, bound = formula
    terms = [f"(* {number(c)} {kind}_{i})" for i, c in enumerate(coefficients)]
    return f"({comparison} (+ {' '.join(terms)} 0) ; a row\n {number(bound)})"


def holds(formula: Formula, point: dict[str, list[Fraction]]) -> bool:
    if len(formula) == 2:
        return (all if formula[0] == "and" else any)(holds(part, point) for part in formula[1])
    comparison, coefficients, kind, bound = formula
    value = sum((c * v for c, v in zip(coefficients, point[kind], strict=True)), Fraction(0))
    found = {"<=": value <= bound, ">=": value >= bound, "=": value == bound, "<": value < bound, ">": value > bound}
    return found[comparison]


@given(st.data(), st.integers(1, 3), st.integers(1, 3))
def test_a_formula_means_what_a_naive_evaluator_says(data: st.DataObject, inputs: int, outputs: int) -> None:
    asserted = data.draw(st.lists(formulas(inputs, outputs), max_size=3))
    found = read(*map(written, asserted), inputs=inputs, outputs=outputs)
    quarters = st.integers(-8, 8).map(lambda k: Fraction(k, 4))
    for _ in range(8):
        x, y = (data.draw(st.lists(quarters, min_size=n, max_size=n)) for n in (inputs, outputs))
        wanted = all(holds(formula, {"X": x, "Y": y}) for formula in asserted)
        assert found.contains([[float(v) for v in x]], [[float(v) for v in y]]).item() == wanted


FLOATS = st.floats(-1e300, 1e300, allow_subnormal=False)


@st.composite
def properties(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Draw cases as `Property.to_dict` has them, with full rows so that each is written as one inequality."""
    inputs, outputs = draw(st.integers(2, 3)), draw(st.integers(1, 3))
    nonzero = FLOATS.filter(bool)

    def rows(size: int, least: int) -> dict[str, Any]:
        count = draw(st.integers(least, 2))
        matrix = [[draw(nonzero) for _ in range(size)] for _ in range(count)]
        strict = [draw(st.booleans()) for _ in range(count)]
        return {"matrix": matrix, "bound": [draw(FLOATS) for _ in range(count)], "strict": strict}

    cases = []
    for _ in range(draw(st.integers(1, 3))):
        sides = [sorted(draw(st.lists(FLOATS, min_size=2, max_size=2, unique=True))) for _ in range(inputs)]
        low, high = (
            [draw(st.sampled_from([side[k], side[k], None])) for side in sides] for k in (0, 1)
        )  # a side in three is missing
        strict = {f"strict_{n}": [v is not None and draw(st.booleans()) for v in s] for n, s in (("low", low), ("high", high))}
        cases.append({"low": low, "high": high} | strict | {"inputs": rows(inputs, 0), "outputs": rows(outputs, 1)})
    return cases


def spelled(case: dict[str, Any]) -> str:
    parts = []
    for sign, side in ((">", "low"), ("<", "high")):
        for i, (v, strict) in enumerate(zip(case[side], case[f"strict_{side}"], strict=True)):
            parts += [f"({sign}{'' if strict else '='} X_{i} {v!r})"] if v is not None else []
    for kind, name in (("X", "inputs"), ("Y", "outputs")):
        for row, bound, strict in zip(*case[name].values(), strict=True):
            terms = " ".join(f"(* {c!r} {kind}_{i})" for i, c in enumerate(row))
            parts.append(f"({'<' if strict else '<='} (+ {terms}) {bound!r})")
    return f"(and {' '.join(parts)})"


@given(properties())
def test_a_property_that_is_written_out_is_read_back_the_same(cases: list[dict[str, Any]]) -> None:
    inputs, outputs = len(cases[0]["low"]), len(cases[0]["outputs"]["matrix"][0])
    found = read(f"(or {' '.join(map(spelled, cases))})", inputs=inputs, outputs=outputs)
    assert found.to_dict()["cases"] == cases


# -- real files


@pytest.mark.parametrize(("number", "free", "rows"), [(1, 5, 1), (2, 5, 4), (3, 5, 4), (4, 4, 4)], ids=lambda value: str(value))
def test_the_properties_of_acas_xu_are_one_box_with_one_polytope(data: Path, number: int, free: int, rows: int) -> None:
    found = read_vnnlib(data / "acasxu" / "vnnlib" / f"prop_{number}.vnnlib")
    ((domain, (outputs,)),) = found.grouped()
    assert (found.num_inputs, found.num_outputs, found.strict) == (5, 5, False)
    assert isinstance(domain, Box)
    assert (domain.dim, len(outputs)) == (free, rows)


def test_property_1_of_acas_xu_is_read_to_the_last_digit(data: Path) -> None:
    (case,) = read_vnnlib(data / "acasxu" / "vnnlib" / "prop_1.vnnlib").cases
    assert case.low.tolist() == [0.6, -0.5, -0.5, 0.45, -0.5]
    assert case.high.tolist() == [0.679857769, 0.5, 0.5, 0.5, -0.45]
    assert case.outputs.matrix.tolist() == [[-1.0, 0.0, 0.0, 0.0, 0.0]]
    assert case.outputs.bound.tolist() == [-3.991125645861615]
