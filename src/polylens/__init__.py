"""polylens: trained neural networks through their polytopes."""

from ._preimage.gathered import Tie
from .activate import Activation, activate
from .affine import AffineMap
from .ball import Ball
from .binary_approximation import BinaryApproximation, SignAgreement, binary_approximation
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
from .first_layer_model import FirstLayerModel, first_layer_model
from .frequencies import frequencies
from .gaussian_layer import GaussianLayer, gaussian_layer
from .hamming import Distances, Hamming, hamming
from .independence import FairBits, Independence, independence_test
from .initialise import Initialisation, LayerStart, initialise
from .injectivity import Injectivity, is_injective, is_layer_injective
from .invert import Inversion, invert
from .invertibility import Invertibility, LayerKinds, invertibility
from .largest_bias import LargestBias, largest_bias
from .layer_preimage import LayerPreimage, layer_preimage
from .layer_usefulness import LayerUsefulness, layer_usefulness
from .linearise import affine_map, affine_maps, linearise
from .merging import ConvexPart, Merged, merge
from .nearby import NearbyPiece, NearbyPreimage, NearbyRegion, preimage_near
from .network import InputSlice, Network, Node, patterns
from .nullspace import Forgotten, NullSpace, forgotten_by_layer, null_space
from .omnidirectional import Omnidirectional, UniqueSolution, is_omnidirectional, unique_solution
from .pattern import Frequencies, Patterns, UnitLayer
from .pattern_neighbours import NeighbourAccuracy, PatternNeighbours, neighbour_accuracy, pattern_neighbours
from .polytope import Polytope
from .preimage import Piece, Preimage, load_preimage, preimage
from .prior import Gaussian, GaussianNoise, Likelihood, Softmax
from .propagation import LayerSignal, Propagation, propagation
from .reconstruct import Reconstruction, reconstruct
from .recorder import Recorder, Recording, Snapshot, read_recording
from .region import Region, neighbour, region
from .row_removal import RowRemoval, WeakRow, row_removal
from .second_layer_law import SecondLayerLaw, second_layer_law
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
    "Activation",
    "AffineMap",
    "Argmax",
    "Ball",
    "BinaryApproximation",
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
    "FirstLayerModel",
    "Forgotten",
    "Frequencies",
    "Gaussian",
    "GaussianLayer",
    "GaussianNoise",
    "Hamming",
    "Independence",
    "Initialisation",
    "Injectivity",
    "InputSlice",
    "Inversion",
    "Invertibility",
    "LargestBias",
    "LayerKinds",
    "LayerPreimage",
    "LayerSignal",
    "LayerSpectrum",
    "LayerStart",
    "LayerUsefulness",
    "Likelihood",
    "Merged",
    "NearbyPiece",
    "NearbyPreimage",
    "NearbyRegion",
    "NearestBoundary",
    "NeighbourAccuracy",
    "Network",
    "Node",
    "NullSpace",
    "Omnidirectional",
    "OutputSet",
    "PatternNeighbours",
    "Patterns",
    "Piece",
    "Plane",
    "Polygon",
    "PolylensError",
    "Polytope",
    "Preimage",
    "Propagation",
    "Property",
    "Ranking",
    "Reconstruction",
    "Recorder",
    "Recording",
    "Region",
    "RegionCount",
    "RowRemoval",
    "SecondLayerLaw",
    "SecondOrder",
    "Segment",
    "Sensitivity",
    "SignAgreement",
    "Slice",
    "Snapshot",
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
    "activate",
    "affine_map",
    "affine_maps",
    "binary_approximation",
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
    "first_layer_model",
    "forgotten_by_layer",
    "frequencies",
    "gaussian_layer",
    "hamming",
    "independence_test",
    "initialise",
    "invert",
    "invertibility",
    "is_injective",
    "is_layer_injective",
    "is_omnidirectional",
    "iter_cells",
    "largest_bias",
    "layer_preimage",
    "layer_usefulness",
    "linearise",
    "load",
    "load_complex",
    "load_preimage",
    "max_regions",
    "merge",
    "nearest_boundary",
    "neighbour",
    "neighbour_accuracy",
    "null_space",
    "open_store",
    "original",
    "parse_vnnlib",
    "pattern_neighbours",
    "patterns",
    "preimage",
    "preimage_near",
    "propagation",
    "read_recording",
    "read_vnnlib",
    "reconstruct",
    "reduced",
    "region",
    "row_removal",
    "second_layer_law",
    "second_order",
    "sensitivity",
    "spectrum",
    "subdivide",
    "unique_solution",
    "verify",
    "zeros",
]
