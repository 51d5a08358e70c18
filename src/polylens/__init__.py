"""polylens: trained neural networks through their polytopes."""

from .affine import AffineMap
from .boundary import Crossings, NearestBoundary, first_boundary, nearest_boundary
from .convert import load
from .convert.arrays import dense
from .errors import PolylensError
from .linearise import affine_map, affine_maps, linearise
from .network import Network, Node, patterns
from .pattern import Frequencies, Patterns, UnitLayer

__version__ = "0.1.0"

__all__ = [
    "AffineMap",
    "Crossings",
    "Frequencies",
    "NearestBoundary",
    "Network",
    "Node",
    "Patterns",
    "PolylensError",
    "UnitLayer",
    "affine_map",
    "affine_maps",
    "dense",
    "first_boundary",
    "linearise",
    "load",
    "nearest_boundary",
    "patterns",
]
