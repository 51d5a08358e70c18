"""Draw what a digits network sees of six images, and what it forgets: python examples/what_is_forgotten.py OUT.png"""

import sys

from polylens import null_space, zoo
from polylens.plotting import saved
from polylens.plotting.nullspace import null_space_figure

net = zoo.digits()
data = zoo.digits_data("test")
assert data.labels is not None
x = data.inputs[[int((data.labels == digit).nonzero()[0]) for digit in (0, 2, 3, 4, 6, 8)]]

spaces = null_space(net, x)
assert bool((spaces.nullity >= 54).all())  # ten outputs cannot see more than ten of 64 directions

saved(null_space_figure(spaces, directions=2), lambda drawn: drawn.savefig(sys.argv[1], dpi=110))
