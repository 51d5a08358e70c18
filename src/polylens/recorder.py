"""Activation patterns during learning: a recorder that a training loop calls, and what it kept, in memory or in files."""

from __future__ import annotations

import hashlib
import importlib
import io
import json
import math
import re
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, final

import numpy as np
import torch
from torch import Tensor, nn

from ._check import ArrayLike, array, as_tensor, finite, floating, whole
from ._evaluating import evaluating
from ._files import write_atomically
from ._types import Result
from .constellations import constellations
from .convert import load
from .errors import FileError, InputError
from .hamming import hamming
from .network import Network, patterns
from .pattern import Frequencies, Patterns, UnitLayer

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMAT = 1
_ROWS = 1024  # inputs at once
T = TypeVar("T")
_NAME = re.compile(r"step-(\d+)\.npz")


@final
@dataclass(frozen=True, eq=False, slots=True)
class Snapshot:
    """What was seen at one step: `frequencies`; `distances`, a tensor (units + 1,) for each layer that counts random pairs
    by their Hamming distance; `scores` (layers,), the normalised integral of each layer's constellation curve, NaN where
    none was asked for; and the caller's own `scalars`, such as losses.
    """

    step: int
    frequencies: Frequencies
    distances: tuple[Tensor, ...]
    scores: Tensor
    scalars: dict[str, float]

    @property
    def saturation(self) -> Tensor:
        """How far units are from balanced, by layer: a mean over the units; 0 all balanced, 1 none ever switches.

        Of a unit of two pieces it is |2 P(active) - 1|, of one of p pieces (p m - 1) / (p - 1), m the share of the most
        frequent piece. NaN for a layer of no units.
        """
        found = [_saturation(c.double() / self.frequencies.total) for c in self.frequencies.counts]
        return torch.stack(found) if found else torch.zeros(0, dtype=torch.float64)

    @property
    def mean_distances(self) -> Tensor:
        """The mean Hamming distance of random pairs, by layer, in parts of the layer's units."""
        means = [float((d * torch.arange(len(d))).sum()) / max(1, int(d.sum())) / max(1, len(d) - 1) for d in self.distances]
        return torch.tensor(means, dtype=torch.float64)


@final
@dataclass(frozen=True, eq=False, slots=True, repr=False)
class Recording(Result):
    """What a recorder saw, in the order of the steps; `snapshots` have the same layers and inputs throughout."""

    snapshots: tuple[Snapshot, ...]

    def __len__(self) -> int:
        return len(self.snapshots)

    def __getitem__(self, index: int) -> Snapshot:
        return self.snapshots[index]

    def __repr__(self) -> str:
        return f"Recording({len(self)} steps, {len(self.layers)} layers)"

    @property
    def layers(self) -> tuple[UnitLayer, ...]:
        """The layers that were watched."""
        return self.snapshots[0].frequencies.layers if self.snapshots else ()

    @property
    def steps(self) -> list[int]:
        """The steps at which something was recorded."""
        return [s.step for s in self.snapshots]

    def active(self, layer: str | int) -> Tensor:
        """Return how often each unit of a layer was active, step by step: (steps, *shape)."""
        return self._stacked([s.frequencies.active(layer) for s in self.snapshots])

    def saturation(self) -> Tensor:
        """Return how far layers are from balanced, (steps, layers)."""
        return self._stacked([s.saturation for s in self.snapshots])

    def distances(self) -> Tensor:
        """Return the mean distances of random pairs in parts of the layers' units, (steps, layers)."""
        return self._stacked([s.mean_distances for s in self.snapshots])

    def scalars(self, name: str) -> Tensor:
        """Return one of the caller's own numbers, (steps,), NaN where it was not given."""
        return torch.tensor([s.scalars.get(name, math.nan) for s in self.snapshots], dtype=torch.float64)

    def summary(self) -> str:
        lines = [repr(self)]
        for s in self.snapshots:
            own = "".join(f", {name} {value:.4g}" for name, value in s.scalars.items())
            spread = " ".join(f"{v:.2f}" for v in s.saturation)
            apart = " ".join(f"{v:.2f}" for v in s.mean_distances)
            lines.append(f"  step {s.step}: saturation {spread}; distances {apart}{own}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        return {
            "layers": [layer.name for layer in self.layers],
            "steps": [
                {
                    "step": s.step,
                    "saturation": [None if math.isnan(v) else v for v in s.saturation.tolist()],
                    "mean_distances": s.mean_distances.tolist(),
                    "scores": [None if math.isnan(v) else v for v in s.scores.tolist()],
                    "frequencies": s.frequencies.units(),
                    "scalars": {k: v if math.isfinite(v) else None for k, v in s.scalars.items()},
                }
                for s in self.snapshots
            ],
        }

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Draw saturation, or what `of` names ("distances", or one of the scalars), against the steps, a line a layer."""
        axes: Axes = importlib.import_module("polylens.plotting.recorder").draw(self, ax, **options)
        return axes

    def _stacked(self, steps: list[Tensor]) -> Tensor:
        if not steps:
            raise InputError("recording: expected one step or more; got none; call Recorder.record first")
        return torch.stack(steps)


def _saturation(shares: Tensor) -> Tensor:
    """Return how far units with these shares (pieces, *shape) are from balanced, on average."""
    if not shares[0].numel():
        return shares.new_tensor(math.nan)
    pieces = len(shares)
    return (pieces * shares.amax(0) - 1).mean() / (pieces - 1) if pieces > 1 else shares.new_tensor(1.0)


@final
class Recorder:
    """Watches how the activation patterns of a module change while it learns, on inputs that stay the same.

    Call `record` whenever you like in a training loop, say once an epoch. The module is read as a program each time, without
    hooks; it runs in evaluation mode, with the running statistics of batch norm, and gets its own mode back.

    Args:
        X: inputs (batch, ...), as the module takes them; two or more.
        path: a directory for one file a step; None keeps everything in memory alone. Files that are there already are read,
            and recording goes on behind them. Each is written whole or not at all, so that a killed run leaves a readable
            directory.
        pairs: how many random pairs of inputs are compared; the same ones at each step.
        clustered: on how many of the inputs constellation scores are taken; 0 for none.
        seed: of the pairs.

    Raises:
        InputError: fewer than two inputs, NaN or infinity.
        FileError: `path` is a file, or holds steps on other inputs or other random pairs, or of another format.

    Algorithm: `load`, `patterns`, `hamming` and `constellations`, once for each record; a file takes 16 bytes a unit or so.

    Example:
        >>> import torch
        >>> torch.manual_seed(0)  # doctest: +ELLIPSIS
        <torch._C.Generator object at ...>
        >>> module = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
        >>> recorder = Recorder(torch.randn(100, 2))
        >>> for epoch in range(2):
        ...     _ = recorder.record(module, epoch, loss=1.0 / (1 + epoch))
        >>> recorder.recording.scalars("loss").tolist()
        [1.0, 0.5]
    """

    def __init__(
        self, X: ArrayLike, *, path: str | Path | None = None, pairs: int = 10_000, clustered: int = 0, seed: int = 0
    ) -> None:
        self._inputs = _checked(X)
        if self._inputs.ndim < 2 or len(self._inputs) < 2:
            raise InputError(f"X: expected two inputs or more, (batch, ...); got shape {tuple(self._inputs.shape)}")
        self._pairs, self._seed = whole(pairs, "pairs"), seed
        self._clustered = whole(clustered, "clustered", least=0)
        self._path = None if path is None else Path(path)
        self._watched = {"inputs": _digest(self._inputs), "pairs": self._pairs, "seed": int(seed)}
        self._snapshots = list[Snapshot]()
        if self._path is not None and _holds(self._path):
            self._go_on(self._path)

    @property
    def recording(self) -> Recording:
        """What was recorded so far."""
        return Recording(tuple(self._snapshots))

    def record(self, module: nn.Module | Network, step: int, **scalars: float) -> Snapshot:
        """Keep what the module's patterns are now, with numbers of your own, and return it.

        Raises InputError for a step that does not come after the last one, for other layers than before, and for scalars that
        are no numbers; errors of `load` for modules that cannot be read. What is wrong leaves the recording as it is.
        """
        last = self._snapshots[-1].step if self._snapshots else -1
        if whole(step, "step", least=0) <= last:
            raise InputError(f"step: expected a number above the last one, {last}; got {step}")
        own = {name: _number(name, value) for name, value in scalars.items()}
        net = module if isinstance(module, Network) else _read(module, self._inputs)
        seen = patterns(net, self._inputs)
        if self._snapshots and seen.layers != self._snapshots[0].frequencies.layers:
            names = [layer.name for layer in self._snapshots[0].frequencies.layers]
            raise InputError(f"module: expected the layers of the steps before, {names}; got {[a.name for a in seen.layers]}")
        apart = hamming(seen, pairs=self._pairs, seed=self._seed)
        snapshot = Snapshot(step, seen.frequencies(), tuple(d.counts for d in apart.layers), self._scores(seen), own)
        if self._path is not None:
            _write(self._path, snapshot, self._watched)
        self._snapshots.append(snapshot)
        return snapshot

    def _go_on(self, path: Path) -> None:
        """Take up the steps that are in a directory, if they are of what is watched here."""
        self._snapshots = list(read_recording(path).snapshots)
        totals = {s.frequencies.total for s in self._snapshots}
        if totals - {len(self._inputs)}:
            raise FileError(
                f"{path}: expected steps on {len(self._inputs)} inputs; it holds some on {sorted(totals)}; take another"
            )
        for file in _files(path).values():
            there = _opened(file, lambda content: json.loads(str(content["head"])).get("watched", self._watched))
            other = [name for name in self._watched if there.get(name) != self._watched[name]]
            if other:
                raise FileError(
                    f"{file}: expected steps with the same inputs, pairs and seed; other {' and '.join(other)} here"
                )

    def _scores(self, seen: Patterns) -> Tensor:
        few = seen[: self._clustered]
        if not self._clustered:
            return torch.full((len(seen.layers),), math.nan, dtype=torch.float64)
        scores = [constellations(few.layer(k), null=()).normalised for k in range(len(seen.layers))]
        return torch.tensor(scores, dtype=torch.float64)


def read_recording(path: str | Path) -> Recording:
    """Return what a recorder has written into a directory, in the order of the steps.

    Args:
        path: the directory; files that are no steps are passed over, among them what a killed run left half-written.

    Raises:
        FileError: there is no directory; a file in it is damaged, or of a format that this version does not know.

    Example:
        >>> import tempfile, torch
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     recorder = Recorder(torch.randn(5, 2), path=folder)
        ...     _ = recorder.record(torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU()), 7)
        ...     read_recording(folder).steps
        [7]
    """
    path = Path(path)
    if not path.is_dir():
        raise FileError(f"{path}: expected a directory that a Recorder has written; there is none")
    return Recording(tuple(_snapshot(file) for file in _files(path).values()))


def _files(path: Path) -> dict[int, Path]:
    """Return the files of a directory that hold steps, in the order of the steps."""
    return dict(sorted((int(m[1]), f) for f in path.iterdir() if (m := _NAME.fullmatch(f.name))))


def _checked(X: ArrayLike) -> Tensor:
    """Return inputs as they are, in their own precision: that of the module is not known yet, and may change."""
    values = array(X)
    floating(values)
    kind = values.dtype if isinstance(values, Tensor) else torch.as_tensor(np.empty(0, values.dtype)).dtype
    return finite(as_tensor(values, kind, torch.device("cpu")), "input")


def _digest(inputs: Tensor) -> str:
    """Return what tells these inputs from others, whatever their precision holds of the same numbers."""
    found = hashlib.blake2b(str(tuple(inputs.shape)).encode(), digest_size=16)
    for part in inputs.detach().split(_ROWS):
        found.update(part.double().contiguous().numpy().tobytes())
    return found.hexdigest()


def _holds(path: Path) -> bool:
    if path.exists() and not path.is_dir():
        raise FileError(f"{path}: expected a directory to record into; it is a file")
    return path.is_dir()


def _number(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise InputError(f"{name}: expected a number; got {value!r}") from None


def _read(module: nn.Module, inputs: Tensor) -> Network:
    first = next((p for p in module.parameters() if p.is_floating_point()), torch.empty(0))
    with evaluating(module):
        return load(module, example=inputs[:1].to(first))


def _write(path: Path, snapshot: Snapshot, watched: dict[str, Any]) -> None:
    head = {
        "format": FORMAT,
        "watched": watched,
        "step": snapshot.step,
        "total": snapshot.frequencies.total,
        "layers": [asdict(layer) for layer in snapshot.frequencies.layers],
        "scalars": {k: v if math.isfinite(v) else str(v) for k, v in snapshot.scalars.items()},
    }
    arrays: dict[str, Any] = {f"counts_{k}": v.numpy() for k, v in enumerate(snapshot.frequencies.counts)}
    arrays |= {f"distances_{k}": v.numpy() for k, v in enumerate(snapshot.distances)}
    with write_atomically(path / f"step-{snapshot.step:08d}.npz") as part, part.open("wb") as file:
        np.savez_compressed(file, head=np.array(json.dumps(head)), scores=snapshot.scores.numpy(), **arrays)


def _snapshot(file: Path) -> Snapshot:
    return _opened(file, lambda content: _parsed(content, file))


def _opened(file: Path, read: Callable[[Any], T]) -> T:
    """Return what `read` finds in a file, or raise FileError where it is damaged."""
    damaged = (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error)
    unknown = (NotImplementedError, RuntimeError)  # zipfile on flags that no recorder sets: other methods, passwords
    try:
        with np.load(io.BytesIO(file.read_bytes()), allow_pickle=False) as content:
            return read(content)
    except FileError:
        raise
    except (*damaged, *unknown) as error:
        raise FileError(
            f"{file}: expected a step that a Recorder has written; {error}; remove it to go on without it"
        ) from None


def _parsed(content: Any, file: Path) -> Snapshot:
    head = json.loads(str(content["head"]))
    if head["format"] != FORMAT:
        raise FileError(f"{file}: expected format {FORMAT}; got {head['format']}; read it with the version that wrote it")
    layers = tuple(UnitLayer(**{**layer, "shape": tuple(layer["shape"])}) for layer in head["layers"])
    counts, distances = (_tensors(content, name, len(layers)) for name in ("counts", "distances"))
    scalars = {k: float(v) for k, v in head["scalars"].items()}
    frequencies = Frequencies(layers, counts, head["total"])
    return Snapshot(head["step"], frequencies, distances, torch.from_numpy(content["scores"]), scalars)


def _tensors(content: Any, name: str, count: int) -> tuple[Tensor, ...]:
    return tuple(torch.from_numpy(content[f"{name}_{k}"]) for k in range(count))
