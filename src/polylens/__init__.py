"""polylens: trained neural networks through their polytopes."""

from .affine import AffineMap
from .boundary import Crossings, NearestBoundary, first_boundary, nearest_boundary
from .cells import Cells
from .convert import load
from .convert.arrays import dense
from .domain import Box, Plane, Polygon, Segment, Slice, WholeSpace
from .errors import PolylensError
from .explore import Exploration, explore
from .facets import Facets, facets, reduced
from .linearise import affine_map, affine_maps, linearise
from .network import Network, Node, patterns
from .pattern import Frequencies, Patterns, UnitLayer
from .polytope import Polytope
from .region import Region, neighbour, region
from .subdivision import iter_cells

__version__ = "0.1.0"

__all__ = [
    "AffineMap",
    "Box",
    "Cells",
    "Crossings",
    "Exploration",
    "Facets",
    "Frequencies",
    "NearestBoundary",
    "Network",
    "Node",
    "Patterns",
    "Plane",
    "Polygon",
    "PolylensError",
    "Polytope",
    "Region",
    "Segment",
    "Slice",
    "UnitLayer",
    "WholeSpace",
    "affine_map",
    "affine_maps",
    "dense",
    "explore",
    "facets",
    "first_boundary",
    "iter_cells",
    "linearise",
    "load",
    "nearest_boundary",
    "neighbour",
    "patterns",
    "reduced",
    "region",
]
