"""Inputs from the features of a layer: descent with what is known of inputs, then an exact finish on a linear piece."""

from __future__ import annotations

import importlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import torch
from torch import Tensor

from ._check import ArrayLike, array, as_tensor, finite, floating, is_batch, whole
from ._progress import progress
from ._reconstruct.descending import Descent
from ._reconstruct.priors import Prior, PriorName, prior_of
from ._reconstruct.searching import Asked, Part, Plan, Search, Side, is_smooth, relative
from ._reconstruct.wanted import wanted
from ._types import Result
from .domain import Box
from .errors import InputError, ShapeError
from .local import MAX_BYTES
from .network import Network
from .steps import flat

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Sides = tuple[ArrayLike, ArrayLike]
_ALIVE = 24  # evaluations of one sample that are alive at once
_STEPS = 200
_AT_ONCE = 64
_RATE = 0.1  # of the width of the box: Adam's longest step


@final
@dataclass(frozen=True, eq=False, slots=True, repr=False)
class Reconstruction(Result):
    """Inputs that were sought for given features, one for each sample of a batch.

    `points` (batch, *input_shape) lie in the box; `residuals` (batch,) are |f(x) - features| / |features| (absolute for
    features of 0) by an evaluation of the network, `exact` those of at most `allowed`. `impossible`: no input of the box has
    these features, proven, nor is the point, a least-squares one then, exact within `allowed`.

    `alone` says, where asked, whether x is the only input in the box with its features on its linear piece (None:
    undecided), and `unique` whether it is among all: then it is *the* input. `others` (batch, *input_shape) holds another
    input with the same features where one was found, NaN elsewhere.

    History, from the start on: `residual_history` and, given the truth, `error_history` |x - truth| / |truth|, (batch,
    1 + iterations), the last of them of what is returned; `agreement`, of the same shape, is the share of the last gate's
    units that are on the piece that the features ask for (1 where no gate was undone). The first `descended` iterations are
    descent's. `finished` (batch,) is the iteration from which on a sample is exact, -1 for none. `pattern_agreement`
    (batch,), given the truth, is the share of all units up to the layer that are on the truth's pieces. `smooth`: the layer
    lies behind smooth steps, where there are no linear pieces to finish on.
    """

    network: Network
    layer: str
    at: Side
    features: Tensor
    points: Tensor
    residuals: Tensor
    allowed: float
    exact: Tensor
    impossible: Tensor
    alone: tuple[bool | None, ...]
    unique: tuple[bool | None, ...]
    others: Tensor
    residual_history: Tensor
    error_history: Tensor | None
    agreement: Tensor
    descended: int
    finished: Tensor
    truth: Tensor | None
    pattern_agreement: Tensor | None
    smooth: bool

    @property
    def errors(self) -> Tensor | None:
        """The distances |x - truth| / |truth| in the end, (batch,), absolute for a truth of 0; None without the truth."""
        return None if self.truth is None else relative(self.points - self.truth, self.truth)

    def __len__(self) -> int:
        return len(self.points)

    def __repr__(self) -> str:
        unique = sum(u is True for u in self.unique)
        return f"Reconstruction({len(self)} of {self.layer!r}: {int(self.exact.sum())} exact, {unique} unique)"

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Draw residuals and errors over the iterations; `polylens.plotting.reconstruct` has the options."""
        axes: Axes = importlib.import_module("polylens.plotting.reconstruct").draw(self, ax, **options)
        return axes

    def gallery(self, count: int = 6, image: tuple[int, int] | None = None) -> Figure:
        """Return a figure of the first `count` samples as pictures: truth, reconstruction and what differs."""
        figure: Figure = importlib.import_module("polylens.plotting.reconstruct").reconstruction_figure(self, count, image)
        return figure

    def summary(self) -> str:
        lines = [f"{len(self)} inputs from the features of {self.layer!r} ({self.at} gate)"]
        lines.append(f"  {int(self.exact.sum())} exact: residual at most {self.allowed:.0e} of the features")
        lines.append(f"  residuals: median {float(self.residuals.median()):.2g}, largest {float(self.residuals.max()):.2g}")
        if bool(self.impossible.any()):
            lines.append(
                f"  {int(self.impossible.sum())} sets of features that no input of the box has (proven): least squares"
            )
        if self.smooth:
            lines.append("  smooth steps lie in front: Gauss and Newton's method, no linear pieces to finish on")
        told = {True: "the only input in the box", False: "one of several inputs", None: "undecided whether the only one"}
        counts = {word: sum(u is key for u in self.unique) for key, word in told.items()}
        lines.append("  " + ", ".join(f"{n} {word}" for word, n in counts.items() if n))
        errors = self.errors
        if errors is not None:
            lines.append(f"  input error: median {float(errors.median()):.2g}, largest {float(errors.max()):.2g} of the truth")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        tensors = {
            name: getattr(self, name)
            for name in ("points", "residuals", "exact", "impossible", "residual_history", "error_history", "agreement")
        }
        tensors |= {"finished": self.finished, "pattern_agreement": self.pattern_agreement, "errors": self.errors}
        return {
            "layer": self.layer,
            "at": self.at,
            "allowed": self.allowed,
            "alone": list(self.alone),
            "unique": list(self.unique),
            "descended": self.descended,
            "smooth": self.smooth,
            **{name: None if v is None else v.tolist() for name, v in tensors.items()},
        }


def reconstruct(
    net: Network,
    features: ArrayLike,
    layer: str | int | None = None,
    *,
    at: Side = "post",
    box: Box | Sides | None = None,
    prior: PriorName = "norm",
    weight: float = 0.1,
    image: tuple[int, int] | None = None,
    truth: ArrayLike | None = None,
    start: ArrayLike | None = None,
    steps: int | None = None,
    rounds: int = 30,
    restarts: int = 2,
    uniqueness: bool = True,
    seed: int = 0,
    allowed: float = 1e-10,
) -> Reconstruction:
    """Return inputs that have the given features: by descent with a prior, then by an exact finish on a linear piece.

    Features tell which units of the last gate are on. For a first layer that is the whole pattern: its inputs are a convex
    polyhedron, and the answer is the point of it that is nearest to where descent ended, or a proof that it is empty. Behind
    more gates what is found is exact or says that it is not; that nothing was found proves nothing then.

    Args:
        net: any network; it is evaluated in float64 on the CPU.
        features: (batch, *shape of the layer), or of one sample, which is a batch of one.
        layer: whose features: a node's name, a position among the gates, None for the output.
        at: "post" for what the layer puts out, "pre" for what reaches its gate.
        box: where inputs may lie: a pair (low, high) of numbers or arrays (*input_shape), a `Box`, None for everywhere.
        prior: what is preferred where features leave room: "norm" short inputs, "tv" pictures of small total variation,
            "none".
        weight: of the prior's mean over the entries, beside the squared relative residual, at first; it fades to a
            thousandth of that on the way.
        image: (rows, columns) of pictures, for "tv", where the input's shape does not say.
        truth: inputs like the points, against which errors are reported; nothing else is done with it.
        start: inputs to start from; the point of the box nearest to 0 when None, for later attempts random ones.
        steps: of descent; none when None and a first layer is asked with "norm" or "none", for which the finish needs
            none; 200 else.
        rounds: at most, of the finish.
        restarts: further attempts for samples that are not exact, from random points without the prior, where several
            gates are in front.
        uniqueness: whether to ask if points are alone.
        seed: of random starts and directions.
        allowed: the residual, in parts of the features' length, up to which a point is exact.

    Raises: ShapeError, InputError for NaN, infinity, an empty batch, an empty box, unknown names and counts below 0.

    Algorithm: Adam's steps on the distance of pre-activations from the intervals that features ask for, which pulls at units
    that are off too; farther gates leak at first. Then in each round the exact affine map, and the point nearest to the last
    one that solves its system within the box, by a semismooth Newton method; or a damped step where none does, as far as what
    is missed falls. A round costs a map and about ten systems of as many equations as rows are tight. Uniqueness: kernels
    and cones of what is tight, see `is_omnidirectional`.

    References: Mahendran, Vedaldi, Understanding deep image representations by inverting them (2015); Li, Sun, Toh, A highly
    efficient semismooth Newton augmented Lagrangian method (2018).

    Example:
        >>> from polylens import dense, reconstruct
        >>> net = dense([([[1.0, 1.0], [1.0, -1.0]], [0.0, 0.0]), ([[1.0, 1.0]], None)])
        >>> found = reconstruct(net, [[3.0, 1.0], [3.0, 0.0]], layer=0)
        >>> [[round(v, 12) for v in x] for x in found.points.tolist()], found.unique
        ([[2.0, 1.0], [1.5, 1.5]], (True, False))
    """
    asked = _asked(net, features, layer, at, box, truth, start)
    if allowed <= 0 or not math.isfinite(allowed) or not (math.isfinite(weight) and weight >= 0):
        raise InputError(f"allowed, weight: expected a number above 0 and one of at least 0; got {allowed!r}, {weight!r}")
    chosen = prior_of(prior, asked.net.input_shape, image)
    known = wanted(asked.net, asked.value, asked.features[:1]).known
    if steps is None:
        steps = 0 if known and prior != "tv" else _STEPS
    plan = Plan(
        whole(steps, "steps", 0), whole(rounds, "rounds", 0), whole(restarts, "restarts", 0), whole(seed, "seed", 0), allowed
    )
    size = max(1, min(_AT_ONCE, MAX_BYTES // (_ALIVE * asked.net.sample_bytes)))
    parts = [slice(i, i + size) for i in range(0, len(asked.features), size)]
    found = []
    for part in progress(parts, len(parts), "reconstruct"):
        descent = _descent(asked, part, chosen, weight)
        search = Search(asked, part, descent, plan)
        found.append(search.answer(uniqueness))
    return _joined(asked, found, plan)


# -- what is asked


def _asked(
    net: Network,
    features: ArrayLike,
    layer: str | int | None,
    at: Side,
    box: Box | Sides | None,
    truth: ArrayLike | None,
    start: ArrayLike | None,
) -> Asked:
    if not isinstance(net, Network):
        raise InputError(f"network: expected a Network of polylens; got {type(net).__name__}; polylens.load makes one of it")
    net = net.to(dtype=torch.float64, device="cpu")
    value, name = _value(net, layer, at)
    y = _batch(features, net.shape_of(value), "features")
    low, high = _box(net, box)
    inputs = [None if v is None else _batch(v, net.input_shape, w) for v, w in ((truth, "truth"), (start, "start"))]
    for v, what in zip(inputs, ("truth", "start"), strict=True):
        if v is not None and len(v) != len(y):
            raise ShapeError(f"{what}: expected {len(y)} inputs, one for each sample of the features; got {len(v)}")
    return Asked(net, name, at, value, y, low, high, inputs[0], inputs[1])


def _value(net: Network, layer: str | int | None, at: Side) -> tuple[int, str]:
    value = net.value_of(layer)
    if at not in ("pre", "post"):
        raise InputError(f"at: expected 'pre' or 'post'; got {at!r}")
    if value == 0:
        return 0, "input"
    node = net.nodes[value - 1]
    if at == "post":
        return value, node.name
    if len(node.inputs) != 1:
        raise InputError(f"at='pre': expected a layer with one input; {node.name} ({node.step.kind}) has {len(node.inputs)}")
    return node.inputs[0], node.name


def _batch(x: ArrayLike, shape: tuple[int, ...], what: str) -> Tensor:
    """Return samples flattened, (batch, n)."""
    x = array(x, what)
    floating(x, what)
    batched = is_batch(x, shape, what)
    values = finite(as_tensor(x, torch.float64, torch.device("cpu")).detach(), what)
    return flat(values if batched else values[None], 1)


def _box(net: Network, box: Box | Sides | None) -> tuple[Tensor, Tensor]:
    shape = net.input_shape
    low, high = (-math.inf, math.inf) if box is None else (box.low, box.high) if isinstance(box, Box) else box
    sides = []
    for side, what in ((low, "low"), (high, "high")):
        v = torch.as_tensor(side, dtype=torch.float64).cpu()
        if isinstance(box, Box) and v.numel() == math.prod(shape):
            v = v.reshape(shape)
        try:
            sides.append(v.expand(shape).reshape(-1).clone())
        except RuntimeError:
            raise ShapeError(f"box: expected {what} sides of shape {shape}, or numbers; got {tuple(v.shape)}") from None
    if bool((sides[0] > sides[1]).any()) or bool(torch.isnan(torch.stack(sides)).any()):
        raise InputError("box: expected low sides of at most the high ones; got some above them, or NaN")
    return sides[0], sides[1]


def _descent(asked: Asked, part: slice, prior: Prior | None, weight: float) -> Descent:
    width = asked.high - asked.low
    rate = _RATE * torch.where(torch.isfinite(width), width, 1.0)
    want = wanted(asked.net, asked.value, asked.features[part])
    return Descent(asked.net, want, prior, weight, asked.low, asked.high, rate)


# -- all of it


def _joined(asked: Asked, parts: list[Part], plan: Plan) -> Reconstruction:
    longest = max(p.history.shape[2] for p in parts)
    padded = [torch.cat([p.history, p.history[:, :, -1:].expand(-1, -1, longest - p.history.shape[2])], 2) for p in parts]
    residual, error, agreement = torch.cat(padded, 1)
    final = torch.cat([p.residuals for p in parts])
    shape, told = asked.net.input_shape, asked.truth is not None
    points, others = (torch.cat([getattr(p, n) for p in parts]).reshape(-1, *shape) for n in ("points", "others"))
    return Reconstruction(
        network=asked.net,
        layer=asked.layer,
        at=asked.at,
        features=asked.features.reshape(-1, *asked.net.shape_of(asked.value)),
        points=points,
        residuals=final,
        allowed=plan.allowed,
        exact=final <= plan.allowed,
        impossible=torch.cat([p.impossible for p in parts]) & (final > plan.allowed),
        alone=tuple(a for p in parts for a in p.alone),
        unique=tuple(u for p in parts for u in p.unique),
        others=others,
        residual_history=residual,
        error_history=error if told else None,
        agreement=agreement,
        descended=plan.steps,
        finished=_from(residual <= plan.allowed),
        truth=None if asked.truth is None else asked.truth.reshape(-1, *shape),
        pattern_agreement=torch.cat([p.pattern for p in parts]) if told else None,
        smooth=is_smooth(asked.net, asked.value),
    )


def _from(met: Tensor) -> Tensor:
    """Return from which column on rows (batch, columns) stay met, -1 where the last one is not."""
    trailing = met.flip(1).long().cumprod(1).sum(1)
    return torch.where(trailing > 0, met.shape[1] - trailing, -1)
