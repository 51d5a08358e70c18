"""Draw every linear region in the plane through three images of digits: python examples/plane_of_three_digits.py OUT.png"""

import sys

from polylens import Plane, subdivide, zoo
from polylens.plotting import new_figure, saved, style

net = zoo.digits()
data = zoo.digits_data("test")
assert data.labels is not None
three = data.inputs[[int((data.labels == digit).nonzero()[0]) for digit in (0, 1, 2)]]

plane = Plane.through(three[0], three[1], three[2])
regions = subdivide(net, plane)
assert abs(regions.volumes.sum() - plane.volume) < 1e-9 * plane.volume  # none is missing

with style():
    figure = new_figure(12.4, 4.8)
    left, right = figure.subplots(1, 2)
    regions.plot(left)
    regions.plot(right, colour="active", boundary=False)
    for digit, (x, y) in enumerate(plane.project(three).tolist()):
        left.plot(x, y, "o", color="white", markeredgecolor="black")
        left.annotate(f"{digit}", (x, y), (6, 6), textcoords="offset points", weight="bold")
    left.set_title(f"{regions.num_regions:,} regions, by the digit that they are read as")
    right.set_title("by how many units are active")
saved(figure, lambda drawn: drawn.savefig(sys.argv[1], dpi=110))
