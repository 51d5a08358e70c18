"""polylens: trained neural networks through their polytopes."""

from .affine import AffineMap
from .boundary import Crossings, NearestBoundary, first_boundary, nearest_boundary
from .cells import Cells
from .complex import Complex, load_complex, subdivide
from .compose import compose
from .convert import load
from .convert.arrays import dense
from .convert.original import original
from .domain import Box, Plane, Polygon, Segment, Slice, WholeSpace
from .errors import PolylensError
from .explore import Exploration, explore
from .facets import Facets, facets, reduced
from .linearise import affine_map, affine_maps, linearise
from .network import Network, Node, patterns
from .pattern import Frequencies, Patterns, UnitLayer
from .polytope import Polytope
from .region import Region, neighbour, region
from .store import Store, open_store
from .subdivision import RegionCount, count_regions, iter_cells, max_regions
from .vnnlib import Property, parse_vnnlib, read_vnnlib

__version__ = "0.1.0"

__all__ = [
    "AffineMap",
    "Box",
    "Cells",
    "Complex",
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
    "Property",
    "Region",
    "RegionCount",
    "Segment",
    "Slice",
    "Store",
    "UnitLayer",
    "WholeSpace",
    "affine_map",
    "affine_maps",
    "compose",
    "count_regions",
    "dense",
    "explore",
    "facets",
    "first_boundary",
    "iter_cells",
    "linearise",
    "load",
    "load_complex",
    "max_regions",
    "nearest_boundary",
    "neighbour",
    "open_store",
    "original",
    "parse_vnnlib",
    "patterns",
    "read_vnnlib",
    "reduced",
    "region",
    "subdivide",
]
