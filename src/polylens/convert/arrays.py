"""The arrays door: fully connected networks from plain weights, for models of other frameworks."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import FileError, InputError, ShapeError
from ..gates import Gate, absolute, clip, hardsigmoid, leaky_relu, relu
from ..network import Network
from ._builder import Builder
from ._program import Live

GateName = str | None
_SMOOTH: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "softplus": F.softplus,
    "elu": F.elu,
    "selu": F.selu,
    "celu": F.celu,
    "gelu": F.gelu,
    "silu": F.silu,
    "mish": F.mish,
    "hardswish": F.hardswish,
}
_GATES: dict[str, Callable[[], Gate]] = {
    "relu": relu,
    "leaky_relu": lambda: leaky_relu(0.01),
    "abs": absolute,
    "relu6": lambda: clip(0.0, 6.0, "relu6"),
    "hardtanh": lambda: clip(-1.0, 1.0, "hardtanh"),
    "hardsigmoid": hardsigmoid,
}


def dense(layers: Sequence[tuple[Any, Any]], gate: GateName | Sequence[GateName] = "relu") -> Network:
    """Return the fully connected network x -> W_L g(... g(W_1 x + b_1) ...) + b_L.

    Args:
        layers: one (W, b) for each layer, arrays or nested lists; W is (outputs, inputs), b is (outputs,) or None. Keras
            and Flax store (inputs, outputs): pass W.T.
        gate: between the layers: "relu", "leaky_relu" (slope 0.01), "abs", "relu6", "hardtanh", "hardsigmoid", a
            smooth activation such as "tanh", or None; or one such for each layer, the last one's after the output.

    Returns: a network with layers named "linear1", "relu1", "linear2", ... in float64 if any array is, else float32.

    Raises:
        ShapeError: sizes that do not follow one another; the message names the layer.
        InputError: no layer, an unknown gate, NaN or infinity.

    Example:
        >>> from polylens import dense
        >>> net = dense([([[1.0, -1.0]], [0.0])])
        >>> net.input_shape, net.num_units  # a single layer has no gate behind it
        ((2,), 0)
    """
    if not layers:
        raise InputError("dense: expected at least one (W, b); got none")
    gates = list(gate) if isinstance(gate, Sequence) and not isinstance(gate, str) else [gate] * (len(layers) - 1) + [None]
    if len(gates) == len(layers) - 1:
        gates.append(None)
    if len(gates) != len(layers):
        raise InputError(f"dense: expected a gate for each of {len(layers)} layers; got {len(gates)}")
    for name in gates:
        if name is not None and name not in _GATES | _SMOOTH:
            raise InputError(f"gate: expected one of {sorted(_GATES | _SMOOTH)} or None; got {name!r}")
    arrays = [(_array(w, i, 2), None if b is None else _array(b, i, 1)) for i, (w, b) in enumerate(layers, 1)]
    with torch.device("cpu"):
        return _dense(arrays, gates)


def _dense(arrays: list[tuple[Tensor, Tensor | None]], gates: list[GateName]) -> Network:
    builder = Builder((arrays[0][0].shape[1],))
    x = Live(0, builder.input_shape)
    for i, ((weight, bias), name) in enumerate(zip(arrays, gates, strict=True), 1):
        if weight.shape[1] != x.shape[0]:
            hint = "; W.T would fit" if weight.shape[0] == x.shape[0] else ""
            raise ShapeError(f"layer {i}: expected W of shape (outputs, {x.shape[0]}); got {tuple(weight.shape)}{hint}")
        if bias is not None and bias.shape != weight.shape[:1]:
            raise ShapeError(f"layer {i}: expected b of shape ({weight.shape[0]},); got {tuple(bias.shape)}")
        builder.begin(f"linear{i}", f"layer {i}")
        x = builder.linear(x, weight, bias)
        if name is not None:
            builder.begin(f"{name}{i}", f"gate {i}")
            x = _gate(builder, x, name)
    double = any(t.dtype == torch.float64 for pair in arrays for t in pair if t is not None)
    return builder.finish(x, torch.float64 if double else torch.float32, "arrays")


def _array(value: Any, layer: int, rank: int) -> Tensor:
    array = value.cpu() if isinstance(value, Tensor) else torch.as_tensor(np.asarray(value), device="cpu")
    if array.ndim != rank:
        raise ShapeError(f"layer {layer}: expected {'a matrix W' if rank == 2 else 'a vector b'}; got {tuple(array.shape)}")
    return array.detach() if array.dtype in (torch.float32, torch.float64) else array.detach().double()


def _gate(builder: Builder, x: Live, name: str) -> Live:
    if name in _GATES:
        return builder.gate(x, _GATES[name]())
    return builder.activation(name, _SMOOTH[name], x)


def from_arrays(arrays: Mapping[str, Any], source: str, gate: GateName = "relu") -> Network:
    """Return the dense network of named arrays: one 2-D array a layer in natural order of names, its bias beside it.

    The bias of a matrix is the 1-D array whose name differs in the last part only ("fcs.0.weight" and "fcs.0.bias",
    "W1" and "b1").
    """
    names = sorted(arrays, key=_natural)
    matrices = [n for n in names if np.ndim(arrays[n]) == 2]
    vectors = {_layer_of(n): n for n in names if np.ndim(arrays[n]) == 1}
    stray = [n for n in names if np.ndim(arrays[n]) not in (1, 2)]
    if not matrices or stray or len(vectors) > len(matrices):
        shapes = {n: np.shape(arrays[n]) for n in names}
        raise FileError(f"{source}: expected one matrix and at most one vector for each layer; got {shapes}")
    twice = [n for n in names if _clashes(names, arrays, n)]
    if twice:
        raise FileError(f"{source}: several arrays could be the bias or matrix of one layer: {twice}; keep one of each")
    unused = set(vectors) - {_layer_of(n) for n in matrices}
    if unused:
        raise FileError(f"{source}: no matrix belongs to {sorted(vectors[u] for u in unused)}; name them W1, b1, W2, b2, ...")
    return dense([(arrays[n], arrays[vectors[_layer_of(n)]] if _layer_of(n) in vectors else None) for n in matrices], gate)


def _clashes(names: list[str], arrays: Mapping[str, Any], name: str) -> bool:
    """Say whether another array of the same rank belongs to the same layer."""
    same = [n for n in names if _layer_of(n) == _layer_of(name) and np.ndim(arrays[n]) == np.ndim(arrays[name])]
    return len(same) > 1


def _natural(name: str) -> list[tuple[int, int, str]]:
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", name) if part]


def _layer_of(name: str) -> str:
    return re.sub(r"(weight|bias|kernel|[Ww]|[Bb])(?=\d*$|$)", "", name)


def read_npz(path: Path, gate: GateName = "relu") -> Network:
    """Return the dense network of a .npz file, read without pickles."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return from_arrays({name: archive[name] for name in archive.files}, path.name, gate)
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
        if isinstance(error, FileError | InputError):
            raise
        raise FileError(f"{path}: expected a .npz of plain arrays; {error}") from None
