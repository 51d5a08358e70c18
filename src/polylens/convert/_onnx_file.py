"""ONNX files: the model with all its weights, those in other files included, and its nodes in the order of what they read."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, MutableSequence
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import FileError

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto


def read_model(path: Path) -> ModelProto:
    """Return the model of an .onnx file with all its weights.

    Weights in other files are named from the folder of `path`, or, where a link leads to the model, from the folder that
    holds the model itself: caches of model hubs keep the names as links in one folder and the files in another.

    Where a node reads the output of a later one, the nodes are sorted.

    Raises FileError for a missing, truncated or foreign file, for weights that lie in neither folder, also behind links, for
    nodes that read one another in a circle, and for a name that stands for two values.
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
    graph = model.graph
    _sort(graph.node, {entry.name for entry in (*graph.input, *graph.initializer)}, path)
    for function in model.functions:
        _sort(function.node, set(function.input), path)
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


# -- the order of the nodes


def _sort(nodes: MutableSequence[NodeProto], given: set[str], path: Path) -> None:
    """Put nodes behind those whose outputs they read, in place."""
    makers: dict[str, int] = {}
    for place, node in enumerate(nodes):
        for name in filter(None, node.output):
            if name in makers or name in given:
                raise FileError(f"{path}: {name!r} stands for two values; name the output of each node differently")
            makers[name] = place
    reads = [sorted({makers[name] for name in _names_read(node) if name in makers}) for node in nodes]
    if all(not before or before[-1] < place for place, before in enumerate(reads)):
        return
    try:
        order = list(TopologicalSorter(dict(enumerate(reads))).static_order())
    except CycleError as error:
        circle = ", ".join(repr(nodes[place].name or nodes[place].output[0]) for place in error.args[1][1:])
        raise FileError(f"{path}: the nodes {circle} read one another's outputs in a circle; no order computes them") from None
    ordered = [copy.deepcopy(nodes[place]) for place in order]
    del nodes[:]
    nodes.extend(ordered)


def _names_read(node: NodeProto) -> Iterator[str]:
    """Yield the names that a node reads, also inside its branches and loops."""
    yield from node.input
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            own = {name for inner in graph.node for name in inner.output}
            yield from (name for inner in graph.node for name in _names_read(inner) if name not in own)
            yield from (entry.name for entry in graph.output if entry.name not in own)
