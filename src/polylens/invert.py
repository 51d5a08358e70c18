"""A network run backwards: the input that gave an output, layer by layer, as far as that is determined."""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeVar, final

import torch
from torch import Tensor

from ._check import ArrayLike, array, as_tensor, finite, floating, is_batch, whole
from ._inverse import elementwise as _undo
from ._inverse.affine import EPS, Affine
from ._inverse.least_distance import least
from ._inverse.least_norm import Found, fibre_dimension, is_nowhere, least_norm
from ._inverse.links import Link, links
from ._inverse.walk import PROBES, Obstacle, Rows, Undone, Walk
from ._rounding import evaluated
from ._types import Result
from .errors import InputError
from .geometry import is_empty
from .network import Network, section
from .pattern import Patterns
from .polytope import Polytope
from .region import region_on
from .steps import flat

if TYPE_CHECKING:
    from matplotlib.axes import Axes

T = TypeVar("T")
Kind = Literal["unique", "family", "partial", "none", "undecided"]
WORDS = {
    "unique": "exactly one input",
    "family": "a family of inputs, known as a whole",
    "partial": "an input, and those of its region",
    "none": "no input",
    "undecided": "undecided",
}
_BESIDE, _TRIED = 1e-12, 16  # how far beside a point, relative to its largest entry, and at how many places
_SAME = 1e-7  # of the terms of an output: far above what a convex program leaves, and far below what a jump makes
_BYTES = 1 << 27  # of the probes of a chunk


@final
@dataclass(frozen=True, eq=False, slots=True)
class Rest:
    """All inputs around `point` that give the output: a polyhedron of `dimension` (None: undecided) dimensions.

    `point` (*input_shape) is the one of least norm in it, proven by multipliers where `proven`; `is_global` says that no
    input anywhere with this output is shorter. It was found in one of the `regions` that were looked at.
    """

    point: Tensor
    dimension: int | None
    proven: bool
    is_global: bool
    regions: int
    _rows: Rows | None
    _piece: tuple[Network, Patterns, Tensor] | None

    @property
    def norm(self) -> float:
        """The length of the point."""
        return float(torch.linalg.vector_norm(self.point))

    @property
    def polytope(self) -> Polytope | None:
        """The inputs as {x : A x <= b} over the flattened input, equations as two rows each; None for smooth networks."""
        if self._rows is not None:
            rows = self._rows
            inside = Polytope.of(rows.matrix, rows.bound)
            return _equations(rows.equal, rows.value) & inside
        if self._piece is None:
            return None
        net, pattern, target = self._piece
        of = region_on(net, pattern, self.point)
        return _equations(of.map.weight, target - of.map.offset) & of.polytope


def _equations(matrix: Tensor, value: Tensor) -> Polytope:
    return Polytope.of(torch.cat([matrix, -matrix]), torch.cat([value, -value]))


@final
@dataclass(frozen=True, eq=False, repr=False)
class Inversion(Result):
    """A network undone at one output, or at each of a batch (then all tensors have a batch axis first).

    Attributes: `network` in float64; `y`, the output; `x` (*batch, *input_shape), an input that gives it, NaN where none was
    found, and for outputs that no input gives what least squares leave; `error` (*batch,), the predicted length of its
    error by rounding, NaN where it is not unique; `residual` (*batch,), the length of f(x) - y.

    `kinds` has one word for each output: "unique", "family" (`rests` holds all inputs), "partial" (a layer could not be
    undone; `rests` holds an input of least norm of a region and all others there), "none" (proven), "undecided".
    `obstacles` says for each which layer stopped it and why, None where none did. `steps` are the layers, the last first.
    """

    network: Network
    y: Tensor
    x: Tensor
    error: Tensor
    residual: Tensor
    kinds: tuple[Kind, ...]
    obstacles: tuple[Obstacle | None, ...]
    rests: tuple[Rest | None, ...]
    steps: tuple[Undone, ...]

    @property
    def is_batch(self) -> bool:
        """Whether this is a batch, which can be indexed."""
        return self.error.ndim > 0

    @property
    def kind(self) -> Kind:
        """The word for a single output."""
        return self._only(self.kinds)

    @property
    def obstacle(self) -> Obstacle | None:
        """What stopped a single output, None where nothing did."""
        return self._only(self.obstacles)

    @property
    def rest(self) -> Rest | None:
        """All inputs known to give a single output, None where there is one alone, or none is known."""
        return self._only(self.rests)

    @property
    def amplification(self) -> Tensor:
        """The product of all layers' amplifications, (*batch,): how much the way back makes errors grow here at most.

        Of layers too large for a matrix it is an estimate, from below.
        """
        found = torch.stack([step.amplification for step in self.steps]).prod(0) if self.steps else torch.ones_like(self.error)
        return found.reshape(self.error.shape)

    @property
    def worst(self) -> float:
        """The same over all points at which every layer can be undone; infinite where there is no bound."""
        return math.prod(step.worst for step in self.steps)

    def __len__(self) -> int:
        if not self.is_batch:
            raise TypeError("this is the inversion of one output, not of a batch; it has no length")
        return len(self.kinds)

    def __getitem__(self, index: int) -> Inversion:
        """Return the inversion of one output of a batch."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"output {index} of {len(self)}")
        i = index % len(self)
        y, x, error, residual = (t[i] for t in (self.y, self.x, self.error, self.residual))
        steps = tuple(_one_of(step, i) for step in self.steps)
        return Inversion(self.network, y, x, error, residual, (self.kinds[i],), (self.obstacles[i],), (self.rests[i],), steps)

    def __iter__(self) -> Iterator[Inversion]:
        return (self[i] for i in range(len(self)))

    @cached_property
    def lossy(self) -> dict[str, str]:
        """Every layer that has no inverse as a whole, with the reason, the last first; whether that matters depends on y."""
        found = {link.name: _loss(link) for link in reversed(links(self.network))}
        return {name: words for name, words in found.items() if words}

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Draw how much each layer makes errors grow on the way back; options are the drawing's own."""
        axes: Axes = importlib.import_module("polylens.plotting.invert").draw(self, ax, **options)
        return axes

    def __repr__(self) -> str:
        if not self.is_batch:
            return f"Inversion({WORDS[self.kind]})"
        counts = {kind: self.kinds.count(kind) for kind in WORDS if kind in self.kinds}
        return f"Inversion({len(self)} outputs: {', '.join(f'{n} {kind}' for kind, n in counts.items())})"

    def summary(self) -> str:
        lines = [repr(self)]
        if bool(torch.isfinite(self.error).any()):
            lines.append(f"  predicted error {_span(self.error)}, |f(x) - y| {_span(self.residual)}")
        stopped = list(dict.fromkeys(o for o in self.obstacles if o is not None))
        lines += [f"  {o.layer}: {o.words}" for o in stopped[:4]]
        lines += [f"  {_rest_line(rest)}" for rest in self.rests if rest is not None][:4]
        if self.lossy and any(kind == "partial" for kind in self.kinds):
            lines += ["  layers without an inverse:", *(f"    {name}: {words}" for name, words in self.lossy.items())]
        came = any(bool(torch.isfinite(step.amplification).any()) for step in self.steps)
        lines += ["  layer, error grown by at most, error in front of it:"] if came else []
        wide = max((len(step.layer) for step in self.steps), default=0)
        for step in self.steps:
            if bool(torch.isfinite(step.amplification).any()):
                lines.append(f"    {step.layer:<{wide}}  {_span(step.amplification)}  {_span(step.error)}  ({step.kind})")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        return {
            "x": _plain(self.x),
            "kinds": list(self.kinds),
            "error": _plain(self.error),
            "residual": _plain(self.residual),
            "amplification": _plain(self.amplification),
            "obstacles": [o._asdict() if o is not None else None for o in self.obstacles],
            "rests": [_rest_dict(rest) for rest in self.rests],
            "lossy": self.lossy,
            "steps": [_step_dict(step) for step in self.steps],
        }

    def _only(self, values: tuple[T, ...]) -> T:
        if self.is_batch:
            raise InputError(f"this is a batch of {len(self)} inversions; take one by indexing, or read the plural")
        return values[0]


def invert(
    net: Network,
    y: ArrayLike,
    *,
    precision: float | None = None,
    starts: int = 16,
    limit: int = 200,
    seed: int = 0,
) -> Inversion:
    """Return the input that gave an output, by undoing layer after layer, as far as layers can be undone.

    Layers that can: affine ones that are square or tall (more come out than go in), convolutions and batch norms among
    them; gates and smooth functions that rise everywhere; residual blocks x + g(x) whose g is proven to be a contraction.
    A gate that is flat somewhere (ReLU) forgets the entries that are there; the layer in front of it may be known from
    the others. A layer that is wide leaves a family: at the input that is the answer, behind a gate it is not affine any
    more, and what is returned is an input of least norm in a region, with all others there.

    Args:
        net: any network; everything is computed in float64.
        y: one output (*output_shape), or a batch of them (batch, *output_shape).
        precision: the relative rounding that y and the values before it have seen, for the predicted error; None for that
            of y's own type (float32: 1.2e-7).
        starts: where searches begin when a layer cannot be undone; 0 for no search.
        limit: how many regions such a search looks at.
        seed: of these starts, and of the probes that carry errors back.

    Raises:
        ShapeError: y does not have the network's output shape.
        InputError: integers, NaN, infinity, an empty batch, counts below 0.

    Algorithm: singular values of every affine map up to some thousand entries, conjugate gradients for larger ones, whose
    rank stays undecided; closed forms for elementwise steps; Banach's fixed point for residual blocks. The predicted error
    is the geometric mean of 16 probes, into which the rounding of every step is drawn, carried back by the derivatives of
    the inverses. Where the walk ends: Newton-like searches for any solution, then convex programs of least norm from region
    to region, across the walls whose multipliers are positive.

    References: Higham, Accuracy and Stability of Numerical Algorithms (2002), chapters 3 and 20; Behrmann, Grathwohl,
    Chen, Duvenaud, Jacobsen, Invertible residual networks, ICML 2019; Lawson and Hanson, Solving Least Squares Problems (1974).

    Example:
        >>> import torch
        >>> from polylens import dense, invert
        >>> net = dense([([[2.0, 0.0], [0.0, 0.5]], [0.0, 1.0]), ([[1.0, 0.0], [0.0, 1.0]], None)], gate="tanh").double()
        >>> back = invert(net, net(torch.tensor([1.0, 2.0])))
        >>> back.kind, back.x.round(decimals=9).tolist()
        ('unique', [1.0, 2.0])
        >>> invert(net, torch.tensor([0.0, 1.5])).obstacle.reason  # tanh stays below 1
        'range'
        >>> net = dense([([[1.0, 1.0]], None)])
        >>> invert(net, torch.tensor([2.0])).rest.dimension  # a line; its shortest point is (1, 1)
        1
    """
    net = _network(net)
    given = array(y, "output")
    floating(given, "output")
    batched = is_batch(given, net.output_shape, "output")
    precision = _precision(given, precision)
    starts, limit, seed = whole(starts, "starts", 0), whole(limit, "limit"), whole(seed, "seed", 0)
    values = finite(as_tensor(given, torch.float64, net.device), "output").detach()
    values = values if batched else values[None]
    chain = links(net)
    widest = max(math.prod(net.shape_of(link.value)) for link in chain) if chain else values[0].numel()
    size = max(1, _BYTES // (8 * PROBES * max(widest, math.prod(net.input_shape))))
    with torch.no_grad():
        parts = [_part(net, chain, part, precision, starts, limit, seed) for part in values.split(size)]
    found = _joined(parts)
    return found if batched else found[0]


def _network(net: Network) -> Network:
    if not isinstance(net, Network):
        raise InputError(f"network: expected a Network of polylens; got {type(net).__name__}; polylens.load makes one of it")
    return net.to(dtype=torch.float64, device="cpu")


def _precision(y: ArrayLike, precision: float | None) -> float:
    if precision is None:
        name = str(getattr(y, "dtype", "float64")).removeprefix("torch.")
        return max(EPS, torch.finfo(getattr(torch, name)).eps)
    if not isinstance(precision, (int, float)) or not 0 < precision < 1:
        raise InputError(f"precision: expected a relative rounding between 0 and 1, or None; got {precision!r}")
    return max(EPS, float(precision))


def _part(net: Network, chain: tuple[Link, ...], y: Tensor, precision: float, starts: int, limit: int, seed: int) -> Inversion:
    walk = Walk(chain, flat(y, 1), precision, seed)
    walk.run()
    x, error = walk.state.value.clone(), walk.error()
    if x.shape[1] != math.prod(net.input_shape):
        x = x.new_full((len(x), math.prod(net.input_shape)), torch.nan)
    kinds, rests = list[Kind](), list[Rest | None]()
    for i in range(len(y)):
        kind, rest = _outcome(net, chain, walk, i, starts, limit, seed)
        kinds.append(kind)
        rests.append(rest)
        if rest is not None:
            x[i] = rest.point.reshape(-1)
        elif not bool(walk.live[i]):
            x[i] = torch.nan
    shaped = x.reshape(-1, *net.input_shape)
    residual = torch.linalg.vector_norm(flat(net.forward(shaped) - y, 1), dim=1)
    error = torch.where(torch.tensor([kind == "unique" for kind in kinds]), error, torch.nan)
    return Inversion(net, y, shaped, error, residual, tuple(kinds), tuple(walk.obstacle), tuple(rests), tuple(walk.steps))


def _outcome(
    net: Network, chain: tuple[Link, ...], walk: Walk, i: int, starts: int, limit: int, seed: int
) -> tuple[Kind, Rest | None]:
    """Say what is known of one output, and search for an input where the walk stopped."""
    if bool(walk.impossible[i]):
        return "none", None
    if bool(walk.live[i] & walk.unproven[i]):
        return "undecided", None
    if (rows := walk.family[i]) is not None:
        return _family(net, rows)
    if bool(walk.live[i]):
        return "unique", None
    j = walk.settled[i]
    front = section(net, 0, chain[j - 1].value)
    found = least_norm(front, chain[:j], walk.targets[i], starts, seed, limit) if starts else None
    if found is not None and not _gives(front, found.point, walk.targets[i]):
        return "undecided", None  # the least norm is at the end of a piece that jumps, and belongs to the piece behind
    if found is None:
        none = bool(starts) and (_out_of_reach(chain, walk, i) or is_nowhere(front, chain[:j], walk.targets[i]))
        return ("none" if none else "undecided"), None
    return "partial", _rest(net, front, found, walk.targets[i])


def _gives(net: Network, point: Tensor, target: Tensor) -> bool:
    """Say whether a point has an output, up to rounding, and not only on one side of a jump that it lies on.

    Points beside it are tried too: which side a point on a jump is on depends on how sums are rounded.
    """
    random = torch.Generator().manual_seed(0)
    around = _BESIDE * torch.randn(_TRIED, len(point.reshape(-1)), generator=random, dtype=torch.float64)
    around = point.reshape(-1) + (around * point.abs().max()).to(point.device)
    x = torch.cat([point.reshape(1, -1), around]).reshape(-1, *net.input_shape)
    out, terms = (t.flatten(1) for t in evaluated(net, x, _SAME))
    return bool((out - target.reshape(-1)).abs().max() <= _SAME * max(terms.max(), target.abs().max()))


def _family(net: Network, rows: Rows) -> tuple[Kind, Rest | None]:
    found = least(*rows)
    if found is None or not found.proven:
        proof = is_empty(_equations(rows.equal, rows.value) & Polytope.of(rows.matrix, rows.bound))
        if found is None or proof.answer is not False:
            return ("none" if proof.answer else "undecided"), None
    dimension = fibre_dimension(rows.equal, rows.value, Polytope.of(rows.matrix, rows.bound))
    point = found.point.reshape(net.input_shape)
    rest = Rest(point, dimension, found.proven, found.proven, 1, rows, None)
    return ("unique" if dimension == 0 else "family"), rest


def _rest(net: Network, front: Network, found: Found, target: Tensor) -> Rest:
    piece = None if found.pattern is None else (front, found.pattern, target)
    point = found.point.reshape(net.input_shape)
    return Rest(point, found.dimension, found.proven, found.is_global, found.regions, None, piece)


def _out_of_reach(chain: tuple[Link, ...], walk: Walk, i: int) -> bool:
    """Say whether it is proven that no values of a gate's range give what the affine map behind it puts out."""
    j = walk.settled[i]
    if j < 2 or chain[j - 1].kind != "affine" or chain[j - 2].kind not in ("gate", "smooth"):
        return False
    own = Affine(chain[j - 1].map())
    if not own.is_dense:
        return False
    low, high = (t.reshape(-1) for t in _undo.reach(chain[j - 2].nodes[0]))
    rows = _equations(own.factors.matrix, walk.targets[i] - own.offset) & Polytope.box(low, high)
    return is_empty(rows).answer is True


def _joined(parts: list[Inversion]) -> Inversion:
    if len(parts) == 1:
        return parts[0]
    y, x, error, residual = (torch.cat([getattr(p, name) for p in parts]) for name in ("y", "x", "error", "residual"))
    kinds = tuple(kind for p in parts for kind in p.kinds)
    obstacles, rests = tuple(o for p in parts for o in p.obstacles), tuple(r for p in parts for r in p.rests)
    steps = tuple(_step_of(steps) for steps in zip(*(p.steps for p in parts), strict=True))
    return Inversion(parts[0].network, y, x, error, residual, kinds, obstacles, rests, steps)


_COLUMNS = ("amplification", "missed", "allowed", "error")


def _step_of(steps: tuple[Undone, ...]) -> Undone:
    first = steps[0]
    joined = (torch.cat([getattr(s, name) for s in steps]) for name in _COLUMNS)
    return Undone(first.layer, first.kind, first.inputs, first.outputs, first.rank, first.worst, *joined)


def _one_of(step: Undone, i: int) -> Undone:
    own = (getattr(step, name)[i] for name in _COLUMNS)
    return Undone(step.layer, step.kind, step.inputs, step.outputs, step.rank, step.worst, *own)


# -- words


def _loss(link: Link) -> str | None:
    """Return why a link has no inverse as a whole, None where it has one or where that is not decided."""
    if link.kind in ("gate", "smooth"):
        why = _undo.forgets(link.nodes[0])
        kind = link.nodes[0].step.kind
        return {"flat": f"{kind} forgets what lies where it is flat", "folded": f"{kind} gives several inputs one value"}.get(
            why or ""
        )
    if link.kind == "affine" and (own := Affine(link.map())).is_dense and own.factors.rank < link.inputs:
        return f"of {link.inputs} dimensions it passes on {own.factors.rank}"
    return None


def _rest_line(rest: Rest) -> str:
    where = "no input is shorter" if rest.is_global else f"the shortest of its region, of {rest.regions} that were looked at"
    kind = "a polyhedron" if rest._rows is not None or rest._piece is not None else "a curved set"
    many = "an undecided number of" if rest.dimension is None else f"{rest.dimension:,}"
    return f"an input of norm {rest.norm:.6g} ({where}); with it {kind} of {many} dimension{'' if rest.dimension == 1 else 's'}"


def _rest_dict(rest: Rest | None) -> dict[str, Any] | None:
    if rest is None:
        return None
    names = ("norm", "dimension", "proven", "is_global", "regions")
    return {name: getattr(rest, name) for name in names}


def _step_dict(step: Undone) -> dict[str, Any]:
    plain = {name: getattr(step, name) for name in ("layer", "kind", "inputs", "outputs", "rank")}
    columns = {name: _plain(getattr(step, name)) for name in _COLUMNS}
    return plain | {"worst": step.worst if math.isfinite(step.worst) else None} | columns


def _plain(values: Tensor) -> Any:
    """Return numbers in lists, None for those that are NaN or infinite."""
    if values.ndim:
        return [_plain(v) for v in values] if values.ndim > 1 else [v if math.isfinite(v) else None for v in values.tolist()]
    return float(values) if math.isfinite(float(values)) else None


def _span(values: Tensor) -> str:
    shown = values[torch.isfinite(values)]
    if not shown.numel():
        return "-"
    low, high = float(shown.min()), float(shown.max())
    return f"{low:.3g}" if low == high else f"{low:.3g} to {high:.3g}"
