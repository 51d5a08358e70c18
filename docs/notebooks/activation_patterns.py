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
# # What do patterns say of images?
#
# Swiniarski, Bruna and Cho describe an image by the units that it switches on, and ask what can be read off that alone. This
# page puts their questions to small networks on handwritten digits. It was run while this site was built; the study on the
# networks of the paper, with its numbers beside ours, is `studies/activation_patterns.py`.

# %%
# %matplotlib inline
from itertools import pairwise

import torch
from torch import nn

import polylens
from polylens import (
    Recorder,
    binary_approximation,
    constellations,
    first_layer_model,
    hamming,
    independence_test,
    neighbour_accuracy,
    pattern_neighbours,
    patterns,
    second_layer_law,
    zoo,
)
from polylens.plotting.patterns import distance_figure, frequency_row

train, test = zoo.digits_data("train"), zoo.digits_data("test")
mean, deviation = train.inputs.mean(), train.inputs.std()
x, y = (test.inputs - mean) / deviation, test.labels


# %% [markdown]
# ## Which units fire?
#
# Ten layers of 256 units as PyTorch initialises them, weights and biases uniform in ±1/√n. From left to right: how often the
# units of each layer are active, never at the bottom, always at the top.


# %%
def network(depth: int, width: int = 256) -> nn.Sequential:
    sizes = [64, *[width] * depth]
    hidden = [part for a, b in pairwise(sizes) for part in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*hidden, nn.Linear(width, 10))


torch.manual_seed(0)
untrained = polylens.load(network(10))
seen = patterns(untrained, x)
frequency_row(seen.frequencies())

# %% [markdown]
# In the first layers units are on for some images and off for others. From the fifth on nearly every unit is on for all
# images or for none, and a network in which nothing switches is one affine map. The reason is the size of the signal. Theory
# has each of these layers leave a sixth of its second moment, which is the column *gain*; the variance over the images falls
# faster still, and what remains is biases:

# %%
print(polylens.propagation(untrained, x).summary())

# %% [markdown]
# ## How far apart are two images?
#
# By the units that differ. For the trained network of two layers, pairs of one digit and pairs of two:

# %%
net = zoo.digits()
p = patterns(net, test.inputs)
apart = hamming(p, labels=y)
print(apart.summary())

# %%
distance_figure(apart)

# %% [markdown]
# Pairs of one digit are nearer. The dashed half of the units would be the mean of fair coins; a mean below it says that units
# are not balanced, and nothing about whether they depend on one another. A test of that:

# %%
for layer in ("relu1", "relu2"):
    print(independence_test(p.layer(layer), permutations=99).summary())

# %% [markdown]
# The first lines of each permute every unit on its own, which keeps how often it is on; what the paper tested, the mean
# distance against fair coins, comes below. An untrained first layer fails both as well, if by less: its units read the same
# pixels.

# %%
first = independence_test(seen.layer(0), permutations=99)
print(f"T = {first.statistic:.2f}, p = {first.p_value:.2g}; fair bits: p = {first.fair_bits.p_value:.2g}")

# %% [markdown]
# ## Do images form constellations?
#
# Images that are near one another and far from all others: a constellation at threshold t has a diameter of at most t and a
# greater distance to everything else. Clusters of single linkage are counted as t grows, beside patterns of independent units
# that are on as often as these:

# %%
c = constellations(p, labels=y)
print(c.summary())

# %%
_ = c.plot()
# %% [markdown]
# The curve lies far below that of independent units, and falls without a long flat stretch: digits lie close together, but
# single linkage finds no ten groups. Average linkage does better:

# %%
average = constellations(p, labels=y, linkage="average", null=())
best = int(average.agreement().adjusted_rand.argmax())
print(average.contents(best).summary())

# %% [markdown]
# ## Which images are alike to the network?

# %%
queries = [int((y == digit).nonzero()[0]) for digit in (0, 3, 5, 8)]
_ = pattern_neighbours(p, queries, 9, images=test.inputs, labels=y).plot()
# %% [markdown]
# Wrong neighbours are orange. Are patterns enough to tell digits apart? Ten neighbours vote, by patterns and by values:

# %%
print(neighbour_accuracy(net, test.inputs, y).summary())

# %% [markdown]
# A layer of 32 units has 32 bits, some of which never change; its values say more.
#
# ## What changes while a network learns?
#
# A `Recorder` watches a module from within any training loop, on inputs that stay the same:

# %%
torch.manual_seed(0)
module = network(3, 64)
recorder = Recorder(x, pairs=5000)
optimiser = torch.optim.Adam(module.parameters(), lr=3e-3)
images = (train.inputs - mean) / deviation
recorder.record(module, 0)
for epoch in range(1, 11):
    for part in torch.randperm(len(images)).split(64):
        loss = nn.functional.cross_entropy(module(images[part]), train.labels[part])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        right = (module(x).argmax(1) == y).double().mean()
    recorder.record(module, epoch, accuracy=float(right))
recording = recorder.recording
print(f"right on {recording.scalars('accuracy')[-1]:.1%} of the test images")

# %%
_ = recording.plot(of="saturation")
# %%
_ = recording.plot(of="distances")
# %% [markdown]
# ## What does a layer of random weights do?
#
# For inputs from N(0, I), a unit's value is 0 half of the time and one side of a normal otherwise. The paper's layer has
# weights in ±1/√n, so that the normal has a deviation of 1/√3 = 0.577, and a little more for the bias:

# %%
torch.manual_seed(0)
wide = polylens.load(nn.Sequential(nn.Linear(1024, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10)))
normal = torch.randn(4000, 1024)
model = first_layer_model(wide, normal)
print(model.summary())

# %%
_ = model.plot()
# %% [markdown]
# If a layer is replaced by its pattern, zeros and ones instead of values, how many signs of the next layer stay? In wide
# random layers 79.4 %, which is 1 - arccos(√(2/π))/π:

# %%
print(binary_approximation(wide, normal).summary())
print(binary_approximation(net, test.inputs).summary())

# %% [markdown]
# And how often does a unit fire that reads random bits? The paper's law, equal shares for all numbers of patterns and half of
# that at both ends, is that of vanishing biases; with the paper's own it fails:

# %%
for bias in (1e-9, 1.0):
    print(second_layer_law(2, bias=bias).summary())
