"""Windows of ONNX models against their definition, written out in numpy, and against onnxruntime where it takes them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper

from polylens.convert.onnx import from_onnx


def pooled(x: np.ndarray[Any, Any], size: int, stride: int, dilation: int, before: int, after: int) -> np.ndarray[Any, Any]:
    """Return the largest entries of windows along all axes but the first two; entries outside do not count."""
    for axis in range(2, x.ndim):
        length = x.shape[axis]
        starts = range(-before, length + after - (size - 1) * dilation, stride)
        rows = [[p for p in range(s, s + size * dilation, dilation) if 0 <= p < length] for s in starts]
        x = np.stack([np.take(x, row, axis).max(axis) for row in rows], axis)
    return x


def pool(shape: list[int], size: int, stride: int, dilation: int, before: int, after: int) -> onnx.ModelProto:
    axes = len(shape) - 2
    node = helper.make_node(
        "MaxPool", ["x"], ["y"], kernel_shape=[size] * axes, strides=[stride] * axes, dilations=[dilation] * axes,
        pads=[before] * axes + [after] * axes,
    )  # fmt: skip
    entry = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    exit_ = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([node], "g", [entry], [exit_])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 12)], ir_version=8)


@pytest.mark.parametrize(
    ("axes", "length", "size", "stride", "dilation", "before", "after"),
    [
        (1, 7, 3, 1, 2, 2, 2),  # keeps the length, as all with before = after = dilation * (size - 1) / 2
        (1, 9, 5, 1, 2, 4, 4),
        (1, 9, 3, 1, 3, 3, 3),  # the runtime wants less padding than kernel
        (2, 7, 3, 1, 2, 2, 2),
        (2, 6, 3, 2, 2, 2, 2),
        (2, 5, 2, 1, 3, 1, 2),
        (2, 8, 4, 3, 2, 3, 1),
        (3, 5, 3, 2, 2, 2, 2),
        (1, 11, 4, 2, 3, 5, 7),
    ],
)
def test_a_dilated_max_pool_takes_the_padding_that_onnx_allows(
    axes: int, length: int, size: int, stride: int, dilation: int, before: int, after: int
) -> None:
    """PyTorch's own takes half a kernel at most, whatever the dilation."""
    x = np.random.default_rng([axes, length]).standard_normal([1, 2] + [length] * axes).astype(np.float32)
    model = pool(list(x.shape), size, stride, dilation, before, after)
    wanted = pooled(x, size, stride, dilation, before, after)
    assert np.array_equal(from_onnx(model, "pool")(torch.from_numpy(x)).numpy(), wanted)
    if max(before, after) < size:
        session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        assert np.array_equal(session.run(None, {"x": x})[0], wanted)
