# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # The way back through a ReLU network
#
# A classifier turns an image into ten numbers, and much of the image is gone by then. Two questions can be asked of the way
# back. Where is information lost, and how much of it? And where nothing is lost: how much does the way back magnify an error?
# Both have exact answers, layer by layer. This page was run while the site was built.
#
# ## A network that widens first
#
# The digits have 64 pixels. A first layer of 72 units leaves some of them more positive outputs than pixels, and some fewer.

# %%
# %matplotlib inline
import torch
from matplotlib import pyplot as plt
from torch import nn

from polylens import invertibility, layer_preimage, load, spectrum, zoo
from polylens.plotting import style

torch.manual_seed(0)
data, test = zoo.digits_data("train"), zoo.digits_data("test")
model = nn.Sequential(nn.Linear(64, 72), nn.ReLU(), nn.Linear(72, 64), nn.ReLU(), nn.Linear(64, 10))
optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
images, labels = data.inputs.flatten(1).float(), data.labels
for _ in range(200):
    part = torch.randint(len(images), (128,))
    optimiser.zero_grad()
    nn.functional.cross_entropy(model(images[part]), labels[part]).backward()
    optimiser.step()
net = load(model.eval())
x = test.inputs.flatten(1)[:200]
float((net(x).argmax(1) == test.labels[:200]).double().mean())

# %% [markdown]
# ## Where information is lost
#
# A positive output says what its row of the weights sees of the input; an output of 0 only says on which side of a hyperplane
# the input lies. So the inputs that a layer cannot tell from x form a polyhedron: the point x alone, a bounded set, or one
# that goes on for ever. Of 200 test images, by how many outputs are positive:

# %%
found = invertibility(net, x)
with style():
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.6))
    found.plot(left, layer=0)
    found.plot(right, layer=1)
    figure.tight_layout()

# %% [markdown]
# At the dashed line there are as many positive outputs as inputs. Right of it the first layer forgets nothing, as long as
# the rows do not depend on one another. Left of it something is free, and only the inequalities can close it. The second
# layer has fewer units than inputs; on the whole space all its preimages would be infinite. Among what a ReLU can hand to
# it, which is at least 0, they are bounded.
#
# ## Two images, one output
#
# Here is the image with the fewest positive outputs whose preimage is bounded, and two others of it, as far apart as a
# search finds: all three have the same 72 outputs of the first layer.

# %%
layer = model[0]
index = int(torch.where(found[0].kind == 1, found[0].positive, 64).argmin())  # 1: bounded
one = layer_preimage(layer.weight, layer.bias, x[index])
with style():
    figure, panels = plt.subplots(1, 3, figsize=(8, 2.9))
    for panel, picture, title in zip(panels, (one.point, *one.pair), ("the image", "one end", "the other"), strict=True):
        panel.imshow(picture.reshape(8, 8), cmap="gray")
        panel.set(title=title, xticks=[], yticks=[])
print(one.summary())
outputs = torch.relu(torch.stack([one.point, *one.pair]) @ layer.weight.double().T + layer.bias.double())
float((outputs - outputs[0]).abs().max().detach())

# %% [markdown]
# Neither need be an image of a digit, nor stay between black and white. That is what the layer allows: what we know of
# images is not in it, and has to be brought by whoever inverts.
#
# ## How stable the way back is
#
# On the polyhedron around an image the network is affine. Its smallest singular value that is not 0 says how much an error
# of the output can grow on the way back; its largest one, how much a change of the input can on the way there. A gate removes
# rows of the map, so no singular value becomes larger by it: the k-th largest after it is at most the k-th largest before.

# %%
spectra = spectrum(net, x[:5])
spectra.plot()

# %% [markdown]
# From layer to layer the span between the largest and the smallest value widens, and values are missing at the end: these
# directions are gone. What can be asked, and what the answers rest on, is in
# [Ask whether a layer can be undone](../howto/invertibility.md); the first figure for 3 500 units on MNIST is made by
# `studies/preimages.py`.
