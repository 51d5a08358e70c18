"""The door to onnxruntime, which runs ONNX models by code that shares nothing with polylens. It may be missing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import UnsupportedError

if TYPE_CHECKING:
    from onnx import ModelProto

Array = np.ndarray[Any, np.dtype[Any]]


def is_installed() -> bool:
    """Say whether onnxruntime can be imported."""
    return find_spec("onnxruntime") is not None


def runtime(model: ModelProto) -> Callable[[Mapping[str, Array]], list[Array]]:
    """Return what computes a model's outputs from its inputs by name, on one thread of the processor.

    Raises UnsupportedError, when made or when called, for what onnxruntime does not know or cannot compute.
    """
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    bad = (
        state.Fail, state.InvalidArgument, state.InvalidGraph, state.InvalidProtobuf, state.NotImplemented,
        state.RuntimeException, RuntimeError, ValueError, TypeError,
    )  # fmt: skip
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what fails is raised
    options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except bad as error:
        raise _refused(error) from error

    def run(inputs: Mapping[str, Array]) -> list[Array]:
        try:
            return [np.asarray(found) for found in session.run(None, dict(inputs))]
        except bad as error:
            raise _refused(error) from error

    return run


def _refused(error: Exception) -> UnsupportedError:
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return UnsupportedError(f"expected what onnxruntime can run; {line}; change the model, or leave onnxruntime out")
