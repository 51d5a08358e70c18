"""ONNX files run by ONNX's own reference evaluator, in the precision that the file declares."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor

from ..errors import UnsupportedError
from ._onnx_file import read_model
from ._onnx_functions import inlined
from .onnx import Door

_BAD_VALUES = (RuntimeError, ValueError, TypeError, IndexError, KeyError, AttributeError, ArithmeticError)


def onnx_function(path: Path, input_shape: tuple[int, ...]) -> tuple[Callable[[Tensor], Tensor], torch.dtype]:
    """Return what the model computes for a batch, input by input, and the dtype that it takes.

    Args:
        path: an .onnx file from which a network can be read.
        input_shape: that of the network, which tells whether the first axis of the model's input is the batch.

    Raises:
        FileError, UnsupportedError: as for `read_onnx`; UnsupportedError also for operators that the evaluator lacks.
    """
    from onnx import helper
    from onnx.reference import ReferenceEvaluator

    model = inlined(read_model(path))
    door = Door.of(model, path.name)
    entry = next(i for i in model.graph.input if i.name == door.input)
    kind = np.dtype(helper.tensor_dtype_to_np_dtype(entry.type.tensor_type.elem_type))
    copies = door.shape[0] if door.shape[1:] == input_shape and len(door.shape) > len(input_shape) else 1

    def evaluated(x: Any) -> Any:
        """Return the output for one input; a model of a fixed batch is given as many copies."""
        fed = np.broadcast_to(x, (copies, *x.shape)).reshape(door.shape)
        (found,) = evaluator.run([door.output], {door.input: np.ascontiguousarray(fed)})
        return np.asarray(found).reshape(copies, -1)[0]

    def run(x: Tensor) -> Tensor:
        try:
            with np.errstate(all="ignore"):
                return torch.from_numpy(np.stack([evaluated(sample) for sample in x.numpy()]))
        except _BAD_VALUES as error:
            _refuse(path, error)

    try:
        evaluator = ReferenceEvaluator(model)
    except _BAD_VALUES as error:
        _refuse(path, error)
    return run, torch.from_numpy(np.empty(0, kind)).dtype


def _refuse(path: Path, error: Exception) -> NoReturn:
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    raise UnsupportedError(
        f"{path.name}: expected a model that ONNX's reference evaluator can run; {line}; pass another function to check with"
    ) from error
