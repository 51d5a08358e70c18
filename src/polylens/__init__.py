"""polylens: trained neural networks through their polytopes."""

from ._gathered import Tie
from .affine import AffineMap
from .ball import Ball
from .boundary import Crossings, NearestBoundary, first_boundary, nearest_boundary
from .cells import Cells
from .complex import Complex, load_complex, subdivide
from .compose import compose
from .constancy import Constancy, ConstantPolytope, constant_along, constant_polytope
from .constellations import Constellations, Contents, constellations
from .convert import load
from .convert.arrays import dense
from .convert.original import original
from .domain import Box, Plane, Polygon, Segment, Slice, WholeSpace
from .errors import PolylensError
from .explore import Exploration, explore
from .facets import Facets, facets, reduced
from .fibre import FibreWalk, fibre_walk
from .frequencies import frequencies
from .hamming import Distances, Hamming, hamming
from .independence import FairBits, Independence, independence_test
from .injectivity import Injectivity, is_injective, is_layer_injective
from .invertibility import Invertibility, LayerKinds, invertibility
from .largest_bias import LargestBias, largest_bias
from .layer_preimage import LayerPreimage, layer_preimage
from .linearise import affine_map, affine_maps, linearise
from .merging import ConvexPart, Merged, merge
from .nearby import NearbyPiece, NearbyPreimage, NearbyRegion, preimage_near
from .network import Network, Node, patterns
from .nullspace import Forgotten, NullSpace, forgotten_by_layer, null_space
from .omnidirectional import Omnidirectional, UniqueSolution, is_omnidirectional, unique_solution
from .pattern import Frequencies, Patterns, UnitLayer
from .polytope import Polytope
from .preimage import Piece, Preimage, preimage
from .prior import Gaussian, GaussianNoise, Likelihood, Softmax
from .region import Region, neighbour, region
from .row_removal import RowRemoval, WeakRow, row_removal
from .second_order import SecondOrder, second_order
from .sensitivity import Ranking, Sensitivity, sensitivity
from .spectrum import LayerSpectrum, Spectrum, spectrum
from .store import Store, open_store
from .subdivision import RegionCount, count_regions, iter_cells, max_regions
from .target import Argmax, OutputSet
from .verify import Verdict, verify
from .vnnlib import Property, parse_vnnlib, read_vnnlib
from .zeros import Zeros, zeros

__version__ = "0.1.0"

__all__ = [
    "AffineMap",
    "Argmax",
    "Ball",
    "Box",
    "Cells",
    "Complex",
    "Constancy",
    "ConstantPolytope",
    "Constellations",
    "Contents",
    "ConvexPart",
    "Crossings",
    "Distances",
    "Exploration",
    "Facets",
    "FairBits",
    "FibreWalk",
    "Forgotten",
    "Frequencies",
    "Gaussian",
    "GaussianNoise",
    "Hamming",
    "Independence",
    "Injectivity",
    "Invertibility",
    "LargestBias",
    "LayerKinds",
    "LayerPreimage",
    "LayerSpectrum",
    "Likelihood",
    "Merged",
    "NearbyPiece",
    "NearbyPreimage",
    "NearbyRegion",
    "NearestBoundary",
    "Network",
    "Node",
    "NullSpace",
    "Omnidirectional",
    "OutputSet",
    "Patterns",
    "Piece",
    "Plane",
    "Polygon",
    "PolylensError",
    "Polytope",
    "Preimage",
    "Property",
    "Ranking",
    "Region",
    "RegionCount",
    "RowRemoval",
    "SecondOrder",
    "Segment",
    "Sensitivity",
    "Slice",
    "Softmax",
    "Spectrum",
    "Store",
    "Tie",
    "UniqueSolution",
    "UnitLayer",
    "Verdict",
    "WeakRow",
    "WholeSpace",
    "Zeros",
    "affine_map",
    "affine_maps",
    "compose",
    "constant_along",
    "constant_polytope",
    "constellations",
    "count_regions",
    "dense",
    "explore",
    "facets",
    "fibre_walk",
    "first_boundary",
    "forgotten_by_layer",
    "frequencies",
    "hamming",
    "independence_test",
    "invertibility",
    "is_injective",
    "is_layer_injective",
    "is_omnidirectional",
    "iter_cells",
    "largest_bias",
    "layer_preimage",
    "linearise",
    "load",
    "load_complex",
    "max_regions",
    "merge",
    "nearest_boundary",
    "neighbour",
    "null_space",
    "open_store",
    "original",
    "parse_vnnlib",
    "patterns",
    "preimage",
    "preimage_near",
    "read_vnnlib",
    "reduced",
    "region",
    "row_removal",
    "second_order",
    "sensitivity",
    "spectrum",
    "subdivide",
    "unique_solution",
    "verify",
    "zeros",
]
