"""Reading data: every format, gzipped or not; what is damaged or foreign is refused in one line."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from polylens.data import Data, read_data
from polylens.errors import FileError, InputError, ShapeError, UnsafeFileError

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (5, 4, 3), dtype=np.uint8)
LABELS = np.array([3, 1, 4, 1, 5], np.uint8)


def idx(array: np.ndarray, code: int = 8) -> bytes:
    return bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def npz(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def cifar(images: np.ndarray, labels: np.ndarray) -> bytes:
    return b"".join(bytes([label]) + image.tobytes() for label, image in zip(labels.tolist(), images, strict=True))


def store(folder: Path, content: bytes, zipped: bool, name: str = "data.bin") -> Path:
    path = folder / name
    path.write_bytes(gzip.compress(content) if zipped else content)
    return path


both = pytest.mark.parametrize("zipped", [False, True], ids=["plain", "gzipped"])


@both
def test_npy_of_floats_is_read_as_it_is(tmp_path: Path, zipped: bool) -> None:
    values = RANDOM.normal(size=(7, 2, 3))
    data = read_data(store(tmp_path, npy(values), zipped))
    assert data.inputs.dtype == torch.float32
    assert torch.equal(data.inputs, torch.from_numpy(values).float())
    assert data.labels is None


@both
def test_npy_of_bytes_is_scaled_to_the_unit_interval(tmp_path: Path, zipped: bool) -> None:
    data = read_data(store(tmp_path, npy(IMAGES), zipped))
    assert torch.equal(data.inputs, torch.from_numpy(IMAGES).float() / 255)


@both
@pytest.mark.parametrize("names", [("x", "y"), ("images", "labels"), ("X", "Y"), ("x_test", "y_test")])
def test_npz_gives_inputs_and_labels_under_their_usual_names(tmp_path: Path, zipped: bool, names: tuple[str, str]) -> None:
    data = read_data(store(tmp_path, npz(**{names[0]: IMAGES, names[1]: LABELS}), zipped))
    assert data.inputs.shape == (5, 4, 3)
    assert data.labels is not None
    assert data.labels.tolist() == LABELS.tolist()


def test_npz_with_one_array_needs_no_name(tmp_path: Path) -> None:
    assert read_data(store(tmp_path, npz(whatever=IMAGES / 255.0), False)).inputs.shape == (5, 4, 3)


def test_npz_with_unknown_names_is_refused_and_lists_them(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"got \['a', 'b'\]"):
        read_data(store(tmp_path, npz(a=IMAGES, b=IMAGES), False))


def test_of_training_and_test_arrays_the_test_arrays_are_taken(tmp_path: Path) -> None:
    content = npz(x_train=IMAGES, y_train=LABELS, x_test=IMAGES[:2], y_test=LABELS[:2])
    data = read_data(store(tmp_path, content, False))
    assert data.inputs.shape[0] == 2
    assert "x_test" in data.source


@both
def test_idx_finds_the_labels_beside_the_images(tmp_path: Path, zipped: bool) -> None:
    path = store(tmp_path, idx(IMAGES), zipped, "some-images-idx3-ubyte")
    store(tmp_path, idx(LABELS), not zipped, "some-labels-idx1-ubyte")
    data = read_data(path)
    assert torch.equal(data.inputs, torch.from_numpy(IMAGES).float() / 255)
    assert data.labels is not None
    assert data.labels.tolist() == LABELS.tolist()


def test_idx_of_big_endian_floats_is_read(tmp_path: Path) -> None:
    values = RANDOM.normal(size=(3, 2)).astype(">f4")
    assert torch.equal(read_data(store(tmp_path, idx(values, 13), False)).inputs, torch.from_numpy(values.astype("f4")))


@both
def test_cifar_is_read_by_channel_row_and_column(tmp_path: Path, zipped: bool) -> None:
    images = RANDOM.integers(0, 256, (4, 3, 32, 32), dtype=np.uint8)
    data = read_data(store(tmp_path, cifar(images, LABELS[:4]), zipped))
    assert torch.equal(data.inputs, torch.from_numpy(images).float() / 255)
    assert data.labels is not None
    assert data.labels.tolist() == [3, 1, 4, 1]


def test_a_cifar_file_that_opens_like_an_idx_file_is_still_cifar(tmp_path: Path) -> None:
    images = np.full((2, 3, 32, 32), 200, np.uint8)
    images[0, 0, 0, :3] = 0, 8, 3
    data = read_data(store(tmp_path, cifar(images, np.zeros(2, np.uint8)), False))
    assert data.inputs.shape == (2, 3, 32, 32)


@pytest.mark.parametrize("form", ["npy", "npz", "idx", "idx labels"])
def test_labels_come_from_a_file_of_their_own(tmp_path: Path, form: str) -> None:
    content = {"npy": npy(LABELS), "npz": npz(a=LABELS), "idx": idx(LABELS), "idx labels": gzip.compress(idx(LABELS))}[form]
    labels = store(tmp_path, content, False, "labels")
    data = read_data(store(tmp_path, npy(IMAGES), False), labels)
    assert data.labels is not None
    assert data.labels.tolist() == LABELS.tolist()


# -- what is refused

WHOLE = {
    "npy": npy(IMAGES),
    "npz": npz(x=IMAGES, y=LABELS),
    "idx": idx(IMAGES),
    "cifar": cifar(RANDOM.integers(0, 256, (1, 3, 32, 32), dtype=np.uint8), LABELS[:1]),
}


@both
@pytest.mark.parametrize("form", WHOLE)
def test_a_file_cut_anywhere_is_refused_in_one_line(tmp_path: Path, form: str, zipped: bool) -> None:
    whole = gzip.compress(WHOLE[form]) if zipped else WHOLE[form]
    for size in range(0, len(whole), 1 if len(whole) < 400 else 37):
        with pytest.raises(FileError) as caught:
            read_data(store(tmp_path, whole[:size], False))
        assert "\n" not in str(caught.value)
        assert "data.bin" in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [b"hello, this is text\n" * 9, bytes(range(256)) * 5, b"\x89PNG\r\n\x1a\n" + bytes(400), b"PK\x03\x04" + bytes(100)],
    ids=["text", "bytes", "png", "zip"],
)
def test_foreign_files_are_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(FileError):
        read_data(store(tmp_path, content, False))


def test_bytes_flipped_within_a_compressed_file_are_noticed(tmp_path: Path) -> None:
    for form in ("npz", "gzip"):
        whole = bytearray(WHOLE["npz"] if form == "npz" else gzip.compress(WHOLE["idx"]))
        whole[len(whole) // 3] ^= 0xFF
        with pytest.raises(FileError):
            read_data(store(tmp_path, bytes(whole), False))


class Trap:
    """Would leave a file behind if it were ever unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("form", ["pickle", "npy", "npz"])
def test_pickles_are_refused_before_anything_in_them_runs(tmp_path: Path, form: str) -> None:
    trap, sprung = Trap(tmp_path / "sprung"), tmp_path / "sprung"
    array = np.array([trap], object)
    content = {"pickle": pickle.dumps(trap), "npy": b"", "npz": b""}[form]
    if form != "pickle":
        buffer = io.BytesIO()
        np.save(buffer, array, allow_pickle=True) if form == "npy" else np.savez(buffer, x=array, allow_pickle=True)
        content = buffer.getvalue()
    with pytest.raises(UnsafeFileError):
        read_data(store(tmp_path, content, False))
    assert not sprung.exists()


def test_a_missing_file_and_a_directory_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="there is none"):
        read_data(tmp_path / "nothing.npy")
    with pytest.raises(FileError, match="cannot be read"):
        read_data(tmp_path)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e300])
def test_what_is_not_finite_in_float32_is_refused(tmp_path: Path, bad: float) -> None:
    values = np.zeros((3, 2))
    values[1, 1] = bad
    with pytest.raises(InputError, match="1 NaN or infinite"):
        read_data(store(tmp_path, npy(values), False))


@pytest.mark.parametrize("dtype", [np.int64, np.int8, np.bool_, np.complex128])
def test_other_kinds_of_numbers_are_refused_with_advice(tmp_path: Path, dtype: type) -> None:
    with pytest.raises(InputError, match="convert first"):
        read_data(store(tmp_path, npy(np.ones((3, 2), dtype)), False))


def test_no_samples_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least one sample"):
        read_data(store(tmp_path, npy(np.zeros((0, 4))), False))


def test_a_labels_file_in_place_of_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="labels"):
        read_data(store(tmp_path, idx(LABELS), False))


@pytest.mark.parametrize("labels", [LABELS[:4], np.eye(5), np.array([0.5] * 5), np.array([-1, 0, 1, 2, 3])])
def test_labels_that_do_not_fit_are_refused(tmp_path: Path, labels: np.ndarray) -> None:
    with pytest.raises(InputError):
        read_data(store(tmp_path, npy(IMAGES), False), store(tmp_path, npy(labels), False, "labels.npy"))


# -- fitting and normalising


def test_samples_are_reshaped_to_the_networks_input() -> None:
    data = Data(torch.arange(24.0).reshape(2, 3, 4), None, "here")
    assert torch.equal(data.fitted((12,)).inputs, torch.arange(24.0).reshape(2, 12))


def test_samples_that_do_not_fit_are_refused_with_both_shapes() -> None:
    with pytest.raises(ShapeError, match=r"\(5,\).*\(3, 4\)"):
        Data(torch.zeros(2, 3, 4), None, "here").fitted((5,))


def test_channels_move_to_where_the_network_has_them() -> None:
    images = torch.arange(2 * 4 * 5 * 3.0).reshape(2, 4, 5, 3)
    first = Data(images, None, "here").fitted((3, 4, 5))
    assert torch.equal(first.inputs, images.permute(0, 3, 1, 2))
    assert torch.equal(first.fitted((4, 5, 3)).inputs, images)


def test_one_bare_sample_becomes_a_batch_of_one() -> None:
    assert Data(torch.zeros(28, 28), None, "here").fitted((784,)).inputs.shape == (1, 784)


@pytest.mark.parametrize("shape", [(2, 3, 4, 4), (2, 4, 4, 3)], ids=["channels first", "channels last"])
def test_normalising_acts_on_each_channel(shape: tuple[int, ...]) -> None:
    axis = shape.index(3)
    data = Data(torch.ones(shape), None, "here").normalised([1.0, 0.0, -1.0], [1.0, 2.0, 4.0])
    assert [float(data.inputs.select(axis, c).unique()) for c in range(3)] == [0.0, 0.5, 0.5]


def test_normalising_takes_one_number_for_all() -> None:
    assert torch.equal(Data(torch.full((2, 4), 5.0), None, "here").normalised(1.0, 2.0).inputs, torch.full((2, 4), 2.0))


def test_normalising_refuses_what_cannot_be_meant() -> None:
    data = Data(torch.ones(2, 3, 4, 4), None, "here")
    with pytest.raises(ShapeError, match="got 2 numbers"):
        data.normalised([1.0, 2.0], 1.0)
    with pytest.raises(InputError, match="positive"):
        data.normalised(0.0, [1.0, 0.0, 1.0])
    with pytest.raises(InputError, match="mean"):
        data.normalised(float("nan"), 1.0)


# -- real files


def real(*parts: str) -> Path:
    root = os.environ.get("POLYLENS_DATA")
    if root is None or not (path := Path(root, *parts)).exists():
        pytest.skip(f"POLYLENS_DATA with {'/'.join(parts)} is not there")
    return path


def test_mnist_is_read_with_its_labels() -> None:
    data = read_data(real("mnist", "t10k-images-idx3-ubyte.gz"))
    assert data.inputs.shape == (10000, 28, 28)
    assert data.labels is not None
    assert data.labels[:5].tolist() == [7, 2, 1, 0, 4]
    assert float(data.inputs.max()) == 1.0


def test_cifar_10_is_read_with_its_labels() -> None:
    data = read_data(real("cifar10", "test_first1000.bin.gz"))
    assert data.inputs.shape == (1000, 3, 32, 32)
    assert data.labels is not None
    assert data.labels[:4].tolist() == [3, 8, 8, 0]
