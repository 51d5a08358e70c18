"""The study of activation patterns, retold: its networks, its figures, and what it states beside what is measured here.

Networks of 10 and of 3 x 256 units under eight schemes of initialisation and normalisation are trained and recorded (SGD
with momentum, and Adam); a network of one hidden layer is tested for independence and asked for constellations and
neighbours; first layers on N(0, I) are held against one-sided normals. The inputs of networks are normalised images: mean 0
and deviation 1 for each channel. Figures and activation_patterns.json go into OUT, recordings into OUT/networks, so that a
run that was stopped goes on. A table of every statement is printed at the end.

python studies/activation_patterns.py --data cifar|mnist|digits --out FOLDER [--epochs 10] [--quick]
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import os
import platform
import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import _claims as claims
import _pattern_figures as draw
import numpy as np
import torch
from _claims import Claim, Units
from _schemes import BATCH, FIRST, OPTIMISER_WORDS, OPTIMISERS, SCHEMES, Run, network, plain, trained
from _training import Split, accuracy, cifar, digits, mnist, train
from torch import Tensor, nn

from polylens import (
    Network,
    binary_approximation,
    constellations,
    first_layer_model,
    frequencies,
    gaussian_layer,
    independence_test,
    layer_usefulness,
    load,
    pattern_neighbours,
    patterns,
    propagation,
    second_layer_law,
)
from polylens.constellations import Constellations
from polylens.independence import Independence
from polylens.pattern_neighbours import neighbour_accuracy
from polylens.plotting import saved

DATA: dict[str, Callable[[], Split]] = {"cifar": cifar, "mnist": mnist, "digits": digits}
NAMES = {"cifar": "CIFAR-10", "mnist": "MNIST", "digits": "digits"}
STUDY_EPOCHS, CONSTELLATION_EPOCH = 5, 6
STATED_UNIT = {"mean": 0.25, "deviation": 0.35, "positive mean": 0.4685, "positive deviation": 0.3489}
STATED_ACCURACY = {
    "xavier": "10 % after 5 epochs",
    "batch norm": "52 % after 13",
    "weight norm": "53 % after 20",
    "layer norm": "41 % after 20",
    "selu": "50 % after 20",
}


@dataclass(frozen=True)
class Sizes:
    """How large everything is; `quick` for a run of seconds."""

    width: int = 256
    depths: tuple[int, int] = (10, 3)
    optimisers: tuple[str, ...] = ("sgd", "adam")
    epochs: int = 10
    recorded: int = 1000
    images: int = 4000
    networks: int = 5
    gaussian_inputs: int = 256
    wide_inputs: int = 1024
    units: int = 4096
    samples: int = 10_000
    draws: int = 100_000
    permutations: int = 199


QUICK = Sizes(
    width=24,
    depths=(4, 2),
    optimisers=("sgd",),
    epochs=1,
    recorded=200,
    images=600,
    networks=2,
    units=256,
    samples=1000,
    draws=5000,
    permutations=19,
)


def main() -> None:
    asked = argparse.ArgumentParser(description="retell the study of activation patterns")
    asked.add_argument("--data", choices=sorted(DATA), default="cifar")
    asked.add_argument("--out", type=Path, required=True, help="folder for figures, numbers and recordings")
    asked.add_argument("--epochs", type=int, help="of the networks of 10 and 3 layers (default: 10, or 1 with --quick)")
    asked.add_argument("--quick", action="store_true", help="small networks and samples: does everything run?")
    options = asked.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    size = QUICK if options.quick else Sizes()
    size = size if options.epochs is None else Sizes(**{**asdict(size), "epochs": options.epochs})
    study = Study(options.data, options.out, size)
    begun = time.perf_counter()
    for part in (study.learning, study.one_layer, study.gaussian, study.models):
        part()
    study.write(round(time.perf_counter() - begun, 1))


class Study:
    """One run: the data, what was measured so far, and the claims decided on it."""

    def __init__(self, data: str, out: Path, size: Sizes) -> None:
        self.data, self.out, self.size = data, out, size
        raw = DATA[data]()
        self.raw = tuple(part[: size.images] for part in raw)
        self.split = normalised(self.raw, pixels=False)
        self.hidden = {depth: [size.width] * depth for depth in size.depths}
        self.read = 0  # networks that an earlier run has trained
        self.claims: list[Claim] = []
        self.measured: dict[str, Any] = {}
        self.chance = float(torch.bincount(self.split[1]).max()) / len(self.split[1])

    def draw(self, name: str, figure: Any) -> None:
        saved(figure, lambda fig: fig.savefig(self.out / f"{name}.png", dpi=110))

    def claim(self, *found: Claim) -> None:
        self.claims += found

    # -- section 2.1 and 3: networks while they learn

    def learning(self) -> None:
        """Train and record all schemes; claims of P(active), of what trains, and of distances between images."""
        deep, flat = self.size.depths
        runs = [self.run(s, depth, o) for o in self.size.optimisers for depth in self.size.depths for s in SCHEMES]
        groups = self.by_group(runs)
        for (optimiser, depth), found in groups.items():
            self.draw(f"frequencies_{depth}_{optimiser}", draw.frequencies(found))
        titles = {f"{d} x {self.size.width}, {OPTIMISER_WORDS[o].split(',')[0]}": found for (o, d), found in groups.items()}
        self.draw("learning_curves", draw.curves(titles))
        self.measured["schemes"] = [scheme_row(run) for run in runs]
        self.saturation(runs)
        self.untrained(deep)
        for optimiser in self.size.optimisers:
            run = groups[optimiser, deep][0]
            reached, epochs = [run.last("train_accuracy")], self.size.epochs
            self.claim(claims.does_not_train(deep, optimiser, reached, epochs, self.chance, len(self.split[0])))
        norm = next(run for run in groups["sgd", deep] if run.scheme == "batch norm")
        shares = [norm.recording.active(k)[-1] for k in range(deep)]
        self.claim(claims.batch_norm_balances(shares, norm.last("train_accuracy"), self.chance, len(self.split[0])))
        self.pairs(groups["sgd", flat])
        self.claim(*claims.accuracies(STATED_ACCURACY, {r.scheme: r.last("test_accuracy") for r in groups["sgd", deep]}))
        self.flat = groups["sgd", flat][0]

    def run(self, scheme: str, depth: int, optimiser: str) -> Run:
        name = f"{self.data}_{self.size.width}_{self.size.epochs}_{optimiser}_{depth}_{scheme.replace(' ', '_')}"
        folder = self.out / "networks" / name
        self.read += (folder / "model.pt").exists()
        asked = {"epochs": self.size.epochs, "recorded": self.size.recorded, "folder": folder}
        return trained(scheme, self.hidden[depth], optimiser, self.split, **asked)

    def saturation(self, runs: Sequence[Run]) -> None:
        """Measure whether saturation before training goes with what training reaches, and what training does to it."""
        wanted = ("train_accuracy", "train_loss", "test_accuracy")
        starts = [run.saturation for run in runs]
        ends = [float(run.recording[-1].saturation.mean()) for run in runs]
        groups = self.by_group(runs)
        self.measured["saturation_and_training"] = {
            "all": {what: claims.rank_correlation(starts, [r.last(what) for r in runs]) for what in wanted},
            "within": {what: within(groups.values(), what) for what in wanted},
            "within, without the default": {what: within([g[1:] for g in groups.values()], what) for what in wanted},
            "by_group": {f"{o}, {d} layers": within([group], "train_accuracy") for (o, d), group in groups.items()},
        }
        # of the change itself a start would say much even if ends had nothing to do with it, so spreads are compared
        spread = {"before": float(np.std(starts)), "after": float(np.std(ends))}
        self.measured["saturation_by_training"] = {"spread": spread, "order_kept": claims.rank_correlation(starts, ends)}
        found = self.measured["saturation_and_training"]
        self.draw("trainability", draw.trainability(runs, found["all"], found["within"]))

    def by_group(self, runs: Sequence[Run]) -> dict[tuple[str, int], list[Run]]:
        """Return the runs of each optimiser and depth, schemes in their order."""
        keys = [(o, d) for o in self.size.optimisers for d in self.size.depths]
        return {(o, d): [r for r in runs if (r.optimiser, r.depth) == (o, d)] for o, d in keys}

    def untrained(self, depth: int) -> None:
        """Hold P(active) of untrained networks against three laws, layer by layer, over several networks."""
        halved = (self.raw[0].flatten(1) * 2 - 1, *self.split[1:])  # the other usual way to normalise images
        for inputs, split in (("channels normalised", self.split), ("images in [-1, 1]", halved)):
            layers = []
            for seed in range(self.size.networks):
                seen = frequencies(load(self.fresh("none", depth, seed)), split[0])
                layers.append([seen.active(k) for k in range(depth)])
            self.claim(
                claims.layer_law(layers, [0], claims.HALF, inputs, "close to 0.5"),
                claims.layer_law(layers, [1], claims.UNIFORM, inputs, "close to uniform"),
                claims.layer_law(layers, list(range(2, depth)), claims.SATURATED, inputs, "either always or never"),
            )

    def fresh(self, scheme: str, depth: int, seed: int) -> nn.Sequential:
        x, y, _, _ = self.split
        return plain(network(scheme, [x.shape[1], *[self.size.width] * depth, int(y.max()) + 1], x, seed))

    def pairs(self, runs: Sequence[Run]) -> None:
        self.draw("distances", draw.distances(runs[0].recording))
        apart = {run.scheme: run.recording.distances()[[0, -1]].tolist() for run in runs}
        self.claim(claims.balanced_by_learning(*apart[runs[0].scheme], {name: tuple(v) for name, v in apart.items()}))

    # -- section 2.3 and 2.4: one hidden layer

    def one_layer(self) -> None:
        """Test a network of one hidden layer for independence; its constellations and neighbours."""
        kinds = {"channels": self.split, "pixels": normalised(self.raw, pixels=True)}
        epochs = {kind: self.epochs_of_one_layer(split) for kind, split in kinds.items()}
        self.tests(epochs["channels"], kinds)
        self.groups(epochs["channels"])
        self.near(epochs["channels"][-1])
        self.measured["one_layer_test_accuracy"] = {
            kind: accuracy(found[-1], *kinds[kind][2:]) for kind, found in epochs.items()
        }

    def epochs_of_one_layer(self, split: Split) -> list[nn.Module]:
        """Return the network as it was before training and after each epoch."""
        x, y, _, _ = split
        model = network("none", [x.shape[1], self.size.width, int(y.max()) + 1], x, 0)
        steps, kept = len(x) // BATCH, [copy.deepcopy(model).eval()]
        keep = lambda step: kept.append(copy.deepcopy(model).eval()) if step % steps == 0 else None  # noqa: E731
        train(model, x, y, steps=CONSTELLATION_EPOCH * steps, optimiser=OPTIMISERS["sgd"](model), after=keep)
        return kept

    def tests(self, models: Sequence[nn.Module], kinds: dict[str, Split]) -> None:
        inputs = self.split[0]
        found = {f"epoch {epoch}": self.test(models[epoch], inputs) for epoch in (0, STUDY_EPOCHS)}
        self.draw("independence", draw.independence(found))
        self.measured["independence"] = {name: test_row(result) for name, result in found.items()}
        noise = torch.randn(inputs.shape, generator=torch.Generator().manual_seed(7))
        tried = {"channels normalised": inputs, "pixels normalised": kinds["pixels"][0], "N(0, I)": noise}
        first, last = (found[name].fair_bits for name in found)
        self.claim(
            claims.fair_bits_before({k: self.fair_p(x) for k, x in tried.items()}, self.size.width, found["epoch 0"].statistic),
            claims.fair_bits_after(last.p_lower, len(last.null), (first.mean, last.mean), self.size.width),
        )

    def test(self, model: nn.Module, inputs: Tensor, permutations: int | None = None) -> Independence:
        return independence_test(patterns(load(model), inputs), permutations=permutations or self.size.permutations)

    def fair_p(self, inputs: Tensor) -> tuple[list[float], float]:
        """Return the p-values of untrained networks, and the mean distance that their frequencies alone give."""
        p, expected = [], []
        for seed in range(self.size.networks):
            model = network("none", [inputs.shape[1], self.size.width, 10], inputs, seed)
            seen = patterns(load(model), inputs)
            shares = seen.frequencies().active(0)
            p.append(independence_test(seen, permutations=1, inputs=100, seed=seed).fair_bits.p_lower)
            expected.append(float((2 * shares * (1 - shares)).sum()))
        return p, mean(expected)

    def groups(self, models: Sequence[nn.Module]) -> None:
        found = {
            f"epoch {epoch}": constellations(patterns(load(models[epoch]), self.split[0]), labels=self.split[1])
            for epoch in (0, CONSTELLATION_EPOCH)
        }
        self.draw("constellations", draw.constellations(found))
        self.measured["constellations"] = {name: constellation_row(result) for name, result in found.items()}

    def near(self, model: nn.Module) -> None:
        x, y, other, other_y = self.split
        net, images = load(model), self.raw[0].reshape(len(x), *self.picture())
        asked = self.raw[2].reshape(len(other), *self.picture())
        seen = {"images": images, "labels": y, "query_images": asked[:8], "query_labels": other_y[:8]}
        self.draw("neighbours", draw.neighbours(pattern_neighbours(patterns(net, x), patterns(net, other[:8]), 10, **seen)))
        self.measured["neighbours"] = neighbour_accuracy(net, x, y, 10, queries=min(1000, len(x))).to_dict()
        self.measured["layer_usefulness"] = layer_usefulness(load(self.flat.model), other, other_y).to_dict()

    def picture(self) -> tuple[int, ...]:
        return {"cifar": (3, 32, 32), "mnist": (28, 28), "digits": (8, 8)}[self.data]

    # -- section 4: layers on N(0, I)

    def gaussian(self) -> None:
        """Hold first layers on N(0, I) against one-sided normals, single units and all together."""
        n, units = self.size.gaussian_inputs, self.size.units
        layer = study_layer(n, units, seed=0)
        exact = gaussian_layer(layer.weight.detach(), layer.bias.detach())
        single = of_units(exact, n)
        x = torch.randn(self.size.samples, n, generator=torch.Generator().manual_seed(1))
        some = nn.Sequential(study_layer(n, min(units, 512), seed=0), nn.ReLU())
        model = first_layer_model(load(some), x)
        errors = tuple(float(v.std()) / math.sqrt(units) for v in (single.mean, single.deviation))
        self.claim(
            claims.theory((model.mean, model.deviation), errors),
            claims.first_layer("all activations", (0.25, 0.35), (single.mean, single.deviation), 2, single),
            claims.first_layer("positive ones", (0.4685, 0.3489), (single.positive_mean, single.positive_deviation), 4, single),
            claims.one_unit(STATED_UNIT, single),
            claims.moment_equations(),
        )
        pictures = first_layer_model(load(self.fresh("none", 1, 0)), self.split[0])
        self.measured["first_layer"] = {"N(0, I)": model_row(model), "images": model_row(pictures)}
        self.draw("first_layer", draw.first_layer({"N(0, I)": model, f"{NAMES[self.data]}, untrained": pictures}))
        self.cut(x, exact)

    def cut(self, x: Tensor, exact: Any) -> None:
        sizes = (self.size.gaussian_inputs, self.size.wide_inputs)
        apart = {}
        for n in sizes:
            layer = study_layer(n, self.size.units, seed=2)
            apart[n] = (layer.bias.abs() / layer.weight.norm(dim=1)).detach()
        self.claim(claims.hyperplanes(apart))
        self.draw("hyperplanes", draw.hyperplanes(apart))
        self.draw("batch_norm_axes", draw.axes_of_batch_norm(exact, x[:2000]))

    # -- section 4.3 and 4.4: 0 and 1, second layers, variances

    def models(self) -> None:
        """Read layers as 0 and 1, look at the second layer's law, and follow variances through the schemes."""
        self.bits()
        self.law()
        self.variances()

    def bits(self) -> None:
        flat, n = self.size.depths[1], self.size.gaussian_inputs
        x = torch.randn(min(2000, self.size.samples), n, generator=torch.Generator().manual_seed(3))
        images = self.split[0][:2000]
        on_noise = [load(network("none", [n, *self.hidden[flat], 10], x, seed)) for seed in range(self.size.networks)]
        on_images = [load(self.fresh("none", flat, seed)) for seed in range(self.size.networks)]
        self.signs("N(0, I)", on_noise, x)
        self.signs("untrained network on images", on_images, images)
        found = {
            "N(0, I), untrained": binary_approximation(on_noise[0], x),
            f"{NAMES[self.data]}, untrained": binary_approximation(on_images[0], images),
            f"{NAMES[self.data]}, trained": binary_approximation(load(self.flat.model), images),
        }
        self.measured["as_bits"] = {name: result.to_dict()["layers"] for name, result in found.items()}
        self.draw("binary_approximation", draw.as_bits(found))

    def signs(self, inputs: str, nets: Sequence[Network], x: Tensor) -> None:
        shares = [binary_approximation(net, x).layers[0].plain for net in nets]
        rows = [propagation(net, x).layers[1] for net in nets]
        common = mean(1 - row.variance / row.second_moment for row in rows)
        self.claim(claims.as_bits(shares, inputs, self.size.width, common))

    def law(self) -> None:
        found = [second_layer_law(bits, bias=b, draws=self.size.draws) for bits in (2, 3) for b in (1e-9, 1.0)]
        self.draw("second_layer_law", draw.second_layer(found))
        self.claim(*(claims.second_layer(r.bits, r.bias, r.p_value, float(r.frequencies[[0, -1]].mean())) for r in found))

    def variances(self) -> None:
        depth, shown = self.size.depths[0], ("none", "xavier", "he", "selu", "ours")
        images = self.split[0][:2000]
        noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(4))
        classes = int(self.split[1].max()) + 1
        found = {
            name: {s: propagation(load(network(s, self.widths(depth, x, classes), x, 0)), x) for s in shown}
            for name, x in ((NAMES[self.data], images), ("N(0, I)", noise))
        }
        self.draw("propagation", draw.propagation(found))
        on_noise = found["N(0, I)"]
        expected = {"none": 1 / 6, "xavier": 0.5, "he": 1.0}
        for scheme, gain in expected.items():
            rows = on_noise[scheme].layers[1:-1]
            self.claim(claims.gains(scheme, [row.gain for row in rows], gain))
        self.measured["propagation"] = {
            name: {s: [asdict(row) for row in r.layers] for s, r in schemes.items()} for name, schemes in found.items()
        }

    def widths(self, depth: int, x: Tensor, classes: int) -> list[int]:
        return [x.shape[1], *[self.size.width] * depth, classes]

    # -- what is kept

    def write(self, seconds: float) -> None:
        kept = {
            "study": "activation patterns",
            "data": self.data,
            "inputs": {
                "training": len(self.split[0]),
                "test": len(self.split[2]),
                "normalised": "mean 0, deviation 1 a channel",
            },
            "training": {o: OPTIMISER_WORDS[o] for o in OPTIMISERS} | {"batch": BATCH, "first_batch": FIRST},
            "sizes": asdict(self.size),
            "seconds": seconds,
            "networks_of_earlier_runs": self.read,
            "machine": {"cores": os.cpu_count(), "threads": torch.get_num_threads(), "python": platform.python_version()}
            | {"torch": torch.__version__},
            "agree": sum(c.agrees is True for c in self.claims),
            "differ": sum(c.agrees is False for c in self.claims),
            "claims": [asdict(c) for c in self.claims],
            "measured": self.measured,
        }
        (self.out / "activation_patterns.json").write_text(compact(shortened(kept)) + "\n")
        print(claims.table(self.claims))
        print(f"\n{kept['agree']} agree, {kept['differ']} differ; {seconds:.0f} s")
        print("rank correlations of saturation before training")
        for among in ("all", "within", "within, without the default"):
            for what, c in self.measured["saturation_and_training"][among].items():
                print(f"  {among}, with {what.replace('_', ' ')}: {in_words(c)}")
        found = self.measured["saturation_by_training"]
        print(f"  with saturation after training: {in_words(found['order_kept'])}")
        print(f"saturation of networks spreads by {found['spread']['before']:.3f} before, {found['spread']['after']:.3f} after")


def normalised(split: Sequence[Tensor], *, pixels: bool) -> Split:
    """Return images flattened, with mean 0 and deviation 1 over the training images, for each channel or for each pixel."""
    x, y, other, other_y = split
    axes = (0,) if pixels else (0, 2, 3) if x.ndim == 4 else (0, 1)
    centre, spread = x.mean(axes, keepdim=True), x.std(axes, keepdim=True)

    def scaled(images: Tensor) -> Tensor:  # pixels that never change in training become 0
        return torch.where(spread > 1e-6, (images - centre) / spread.clamp(min=1e-6), 0.0).flatten(1)

    return scaled(x), y, scaled(other), other_y


def study_layer(inputs: int, units: int, seed: int) -> nn.Linear:
    """Return a layer with weights and biases uniform in +-1/sqrt(inputs)."""
    torch.manual_seed(seed)
    return nn.Linear(inputs, units)


def of_units(layer: Any, inputs: int) -> Units:
    """Return exact moments of single units: of their activations, and of the positive ones among these."""
    positive = layer.mean / layer.active
    square = (layer.mean.square() + layer.deviation.square()) / layer.active
    return Units(inputs, layer.mean, layer.deviation, positive, (square - positive.square()).sqrt())


def within(groups: Iterable[Sequence[Run]], what: str) -> dict[str, float | int]:
    """Return how saturation before training goes with what is reached, among networks of one depth and optimiser."""
    return claims.within_groups([([r.saturation for r in g], [r.last(what) for r in g]) for g in groups])


def scheme_row(run: Run) -> dict[str, Any]:
    """Return what is worth keeping of a run: where it began, where it ended, epoch by epoch in between."""
    recording = run.recording
    names = ("train_loss", "test_loss", "train_accuracy", "test_accuracy")
    return {
        "scheme": run.scheme,
        "depth": run.depth,
        "optimiser": run.optimiser,
        "saturation_before": recording.saturation()[0].tolist(),
        "saturation_after": recording.saturation()[-1].tolist(),
        "distance_before": recording.distances()[0].tolist(),
        "distance_after": recording.distances()[-1].tolist(),
        "law_before": [claims.nearest(recording.active(k)[0]) for k in range(run.depth)],
        "law_after": [claims.nearest(recording.active(k)[-1]) for k in range(run.depth)],
        **{name: recording.scalars(name).tolist() for name in names},
    }


def test_row(result: Independence) -> dict[str, Any]:
    return {**result.to_dict(), "excess": result.excess}


def constellation_row(result: Constellations) -> dict[str, Any]:
    """Return the scores of a curve and of its nulls, and what constellations in the study's sense there are."""
    curve = result.group_curve()
    most = int(curve.inputs.argmax())
    return {
        "normalised": result.normalised,
        "nulls": {null.kind: (float(null.scores.mean()) / result.size - 1) / (len(result) - 1) for null in result.nulls},
        "most_inputs_in_constellations": int(curve.inputs[most]),
        "constellations_there": int(curve.constellations[most]),
        "threshold": most,
    }


def in_words(c: dict[str, float | int]) -> str:
    return f"{c['value']:+.2f}, 95 % {c['low']:+.2f} to {c['high']:+.2f}, p = {c['p_value']:.2g}"


def model_row(model: Any) -> dict[str, Any]:
    return {k: v for k, v in model.to_dict().items() if k != "distances"}


def mean(values: Any) -> float:
    found = list(values)
    return sum(found) / len(found)


def compact(value: Any) -> str:
    """Return JSON with a line for each entry, and lists of plain values on one line."""
    lists = re.compile(r"\[\s+([^\[\]{}]*?)\s+\]")
    return lists.sub(lambda m: f"[{' '.join(m[1].split())}]", json.dumps(value, indent=1))


def shortened(value: Any) -> Any:
    """Return the value with numbers of five digits, and None for NaN."""
    if isinstance(value, dict):
        return {str(k): shortened(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [shortened(v) for v in value]
    if isinstance(value, float):
        return float(f"{value:.5g}") if math.isfinite(value) else None
    return value


if __name__ == "__main__":
    main()
