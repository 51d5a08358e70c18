"""Put digits beside those that switch on nearly the same units: python examples/nearest_patterns.py OUT.png"""

import sys

from polylens import pattern_neighbours, patterns, zoo
from polylens.plotting import new_figure, saved, style

net = zoo.digits()
data = zoo.digits_data("test")
assert data.labels is not None
queries = [int((data.labels == digit).nonzero()[0]) for digit in (0, 2, 3, 5, 7, 9)]

found = pattern_neighbours(patterns(net, data.inputs), queries, 9, images=data.inputs, labels=data.labels)
assert bool((found.distance.diff(dim=1) >= 0).all())

with style():
    figure = new_figure(9.8, 7.2)
    found.plot(figure.subplots())
saved(figure, lambda drawn: drawn.savefig(sys.argv[1], dpi=110))
