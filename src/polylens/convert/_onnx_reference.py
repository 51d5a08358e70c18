"""ONNX files run as they are, in the precision that they declare, by code that shares nothing with a network.

onnxruntime runs them where it is installed and takes them. ONNX's own reference evaluator is wrong for some operators of some
opsets, so it is believed only where the network agrees with it; where it does not, the network itself runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..errors import UnsupportedError
from ..network import Network
from ._onnx_constants import Array
from ._onnx_declared import Declared
from ._onnx_file import read_model
from ._onnx_folding import BAD_VALUES
from ._onnx_functions import inlined
from ._onnxruntime import is_installed, runtime
from ._ports import Values
from .onnx import Door

if TYPE_CHECKING:
    from onnx import ModelProto

_Run = Callable[[Tensor], Tensor]
_Evaluate = Callable[[Mapping[str, Array]], Sequence[Array]]
_PROBES = 4  # inputs, half of them normal and half from [0, 1]: operators that are read in another way differ at all of them
_AGREEMENT = 1e-3  # relative to the largest output: float32 rounds by less, another reading of an operator changes more
_HALF_AGREEMENT = 0.05  # about fifty roundings of half precision


def onnx_function(
    path: Path, net: Network, inputs: Values | None = None, output: str | None = None
) -> tuple[_Run, torch.dtype, str]:
    """Return what the model computes for a batch, input by input, the dtype that it takes, and words on what runs it.

    Args:
        path: an .onnx file from which a network can be read.
        net: that network.
        inputs: which inputs are fixed, as for `load`.
        output: which output counts, as for `load`.

    The outputs of the reference evaluator are NaN at inputs where it and the network in float32 disagree.

    Raises:
        FileError, UnsupportedError: as for `read_onnx`.
    """
    model = inlined(read_model(path))
    door = Door.of(model, path.name, inputs, output)
    kind = np.result_type(*(entry.element_type for entry in door.inputs))
    dtype = torch.from_numpy(np.empty(0, kind)).dtype
    if is_installed():
        try:
            run = _batched(runtime(model), model, door, net, inputs)
            run(_probes(net, dtype)[:1])
            return run, dtype, "onnxruntime"
        except UnsupportedError:
            pass  # an opset or a type that it has no code for
    precision = torch.float64 if dtype == torch.float64 else torch.float32
    single = net.to(dtype=precision)
    try:
        reference = _batched(_reference(model), model, door, net, inputs)
        if _agree(reference(_probes(net, dtype)), single(_probes(net, precision)).cpu(), dtype).all():
            return _where_agreed(reference, single, dtype), dtype, "ONNX's reference evaluator"
        problem = "which ONNX's reference evaluator contradicts"
    except UnsupportedError:
        problem = "because ONNX's reference evaluator cannot run the file"
    lack = "onnxruntime cannot run it either" if is_installed() else "install onnxruntime to have the file itself run"

    def own(x: Tensor) -> Tensor:
        return single(x).cpu()

    return own, precision, f"the network in {str(precision).removeprefix('torch.')} ({problem}; {lack})"


def _batched(evaluate: _Evaluate, model: ModelProto, door: Door, net: Network, inputs: Values | None) -> _Run:
    """Return what evaluates a batch input by input; a model of a fixed batch is given as many copies of each."""
    place = [output.name for output in model.graph.output].index(door.output)
    fixed = {name: door.constants[name] for name in inputs or {} if name in door.constants}
    shapes = {part.name: part.shape for part in net.inputs} or {door.inputs[0].name: net.input_shape}
    apart = all(entry.shape[1:] == shapes[entry.name] for entry in door.inputs if len(entry.shape) > 1)
    copies = door.batch if apart and door.batch else 1

    def evaluated(x: Tensor) -> Any:
        parts = {name: part.cpu() for name, part in net.split(x).items()} or {door.inputs[0].name: x}
        found = evaluate({e.name: _fed(parts[e.name].numpy(), e, copies) for e in door.inputs} | fixed)[place]
        return np.asarray(found).reshape(copies, -1)[0]

    def run(x: Tensor) -> Tensor:
        return torch.from_numpy(np.stack([evaluated(sample) for sample in x]))

    return run


def _fed(x: Array, entry: Declared, copies: int) -> Array:
    """Return one sample of an input as the model declares it."""
    wide = np.broadcast_to(x, (copies, *x.shape)) if x.size < math.prod(entry.shape) else x
    return np.ascontiguousarray(wide.reshape(entry.shape).astype(entry.element_type))


def _reference(model: ModelProto) -> _Evaluate:
    """Return ONNX's evaluator of a model; raises UnsupportedError, when made or when called, for what it lacks."""
    from onnx.reference import ReferenceEvaluator

    try:
        evaluator = ReferenceEvaluator(model)
    except BAD_VALUES as error:
        raise _refused(error) from error

    def evaluate(inputs: Mapping[str, Array]) -> Sequence[Array]:
        try:
            with np.errstate(all="ignore"):
                return [np.asarray(found) for found in evaluator.run(None, dict(inputs))]
        except BAD_VALUES as error:
            raise _refused(error) from error

    return evaluate


def _refused(error: Exception) -> UnsupportedError:
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return UnsupportedError(f"expected what ONNX's reference evaluator can run; {line}; install onnxruntime")


# -- agreement with the network


def _probes(net: Network, dtype: torch.dtype) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    shape = (_PROBES // 2, *net.input_shape)
    probes = [torch.randn(shape, generator=generator), torch.rand(shape, generator=generator)]
    return torch.cat(probes).half().to(dtype)  # the same numbers in every precision


def _agree(found: Tensor, wanted: Tensor, dtype: torch.dtype) -> Tensor:
    """Return, for each input of a batch, whether two outputs are the same up to rounding."""
    found, wanted = found.double().flatten(1), wanted.double().flatten(1)
    if found.shape != wanted.shape:
        return torch.zeros(len(wanted), dtype=torch.bool)
    share = _HALF_AGREEMENT if dtype == torch.float16 else _AGREEMENT
    return (found - wanted).abs().amax(1) <= share * wanted.abs().amax(1).clamp(min=1e-30)


def _where_agreed(reference: _Run, single: Network, dtype: torch.dtype) -> _Run:
    def run(x: Tensor) -> Tensor:
        found = reference(x)
        agreed = _agree(found, single(x.to(single.dtype)).cpu(), dtype)
        return found.masked_fill(~agreed.reshape(-1, *(1,) * (found.ndim - 1)), torch.nan)

    return run
