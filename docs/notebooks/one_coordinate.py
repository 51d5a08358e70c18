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
# # A classifier that looks at one coordinate only
#
# A network with two inputs is trained on a task that only the first of them decides. Which inputs does it look at, where, and
# which inputs belong to a class? Every answer below is computed from the network's polytopes, and drawn inputs serve
# to see them, not to find them. This page was run while the site was built.
#
# ## A network and its habits
#
# Three classes, by the first coordinate alone; the second one is noise. In every step of the training the columns of the
# first layer shrink a little, and one that falls below a hundredth of the other is cut off: a group lasso, with pruning.

# %%
# %matplotlib inline
import torch
from matplotlib import pyplot as plt
from torch import nn

import polylens
from polylens import Argmax, Box, Gaussian, OutputSet, Softmax, WholeSpace, null_space, preimage, subdivide
from polylens.plotting import style

random = torch.Generator().manual_seed(0)
points = 4 * torch.rand(1000, 2, generator=random) - 2
first = points[:, 0]
labels = ((first > -0.7) & (first < 0.9)).long() + 2 * (first > 1.5).long()


def trained():
    """Return a network, trained and pruned."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3))
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    kept = torch.ones(2)
    for _ in range(400):
        loss = nn.functional.cross_entropy(model(points), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        with torch.no_grad():
            columns = model[0].weight
            columns *= (1 - 0.02 / columns.norm(dim=0).clamp(min=1e-9)).clamp(min=0)
            kept *= columns.norm(dim=0) > 0.01 * columns.norm(dim=0).max()
            columns *= kept
    return model.eval()


net = polylens.load(trained()).double()
points = points.double()
print(f"right on {(net(points).argmax(1) == labels).double().mean():.1%} of the points")
net

# %% [markdown]
# ## Which coordinate?
#
# At each point the row space of the Jacobian holds the directions that the network sees, and the null space those that it
# does not. Over all points:

# %%
spaces = null_space(net, points)
print(spaces.summary())
for rank in (0, 1, 2):
    print(f"rank {rank} at {int((spaces.rank == rank).sum())} points")
seen = spaces[spaces.rank == 1]
print("largest part of a seen direction along the second coordinate:", float(seen.row_space[:, 1].abs().max()))

# %% [markdown]
# Where it sees anything at all it sees one direction, and that is the first coordinate, exactly. In the other points all units
# of the second layer are off, and the outputs do not move at all.
#
# A thousand points say nothing about the points between them. All regions of the plane do:

# %%
regions = subdivide(net, WholeSpace(2))
weights = regions.local_maps().weight
print(regions.num_regions, "regions")
print("largest slope along the first coordinate: ", float(weights[:, :, 0].abs().max()))
print("largest slope along the second coordinate:", float(weights[:, :, 1].abs().max()))

# %% [markdown]
# Along the second coordinate a point can therefore go on for ever:

# %%
x = points[int((spaces.rank == 1).nonzero()[0])]
print(null_space(net, x).projector().numpy())
print(polylens.constant_along(net, x, torch.tensor([0.0, 1.0], dtype=torch.float64)).summary())

# %% [markdown]
# ## All inputs of a class
#
# The preimage of "output 0 is the largest". In the whole plane its pieces are strips and half-planes; a square makes
# them measurable. With the other two classes they fill it, to rounding:

# %%
print(preimage(net, Argmax(0), WholeSpace(2)).summary())
square = Box([-2.0, -2.0], [2.0, 2.0])
classes = [preimage(net, Argmax(k), square) for k in range(3)]
print([f"class {k}: {c.fraction:.4%}" for k, c in enumerate(classes)])
print("area left over:", 16 - sum(c.volume for c in classes))

# %%
heights = {round(float(v), 9) for piece in classes[0] for v in piece.vertices[:, 1]}
print("second coordinates of the corners of class 0:", sorted(heights))

# %% [markdown]
# ## Samples given the class
#
# `sample` draws from `p(x | y)`, exactly, without a chain that has to mix and without a grid. Uniform; under a normal
# prior; and with a soft class, the softmax as likelihood, for which the whole square is the set to draw from.

# %%
normal = Gaussian(mean=[-0.3, 0.5], std=[0.8, 0.6])
anywhere = preimage(net, OutputSet.everything(3), square)
drawn = {
    "uniform on class 0": classes[0].sample(1500, seed=1),
    "a normal prior on class 0": classes[0].sample(1500, normal, seed=2),
    "uniform, softmax of class 0 at temperature 4": anywhere.sample(1500, likelihood=Softmax(0, temperature=4.0), seed=3),
}
with style():
    figure, axes = plt.subplots(1, 3, figsize=(15, 5.2), layout="constrained")
    for ax, (name, x) in zip(axes, drawn.items(), strict=True):
        classes[0].plot(ax, points=x)
        ax.set_title(name)

# %% [markdown]
# The uniform samples fill the strips from bottom to top, as they must if the second coordinate does not count. Under the
# normal prior the second coordinate keeps the prior's distribution, cut at the square, and the first one is the prior's on the
# strips. The soft class spills over the border of the set.
#
# Are they what they claim to be? In the plane a fine grid can tell. Mean and standard deviation of each coordinate, from
# 20 000 samples and from sums over the cells of a grid:

# %%
side = torch.linspace(-2, 2, 801, dtype=torch.float64)
centres = (side[1:] + side[:-1]) / 2
grid = torch.cartesian_prod(centres, centres)
scores = net(grid)
inside = (scores.argmax(1) == 0).double()
densities = {
    "uniform": inside,
    "normal prior": inside * normal.log_density(grid).exp(),
    "softmax": (scores / 4.0).softmax(1)[:, 0],
}
draws = {
    "uniform": classes[0].sample(20_000, seed=4),
    "normal prior": classes[0].sample(20_000, normal, seed=5),
    "softmax": anywhere.sample(20_000, likelihood=Softmax(0, temperature=4.0), seed=6),
}
for name, density in densities.items():
    share = (density / density.sum())[:, None]
    mean = (share * grid).sum(0)
    deviation = (share * (grid - mean) ** 2).sum(0).sqrt()
    x = draws[name]
    print(f"{name:13} mean {x.mean(0).numpy().round(3)} grid {mean.numpy().round(3)}", end="   ")
    print(f"deviation {x.std(0).numpy().round(3)} grid {deviation.numpy().round(3)}")

# %% [markdown]
# The samples show again what the network looks at: given the class, the first coordinate is confined, and the second is as
# free as before. [Preimages](../howto/preimages.md) has the other sets, domains and priors.
