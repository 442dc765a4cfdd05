"""The blur: exact transposes, preserved constants, and agreement with SciPy's convolutions."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy import ndimage, signal

from core.problems import identity, random_psf
from core.tolerances import DTYPES, EXACT, relative_error
from napari_deqmd.core.errors import UserError
from napari_deqmd.core.operators import Blur

# Image and kernel: odd and even sides, unequal ones, a kernel of one pixel, lengths with large prime factors.
SIZES = [
    ((13, 13), (5, 5)),
    ((12, 16), (4, 6)),
    ((11, 18), (4, 5)),
    ((17, 23), (1, 7)),
    ((10, 10), (1, 1)),
    ((9, 9), (9, 9)),
    ((5, 8, 7), (3, 4, 5)),
    ((6, 9, 10), (5, 3, 4)),
    ((4, 7, 11), (1, 3, 3)),
]
OPERATORS = [
    pytest.param(image, kernel, boundary, s, id=f"{image}-{kernel}-{boundary}-{s}")
    for (image, kernel), boundary, s in itertools.product(SIZES, ("periodic", "extended"), (1, 2, 3))
]


def draw(shape, dtype, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batch", [0, 3])
@pytest.mark.parametrize(("image", "kernel", "boundary", "downsample"), OPERATORS)
def test_adjoint_is_the_transpose(image, kernel, boundary, downsample, batch, dtype):
    blur = Blur(random_psf(kernel, dtype=dtype, batch=batch), image, boundary=boundary, downsample=downsample)
    x = draw((3, 1, *blur.object_shape), dtype, 1)
    v = draw((3, 1, *image), dtype, 2)
    left, right = blur.forward(x), blur.adjoint(v)
    assert left.shape == v.shape
    assert right.shape == x.shape
    assert left.dtype == right.dtype == dtype
    for i in range(3):  # of every image on its own: a mixed-up batch keeps the sum
        one, other = (left[i] * v[i]).sum().double(), (x[i] * right[i]).sum().double()
        scale = left[i].double().norm() * v[i].double().norm()
        assert abs(one - other) < EXACT[dtype] * scale


@pytest.mark.parametrize(("image", "kernel", "boundary", "downsample"), OPERATORS)
def test_a_constant_stays_what_it_is(image, kernel, boundary, downsample):
    blur = Blur(random_psf(kernel), image, boundary=boundary, downsample=downsample)
    flat = torch.ones(1, 1, *blur.object_shape, dtype=torch.float64)
    assert torch.allclose(blur.forward(flat), torch.ones(1, 1, *image, dtype=torch.float64), atol=1e-12)


@pytest.mark.parametrize(("image", "kernel", "boundary", "downsample"), OPERATORS)
def test_sensitivity_is_the_transpose_of_ones(image, kernel, boundary, downsample):
    """Counted: what every object pixel gives to the image, from the dense matrix's columns."""
    blur = Blur(random_psf(kernel), image, boundary=boundary, downsample=downsample)
    assert blur.sensitivity.shape == (1, 1, *blur.object_shape)
    rng = np.random.default_rng(0)
    for _ in range(6):
        place = tuple(int(rng.integers(n)) for n in blur.object_shape)
        spike = torch.zeros(1, 1, *blur.object_shape, dtype=torch.float64)
        spike[(0, 0, *place)] = 1
        assert blur.forward(spike).sum().item() == pytest.approx(
            blur.sensitivity[(0, 0, *place)].item(), abs=1e-12
        )


@pytest.mark.parametrize(("image", "kernel"), SIZES)
def test_extended_is_scipys_valid_convolution(image, kernel):
    psf = random_psf(kernel)
    blur = Blur(psf, image, boundary="extended")
    assert blur.object_shape == tuple(n + k - 1 for n, k in zip(image, kernel, strict=True))
    x = draw((2, 1, *blur.object_shape), torch.float64, 3)
    for i in range(2):
        expected = torch.from_numpy(
            signal.convolve(x[i, 0].numpy(), psf.numpy(), mode="valid", method="direct")
        )
        assert relative_error(blur.forward(x)[i, 0], expected) < EXACT[torch.float64]


@pytest.mark.parametrize(("image", "kernel"), SIZES)
def test_periodic_is_scipys_wrapped_convolution(image, kernel):
    psf = random_psf(kernel)
    blur = Blur(psf, image, boundary="periodic")
    assert blur.object_shape == image
    x = draw((1, 1, *image), torch.float64, 4)
    expected = torch.from_numpy(ndimage.convolve(x[0, 0].numpy(), psf.numpy(), mode="wrap"))
    assert relative_error(blur.forward(x)[0, 0], expected) < EXACT[torch.float64]


def test_every_image_of_a_batch_has_its_own_kernel():
    psf = random_psf((4, 5), batch=3)
    together = Blur(psf, (11, 12))
    x = draw((3, 1, *together.object_shape), torch.float64, 5)
    assert together.sensitivity.shape == (3, 1, *together.object_shape)
    for i in range(3):
        alone = Blur(psf[i, 0], (11, 12))
        assert relative_error(together.forward(x)[i], alone.forward(x[i : i + 1])[0]) < 1e-12
        assert relative_error(together.sensitivity[i], alone.sensitivity[0]) < 1e-12


@pytest.mark.parametrize(("kernel", "downsample"), [((5, 5), 1), ((4, 6), 1), ((4, 5), 2)])
def test_crop_is_the_field_of_view(kernel, downsample):
    """A kernel with one lit pixel at its centre images exactly what `crop` returns."""
    psf = torch.zeros(kernel, dtype=torch.float64)
    psf[kernel[0] // 2, kernel[1] // 2] = 1
    blur = Blur(psf, (9, 8), downsample=downsample)
    x = draw((1, 1, *blur.object_shape), torch.float64, 7)
    seen = blur.crop(x)
    assert seen.shape[2:] == (9 * downsample, 8 * downsample)
    pooled = torch.nn.functional.avg_pool2d(seen, downsample)
    assert relative_error(blur.forward(x), pooled) < 1e-12


@pytest.mark.parametrize(("image", "kernel", "boundary", "downsample"), OPERATORS)
def test_near_grows_the_field_of_view_to_the_whole_object(image, kernel, boundary, downsample):
    blur = Blur(random_psf(kernel), image, boundary=boundary, downsample=downsample)
    x = draw((1, 1, *blur.object_shape), torch.float64, 11)
    assert torch.equal(x[blur.near(0)], blur.crop(x))
    assert torch.equal(x[blur.near(max(blur.object_shape))], x)
    wider = x[blur.near(1)].shape[2:]
    for n, whole, seen in zip(image, blur.object_shape, wider, strict=True):
        assert downsample * n <= seen <= min(downsample * n + 2, whole)


def test_downsampling_averages_blocks():
    blur = Blur(identity(), (4, 5), boundary="periodic", downsample=2)
    x = draw((1, 1, 8, 10), torch.float64, 8)
    assert relative_error(blur.forward(x), x.reshape(1, 1, 4, 2, 5, 2).mean((3, 5))) < 1e-12


def test_forward_leaves_its_argument_alone_and_can_be_differentiated():
    blur = Blur(random_psf((3, 4)), (8, 9))
    x = draw((1, 1, *blur.object_shape), torch.float64, 9).requires_grad_()
    v = draw((1, 1, 8, 9), torch.float64, 10)
    before = x.detach().clone()
    (gradient,) = torch.autograd.grad((blur.forward(x) * v).sum(), x)
    assert torch.equal(x.detach(), before)
    assert relative_error(gradient, blur.adjoint(v)) < 1e-12


def test_a_kernel_larger_than_a_periodic_image_is_refused():
    with pytest.raises(UserError, match="larger than the image"):
        Blur(random_psf((9, 9)), (8, 12), boundary="periodic")


def test_a_kernel_of_another_dimension_is_refused():
    with pytest.raises(UserError, match="dimensions"):
        Blur(random_psf((3, 3, 3)), (8, 8))
