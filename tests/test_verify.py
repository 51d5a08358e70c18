"""Verdicts on properties: known by hand, against preimages in rationals, and those on which ACAS Xu's verifiers agree."""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from oracles import Dense, Kink, Step, box
from oracles_preimage import evaluate, halfspace_rows, in_target, preimage_cells
from polylens import Box, Network, Property, Verdict, dense, load, original, parse_vnnlib, preimage, read_vnnlib, verify
from polylens.errors import FileError, GeometryError, InputError, ShapeError, SmoothError
from strategies import HALVES, Layer, degenerate_network

RELU = ([0.0], [0.0, 1.0], [0.0, 0.0])
ABS = dense([([[1.0], [-1.0]], [0.0, 0.0]), ([[1.0, 1.0]], None)])
LINE = dense([([[1.0]], [0.0])])
SUM = dense([([[1.0, 1.0]], [0.0])])
BOTH = dense([([[1.0], [-1.0]], [0.0, 0.0]), ([[1.0, 0.0], [0.0, 1.0]], None)])  # relu(x), relu(-x)


def prop(*assertions: str, inputs: int = 1, outputs: int = 1) -> Property:
    names = [f"X_{i}" for i in range(inputs)] + [f"Y_{i}" for i in range(outputs)]
    return parse_vnnlib("".join(f"(declare-const {n} Real)" for n in names) + "".join(f"(assert {a})" for a in assertions))


def assert_confirmed(found: Verdict, net: Network) -> None:
    """The witness is in float32, and the network there says what the witness says."""
    assert found.verdict == "sat"
    assert found.witness is not None
    x, y = found.witness
    assert (x.dtype, y.dtype) == (torch.float32, torch.float32)
    assert (tuple(x.shape), tuple(y.shape)) == (net.input_shape, net.output_shape)
    assert torch.equal(y, net.to(dtype=torch.float32)(x))
    assert found.property.contains(x[None].double(), y[None].double()).all()
    assert found.reason is None


def assert_undecided(found: Verdict, *words: str) -> None:
    assert found.verdict == "unknown"
    assert found.witness is None
    assert found.reason is not None
    for word in words:
        assert word in found.reason


# -- the three verdicts


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_what_is_reached_is_sat_and_what_is_not_is_unsat(whole: bool, n_jobs: int) -> None:
    domain = "(<= -1 X_0 2)"
    assert_confirmed(verify(ABS, prop(domain, "(>= Y_0 1.5)"), whole=whole, n_jobs=n_jobs), ABS)
    found = verify(ABS, prop(domain, "(>= Y_0 2.5)"), whole=whole, n_jobs=n_jobs)
    assert (found.verdict, found.witness, found.reason) == ("unsat", None, None)
    assert found.cells > 0


def test_what_is_only_touched_is_sat_where_the_original_touches_it_too() -> None:
    assert_confirmed(verify(ABS, prop("(<= -1 X_0 2)", "(<= Y_0 0)")), ABS)
    assert_confirmed(verify(ABS, prop("(<= -1 X_0 2)", "(>= Y_0 2)")), ABS)
    assert verify(ABS, prop("(<= -1 X_0 2)", "(<= Y_0 -1e-9)")).verdict == "unsat"


def test_what_is_missed_by_less_than_a_rounding_is_not_decided() -> None:
    assert_undecided(verify(ABS, prop("(<= -1 X_0 2)", "(<= Y_0 -1e-30)")), "confirms none of")


def test_strict_outputs_have_to_hold_strictly_at_a_witness() -> None:
    assert verify(ABS, prop("(<= -1 X_0 2)", "(> Y_0 2)")).verdict == "unsat"
    assert_confirmed(verify(ABS, prop("(<= -1 X_0 2)", "(> Y_0 1.999)")), ABS)


@pytest.mark.parametrize("whole", [False, True])
def test_a_strict_row_that_is_passed_by_less_than_the_tolerance_is_never_unsat(whole: bool) -> None:
    assert_confirmed(verify(ABS, prop("(<= -1 X_0 2)", "(> Y_0 1.99999999999999)"), whole=whole), ABS)
    one = prop("(<= 0 X_0 1.99999999999999)", "(> Y_0 1.999999999999985)")
    assert_undecided(verify(ABS, one, whole=whole), "confirms none of")


def test_full_dimensional_pieces_on_a_strict_row_do_not_count() -> None:
    flat = prop("(<= -2 X_0 -1)", "(> Y_0 Y_1)", outputs=2)
    both = dense([([[1.0]], [0.0]), ([[1.0], [1.0]], None)])  # both outputs are relu(x)
    assert verify(both, flat).verdict == "unsat"
    found = verify(both, flat, whole=True)
    assert found.verdict == "unsat"
    assert found.unsafe is not None
    assert found.unsafe[0].is_empty


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize(
    "formula",
    [
        ("(<= 0 X_0 1)", "(< 1 1)", "(>= Y_0 0)"),
        ("(<= 1 X_0)", "(< X_0 1)", "(>= Y_0 0)"),
        ("(<= 0 X_0 1)", "(< (- Y_0 Y_0) 0)"),
        ("(<= 0 X_0 1)", "(< Y_0 0.5)", "(<= 0.5 Y_0)"),
        ("(<= 0 X_0 1)", "(> Y_0 1)"),
        ("(<= 0 X_0 1)", "(or (> Y_0 1) (< Y_0 0))"),
    ],
)
def test_strict_formulas_that_hold_nowhere_are_unsat(formula: tuple[str, ...], whole: bool) -> None:
    assert verify(LINE, prop(*formula), whole=whole).verdict == "unsat"


@pytest.mark.parametrize("whole", [False, True])
def test_a_strict_inequality_leaves_the_others_closed(whole: bool) -> None:
    found = verify(ABS, prop("(< 0 X_0)", "(<= X_0 2)", "(>= Y_0 2)"), whole=whole)
    assert_confirmed(found, ABS)
    assert found.witness is not None
    assert found.witness.input.item() == 2
    assert_confirmed(verify(BOTH, prop("(<= 0 X_0 2)", "(>= Y_0 2)", "(< Y_1 1)", outputs=2), whole=whole), BOTH)


def test_a_witness_lies_strictly_within_strict_sides() -> None:
    assert verify(LINE, prop("(< 0 X_0)", "(<= X_0 2)", "(<= Y_0 0)")).verdict != "sat"
    assert verify(LINE, prop("(< 1 X_0)", f"(<= X_0 {1 + 1e-9})", "(<= Y_0 1)")).verdict != "sat"
    assert_confirmed(verify(LINE, prop("(< 0.1 X_0)", "(<= X_0 0.2)", "(<= Y_0 0.1001)")), LINE)
    corner = ("(<= 0 X_0 1)", "(<= 0 X_1 1)", "(< (+ X_0 X_1) 1)")
    assert verify(SUM, prop(*corner, "(>= Y_0 1)", inputs=2)).verdict != "sat"
    assert_confirmed(verify(SUM, prop(*corner, "(>= Y_0 0.999)", inputs=2)), SUM)


def test_what_lies_between_two_numbers_of_float32_is_not_decided() -> None:
    found = verify(LINE, prop(f"(<= 1 X_0 {1 + 2e-9})", f"(>= Y_0 {1 + 1e-9})"))
    assert_undecided(found, "1 pieces reach the outputs in float64", "the network in float32 confirms none of")


def test_an_original_in_float64_decides_it() -> None:
    weight = torch.nn.Linear(1, 1, bias=False).double()
    torch.nn.init.ones_(weight.weight)
    fine = original(weight, LINE)
    found = verify(LINE, prop(f"(<= 1 X_0 {1 + 2e-9})", f"(>= Y_0 {1 + 1e-9})"), original=fine)
    assert found.verdict == "sat"
    assert found.witness is not None
    assert found.witness.input.dtype == torch.float64
    assert found.runner == "PyTorch"


LIES: dict[str, Callable[[Tensor], Tensor]] = {
    "constant": lambda x: torch.zeros(len(x), 1),
    "nan": lambda x: torch.full((len(x), 1), torch.nan),
    "infinite": lambda x: torch.full((len(x), 1), torch.inf),
}


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("whole", [False, True])
def test_nothing_is_sat_that_the_original_does_not_confirm(lie: str, whole: bool) -> None:
    assert_undecided(verify(ABS, prop("(<= -1 X_0 2)", "(>= Y_0 1.5)"), original=LIES[lie], whole=whole), "the original")


# -- input sets


@pytest.mark.parametrize("side", ["0.1", "0.3", "0.7", "-0.1", "-0.7"])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_witness_at_a_side_that_float32_lacks_is_within_the_box(side: str, sign: int) -> None:
    net = dense([([[float(sign)]], [0.0])])
    low, high = (side, "5") if sign < 0 else ("-5", side)  # the outputs are deepest at the side
    assert_confirmed(verify(net, prop(f"(<= {low} X_0 {high})", f"(>= Y_0 (- (* {sign} {side}) 1e-6))")), net)


def test_an_entry_that_is_fixed_where_float32_has_no_number_is_the_nearest_one() -> None:
    found = verify(SUM, prop("(= X_0 0.1)", "(<= 0 X_1 1)", "(>= Y_0 1)", inputs=2))
    assert found.witness is not None
    assert found.witness.input[0] == torch.tensor(0.1)
    assert found.verdict == "sat"


def test_a_box_of_one_point_is_looked_at() -> None:
    assert_confirmed(verify(SUM, prop("(= X_0 0.5)", "(= X_1 0.25)", "(>= Y_0 0.75)", inputs=2)), SUM)
    assert verify(SUM, prop("(= X_0 0.5)", "(= X_1 0.25)", "(>= Y_0 0.76)", inputs=2)).verdict == "unsat"


def test_rows_of_several_inputs_bound_the_input_set() -> None:
    domain = ("(<= 0 X_0 1)", "(<= 0 X_1 1)", "(<= (+ X_0 X_1) 1)")
    assert verify(SUM, prop(*domain, "(>= Y_0 1.001)", inputs=2)).verdict == "unsat"
    assert_confirmed(verify(SUM, prop(*domain, "(>= Y_0 0.999)", inputs=2)), SUM)


def test_a_flat_input_set_is_confirmed_up_to_the_rounding_of_its_inputs() -> None:
    flat = ("(<= 0 X_0 1)", "(= (* 3 X_0) X_1)")
    found = verify(SUM, prop(*flat, "(>= Y_0 1.3)", inputs=2))
    assert found.verdict == "sat"
    assert verify(SUM, prop(*flat, "(>= Y_0 4.001)", inputs=2)).verdict == "unsat"


def test_an_input_set_without_a_point_is_covered() -> None:
    empty = prop("(<= 0 X_0 1)", "(<= 0 X_1 1)", "(>= (+ X_0 X_1) 3)", inputs=2)
    assert verify(SUM, empty).verdict == "unsat"
    assert verify(SUM, empty, whole=True).unsafe == ()
    assert verify(SUM, prop("(<= 1 X_0 0)", "(<= 0 X_1 1)", inputs=2)).verdict == "unsat"


def test_unbounded_input_sets_are_looked_at_to_their_end() -> None:
    assert_confirmed(verify(ABS, prop("(>= X_0 1)", "(>= Y_0 1e6)")), ABS)
    assert verify(ABS, prop("(>= X_0 1)", "(<= Y_0 0.5)")).verdict == "unsat"
    assert verify(ABS, prop("(<= Y_0 -0.5)")).verdict == "unsat"


def test_every_input_set_of_a_disjunction_is_looked_at() -> None:
    two = "(or (and (<= -3 X_0 -2)) (and (<= 2 X_0 3)))"
    either = "(or (and (>= Y_0 2.5) (>= Y_1 0.5)) (and (>= Y_0 2.5) (<= Y_1 0)))"
    found = verify(BOTH, prop(two, either, outputs=2))
    assert_confirmed(found, BOTH)
    assert found.witness is not None
    assert found.witness.input.item() >= 2.5
    assert verify(BOTH, prop(two, "(or (and (>= Y_0 1) (>= Y_1 1)) (>= Y_0 3.5))", outputs=2)).verdict == "unsat"


def test_a_property_without_outputs_is_sat_wherever_it_has_inputs() -> None:
    assert_confirmed(verify(LINE, prop("(<= 0 X_0 1)")), LINE)


# -- the whole set


def test_the_whole_set_is_found_in_every_input_set() -> None:
    two = "(or (<= -3 X_0 -1) (<= 2 X_0 4))"
    found = verify(ABS, prop(two, "(or (>= Y_0 3.5) (<= 1.5 Y_0 2.5))"), whole=True)
    assert_confirmed(found, ABS)
    assert found.unsafe is not None
    assert [p.volume for p in found.unsafe] == [1.0, 1.0]
    assert all(p.complete for p in found.unsafe)
    assert "2 of dimension 1" in found.summary()


def test_the_whole_set_is_the_preimage() -> None:
    net = load(torch.nn.Sequential(torch.nn.Linear(2, 6), torch.nn.ReLU(), torch.nn.Linear(6, 2))).double()
    largest = prop("(<= -1 X_0 1)", "(<= -1 X_1 1)", "(>= Y_0 Y_1)", inputs=2, outputs=2)
    found = verify(net, largest, whole=True)
    ((domain, outputs),) = largest.grouped()
    assert found.unsafe is not None
    assert found.unsafe[0].volume == preimage(net, outputs, domain).volume


# -- limits and refusals


def deep(inputs: int = 4, units: int = 40) -> Network:
    generator = torch.Generator().manual_seed(3)
    sizes = [inputs, units, units, 1]
    return dense(
        [(torch.randn(b, a, generator=generator, dtype=torch.float64) / a**0.5, None) for a, b in itertools.pairwise(sizes)]
    )


@pytest.mark.parametrize("whole", [False, True])
def test_a_search_that_runs_out_of_time_is_not_decided(whole: bool) -> None:
    inside = [f"(<= -1 X_{i} 1)" for i in range(4)]
    found = verify(
        deep(), prop(*inside, "(<= 0.3 Y_0 0.30000000001)", inputs=4), time_limit=0.05, original=LIES["constant"], whole=whole
    )
    assert_undecided(found, "ended by time_limit")
    assert found.seconds < 10


@pytest.mark.parametrize("whole", [False, True])
def test_a_search_ends_with_its_limit_of_pieces(whole: bool) -> None:
    inside = [f"(<= -1 X_{i} 1)" for i in range(4)]
    found = verify(deep(), prop(*inside, "(>= Y_0 -100)", inputs=4), limit=10, original=LIES["nan"], whole=whole)
    assert_undecided(found, "ended by limit", "pieces reach the outputs")


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    fits = prop("(<= 0 X_0 1)", "(>= Y_0 0)")
    with pytest.raises(ShapeError, match="expected 2 inputs and 1 outputs, as the network's; the property has 1 and 1"):
        verify(SUM, fits)
    with pytest.raises(InputError, match="expected a Property or a VNN-LIB file; got int"):
        verify(LINE, 7)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="time_limit: expected a positive number"):
        verify(LINE, fits, time_limit=0)
    for limit in (-1, 0, 2.5, True):
        for whole in (False, True):
            with pytest.raises(InputError, match="limit: expected a whole number of at least 1"):
                verify(LINE, fits, limit=limit, whole=whole)  # type: ignore[arg-type]
    with pytest.raises(FileError, match="there is none"):
        verify(LINE, tmp_path / "none.vnnlib")
    with pytest.raises(SmoothError):
        verify(dense([([[1.0]], None), ([[1.0]], None)], gate="tanh"), fits)
    with pytest.raises(GeometryError, match="at most 16 dimensions"):
        verify(dense([(torch.ones(1, 17), None)]), prop(*(f"(<= 0 X_{i} 1)" for i in range(17)), inputs=17))


def test_a_file_is_read_and_the_verdict_is_plain_data(tmp_path: Path) -> None:
    path = tmp_path / "high.vnnlib"
    path.write_text("(declare-const X_0 Real)(declare-const Y_0 Real)(assert (<= -1 X_0 2))(assert (>= Y_0 1.5))")
    found = verify(ABS, str(path), whole=True)
    plain = json.loads(json.dumps(found.to_dict()))
    assert plain["verdict"] == "sat"
    assert plain["witness"]["input"] == [2.0]
    assert plain["confirmed_by"] == "the network in float32"
    assert plain["unsafe"][0]["volume"] == 0.5
    assert "high.vnnlib: sat" in found.summary()
    assert json.loads(json.dumps(verify(ABS, str(path)).to_dict()))["unsafe"] is None


# -- against preimages in rationals


@settings(max_examples=50)
@given(degenerate_network().filter(lambda layers: len(layers[0][0][0]) < 3), st.data())  # rationals take their time
def test_verdicts_are_those_of_preimages_in_rationals(layers: list[Layer], data: st.DataObject) -> None:
    inputs, outputs = len(layers[0][0][0]), len(layers[-1][1])
    steps: list[Step] = []
    for weight, bias in layers:
        steps += [Dense(len(steps), weight, bias), Kink(len(steps) + 1, *RELU)]
    steps.pop()
    matrix = data.draw(st.lists(st.lists(HALVES, min_size=outputs, max_size=outputs), min_size=1, max_size=2))
    bound = [data.draw(HALVES) for _ in matrix]
    target = halfspace_rows(matrix, bound)
    parts = preimage_cells(steps, box([-1.0] * inputs, [1.0] * inputs), target)
    rows = [
        f"(<= (+ {' '.join(f'(* {c!r} Y_{j})' for j, c in enumerate(row))}) {b!r})"
        for row, b in zip(matrix, bound, strict=True)
    ]
    net = dense([(torch.tensor(w, dtype=torch.float64), torch.tensor(b, dtype=torch.float64)) for w, b in layers])
    found = verify(net, prop(*(f"(<= -1 X_{i} 1)" for i in range(inputs)), *rows, inputs=inputs, outputs=outputs))
    if not parts:
        assert found.verdict == "unsat"
    elif any(part.dimension == inputs for part in parts):
        assert found.verdict == "sat"
    else:  # flat pieces may hold no number of float32
        assert found.verdict != "unsat"
    if found.witness is not None:
        x = [Fraction(v) for v in found.witness.input.tolist()]
        assert [float(v) for v in evaluate(steps, x)] == pytest.approx(found.witness.output.tolist(), rel=1e-5, abs=1e-5)
        near = halfspace_rows(matrix, [b + 1e-4 for b in bound])
        assert in_target(steps, x, near)


# -- ACAS Xu


def instances(data: Path) -> list[dict[str, str]]:
    with (data / "acasxu" / "verdicts.csv").open() as file:
        return list(csv.DictReader(file))


def assert_decided(data: Path, network: str, name: str, result: str) -> None:
    path = data / "acasxu" / "onnx" / network
    net = load(path)
    source = original(path, net)
    found = verify(net, data / "acasxu" / "vnnlib" / name, original=source)
    assert found.verdict == result, (network, name, found.reason)
    if found.witness is not None:
        x, y = found.witness
        assert torch.equal(source(x[None])[0], y)
        assert read_vnnlib(data / "acasxu" / "vnnlib" / name).contains(x[None].double(), y[None].double()).all()


@pytest.mark.parametrize(("place", "name", "result"), [(6, "prop_3.vnnlib", "sat"), (3, "prop_4.vnnlib", "unsat")])
def test_an_instance_of_acas_xu_is_decided(data: Path, place: int, name: str, result: str) -> None:
    assert_decided(data, f"ACASXU_run2a_1_{place + 1}_batch_2000.onnx", name, result)


@pytest.mark.slow
def test_all_instances_of_acas_xu_are_decided(data: Path) -> None:
    rows = instances(data)
    assert len(rows) == 36
    for row in rows:
        assert_decided(data, row["network"], row["property"], row["result"])


def test_the_whole_unsafe_set_of_an_acas_xu_instance_lies_in_its_box(data: Path) -> None:
    net = load(data / "acasxu" / "onnx" / "ACASXU_run2a_1_9_batch_2000.onnx")
    found = verify(net, data / "acasxu" / "vnnlib" / "prop_4.vnnlib", whole=True)
    assert found.verdict == "sat"
    assert found.unsafe is not None
    (unsafe,) = found.unsafe
    assert isinstance(unsafe.domain, Box)
    assert unsafe.complete
    assert 0 < unsafe.volume <= unsafe.domain.volume * (1 + 1e-9)
    x = unsafe.sample(200, seed=1)
    assert found.property.contains(x.flatten(1), net.double()(x).flatten(1)).double().mean() > 0.99
