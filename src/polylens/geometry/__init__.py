"""Questions to a polytope {x : A x <= b} that need a solver: emptiness, size, dimension, vertices, volume, samples.

Empty, flat, unbounded and single-point polytopes and rows of zeros are normal input. Answers carry certificates, which
are verified before they are returned.
"""

from .boundedness import Boundedness, is_bounded
from .center import analytic_center
from .flats import AffineHull, affine_hull, dimension, lineality
from .programs import Ball, Bounds, Emptiness, Support, bounding_box, chebyshev_ball, is_empty, support, width
from .sampling import Samples, sample
from .volume import Volume, extreme_rays, vertices, volume

__all__ = [
    "AffineHull",
    "Ball",
    "Boundedness",
    "Bounds",
    "Emptiness",
    "Samples",
    "Support",
    "Volume",
    "affine_hull",
    "analytic_center",
    "bounding_box",
    "chebyshev_ball",
    "dimension",
    "extreme_rays",
    "is_bounded",
    "is_empty",
    "lineality",
    "sample",
    "support",
    "vertices",
    "volume",
    "width",
]
