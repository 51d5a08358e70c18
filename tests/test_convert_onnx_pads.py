"""ONNX pads that crop and pad at once, in every mode, against onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from polylens.convert.onnx import from_onnx
from polylens.errors import UnsupportedError
from test_convert_onnx import Case, expected, whole

ENDS = [(1, -1), (-1, 1), (-1, 3), (2, -2), (-2, 1), (3, 0), (0, 3), (-2, -1), (1, 1)]


@pytest.mark.parametrize("ends", ENDS, ids=str)
@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "wrap"])
def test_a_pad_crops_before_it_pads(mode: str, ends: tuple[int, int]) -> None:
    if mode == "reflect" and max(ends) >= 5 + min(ends[0], 0) + min(ends[1], 0):
        pytest.skip("more entries than there are to reflect")
    case = Case(f'y = Pad <mode = "{mode}"> (x, p)', "N,5", 19, {"p": whole(0, ends[0], 0, ends[1])})
    x = np.arange(1, 11, dtype=np.float32).reshape(2, 5)
    assert np.array_equal(from_onnx(case.model(), "pad")(torch.from_numpy(x)).numpy(), expected(case.model(), x))


@pytest.mark.parametrize("ends", [(6, 0), (4, 8)], ids=str)
@pytest.mark.parametrize("mode", ["edge", "wrap"])
def test_a_pad_may_be_longer_than_what_it_copies(mode: str, ends: tuple[int, int]) -> None:
    case = Case(f'y = Pad <mode = "{mode}"> (x, p)', "N,3", 19, {"p": whole(0, ends[0], 0, ends[1])})
    x = np.arange(1, 4, dtype=np.float32).reshape(1, 3)
    assert np.array_equal(from_onnx(case.model(), "pad")(torch.from_numpy(x)).numpy(), expected(case.model(), x))


@pytest.mark.parametrize("ends", [(5, 0), (0, 6), (3, -2), (-2, 3)], ids=str)
def test_a_reflection_of_more_entries_than_there_are_is_refused(ends: tuple[int, int]) -> None:
    case = Case('y = Pad <mode = "reflect"> (x, p)', "N,5", 19, {"p": whole(0, ends[0], 0, ends[1])})
    with pytest.raises(UnsupportedError, match="reflects more entries than there are"):
        from_onnx(case.model(), "pad")
