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
# # The kernel of a chain
#
# A chain of dense layers, 2-8-8-8 with ReLU between them. Which inputs does it map to zero, and what is the projection
# matrix onto them? For a matrix these are its kernel and the projector on it. For a chain the first question has an exact
# answer, a union of polytopes, and the second has one at each point. This page computes both: for the chain as a
# framework hands it out, with biases of zero, and for trained ones. It was run while this site was built.
#
# ## Fresh from the framework
#
# Uniform weights after Glorot and Bengio, biases 0:

# %%
# %matplotlib inline
import itertools
import math

import numpy as np
import torch
from matplotlib import pyplot as plt
from scipy.optimize import minimize

import polylens
from polylens import Box, OutputSet, WholeSpace, dense, forgotten_by_layer, merge, null_space, preimage, zeros
from polylens.plotting import style


def fresh(seed):
    """Return the layers (weight, bias) of a fresh 2-8-8-8 chain."""
    random = torch.Generator().manual_seed(seed)
    layers = []
    for n, m in itertools.pairwise((2, 8, 8, 8)):
        uniform = 2 * torch.rand(m, n, generator=random, dtype=torch.float64) - 1
        layers.append((math.sqrt(6 / (n + m)) * uniform, torch.zeros(m, dtype=torch.float64)))
    return layers


chain = dense(fresh(50))
chain

# %% [markdown]
# The kernel, in the whole plane, with no box around it:

# %%
kernel = preimage(chain, 0.0, WholeSpace(2))
print(kernel.summary())

# %% [markdown]
# Pieces of dimension 2 that have no end. Without biases `f(t x) = t f(x)` for every `t >= 0`, so the kernel is made of
# cones, each with its apex at 0 and spanned by two rays:

# %%
pieces = sorted(kernel, key=lambda piece: math.atan2(piece.middle[1], piece.middle[0]))
for piece in pieces:
    angles = sorted(math.degrees(math.atan2(y, x)) for x, y in piece.rays)
    print(f"from {angles[0]:8.3f} to {angles[1]:8.3f} degrees   apex {piece.vertices.tolist()[0]}")

# %% [markdown]
# Some of them touch, others lie apart. Cut off by a square, they can be put together wherever a union is convex, and two sets
# are left:

# %%
square = Box([-1.0, -1.0], [1.0, 1.0])
within = preimage(chain, 0.0, square)
print(merge(within).summary())
for part in merge(within):
    print("corners", part.vertices.round(4).tolist(), "from pieces", part.members)

# %% [markdown]
# That is no vector space. Multiples of a zero are zeros, but not its negative, and the sum of two need not be one:

# %%
left, right = (torch.tensor(pieces[k].rays.mean(0)) for k in (-3, -2))  # one on each side of the gap
for name, x in (("left", left), ("right", right), ("-left", -left), ("left + right", left + right)):
    print(f"largest |f| at {name:13}{float(chain(x).abs().max()):.3g}")

# %% [markdown]
# Is that usual? No: most fresh chains map nothing but 0 itself to 0. The last layer is an invertible matrix,
# so that all eight units of the second layer have to be off, which they are for few directions, or for none:

# %%
dimensions = [preimage(dense(fresh(seed)), 0.0, WholeSpace(2)).dimension for seed in range(100)]
print(f"of 100 seeds: {dimensions.count(0)} kernels are the point 0, {dimensions.count(2)} have cones of dimension 2")

# %% [markdown]
# ## What an optimiser samples of it
#
# The advice that one is given is to minimise `|f(x)|^2` from random starts, and to look at where the points fall. Here are
# 300 runs of Nelder and Mead's method, and `zeros`, which walks from region to region by the exact maps. The points lie on
# the set that was computed above; they do not tell where it ends, or that there is no more of it.

# %%
starts = 2 * torch.rand(300, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64) - 1


def simplex_searches(layers, starts):
    """Return where Nelder and Mead's method ends from each start."""
    arrays = [(weight.numpy(), bias.numpy()) for weight, bias in layers]

    def loss(x):
        for weight, bias in arrays[:-1]:
            x = np.maximum(weight @ x + bias, 0)
        return np.sum((arrays[-1][0] @ x + arrays[-1][1]) ** 2)

    return torch.tensor(np.stack([minimize(loss, x, method="Nelder-Mead").x for x in starts.numpy()]))


sampled = simplex_searches(fresh(50), starts)
found = zeros(chain, square, starts=starts)
print(f"simplex searches: largest |f| {float(chain(sampled).abs().max()):.1g}")
print(f"of {len(sampled)}, {int(kernel.contains(sampled).sum())} are in the kernel, the others near it")
print(found.summary())

# %%
with style():
    figure, axes = plt.subplots(1, 2, figsize=(11.5, 5.4), layout="constrained")
    within.plot(axes[0], points=sampled.clamp(-1, 1), label="Nelder-Mead")
    within.plot(axes[1], points=found.points, label="zeros")
    axes[0].set_title(f"300 simplex searches on {within.fraction:.2%} of the square")
    axes[1].set_title("300 walks through regions")

# %% [markdown]
# ## The projection matrix
#
# At a point the network is one matrix, so that there the linear question makes sense: which changes of the input leave the
# output as it is? `null_space` has a basis and the projector. In a cone of the kernel all directions are free; elsewhere one
# is, or none:

# %%
inside = torch.tensor(pieces[0].middle)
for x in (inside, torch.tensor([-0.9, -0.5], dtype=torch.float64), torch.tensor([0.0, 1.0], dtype=torch.float64)):
    here = null_space(chain, x)
    print(x.tolist(), here, f"largest |f| {float(chain(x).abs().max()):.3g}")
    print(here.projector().numpy().round(4), "\n")

# %% [markdown]
# Where the null space is a line the network sees one direction only, and the inputs that it cannot tell from x are a segment
# rather than a point. It is found in two ways: as the preimage of the output, and by following the null direction until the
# output begins to change.

# %%
x = torch.tensor([-0.9, -0.5], dtype=torch.float64)
fibre = preimage(chain, chain(x), WholeSpace(2))
print(fibre.summary())
for piece in fibre:
    print("corners", piece.vertices.round(4).tolist(), "rays", piece.rays.round(4).tolist())
along = polylens.constant_along(chain, x, null_space(chain, x).basis[:, 0])
print(along.summary())

# %% [markdown]
# And which layer forgets? The first eight units keep both dimensions; the second ones lose them.

# %%
print(forgotten_by_layer(chain, inside).summary())

# %% [markdown]
# At a kink the Jacobian is that of one pattern, as everywhere in polylens. At 0 all units count as off and the null space is
# the plane; only the preimage says which neighbours are zeros, too.
#
# ## Trained to be zero
#
# Now train such a chain, still without biases, to be zero on the wedge `y >= |x|` of 90 degrees and to grow outside of it.
# It learns to be small there. Where is it zero?


# %%
def trained(layers, target, side, biases, steps=1500):
    """Return the layers after some steps of Adam on 512 points of a square."""
    values = [t.clone().requires_grad_(biases or t.ndim == 2) for layer in layers for t in layer]
    optimiser = torch.optim.Adam([t for t in values if t.requires_grad], lr=1e-2)
    x = side * (2 * torch.rand(512, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 1)
    y = target(x)
    for _ in range(steps):
        hidden = x
        for i in (0, 2, 4):
            hidden = torch.nn.functional.linear(hidden if i == 0 else hidden.relu(), values[i], values[i + 1])
        loss = (hidden - y).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    print(f"mean square error {float(loss.detach()):.2g}")
    return [(values[i].detach(), values[i + 1].detach()) for i in (0, 2, 4)]


shares = torch.cos(torch.arange(8, dtype=torch.float64))  # eight outputs, each a multiple of the same function
wedge_layers = trained(fresh(0), lambda x: (x[:, :1].abs() - x[:, 1:]).clamp(min=0) * shares, 2.0, biases=False)
wedge = dense(wedge_layers)
kernel = preimage(wedge, 0.0, WholeSpace(2))
print(kernel.summary())
angles = [math.degrees(math.atan2(y, x)) for piece in kernel for x, y in piece.rays]
print(f"exactly zero from {min(angles):.2f} to {max(angles):.2f} degrees")

# %% [markdown]
# A few degrees of the ninety. In the rest of the wedge the chain is only near 0. That, too, is a set of outputs, a box
# around 0:

# %%
square = Box([-2.0, -2.0], [2.0, 2.0])
exactly = preimage(wedge, 0.0, square)
nearly = preimage(wedge, OutputSet.box([-0.02] * 8, [0.02] * 8), square)
print(f"f = 0 on {exactly.fraction:.2%} of the square, |f| <= 0.02 on {nearly.fraction:.2%}; the wedge is 25 % of it")
with style():
    figure, axes = plt.subplots(1, 2, figsize=(11.5, 5.4), layout="constrained")
    exactly.plot(axes[0], points=simplex_searches(wedge_layers, 2 * starts), label="Nelder-Mead")
    nearly.plot(axes[1])
    axes[0].set_title("f = 0 exactly, and where simplex searches for it end")
    axes[1].set_title("every output within 0.02 of 0")

# %% [markdown]
# A loss that falls below what the search can feel is no zero: some searches stop in the wedge, where the outputs are merely
# small, and most creep to the tip or into the cone.
#
# ## With biases: an empty kernel, and a proof of it
#
# Train with biases, to be zero on the unit circle. Eight equations in two unknowns have no solution as a rule, and training
# does not make one:

# %%
ring_layers = trained(fresh(3), lambda x: (x.norm(dim=1, keepdim=True) - 1) * shares, 2.0, biases=True)
ring = dense(ring_layers)
kernel = preimage(ring, 0.0, WholeSpace(2))
print(kernel.summary())
print("empty:", kernel.is_empty, "  complete:", kernel.complete)

# %% [markdown]
# `is_empty` is proven, not the outcome of a search: all cells of the plane are accounted for. Those that were dropped,
# with all regions in them, have bounds on their outputs that exclude 0; in the others the exact map was solved.
# What a search finds in such a network are points from which no way leads further down:

# %%
found = zeros(ring, square, starts=1000)
print(found.summary())
near = preimage(ring, OutputSet.box([-0.1] * 8, [0.1] * 8), square)
print(near.summary())

# %%
with style():
    figure, axes = plt.subplots(1, 2, figsize=(11.5, 5.4), layout="constrained")
    near.plot(axes[0], points=simplex_searches(ring_layers, 2 * starts), label="Nelder-Mead")
    near.plot(axes[1], points=found.points, label="least squares")
    axes[0].set_title("|f| <= 0.1 exactly, and ends of 300 simplex searches")
    axes[1].set_title("the same, and 1000 least-squares points")

# %% [markdown]
# A thousand walks end in a handful of places, the local minima of the distance to 0. One is in the middle of the circle,
# where the chain bends. The inputs that come within 0.1 of 0 are a ring of polygons.
#
# ## All inputs with the same output
#
# One question has an answer for every network: given an output that does occur, which inputs have it?

# %%
for x0 in 2 * starts[:6]:
    same = preimage(ring, ring(x0), WholeSpace(2))
    corners = [piece.vertices[0].round(6).tolist() for piece in same]
    print(f"x0 = {x0.numpy().round(6).tolist()}: {len(same)} of dimension {same.dimension}, {corners}")

# %% [markdown]
# Points, since the Jacobian there has rank 2. Some outputs occur twice, far apart, and no Jacobian says so. `contains` asks the
# network itself:

# %%
print(null_space(ring, x0))
print(same.contains(torch.tensor(np.stack([piece.middle for piece in same]))), same.contains(x0 + 1e-3))

# %% [markdown]
# Around them lie all inputs whose outputs differ by 0.05 at most, in one region or another:

# %%
with style():
    figure, ax = plt.subplots(figsize=(5.6, 5.2), layout="constrained")
    alike = preimage(ring, OutputSet.box(ring(x0) - 0.05, ring(x0) + 0.05), square)
    alike.plot(ax, points=torch.tensor(np.stack([piece.middle for piece in same])))
    ax.set_title("alike up to 0.05; the dots have one output")

# %% [markdown]
# For a smooth chain there are no regions and no exact preimage. `zeros` still searches, `null_space` holds to first order, and
# `second_order` says whether the output bends along it ([how](../howto/null-space.md)).
