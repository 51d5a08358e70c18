"""Walk from an 8 towards a 3 without a change of any output: python examples/two_images_one_output.py OUT.png"""

import sys

from polylens import fibre_walk, zoo
from polylens.plotting import saved
from polylens.plotting.fibre import walk_figure

net = zoo.digits()
data = zoo.digits_data("test")
assert data.labels is not None
three, eight = (data.inputs[int((data.labels == digit).nonzero()[0])] for digit in (3, 8))

walk = fibre_walk(net, eight, towards=three, domain=(0.0, 1.0))  # every image on the way has pixels from 0 to 1
assert float(walk.drift.max()) < 1e-9

saved(walk_figure(walk), lambda drawn: drawn.savefig(sys.argv[1], dpi=110))
