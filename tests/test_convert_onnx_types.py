"""Constants that take the element type of a live value, against numpy and onnxruntime."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import helper, numpy_helper
from torch import nn

from polylens import load
from polylens.convert.onnx import from_onnx
from polylens.errors import UnsupportedError

X = np.array([[-2.0, -0.25, 0.5, 3.0]])
THIRD = 1 / 3  # a number that every precision rounds differently


def model(nodes: str, constant: Any, kind: str = "float", opset: int = 18) -> onnx.ModelProto:
    graph = onnx.parser.parse_graph(f"g ({kind}[N,4] x) => ({kind}[N,4] y) {{ {nodes} }}")
    graph.initializer.append(numpy_helper.from_array(np.asarray(constant), "c"))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def outputs(found: onnx.ModelProto, kind: Any) -> np.ndarray[Any, Any]:
    """Return the network's outputs in float64, after a look at whether the runtime has them too."""
    net, x = from_onnx(found, "model.onnx"), X.astype(kind)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    y = net(torch.from_numpy(x).to(net.dtype)).double().numpy()
    peer = ort.InferenceSession(found.SerializeToString(), options, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
    assert np.abs(y - peer.astype(np.float64)).max() <= 4 * np.finfo(kind).eps
    return np.asarray(y)


@pytest.mark.parametrize("opset", [15, 18, 19, 21, 23])
@pytest.mark.parametrize(
    ("nodes", "constant", "wanted"),
    [
        ("d = CastLike(c, x) y = Clip(x, d)", np.float64(-0.5), np.maximum(X, -0.5)),
        ("d = CastLike(c, x) y = Add(x, d)", np.int64(2), X + 2),
        ("r = Relu(x) d = CastLike(c, r) y = Mul(r, d)", np.float64(3), 3 * np.maximum(X, 0)),
        ("r = Relu(x) d = CastLike(c, r) e = Neg(d) y = Mul(r, e)", np.array(True), -np.maximum(X, 0)),
        ("d = CastLike(x, c) y = Relu(d)", np.float32(2), np.maximum(X, 0)),
        ("r = Neg(x) d = CastLike(x, r) y = Max(d, r)", np.float32(0), np.abs(X)),
        ("e = CastLike(c, c) d = CastLike(e, x) y = Add(x, d)", np.array([1, 2, 3, 4]), X + np.array([[1, 2, 3, 4]])),
    ],
)
def test_only_the_type_of_the_second_input_matters(opset: int, nodes: str, constant: Any, wanted: Any) -> None:
    assert np.abs(outputs(model(nodes, constant, opset=opset), np.float32) - wanted).max() <= 1e-6


@pytest.mark.parametrize(("kind", "name"), [(np.float16, "float16"), (np.float32, "float"), (np.float64, "double")])
@pytest.mark.parametrize("nodes", ["d = CastLike(c, x) y = Add(x, d)", "r = Abs(x) d = CastLike(c, r) y = Add(x, d)"])
def test_a_constant_is_rounded_to_the_type_of_the_live_value(nodes: str, kind: Any, name: str) -> None:
    found = outputs(model(nodes, np.float64(THIRD), name), kind)
    assert np.abs(found - (X + float(kind(THIRD)))).max() <= 1e-7
    assert abs(float(np.float16(THIRD)) - THIRD) > 1e-5  # so that the tolerance tells the types apart


def test_a_cast_on_the_way_lends_its_own_type() -> None:
    nodes = "h = Cast <to = 10> (x) d = CastLike(c, h) e = Cast <to = 1> (d) y = Add(x, e)"
    assert np.abs(outputs(model(nodes, np.float64(THIRD)), np.float32) - (X + float(np.float16(THIRD)))).max() <= 1e-7
    nodes = "k = CastLike(c, c) h = CastLike(x, k) d = CastLike(c, h) e = Cast <to = 1> (d) y = Add(x, e)"
    assert np.abs(outputs(model(nodes, np.float16(THIRD)), np.float32) - (X + float(np.float16(THIRD)))).max() <= 1e-7


@pytest.mark.parametrize(
    ("constant", "words"), [(np.int64(1), "into int64"), (np.array(True), "into bool"), (np.uint8(3), "into uint8")]
)
def test_live_values_in_the_type_of_integers_are_refused(constant: Any, words: str) -> None:
    with pytest.raises(UnsupportedError, match=rf"CastLike 'd' \(node 0 of 2\): turns the network's values {words}; cut"):
        from_onnx(model("d = CastLike(x, c) y = Cast <to = 1> (d)", constant), "model.onnx")


MODULES = {
    "hard tanh": nn.Sequential(nn.Linear(6, 4), nn.Hardtanh(-0.5, 0.25), nn.Linear(4, 3)),
    "relu 6": nn.Sequential(nn.Linear(6, 4), nn.ReLU6(), nn.Linear(4, 3)),
    "leaky and elu": nn.Sequential(nn.Linear(6, 4), nn.LeakyReLU(0.3), nn.Linear(4, 3), nn.ELU(0.7)),
    "layer norm": nn.Sequential(nn.Linear(6, 4), nn.LayerNorm(4), nn.GELU(), nn.Linear(4, 3), nn.Tanh()),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MODULES)
def test_a_file_that_torch_has_not_optimised_loads(name: str, tmp_path: Path) -> None:
    logging.disable(logging.CRITICAL)
    torch.manual_seed(0)
    module, x = MODULES[name].eval(), torch.randn(5, 6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own
        torch.onnx.export(module, (x,), tmp_path / "m.onnx", optimize=False, verbose=False)
    logging.disable(logging.NOTSET)
    with torch.no_grad():
        assert (load(tmp_path / "m.onnx")(x) - module(x)).abs().max() <= 1e-5
