"""The laws on networks and images that nobody here made; skipped where POLYLENS_DATA does not name them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from polylens import Network, affine_map, affine_maps, load, patterns, zoo
from polylens.data import read_data
from test_laws import same_pattern

MNIST = ("mnist", "t10k-images-idx3-ubyte.gz")
CIFAR = ("cifar10", "test_first1000.bin.gz")
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)


def network_and_images(data: Path, name: str, count: int) -> tuple[Network, Tensor, Tensor]:
    net = load(data / "nets" / name)
    if net.input_shape == (3, 32, 32):
        samples = read_data(data.joinpath(*CIFAR)).first(count).normalised(MEAN, STD)
    else:
        samples = read_data(data.joinpath(*MNIST)).first(count).fitted(net.input_shape)
    assert samples.labels is not None
    return net, samples.inputs.double(), samples.labels


# how many of the first 200 test images each must classify: about what its authors report, so that a wrong axis shows
NETWORKS = {
    "mnist-net_256x2.onnx": 0.95,
    "mnist-net_256x4.onnx": 0.95,
    "Convnet_maxpool.onnx": 0.90,
    "cifar_base_kw.onnx": 0.50,
    "resnet_2b.onnx": 0.50,
}


@pytest.mark.parametrize("name", NETWORKS)
def test_real_networks_classify_real_images(data: Path, name: str) -> None:
    net, images, labels = network_and_images(data, name, 200)
    accuracy = float((net(images).argmax(1) == labels).double().mean())
    assert accuracy >= NETWORKS[name]


def dithered(x: Tensor) -> Tensor:
    """Return inputs off every boundary: an even background makes the entries of a max-pool's window tie exactly."""
    return x + 1e-3 * torch.randn(x.shape, generator=torch.Generator().manual_seed(5), dtype=x.dtype)


def check_map(net: Network, x: Tensor) -> None:
    """f = A x + b at the inputs, at inputs beside them, and at points that share the pattern of the latter."""
    inside = dithered(x)
    near = same_pattern(net, inside)
    assert not torch.equal(near, inside)
    for a, points in ((affine_map(net, x), [x]), (affine_map(net, inside), [inside, near])):
        for y in points:
            f = net(y)
            assert float((f - a(y)).abs().max()) <= 1e-9 * (1 + float(f.abs().max()))


@pytest.mark.parametrize("name", NETWORKS)
def test_maps_of_real_networks_are_exact_on_their_regions(data: Path, name: str) -> None:
    net, images, _ = network_and_images(data, name, 3)
    check_map(net.double(), images)


def test_the_map_of_the_digits_network_is_exact_on_its_regions() -> None:
    check_map(zoo.digits().double(), zoo.digits_data("test").inputs[:50].double())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Convnet_maxpool.onnx", "cifar_base_kw.onnx"])
def test_all_pre_activations_of_a_convolutional_network_are_exact(data: Path, name: str) -> None:
    net, images, _ = network_and_images(data, name, 1)
    net, images = net.double(), dithered(images)
    near = same_pattern(net, images)
    maps, seen = affine_maps(net, images), {}
    net.forward(near, lambda node, values: seen.update({node.name: values[0]}))
    for gate, a in maps.items():
        assert float((a(near) - seen[gate]).abs().max()) <= 1e-9 * (1 + float(seen[gate].abs().max()))


def test_every_acas_network_is_exact_on_its_regions(data: Path) -> None:
    points = torch.rand(20, 1, 1, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 0.5
    for path in sorted((data / "acasxu" / "onnx").glob("*.onnx")):
        net = load(path).double()
        assert net.num_units == 300
        check_map(net, points.reshape(20, *net.input_shape))


def test_patterns_of_the_mnist_test_set_do_not_depend_on_the_chunk(data: Path) -> None:
    net, images, _ = network_and_images(data, "mnist-net_256x2.onnx", 2000)
    images = images.float()
    assert patterns(net, images) == patterns(net, images, batch_size=97)
