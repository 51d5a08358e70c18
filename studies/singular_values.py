"""How stable the way back through a convolutional network is: singular values of all layers, in front of gates and behind.

A network of six convolutions (32, 64 with stride 2, 64, 32, 32, 64 with stride 2 maps, 3 x 3) and two dense layers (512, 10)
is trained on a part of CIFAR-10, or a dense one 64-64-48-32-10 on digits. At test images: what each ReLU does to the singular
values of the map from the input, and how they decay over the layers. Two figures, and the numbers as JSON, go into OUT; the
trained weights are kept there, so that another run starts from them.

python studies/singular_values.py --out FOLDER [--data cifar|digits] [--images 3] [--steps 300]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import torch
from _training import Split, accuracy, cifar, digits, train
from torch import Tensor, nn

from polylens import Spectrum, load, spectrum
from polylens.plotting import new_figure, saved, style
from polylens.plotting.spectrum import effect_figure

CHANNELS, STRIDES = (3, 32, 64, 64, 32, 32, 64), (1, 2, 1, 1, 1, 2)


def convolutional() -> nn.Sequential:
    """Return the network for CIFAR-10."""
    layers: list[nn.Module] = []
    for (a, b), stride in zip(pairwise(CHANNELS), STRIDES, strict=True):
        layers += [nn.Conv2d(a, b, 3, stride, 1), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * 8 * 8, 512), nn.ReLU(), nn.Linear(512, 10))


def fully_connected() -> nn.Sequential:
    """Return the network for digits."""
    layers: list[nn.Module] = []
    for a, b in pairwise((64, 64, 48, 32, 10)):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def normalised(split: Split) -> Split:
    """Return images with mean 0 and deviation 1 for each channel, as the training images have them."""
    x, y, x_test, y_test = split
    axes = (0, *range(2, x.ndim))
    mean, size = x.mean(axes, keepdim=True), x.std(axes, keepdim=True).clamp(min=0.05)
    return (x - mean) / size, y, (x_test - mean) / size, y_test


def trained(kind: str, split: Split, steps: int, out: Path) -> nn.Module:
    """Return the trained network, from OUT where it is there already."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = convolutional() if kind == "cifar" else fully_connected()
    kept = out / f"singular_values_{kind}_{steps}.pt"
    if kept.exists():
        model.load_state_dict(torch.load(kept, weights_only=True))
        return model.eval()
    train(model, split[0], split[1], steps=steps, batch=64)
    torch.save(model.state_dict(), kept)
    return model


def gate_names(found: Spectrum) -> Spectrum:
    """Return the spectrum with its layers numbered by their depth, as the talk names them."""
    numbers = {name: k for k, name in enumerate(dict.fromkeys(layer.name for layer in found.layers), 1)}
    layers = tuple(replace(layer, name=f"layer {numbers[layer.name]}") for layer in found.layers)
    return replace(found, layers=layers)


def draw(found: Spectrum, out: Path, kind: str) -> None:
    """Write both figures."""
    saved(effect_figure(found), lambda drawn: drawn.savefig(out / f"effect_of_relu_{kind}.png", dpi=130))
    with style():
        figure = new_figure(9, 4.8)
        found.plot(figure.subplots())
    saved(figure, lambda drawn: drawn.savefig(out / f"decay_over_layers_{kind}.png", dpi=130))


def measured(model: nn.Module, images: Tensor) -> tuple[Spectrum, float]:
    """Return the singular values at test images, and the seconds that one image takes."""
    net = load(model, images[:1])
    start = time.perf_counter()
    found = spectrum(net, images)
    return found, (time.perf_counter() - start) / len(images)


def main() -> None:
    """Train, decompose, draw, and keep the numbers."""
    parser = argparse.ArgumentParser(description="Singular values of all layers of a network trained on CIFAR-10 or digits.")
    parser.add_argument("--out", type=Path, required=True, help="where figures, numbers and weights go")
    known = "cifar" if os.environ.get("POLYLENS_DATA") else "digits"
    parser.add_argument("--data", choices=("cifar", "digits"), default=known, help="default: %(default)s")
    parser.add_argument("--images", type=int, default=3, help="test images (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=300, help="of training (default: %(default)s)")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    split = normalised(cifar() if options.data == "cifar" else digits())
    model = trained(options.data, split, options.steps, options.out)
    found, seconds = measured(model, split[2][: options.images])
    draw(gate_names(found), options.out, options.data)
    print(found.summary())
    numbers = {
        "data": options.data,
        "steps": options.steps,
        "accuracy": accuracy(model, *split[2:]),
        "seconds_per_image": seconds,
        "threads": torch.get_num_threads(),
        "system": f"{platform.system()}, torch {torch.__version__}",
        "spectrum": found.to_dict(),
    }
    (options.out / f"singular_values_{options.data}.json").write_text(json.dumps(numbers) + "\n")
    print(f"accuracy {numbers['accuracy']:.3f}; {seconds:.2f} s an image")


if __name__ == "__main__":
    main()
