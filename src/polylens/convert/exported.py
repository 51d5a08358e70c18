"""The `.pt2` door: saved exported programs, taken apart and put together again before PyTorch reads them.

PyTorch's own reader can run what an archive brings: pickled weights, objects and example inputs, compiled libraries,
guards and symbolic sizes kept as Python source, tree specifications that name modules to import. So nothing is handed to
it but a new archive in memory, which holds what was checked here: a graph of tensor operations and plain tensors.
"""

from __future__ import annotations

import io
import json
import pickle
import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch.export import ExportedProgram

from ..errors import FileError, PolylensError, UnsafeFileError, UnsupportedError
from ..network import Network
from ._ports import Values
from .factory import load_tensors
from .module import from_exported

_PLAIN = re.compile(r"archive_format|archive_version|byteorder|\.data/(version|serialization_id)|\.format_version|version")
_TENSOR_BYTES = re.compile(r"data/(weights/weight_\d+|constants/tensor_\d+)")
_EXAMPLES = re.compile(r"data/sample_inputs/\w+\.pt")
_EXTRA = re.compile(r"[^/]+/extra/.+", re.DOTALL)
_JSON = re.compile(r"models/\w+\.json|data/(weights|constants)/\w+_config\.json")
_TARGET = re.compile(
    r"torch\.ops\.(aten|prims)\.(?!from_file)\w+\.\w+"
    r"|torch\.ops\.higher_order\.(wrap_with_set_grad_enabled|wrap_with_autocast)"  # a graph, checked as the outer one is
    r"|_operator\.(add|sub|mul|floordiv|truediv|mod|neg|pow|eq|ne|lt|le|gt|ge|and_|or_|getitem)"
    r"|math\.(ceil|floor|trunc)|torch\.sym_(int|float|max|min|not|ite|sum)"
)
_CONTROL = re.compile(r"torch\.ops\.higher_order\.\w+")
_SIZE_WORDS = re.compile(
    r"[su]\d+|zuf\d+|\d+|Max|Min|Mod|FloorDiv|CeilDiv|PythonMod|Eq|Ne|Lt|Le|Gt|Ge|And|Or|Not|Identity|Integer|Add|Mul|Pow|oo|int_oo"
)
_SIZE_GUARD = re.compile(  # sizes of inputs compared, as programs of several inputs with a symbolic batch have them
    r"(\bL(\['\w+'\]|\[\d+\])+\.(size|stride)\(\)\[\d+\]|\b\d+\b|==|!=|<=?|>=?|//|[-+*%() ]|\b(and|or|not)\b)+"
)
_TREES = {None, "builtins.tuple", "builtins.list", "builtins.dict"}


def read_pt2(path: Path, *, inputs: Values | None = None, output: str | None = None) -> Network:
    """Return the network of a `.pt2` file written by `torch.export.save` of PyTorch 2.8 or newer.

    Args:
        path: the file.
        inputs: which inputs are fixed, as for `load`.
        output: which output counts, as for `load`.

    Raises:
        UnsafeFileError: the archive carries pickled or custom objects, compiled code, expressions that are not sizes,
            operations on other than tensors, or two entries of one name.
        FileError: it is truncated or not such an archive.
        UnsupportedError, ConversionError: as for modules.
    """
    try:
        return from_exported(read_program(path), path.name, inputs=inputs, output=output)
    except PolylensError:
        raise
    except (AssertionError, KeyError, AttributeError, TypeError, IndexError, RuntimeError) as error:
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise FileError(
            f"{path}: expected a program saved by torch.export.save with this or an older PyTorch; {line}"
        ) from error


def read_program(path: Path) -> ExportedProgram:
    """Return the program of a `.pt2` file, from the parts of it that were checked.

    Raises UnsafeFileError and FileError as `read_pt2`; what PyTorch cannot read it complains about itself.
    """
    return torch.export.load(io.BytesIO(rebuilt(path)))


def rebuilt(path: Path) -> bytes:
    """Return a new archive with the checked parts of an old one, or raise UnsafeFileError or FileError."""
    buffer = io.BytesIO()
    try:
        with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as old, zipfile.ZipFile(buffer, "w") as new:
            entries = [e for e in old.infolist() if not e.is_dir()]
            names = [e.filename.lower() for e in entries]
            if len(set(names)) != len(names):
                _unsafe(path, "it holds two entries of one name")
            for entry in entries:
                if _EXTRA.fullmatch(entry.filename):  # the author's own bytes, which nothing here reads
                    continue
                root, _, name = entry.filename.partition("/")
                new.writestr(f"program/{name}" if name else root, _checked(path, name or root, old.read(entry)))
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, RecursionError) as error:
        if isinstance(error, PolylensError):
            raise
        raise FileError(f"{path}: expected a .pt2 archive, which is a zip file; {error}; save the program again") from None
    return buffer.getvalue()


def _unsafe(path: Path, problem: str) -> NoReturn:
    raise UnsafeFileError(f"{path}: {problem}; loading it could run code, so it was not loaded; export the model yourself")


def _checked(path: Path, name: str, content: bytes) -> bytes:
    """Return what may stand for an entry: itself, or its harmless part."""
    if _PLAIN.fullmatch(name) or _TENSOR_BYTES.fullmatch(name):
        return content
    if _JSON.fullmatch(name):
        return _json(path, name, content)
    if _EXAMPLES.fullmatch(name):
        return _examples(path, name, content)
    if name.startswith("serialized_"):
        raise FileError(f"{path}: is of the format of PyTorch before 2.8; export the model again, or pass the program itself")
    _unsafe(path, f"it holds {name}, which is neither tensors nor a graph")


def _examples(path: Path, name: str, content: bytes) -> bytes:
    """Return the example inputs written anew; the restricted unpickler that reads them runs nothing."""
    buffer = io.BytesIO()
    try:
        torch.save(load_tensors(io.BytesIO(content)), buffer)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, TypeError, KeyError, IndexError):
        _unsafe(path, f"{name} holds pickled objects other than tensors")
    return buffer.getvalue()


def _json(path: Path, name: str, content: bytes) -> bytes:
    try:
        tree = json.loads(content)
    except ValueError as error:
        raise FileError(f"{path}: {name} is not valid JSON ({error}); save the program again") from None
    if isinstance(tree, dict) and "guards_code" in tree:
        if not all(_SIZE_GUARD.fullmatch(str(guard)) for guard in tree["guards_code"] or []):
            _unsafe(path, f"{name} holds guards as Python source")
        tree["guards_code"] = []
    for key, value in _entries(tree):
        _check_entry(path, name, key, value)
    return json.dumps(tree).encode()


def _check_entry(path: Path, name: str, key: str, value: Any) -> None:
    if key == "use_pickle" and value:
        _unsafe(path, f"{name} asks for weights kept as pickles")
    if key == "path_name" and not re.fullmatch(r"(weight|tensor)_\d+", str(value)):
        _unsafe(path, f"{name} names {value!r}, which is no tensor")
    if key == "target" and isinstance(value, str) and name.startswith("models/") and not _TARGET.fullmatch(value):
        if _CONTROL.fullmatch(value):
            raise UnsupportedError(
                f"{path}: calls {value.split('.')[-1]!r} with graphs of its own; control flow is not followed: export the model"
                " without it"
            )
        _unsafe(path, f"{name} calls {value!r}, which is no tensor operation")
    if key == "expr_str":
        _check_size(path, name, str(value))
    if key in {"in_spec", "out_spec"} and value:
        _check_tree(path, name, value)
    if key in {"as_custom_obj", "as_operator", "custom_obj_values", "treespec_namedtuple_fields"} and value:
        _unsafe(path, f"{name} refers to a custom object")
    if key == "metadata" and isinstance(value, dict):
        for word in set(value) - {"nn_module_stack"}:
            del value[word]


def _check_size(path: Path, name: str, expression: str) -> None:
    plain = re.sub(r"Symbol\('(\w+)'(, \w+=True)*\)", r"\1", expression)
    words = re.findall(r"\w+", plain)
    if not re.fullmatch(r"[\w\s+\-*/(),]*", plain) or not all(_SIZE_WORDS.fullmatch(word) for word in words):
        _unsafe(path, f"{name} holds the expression {expression[:60]!r}, which is no size")


def _check_tree(path: Path, name: str, text: Any) -> None:
    """A tree specification is JSON of its own; only containers of Python's own may occur in it."""
    try:
        trees = [t for t in _objects(json.loads(text)) if "type" in t]
    except (TypeError, ValueError):
        trees = [{"type": text}]
    for tree in trees:
        context = tree.get("context") or "null"
        if tree["type"] not in _TREES or not re.fullmatch(r'null|\[("\w*"(, )?)*\]', str(context)):
            _unsafe(path, f"{name} describes inputs or outputs of the type {str(tree['type'])[:60]!r}")


def _objects(tree: Any) -> Iterator[dict[str, Any]]:
    """Yield every object in a JSON tree."""
    if isinstance(tree, dict):
        yield tree
    for value in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        yield from _objects(value)


def _entries(tree: Any) -> Iterator[tuple[str, Any]]:
    """Yield every key of every object in a JSON tree with its value."""
    for found in _objects(tree):
        yield from list(found.items())
