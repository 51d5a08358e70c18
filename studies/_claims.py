"""What the study states beside what was measured: every claim with the criterion that decides it.

A claim's function takes measured numbers and gives the verdict; it knows neither networks nor data.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor

from polylens.binary_approximation import LIMIT
from polylens.first_layer_model import sigma_from_deviation, sigma_from_mean

HALF, UNIFORM, SATURATED = "near 1/2", "near uniform", "near 0 or 1"
RANDOM = 10_000  # permutations and bootstrap samples of a rank correlation


@dataclass(frozen=True)
class Claim:
    """One statement of the study: what it `stated`, what is `ours`, whether they agree by `criterion`, and why (not).

    `agrees` is None where the two cannot be compared.
    """

    name: str
    where: str
    stated: str
    ours: str
    criterion: str
    agrees: bool | None
    why: str
    values: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Units:
    """Exact moments of single units of a first layer on N(0, I): each (units,)."""

    inputs: int
    mean: Tensor
    deviation: Tensor
    positive_mean: Tensor
    positive_deviation: Tensor


def references(shares: Tensor) -> dict[str, float]:
    """Return how far the frequencies of a layer's units are from each of three laws, in Wasserstein's distance.

    The laws are all mass at 1/2, the uniform one on [0, 1], and all mass at 0 and 1, in whatever parts.
    """
    p = shares.flatten().double().sort().values
    even = (torch.arange(len(p), dtype=torch.float64) + 0.5) / len(p)
    return {
        HALF: float((p - 0.5).abs().mean()),
        UNIFORM: float((p - even).abs().mean()),
        SATURATED: float(torch.minimum(p, 1 - p).mean()),
    }


def nearest(shares: Tensor) -> str:
    """Return the law to which the frequencies of a layer's units are nearest."""
    found = references(shares)
    return min(found, key=lambda law: found[law])


def rank_correlation(a: Sequence[float], b: Sequence[float], seed: int = 0) -> dict[str, float | int]:
    """Return Spearman's correlation, its two-sided permutation p-value, and the bootstrap's interval of 95 %."""
    random = np.random.default_rng(seed)
    x, y = np.asarray([a], float), np.asarray([b], float)
    value = float(_spearman(x, y)[0])
    null = _spearman(x, random.permuted(np.repeat(y, RANDOM, 0), axis=1))
    picks = random.integers(len(a), size=(RANDOM, len(a)))
    low, high = np.nanquantile(_spearman(x[0][picks], y[0][picks]), [0.025, 0.975])
    reached = int((np.abs(null) >= abs(value) - 1e-12).sum())
    return {"points": len(a), "value": value, "low": low, "high": high, "p_value": (reached + 1) / (RANDOM + 1)}


def within_groups(groups: Sequence[tuple[Sequence[float], Sequence[float]]], seed: int = 0) -> dict[str, float | int]:
    """Return the mean of the rank correlations within groups, each of which holds the same schemes in the same order.

    Schemes are what was drawn, not networks: the p-value permutes them, alike in all groups, and the interval of 95 % is the
    bootstrap's over them.
    """
    random = np.random.default_rng(seed)
    x, y = (np.asarray([group[side] for group in groups], float) for side in (0, 1))
    schemes = x.shape[1]

    def together(left: Any, right: Any) -> Any:
        return np.mean([_spearman(a[left], b[right]) for a, b in zip(x, y, strict=True)], axis=0)

    straight = np.arange(schemes)[None]
    value = float(together(straight, straight)[0])
    order = random.permuted(np.repeat(straight, RANDOM, 0), axis=1)
    null = together(np.repeat(straight, RANDOM, 0), order)
    picks = random.integers(schemes, size=(RANDOM, schemes))
    low, high = np.nanquantile(together(picks, picks), [0.025, 0.975])
    reached = int((np.abs(null) >= abs(value) - 1e-12).sum())
    return {"schemes": schemes, "value": value, "low": low, "high": high, "p_value": (reached + 1) / (RANDOM + 1)}


def _spearman(x: Any, y: Any) -> Any:
    """Return the rank correlations of rows (samples, points), ties at their mean rank, NaN where a row is constant."""
    ranks = [rankdata(v, axis=1) for v in (x, y)]
    a, b = (r - r.mean(1, keepdims=True) for r in ranks)
    size = np.sqrt((a * a).sum(1) * (b * b).sum(1))
    return np.where(size > 0, (a * b).sum(1) / np.where(size > 0, size, 1), np.nan)


def trains(accuracy: float, chance: float, images: int) -> bool:
    """Say whether an accuracy is above that of naming the most frequent class, by more than three standard errors."""
    return accuracy > chance + 3 * math.sqrt(chance * (1 - chance) / images)


# -- section 2: activation patterns of images


def layer_law(layers: Sequence[Sequence[Tensor]], which: Sequence[int], law: str, inputs: str, stated: str) -> Claim:
    """Decide what law the frequencies of some layers follow, over several networks: `layers` of each network in order."""
    chosen = [net[k] for net in layers for k in which]
    kinds = [[nearest(net[k]) for k in which] for net in layers]
    right = sum(all(kind == law for kind in net) for net in kinds)
    distances = {name: _mean([references(p)[name] for p in chosen]) for name in (HALF, UNIFORM, SATURATED)}
    by_layer = [sum(nearest(net[k]) == law for net in layers) for k in which]
    agrees = right > len(layers) / 2
    said = ", ".join(f"{name}: {value:.3f}" for name, value in distances.items())
    others = sorted({kind for net in kinds for kind in net} - {law})
    counted = f"layer by layer, {', '.join(map(str, by_layer))} of {len(layers)} networks are so"
    return Claim(
        name=f"P(active) in layer{'s' if len(which) > 1 else ''} {_range(which)}, untrained, {inputs}",
        where="section 2.1, Figure 1",
        stated=stated,
        ours=f"{law} in {right} of {len(layers)} networks; mean distance {said}",
        criterion=f"of three laws the nearest one (Wasserstein) is '{law}' at all these layers in most networks",
        agrees=agrees,
        why="" if agrees else f"{counted}; others are {', '.join(others)}",
        values={"networks": len(layers), "so": right, "by_layer": by_layer, "distances": distances},
    )


def does_not_train(depth: int, optimiser: str, accuracies: Sequence[float], epochs: int, chance: float, images: int) -> Claim:
    """Decide whether the deep default network stays at chance; `accuracies`, one a network, are on training data."""
    learnt = [trains(a, chance, images) for a in accuracies]
    agrees = not any(learnt)
    other = f"it learns with this optimiser, to {max(accuracies):.1%}; the study does not name its own"
    return Claim(
        name=f"{depth} layers by default do not train, {optimiser}",
        where="section 2.1",
        stated="the training loss is not minimised; 10 % after 5 epochs",
        ours=f"training accuracy {', '.join(f'{a:.1%}' for a in accuracies)} after {epochs} epochs; chance {chance:.1%}",
        criterion="training accuracy within three standard errors of naming the most frequent class",
        agrees=agrees,
        why="" if agrees else other,
        values={"train_accuracy": list(accuracies), "epochs": epochs, "chance": chance},
    )


def batch_norm_balances(shares: Sequence[Tensor], accuracy: float, chance: float, images: int) -> Claim:
    """Decide whether batch norm keeps all layers near 1/2 and lets deep networks train."""
    kinds = [nearest(p) for p in shares]
    learns = trains(accuracy, chance, images)
    agrees = learns and all(kind == HALF for kind in kinds)
    lost = [f"layer {k + 1} is {kind}" for k, kind in enumerate(kinds) if kind != HALF]
    lost += [] if learns else ["it does not learn"]
    mean = _mean([float((2 * p - 1).abs().mean()) for p in shares])
    return Claim(
        name=f"batch norm: P(active) close to 0.5 in all {len(shares)} layers, and they train",
        where="sections 2.1 and 3",
        stated="probability at each layer close to 0.5, and we can train",
        ours=f"saturation {mean:.3f} (0: all balanced), training accuracy {accuracy:.1%}",
        criterion=f"'{HALF}' is the nearest law at every layer after training, and accuracy is above chance",
        agrees=agrees,
        why="; ".join(lost),
        values={"saturation": mean, "train_accuracy": accuracy},
    )


def balanced_by_learning(
    before: Sequence[float], after: Sequence[float], others: dict[str, tuple[Sequence[float], Sequence[float]]]
) -> Claim:
    """Decide whether distances of pairs, in parts of the units, come close to 1/2 by learning.

    `others` are mean distances before and after of the same network under other schemes, which do not decide.
    """
    rises = [b > a for a, b in zip(before, after, strict=True)]
    close = [abs(b - 0.5) <= 0.05 for b in after]
    agrees = all(rises) and all(close)
    gained = {name: _mean(b[1:]) - _mean(a[1:]) for name, (a, b) in others.items()}
    rising, falling = ([name for name, v in gained.items() if sign * v > 0.01] for sign in (1, -1))
    parts = [f"layer {k + 1} {'rises' if r else 'does not rise'}" for k, r in enumerate(rises)]
    return Claim(
        name=f"distances of pairs by learning, {len(after)} layers",
        where="section 2.2, Figure 2",
        stated="very close to 256/2 on each layer as learning goes",
        ours=f"mean distance over units {_row(before)} before, {_row(after)} after",
        criterion="the mean rises in every layer, and ends within 0.05 of 1/2 of the units",
        agrees=agrees,
        why=("" if agrees else "; ".join(parts) + "; ") + f"behind the first layer it rises with {', '.join(rising) or 'none'}"
        f" and falls with {', '.join(falling) or 'none'}",
        values={"before": list(before), "after": list(after), "rises": rising, "falls": falling},
    )


def fair_bits_before(found: dict[str, tuple[Sequence[float], float]], units: int, ratio: float) -> Claim:
    """Decide whether untrained patterns pass for fair bits: the first kind of inputs decides, the others stand beside it.

    For each kind of inputs: the p-values of several networks, and the mean over them of sum 2 p (1 - p), the mean distance that
    frequencies alone give. `ratio` is the variance of a pair's distance over that of independent units.
    """
    kind, (p, _) = next(iter(found.items()))
    passed = {name: sum(v >= 0.05 for v in values) for name, (values, _) in found.items()}
    told = "; ".join(
        f"{name}: frequencies alone put the mean distance at {middle:.2f}, {passed[name]} of {len(values)} pass"
        for name, (values, middle) in found.items()
    )
    return Claim(
        name="Bernoulli test before training",
        where="section 2.3.1, Figure 3",
        stated="p = 18 %",
        ours=f"p (as low a mean) {', '.join(f'{v:.1%}' for v in p)}; {passed[kind]} of {len(p)} networks pass",
        criterion="p is 5 % or more for most networks",
        agrees=passed[kind] > len(p) / 2,
        why=f"the null takes {1.96 * math.sqrt(units / 4 / 10_000):.2f} off {units / 2:g} for significant, though distances of"
        f" images vary {ratio:.1f} times as much as it thinks; {told}",
        values={f"p_lower, {name}": list(values) for name, (values, _) in found.items()} | {"variance_ratio": ratio},
    )


def fair_bits_after(p: float, draws: int, means: tuple[float, float], units: int) -> Claim:
    """Decide whether patterns after five epochs are told from fair bits; `means` are the mean distances before and after."""
    lowest = p <= 1 / (draws + 1) + 1e-12
    lower = means[1] < means[0]
    return Claim(
        name="Bernoulli test after five epochs",
        where="section 2.3.1, Figure 4",
        stated="p = 0 %: the mean distance is lower",
        ours=f"p {p:.2%}, the least that {draws} draws allow" if lowest else f"p {p:.2%}",
        criterion="p, for as low a mean, is below 0.5 % and so 0 % when rounded",
        agrees=p < 0.005,
        why=f"mean distance {means[0]:.2f} before, {means[1]:.2f} after, of {units / 2:g}"
        + ("" if lower else "; learning has not lowered it: it was low to begin with"),
        values={"p_lower": p, "mean_before": means[0], "mean_after": means[1]},
    )


# -- section 4: models


def hyperplanes(distances: dict[int, Tensor]) -> Claim:
    """Decide whether hyperplanes lie very close to the origin; distances of units by the number of inputs."""
    parts = {n: float(d.max()) / math.sqrt(n) for n, d in distances.items()}
    medians = {n: float(d.median()) for n, d in distances.items()}
    expected = {n: math.sqrt(3 / n) / 2 for n in distances}
    agrees = max(parts.values()) < 0.05
    return Claim(
        name="hyperplanes lie close to the origin",
        where="section 4.1, Figure 25",
        stated="all very close to the origin",
        ours=", ".join(f"n = {n}: median {medians[n]:.4f} (theory {expected[n]:.4f})" for n in distances),
        criterion="the farthest lies below 5 % of the length of an input from N(0, I), sqrt(n)",
        agrees=agrees,
        why=f"the farthest lies at {max(parts.values()):.1%} of it",
        values={"medians": medians, "theory": expected, "farthest_in_lengths": parts},
    )


def moment_equations(mean: float = 0.4685, deviation: float = 0.3489) -> Claim:
    """Decide whether the study's two deviations follow from its two moments, which are given to four digits."""
    first, second = sigma_from_mean(mean), sigma_from_deviation(mean, deviation)
    room = 5e-5
    agrees = abs(first - 0.5872) <= room * math.sqrt(math.pi / 2) + room and abs(second - 0.5842) <= 2 * room + room
    written = mean**2 + deviation  # as it stands, without the square
    return Claim(
        name="sigma from the two moment equations",
        where="section 4.2, equations 20 and 21",
        stated="0.5872 by the mean, 0.5842 by the deviation",
        ours=f"{first:.4f} and {second:.4f}",
        criterion="equal within the rounding of what goes in and of what comes out",
        agrees=agrees,
        why=f"equation 21 needs the square of the deviation: as written it gives {math.sqrt(written):.4f}",
        values={"by_mean": first, "by_deviation": second, "as_written": math.sqrt(written)},
    )


def first_layer(what: str, stated: tuple[float, float], ours: tuple[Tensor, Tensor], digits: int, units: Units) -> Claim:
    """Decide a mean and a deviation of first-layer activations; `ours` are those of single units, (units,) each."""
    room = 0.5 * 10**-digits
    means = [float(v.mean()) for v in ours]
    errors = [float(v.std()) / math.sqrt(len(v)) for v in ours]
    ranges = [tuple(float(q) for q in torch.quantile(v, torch.tensor([0.005, 0.995], dtype=v.dtype))) for v in ours]
    agrees = all(abs(m - s) <= 3 * e + room for m, s, e in zip(means, stated, errors, strict=True))
    inside = all(low - room <= s <= high + room for s, (low, high) in zip(stated, ranges, strict=True))
    spread = " and ".join(f"{low:.3f} to {high:.3f}" for low, high in ranges)
    alone = f"99 % of single units lie within {spread}: the stated ones are those of one unit"
    one = alone if inside else f"not even one of 100 single units is out of {spread}"
    return Claim(
        name=f"first layer, {what}",
        where="section 4.2, Figure 26",
        stated=f"mean {stated[0]:g}, deviation {stated[1]:g}",
        ours=f"{means[0]:.4f} ± {errors[0]:.4f}, {means[1]:.4f} ± {errors[1]:.4f} (n = {units.inputs}, {len(ours[0])} units)",
        criterion="mean over units within three standard errors and the rounding of the stated figures",
        agrees=agrees,
        why="" if agrees else one,
        values={"means": means, "errors": errors, "single_units": [list(r) for r in ranges], "inside": inside},
    )


def one_unit(stated: dict[str, float], units: Units) -> Claim:
    """Decide whether a single unit has all four moments of the study at once."""
    wanted = torch.tensor(list(stated.values()), dtype=torch.float64)
    have = torch.stack([units.mean, units.deviation, units.positive_mean, units.positive_deviation], 1)
    away = (have - wanted).abs().amax(1)
    best = int(away.argmin())
    agrees = float(away[best]) <= 0.005
    found = dict(zip(stated, have[best].tolist(), strict=True))
    return Claim(
        name="first layer, all four moments from one unit",
        where="section 4.2",
        stated=", ".join(f"{k} {v:g}" for k, v in stated.items()),
        ours=", ".join(f"{k} {v:.4f}" for k, v in found.items()),
        criterion="the nearest of the drawn units has all four within 0.005",
        agrees=agrees,
        why="its bias is positive, so it fires on more than half of the inputs"
        if agrees
        else f"the nearest of {len(away)} units is {float(away[best]):.4f} off",
        values={"nearest": found, "off": float(away[best])},
    )


def theory(measured: tuple[float, float], errors: tuple[float, float]) -> Claim:
    """Decide whether first-layer moments are those of B|Y|, Y normal of variance 1/3; biases add 1/n of that."""
    expected = (math.sqrt(1 / 3) / math.sqrt(2 * math.pi), math.sqrt((1 - 1 / math.pi) / 6))
    room = 0.01  # biases, and weights of a row that do not have length sqrt(1/3)
    off = [abs(m / t - 1) for m, t in zip(measured, expected, strict=True)]
    agrees = all(o <= room + 3 * e / t for o, e, t in zip(off, errors, expected, strict=True))
    return Claim(
        name="first layer, theory of B|Y|",
        where="section 4.2",
        stated=f"(ours) mean {expected[0]:.3f}, deviation {expected[1]:.3f}",
        ours=f"{measured[0]:.4f}, {measured[1]:.4f}",
        criterion="within 1 % and three standard errors",
        agrees=agrees,
        why=f"off by {off[0]:.2%} and {off[1]:.2%}; biases alone raise both",
        values={"expected": list(expected), "measured": list(measured)},
    )


def as_bits(shares: Sequence[float], inputs: str, width: int, constant: float) -> Claim:
    """Decide whether the next layer's signs survive 0 and 1 in 79 % of cases; one share a network.

    `constant` is the part of the next pre-activations' second moment that all inputs have in common.
    """
    agrees = abs(_mean(shares) - 0.79) <= 0.01 and all(abs(s - 0.79) <= 0.02 for s in shares)
    low, high = min(shares), max(shares)
    common = (
        f"{constant:.0%} of the next pre-activations' second moment is common to all inputs, 1/pi = {1 / math.pi:.0%} for |Y|"
    )
    found = "more" if _mean(shares) > LIMIT else "fewer"
    return Claim(
        name=f"0-1 agreement, {inputs}",
        where="section 4.3.2",
        stated="always very close to 79 %",
        ours=f"{low:.1%} to {high:.1%}, mean {_mean(shares):.1%}, over {len(shares)} networks (wide ones: {LIMIT:.1%})",
        criterion="within two points of 79 % in every network, and within one in their mean",
        agrees=agrees,
        why=common if agrees else f"{common}; {found} signs stay, and layers of {width} units scatter by {high - low:.1%}",
        values={"shares": list(shares), "constant": constant},
    )


def second_layer(bits: int, bias: float, p: float, ends: float) -> Claim:
    """Decide whether units that read fair bits fire on k of 2^n patterns as the study states."""
    agrees = p >= 0.001
    return Claim(
        name=f"second-layer law, n = {bits}, " + ("the study's bias" if bias == 1 else "bias near 0"),
        where="section 4.3.3, equations 30 and 31",
        stated=f"{2.0 ** -(bits + 1):.4g} at both ends, {2.0**-bits:.4g} between",
        ours=f"{ends:.4f} at the ends; chi-square p = {p:.2g}",
        criterion="the chi-square test does not reject it at 0.1 %",
        agrees=agrees,
        why="" if agrees else _against_the_law(ends, 2.0 ** -(bits + 1)),
        values={"p_value": p, "ends": ends},
    )


def _against_the_law(ends: float, stated: float) -> str:
    if ends > 1.5 * stated:
        return "a bias of its own moves units to never and to always; the law is that of bias to 0"
    return "the ends are as stated, and what lies between is not"


def gains(scheme: str, measured: Sequence[float], expected: float) -> Claim:
    """Decide whether the second moment goes from layer to layer by the factor of the theory: `measured` one a layer."""
    middle = float(np.median(measured))
    agrees = abs(middle / expected - 1) <= 0.05
    return Claim(
        name=f"factor of the second moment a layer, {scheme}",
        where="section 3 (theory)",
        stated=f"(theory) {expected:.4g}",
        ours=f"median {middle:.4g} over {len(measured)} layers",
        criterion="the median over the layers within 5 %",
        agrees=agrees,
        why="" if agrees else f"off by {middle / expected - 1:+.0%}",
        values={"gains": list(measured), "expected": expected},
    )


def accuracies(stated: dict[str, str], ours: dict[str, float]) -> list[Claim]:
    """Put the study's accuracies beside ours, without a verdict."""
    return [
        Claim(
            name=f"accuracy, {scheme}",
            where="section 3",
            stated=words,
            ours=f"test accuracy {ours[scheme]:.1%}",
            criterion="none",
            agrees=None,
            why="the study has all of CIFAR-10 and other epochs; not comparable",
            values={"test_accuracy": ours[scheme]},
        )
        for scheme, words in stated.items()
        if scheme in ours
    ]


def table(claims: Sequence[Claim]) -> str:
    """Return the claims as text, one below the other."""
    lines = []
    for claim in claims:
        verdict = {True: "agrees", False: "DIFFERS", None: "not compared"}[claim.agrees]
        lines += [f"{verdict:12} {claim.name} ({claim.where})"]
        lines += [f"{'':12}   stated: {claim.stated}", f"{'':12}   ours:   {claim.ours}"]
        lines += [f"{'':12}   why:    {claim.why}"] if claim.why else []
    return "\n".join(lines)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


def _row(values: Sequence[float]) -> str:
    return " ".join(f"{v:.3f}" for v in values)


def _range(which: Sequence[int]) -> str:
    return str(which[0] + 1) if len(which) == 1 else f"{which[0] + 1}-{which[-1] + 1}"
