"""Inverses of elementwise steps: smooth functions by a table of closed forms, gates by the pieces that reach a value.

`undo` says of every entry which input gave it: exactly one, one of an interval, or none. What a float cannot tell apart
from the end of a range (a tanh of 1) is an interval too: all inputs that round to it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, final

import torch
from torch import Tensor

from ..errors import UnsupportedError
from ..gates import Gate, spread
from ..network import Node
from ..smooth import Smooth

EPS = 2.0**-52
Options = Mapping[str, Any]
Function = Callable[[Tensor, Options], Tensor]


class Entries(NamedTuple):
    """What is known of every entry of a step's input, each (batch, *shape).

    `value` where `known`; otherwise the input lies in [low, high]. `missing` entries come from no input at all, and
    `several` from more than one without an interval that holds no others.
    """

    value: Tensor
    known: Tensor
    low: Tensor
    high: Tensor
    missing: Tensor
    several: Tensor


@final
@dataclass(frozen=True, eq=False, slots=True)
class Inverse:
    """The inverse of an increasing or decreasing function: its values lie between `low` and `high`.

    `closed` says which of the ends are reached; `steepest` is the largest derivative of the inverse, infinite for most.
    """

    function: Function
    low: Callable[[Options], float]
    high: Callable[[Options], float]
    closed: tuple[bool, bool] = (False, False)
    steepest: Callable[[Options], float] = lambda _: math.inf
    rising: bool = True


def undo(node: Node, y: Tensor, room: Tensor) -> Entries:
    """Return what gave the values y (batch, *shape) behind an elementwise step, which are known up to `room` (same shape).

    Raises UnsupportedError for a step that has no inverse anywhere.
    """
    step = node.step
    return _of_gate(step, y, room) if isinstance(step, Gate) else _of_smooth(node, y, room)


def steepest(node: Node) -> float:
    """Return the largest derivative of the inverse over all values that the step takes: infinite where there is no bound."""
    step = node.step
    if isinstance(step, Gate):
        least = float(step.slopes.abs().min())
        return 1 / least if least > 0 and _one_to_one(step) else math.inf
    found = _TABLE.get(step.kind)
    return math.inf if found is None or not isinstance(step, Smooth) else found.steepest(step.options)


def carried(node: Node, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return which interval of inputs gives the outputs from `low` to `high` (batch, *shape), and where that is not known.

    It is known of steps that rise everywhere, for ends that they take; others leave anything from -inf to inf.
    """
    lost = torch.isfinite(low) | torch.isfinite(high)
    if forgets(node) is not None or not _rises(node):
        return torch.full_like(low, -torch.inf), torch.full_like(high, torch.inf), lost
    ends, unknown = [], torch.zeros_like(lost)
    for end in (low, high):
        inner = torch.isfinite(end)
        found = undo(node, torch.where(inner, end, 0.0), torch.zeros_like(end))
        unknown |= inner & ~found.known
        ends.append(torch.where(inner, found.value, end))
    return torch.where(unknown, -torch.inf, ends[0]), torch.where(unknown, torch.inf, ends[1]), unknown


def forgets(node: Node) -> str | None:
    """Return why a step has no inverse as a whole, None where it has one."""
    step = node.step
    if isinstance(step, Gate):
        if _one_to_one(step):
            return None
        return "flat" if bool((step.slopes == 0).any()) else "folded"
    return None if isinstance(step, Smooth) and step.kind in _TABLE and _regular(step) else "folded"


def _rises(node: Node) -> bool:
    """Say whether a step that has an inverse rises."""
    step = node.step
    return bool((step.slopes > 0).all()) if isinstance(step, Gate) else _TABLE[step.kind].rising


# -- gates


def _one_to_one(gate: Gate) -> bool:
    """Say whether all pieces rise, or all fall, and no jump leads back."""
    sign = gate.slopes[0].sign()
    below = gate.slopes[:-1] * gate.breakpoints + gate.intercepts[:-1]
    above = gate.slopes[1:] * gate.breakpoints + gate.intercepts[1:]
    return bool((gate.slopes.sign() == sign).all() and (sign != 0).all() and ((above - below) * sign >= 0).all())


def _of_gate(gate: Gate, y: Tensor, room: Tensor) -> Entries:
    """Ask every piece of a gate for the inputs on it that have the value: one, all between two breakpoints, or none."""
    shape = tuple(y.shape[1:])
    ends, slopes, intercepts = (spread(t.double(), shape) for t in (gate.breakpoints, gate.slopes, gate.intercepts))
    low, high = torch.full_like(y, torch.inf), torch.full_like(y, -torch.inf)
    value, flat = torch.zeros_like(y), torch.zeros_like(y, dtype=torch.bool)
    for p in range(gate.num_pieces):
        least = ends[p - 1] if p else torch.full_like(slopes[p], -torch.inf)
        most = ends[p] if p < len(ends) else torch.full_like(slopes[p], torch.inf)
        level = (slopes[p] == 0) & ((y - intercepts[p]).abs() <= room) & (least < most)
        z = (y - intercepts[p]) / torch.where(slopes[p] == 0, 1.0, slopes[p])
        slack = room / slopes[p].abs().clamp(min=torch.finfo(y.dtype).tiny) + 2 * EPS * z.abs()
        here = (slopes[p] != 0) & (z >= least - slack) & (z <= most + slack)
        value = torch.where(here & (low == torch.inf), z, value)
        low = torch.where(level, torch.minimum(low, least), torch.where(here, torch.minimum(low, z), low))
        high = torch.where(level, torch.maximum(high, most), torch.where(here, torch.maximum(high, z), high))
        flat |= level
    missing = low > high
    slope = torch.where(slopes == 0, torch.inf, slopes.abs()).amin(0)
    apart = high - low > 4 * room / slope + 8 * EPS * value.abs()
    known = ~missing & ~apart & ~flat
    several = ~missing & ~known & ~_is_interval(gate, y, room, low, high, flat)
    nowhere = missing | several
    low, high = torch.where(nowhere, -torch.inf, low), torch.where(nowhere, torch.inf, high)
    return Entries(torch.where(known, value, 0.0), known, low, high, missing, several)


def _is_interval(gate: Gate, y: Tensor, room: Tensor, low: Tensor, high: Tensor, flat: Tensor) -> Tensor:
    """Say where all inputs between two ends have the value: a continuous gate has it in the middle of each of its pieces."""
    shape, inner = tuple(y.shape[1:]), flat
    ends = [torch.full_like(y, -torch.inf), *spread(gate.breakpoints.double(), shape), torch.full_like(y, torch.inf)]
    for left, right in itertools.pairwise(ends):
        a, b = torch.maximum(left + torch.zeros_like(y), low), torch.minimum(right + torch.zeros_like(y), high)
        middle = torch.where(torch.isinf(a), b - 1 - b.abs(), torch.where(torch.isinf(b), a + 1 + a.abs(), (a + b) / 2))
        middle = torch.where(torch.isinf(a) & torch.isinf(b), 0.0, middle)
        inner = inner & ((a >= b) | ((gate.apply(middle) - y).abs() <= 4 * room))
    return inner


# -- smooth functions


def _of_smooth(node: Node, y: Tensor, room: Tensor) -> Entries:
    step = node.step
    if isinstance(step, Smooth) and step.kind in _BENT:
        return _beyond_the_bend(step, y, room)
    found = _TABLE.get(step.kind)
    if found is None or not isinstance(step, Smooth) or not _regular(step):
        raise UnsupportedError(f"{node.name}: {step.kind} has no inverse, or none that is known here")
    low, high = found.low(step.options), found.high(step.options)
    under = y < low if found.closed[0] else y <= low
    over = y > high if found.closed[1] else y >= high
    least, most = (_last_inside(end, way, room) for end, way in ((low, 1.0), (high, -1.0)))
    inside = torch.where(under, least, torch.where(over, most, y))
    z = found.function(inside, step.options)
    at_ends = (under & ((y - low).abs() <= room)) | (over & ((y - high).abs() <= room))
    missing = ((under | over) & ~at_ends) | ~torch.isfinite(z)
    known = ~(under | over) & torch.isfinite(z)
    downwards = under if found.rising else over
    low_z = torch.where(known, z, torch.where(missing | downwards, -torch.inf, z))
    high_z = torch.where(known, z, torch.where(missing | ~downwards, torch.inf, z))
    return Entries(torch.where(known, z, 0.0), known, low_z, high_z, missing, torch.zeros_like(known))


def _last_inside(end: float, way: float, room: Tensor) -> Tensor:
    """Return the values next to an end of the range that can be told from it."""
    if not math.isfinite(end):
        return torch.zeros_like(room)
    return end + way * room.clamp(min=max(abs(end) * EPS, torch.finfo(torch.float64).tiny))


def _regular(step: Smooth) -> bool:
    """Say whether the options leave a function that rises everywhere."""
    options = step.options
    if step.kind == "pow":
        return _odd_root(options) is not None
    return all(float(options.get(name, 1.0)) > 0 for name in ("alpha", "scale", "input_scale", "gamma", "beta"))


def _odd_root(options: Options) -> float | None:
    power = float(options.get("exponent", 2.0))
    return power if power > 0 and power == int(power) and int(power) % 2 == 1 else None


def _constant(value: float) -> Callable[[Options], float]:
    return lambda _: value


def _plain(function: Callable[[Tensor], Tensor]) -> Function:
    return lambda y, _: function(y)


def _softplus(y: Tensor, options: Options) -> Tensor:
    beta, threshold = float(options.get("beta", 1.0)), float(options.get("threshold", 20.0))
    linear = beta * y > threshold + math.log1p(math.exp(-threshold))
    scaled = torch.where(linear, 1.0, beta * y)
    return torch.where(linear, y, (scaled + torch.log(-torch.expm1(-scaled))) / beta)


def _elu(y: Tensor, options: Options) -> Tensor:
    """Invert scale * (z if z > 0 else alpha * expm1(input_scale * z)), of which ELU and SELU are cases."""
    alpha, scale, inner = _elu_options(options)
    below = torch.where(y > 0, 0.0, y)
    return torch.where(y > 0, y / scale, torch.log1p(below / (scale * alpha)) / inner)


def _elu_options(options: Options) -> tuple[float, float, float]:
    scale = float(options.get("scale", options.get("gamma", 1.0)))
    return float(options.get("alpha", 1.0)), scale, float(options.get("input_scale", 1.0))


_SELU = {"alpha": 1.6732632423543772848170429916717, "scale": 1.0507009873554804934193349852946}


def _selu(options: Options) -> Options:
    return options if "alpha" in options else _SELU


def _elu_end(options: Options) -> float:
    alpha, scale, _ = _elu_options(options)
    return -alpha * scale


def _celu(y: Tensor, options: Options) -> Tensor:
    alpha = float(options.get("alpha", 1.0))
    return torch.where(y > 0, y, alpha * torch.log1p(torch.where(y > 0, 0.0, y) / alpha))


def _log_sigmoid(y: Tensor, _: Options) -> Tensor:
    return y - torch.log(-torch.expm1(y))


def _root(y: Tensor, options: Options) -> Tensor:
    return y.sign() * y.abs() ** (1 / (_odd_root(options) or 1.0))


def _erfinv(y: Tensor) -> Tensor:
    """Invert erf; two of Newton's steps add the digits that the library's own leaves out."""
    z = torch.erfinv(y)
    for _ in range(2):
        z = z - (torch.erf(z) - y) * (math.sqrt(math.pi) / 2) * torch.exp(z * z)
    return z


_ANY = (_constant(-math.inf), _constant(math.inf))
_ONE = (_constant(-1.0), _constant(1.0))
_POSITIVE = (_constant(0.0), _constant(math.inf))
_TABLE: dict[str, Inverse] = {
    "tanh": Inverse(_plain(torch.atanh), *_ONE),
    "sigmoid": Inverse(_plain(torch.logit), _constant(0.0), _constant(1.0)),
    "softplus": Inverse(_softplus, *_POSITIVE),
    "elu": Inverse(_elu, _elu_end, _constant(math.inf)),
    "selu": Inverse(lambda y, o: _elu(y, _selu(o)), lambda o: _elu_end(_selu(o)), _constant(math.inf)),
    "celu": Inverse(_celu, lambda o: -float(o.get("alpha", 1.0)), _constant(math.inf)),
    "log_sigmoid": Inverse(_log_sigmoid, _constant(-math.inf), _constant(0.0)),
    "softsign": Inverse(_plain(lambda y: y / (1 - y.abs())), *_ONE),
    "asinh": Inverse(_plain(torch.sinh), *_ANY),
    "sinh": Inverse(_plain(torch.asinh), *_ANY, steepest=_constant(1.0)),
    "atan": Inverse(_plain(torch.tan), _constant(-math.pi / 2), _constant(math.pi / 2)),
    "atanh": Inverse(_plain(torch.tanh), *_ANY, steepest=_constant(1.0)),
    "asin": Inverse(
        _plain(torch.sin), _constant(-math.pi / 2), _constant(math.pi / 2), closed=(True, True), steepest=_constant(1.0)
    ),
    "acos": Inverse(
        _plain(torch.cos), _constant(0.0), _constant(math.pi), closed=(True, True), steepest=_constant(1.0), rising=False
    ),
    "acosh": Inverse(_plain(torch.cosh), *_POSITIVE, closed=(True, False)),
    "exp": Inverse(_plain(torch.log), *_POSITIVE),
    "exp2": Inverse(_plain(torch.log2), *_POSITIVE),
    "expm1": Inverse(_plain(torch.log1p), _constant(-1.0), _constant(math.inf)),
    "log": Inverse(_plain(torch.exp), *_ANY),
    "log2": Inverse(_plain(torch.exp2), *_ANY),
    "log10": Inverse(_plain(lambda y: 10.0**y), *_ANY),
    "log1p": Inverse(_plain(torch.expm1), *_ANY),
    "sqrt": Inverse(_plain(torch.square), *_POSITIVE, closed=(True, False)),
    "rsqrt": Inverse(_plain(lambda y: y**-2), *_POSITIVE, rising=False),
    "erf": Inverse(_plain(_erfinv), *_ONE),
    "erfc": Inverse(_plain(lambda y: _erfinv(1 - y)), _constant(0.0), _constant(2.0), rising=False),
    "pow": Inverse(_root, *_ANY),
    "reciprocal": Inverse(_plain(torch.reciprocal), *_ANY),
}
# Negative only where their input is, and rising above 0: there |z| / 2 <= |s(z)| <= |z|, so halving intervals finds z
_BENT = frozenset({"gelu", "silu", "mish", "hardswish"})
_HALVINGS = 80


def _beyond_the_bend(step: Smooth, y: Tensor, room: Tensor) -> Entries:
    """Invert a function that dips below 0 on the left and rises from 0 on: what is surely positive has one input."""
    low, high = torch.zeros_like(y), 2 * y.abs()
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        above = step.apply(middle) > y
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    known = y > room
    deepest = step.apply(torch.linspace(-4, 0, 4097, dtype=y.dtype, device=y.device)).min()
    missing = y + room < deepest * (1 + 1e-3)  # between the points of the grid it is no deeper
    far = torch.full_like(y, torch.inf)
    value = torch.where(known, (low + high) / 2, 0.0)
    return Entries(value, known, torch.where(known, value, -far), torch.where(known, value, far), missing, ~known & ~missing)


def reach(node: Node) -> tuple[Tensor, Tensor]:
    """Return the least and the greatest value that every entry of an elementwise step takes (*shape), infinite where none."""
    step = node.step
    if isinstance(step, Gate):
        slopes, intercepts, ends = (spread(t.double(), node.shape) for t in (step.slopes, step.intercepts, step.breakpoints))
        at = [slopes[:-1] * ends + intercepts[:-1], slopes[1:] * ends + intercepts[1:]]
        left = torch.where(slopes[0] == 0, intercepts[0], -slopes[0].sign() * torch.inf)
        right = torch.where(slopes[-1] == 0, intercepts[-1], slopes[-1].sign() * torch.inf)
        values = torch.cat([*at, left[None], right[None]])
        return values.amin(0), values.amax(0)
    low, high = -torch.inf, torch.inf
    if isinstance(step, Smooth) and (found := _TABLE.get(step.kind)) is not None and step.kind not in _BENT:
        low, high = found.low(step.options), found.high(step.options)
    return torch.full(node.shape, low, dtype=torch.float64), torch.full(node.shape, high, dtype=torch.float64)
