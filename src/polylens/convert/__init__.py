"""From what people have to a Network: modules, exported programs, ONNX files, factories with weights, arrays."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from ..errors import FileError, InputError
from ..network import Network
from ._ports import Values
from .estimator import from_estimator, is_estimator

if TYPE_CHECKING:
    from sklearn.base import BaseEstimator
    from torch.export import ExportedProgram

    from ._module_call import Example


_FACTORY = re.compile(r"[\w.]+:\w+")
_BELONGS = {
    "example": "modules and 'package.module:callable'",
    "inputs": "modules, exported programs, .onnx and .pt2 files",
    "outputs": "modules, exported programs, .onnx and .pt2 files, and classifiers of scikit-learn",
    "weights": "'package.module:callable'",
    "gate": ".npz files",
}


def load(
    source: nn.Module | ExportedProgram | Network | BaseEstimator | str | os.PathLike[str],
    example: Example | None = None,
    *,
    inputs: Values | None = None,
    outputs: str | None = None,
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
            "package.module:callable", which is imported and called to make a module;
            a fitted `MLPClassifier` or `MLPRegressor` of scikit-learn, or a `Pipeline` of scalers in front of one. The
            outputs of a classifier are its scores in front of the softmax or logistic function, so that the network
            is piecewise linear with relu: the largest score, or the sign of the only one, tells the class.
        example: for modules, an input with a batch axis, as the module is called; not needed when the first leaf is
            `nn.Linear`. For modules of several inputs a tuple of them, or a mapping by name: they are joined into one
            flat input, and `net.inputs` says by name which entries are whose.
        inputs: for models of several inputs, values by name: an input with a value is fixed there (a batch axis of size 1
            in front, where the model has one), one with None, or not named, stays free. Several that stay free are
            joined as above. Names are those of forward's parameters, or of the file's inputs.
        outputs: for models of several outputs, the name of the one that is the network's: that of the file, or its place
            in what the module returns ("0", "logits", "aux.1"). For a classifier of scikit-learn "probabilities" adds
            the softmax or logistic function as a smooth step.
        weights: for "package.module:callable", a `.safetensors` file or a state dict saved by `torch.save`.
        gate: for `.npz`, the gate between layers, as in `dense`.

    Returns:
        the network in the model's own dtype, its layers named as in the source.

    Raises:
        FileError: missing, truncated or foreign file; UnsafeFileError when loading it could run code.
        UnsupportedError: an operation that no step can represent, with its name and place.
        InputError: NaN or infinity among the weights; an example that is missing or unfit; several inputs or outputs
            with nothing chosen, or a name that is none of theirs.
        ShapeError: a module that fails on the example, a value of another shape than its input's.
        ConversionError: the program does not reproduce the module's outputs.

    Algorithm: modules are exported to ATen operations and interpreted; the result is compared with the source on the
    example and away from it. The first export of a process takes about two seconds, later ones some ten milliseconds.

    Example:
        >>> import torch
        >>> from polylens import load
        >>> net = load(torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU(), torch.nn.Linear(3, 1)))
        >>> net.input_shape, net.num_units, net.is_piecewise_linear
        ((2,), 3, True)

        Two inputs, joined, or one of them fixed:

        >>> class Join(torch.nn.Module):
        ...     def forward(self, first, second):
        ...         return torch.relu(torch.cat([first, second], 1))
        >>> both = load(Join().eval(), (torch.zeros(1, 2), torch.zeros(1, 3)))
        >>> both.input_shape, [(part.name, part.start, part.stop) for part in both.inputs]
        ((5,), [('first', 0, 2), ('second', 2, 5)])
        >>> load(Join().eval(), torch.zeros(1, 2), inputs={"second": torch.ones(1, 3)}).input_shape
        (2,)
    """
    _refuse_unused(
        source, example=example, inputs=inputs, outputs=outputs, weights=weights, gate=None if gate == "relu" else gate
    )
    if isinstance(source, Network):
        return source
    if isinstance(source, nn.Module):
        return _from_module(source, example, inputs, outputs)
    if isinstance(source, torch.export.ExportedProgram):
        from .module import from_exported

        return from_exported(source, inputs=inputs, output=outputs)
    if is_estimator(source):
        return from_estimator(source, outputs)
    if not isinstance(source, str | os.PathLike):
        raise InputError(
            "load: expected a torch.nn.Module, an ExportedProgram, an estimator of scikit-learn, a file or"
            f" 'package.module:callable'; got {type(source).__name__}"
        )
    text = os.fspath(source)
    if _FACTORY.fullmatch(text) and not Path(text).exists():
        return _from_factory(text, example, inputs, outputs, weights)
    return _from_file(Path(text), inputs, outputs, gate)


def _refuse_unused(source: object, **options: object) -> None:
    """Raise InputError for an option that the kind of source has no use for: silence would look like obedience."""
    text = os.fspath(source) if isinstance(source, str | os.PathLike) else ""
    is_module = isinstance(source, nn.Module) or bool(_FACTORY.fullmatch(text))
    has_names = is_module or isinstance(source, torch.export.ExportedProgram) or text.lower().endswith((".onnx", ".pt2"))
    fits = {
        "example": is_module,
        "inputs": has_names,
        "outputs": has_names or is_estimator(source),
        "weights": bool(_FACTORY.fullmatch(text)),
        "gate": text.endswith(".npz"),
    }
    for name, value in options.items():
        if value is not None and not fits[name]:
            raise InputError(f"{name}: belongs to {_BELONGS[name]}; got it with {text or type(source).__name__}; leave it out")


def _from_module(module: nn.Module, example: Example | None, inputs: Values | None, output: str | None) -> Network:
    from .module import from_module

    return from_module(module, example, inputs=inputs, output=output)


def _from_factory(
    factory: str,
    example: Example | None,
    inputs: Values | None,
    output: str | None,
    weights: str | os.PathLike[str] | None,
) -> Network:
    from .factory import filled

    return _from_module(filled(factory, weights), example, inputs, output)


def _from_file(path: Path, inputs: Values | None, output: str | None, gate: str | None) -> Network:
    if not path.is_file():
        raise FileError(f"{path}: no such file; expected an .onnx, .pt2 or .npz file, or package.module:callable")
    if path.suffix in {".pt", ".pth", ".ckpt", ".safetensors", ".bin"}:
        raise FileError(
            f"{path}: holds weights but no network; pass the code that builds it, as load('package.module:callable',"
            f" weights={path.name!r})"
        )
    ending = path.suffix.lower()
    if ending == ".onnx":
        from .onnx import read_onnx

        return read_onnx(path, inputs=inputs, output=output)
    if ending == ".pt2":
        from .exported import read_pt2

        return read_pt2(path, inputs=inputs, output=output)
    if ending == ".npz":
        from .arrays import read_npz

        return read_npz(path, gate)
    raise FileError(f"{path}: expected a file ending in .onnx, .pt2 or .npz; got {path.suffix or 'no ending'}")
