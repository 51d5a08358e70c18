"""Functions that an ONNX model defines itself, against onnxruntime: their attributes, given and by default."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
import torch
from onnx import numpy_helper

from polylens import load, original
from polylens.convert.onnx import from_onnx
from test_convert_onnx import FLOAT32_AGREEMENT, disagreement, expected, normal

W = normal(4, 3)
FUNCTIONS = {
    "slope by default": ("N,4", "y = own.F(x)", "F <p: float = 0.25> (a) => (b) { b = LeakyRelu <alpha: float = @p> (a) }"),
    "slope given": (
        "N,4", "y = own.F <p = 0.5> (x)", "F <p: float = 0.25> (a) => (b) { b = LeakyRelu <alpha: float = @p> (a) }"
    ),
    "slope neither given nor by default": ("N,4", "y = own.F(x)", "F <p> (a) => (b) { b = LeakyRelu <alpha: float = @p> (a) }"),
    "one of two given": (
        "N,4", "y = own.F <q = -2.0> (x, w, c)",
        "F <p: float = 3.0, q: float = 5.0> (a, w, c) => (b) { b = Gemm <alpha: float = @p, beta: float = @q> (a, w, c) }",
    ),
    "lists": (
        "N,1,4,4", "y = own.F(x, k)", "F <p: ints = [1, 0, 1, 2]> (a, k) => (b) { b = Conv <pads: ints = @p> (a, k) }"
    ),
    "an order of axes": ("N,2,3", "y = own.F(x)", "F <p: ints = [0, 2, 1]> (a) => (b) { b = Transpose <perm: ints = @p> (a) }"),
    "called twice, once with its own": (
        "N,4", "z = own.F(x) y = own.F <p = 0.75> (z)",
        "F <p: float = -0.5> (a) => (b) { b = LeakyRelu <alpha: float = @p> (a) }"
    ),
}  # fmt: skip
NESTED = """<domain: "own", opset_import: ["": 17, "own": 1]>
G <q: float = 0.125> (a) => (b) { c = own.F(a) b = own.F <p: float = @q> (c) }
<domain: "own", opset_import: ["": 17]> F <p: float = 3.0> (a) => (b) { b = LeakyRelu <alpha: float = @p> (a) }"""


def model_of(shape: str, nodes: str, functions: str) -> onnx.ModelProto:
    model = onnx.parser.parse_model(
        f'<ir_version: 9, opset_import: ["": 17, "own": 1]> g (float[{shape}] x) => (float[] y) {{ {nodes} }} {functions}'
    )
    used = {name for node in model.graph.node for name in node.input}
    for name, value in {"w": W, "c": normal(3), "k": normal(2, 1, 3, 2)}.items():
        if name in used:
            model.graph.initializer.append(numpy_helper.from_array(value, name))
    return model


def assert_agrees(model: onnx.ModelProto, shape: str) -> None:
    x = normal(*(2 if size == "N" else int(size) for size in shape.split(",")))
    assert disagreement(from_onnx(model, "own")(torch.from_numpy(x)), expected(model, x)) <= FLOAT32_AGREEMENT


@pytest.mark.parametrize("name", FUNCTIONS)
def test_attributes_that_a_call_leaves_out_have_the_defaults_of_the_function(name: str) -> None:
    shape, nodes, function = FUNCTIONS[name]
    assert_agrees(model_of(shape, nodes, f'<domain: "own", opset_import: ["": 17]> {function}'), shape)


def test_functions_that_call_functions_keep_the_defaults_of_both() -> None:
    model = model_of("N,4", "y = own.G(x)", NESTED)
    x = normal(5, 4)
    wanted = np.where(x > 0, x, 3.0 * 0.125 * x)  # the second slope sees what the first has left negative
    assert disagreement(from_onnx(model, "own")(torch.from_numpy(x)), expected(model, x)) <= FLOAT32_AGREEMENT
    assert disagreement(torch.from_numpy(wanted), expected(model, x)) <= FLOAT32_AGREEMENT


def test_reading_a_model_leaves_its_functions_as_they_are() -> None:
    model = model_of("N,4", "y = own.G(x)", NESTED)
    before = model.SerializeToString(deterministic=True)
    from_onnx(model, "own")
    assert model.SerializeToString(deterministic=True) == before


def test_a_file_with_functions_can_be_run_as_it_is(tmp_path: Path) -> None:
    model = model_of("N,4", "y = own.G(x)", NESTED)
    onnx.save(model, tmp_path / "own.onnx")
    x = normal(3, 4)
    found = original(tmp_path / "own.onnx", load(tmp_path / "own.onnx"))(torch.from_numpy(x))
    assert disagreement(found, expected(model, x)) <= FLOAT32_AGREEMENT
