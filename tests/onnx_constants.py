"""Nodes of an ONNX model on constants alone, and what a network makes of them, for tests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import torch

from polylens.convert.onnx import from_onnx
from test_convert_onnx import Case


def constant_model(nodes: str, weights: Mapping[str, Any], opset: int) -> onnx.ModelProto:
    """Return a model of one live number, 0 times which is added to the constant c that the nodes make."""
    around = f"{nodes} f = Cast <to = 1> (c) r = Reshape(f, row) z = Mul(x, zero) y = Add(z, r)"
    given = {"row": np.array([1, -1], np.int64), "zero": np.float32(0)} | dict(weights)
    return Case(around, "1,1", opset, given).model()


def folded_by_polylens(model: onnx.ModelProto) -> np.ndarray[Any, Any]:
    """Return the entries of c as the network has them."""
    return from_onnx(model, "constants")(torch.zeros(1, 1)).numpy().reshape(-1)
