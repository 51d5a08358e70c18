"""Count clusters of patterns against the threshold, and say what they hold: python examples/constellations.py OUT.png"""

import sys

from polylens import constellations, patterns, zoo
from polylens.plotting import new_figure, saved, style

net = zoo.digits()
data = zoo.digits_data("test")

single = constellations(patterns(net, data.inputs), labels=data.labels, null=("marginals",), draws=5)
average = constellations(patterns(net, data.inputs), labels=data.labels, linkage="average", null=())
score = average.agreement().adjusted_rand
best = int(score.argmax())  # the threshold at which clusters and classes agree best
assert single.score < float(single.nulls[0].scores.min())  # nearer to one another than independent units would be
assert float(score[best]) > float(single.agreement().adjusted_rand.max())

with style():
    figure = new_figure(13, 4.4)
    left, right = figure.subplots(1, 2)
    single.plot(left, plateaus=0)
    average.contents(best).plot(right, most=12)
saved(figure, lambda drawn: drawn.savefig(sys.argv[1], dpi=110))
