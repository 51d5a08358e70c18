"""All ONNX operators that the door claims, in all opsets from 7 to 24, live and constant, against onnxruntime."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
import onnx
import onnx.parser
import pytest
import torch
from onnx import helper, numpy_helper

from onnx_constants import constant_model, folded_by_polylens
from onnx_operator_table import FIRST, GONE, LAST, TABLE, Array, Row
from polylens.convert._onnx_call import OPERATORS
from polylens.convert._onnx_choices import _MEANING as CHOICES
from polylens.convert._onnx_constants import CONSTANTS
from polylens.convert._onnxruntime import runtime
from polylens.convert.onnx import from_onnx
from polylens.errors import UnsupportedError

AGREEMENT = 2e-6  # relative to the largest entry: the runtime adds up a few dozen numbers in float32, in an order of its own
READ_ELSEWHERE = {"CastLike", "DequantizeLinear", "QuantizeLinear", "Shape", "Size"}


def schema(op: str, opset: int) -> onnx.defs.OpSchema | None:
    """Return the definition of an operator in an opset that has it."""
    try:
        return onnx.defs.get_schema(op, opset) if opset < GONE.get(op, LAST + 1) else None
    except onnx.defs.SchemaError:
        return None


def opsets(op: str, row: Row) -> list[int]:
    return [o for o in range(max(row.since, FIRST), min(row.until, LAST) + 1) if schema(op, o) is not None]


def turning_points(op: str, row: Row) -> set[int]:
    """Return the first and last opset of a row, and those that define the operator anew."""
    known = opsets(op, row)
    return {o for o in known if o in (known[0], known[-1]) or schema(op, o).since_version == o}  # type: ignore[union-attr]


def cases() -> Iterator[object]:
    for op, rows in TABLE.items():
        for number, row in enumerate(rows):
            kept = turning_points(op, row)
            for opset in opsets(op, row):
                for mode in ("live", "constant") if row.live else ("constant",):
                    marks = () if opset in kept else pytest.mark.slow
                    yield pytest.param(op, number, opset, mode, id=f"{op}-{number}-opset {opset}-{mode}", marks=marks)


def live_model(row: Row, opset: int) -> onnx.ModelProto:
    """Return the model of a row with `a` as its input, whose first axis is a batch unless it has one entry."""
    graph = onnx.parser.parse_graph(f"g (float[1] a) => (float[] c) {{ {row.nodes} }}")
    shape = [*row.a.shape]
    if len(shape) > 1 and shape[0] != 1:
        shape[0] = "N"  # type: ignore[call-overload]
    kind = helper.np_dtype_to_tensor_dtype(row.a.dtype)
    graph.input[0].CopyFrom(helper.make_tensor_value_info("a", kind, shape))
    if not row.live:
        graph.output[0].CopyFrom(helper.make_empty_tensor_value_info("c"))  # of any type
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in row.weights.items())
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


@cache
def wanted(op: str, number: int, opset: int) -> Array:
    """Return what onnxruntime computes, in float64."""
    row = TABLE[op][number]
    return runtime(live_model(row, opset))({"a": row.a})[0].astype(np.float64)


def test_every_operator_of_the_door_has_a_row_and_no_other_has() -> None:
    assert set(TABLE) == set(OPERATORS) | set(CONSTANTS) | READ_ELSEWHERE
    live = {*OPERATORS, *CHOICES, "CastLike", "Shape", "Size"}
    assert {op for op, rows in TABLE.items() if any(row.live for row in rows)} == live


def test_every_opset_that_has_an_operator_has_a_row_of_it() -> None:
    for op, rows in TABLE.items():
        covered = {o for row in rows for o in opsets(op, row)}
        assert covered == {o for o in range(FIRST, LAST + 1) if schema(op, o) is not None}, op


@pytest.mark.parametrize("op", GONE)
def test_operators_that_are_gone_are_deprecated_and_not_run(op: str) -> None:
    row = next(row for row in TABLE[op] if row.until == GONE[op] - 1)
    assert onnx.defs.get_schema(op, GONE[op]).deprecated
    assert runtime(live_model(row, GONE[op] - 1))({"a": row.a})
    with pytest.raises(UnsupportedError, match="expected what onnxruntime can run"):
        runtime(live_model(row, GONE[op]))


def test_the_runtime_knows_the_last_opset() -> None:
    assert onnx.defs.onnx_opset_version() >= LAST
    assert wanted("Relu", 0, LAST).shape == TABLE["Relu"][0].a.shape


@pytest.mark.parametrize(("op", "number", "opset", "mode"), list(cases()))
def test_an_operator_is_what_onnxruntime_makes_of_it(op: str, number: int, opset: int, mode: str) -> None:
    row = TABLE[op][number]
    right = wanted(op, number, opset)
    if mode == "live":
        got = from_onnx(live_model(row, opset), op)(torch.from_numpy(row.a)).numpy()
        assert got.size == right.size
        got = got.reshape(-1)
    else:
        model = constant_model(row.nodes, {"a": row.a, **row.weights}, opset)
        got = folded_by_polylens(model)
    assert got.shape == (right.size,)
    assert np.abs(got - right.reshape(-1)).max(initial=0) <= AGREEMENT * max(np.abs(right).max(initial=0), 1e-30)
