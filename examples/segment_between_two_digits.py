"""Draw the outputs along the way from one digit to another, exactly: python examples/segment_between_two_digits.py OUT.png"""

import sys

from polylens import Segment, subdivide, zoo
from polylens.plotting import new_figure, saved, style

net = zoo.digits()
data = zoo.digits_data("test")
assert data.labels is not None
three, eight = (data.inputs[int((data.labels == digit).nonzero()[0])] for digit in (3, 8))

way = subdivide(net, Segment(three, eight))  # between two of its vertices every output is a straight line

with style():
    figure = new_figure(9.0, 4.0)
    ax = way.plot(figure.subplots())
    ax.set(xlabel=f"from a 3 (0) to an 8 (1); the {way.num_vertices - 2} ticks are all breakpoints there are", title="")
saved(figure, lambda drawn: drawn.savefig(sys.argv[1], dpi=110))
