"""Descent of |f(x) - y| along the affine pieces of a network, for many points at once.

In a region the least-squares step is exact. It ends at a zero, at the region's own least-squares point, or at a wall, behind
which the next map takes over; where the steps of both sides point back, the wall is run along (an active set). A point
rests where no piece around it offers a way down; all pieces that meet there are asked.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from .._subdivision.stages import jumps
from .._types import Tolerance
from ..gates import Choice
from ..germ import fixed_at
from ..local import maps
from ..network import Network, Node
from ..steps import flat
from . import sheets
from .active import Walls, multipliers, size_of, step
from .room import Room
from .sheets import GateWalls, Pieces, Rounding, Sheet

RUNNING, EXACT, LEAST, FAILED = range(4)
Corners = Callable[[Tensor], list[tuple[Tensor, Pieces | None]]]
_MEETING = Tolerance(256.0).relative  # what of a gap to a wall, of a speed, of a row is rounding
_AT_ONCE = 1 / 16  # of it: walls that are crossed with the first one, as those of duplicate units; farther ones come next
_GAIN = 1e-8  # of |r|: |r|^2 falls by the square of it, which is below its own rounding
_PUSH = 1e-9  # multipliers are differences of products: less than this part of |A| |r| is none
_TRIALS = 0.5 ** torch.arange(7, dtype=torch.float64)  # lengths that are tried beyond the first wall
_CORNER = 6  # behind so many walls that meet in a point all 2^6 sides are asked; of more, the regions there
_TRIED = 16  # directions that are tried where these are unknown
_LOOSE = 8  # rounds in one place that let go of all walls that hold back; then one by one, which cannot cycle as easily


@dataclass(frozen=True, eq=False, slots=True)
class Problem:
    """f(x) = target in float64, over coordinates of a room; residuals up to `allowed` count as 0.

    `rounding` is that of walls where searches start, at points of `size`; farther out it grows with them, but nearer to the
    apex of a cone, where gaps and their terms vanish together, it stays. Where gates have `leaps` nothing is proven at walls.
    `corners` tells the regions that meet where many walls do.
    """

    net: Network
    target: Tensor
    room: Room
    allowed: float
    leaps: bool
    size: float
    rounding: Rounding
    corners: Corners

    @classmethod
    def of(cls, net: Network, target: Tensor, room: Room, allowed: float, u: Tensor, corners: Corners) -> Problem:
        """Return the problem of a piecewise-linear network that is searched from points (batch, dim)."""
        leaps = any(jumps(node.step) for node in net.nodes if isinstance(node.step, Choice))
        size = float(u.abs().amax(1).median()) or 1.0
        u = torch.where((u == 0).all(1, keepdim=True), size, u)  # at the origin all terms vanish, and rounding with them
        with torch.no_grad():
            x = u.reshape(len(u), *net.input_shape)
            found = sheets.rounding(net, x, fixed_at(net, x, len(net.nodes))[1], _MEETING)
        return cls(net, target, room, allowed, leaps, size, found, corners)

    def shaped(self, u: Tensor) -> Tensor:
        """Return points (batch, dim) in the shape of the network's inputs."""
        return u.reshape(len(u), *self.net.input_shape)

    def residual(self, u: Tensor) -> Tensor:
        """Return f - y (batch, outputs)."""
        return flat(self.net.forward(self.shaped(u)), 1) - self.target

    @property
    def gates(self) -> list[Node]:
        """The nodes that choose pieces, in order."""
        return [node for node in self.net.nodes if isinstance(node.step, Choice)]

    @property
    def num_pieces(self) -> int:
        """How many pieces a unit of any gate has at most."""
        return max((cast(Choice, node.step).num_pieces for node in self.gates), default=1)

    def behind(self, walls: list[GateWalls]) -> Tensor:
        """Return which choice of a piece lies behind each wall (batch, walls): unit * num_pieces + piece."""
        return sheets.choices(walls, [math.prod(node.shape) for node in self.gates], self.num_pieces)

    def own(self, pieces: Pieces) -> Tensor:
        """Return the choices that pieces of all gates are (batch, units)."""
        piece = torch.cat([flat(pieces[node.name].long(), 1) for node in self.gates], 1)
        return torch.arange(piece.shape[1], device=piece.device) * self.num_pieces + piece

    def pieces(self, u: Tensor) -> Pieces:
        """Return the pieces of all gates at points."""
        return fixed_at(self.net, self.shaped(u), len(self.net.nodes))[1]


@dataclass(eq=False, slots=True)
class State:
    """Where all points are: everything about point i is row i.

    `working` walls are run along, `held` sides too; `fresh` points have all walls that they are on working. `side` counts
    the sides of the `corner` that were asked: choices of pieces, -1 for none, `meeting` in number, that differ from those of
    `base`, side 0. `waits` counts rounds in one place.
    """

    u: Tensor
    pieces: Pieces
    working: Tensor
    held: Tensor
    fresh: Tensor
    side: Tensor
    corner: Tensor
    meeting: Tensor
    base: Pieces
    waits: Tensor
    status: Tensor
    steps: Tensor

    @classmethod
    def at(cls, problem: Problem, u: Tensor) -> State:
        """Return the state of points that have not moved yet."""
        pieces, count = problem.pieces(u), len(u)
        walls = len(problem.rounding.near) + len(problem.room.bound)
        none = torch.zeros(count, dtype=torch.long, device=u.device)
        off = torch.zeros(count, walls, dtype=torch.bool, device=u.device)
        held = torch.zeros(u.shape, dtype=torch.bool, device=u.device)
        corner = torch.full((count, _CORNER), -1, device=u.device)
        copies = {k: v.clone() for k, v in pieces.items()}
        return cls(
            u, pieces, off, held, none.bool(), none, corner, none.clone(), copies, none.clone(), none.clone(), none.clone()
        )

    def take(self, rows: Tensor) -> State:
        """Return the state of some points."""
        return State(*(_rows_of(getattr(self, field.name), rows) for field in fields(self)))

    def put(self, rows: Tensor, part: State) -> None:
        """Write the state of some points back."""
        for field in fields(self):
            mine, new = getattr(self, field.name), getattr(part, field.name)
            for old, value in [(mine[k], new[k]) for k in mine] if isinstance(mine, dict) else [(mine, new)]:
                old[rows] = value


def _rows_of(value: Any, rows: Tensor) -> Any:
    return {k: v[rows] for k, v in value.items()} if isinstance(value, dict) else value[rows]


def descend(problem: Problem, u: Tensor, max_steps: int, generator: torch.Generator) -> State:
    """Return where points (batch, dim) of the room come to rest, after at most `max_steps` rounds each."""
    with torch.no_grad():
        state = State.at(problem, u.clone())
        while len(live := torch.nonzero(state.status == RUNNING).reshape(-1)):
            part = state.take(live)
            _round(problem, part, generator)
            part.steps += 1
            part.status[(part.status == RUNNING) & (part.steps >= max_steps)] = FAILED
            state.put(live, part)
    return state


class _Here(NamedTuple):
    """What a round knows: the sheet, gaps (with the rows of the room) and their rounding, the map, the residual, the walls."""

    sheet: Sheet
    gap: Tensor
    near: Tensor
    grown: Tensor  # (batch, 1): how much farther out than the starts
    weight: Tensor
    residual: Tensor
    meets: Tensor  # (batch, k): walls met, padded
    met: Tensor  # (batch, k): whether the entry of `meets` is one
    walls: Walls


def _round(problem: Problem, s: State, generator: torch.Generator) -> None:
    """Move every point once, or change the walls that it runs along, or find that it rests."""
    here = _look(problem, s)
    solved = here.residual.abs().amax(1) <= problem.allowed
    _settle(problem, s, solved)
    p = step(here.weight, here.residual, here.walls)
    change = (here.weight @ p.unsqueeze(-1)).squeeze(-1)
    rests = change.abs().amax(1) <= problem.allowed / 2 * here.grown.squeeze(1)
    rests |= torch.linalg.vector_norm(change, dim=1) <= _GAIN * torch.linalg.vector_norm(here.residual, dim=1)
    released = _release(problem, s, here, rests & ~solved)
    _turn(problem, s, here, rests & ~solved & ~released, generator)
    blocked = _block(problem, s, here, p, ~rests & ~solved)
    s.waits += 1
    _move(problem, s, here, p, change, ~rests & ~solved & ~blocked)
    patience = 4 * (_LOOSE + here.met.sum(1)) + s.held.sum(1)
    s.status[(s.status == RUNNING) & (s.waits > patience)] = FAILED


def _settle(problem: Problem, s: State, solved: Tensor) -> None:
    """Mark points that are zeros by a plain evaluation too; what is none, a rounding beyond a wall, goes on from there."""
    who = torch.nonzero(solved).reshape(-1)
    if not len(who):
        return
    exact = problem.residual(s.u[who]).abs().amax(1) <= problem.allowed
    s.status[who[exact]] = EXACT
    beyond = who[~exact]
    if len(beyond):
        for name, piece in problem.pieces(s.u[beyond]).items():
            s.pieces[name][beyond] = piece
        s.working[beyond] = False


def _look(problem: Problem, s: State) -> _Here:
    net, room = problem.net, problem.room
    at = sheets.sheet(net, problem.shaped(s.u), s.pieces)
    gap = torch.cat([at.gap, room.bound - s.u @ room.matrix.T], 1)
    grown = (s.u.abs().amax(1, keepdim=True) / problem.size).clamp(min=1.0)
    size = room.bound.abs() + s.u.abs() @ room.matrix.abs().T
    near = torch.cat([problem.rounding.near * grown, _MEETING * size], 1)
    last = len(net.nodes)
    a = maps(net, len(s.u), lambda _: at.local, {last: None}, 1 << 62)[last][0]  # the points are a chunk already
    index, met, rows = _met(problem, at, gap <= near)
    working = (s.working.gather(1, index) | s.fresh.unsqueeze(1)) & met
    s.held &= _sides(room, s.u) != 0
    s.working = torch.zeros_like(s.working).scatter(1, index, working)
    s.fresh = torch.zeros_like(s.fresh)
    return _Here(at, gap, near, grown, a, at.output - problem.target, index, met, Walls(rows, working, s.held))


def _met(problem: Problem, at: Sheet, close: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the walls that points are on, padded to one number, which entries count, and their unit rows."""
    k = int(close.sum(1).max()) if close.shape[1] else 0
    met, index = close.to(torch.uint8).topk(k, 1)
    if not k:
        return index, met.bool(), at.output.new_zeros(len(close), 0, problem.room.dim)
    rows = sheets.rows(problem.net, at, index)
    limit = torch.cat([problem.rounding.thin, rows.new_zeros(len(problem.room.bound))])
    if len(problem.room.bound):
        side = index - at.gap.shape[1]
        rows = torch.where((side >= 0).unsqueeze(2), problem.room.matrix[side.clamp(min=0)], rows)
    length = torch.linalg.vector_norm(rows, dim=2)
    real = met.bool() & (length > limit[index])
    return index, real, rows / torch.where(real, length, 1.0).unsqueeze(2) * real.unsqueeze(2)


def _sides(room: Room, u: Tensor) -> Tensor:
    """Return 1 for entries on their upper side, -1 for those on the lower one, else 0."""
    return (u >= room.high).to(u.dtype) - ((u <= room.low) & (room.low < room.high)).to(u.dtype)


def _release(problem: Problem, s: State, here: _Here, rests: Tensor) -> Tensor:
    """Let go of walls that hold points back from a way down; return which points had such."""
    if not bool(rests.any()) or not bool((here.walls.working.any(1) | s.held.any(1)).any()):
        return torch.zeros_like(rests)
    gradient = (here.weight.mT @ here.residual.unsqueeze(-1)).squeeze(-1)
    rows, sides = multipliers(gradient, here.walls)
    push = torch.cat([rows, sides * _sides(problem.room, s.u)], 1)
    fixed = problem.room.low == problem.room.high
    push[:, rows.shape[1] :][:, fixed] = 0
    pulls = push < -_PUSH * (size_of(here.weight) * torch.linalg.vector_norm(here.residual, dim=1)).unsqueeze(1)
    one = torch.zeros_like(pulls).scatter(1, push.argmin(1, keepdim=True), True)
    freed = pulls & (one | (s.waits < _LOOSE).unsqueeze(1)) & rests.unsqueeze(1)
    s.working = s.working & ~torch.zeros_like(s.working).scatter(1, here.meets, freed[:, : rows.shape[1]])
    s.held = s.held & ~freed[:, rows.shape[1] :]
    return freed.any(1)


def _block(problem: Problem, s: State, here: _Here, p: Tensor, goes: Tensor) -> Tensor:
    """Have the walls that steps would cross at once run along; return which points met such."""
    outward = (here.walls.rows @ p.unsqueeze(-1)).squeeze(-1) > _MEETING * torch.linalg.vector_norm(p, dim=1, keepdim=True)
    new = outward & here.met & ~here.walls.working & goes.unsqueeze(1)
    s.working = s.working | torch.zeros_like(s.working).scatter(1, here.meets, new)
    sides = (_sides(problem.room, s.u) * p > 0) & ~s.held & goes.unsqueeze(1)
    sides |= (problem.room.low == problem.room.high) & ~s.held & goes.unsqueeze(1)
    s.held = s.held | sides
    return new.any(1) | sides.any(1)


def _move(problem: Problem, s: State, here: _Here, p: Tensor, change: Tensor, goes: Tensor) -> None:
    """Go as far as the residual falls: to the first wall, which is crossed, or to a trial point farther on that is lower."""
    who = torch.nonzero(goes).reshape(-1)
    if not len(who):
        return
    way, u, room = p[who], s.u[who], problem.room
    pieces = {k: v[who] for k, v in s.pieces.items()}
    at = _taken(problem, here.sheet, pieces, who)
    speed = torch.cat([sheets.speeds(problem.net, at, problem.shaped(way)), way @ room.matrix.T], 1)
    slow = torch.cat([problem.rounding.thin, problem.rounding.thin.new_full((len(room.bound),), _MEETING)])
    slow = slow * torch.linalg.vector_norm(way, dim=1, keepdim=True)
    gap, near = here.gap[who], here.near[who]
    ahead = (speed > slow) & (gap > near)
    when = torch.where(ahead, gap / torch.where(ahead, speed, 1.0), torch.inf)
    units = at.gap.shape[1]
    ends = torch.minimum(_least(when[:, units:]), _side_time(room, u, way)).clamp(max=1.0)
    t = torch.minimum(_least(when[:, :units]), ends)
    through = ahead & (gap - t.unsqueeze(1) * speed <= _AT_ONCE * near)
    through[:, units:] = False
    after = here.residual[who] + t.unsqueeze(1) * change[who]
    new, pieces = room.clip(u + t.unsqueeze(1) * way), sheets.crossed(at.walls, pieces, through)
    working = s.working[who]
    far = torch.nonzero(t < 1).reshape(-1)
    if len(far):
        least = torch.linalg.vector_norm(after[far], dim=1)
        trial, better = _farther(problem, u[far], way[far], least)
        chosen, found = far[better], problem.pieces(trial[better]) if bool(better.any()) else {}
        new[chosen], working[chosen] = trial[better], False
        for name, piece in found.items():
            pieces[name] = pieces[name].clone()
            pieces[name][chosen] = piece
    s.u[who], s.working[who] = new, working
    for name, piece in pieces.items():
        s.pieces[name][who] = piece
    s.waits[who], s.side[who] = 0, 0


def _taken(problem: Problem, at: Sheet, pieces: Pieces, who: Tensor) -> Sheet:
    """Return the sheet of some points, whose pieces are given."""
    if len(who) == len(at.output):
        return at
    walls = [g._replace(plus=g.plus[who], minus=g.minus[who], bound=g.bound[who], beyond=g.beyond[who]) for g in at.walls]
    return Sheet(sheets.localised(problem.net, pieces), at.output[who], walls, at.gap[who])


def _least(times: Tensor) -> Tensor:
    return times.amin(1) if times.shape[1] else times.new_full((len(times),), torch.inf)


def _side_time(room: Room, u: Tensor, way: Tensor) -> Tensor:
    end = torch.where(way > 0, room.high, room.low)
    return torch.where(way != 0, (end - u) / torch.where(way != 0, way, 1.0), torch.inf).clamp(min=0).amin(1)


def _farther(problem: Problem, u: Tensor, way: Tensor, least: Tensor) -> tuple[Tensor, Tensor]:
    """Return the best of some points on along the way (clipped to the room), and whether it is below `least` there."""
    t = _TRIALS.to(u.device).reshape(-1, 1) * problem.room.reach(u, way)
    trials = problem.room.clip(u + t.unsqueeze(2) * way)
    norms = torch.linalg.vector_norm(problem.residual(trials.flatten(0, 1)), dim=1).reshape(len(t), -1)
    norm, best = norms.min(0)
    return trials[best, torch.arange(len(u), device=u.device)], norm < 0.99 * least


def _turn(problem: Problem, s: State, here: _Here, rests: Tensor, generator: torch.Generator) -> None:
    """Have points that rest on one side of the walls that meet there look at the next one; after the last they rest."""
    who = torch.nonzero(rests).reshape(-1)
    if not len(who):
        return
    part = s.take(who)
    _gather(problem, part, here, who)
    part.side += 1
    few, many = (torch.nonzero(mask).reshape(-1) for mask in (part.meeting <= _CORNER, part.meeting > _CORNER))
    over = part.side[few] >= 2 ** part.meeting[few]
    part.status[few[over]] = torch.where(part.meeting[few[over]] * problem.leaps > 0, FAILED, LEAST)
    _face(problem, part, few[~over])
    for rows, regions in problem.corners(part.u[many]) if len(many) else ():
        _face_region(problem, part, many[rows], regions, generator)
    part.fresh[:], part.waits[:] = True, 0
    s.put(who, part)


def _face_region(problem: Problem, s: State, who: Tensor, regions: Pieces | None, generator: torch.Generator) -> None:
    """Put points of one corner onto the region that `side` numbers; of unknown ones, onto that in a random direction."""
    over = s.side[who] > (len(next(iter(regions.values()))) if regions else _TRIED)
    s.status[who[over]] = LEAST if regions and not problem.leaps else FAILED
    who = who[~over]
    if regions:
        found = {name: piece[s.side[who] - 1] for name, piece in regions.items()}
    else:
        way = torch.randn(len(who), problem.room.dim, generator=generator, dtype=torch.float64).to(s.u.device)
        found = problem.pieces(s.u[who] + 1e-9 * (1 + s.u[who].abs().amax(1, keepdim=True)) * way)
    for name, piece in found.items():
        s.pieces[name][who] = piece.to(s.pieces[name].dtype)


def _gather(problem: Problem, s: State, here: _Here, who: Tensor) -> None:
    """Add what lies behind the walls that are met on the side just asked to the corner of each point.

    Walls of deeper layers can have rows of zeros on one side of a wall in front of them and appear on the other alone. With
    all of them every region around is a side: its units are, layer by layer, on pieces behind walls met on asked sides.
    """
    first = torch.nonzero(s.side == 0).reshape(-1)
    s.meeting[first], s.corner[first] = 0, -1
    for name in s.base:
        s.base[name][first] = s.pieces[name][first]
    index, met = here.meets[who], here.met[who] & (here.meets[who] < here.sheet.gap.shape[1])
    if not bool(met.any()):
        return
    behind = problem.behind(here.sheet.walls)[who].gather(1, torch.where(met, index, 0)) * met
    own = problem.own(s.base).gather(1, behind.div(problem.num_pieces, rounding_mode="floor"))
    known = s.meeting > _CORNER  # many: the regions around tell all sides
    for j in range(index.shape[1]):
        choice = behind[:, j]
        new = met[:, j] & (choice != own[:, j]) & (s.corner != choice.unsqueeze(1)).all(1) & ~known & (s.meeting <= _CORNER)
        room = torch.nonzero(new & (s.meeting < _CORNER)).reshape(-1)
        s.corner[room, s.meeting[room]] = choice[room]
        s.meeting[new] += 1
    s.side[(s.meeting > _CORNER) & ~known] = 0


def _face(problem: Problem, s: State, who: Tensor) -> None:
    """Put points onto the side of their corner that `side` numbers: bit j says whether choice j is taken."""
    if not len(who):
        return
    pieces, names = {k: v[who] for k, v in s.base.items()}, [node.name for node in problem.gates]
    for j in range(int(s.meeting[who].max())):
        taken = (s.side[who] >> j) & 1 == 1
        pieces = sheets.chosen(pieces, names, torch.where(taken, s.corner[who, j], -1), problem.num_pieces)
    for name, piece in pieces.items():
        s.pieces[name][who] = piece
