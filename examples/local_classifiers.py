"""Draw the linear classifiers that the digits network is at six images: python examples/local_classifiers.py OUT.png"""

import sys

from polylens import affine_map, zoo
from polylens.plotting import Panel, gallery, saved

net = zoo.digits()
data = zoo.digits_data("test")
assert data.labels is not None
x = data.inputs[[int((data.labels == digit).nonzero()[0]) for digit in (0, 2, 3, 4, 6, 8)]]

best, second = net(x).topk(2).indices.T.tolist()
rows = affine_map(net, x).images().unflatten(-1, (8, 8))  # rows[i, c]: the weights of class c on the region of x[i]
pictures = x.unflatten(-1, (8, 8))

images = [Panel(f"read as {b}", picture, signed=False) for b, picture in zip(best, pictures, strict=True)]
classifiers = [Panel(f"weights of {b}", rows[i, b], signed=True) for i, b in enumerate(best)]
margins = [
    Panel(f"{b} against {s}", rows[i, b] - rows[i, s], signed=True) for i, (b, s) in enumerate(zip(best, second, strict=True))
]
figure = gallery(
    [("image", images), ("the network\nhere, for its\nclass", classifiers), ("the two best\nclasses", margins)],
)
saved(figure, lambda drawn: drawn.savefig(sys.argv[1], dpi=110))
