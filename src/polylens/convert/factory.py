"""The factory door: `package.module:callable` builds the module, a state dict or .safetensors file fills it.

The named code is the user's own and runs; the weights are data and may not.
"""

from __future__ import annotations

import importlib
import os
import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor, nn

from ..errors import FileError, InputError, UnsafeFileError


def build(factory: str) -> nn.Module:
    """Return the module that `package.module:callable` makes when called without arguments, in eval mode.

    Raises InputError when there is no such module or callable, or it returns something else.
    """
    place, _, name = factory.partition(":")
    try:
        made = getattr(importlib.import_module(place), name)()
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"{factory}: expected package.module:callable that can be imported; {error}") from error
    except Exception as error:  # the user's own code may raise anything
        line = (str(error).splitlines() or ["no message"])[0]
        raise InputError(
            f"{factory}: expected a callable without arguments; it raised {type(error).__name__}: {line}"
        ) from error
    if not isinstance(made, nn.Module):
        raise InputError(f"{factory}: expected a callable that returns a torch.nn.Module; got {type(made).__name__}")
    return made.eval()


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a .safetensors file or of a state dict saved by torch.save, without unpickling objects.

    Raises:
        UnsafeFileError: the file holds pickled objects other than tensors.
        FileError: missing, truncated, or neither of the two.
    """
    if not path.is_file():
        raise FileError(f"{path}: no such file; expected weights as .safetensors or a state dict")
    return _read_safetensors(path) if path.suffix == ".safetensors" else _read_state_dict(path)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise FileError(f"{path}: expected a .safetensors file; {error}") from None


def load_tensors(source: Path | BinaryIO) -> Any:
    """Return what torch.save wrote, through the restricted unpickler: it runs no code and knows tensors only."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about pickle protocols, which an error will name if they matter
        return torch.load(source, map_location="cpu", weights_only=True)


def _read_state_dict(path: Path) -> dict[str, Tensor]:
    try:
        state = load_tensors(path)
    except pickle.UnpicklingError as error:
        if zipfile.is_zipfile(path) or path.read_bytes()[:1] == b"\x80":
            raise UnsafeFileError(
                f"{path}: expected a state dict of tensors; it holds other pickled objects, which could run code, so it was"
                " not loaded; save module.state_dict() instead"
            ) from None
        raise FileError(f"{path}: expected a state dict saved by torch.save; {str(error).splitlines()[0]}") from None
    except (RuntimeError, EOFError, ValueError, KeyError, IndexError) as error:
        raise FileError(f"{path}: expected a state dict saved by torch.save; {type(error).__name__}: {error}") from None
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise FileError(f"{path}: expected a state dict (names to tensors); got {type(state).__name__}")
    return dict(state)


def fill(module: nn.Module, weights: dict[str, Tensor], path: Path) -> None:
    """Put the weights into the module; names and shapes must agree exactly."""
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        first = " ".join(line.strip() for line in str(error).splitlines()[:2])
        raise FileError(f"{path}: expected the weights of {type(module).__name__}; {first}") from None


def filled(factory: str, weights: str | os.PathLike[str] | None) -> nn.Module:
    """Return the module that a factory makes, filled with the weights of a file if there is one; raises as these do."""
    tensors = None if weights is None else read_weights(Path(weights))
    module = build(factory)
    if tensors is not None and weights is not None:
        fill(module, tensors, Path(weights))
    return module
