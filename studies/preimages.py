"""How information is lost in a dense network: what first and second layer say of their inputs, over many test images.

A network 784-3500-784-10 is trained on MNIST (or 64-80-64-10 on digits). Of every test image: is its first layer's output
shared by no other input (singleton), by a bounded set of them (finite), or by an unbounded one (infinite)? The second
layer is asked on the orthant, which the first one reaches. On all of R^n it is infinite by counting. Kinds and seconds go
into OUT as JSON, a layer at a time, so that a run that was stopped goes on; the figure beside them.

python studies/preimages.py --out FOLDER [--data mnist|digits] [--images 1000] [--steps 469]
"""

from __future__ import annotations

import argparse
import json
import platform
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _training import Split, accuracy, digits, mnist, train
from matplotlib import pyplot
from matplotlib.axes import Axes
from torch import nn

from polylens import invertibility, load
from polylens.layer_preimage import KINDS, WORDS
from polylens.plotting import BLUE, GREEN, GREY, INK, ORANGE, saved, style

SIZES = {"mnist": (784, 3500, 784, 10), "digits": (64, 80, 64, 10)}
COLOURS = {"singleton": GREEN, "bounded": BLUE, "unbounded": ORANGE, "undecided": GREY}


def main() -> None:
    asked = argparse.ArgumentParser(description="classify preimages of trained layers")
    asked.add_argument("--data", choices=sorted(SIZES), default="mnist")
    asked.add_argument("--images", type=int, default=1000, help="how many test images (default: 1000)")
    asked.add_argument("--steps", type=int, default=469, help="training steps of 128 images (default: one epoch of MNIST)")
    asked.add_argument("--out", type=Path, required=True, help="folder for the figures")
    options = asked.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    split = mnist() if options.data == "mnist" else digits()
    model = trained(options, split)
    found = [layer(options, model, split, k) for k in (0, 1)]
    inputs, labels = split[2:]
    kept = {
        "study": "preimages",
        "data": options.data,
        "steps": options.steps,
        "test_accuracy": round(accuracy(model, inputs, labels), 4),
        "layers": [figures(part) for part in found],
        "machine": {"cores": torch.get_num_threads(), "python": platform.python_version(), "torch": torch.__version__},
    }
    (options.out / f"preimages_{options.data}.json").write_text(json.dumps(kept, indent=2) + "\n")
    print(json.dumps(kept, indent=2))
    saved(drawn(found), lambda fig: fig.savefig(options.out / f"preimages_{options.data}.png", dpi=110))


def trained(options: argparse.Namespace, split: Split) -> nn.Module:
    """Return the network, trained now or read from the folder."""
    torch.manual_seed(0)
    n = SIZES[options.data]
    model = nn.Sequential(nn.Linear(n[0], n[1]), nn.ReLU(), nn.Linear(n[1], n[2]), nn.ReLU(), nn.Linear(n[2], n[3]))
    file = options.out / f"net_{options.data}_{options.steps}.pt"
    if file.exists():
        model.load_state_dict(torch.load(file, weights_only=True))
        return model.eval()
    train(model, split[0], split[1], steps=options.steps)
    torch.save(model.state_dict(), file)
    return model


def layer(options: argparse.Namespace, model: nn.Module, split: Split, k: int) -> dict[str, Any]:
    """Return what was found of one layer, now or by an earlier run."""
    file = options.out / f"layer{k + 1}_{options.data}_{options.steps}_{options.images}.json"
    if not file.exists():
        x = split[2][: options.images]
        file.write_text(json.dumps(invertibility(load(model), x, [k]).to_dict()["layers"][0]))
    return dict(json.loads(file.read_text()))


def figures(found: dict[str, Any]) -> dict[str, Any]:
    """Return the numbers worth keeping of a layer."""
    seconds, positive = np.array(found["seconds"]), np.array(found["positive"])
    return {
        "name": found["name"],
        "shape": [found["inputs"], found["outputs"]],
        "on": found["reach"],
        "images": len(seconds),
        "counts": {WORDS[kind]: count for kind, count in found["counts"].items()},
        "undecided_share": found["counts"]["undecided"] / len(seconds),
        "median_s": round(float(np.median(seconds)), 4),
        "s_95_percent": round(float(np.quantile(seconds, 0.95)), 4),
        "positive_outputs": [int(v) for v in np.quantile(positive, [0, 0.5, 1])],
    }


def drawn(found: list[dict[str, Any]]) -> Any:
    with style():
        figure, axes = pyplot.subplots(1, 2, figsize=(11, 3.8))
        for ax, part, name in zip(axes, found, ("First", "Second"), strict=True):
            bars(ax, part)
            where = "all inputs" if part["reach"] == "space" else "inputs x ≥ 0"
            ax.set_title(f"{name} layer, {part['inputs']} to {part['outputs']} units, {where}")
        figure.tight_layout()
    return figure


def bars(ax: Axes, part: dict[str, Any]) -> None:
    """Draw one layer: how many images have each kind, by the number of positive outputs."""
    positive, kind = np.array(part["positive"]), np.array(part["kind"])
    shown = [k for k in KINDS if part["counts"][k]]
    low, high = min(positive.min(), part["inputs"]), max(positive.max(), part["inputs"])
    near = part["inputs"] <= positive.max() * 1.5
    edges = np.linspace(low if near else positive.min(), high if near else positive.max(), 41)
    ax.hist(
        [positive[kind == k] for k in shown],
        bins=edges.tolist(),
        stacked=True,
        color=[COLOURS[k] for k in shown],
        label=[f"{WORDS[k]}: {part['counts'][k]:,}" for k in shown],
    )
    if near:
        ax.axvline(part["inputs"], color=INK, linewidth=1, linestyle="--", label=f"n = {part['inputs']:,} inputs")
    else:
        ax.plot([], [], " ", label=f"n = {part['inputs']:,} inputs, far right")
    ax.set(xlabel="positive outputs", ylabel="test images")
    ax.legend(loc="best")


if __name__ == "__main__":
    main()
