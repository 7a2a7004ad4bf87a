"""The figures of the two articles that the suite starts from: reproduced, or shown to be off."""

import math

import numpy
import pytest
import torch
from exactly import assert_within
from torch.nn import functional

from linear_lasagna import METHODS, Kernel, Layer
from linear_lasagna.catalog import CATALOG
from linear_lasagna.exact import convolve
from linear_lasagna.merging import merge, merge_kernels
from linear_lasagna.methods.im2col_numpy import im2col
from linear_lasagna.rounding import sum_bound, unit_roundoff

MERGE, UNFOLD, PATCHES = (CATALOG[f"sources/{name}"] for name in ("merge", "unfold", "patches"))


def uniform(*shape, seed, dtype=torch.float64):
    """[0, 1), as the articles draw."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def merge_example(seed):
    """x of (1, 1, 6, 6) times 10, weights of (100, 1, 3, 3) and (2, 100, 5, 5)."""
    x = uniform(1, 1, 6, 6, seed=seed) * 10
    return x, uniform(100, 1, 3, 3, seed=seed + 100), uniform(2, 100, 5, 5, seed=seed + 200)


def test_merge_catalogue_entry():
    x, first, second = merge_example(0)
    assert MERGE.shapes[0] == tuple(x.shape)
    assert [layer.weight_shape(c) for layer, c in zip(MERGE.expanded, MERGE.channels, strict=False)] == [
        tuple(first.shape),
        tuple(second.shape),
    ]
    assert (first.numel(), second.numel()) == (900, 5000)
    assert [layer.padding for layer in MERGE.expanded] == [(2, 2), (4, 4)]


def test_merged_kernel_has_98_parameters():
    """The article says 28: the shape (2, 1, 7, 7) has 98 numbers."""
    _, first, second = merge_example(0)
    merged = merge_kernels(first, second)
    assert tuple(merged.shape) == (2, 1, 7, 7)
    assert merged.numel() == 98 != 28


@pytest.mark.parametrize("seed", range(5))
def test_merged_equals_stacked_within_the_articles_sum(seed):
    """The sum of absolute differences is below 1e-5, and below what the operation count allows."""
    x, first, second = merge_example(seed)
    stacked = functional.conv2d(functional.conv2d(x, first, padding=2), second, padding=4)
    merged = functional.conv2d(x, merge_kernels(first, second), padding=6)
    assert stacked.shape == merged.shape == (1, 2, 12, 12)
    difference = (stacked - merged).abs().sum().item()
    assert difference < 1e-5, f"seed {seed}: {difference}"
    # All are positive: sums of 9 and 2500 products one way, of 2500 at most and 49 the other, relative to y.
    allowed = (sum_bound(9 + 2500, torch.float64) + sum_bound(2500 + 49, torch.float64)) * stacked.sum().item()
    assert difference <= 2 * allowed, f"seed {seed}: {difference}"


def test_merge_of_modules_is_the_articles():
    x, first, second = merge_example(3)
    modules = [
        torch.nn.Conv2d(1, 100, 3, padding=2, bias=False, dtype=torch.float64),
        torch.nn.Conv2d(100, 2, 5, padding=4, bias=False, dtype=torch.float64),
    ]
    for module, weight in zip(modules, (first, second), strict=True):
        module.weight.data = weight
    merged = merge(modules)
    assert sum(p.numel() for p in merged.parameters()) == 98
    assert (merged(x) - torch.nn.Sequential(*modules)(x)).abs().sum().item() < 1e-5


def unfold_example(seed=0):
    """Input (25, 3, 32, 32), weight (16, 3, 3, 3), float32."""
    x = torch.randn(25, 3, 32, 32, generator=torch.Generator().manual_seed(seed))
    return x, torch.randn(16, 3, 3, 3, generator=torch.Generator().manual_seed(seed + 1))


def unfold_matmul(x, weight):
    """As the article writes it."""
    columns = functional.unfold(x, weight.shape[2:])
    return columns, (weight.view(weight.shape[0], -1) @ columns).view(-1, 16, 30, 30)


def test_unfold_shapes():
    x, weight = unfold_example()
    columns, y = unfold_matmul(x, weight)
    assert UNFOLD.shapes == (tuple(x.shape), tuple(y.shape))
    assert UNFOLD.expanded[0].weight_shape(3) == tuple(weight.shape)
    assert tuple(columns.shape) == (25, 27, 900)
    assert tuple(y.shape) == (25, 16, 30, 30)


def test_unfold_and_conv2d_are_within_the_bound():
    """Both are sums of 27 products, in any order: at most 27 u of sum |w||x| off the exact result."""
    x, weight = unfold_example()
    exact = convolve(x, [Kernel(weight)], UNFOLD.layers)
    magnitude = functional.conv2d(x.double().abs(), weight.double().abs())
    for name, y in (
        ("unfold + matmul", unfold_matmul(x, weight)[1]),
        ("conv2d", functional.conv2d(x, weight)),
    ):
        assert_within(exact.error(y), sum_bound(27, torch.float32) * magnitude, name)


def test_unfold_and_conv2d_are_not_bitwise_equal():
    """The article calls the values completely equal. Its own figures, and these, differ at the end."""
    if not torch.backends.mkldnn.is_available():
        pytest.skip("without oneDNN, torch's own conv2d is an unfold and a matrix product")
    x, weight = unfold_example()
    different = unfold_matmul(x, weight)[1] != functional.conv2d(x, weight)
    assert different.any()
    assert abs(6.4978 - 6.4979) > 2 * 6.5 * unit_roundoff(torch.float32), "the article's figures are float32's"


@pytest.mark.parametrize(("stride", "padding", "dilation"), [(1, 0, 1), (2, 1, 1), ((1, 3), (0, 2), (2, 1))])
def test_numpy_im2col_is_unfold(stride, padding, dilation):
    """The same columns, (batch, in, kh, kw, oh, ow) in NumPy and (batch, in * kh * kw, oh * ow) by unfold."""
    x, _ = unfold_example()
    layer = Layer(16, (3, 2), stride, padding, dilation).expand(2)
    columns = im2col(x.numpy(), layer)
    unfolded = functional.unfold(x, layer.kernel_size, layer.dilation, layer.padding, layer.stride)
    assert numpy.array_equal(columns.reshape(25, 18, -1), unfolded.numpy())


def test_nine_shifted_slices():
    """NHWC: the nine shifted slices of the padded image beside each other, times (9 Cin, Cout)."""
    x, weight = unfold_example()
    image = functional.pad(x, (1, 1, 1, 1)).permute(0, 2, 3, 1)
    slices = [image[:, i : i + 32, j : j + 32] for i in range(3) for j in range(3)]
    columns = torch.cat(slices, dim=3).reshape(25, 32 * 32, 27)
    product = columns @ weight.permute(2, 3, 1, 0).reshape(27, 16)
    y = product.view(25, 32, 32, 16).permute(0, 3, 1, 2)
    layer = Layer(16, 3, padding=1)
    exact = convolve(x[:2], [Kernel(weight)], [layer])
    magnitude = functional.conv2d(x[:2].double().abs(), weight.double().abs(), padding=1)
    assert_within(exact.error(y[:2].contiguous()), sum_bound(27, torch.float32) * magnitude, "nine slices")


def test_patch_split_is_unfold():
    """(25, 3, 224, 224) in 14 x 14 patches is (25, 588, 256), by unfold or by reshape and transpose alone."""
    x = uniform(25, 3, 224, 224, seed=5, dtype=torch.float32)
    columns = functional.unfold(x, 14, stride=14)
    assert tuple(columns.shape) == (25, 588, 256)
    split = x.reshape(25, 3, 16, 14, 16, 14).permute(0, 1, 3, 5, 2, 4).reshape(25, 588, 256)
    assert torch.equal(split, columns)


def test_patches_catalogue_entry():
    """As many outputs as a patch has numbers, so that an identity weight returns the patches themselves."""
    assert PATCHES.shapes == ((25, 3, 224, 224), (25, 588, 16, 16))
    x = uniform(1, 3, 224, 224, seed=6)
    kernel = Kernel(torch.eye(588, dtype=torch.float64).view(588, 3, 14, 14))
    columns = functional.unfold(x, 14, stride=14)
    assert math.prod(columns.shape[1:]) == math.prod(PATCHES.shapes[-1][1:])
    for name in ("patch_matmul", "unfold_matmul", "direct"):
        y = METHODS[name](x, kernel, PATCHES.layers[0])
        assert torch.equal(y.reshape(1, 588, 256), columns), name
