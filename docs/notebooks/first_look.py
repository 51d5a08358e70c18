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
# # A first look at a network
#
# This notebook looks at one small network from beginning to end: 64 pixels in, 64 and 32 ReLUs, 10 classes out, trained
# on handwritten digits. It was run while this site was built. Put your own network in place of `zoo.digits()`.

# %%
# %matplotlib inline
import torch

import polylens
from polylens import zoo
from polylens.plotting import Panel, gallery

net = zoo.digits()
test = zoo.digits_data("test")
net

# %% [markdown]
# A network is a program. Each line is a step, what comes out of it, and what it reads.

# %%
correct = (net(test.inputs).argmax(1) == test.labels).double().mean()
print(f"right on {correct:.1%} of {len(test)} images")

# %% [markdown]
# ## Which units fire
#
# The *activation pattern* of an input says, of every unit, whether it is on. Patterns of the whole test set, packed to one
# bit a unit:

# %%
p = polylens.patterns(net, test.inputs)
p

# %%
_ = p.plot()
# %% [markdown]
# Every row is an image and every column a unit. How often is each unit on? Units that are never on are dead weight; units
# that are always on are linear and could be multiplied into the next layer.

# %%
frequencies = p.frequencies()
frequencies

# %%
_ = frequencies.plot(layer="relu1")
# %% [markdown]
# Nearly every image has a pattern of its own, that is, it lies in a region of its own. Images of the same digit have
# patterns that differ in fewer units:

# %%
print(f"{len(p.unique().patterns)} different patterns of {len(p)} images")

distances = p.distances()
same = test.labels[:, None] == test.labels[None]
apart = ~torch.eye(len(p), dtype=torch.bool)
print(f"units that differ, same digit:      {distances[same & apart].double().mean():.1f} on average")
print(f"units that differ, different digit: {distances[~same].double().mean():.1f} on average")

# %% [markdown]
# ## What the network is, here
#
# With the pattern known nothing nonlinear is left. Around this image of a 4 the network is a matrix of 10 x 64 numbers
# and a vector of 10, exactly:

# %%
i = int((test.labels == 4).nonzero()[0])
x = test.inputs[i]
local = polylens.affine_map(net, x)
print(local)
print("A x + b and f(x) differ by at most", float((local(x) - net(x)).abs().max().detach()))

# %% [markdown]
# The equality holds for all inputs with this pattern, not only for x. Walk from x towards an image of a 9: somewhere on
# the way the input leaves the region, and from there on the map is another.

# %%
other = test.inputs[int((test.labels == 9).nonzero()[0])]
print("  step   same pattern   difference of A y + b and f(y)")
for t in (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5):
    y = x + t * (other - x)
    same_pattern = polylens.patterns(net, y) == polylens.patterns(net, x)
    error = float((local(y) - net(y)).abs().max())
    print(f"{t:6.2f}   {same_pattern!s:12}   {error:.1e}")

# %% [markdown]
# ## The local classifier
#
# Row c of the matrix, in the shape of the image, is the linear classifier of class c that the network is on this region.
# The difference of two rows is what decides between two classes: red pixels speak for the first, blue ones against it.

# %%
first, second = net(x).topk(2).indices.tolist()
rows = local.images().unflatten(-1, (8, 8))
gallery(
    [
        ("image", [Panel("the input", x.unflatten(-1, (8, 8)), signed=False), None, None]),
        (
            "weights",
            [
                Panel(f"of {first}", rows[first], signed=True),
                Panel(f"of {second}", rows[second], signed=True),
                Panel(f"{first} against {second}", rows[first] - rows[second], signed=True),
            ],
        ),
    ]
)

# %% [markdown]
# The margin between the two classes is that image times the input, plus a number:

# %%
margin = (rows[first] - rows[second]).flatten() @ x + local.offset[first] - local.offset[second]
score = net(x)
print(f"{float(margin):.5f} = {float(score[first] - score[second]):.5f}")

# %% [markdown]
# ## How far it stretches
#
# The singular values of the matrix say how much the network magnifies a small change of the image, in ten orthogonal
# directions. In the other 54 directions the output does not move at all, as long as the image stays in its region.

# %%
_ = local.plot()
# %% [markdown]
# ## Inside
#
# The same question can be asked of any layer. What reaches unit 3 of the second layer, as a function of the pixels?

# %%
unit = polylens.affine_map(net, x, layer="relu2", at="pre", units=[3])
print(unit, unit.offset)

# %% [markdown]
# `affine_maps` gives the maps of all pre-activations at once. Where a row's value is 0, a unit switches: these are the
# equations of the walls of the region. The nearest one is the least distance in which some unit could switch:

# %%
walls = polylens.affine_maps(net, x)
weight = torch.cat([w.weight for w in walls.values()]).double()
offset = torch.cat([w.offset for w in walls.values()]).double()
distance = (weight @ x.double() + offset).abs() / weight.norm(dim=1).clamp_min(1e-30)
print(f"{len(distance)} walls; the nearest is {float(distance.min()):.4f} away, and the image has norm {float(x.norm()):.2f}")
