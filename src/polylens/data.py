"""Inputs from files: `.npy`, `.npz`, IDX (MNIST) and CIFAR-10 binary, each gzipped or not, known by their content.

Samples lie along the first axis, in float32; images of bytes are scaled to [0, 1]. Nothing here unpickles.
"""

from __future__ import annotations

import gzip
import io
import math
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ._check import finite
from .errors import FileError, InputError, ShapeError, UnsafeFileError

Array = npt.NDArray[Any]

_INPUT_NAMES = ("x", "images", "image", "inputs", "input", "data", "features", "x_test", "x_train")
_LABEL_NAMES = ("y", "labels", "label", "targets", "target", "classes", "y_test", "y_train")
_IDX_TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
_CIFAR_RECORD = 1 + 3 * 32 * 32
_FORMATS = ".npy, .npz, IDX (MNIST) or CIFAR-10 binary, gzipped or not"


@final
@dataclass(frozen=True, eq=False, slots=True)
class Data:
    """Samples to look at: `inputs` (batch, *shape), float32; `labels` (batch,), int64, or None; `source`, where from.

    Raises: ShapeError when there are not as many labels as inputs; InputError for no inputs, NaN or infinity.
    """

    inputs: Tensor
    labels: Tensor | None
    source: str

    def __post_init__(self) -> None:
        if self.inputs.ndim == 0 or len(self.inputs) == 0:
            raise InputError(f"{self.source}: expected at least one sample; got an array of {tuple(self.inputs.shape)}")
        finite(self.inputs, self.source)
        if self.labels is not None and self.labels.shape != self.inputs.shape[:1]:
            raise ShapeError(
                f"{self.source}: expected one label for each of {len(self.inputs)} inputs; got {tuple(self.labels.shape)}"
            )

    def __len__(self) -> int:
        return len(self.inputs)

    def first(self, count: int) -> Data:
        """Return the first `count` samples, or all where there are fewer."""
        if count < 1:
            raise InputError(f"number of inputs: expected at least 1; got {count}")
        return Data(self.inputs[:count], None if self.labels is None else self.labels[:count], self.source)

    def fitted(self, input_shape: Sequence[int]) -> Data:
        """Return the samples in a network's input shape, where they have as many entries as it expects.

        Channels move from last to first place (or back) where the network has them there; other shapes are read row by
        row. A file that holds one bare sample becomes a batch of one.

        Raises ShapeError, which names both shapes, when the numbers of entries differ.
        """
        want, got = tuple(input_shape), tuple(self.inputs.shape[1:])
        if math.prod(got) == math.prod(want):
            return replace(self, inputs=_moved_channels(self.inputs, want).reshape(-1, *want))
        if self.inputs.numel() == math.prod(want) and self.labels is None:
            return replace(self, inputs=self.inputs.reshape(1, *want))
        raise ShapeError(
            f"{self.source}: expected samples that fit the network's input shape {want}, {math.prod(want)} numbers; "
            f"got {len(self)} samples of shape {got}, {math.prod(got)} numbers"
        )

    def normalised(self, mean: float | Sequence[float], std: float | Sequence[float]) -> Data:
        """Return (x - mean) / std, each one number or one for each channel (the first axis of a sample, or the last).

        Raises ShapeError when there are not as many numbers as channels, InputError when a std is not positive.
        """
        if not bool((torch.as_tensor(std) > 0).all()):
            raise InputError(f"std: expected positive numbers; got {std}")
        return replace(self, inputs=(self.inputs - self._per_channel(mean, "mean")) / self._per_channel(std, "std"))

    def _per_channel(self, value: float | Sequence[float], what: str) -> Tensor:
        numbers = finite(torch.as_tensor(value, dtype=torch.float32).reshape(-1), what)
        if len(numbers) == 1:
            return numbers
        shape = tuple(self.inputs.shape[1:])
        if shape and len(numbers) == shape[0]:
            return numbers.reshape(-1, *(1,) * (len(shape) - 1))
        if shape and len(numbers) == shape[-1]:
            return numbers
        raise ShapeError(f"{what}: expected one number or one for each channel of {shape}; got {len(numbers)} numbers")


def _moved_channels(x: Tensor, want: tuple[int, ...]) -> Tensor:
    """Return x (batch, H, W, C) as (batch, C, H, W) where `want` is (C, H, W), and the other way round."""
    got = tuple(x.shape[1:])
    if len(got) != 3 or got == want:
        return x
    if want == (got[2], got[0], got[1]):
        return x.permute(0, 3, 1, 2)
    return x.permute(0, 2, 3, 1) if want == (got[1], got[2], got[0]) else x


def read_data(path: str | Path, labels: str | Path | None = None) -> Data:
    """Return the samples of a file, with their labels where the file or one beside it has them.

    Args:
        path: `.npy` (samples along the first axis); `.npz` with one array, or inputs and labels under their usual names
            (x and y, images and labels, ...; of x_train and x_test the latter); IDX, whose labels file is found beside
            it by the usual names (images-idx3 -> labels-idx1); CIFAR-10 binary. Any may be gzipped; what counts is
            the content, not the name.
        labels: a file with the labels, `.npy`, `.npz` or IDX, instead of those found.

    Raises:
        FileError: missing, truncated or foreign; UnsafeFileError for pickles.
        InputError: NaN or infinity, no samples, integers that are not bytes.
        ShapeError: not as many labels as inputs.
    """
    path = Path(path)
    inputs, found, where = _read(path)
    if labels is None and found is None:
        labels = _labels_beside(path)
    if labels is not None:
        found = _read_labels(Path(labels))
    return Data(_samples(inputs, where), None if found is None else _classes(found, where), where)


# -- bytes to arrays


def _read(path: Path) -> tuple[Array, Array | None, str]:
    """Return the inputs, the labels where the same file holds them, and a name for messages."""
    content = _content(path)
    if content[:6] == b"\x93NUMPY":
        return _npy(content, path), None, path.name
    if content[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return _npz(content, path)
    if (idx := _idx(content, path)) is not None:
        return idx, None, path.name
    if (cifar := _cifar(content)) is not None:
        return *cifar, path.name
    if content[:1] == b"\x80":
        raise UnsafeFileError(f"{path}: this looks like a pickle, which runs code when read; expected {_FORMATS}")
    raise FileError(f"{path}: expected {_FORMATS}; got {len(content)} bytes of something else")


def _content(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise FileError(f"{path}: expected a data file; there is none") from None
    except OSError as error:
        raise FileError(f"{path}: cannot be read; {error.strerror}") from None
    if content[:2] == b"\x1f\x8b":
        try:
            content = gzip.decompress(content)
        except (EOFError, OSError, zlib.error) as error:
            raise FileError(f"{path}: the gzip file is damaged or truncated; {error}; fetch it again") from None
    if not content:
        raise FileError(f"{path}: expected {_FORMATS}; the file is empty")
    return content


def _npy(content: bytes, path: Path, member: str = "") -> Array:
    name = f"{path}{f' ({member})' if member else ''}"
    try:
        array = np.load(io.BytesIO(content), allow_pickle=False)
    except (ValueError, EOFError, OSError, SyntaxError, TypeError, KeyError, OverflowError, MemoryError) as error:
        if "allow_pickle" in str(error):
            raise UnsafeFileError(f"{name}: holds Python objects, which run code when read; save plain numbers") from None
        reason = " ".join(str(error).split())
        raise FileError(f"{name}: the .npy array is damaged or truncated; {reason}") from None
    return np.asarray(array)


def _npz(content: bytes, path: Path) -> tuple[Array, Array | None, str]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = {name.removesuffix(".npy"): name for name in archive.namelist() if name.endswith(".npy")}
            if not members or len(members) != len(archive.namelist()):
                raise FileError(f"{path}: expected a .npz of arrays; got an archive of {archive.namelist()[:4]}")
            x, y = _chosen(list(members), path)
            inputs = _npy(archive.read(members[x]), path, x)
            labels = None if y is None else _npy(archive.read(members[y]), path, y)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError) as error:
        raise FileError(f"{path}: the .npz archive is damaged or truncated; {error}") from None
    return inputs, labels, path.name if len(members) == 1 else f"{path.name} ({x})"


def _chosen(names: list[str], path: Path) -> tuple[str, str | None]:
    """Return which array holds the inputs and which the labels, by name."""
    if len(names) == 1:
        return names[0], None
    lower = {name.lower(): name for name in names}
    x = next((lower[n] for n in _INPUT_NAMES if n in lower), None)
    y = next((lower[n] for n in _LABEL_NAMES if n in lower), None)
    if x is None:
        raise FileError(f"{path}: expected one array, or inputs named x and labels named y; got {names}; rename them")
    return x, y


def _idx(content: bytes, path: Path) -> Array | None:
    """Return the array of an IDX file, None when the content is not one (its two zero bytes can open a CIFAR file too)."""
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _IDX_TYPES or not 1 <= content[3] <= 5:
        return None
    dtype, start = np.dtype(_IDX_TYPES[content[2]]), 4 + 4 * content[3]
    if len(content) < start:
        raise FileError(f"{path}: the IDX file is truncated: it ends within its header")
    shape = tuple(int(n) for n in np.frombuffer(content, ">u4", content[3], 4))
    expected = start + math.prod(shape) * dtype.itemsize
    if len(content) == expected:
        return np.frombuffer(content, dtype, -1, start).reshape(shape)
    if any(n > 1 << 16 for n in shape[1:]):
        return None
    raise FileError(
        f"{path}: the IDX file is damaged or truncated: its header says {shape}, {expected} bytes; got {len(content)} bytes"
    )


def _cifar(content: bytes) -> tuple[Array, Array] | None:
    """Return images and labels of CIFAR-10 records, None when the content is not a whole number of them."""
    if len(content) % _CIFAR_RECORD:
        return None
    records = np.frombuffer(content, np.uint8).reshape(-1, _CIFAR_RECORD)
    if records[:, 0].max() > 9:
        return None
    return records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0]


# -- arrays to samples


def _samples(array: Array, where: str) -> Tensor:
    if array.dtype == np.uint8:
        if array.ndim < 2:
            raise InputError(f"{where}: expected samples along the first axis; got one row of {array.size} bytes, labels?")
        return torch.from_numpy(array.astype(np.float32)).div_(255)
    if not np.issubdtype(array.dtype, np.floating):
        raise InputError(
            f"{where}: expected floating-point numbers, or bytes (uint8) as images; got {array.dtype};"
            " convert first, scaled as the network was trained: x.astype('float32') * scale"
        )
    with np.errstate(over="ignore"):  # what overflows float32 becomes infinite and is refused as that
        return torch.from_numpy(array.astype(np.float32))


def _classes(array: Array, where: str) -> Tensor:
    flat = array.reshape(len(array)) if array.ndim == 2 and array.shape[1] == 1 else array
    whole = np.issubdtype(flat.dtype, np.integer) or (
        np.issubdtype(flat.dtype, np.floating) and bool(np.isfinite(flat).all() and (flat == np.round(flat)).all())
    )
    if flat.ndim != 1 or not whole or (flat.size and flat.min() < 0):
        raise InputError(
            f"labels of {where}: expected one class number, 0 or more, for each input; got {flat.dtype} of shape {array.shape}"
        )
    return torch.from_numpy(flat.astype(np.int64))


def _read_labels(path: Path) -> Array:
    content = _content(path)
    if content[:6] == b"\x93NUMPY":
        return _npy(content, path)
    if content[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        array, labels, _ = _npz(content, path)
        return array if labels is None else labels
    idx = _idx(content, path)
    if idx is None:
        raise FileError(
            f"{path}: expected labels as .npy, .npz or IDX, gzipped or not; got {len(content)} bytes of another kind"
        )
    return idx


def _labels_beside(path: Path) -> Path | None:
    """Return the labels file of an IDX images file where it lies beside it, gzipped or not."""
    if "images" not in path.name:
        return None
    name = path.name.replace("images", "labels").replace("idx3", "idx1").replace("idx4", "idx1")
    plain = name.removesuffix(".gz")
    return next((path.with_name(n) for n in (name, plain, f"{plain}.gz") if path.with_name(n).is_file()), None)
