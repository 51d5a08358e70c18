"""ONNX models that were exported in training mode are refused in every opset; those in evaluation mode are read."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from onnx import helper

from polylens.convert.onnx import from_onnx
from polylens.errors import UnsupportedError
from test_convert_onnx import FLOAT32_AGREEMENT, Case, disagreement, expected, normal

STATISTICS = {"s": normal(3), "b": normal(3, seed=1), "m": normal(3, seed=2), "v": np.abs(normal(3, seed=3))}
IMAGE = "N,3,2,2"
TRAINING = {
    **{
        f"batch norm of five outputs, opset {opset}": Case(
            "y, a, c, d, e = BatchNormalization(x, s, b, m, v)", IMAGE, opset, STATISTICS
        )
        for opset in range(7, 14)
    },
    "batch norm whose later outputs alone are named": Case(
        "y, , , , e = BatchNormalization(x, s, b, m, v)", IMAGE, 9, STATISTICS
    ),
    "batch norm of three outputs": Case(
        "y, a, c = BatchNormalization <training_mode = 1> (x, s, b, m, v)", IMAGE, 14, STATISTICS
    ),
    "batch norm of opset 6": Case("y = BatchNormalization(x, s, b, m, v)", IMAGE, 6, STATISTICS),
    "batch norm of opset 6 that says so": Case("y = BatchNormalization <is_test = 0> (x, s, b, m, v)", IMAGE, 6, STATISTICS),
    "dropout of opset 6": Case("y = Dropout(x)", opset=6),
    "dropout of opset 6 that says so": Case("y = Dropout <is_test = 0, ratio = 0.25> (x)", opset=6),
    "dropout of opset 12": Case("y = Dropout(x, r, t)", opset=12, weights={"r": np.float32(0.5), "t": np.array(True)}),
    "dropout of opset 22 by half": Case("y = Dropout(x, , t)", opset=22, weights={"t": np.array(True)}),
}


@pytest.mark.parametrize("name", TRAINING)
def test_a_layer_in_training_mode_is_refused(name: str) -> None:
    with pytest.raises(UnsupportedError, match="export the model in eval mode"):
        from_onnx(TRAINING[name].model(), "training")


@pytest.mark.parametrize("opset", range(7, 25))
def test_batch_norm_in_evaluation_mode_is_read_in_every_opset(opset: int) -> None:
    case = Case("y = BatchNormalization(x, s, b, m, v)", IMAGE, opset, STATISTICS)
    x = normal(2, 3, 2, 2)
    assert disagreement(from_onnx(case.model(), "bn")(torch.from_numpy(x)), expected(case.model(), x)) <= FLOAT32_AGREEMENT


def test_optional_outputs_without_a_name_are_no_training() -> None:
    case = Case("y = BatchNormalization(x, s, b, m, v)", IMAGE, 9, STATISTICS)
    model, x = case.model(), normal(2, 3, 2, 2)
    model.graph.node[0].output.extend(["", "", "", ""])
    assert disagreement(from_onnx(model, "bn")(torch.from_numpy(x)), expected(case.model(), x)) <= FLOAT32_AGREEMENT


def test_layers_of_opset_6_in_evaluation_mode_are_read() -> None:
    nodes = "z = BatchNormalization <is_test = 1> (x, s, b, m, v) y = Dropout <is_test = 1> (z)"
    x = normal(2, 3, 2, 2)
    m, v, s, b = (STATISTICS[k].reshape(1, 3, 1, 1) for k in "mvsb")
    wanted = (x - m) / np.sqrt(v + 1e-5) * s + b
    got = from_onnx(Case(nodes, IMAGE, 6, STATISTICS).model(), "old")(torch.from_numpy(x))
    assert disagreement(got, wanted) <= FLOAT32_AGREEMENT


def test_a_dropout_that_drops_nothing_is_the_identity_in_training_mode() -> None:
    x = normal(2, 4)
    node = helper.make_node("Dropout", ["x", "r", "t"], ["z"])
    case = Case("z = Identity(x) y = Relu(z)", opset=17, weights={"r": np.float32(0), "t": np.array(True)})
    model = case.model()
    model.graph.node[0].CopyFrom(node)
    for case_model in (model, Case("z = Dropout <ratio = 0.0> (x) y = Relu(z)", opset=6).model()):
        assert torch.equal(from_onnx(case_model, "dropout")(torch.from_numpy(x)), torch.from_numpy(np.maximum(x, 0)))
