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
from polylens.errors import UnsupportedError
from test_convert_onnx import FLOAT32_AGREEMENT, Case, disagreement, expected, normal


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


# -- windows that have no value, or two


@pytest.mark.parametrize("operator", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize(
    "attributes",
    [
        "kernel_shape = [1], pads = [1, 1]",
        "kernel_shape = [1], pads = [0, 1]",
        "kernel_shape = [2], pads = [2, 1]",
        "kernel_shape = [2], pads = [0, 3], strides = [2]",
        "kernel_shape = [3], pads = [4, 0], strides = [2]",
    ],
)
def test_a_window_of_padding_only_is_refused(operator: str, attributes: str) -> None:
    with pytest.raises(UnsupportedError, match="holds padding only"):
        from_onnx(Case(f"y = {operator} <{attributes}> (x)", "N,1,6", 19).model(), "pool")


@pytest.mark.parametrize(
    "attributes",
    [
        "kernel_shape = [2], pads = [1, 1]",
        "kernel_shape = [2], pads = [1, 1], strides = [2]",
        "kernel_shape = [2], dilations = [3], pads = [1, 1]",
        "kernel_shape = [1], strides = [4], ceil_mode = 1",
        "kernel_shape = [2], strides = [9], pads = [1, 0], ceil_mode = 1",
    ],
)
@pytest.mark.parametrize("operator", ["MaxPool", "AveragePool"])
def test_a_window_that_holds_one_entry_has_its_value(operator: str, attributes: str) -> None:
    case = Case(f"y = {operator} <{attributes}> (x)", "N,1,7", 19)
    x = np.arange(1, 8, dtype=np.float32).reshape(1, 1, 7) - 10
    assert disagreement(from_onnx(case.model(), "pool")(torch.from_numpy(x)), expected(case.model(), x)) <= FLOAT32_AGREEMENT


@pytest.mark.parametrize("auto", ["SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize("strides", [1, 2, 3])
@pytest.mark.parametrize("operator", ["MaxPool", "AveragePool"])
def test_size_keeping_pads_of_dilated_pools_are_refused_with_both_readings(operator: str, strides: int, auto: str) -> None:
    nodes = f'y = {operator} <kernel_shape = [2], dilations = [2], strides = [{strides}], auto_pad = "{auto}"> (x)'
    with pytest.raises(UnsupportedError, match="the ONNX standard counts with their gaps and onnxruntime without"):
        from_onnx(Case(nodes, "N,1,7", 19).model(), "pool")


@pytest.mark.parametrize("operator", ["MaxPool", "AveragePool"])
def test_dilation_of_a_single_entry_means_nothing(operator: str) -> None:
    case = Case(
        f'y = {operator} <kernel_shape = [1], dilations = [2], strides = [3], auto_pad = "SAME_LOWER"> (x)', "N,1,7", 19
    )
    x = np.arange(1, 8, dtype=np.float32).reshape(1, 1, 7)
    assert np.array_equal(from_onnx(case.model(), "pool")(torch.from_numpy(x)).numpy(), expected(case.model(), x))


@pytest.mark.parametrize(
    ("kernel", "attributes"),
    [
        (1, 'strides = [3], auto_pad = "SAME_UPPER"'),
        (2, 'strides = [4], auto_pad = "SAME_LOWER"'),
        (1, 'strides = [2], auto_pad = "SAME_UPPER"'),
        (1, "strides = [3], output_shape = [12]"),
        (2, "strides = [3], output_shape = [13]"),
    ],
)
def test_a_transposed_convolution_with_gaps_is_refused_for_what_it_is(kernel: int, attributes: str) -> None:
    case = Case(f"y = ConvTranspose <{attributes}> (x, w)", "N,1,4", 13, {"w": normal(1, 1, kernel)})
    with pytest.raises(UnsupportedError, match=r"larger than its kernels reach.*use output_padding"):
        from_onnx(case.model(), "gaps")


def test_gaps_by_output_padding_hold_the_bias() -> None:
    weights = {"w": np.full((1, 1, 1), 2.0), "b": np.array([0.5])}
    case = Case("y = ConvTranspose <strides = [3], output_padding = [2]> (x, w, b)", "N,1,4", 13, weights)
    x = np.arange(1, 5, dtype=np.float32).reshape(1, 1, 4)
    got = from_onnx(case.model(), "gaps")(torch.from_numpy(x))
    assert got.reshape(-1).tolist() == [2.5, 0.5, 0.5, 4.5, 0.5, 0.5, 6.5, 0.5, 0.5, 8.5, 0.5, 0.5]
    assert np.array_equal(got.numpy(), expected(case.model(), x))
