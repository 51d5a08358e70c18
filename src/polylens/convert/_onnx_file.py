"""ONNX files: the model with all its weights, those in other files included, none of which may lie elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import FileError

if TYPE_CHECKING:
    from onnx import ModelProto, TensorProto


def read_model(path: Path) -> ModelProto:
    """Return the model of an .onnx file with all its weights.

    Weights in other files are named from the folder of `path`, or, where a link leads to the model, from the folder that
    holds the model itself: caches of model hubs keep the names as links in one folder and the files in another.

    Raises FileError for a missing, truncated or foreign file, and for weights that lie in neither folder, also behind links.
    """
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        model = onnx.load(str(path), load_external_data=False)
    except DecodeError:
        raise FileError(f"{path}: expected an ONNX model; the file is truncated or of another kind") from None
    except OSError as error:
        raise FileError(f"{path}: cannot be read; {error.strerror or error}") from None
    if not model.graph.node or not model.opset_import:
        raise FileError(f"{path}: expected an ONNX model; the file holds no graph")
    for tensor in onnx.external_data_helper._get_all_tensors(model):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            _fill(tensor, path)
    return model


def _fill(tensor: TensorProto, path: Path) -> None:
    """Fill in a tensor that is stored in another file."""
    where = {entry.key: entry.value for entry in tensor.external_data}
    place = _place(path, tensor.name, where.get("location", ""))
    start, length = (_size(path, tensor.name, where, key) for key in ("offset", "length"))
    try:
        with place.open("rb") as file:
            file.seek(start or 0)
            tensor.raw_data = file.read(length)
    except OSError as error:
        raise FileError(f"{path}: the weights of {tensor.name!r} cannot be read; {error.strerror or error}") from None
    tensor.data_location = type(tensor).DEFAULT
    del tensor.external_data[:]


def _place(path: Path, name: str, location: str) -> Path:
    """Return the file that a location names, all links followed; it lies in the model's folder by either reading."""
    named, real = path.absolute().parent, path.resolve().parent
    allowed = {named.resolve(), real}
    found = [place for folder in (named, real) if (place := (folder / location).resolve()).is_file()]
    inside = [place for place in found if any(place.is_relative_to(folder) for folder in allowed)]
    if inside:
        return inside[0]
    if found or not any((folder / location).resolve().is_relative_to(folder.resolve()) for folder in (named, real)):
        raise FileError(
            f"{path}: the weights of {name!r} lie outside its folder, in {location!r}; keep them in one folder with the model"
        )
    raise FileError(f"{path}: the weights of {name!r} are missing; expected {location!r} beside it")


def _size(path: Path, name: str, where: Mapping[str, str], key: str) -> int | None:
    """Return a number of bytes, None where there is none."""
    text = where.get(key)
    if text is None:
        return None
    if not text.isdecimal():
        raise FileError(f"{path}: the {key} of the weights of {name!r} is {text!r}; expected a number of bytes")
    return int(text)
