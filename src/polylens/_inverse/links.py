"""A network as a chain: the values that everything passes through, and what leads from each to the next.

A link is an affine map, a gate or smooth function of every entry, or a block: branches that part and join again. What is
affine in a row is one link, but for rearrangements and scales at its ends, which are undone entry by entry.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Literal, final

import torch

from ..gates import Gate
from ..layer_map import LayerMap
from ..network import Network, Node, ancestors, section
from ..smooth import Smooth
from ..steps import Affine, Fixed, Scale

Kind = Literal["rearrangement", "scale", "affine", "gate", "smooth", "block"]
_AFFINE = ("rearrangement", "scale", "affine")


@final
@dataclass(frozen=True, eq=False, slots=True)
class Link:
    """What leads from value `source` to value `value` through the nodes of `way`; nothing else joins in between."""

    net: Network
    source: int
    value: int
    way: tuple[int, ...]
    kind: Kind

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The nodes, in order."""
        return tuple(self.net.nodes[k - 1] for k in self.way)

    @property
    def name(self) -> str:
        """The names of its nodes, without those that only rearrange entries where there are others."""
        named = [node.name for node in self.nodes if not rearranges(self.net, node)] or [node.name for node in self.nodes]
        return named[0] if len(named) == 1 else f"{named[0]} to {named[-1]}" if len(named) > 3 else " + ".join(named)

    @property
    def word(self) -> str:
        """What it is, in one word."""
        kinds = [node.step.kind for node in self.nodes if not rearranges(self.net, node)]
        return kinds[0] if len(kinds) == 1 else self.kind

    @property
    def inputs(self) -> int:
        """How many numbers it takes."""
        return math.prod(self.net.shape_of(self.source))

    @property
    def outputs(self) -> int:
        """How many numbers it gives."""
        return math.prod(self.net.shape_of(self.value))

    def map(self) -> LayerMap:
        """Return an affine link as an operator."""
        return LayerMap(self.net, self.source, self.value, self.way)

    def network(self) -> Network:
        """Return the link as a network of its own."""
        return section(self.net, self.source, self.value)


def links(net: Network) -> tuple[Link, ...]:
    """Return the chain from the input to the output.

    Algorithm: a value is passed by everything unless some node behind it reads a value in front of it; one walk.
    """
    ends = _necks(net)
    single = [_link(net, a, b) for a, b in itertools.pairwise(ends)]
    found: list[Link] = []
    run: list[Link] = []
    for link in [*single, None]:
        if link is not None and link.kind in _AFFINE:
            run.append(link)
            continue
        found += _joined(run)
        run = []
        found += [] if link is None else [link]
    return tuple(found)


def rearranges(net: Network, node: Node) -> bool:
    """Say whether a node only moves entries to other places: it does where it sends random numbers to a permutation of them."""
    if not isinstance(node.step, Fixed) or len(node.inputs) != 1:
        return False
    shape = net.shape_of(node.inputs[0])
    size = math.prod(shape)
    if size != math.prod(node.shape):
        return False
    drawn = torch.rand(1, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(net.device)
    return torch.equal(node.step.apply(drawn).reshape(-1).sort().values, drawn.reshape(-1).sort().values)


def _necks(net: Network) -> list[int]:
    """Return the values on every way from the input to the output, in order."""
    last = len(net.nodes)
    alive = ancestors(net, last) - {0}
    over = [0] * (last + 2)
    for k in alive:
        for i in net.nodes[k - 1].inputs:
            over[i + 1] += 1
            over[k] -= 1
    found, open_edges = [0], 0
    for v in range(1, last + 1):
        open_edges += over[v]
        if v in alive and open_edges == 0:
            found.append(v)
    return found


def _link(net: Network, source: int, value: int) -> Link:
    way = tuple(sorted(k for k in ancestors(net, value) if k > source))
    nodes = [net.nodes[k - 1] for k in way]
    if len(nodes) > 1:
        kind: Kind = "affine" if all(isinstance(node.step, Affine) for node in nodes) else "block"
    else:
        kind = _kind(net, nodes[0])
    return Link(net, source, value, way, kind)


def _kind(net: Network, node: Node) -> Kind:
    step = node.step
    if len(set(node.inputs)) == 1 and len(node.inputs) == 1:
        if isinstance(step, Gate):
            return "gate"
        if isinstance(step, Smooth) and step.elementwise:
            return "smooth"
        if isinstance(step, Scale) and net.shape_of(node.inputs[0]) == node.shape:
            return "scale"
        if rearranges(net, node):
            return "rearrangement"
    return "affine" if isinstance(step, Affine) else "block"


def _joined(run: list[Link]) -> list[Link]:
    """Join what lies between the first and the last affine map of a run; what is in front and behind is kept apart.

    At the input nothing is: the nearest and the free directions are those of the input itself.
    """
    dense = [i for i, link in enumerate(run) if link.kind == "affine"]
    if not dense:
        return run
    first, last = (0 if run[0].source == 0 else dense[0]), dense[-1]
    way = tuple(k for link in run[first : last + 1] for k in link.way)
    core = Link(run[0].net, run[first].source, run[last].value, way, "affine")
    return [*run[:first], core, *run[last + 1 :]]
