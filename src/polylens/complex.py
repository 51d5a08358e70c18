"""All cells of a domain at once, and how they meet: shared vertices, facets, maps, linear regions, where a point lies.

One struct of arrays; a `Cell` is a view of one of them. What a complex does not hold it computes when it is asked for.
"""

from __future__ import annotations

import importlib
import math
import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, final

import numpy as np
import torch

from ._check import ArrayLike, array, finite
from ._files import write_atomically
from ._subdivision.cell_maps import differences_along, local_maps, most_errors, slopes_along
from ._subdivision.locate import Lookup, inside
from ._subdivision.saved import UNREADABLE, arrays_of, domain_from
from ._subdivision.stages import jumps
from ._types import Result, Tolerance
from .affine import AffineMap
from .cells import Cells
from .domain import CUTTING, Domain, WholeSpace, domain_of
from .errors import FileError, GeometryError, InputError, ShapeError
from .gates import Choice
from .germ import exact
from .local import maps, on_patterns
from .network import Network
from .pattern import Patterns
from .polytope import Polytope
from .subdivision import iter_cells

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ._kernels.faces import FacetList, Mesh

Array = np.ndarray[Any, Any]
_FORMAT, _OLDER = "polylens complex 2", "polylens complex 1"  # the older one kept reach in units of the whole domain
# Cuts count as nothing within the tolerance. Numbers that were computed along different ways differ by more: sums by some
# times it, and vertices, which are quotients, by more again; slivers that somebody means are wider still.
_ROUNDING, _COINCIDENT = 16.0, 64.0
_SURELY = 64 * 2.0**-52  # some roundings: a difference of less than that part of its terms is none


class Faces(NamedTuple):
    """The facets of all cells: whose, on which bit, and which other one they coincide with (-1 for none)."""

    cell: Array
    bit: Array
    partner: Array


class UnitBoundary(NamedTuple):
    """The facets at which a unit changes its piece: `pairs` (facets, 2) of cells, and vertices as a ragged array.

    Facet k has the vertices `vertex[start[k]:start[k+1]]`, rows of the complex's `points`.
    """

    pairs: Array
    start: Array
    vertex: Array


@final
@dataclass(frozen=True, eq=False, slots=True)
class LinearRegions:
    """Which linear region every cell belongs to, numbered in order of appearance, and how many there are.

    `fragile` pairs of neighbours have maps that differ by less than 1e-9 of what their difference is a sum of, and by more
    than its rounding: they may count as equal, or not, by chance.
    """

    labels: Array
    count: int
    fragile: int = 0


@final
@dataclass(frozen=True, eq=False, slots=True, repr=False)
class Cell:
    """One cell of a complex: a view that computes when asked."""

    complex: Complex
    index: int

    @property
    def vertices(self) -> Array:
        """The corners (vertices, dim) in the domain's coordinates, each once."""
        return self.complex.points[[v for v in self._numbers if v < self.complex.num_vertices]]

    @property
    def directions(self) -> Array:
        """The directions (directions, dim) in which the cell has no end; none for a bounded cell."""
        return self.complex.points[[v for v in self._numbers if v >= self.complex.num_vertices]]

    @property
    def _numbers(self) -> list[int]:
        mesh = self.complex.mesh
        return sorted({int(v) for v in mesh.vertex[mesh.start[self.index] : mesh.start[self.index + 1]]})

    @property
    def pattern(self) -> Patterns:
        """The activation pattern, a batch of one."""
        return self.complex.patterns[self.index]

    @property
    def volume(self) -> float:
        """The volume in units of the input."""
        return float(self.complex.volumes[self.index])

    @property
    def map(self) -> AffineMap:
        """The affine map over the inputs."""
        return self.complex.affine_map(self.index)

    def __repr__(self) -> str:
        return f"Cell({self.index}, {len(self._numbers)} vertices, volume {self.volume:.4g})"


@final
@dataclass(frozen=True, eq=False, repr=False)
class Complex(Result):
    """The cells of a domain: a sequence of `Cell`, held as arrays.

    `mesh` has the vertices, merged where they coincide, and the incidences: cell i has the vertices
    `mesh.vertex[mesh.start[i]:mesh.start[i+1]]`, of which some may be the same (a degenerate cell is held as a simple
    one), with the facets that each lies on as bits of `mesh.facets`; bits below `sides` are the domain's own. `words` are
    the patterns, one row a cell. Coordinates are the domain's; volumes are in units of the input. `fragile` decisions were
    taken on the way that rounding may have turned, as in `RegionCount`: with none, cells are those of exact arithmetic, where
    hyperplanes that coincide but for the rounding of their coefficients count as one.
    """

    network: Network
    domain: Domain
    tolerance: Tolerance
    mesh: Mesh
    words: Array
    sides: int
    fragile: int = 0

    @classmethod
    def of(cls, network: Network, domain: Domain, parts: Sequence[Cells], tolerance: Tolerance) -> Complex:
        """Return the complex of cells that come in parts, which share no vertices with one another."""
        from ._kernels.faces import Mesh, merged

        fragile, parts = sum(p.fragile for p in parts), [_used(p) for p in parts if len(p)]
        bits = max((p.facets.shape[1] for p in parts), default=1)
        if not parts:
            raise GeometryError("complex: expected one cell or more; got none; is the domain empty?")
        shifts = np.cumsum([0, *(len(p.points) for p in parts)])
        ends = np.cumsum([0, *(len(p.vertex) for p in parts)])
        points, weight = (np.concatenate(a) for a in zip(*((p.points, p.weight) for p in parts), strict=True))
        points, count, reach, where = merged(points, weight, _COINCIDENT * tolerance.relative)
        vertex = np.concatenate([where[p.vertex + shift] for p, shift in zip(parts, shifts[:-1], strict=True)])
        start = np.concatenate([p.start[:-1] + end for p, end in zip(parts, ends[:-1], strict=True)] + [ends[-1:]])
        facets = np.zeros((len(vertex), bits), np.uint64)
        for p, end in zip(parts, ends[:-1], strict=True):
            facets[end : end + len(p.vertex), : p.facets.shape[1]] = p.facets
        words = np.ascontiguousarray(np.concatenate([p.words for p in parts]))
        mesh = Mesh(points, count, reach, start, vertex, facets)
        return cls(network, domain, tolerance, mesh, words, parts[0].sides, fragile)

    # -- the cells

    def __len__(self) -> int:
        return self.num_cells

    def __getitem__(self, index: int) -> Cell:
        return self.cell(index)

    def __iter__(self) -> Iterator[Cell]:
        return (Cell(self, i) for i in range(len(self)))

    def cell(self, index: int) -> Cell:
        """Return one cell; negative numbers count from the end.

        Raises IndexError for one that is not there, InputError for a slice or another thing that is no integer.
        """
        k = _integer(index, "cell", "one cell at a time, as in [c[i] for i in range(10)]")
        if not -len(self) <= k < len(self):
            raise IndexError(f"cell {k} of {len(self)}")
        return Cell(self, k % len(self))

    @property
    def num_cells(self) -> int:
        """How many cells there are; in an unbounded domain a region has one for each of the domain's cones it reaches into."""
        return len(self.mesh.start) - 1

    @cached_property
    def num_regions(self) -> int:
        """How many activation regions there are: distinct patterns."""
        return self.num_cells if self.domain.is_bounded else len(self.patterns.unique().patterns)

    @property
    def dim(self) -> int:
        """How many coordinates a point of the domain has."""
        return self.mesh.dim

    @property
    def patterns(self) -> Patterns:
        """The activation patterns of the cells."""
        packed = torch.from_numpy(self.words.view(np.uint8).reshape(len(self), -1))
        return Patterns(packed, self.network.gates)

    @cached_property
    def volumes(self) -> Array:
        """The volumes of the cells (cells,) in units of the input, infinite for those without an end."""
        from ._kernels.measure import volumes

        m = self.mesh
        weight = (np.arange(len(m.points)) < m.finite).astype(float)
        return volumes(m.points, weight, m.start, m.vertex, m.facets) * self.domain.scale

    @cached_property
    def middles(self) -> Array:
        """A point (cells, dim) inside every cell: the mean of its vertices, plus its directions."""
        total = self._sums
        places = np.add.reduceat((self.mesh.vertex < self.mesh.finite).astype(float), self.mesh.start[:-1])
        ways = np.add.reduceat(self._entries * (self.mesh.vertex >= self.mesh.finite)[:, None], self.mesh.start[:-1])
        return (total - ways) / places[:, None] + ways

    @property
    def _entries(self) -> Array:
        return self.mesh.points[self.mesh.vertex]

    @property
    def _sums(self) -> Array:
        """The sums of the cells' vertices and directions."""
        return np.add.reduceat(self._entries, self.mesh.start[:-1])

    # -- vertices

    @property
    def points(self) -> Array:
        """The vertices (vertices + directions, dim): places first, then directions, whose largest entry is 1."""
        return self.mesh.points

    @property
    def vertices(self) -> Array:
        """The vertices (vertices, dim) in the domain's coordinates."""
        return self.mesh.points[: self.mesh.finite]

    @property
    def directions(self) -> Array:
        """The directions (directions, dim) in which cells have no end, the largest entry of each of size 1."""
        return self.mesh.points[self.mesh.finite :]

    @property
    def num_vertices(self) -> int:
        """How many vertices there are, those at infinity left out."""
        return self.mesh.finite

    # -- facets

    @cached_property
    def _walls(self) -> int:
        """How many of the domain's sides part its cones; the one behind them is infinity."""
        return 0 if self.domain.is_bounded else self.dim + 1

    @cached_property
    def _facets(self) -> tuple[FacetList, Array]:
        from ._kernels.faces import facets_of

        found = facets_of(self.mesh)
        return found, (found.bit >= self.sides) | (found.bit < self._walls)

    @cached_property
    def facets(self) -> Faces:
        """The facets of all cells, those that lie between two cells matched with one another.

        Raises GeometryError for a network that jumps: its cells do not meet face to face.
        """
        from ._kernels.faces import matched

        self._meeting("facets are matched")
        found, inner = self._facets
        return Faces(found.cell, found.bit, matched(self.mesh, found, inner))

    def _meeting(self, what: str) -> None:
        for node in self.network.nodes:
            if isinstance(node.step, Choice) and jumps(node.step):
                raise GeometryError(
                    f"complex: {what} where cells meet face to face, which is so for continuous networks;"
                    f" {node.name} ({node.step.kind}) jumps"
                )

    @cached_property
    def _pairs(self) -> tuple[Array, Array]:
        """The facets between two cells, each by its first copy, and their pairs of cells."""
        faces = self.facets
        first = np.flatnonzero(faces.partner > np.arange(len(faces.partner)))
        return first, np.stack([faces.cell[first], faces.cell[faces.partner[first]]], 1)

    @property
    def adjacency(self) -> Array:
        """The pairs (facets, 2) of cells that share a facet.

        Raises GeometryError for a network that jumps: its cells do not meet face to face.
        """
        return self._pairs[1]

    @property
    def num_facets(self) -> int:
        """How many facets there are, shared ones counted once, those at infinity left out."""
        faces = self.facets
        infinite = np.count_nonzero(faces.bit == self._walls) if self._walls else 0
        return len(faces.cell) - len(self.adjacency) - int(infinite)

    @cached_property
    def num_unmatched(self) -> int:
        """How many facets inside the domain have no partner: 0, unless vertices were lost to rounding."""
        found, inner = self._facets
        if not isinstance(self.domain, WholeSpace):
            inner = found.bit >= self.sides  # a side of an unbounded slice may lie on a wall between its cones
        return int(np.count_nonzero(inner & (self.facets.partner < 0)))

    def boundary_of(self, layer: str | int, unit: int) -> UnitBoundary:
        """Return the facets at which a unit changes its piece: its bent hyperplane.

        `layer` is a name or a position among the network's gates, `unit` a position in the flattened layer. A unit that
        keeps its piece all over the domain has none.

        Raises InputError for a layer or unit that is not there, GeometryError for a network that jumps.
        """
        pieces = self.pieces_of(layer, unit)
        first, pairs = self._pairs
        changes = np.flatnonzero(pieces[pairs[:, 0]] != pieces[pairs[:, 1]])
        return UnitBoundary(pairs[changes], *self._vertices_of(first[changes]))

    def _vertices_of(self, facets: Array) -> tuple[Array, Array]:
        from ._kernels.faces import vertices_of

        found = self._facets[0]
        return vertices_of(self.mesh, found.cell[facets], found.bit[facets])

    def pieces_of(self, layer: str | int, unit: int) -> Array:
        """Return which piece a unit, a position in its flattened layer, is on in every cell: (cells,)."""
        one = self.patterns.layer(layer)
        count = one.layers[0].num_units
        unit = _integer(unit, "unit", f"0 to {count - 1} of layer {one.layers[0].name}")
        if not 0 <= unit < count:
            raise InputError(f"unit: expected 0 to {count - 1} of layer {one.layers[0].name}; got {unit}")
        planes = one.packed.numpy().reshape(len(self), one.layers[0].planes, one.layers[0].plane_bytes)
        bits = (planes[:, :, unit // 8].astype(np.int64) >> (unit % 8)) & 1
        return (bits << np.arange(bits.shape[1])).sum(1)

    # -- maps

    def affine_map(self, index: int) -> AffineMap:
        """Return the exact affine map of the network over its inputs on one cell."""
        pattern, output = self.cell(index).pattern, len(self.network.nodes)
        local = on_patterns(self.network, pattern, output)
        weight, offset = maps(self.network, 1, lambda _: local, {output: None})[output]
        return AffineMap(weight[0], offset[0], self.network.input_shape, self.network.output_shape)

    def local_maps(self, indices: ArrayLike = None) -> AffineMap:
        """Return the affine maps u -> y over the domain's coordinates on some cells, all when None: a batch of maps.

        Algorithm: the domain's directions and its origin pushed through the network with its gates fixed, some cells at a
        time: dim + 1 forward passes a cell.
        """
        chosen = np.arange(len(self)) if indices is None else np.asarray(indices).reshape(-1)
        weight, offset = local_maps(self.network, self.domain, self.patterns[torch.from_numpy(chosen)])
        return AffineMap(weight, offset, (self.dim,), self.network.output_shape)

    def linear_regions(self) -> LinearRegions:
        """Return the linear regions: cells that are connected through facets and have equal affine maps.

        Maps are equal when they differ by no more than the rounding of what the units add that are on different pieces.
        Neighbouring cells have equal maps behind dead units, for example, or where what a unit adds is cancelled.

        Raises GeometryError for a network that jumps.

        Algorithm: maps that meet in a facet differ along its normal alone, so slopes along one direction that is no facet's
        tell them apart. They part most neighbours for one forward pass a cell; for the others the difference itself is
        carried through the network, four passes a pair.
        """
        return self._linear_regions

    @cached_property
    def _linear_regions(self) -> LinearRegions:
        from ._kernels.faces import components
        from ._kernels.frames import FRAGILE_BELOW

        relative = _ROUNDING * self.tolerance.relative
        pairs = self._maybe_equal(self.adjacency, relative)
        first, second = (self.patterns[torch.from_numpy(np.ascontiguousarray(side))] for side in pairs.T)
        apart, terms = differences_along(self.network, self.domain, (first, second), self._along, relative)
        share = (apart.abs() / terms).nan_to_num(nan=0.0).amax(1).numpy()  # of the terms; 0 / 0 where nothing differs at all
        equal = share <= relative
        fragile = int(((share > _SURELY) & (share < FRAGILE_BELOW)).sum())
        return LinearRegions(*components(pairs[equal], len(self)), fragile)

    @property
    def _along(self) -> torch.Tensor:
        """A direction that is no symmetry's: maps that meet in a facet are one when their slopes along it are."""
        return torch.from_numpy(1.0 + np.modf(np.arange(1, self.dim + 1) * math.sqrt(2.0))[0]) * torch.from_numpy(
            self.mesh.axes
        )

    def _maybe_equal(self, pairs: Array, relative: float) -> Array:
        """Return the pairs whose maps may be equal, for all that their slopes along one direction say."""
        slopes = slopes_along(self.network, self.domain, self.patterns, self._along).numpy()
        most = 2.0 * most_errors(self.network, self.domain, relative)[0] @ self._along.numpy()  # the slopes are rounded too
        return pairs[_equal(pairs, (slopes,), (np.broadcast_to(most, slopes.shape),))]

    # -- points

    def locate(self, x: ArrayLike, *, coordinates: bool = False) -> Array:
        """Return the number of the cell that each input lies in, -1 for inputs that are not in the domain.

        `x` holds inputs (batch, *input_shape), or with `coordinates` points (batch, dim) in those of the domain; a single one
        is a batch of one. An input belongs to the domain when it is as near to its flat as float32 can tell. A point
        on a boundary goes to the cell of its own pattern where that has one, else to a cell whose closure holds it.

        Raises ShapeError for another shape, InputError for NaN or infinity.

        Algorithm: one forward pass and a search for the hashed pattern. Points on boundaries whose pattern no cell has are
        tried a little to several sides, at last against all cells: those agree in all units off their breakpoints.
        """
        u, apart = self._coordinates(x, coordinates)
        found = np.full(len(u), -1)
        within = np.flatnonzero(inside(self.domain, u, 4.0 * _ROUNDING * self.tolerance.relative) & ~apart)
        if len(within):
            found[within] = self._lookup(u[within])
        return found

    def _coordinates(self, x: ArrayLike, coordinates: bool) -> tuple[Array, Array]:
        """Return coordinates (batch, dim) of points, and which of them are not in the domain's flat."""
        given = finite(torch.as_tensor(array(x, "points")).detach().cpu().double(), "points")
        shape = (self.dim,) if coordinates else tuple(self.network.input_shape)
        if tuple(given.shape[-len(shape) :]) != shape or given.ndim not in (len(shape), len(shape) + 1):
            raise ShapeError(f"points: expected {shape} or (batch, {', '.join(map(str, shape))}); got {tuple(given.shape)}")
        given = given if given.ndim > len(shape) else given[None]
        if coordinates:
            return given.numpy(), np.zeros(len(given), bool)
        x = given.reshape(len(given), self.domain.num_inputs)
        u = self.domain.project(x)
        rest = (x - self.domain.embed(u)).abs().amax(1)
        return u.numpy(), (rest > 1e-6 * x.abs().amax(1)).numpy()

    @cached_property
    def _lookup(self) -> Lookup:
        return Lookup.of(self.network, self.domain, _ROUNDING * self.tolerance.relative, self.words, self.middles, self._sums)

    # -- the whole

    @cached_property
    def face_numbers(self) -> tuple[int, ...]:
        """How many faces of each dimension there are, from vertices to cells, those at infinity left out.

        Raises GeometryError for a network that jumps. Cost: grows with 3^dim a cell; some microseconds each in the plane.
        """
        from ._kernels.faces import face_numbers

        self._meeting("faces are counted")
        return tuple(int(n) for n in face_numbers(self.mesh, self._facets[0]))

    def euler_characteristic(self) -> int:
        """Return vertices - edges + polygons - ...: 1 for a bounded domain, which is convex.

        Faces at infinity do not count. An unbounded domain that has a ray without its opposite, as a half-space or an orthant,
        has 0; one that is a bounded set times k whole lines has (-1)^k: -1 for a strip, (-1)^dim for the whole space. A
        network that jumps has none (GeometryError).
        """
        return sum((-1) ** k * n for k, n in enumerate(self.face_numbers))

    def __repr__(self) -> str:
        return f"Complex({self.num_cells} cells, {self.num_vertices} vertices, {self.domain!r})"

    def summary(self) -> str:
        lines = [f"{self.num_regions:,} activation regions of {self.domain!r}"]
        if self.num_cells != self.num_regions:
            lines.append(f"  in {self.num_cells:,} cells, as the domain is held in {self.dim + 1} cones")
        lines.append(f"  {self.num_vertices:,} vertices, {len(self.mesh.vertex) / self.num_cells:.3g} a cell")
        if self.domain.is_bounded:
            v = self.volumes
            lines.append(f"  volumes from {v.min():.3g} to {v.max():.3g}, median {np.median(v):.3g}, {v.sum():.6g} together")
        if self.fragile:
            lines.append(f"  {self.fragile} decisions that rounding may have turned")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        return {
            "domain": self.domain.to_dict(),
            "num_cells": self.num_cells,
            "num_regions": self.num_regions,
            "num_vertices": self.num_vertices,
            "num_directions": len(self.directions),
            "volume": float(self.volumes.sum()),
            "fragile": self.fragile,
            "tolerance": self.tolerance.relative,
        }

    def save(self, path: str | PathLike[str]) -> None:
        """Write the complex to a .npz file: its arrays and its domain, and of the network a digest; `load_complex` reads it.

        A file that is there is replaced once the new one is complete. Raises FileError for a directory, OSError where the
        disk is full or may not be written to.
        """
        from ._subdivision.partitions import fingerprint

        head = {"format": _FORMAT, "network": fingerprint(self.network), "factor": self.tolerance.factor, "sides": self.sides}
        head |= {"fragile": self.fragile}
        arrays: dict[str, Any] = head | self.mesh._asdict() | {"words": self.words} | arrays_of(self.domain)
        with write_atomically(Path(path)) as part, part.open("wb") as file:
            np.savez(file, **arrays)

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Draw a complex of one or two dimensions and return the Axes; `polylens.plotting.complex` has the options.

        `colour` is one of: an output's number, "class" (the largest output), a unit as (layer, position), "density" (the
        logarithm of one over the volume), "active" (how many units are off their first piece) and "pattern".
        """
        axes: Axes = importlib.import_module("polylens.plotting.complex").draw(self, ax, **options)
        return axes


def subdivide(net: Network, domain: Domain | Polytope, *, tolerance: Tolerance | None = None, n_jobs: int = 1) -> Complex:
    """Return all cells of a domain as a complex: the sets on which the network has one activation pattern.

    Memory grows with the number of cells, about 200 bytes each in the plane and more with every dimension; to see cells
    without keeping them there is `iter_cells`, from which the cells and their conditions come.

    Args:
        net: a piecewise-linear network.
        domain: where to look; a `Polytope` is looked at in its own coordinates.
        tolerance: below which part of its terms a pre-activation counts as zero, and of the domain's size a distance of
            two vertices (64 times it).
        n_jobs: as for `iter_cells`; the numbers of the cells depend on it.

    Raises:
        SmoothError: the network is not piecewise linear.
        ShapeError: the domain is one of inputs of another size than the network's.
        InputError: not a domain.

    Example:
        >>> from polylens import Box, dense, subdivide
        >>> net = dense([([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], None), ([[1.0, 1.0, 1.0]], None)])
        >>> found = subdivide(net, Box([-1.0, -1.0], [1.0, 1.0]))  # three lines through one point
        >>> found.num_regions, found.euler_characteristic(), found.volumes.sum().item()
        (6, 1, 4.0)
    """
    place, tolerance = domain_of(domain), tolerance or CUTTING
    parts = list(iter_cells(net, place, tolerance=tolerance, n_jobs=n_jobs))
    return Complex.of(exact(net), place, parts, tolerance)


def load_complex(path: str | PathLike[str], net: Network) -> Complex:
    """Return the complex that `Complex.save` has written.

    Args:
        path: the file.
        net: the network whose complex it is, which the file does not hold.

    Raises:
        FileError: no such file, or one that `save` has not written.
        InputError: the complex is another network's.

    Example:
        >>> import tempfile
        >>> from polylens import Segment, dense, load_complex, subdivide
        >>> net = dense([([[1.0], [-1.0]], None), ([[1.0, 1.0]], None)])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     subdivide(net, Segment([-1.0], [1.0])).save(f"{folder}/line.npz")
        ...     load_complex(f"{folder}/line.npz", net).num_regions
        2
    """
    from ._kernels.faces import Mesh
    from ._subdivision.partitions import fingerprint

    net, source = exact(net), str(path)
    try:
        with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        if str(arrays["format"]) not in (_FORMAT, _OLDER):
            raise KeyError("format")
        mesh = Mesh(**{name: arrays[name] for name in Mesh._fields})._replace(finite=int(arrays["finite"]))
        if str(arrays["format"]) == _OLDER:
            mesh = mesh._replace(reach=mesh.reach / mesh.axes.max())
        domain, words, written = domain_from(arrays, source), arrays["words"], str(arrays["network"])
        sides, tolerance = int(arrays["sides"]), Tolerance(float(arrays["factor"]))
        fragile = int(arrays["fragile"]) if "fragile" in arrays else 0
    except UNREADABLE as error:
        if isinstance(error, FileError):
            raise
        raise FileError(f"{source}: expected a complex written by Complex.save ({_FORMAT}); {error}") from None
    if written != fingerprint(net):
        raise InputError(f"{source}: expected the network that this complex was made of; got another one, {net!r}")
    return Complex(net, domain, tolerance, mesh, words, sides, fragile)


def _integer(value: Any, what: str, wanted: str) -> int:
    """Return a number of something, of Python's, numpy's or torch's integers."""
    try:
        return operator.index(value)
    except TypeError:
        raise InputError(f"{what}: expected an integer, {wanted}; got {value!r}") from None


def _used(part: Cells) -> Cells:
    """Return a part without the vertices that none of its cells has."""
    used = np.zeros(len(part.points), bool)
    used[part.vertex] = True
    place = np.cumsum(used) - 1
    return Cells(
        part.points[used], part.weight[used], part.start, place[part.vertex], part.facets, part.words, part.sides, part.layers
    )


def _equal(pairs: Array, values: Sequence[Array], errors: Sequence[Array]) -> Array:
    """Say for which pairs of rows all values differ by no more than both errors."""
    equal = np.ones(len(pairs), bool)
    for value, error in zip(values, errors, strict=True):
        for k in range(0, len(pairs), 1 << 16):
            i, j = pairs[k : k + (1 << 16)].T
            near = np.abs(value[i] - value[j]) <= error[i] + error[j]
            equal[k : k + (1 << 16)] &= near.reshape(len(i), -1).all(1)
    return equal
