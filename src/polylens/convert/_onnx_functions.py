"""The functions that an ONNX model defines itself: every call is replaced by what the function says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import AttributeProto, ModelProto, NodeProto


def inlined(model: ModelProto) -> ModelProto:
    """Return a model without functions of its own: what they compute stands where they were called.

    A call that leaves an attribute out gets the function's default for it, which ONNX's own inliner forgets.
    """
    if not model.functions:
        return model
    from onnx import inliner

    whole = type(model)()
    whole.CopyFrom(model)
    defaults = {(f.domain, f.name, f.overload): list(f.attribute_proto) for f in whole.functions}
    for nodes in (whole.graph.node, *(function.node for function in whole.functions)):
        for node in _all_nodes(nodes):
            _complete(node, defaults.get((node.domain, node.op_type, node.overload), ()))
    return inliner.inline_local_functions(whole)


def _complete(call: NodeProto, defaults: Iterable[AttributeProto]) -> None:
    given = {attribute.name for attribute in call.attribute}
    call.attribute.extend(attribute for attribute in defaults if attribute.name not in given)


def _all_nodes(nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
    """Yield nodes, and those inside their branches and loops."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from _all_nodes(graph.node)
