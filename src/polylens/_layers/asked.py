"""Which layers of a network have preimages that are polyhedra, and what is known of their inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

from torch import Tensor

from ..errors import UnsupportedError
from ..gates import Gate, MaxGate
from ..layer_map import LayerMap, layer_map
from ..network import Network
from ..polytope import Polytope
from ..smooth import is_rising
from ..steps import Affine
from .system import Gate as GateName

MOST_POOLED = 1 << 25  # entries of the matrix in front of max-pooling


@final
@dataclass(frozen=True, eq=False, slots=True)
class Asked:
    """A layer that ends in `value`: its affine map, the gate behind it, windows of max-pooling, and what can reach it."""

    name: str
    value: int
    gate: GateName
    map: LayerMap
    windows: Tensor | None
    reachable: Literal["orthant"] | Polytope | None

    @property
    def reach(self) -> str:
        """What the layer's input is known to satisfy: "space", "orthant" or "polytope"."""
        return "space" if self.reachable is None else "polytope" if isinstance(self.reachable, Polytope) else "orthant"


def all_layers(net: Network) -> list[int]:
    """Return the values of the gates, and the output where something affine stands behind the last of them.

    Max-pooling is asked about together with the ReLU in front of it, which is a layer of its own as well.
    """
    values = [net.value_of(gate.name) for gate in net.gates]
    return values + ([len(net.nodes)] if net.nodes and isinstance(net.nodes[-1].step, Affine) else [])


def asked_layer(net: Network, value: int, domain: Polytope | None) -> Asked | str:
    """Return the layer that ends in a value, or why it cannot be asked."""
    node, windows = net.nodes[value - 1], None
    if isinstance(node.step, MaxGate):
        if not node.step.largest or len(node.inputs) != 1:
            return f"its {node.step.kind} is not the largest of one value's entries"
        windows = node.step.candidates(net.shape_of(node.inputs[0]))
    last, gate = _before(net, value)
    if gate is None:
        return f"its {node.step.kind} is not ReLU, LeakyReLU, Abs, max-pooling, or strictly increasing"
    try:
        affine = layer_map(net, last)
    except UnsupportedError as error:
        return str(error)
    if windows is not None and affine.inputs * affine.outputs > MOST_POOLED:
        return f"its matrix would have {affine.inputs * affine.outputs:,} entries, too many in front of max-pooling"
    source = affine.source
    orthant: Literal["orthant"] | None = "orthant" if source and nonnegative(net, source) else None
    reachable = domain if source == 0 else orthant
    if isinstance(reachable, Polytope) and affine.inputs * affine.outputs > MOST_POOLED:
        return f"its matrix would have {affine.inputs * affine.outputs:,} entries, too many with a domain"
    return Asked(node.name, value, gate, affine, windows, reachable)


def _before(net: Network, value: int) -> tuple[int, GateName | None]:
    """Return the affine value in front of the gate and the gate's name, None where its preimages are not known."""
    node = net.nodes[value - 1]
    if isinstance(node.step, Affine):
        return value, "identity"
    if not isinstance(node.step, MaxGate):
        return node.inputs[0], _gate(node.step)
    inner = node.inputs[0]
    step = net.nodes[inner - 1].step if inner else None
    relu = isinstance(step, Gate) and step.kind == "relu"
    return (net.nodes[inner - 1].inputs[0], "relu") if relu else (inner, "identity")


def _gate(step: object) -> GateName | None:
    """Return the name of a gate whose preimages are known; one that is strictly increasing hides nothing."""
    if is_rising(step):
        return "identity"
    if not isinstance(step, Gate):
        return None
    if step.kind == "relu":
        return "relu"
    if step.kind == "abs":
        return "abs"
    plain = step.num_pieces == 2 and not bool(step.breakpoints.any()) and not bool(step.intercepts.any())
    return "leaky_relu" if plain and bool((step.slopes > 0).all()) else None


def nonnegative(net: Network, value: int) -> bool:
    """Say whether a value is at least 0 in every entry, by the gate that puts it out."""
    node = net.nodes[value - 1]
    if isinstance(node.step, MaxGate):
        inner = node.inputs[0]
        return inner > 0 and nonnegative(net, inner)
    return isinstance(node.step, Gate) and node.step.kind in ("relu", "abs")
