"""Where ONNX's resizing takes its entries from: ties, scales that float32 cannot hold, lengths that stay."""

from __future__ import annotations

import math
import warnings
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from polylens import load
from polylens.convert.onnx import from_onnx
from test_convert_onnx import FLOAT32_AGREEMENT, Case, assert_affine_near, disagreement, expected, whole

HALF = Fraction(1, 2)
PLACES = {
    "half_pixel": lambda i, length, size, scale: (i + HALF) / scale - HALF,
    "pytorch_half_pixel": lambda i, length, size, scale: (i + HALF) / scale - HALF if size > 1 else Fraction(0),
    "asymmetric": lambda i, length, size, scale: i / scale,
    "align_corners": lambda i, length, size, scale: Fraction(i * (length - 1), max(size - 1, 1)),
}
ROUNDINGS = {
    "floor": math.floor,
    "ceil": math.ceil,
    "round_prefer_floor": lambda place: math.ceil(place - HALF),
    "round_prefer_ceil": lambda place: math.floor(place + HALF),
}


def resized(length: int, attributes: str, scale: float | None = None, size: int | None = None) -> Case:
    weights = {"s": np.array([1, 1, scale])} if size is None else {"t": whole(1, 1, size)}
    return Case(f"y = Resize <{attributes}> (x, , {'s' if size is None else ', t'})", f"1,1,{length}", 19, weights)


def numbered(length: int) -> np.ndarray:  # type: ignore[type-arg]
    return np.arange(length, dtype=np.float32).reshape(1, 1, length)


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("place", PLACES)
def test_a_nearest_entry_is_the_one_that_rationals_name(place: str, rounding: str) -> None:
    for length in (2, 3, 5, 6, 9, 14):
        scales = [(Fraction(text), None) for text in ("0.5", "0.6", "0.7", "1.2", "1.5", "1.6", "1.7", "2", "2.5", "3")]
        for scale, size in scales + [(Fraction(size, length), size) for size in (1, 2, 3, 5, 7, 10, 12, 21)]:
            count = math.floor(scale * length)
            if count == length:
                continue
            found = [ROUNDINGS[rounding](PLACES[place](i, length, count, scale)) for i in range(count)]
            wanted = [min(max(i, 0), length - 1) for i in found]
            attributes = f'mode = "nearest", nearest_mode = "{rounding}", coordinate_transformation_mode = "{place}"'
            case = resized(length, attributes, float(scale), size)
            net = from_onnx(case.model(), "resize")
            assert net(torch.from_numpy(numbered(length))).reshape(-1).tolist() == wanted, (length, scale, size)


@pytest.mark.parametrize(
    ("length", "scale", "rounding"),
    [
        (6, 1.6, "round_prefer_floor"), (5, 2.5, "ceil"), (6, 1.2, "ceil"), (6, 2.3, "round_prefer_ceil"), (7, 1.7, "ceil"),
        (7, 2.3, "round_prefer_floor"), (5, 3.0, "floor"), (4, 1.75, "round_prefer_ceil"),
    ],
)  # fmt: skip
def test_ties_of_symmetric_places_fall_as_in_the_runtime(length: int, scale: float, rounding: str) -> None:
    attributes = f'mode = "nearest", nearest_mode = "{rounding}", coordinate_transformation_mode = "half_pixel_symmetric"'
    model = resized(length, attributes, scale).model()
    x = numbered(length)
    assert np.array_equal(from_onnx(model, "resize")(torch.from_numpy(x)).numpy(), expected(model, x))


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("place", [*PLACES, "half_pixel_symmetric"])
@pytest.mark.parametrize("scale", [1.2, 1.3, 1.0])
def test_a_resize_that_keeps_every_length_is_the_identity(place: str, mode: str, scale: float) -> None:
    attributes = f'mode = "{mode}", coordinate_transformation_mode = "{place}"'
    scales = {"s": np.array([1, 1, scale, scale])}
    model = Case(f"z = Resize <{attributes}> (x, , s) y = Relu(z)", "1,1,3,3", 19, scales).model()
    x = numbered(9).reshape(1, 1, 3, 3) - 4
    got = from_onnx(model, "resize")(torch.from_numpy(x))
    assert np.array_equal(got.numpy(), np.maximum(x, 0))
    assert np.array_equal(expected(model, x), np.maximum(x, 0))


def test_all_axes_are_resized_where_one_changes_its_length() -> None:
    case = Case('y = Resize <mode = "linear"> (x, , s)', "1,1,3,3", 19, {"s": np.array([1, 1, 1.2, 2.0])})
    x = np.arange(9, dtype=np.float32).reshape(1, 1, 3, 3)
    got = from_onnx(case.model(), "resize")(torch.from_numpy(x))
    assert disagreement(got, expected(case.model(), x)) <= FLOAT32_AGREEMENT


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_an_upsampling_that_changes_nothing_is_read_from_a_file_as_from_its_module(mode: str, tmp_path: Path) -> None:
    module, x = nn.Upsample(scale_factor=1.2, mode=mode).eval(), torch.arange(1.0, 10).reshape(1, 1, 3, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own
        torch.onnx.export(nn.Sequential(module, nn.ReLU()), (x,), tmp_path / "up.onnx", dynamo=False)
    assert torch.equal(load(tmp_path / "up.onnx")(x), module(x))


@pytest.mark.parametrize("extra", ["", "cubic_coeff_a = -0.5, ", "exclude_outside = 1, "])
@pytest.mark.parametrize("place", PLACES)
def test_cubic_interpolation_agrees_with_the_runtime(place: str, extra: str) -> None:
    attributes = f'mode = "cubic", {extra}coordinate_transformation_mode = "{place}"'
    for opset, shape, target in ((11, (5, 6), (10, 15)), (13, (7, 4), (3, 9)), (19, (5, 5), (5, 8)), (19, (3, 2), (1, 6))):
        case = Case(f"y = Resize <{attributes}> (x, r, r, t)", f"1,1,{shape[0]},{shape[1]}", opset)
        case = Case(case.nodes, case.shape, opset, {"t": whole(1, 1, *target), "r": np.empty(0, np.float32)})
        x = np.random.default_rng(list(target)).standard_normal((1, 1, *shape)).astype(np.float32)
        net = from_onnx(case.model(), "resize")
        assert disagreement(net(torch.from_numpy(x)), expected(case.model(), x)) <= FLOAT32_AGREEMENT, (opset, shape, target)
        assert_affine_near(net, torch.from_numpy(x))


@pytest.mark.parametrize(("size", "aligned"), [((12, 15), False), ((3, 4), False), ((9, 9), True), ((1, 12), True)])
def test_cubic_interpolation_is_the_one_of_torch(size: tuple[int, int], aligned: bool) -> None:
    place = "align_corners" if aligned else "pytorch_half_pixel"
    attributes = f'mode = "cubic", coordinate_transformation_mode = "{place}"'
    x = torch.randn(1, 2, 6, 5, generator=torch.Generator().manual_seed(0))
    case = Case(f"y = Resize <{attributes}> (x, , , t)", "1,2,6,5", 19, {"t": whole(1, 2, *size)})
    wanted = nn.functional.interpolate(x.double(), size, mode="bicubic", align_corners=aligned)
    assert (from_onnx(case.model(), "resize").double()(x.double()) - wanted).abs().max() <= 1e-12
