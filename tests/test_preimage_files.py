"""Preimages in files: what is saved comes back whole, and nothing else is taken for it."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from polylens import Argmax, Box, OutputSet, Segment, WholeSpace, dense, load_preimage, preimage, subdivide
from polylens.errors import FileError, InputError
from test_complex import random_network

FILED = {
    "a class with ties": (Argmax(1), Box([-1.0, -1.0], [1.0, 1.0])),
    "a kernel without end": (0.0, WholeSpace(2)),
    "a union": ([OutputSet.parse(["y0 >= y1 + 0.1"], 2), OutputSet.box([0.0, 0.0], [0.2, 0.2])], Box([-1.0, -1.0], [1.0, 1.0])),
    "nothing": (OutputSet.parse(["y0 <= -1000"], 2), Box([-1.0, -1.0], [1.0, 1.0])),
    "on a segment": (Argmax(0), Segment([-1.0, 0.0], [1.0, 0.3])),
}


@pytest.mark.parametrize("name", FILED)
def test_a_saved_preimage_comes_back_whole(name: str, tmp_path: Path) -> None:
    net = dense([([[1.0, 0.5], [-0.3, 1.0]], [0.1, 0.0]), ([[1.0, 0.0], [0.0, 1.0]], None)])  # ties where both units are off
    target, domain = FILED[name]
    found = preimage(net, target, domain)
    found.save(tmp_path / "p.npz")
    again = load_preimage(tmp_path / "p.npz", net)
    assert len(again.patterns) == len(found)
    assert again.summary() == found.summary()
    assert again.to_dict() == found.to_dict()
    assert again.patterns == found.patterns
    assert [t.outputs for t in again.ties] == [t.outputs for t in found.ties]
    assert all(np.array_equal(a.vertices, b.vertices) for a, b in zip(again.ties, found.ties, strict=True))
    assert all(
        np.array_equal(a.vertices, b.vertices) and np.array_equal(a.rays, b.rays) for a, b in zip(again, found, strict=True)
    )
    x = torch.randn(200, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) / 2
    assert torch.equal(again.contains(x), found.contains(x))
    if len(found) and math.isfinite(found.volume) and found.dimension == found.domain.dim:
        assert torch.equal(again.sample(20, seed=1), found.sample(20, seed=1))
    if name == "a class with ties":
        assert found.ties


def test_an_incomplete_preimage_stays_so_in_a_file(tmp_path: Path) -> None:
    net = random_network(2, 16, 16, 2, seed=0)
    found = preimage(net, Argmax(0), Box([-3.0, -3.0], [3.0, 3.0]), time_limit=1e-9)
    assert not found.complete
    found.save(tmp_path / "p.npz")
    again = load_preimage(tmp_path / "p.npz", net)
    assert (again.complete, again.reason, again.is_empty) == (False, "time_limit", found.is_empty)


def test_a_preimage_is_not_loaded_for_another_network_or_from_another_file(tmp_path: Path) -> None:
    net = random_network(2, 6, 2, seed=0)
    preimage(net, Argmax(0), Box([-1.0, -1.0], [1.0, 1.0])).save(tmp_path / "a.npz")
    with pytest.raises(InputError, match="another one"):
        load_preimage(tmp_path / "a.npz", random_network(2, 6, 2, seed=1))
    subdivide(net, Box([-1.0, -1.0], [1.0, 1.0])).save(tmp_path / "complex.npz")
    np.savez(tmp_path / "b.npz", points=np.zeros(3))
    (tmp_path / "c.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:300])
    with np.load(tmp_path / "a.npz") as archive:
        arrays = {key: archive[key] for key in archive.files}
    np.savez(tmp_path / "short.npz", **arrays | {"volume": arrays["volume"][:-1]})
    for wrong in (np.array(5.0), np.array("one"), np.zeros(0)):
        np.savez(tmp_path / "basis.npz", **arrays | {"domain.basis": wrong})
        with pytest.raises(FileError, match="basis"):
            load_preimage(tmp_path / "basis.npz", net)
    raw = bytearray((tmp_path / "a.npz").read_bytes())
    raw[raw.index(b"PK\x01\x02") + 10] = 99  # a way of compressing that there is none of
    (tmp_path / "method.npz").write_bytes(raw)
    for name in ("b.npz", "c.npz", "complex.npz", "short.npz", "missing.npz", "method.npz"):
        with pytest.raises(FileError, match=name):
            load_preimage(tmp_path / name, net)
    with pytest.raises(FileError):
        preimage(net, Argmax(0), Box([-1.0, -1.0], [1.0, 1.0])).save(tmp_path)
