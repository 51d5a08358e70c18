"""The `.pt2` door: saved exported programs, looked into before PyTorch reads them.

Loading such an archive can run code in four ways: tensors and objects kept as pickles, example inputs that PyTorch
unpickles in full when the safe way fails, compiled libraries, and symbolic sizes that are evaluated as expressions.
Everything of that kind is refused first.
"""

from __future__ import annotations

import io
import json
import pickle
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import torch

from ..errors import FileError, UnsafeFileError
from ..network import Network
from .factory import load_tensors
from .module import from_exported

_HARMLESS = re.compile(
    r"(.*/)?(archive_format|archive_version|byteorder|version|\.data/(version|serialization_id)|\.format_version)$"
)
_TENSOR_BYTES = re.compile(r".*/data/(weights/weight_\d+|constants/tensor_\d+)$")
_SAFE_PICKLES = re.compile(r"(.*/)?(data/(sample_inputs|weights|constants)/[^/]*\.pt|serialized_[a-z_]*\.pt)$")
_TARGET = re.compile(
    r"(torch\.ops\.(aten|prims|higher_order)\.|_operator\.|math\.|torch\.sym_|<built-in function)[\w. <>-]*>?$"
)
_SYMBOLS = re.compile(
    r"([su]\d+|zuf\d+|Max|Min|Mod|FloorDiv|CeilDiv|PythonMod|Eq|Ne|Lt|Le|Gt|Ge|And|Or|Not|Identity|Integer|Add|Mul|Pow|oo|int_oo|\d+)$"
)


def read_pt2(path: Path) -> Network:
    """Return the network of a `.pt2` file written by `torch.export.save`.

    Raises:
        UnsafeFileError: the archive carries pickled or custom objects, compiled code, or expressions that are not sizes.
        FileError: it is truncated or not such an archive.
        UnsupportedError, ConversionError: as for modules.
    """
    inspect(path)
    try:
        program = torch.export.load(str(path))
    except (RuntimeError, ValueError, KeyError, AssertionError, TypeError, AttributeError) as error:
        line = (str(error).splitlines() or ["no message"])[0]
        raise FileError(
            f"{path}: expected a program saved by torch.export.save with this or an older PyTorch; {line}"
        ) from error
    return from_exported(program, path.name)


def inspect(path: Path) -> None:
    """Raise UnsafeFileError or FileError unless loading the archive can run nothing of its own."""
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                _inspect_entry(path, entry.filename, archive)
    except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        raise FileError(f"{path}: expected a .pt2 archive, which is a zip file; {error}; save the program again") from None


def _inspect_entry(path: Path, name: str, archive: zipfile.ZipFile) -> None:
    if name.endswith("/") or _HARMLESS.match(name) or _TENSOR_BYTES.match(name):
        return
    if name.endswith(".json"):
        _inspect_json(path, name, archive.read(name))
    elif _SAFE_PICKLES.match(name):
        _inspect_tensors(path, name, archive.read(name))
    else:
        _unsafe(path, f"it holds {name}, which is neither tensors nor a graph")


def _unsafe(path: Path, problem: str) -> NoReturn:
    raise UnsafeFileError(f"{path}: {problem}; loading it could run code, so it was not loaded; export the model yourself")


def _inspect_tensors(path: Path, name: str, content: bytes) -> None:
    """A file that the restricted unpickler accepts holds tensors only; it runs nothing while it looks."""
    try:
        load_tensors(io.BytesIO(content))
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, TypeError, KeyError, IndexError):
        _unsafe(path, f"{name} holds pickled objects other than tensors")


def _inspect_json(path: Path, name: str, content: bytes) -> None:
    try:
        tree = json.loads(content)
    except ValueError as error:
        raise FileError(f"{path}: {name} is not valid JSON ({error}); save the program again") from None
    for key, value in _entries(tree):
        if key == "use_pickle" and value:
            _unsafe(path, f"{name} asks for weights kept as pickles")
        if key == "path_name" and not re.fullmatch(r"(weight|tensor)_\d+", str(value)):
            _unsafe(path, f"{name} names {value!r}, which is no tensor")
        if key == "target" and isinstance(value, str) and "graph" in name + "graph_module" and not _TARGET.match(value):
            _unsafe(path, f"{name} calls {value!r}, which is no tensor operation")
        if key == "expr_str" and not all(_SYMBOLS.match(word) for word in _words(path, str(value))):
            _unsafe(path, f"{name} holds the expression {str(value)[:60]!r}, which is no size")
        if key in {"as_custom_obj", "as_operator"} and value:
            _unsafe(path, f"{name} refers to a custom object")


def _words(path: Path, expression: str) -> list[str]:
    plain = re.sub(r"Symbol\('(\w+)'(, \w+=True)*\)", r"\1", expression)
    if not re.fullmatch(r"[\w\s+\-*/(),]*", plain):
        _unsafe(path, f"it holds the expression {expression[:60]!r}, which is no size")
    return re.findall(r"\w+", plain)


def _entries(tree: Any) -> Iterator[tuple[str, Any]]:
    """Yield every key of every object in a JSON tree with its value."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield key, value
            yield from _entries(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _entries(value)
