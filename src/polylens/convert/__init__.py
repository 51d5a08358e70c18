"""From what people have to a Network: modules, exported programs, ONNX files, factories with weights, arrays."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..errors import FileError, InputError
from ..network import Network

if TYPE_CHECKING:
    from torch.export import ExportedProgram


_FACTORY = re.compile(r"[\w.]+:\w+")
_BELONGS = {
    "example": "modules and 'package.module:callable'",
    "weights": "'package.module:callable'",
    "gate": ".npz files",
}


def load(
    source: nn.Module | ExportedProgram | Network | str | os.PathLike[str],
    example: Tensor | None = None,
    *,
    weights: str | os.PathLike[str] | None = None,
    gate: str | None = "relu",
) -> Network:
    """Return the network of a model, whatever it comes as.

    Args:
        source: one of
            a `torch.nn.Module`;
            a `torch.export.ExportedProgram`, or a `.pt2` file that holds one;
            an `.onnx` file;
            an `.npz` file of weight matrices and biases in order (a fully connected network);
            "package.module:callable", which is imported and called to make a module.
        example: for modules, an input with a batch axis, as the module is called; not needed when the first leaf is
            `nn.Linear`.
        weights: for "package.module:callable", a `.safetensors` file or a state dict saved by `torch.save`.
        gate: for `.npz`, the gate between layers, as in `dense`.

    Returns:
        the network in the model's own dtype, its layers named as in the source.

    Raises:
        FileError: missing, truncated or foreign file; UnsafeFileError when loading it could run code.
        UnsupportedError: an operation that no step can represent, with its name and place.
        InputError: NaN or infinity among the weights, an example that is missing or unfit.
        ConversionError: the program does not reproduce the module's outputs.

    Algorithm: modules are exported to ATen operations and interpreted; the result is compared with the source on the
    example and away from it. The first export of a process takes about two seconds, later ones some ten milliseconds.

    Example:
        >>> import torch
        >>> from polylens import load
        >>> net = load(torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU(), torch.nn.Linear(3, 1)))
        >>> net.input_shape, net.num_units, net.is_piecewise_linear
        ((2,), 3, True)
    """
    _refuse_unused(source, example=example, weights=weights, gate=None if gate == "relu" else gate)
    if isinstance(source, Network):
        return source
    if isinstance(source, nn.Module):
        from .module import from_module

        return from_module(source, example)
    if isinstance(source, torch.export.ExportedProgram):
        from .module import from_exported

        return from_exported(source)
    if not isinstance(source, str | os.PathLike):
        raise InputError(
            "load: expected a torch.nn.Module, an ExportedProgram, a file or 'package.module:callable';"
            f" got {type(source).__name__}"
        )
    text = os.fspath(source)
    if _FACTORY.fullmatch(text) and not Path(text).exists():
        return _from_factory(text, example, weights)
    return _from_file(Path(text), gate)


def _refuse_unused(source: object, **options: object) -> None:
    """Raise InputError for an option that the kind of source has no use for: silence would look like obedience."""
    text = os.fspath(source) if isinstance(source, str | os.PathLike) else ""
    fits = {
        "example": isinstance(source, nn.Module) or bool(_FACTORY.fullmatch(text)),
        "weights": bool(_FACTORY.fullmatch(text)),
        "gate": text.endswith(".npz"),
    }
    for name, value in options.items():
        if value is not None and not fits[name]:
            raise InputError(f"{name}: belongs to {_BELONGS[name]}; got it with {text or type(source).__name__}; leave it out")


def _from_factory(factory: str, example: Tensor | None, weights: str | os.PathLike[str] | None) -> Network:
    from .factory import build, fill, read_weights
    from .module import from_module

    tensors = None if weights is None else read_weights(Path(weights))
    module = build(factory)
    if tensors is not None and weights is not None:
        fill(module, tensors, Path(weights))
    return from_module(module, example)


def _from_file(path: Path, gate: str | None) -> Network:
    if not path.is_file():
        raise FileError(f"{path}: no such file; expected an .onnx, .pt2 or .npz file, or package.module:callable")
    if path.suffix in {".pt", ".pth", ".ckpt", ".safetensors", ".bin"}:
        raise FileError(
            f"{path}: holds weights but no network; pass the code that builds it, as load('package.module:callable',"
            f" weights={path.name!r})"
        )
    reader = _readers(gate).get(path.suffix.lower())
    if reader is None:
        raise FileError(f"{path}: expected a file ending in .onnx, .pt2 or .npz; got {path.suffix or 'no ending'}")
    return reader(path)


def _readers(gate: str | None) -> dict[str, Callable[[Path], Network]]:
    def onnx(path: Path) -> Network:
        from .onnx import read_onnx

        return read_onnx(path)

    def pt2(path: Path) -> Network:
        from .exported import read_pt2

        return read_pt2(path)

    def npz(path: Path) -> Network:
        from .arrays import read_npz

        return read_npz(path, gate)

    return {".onnx": onnx, ".pt2": pt2, ".npz": npz}
