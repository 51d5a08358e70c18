"""The command `patterns`: which units fire, how far apart inputs are by them, and what neighbours and clusters tell."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from .._files import write_atomically
from ..constellations import Constellations, constellations
from ..data import Data, read_data
from ..errors import FileError, InputError
from ..hamming import Hamming, hamming
from ..independence import Independence, independence_test
from ..network import Network, patterns
from ..pattern import Frequencies, Patterns
from ..pattern_neighbours import NeighbourAccuracy, neighbour_accuracy, pattern_neighbours
from .arguments import add_command, add_model, add_output, add_seed, positive
from .inputs import network
from .output import answer, refuse_pictures_nowhere, say, write_figure, write_picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_INPUTS = 10_000
_ALL_PAIRS, _PAIRS = 5000, 1_000_000  # up to so many inputs all pairs are counted, beyond so many random ones
_QUERIES, _VALUES = 500, 1 << 26  # inputs whose neighbours vote, and numbers that are kept for them at most
_PERMUTATIONS, _TESTED, _TEST_WORK = 99, 1000, 1e9  # the test, its inputs, and inputs * units^2 of one permutation
_LARGEST_TEST = 1 << 14
_ROWS, _COLUMNS = 8, 9  # of the grid of neighbours


@final
@dataclass(frozen=True, eq=False, slots=True)
class _Found:
    """Everything that was asked; None where it was not, or makes no sense for these inputs."""

    data: Data
    patterns: Patterns
    frequencies: Frequencies
    distances: Hamming | None
    votes: NeighbourAccuracy | None
    clusters: Constellations | None
    tests: dict[str, Independence | str]


def add(commands: Any) -> None:
    """Add the command."""
    command = add_command(
        commands,
        "patterns",
        "which units fire, and how alike inputs are by them",
        "Of every layer: how often its units are active over the inputs, in how many units two inputs differ (within and"
        " between classes where labels are known), and how often the inputs with the nearest patterns vote for the right"
        " label, beside those nearest by value. Without MODEL: the built-in digits network.",
        "polylens patterns model.onnx --data t10k-images-idx3-ubyte.gz --plot distances.png",
        "polylens patterns model.onnx --data images.npz --clusters --test --plots pictures",
        "polylens patterns model.onnx --data images.npy --layer Relu_4 -o patterns.npz --json",
    )
    add_model(command, optional=True)
    command.add_argument("--data", metavar="FILE", help="inputs: .npy, .npz, IDX (MNIST) or CIFAR-10 binary, gzipped or not")
    command.add_argument("--labels", metavar="FILE", help="class numbers as .npy, .npz or IDX, where --data has none")
    command.add_argument(
        "--layer", metavar="NAME", action="append", help="this layer only; may be given several times (default: all)"
    )
    command.add_argument(
        "--limit", metavar="N", type=positive, default=_INPUTS, help="the first N inputs (default: %(default)s)"
    )
    command.add_argument("--neighbours", metavar="K", type=positive, help="how many of the nearest vote (default: 10)")
    command.add_argument("--clusters", action="store_true", help="cluster the patterns, beside random ones")
    command.add_argument("--test", action="store_true", help="test whether units switch independently, layer by layer")
    add_seed(command)
    command.add_argument(
        "-o", "--out", metavar="FILE", help="the patterns, as .npz: for each layer the pieces (inputs, *shape) under its name"
    )
    drawn = command.add_mutually_exclusive_group()
    drawn.add_argument("--plot", metavar="FILE", help="draw the distances, layer by layer; .png, .pdf or .svg")
    drawn.add_argument("--plots", metavar="DIR", help="draw everything that was found, as .png files in a directory")
    add_output(command)
    command.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    _refuse_before_the_work(options)
    net = network(options)
    found = _found(options, net, _data(options, net))
    if options.plot:
        _draw_distances(found, options.plot)
    if options.out:
        _write_patterns(found.patterns, options.out)
    names = _draw_all(options, found) if options.plots else []
    return answer(options, lambda: _dict(options, found, names), lambda: _text(options, found, names))


# -- what is asked


def _refuse_before_the_work(options: argparse.Namespace) -> None:
    refuse_pictures_nowhere(options.plot)
    if options.model and not options.data:
        raise InputError("patterns: expected inputs, --data FILE; got none")
    if options.labels and not options.data:
        raise InputError("--labels: expected --data FILE that they belong to; got none")
    if options.out and not options.out.endswith(".npz"):
        raise FileError(f"--out {options.out}: expected a name that ends in .npz")
    for option, name, is_taken in (("--out", options.out, Path.is_dir), ("--plots", options.plots, Path.is_file)):
        if name and (is_taken(Path(name)) or not Path(name).absolute().parent.is_dir()):
            what = "file" if option == "--out" else "directory"
            raise FileError(f"{option} {name}: expected a {what} in a directory that exists")


def _data(options: argparse.Namespace, net: Network) -> Data:
    if options.data:
        say(options, f"reading {options.data}")
        return read_data(options.data, options.labels).first(options.limit).fitted(net.input_shape)
    from ..zoo import digits_data

    return digits_data("test").first(options.limit)


def _layers(options: argparse.Namespace, seen: Patterns) -> list[str]:
    """Return the names of the layers that were asked for, each once; a number that is no name is a position."""
    known = [layer.name for layer in seen.layers]
    by_place = {str(place): name for place, name in enumerate(known)} | {name: name for name in known}
    return list(dict.fromkeys(by_place.get(name, name) for name in options.layer or ()))


def _found(options: argparse.Namespace, net: Network, data: Data) -> _Found:
    if not net.gates:
        raise InputError("patterns: expected a network with gates, whose units switch; this one has none")
    say(options, f"patterns of {len(data):,} inputs")
    seen = patterns(net, data.inputs)
    chosen = seen.layer(*_layers(options, seen)) if options.layer else seen
    return _Found(
        data,
        chosen,
        chosen.frequencies(),
        _distances(options, chosen, data),
        _votes(options, net, chosen, data),
        _clusters(options, chosen, data),
        _tests(options, chosen) if options.test else {},
    )


def _distances(options: argparse.Namespace, seen: Patterns, data: Data) -> Hamming | None:
    if len(seen) < 2:
        return None
    say(options, "distances of pairs")
    pairs = None if len(seen) <= _ALL_PAIRS else _PAIRS
    return hamming(seen, labels=None if data.labels is None else data.labels.numpy(), pairs=pairs, seed=options.seed)


def _votes(options: argparse.Namespace, net: Network, seen: Patterns, data: Data) -> NeighbourAccuracy | None:
    """Return how votes of neighbours fare, in the chosen layers and among the inputs; None without labels or neighbours."""
    if data.labels is None or len(data) < 2:
        return None
    queries = max(1, min(_QUERIES, _VALUES // max(1, net.num_units + math.prod(net.input_shape))))
    say(options, f"nearest neighbours of {min(queries, len(data)):,} inputs")
    k = options.neighbours or min(10, len(data) - 1)
    votes = neighbour_accuracy(net, data.inputs, data.labels, k, queries=queries, seed=options.seed)
    if not options.layer:
        return votes
    names = {"input", *(layer.name for layer in seen.layers)}
    return replace(votes, table=tuple(line for line in votes.table if line.name in names))


def _clusters(options: argparse.Namespace, seen: Patterns, data: Data) -> Constellations | None:
    if not options.clusters:
        return None
    say(options, "clusters, beside those of random patterns")
    return constellations(seen, labels=data.labels, seed=options.seed)


def _tests(options: argparse.Namespace, seen: Patterns) -> dict[str, Independence | str]:
    """Return the test of every layer, or why there is none."""
    found: dict[str, Independence | str] = {}
    for layer in seen.layers:
        size = layer.num_units
        if len(seen) < 3 or not 0 < size <= _LARGEST_TEST:
            found[layer.name] = f"not tested: it takes three inputs, and 1 to {_LARGEST_TEST:,} units; there are {size:,}"
            continue
        say(options, f"independence of {size:,} units of {layer.name}")
        few = max(100, min(_TESTED, int(_TEST_WORK / size**2)))
        found[layer.name] = independence_test(seen.layer(layer.name), permutations=_PERMUTATIONS, inputs=few, seed=options.seed)
    return found


# -- what is written


def _write_patterns(seen: Patterns, name: str) -> None:
    """Write the pieces of every layer under its name, whatever characters that has."""
    import zipfile

    import numpy as np

    with write_atomically(name) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
        for i, layer in enumerate(seen.layers):
            with archive.open(f"{layer.name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, seen.pieces(i).numpy(), allow_pickle=False)


def _draw_distances(found: _Found, name: str) -> None:
    if found.distances is None:
        raise InputError("--plot: expected two inputs or more, which have distances; got 1")
    rows = len(found.distances.layers)
    write_picture(found.distances, name, (7.2, 3.6 if rows < 2 else 1.4 + 0.55 * min(rows, 20)))


def _draw_all(options: argparse.Namespace, found: _Found) -> list[str]:
    """Draw one file for everything that was found, and return the names."""
    Path(options.plots).mkdir(exist_ok=True)
    figures = _figures(found)
    for name, figure in figures.items():
        write_figure(figure(), str(Path(options.plots, f"{name}.png")))
    return [str(Path(options.plots, f"{name}.png")) for name in figures]


def _figures(found: _Found) -> dict[str, Callable[[], Figure]]:
    """Return the figures that there are, each to be made when it is written."""
    from ..plotting.base import frequency_figure, picture
    from ..plotting.patterns import distance_figure

    figures: dict[str, Callable[[], Figure]] = {"frequencies": lambda: frequency_figure(found.frequencies)}
    if (distances := found.distances) is not None:
        figures["distances"] = lambda: distance_figure(distances)
    if len(found.data) > 1 and picture(found.data.inputs[0]) is not None:
        figures["neighbours"] = lambda: _neighbours(found)
    if (votes := found.votes) is not None:
        figures["votes"] = lambda: _one(votes, (7.2, 3.8))
    if (clusters := found.clusters) is not None:
        figures["clusters"] = lambda: _one(clusters, (7.2, 4.2), plateaus=1)
    if tests := {name: test for name, test in found.tests.items() if isinstance(test, Independence)}:
        figures["independence"] = lambda: _stacked(tests)
    return figures


def _one(result: Any, size: tuple[float, float], **options: Any) -> Figure:
    from ..plotting.base import new_figure, style

    with style():
        figure = new_figure(*size)
        result.plot(figure.subplots(), **options)
    return figure


def _stacked(tests: dict[str, Independence]) -> Figure:
    from ..plotting.base import new_figure, style

    with style():
        figure = new_figure(6.4, 3.2 * len(tests))
        for (name, test), ax in zip(tests.items(), figure.subplots(len(tests), squeeze=False).flat, strict=True):
            test.plot(ax).set_title(f"{name}: {test.num_units:,} {test.what}")
    return figure


def _neighbours(found: _Found) -> Figure:
    """Return a grid: for the first input of each class, or the first inputs, those with the nearest patterns."""
    labels, count = found.data.labels, len(found.data)
    shown = list(range(min(_ROWS, count)))
    if labels is not None:
        shown = [int((labels == c).nonzero()[0]) for c in labels.unique().tolist()[:_ROWS]]
    k = min(_COLUMNS, count - 1)
    near = pattern_neighbours(found.patterns, shown, k, images=found.data.inputs, labels=labels)
    return _one(near, (0.6 + 0.92 * (k + 1), 0.7 + 1.12 * len(shown)))


# -- what is told


def _dict(options: argparse.Namespace, found: _Found, names: list[str]) -> dict[str, Any]:
    result: dict[str, Any] = {
        "inputs": len(found.data),
        "labelled": found.data.labels is not None,
        "distinct_patterns": len(found.patterns.unique().patterns),
        "layers": [_finite(row) for row in found.frequencies.units()],
        "distances": None if found.distances is None else _without_counts(found.distances.to_dict()),
        "neighbours": None if found.votes is None else found.votes.to_dict(),
    }
    if found.clusters is not None:
        result["clusters"] = _cluster_dict(found.clusters)
    if found.tests:
        tests = {name: t.to_dict() if isinstance(t, Independence) else None for name, t in found.tests.items()}
        result["independence"] = tests
    written = {"out": options.out, "plot": options.plot, "plots": names}
    return result | {key: value for key, value in written.items() if value}


def _finite(row: dict[str, Any]) -> dict[str, Any]:
    return {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in row.items()}


def _without_counts(value: Any) -> Any:
    """Return distances without the number of pairs at each distance, which grow with the network."""
    if isinstance(value, dict):
        return {key: _without_counts(part) for key, part in value.items() if key != "counts"}
    return [_without_counts(part) for part in value] if isinstance(value, list) else value


def _cluster_dict(found: Constellations) -> dict[str, Any]:
    plateaus = found.plateaus()
    first = found.contents(plateaus[0].start).to_dict() if plateaus and found.labels is not None else None
    size, count = max(1, found.size), max(1, len(found) - 1)
    nulls = {null.kind: (float(null.scores.mean()) / size - 1) / count for null in found.nulls}
    score = {"score": found.score, "normalised": found.normalised, "normalised_of_random": nulls}
    return score | {"plateaus": [p._asdict() for p in plateaus], "first_plateau": first}


def _text(options: argparse.Namespace, found: _Found, names: list[str]) -> str:
    lines = [found.frequencies.summary(), f"  {len(found.patterns.unique().patterns):,} distinct patterns"]
    lines += ["" if found.distances is None else f"\n{found.distances.summary()}"]
    lines += [f"\n{found.votes.summary()}"] if found.votes is not None else []
    if found.data.labels is None:
        lines.append("\nno labels: nothing is told within and between classes, and no neighbours vote")
    lines += [f"\n{_cluster_text(found.clusters)}"] if found.clusters is not None else []
    lines += [f"\n{name}: {t if isinstance(t, str) else t.summary()}" for name, t in found.tests.items()]
    drawn = [options.plot] if options.plot else names
    lines += [f"\npatterns written to {options.out}"] if options.out else []
    return "\n".join([*lines, *([f"\ndrawn to {', '.join(drawn)}"] if drawn else [])])


def _cluster_text(found: Constellations) -> str:
    plateaus = found.plateaus(1)
    if not plateaus or found.labels is None:
        return found.summary()
    one = found.contents(plateaus[0].start)
    agreement = f"purity {one.purity:.1%}, adjusted Rand index {one.adjusted_rand:.3f}"
    where = f"{one.threshold:g} <= t < {plateaus[0].stop:g}, the longest range without a merge"
    return f"{found.summary()}\n  {where}, beside the labels: {agreement}"
