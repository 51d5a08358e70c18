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
# # Can I reverse my network?
#
# A network was trained to predict y from x. Can it be run the other way, to give x for a y? This page takes the network that
# people ask this about, and answers with theorems and numbers. It was run while this site was built.

# %%
# %matplotlib inline
import torch
from torch import nn

import polylens
from polylens import Box, Gaussian, OutputSet, invert, preimage

torch.manual_seed(0)
x, y = torch.randn(64, 1000), torch.randn(64, 10)
model = nn.Sequential(nn.Linear(1000, 100), nn.ReLU(), nn.Linear(100, 10))
for _ in range(200):
    loss = nn.functional.mse_loss(model(x), y, reduction="sum")
    model.zero_grad()
    loss.backward()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter -= 1e-4 * parameter.grad
print(f"squared error {loss.item():.3g}")
net = polylens.load(model.eval()).double()

# %% [markdown]
# ## Not as it stands
#
# 1000 numbers go in and 10 come out. The output of the first input, run backwards:

# %%
target = net(x[0].double())
back = invert(net, target, limit=60)
print(back.summary())

# %% [markdown]
# The last layer is where it stops: it passes on 10 of 100 dimensions, so 90 are free, and behind a ReLU a free choice is no
# affine family any more. The ReLU and the first layer forget, too. What is left is an input that *has* this output, the
# shortest in its region, and the dimension of all others there:

# %%
print("f(x) - y:", float((net(back.x) - target).abs().max()))
print(f"length {back.rest.norm:.3f}, that of the training input {float(x[0].norm()):.3f}")
print(f"{back.rest.dimension} of 1000 dimensions are free")

# %% [markdown]
# It is no picture of the training input, and nothing could be: both have the same output, and the network holds no trace of
# which of them it was. The cosine between the two:

# %%
print(f"{float(torch.cosine_similarity(back.x, x[0].double(), dim=0)):.3f}")

# %% [markdown]
# ## A network that can be reversed
#
# Layers that are square or grow, and gates that rise everywhere, lose nothing:

# %%
torch.manual_seed(1)
ways = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 8), nn.LeakyReLU(), nn.Linear(8, 8), nn.Sigmoid())
reversible = polylens.load(ways.eval()).double()
points = torch.randn(20, 6, dtype=torch.float64)
there = invert(reversible, reversible(points))
print(there.summary())
print("true errors:", (there.x - points).norm(dim=1).aminmax())

# %%
_ = there.plot()
# %% [markdown]
# Every layer makes errors grow on the way back. A network can be reversible on paper and not on a computer: farther out the
# gates saturate, and digits are lost that no method brings back. The predicted error says so.

# %%
for size in (1, 4, 16, 64):
    far = size * points
    again = invert(reversible, reversible(far))
    unique = [kind == "unique" for kind in again.kinds]
    print(f"{size:3d} x: {sum(unique):2d} of 20 unique, predicted error up to {float(again.error.nan_to_num(0).max()):.1e}")

# %% [markdown]
# ## All inputs of an output, with probabilities
#
# Where many inputs have one output the honest answer is a distribution: p(x | y) for a prior p(x). A network does not know
# p(x), so it has to be said. Here are two inputs and one output, normal inputs, and all outputs within 0.02 of one value.
# The samples are exact: they are drawn on the preimage, piece by piece, and none is rejected by evaluating the network.

# %%
torch.manual_seed(2)
small = polylens.load(nn.Sequential(nn.Linear(2, 12), nn.ReLU(), nn.Linear(12, 1)).eval()).double()
value = float(small(torch.tensor([0.8, -0.5], dtype=torch.float64)))
inputs = preimage(small, OutputSet.box([value - 0.02], [value + 0.02]), Box([-4.0, -4.0], [4.0, 4.0]))
print(inputs.summary())
samples = inputs.sample(500, Gaussian())
print("outputs of the samples:", small(samples).aminmax())

# %%
_ = inputs.plot(points=samples)
# %% [markdown]
# And the shortest input with exactly this output, which in so few dimensions is proven to be the shortest of all:

# %%
print(invert(small, torch.tensor([value], dtype=torch.float64)).summary())
