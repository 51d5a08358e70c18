"""Draw what ReLUs do to the singular values of a digits network at 100 images: python examples/effect_of_relu.py OUT.png"""

import sys

from polylens import spectrum, zoo
from polylens.plotting import new_figure, saved, style

found = spectrum(zoo.digits(), zoo.digits_data("test").inputs[:100])
for layer in found.layers:  # as many directions come through as units are on, at the most
    assert bool((layer.rank <= layer.rows).all())

with style():
    figure = new_figure(9.6, 4.4)
    found.plot(figure.subplots(), side=None)
saved(figure, lambda drawn: drawn.savefig(sys.argv[1], dpi=110))
