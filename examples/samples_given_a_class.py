"""Draw exact samples of p(input | class) on the preimage of the class: python examples/samples_given_a_class.py OUT.png"""

import sys

from polylens import Argmax, Gaussian, OutputSet, Plane, Softmax, preimage, zoo
from polylens.plotting import new_figure, saved, style

net = zoo.digits()
data = zoo.digits_data("test")
assert data.labels is not None
eight, three, one = (data.inputs[int((data.labels == digit).nonzero()[0])].double() for digit in (8, 3, 1))
plane = Plane(eight, 0.7 * (three - eight), 0.7 * (one - eight))  # a plane in the 64 dimensions of the input

read_as_eight = preimage(net, Argmax(8), plane)
everything = preimage(net, OutputSet.everything(10), plane)
drawn = [
    ("uniform", read_as_eight.sample(1000)),
    ("normal around the image", read_as_eight.sample(1000, Gaussian(mean=eight, std=0.3))),
    ("uniform, softmax as likelihood", everything.sample(1000, likelihood=Softmax(8))),
]
assert bool(read_as_eight.contains(drawn[0][1]).all())

with style():
    figure = new_figure(14.4, 3.6)
    for ax, (title, x) in zip(figure.subplots(1, 3), drawn, strict=True):
        read_as_eight.plot(ax, points=x)
        ax.plot(*plane.project(eight).tolist(), "o", color="white", markeredgecolor="black", zorder=6)
        ax.set_title(title)
saved(figure, lambda drawn: drawn.savefig(sys.argv[1], dpi=110))
