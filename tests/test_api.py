"""The public functions: what goes in comes out in the same shape and scale, and bad input gets one sentence."""

from __future__ import annotations

import inspect
import json
import math
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

import napari_deqmd
from napari_deqmd import Reconstruction, ReconstructionConfig, UserError, make_psf, reconstruct, simulate
from napari_deqmd.core.regularizers import build
from napari_deqmd.training.models import save_model
from napari_deqmd.training.scenes import make_scene

PSF = make_psf("gaussian", sigma=1.2)
PSF_3D = make_psf("gaussian", ndim=3, sigma=(0.6, 1.2, 1.2))
QUICK = {"method": "md-tv", "max_iter": 8}


def scene(kind: str = "nuclei", side: int = 40, seed: int = 1) -> np.ndarray:
    return make_scene(kind, (side, side), np.random.default_rng(seed))


@pytest.fixture(scope="module")
def measured() -> np.ndarray:
    return simulate(scene(), PSF, 80, background=6, seed=3)


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A tiny untrained model in the user's folder."""
    torch.manual_seed(0)
    options = {"channels": 4, "depth": 2}
    monkeypatch.setenv("DEQMD_MODELS", str(tmp_path))
    save_model(
        build("red", options), tmp_path / "tiny.safetensors", {"family": "red", "options": options, "ndim": 2}
    )
    return "tiny"


@pytest.mark.parametrize("method", ["b-red", "b-pnp"])
def test_bregman_methods_find_their_own_default_model(measured, method):
    result = reconstruct(measured, PSF, method=method, peak=80, background=6, max_iter=60)
    assert result.report["model"]["name"] == "bregman-2d"
    assert np.isfinite(result.image).all()
    before, after = (np.square(image - 80 * scene()).mean() for image in (measured - 6, result.image))
    assert after < before


def test_the_peak_is_found_above_the_background_that_was_given(measured):
    quick = {"method": "rl", "max_iter": 1}
    found = reconstruct(measured, PSF, **quick).report
    given = reconstruct(np.stack([measured, measured]), PSF, axes="CYX", background=0, **quick).report
    assert given["background"] == 0
    assert given["peak"] == pytest.approx(found["peak"] + found["background"])
    with pytest.raises(UserError, match="Nothing rises above a background of 1000: lower it"):
        reconstruct(measured, PSF, background=1000, **quick)
    assert reconstruct(measured, PSF, background=1000, peak=5, **quick).report["peak"] == 5


def test_a_model_for_another_method_is_refused(measured, model):
    with pytest.raises(UserError, match="tiny is for deq-md, not b-red: choose another model or method"):
        reconstruct(measured, PSF, method="b-red", model=model)
    with pytest.raises(UserError, match="bregman-2d is for b-red or b-pnp, not deq-md"):
        reconstruct(measured, PSF, model="bregman-2d")


def test_a_model_for_colour_photographs_is_refused(measured, tmp_path):
    options = {"channels": 4, "depth": 2, "colours": 3}
    path = tmp_path / "colour.safetensors"
    save_model(build("red", options), path, {"family": "red", "options": options, "ndim": 2})
    with pytest.raises(UserError, match="colour takes the three channels of a colour photograph at once"):
        reconstruct(measured, PSF, model=path)


def test_what_the_upper_bound_cuts_off_is_said():
    dot = np.zeros((32, 32), np.float32)
    dot[16, 16] = 40.0
    counts = simulate(dot, PSF, 100, background=5, seed=0)
    cut, free = (
        reconstruct(counts, PSF, peak=100, background=5, upper=upper, **QUICK) for upper in (2.0, 1000.0)
    )
    assert any("upper bound, 2 times the peak" in sentence for sentence in cut.report["warnings"])
    assert cut.image.max() == pytest.approx(200, rel=1e-4)
    assert free.report["warnings"] == []


def test_the_upper_bound_of_a_stack_is_as_much_higher_as_its_psf_spreads_a_plane():
    tall = np.stack([PSF] * 5) / 5
    spot = np.zeros((6, 24, 24), np.float32)
    spot[3, 12, 12] = 1.0
    counts = simulate(spot, tall, 100, background=5, seed=0)
    bad = np.zeros(spot.shape, bool)
    bad[0, 0, 0] = True
    for mask in (None, bad):
        cut = reconstruct(counts, tall, peak=100, background=5, upper=0.1, mask=mask, **QUICK)
        assert cut.image.max() == pytest.approx(0.1 * 5 * 100, rel=1e-4)
        assert any("upper bound, 0.5 times the peak" in sentence for sentence in cut.report["warnings"])


def stack_of(axes: str) -> tuple[np.ndarray, np.ndarray]:
    """A stack whose items along T and C differ in brightness, and its PSF."""
    sizes = {"T": 2, "C": 3, "Z": 4, "Y": 21, "X": 18}
    spatial = tuple(sizes[a] for a in "ZYX" if a in axes)
    rng = np.random.default_rng(0)
    clean = ndimage.gaussian_filter(rng.random(spatial) ** 8, 1.0)
    clean /= clean.max()
    loops = [a for a in axes if a in "TC"]
    stack = np.stack([clean * (1 + i) for i in range(math.prod(sizes[a] for a in loops))])
    stack = stack.reshape(*(sizes[a] for a in loops), *spatial)
    order = loops + [a for a in "ZYX" if a in axes]
    counts = rng.poisson(40 * stack + 3)
    return counts.transpose([order.index(a) for a in axes]).astype(np.uint16), PSF_3D if "Z" in axes else PSF


def test_a_name_in_place_of_an_array_is_named(measured):
    with pytest.raises(UserError, match=r"The PSF is text \('gaussian:sigma=2'\): give an array"):
        reconstruct(measured, "gaussian:sigma=2", **QUICK)
    with pytest.raises(UserError, match=r"The image is text \('cells.tif'\): give an array"):
        reconstruct("cells.tif", PSF, **QUICK)


@pytest.mark.parametrize("axes", ["YX", "ZYX", "TYX", "TCYX", "CZYX", "TZYX", "ZCYX", "TCZYX"])
def test_shape_and_scale_are_kept(axes):
    counts, psf = stack_of(axes)
    before = counts.copy()
    result = reconstruct(counts, psf, axes=axes, background=3.0, **QUICK)
    assert result.image.shape == counts.shape
    assert result.image.dtype == np.float32
    assert result.config.axes == axes
    np.testing.assert_array_equal(counts, before)
    spatial = tuple(axes.index(a) for a in "ZYX" if a in axes)
    # Every item keeps its own light: none is dropped, repeated or in another's place.
    light, expected = result.image.mean(spatial), counts.mean(spatial) - 3
    np.testing.assert_allclose(light, expected, rtol=0.15)
    assert len(result.report["items"]) == light.size == result.report["items_total"]
    json.dumps(result.report)


@pytest.mark.parametrize("axes", ["TCYX", "ZCYX"])
def test_items_are_what_they_are_alone(axes):
    """With numbers given, an item of a stack is computed as if it were the whole image."""
    counts, psf = stack_of(axes)
    options = {**QUICK, "peak": 50.0, "background": 3.0}
    whole = reconstruct(counts, psf, axes=axes, **options).image
    c = axes.index("C")
    for channel in range(3):
        part, rest = counts.take(channel, c), axes.replace("C", "")
        alone = reconstruct(part, psf, axes=rest, **options).image
        np.testing.assert_array_equal(whole.take(channel, c), alone)


def test_two_and_three_dimensions_need_no_axes():
    assert reconstruct(*stack_of("YX"), **QUICK).config.axes == "YX"
    assert reconstruct(*stack_of("ZYX"), **QUICK).config.axes == "ZYX"


def test_channels_have_their_own_peak_and_share_it_over_time():
    counts, psf = stack_of("TCYX")
    items = reconstruct(counts, psf, axes="TCYX", method="rl", max_iter=2).report["items"]
    peaks = {(item["index"]["T"], item["index"]["C"]): item["peak"] for item in items}
    for channel in range(3):
        assert peaks[0, channel] == peaks[1, channel]
    assert len({peaks[0, channel] for channel in range(3)}) == 3


@pytest.mark.parametrize("dtype", ["u1", ">u2", "i4", "f4", "f8"])
def test_every_type_of_counts_gives_the_same(dtype, measured):
    counts = np.round(measured).clip(0, 255)
    expected = reconstruct(counts, PSF, **QUICK).image
    np.testing.assert_array_equal(reconstruct(counts.astype(dtype), PSF, **QUICK).image, expected)


def test_views_with_strides_and_read_only_arrays_work(measured):
    expected = reconstruct(measured, PSF, **QUICK).image
    view = measured.T.copy().T
    view.flags.writeable = False
    np.testing.assert_array_equal(reconstruct(view, PSF, **QUICK).image, expected)


@pytest.mark.parametrize("method", ["deq-md", "md-tv", "rl", "rl-accelerated"])
def test_every_method_comes_closer_to_the_truth(method, measured, model):
    """Than the image itself, after its background is taken off."""
    clean = scene()
    blurred = ndimage.gaussian_filter(np.pad(clean, 6, mode="symmetric"), 1.2)[6:-6, 6:-6]
    truth = clean * 80 / blurred.max()
    result = reconstruct(measured, PSF, method=method, model=model, peak=80, background=6, max_iter=6)
    assert np.linalg.norm(result.image - truth) < np.linalg.norm(measured - 6 - truth)
    assert (result.image >= 0).all()
    assert result.report["config"]["method"] == method


@pytest.mark.parametrize("solver", ["accelerated", "plain"])
def test_history_and_report_tell_the_run(solver, measured):
    result = reconstruct(measured, PSF, method="md-tv", solver=solver, max_iter=12)
    history, report = result.history, result.report
    assert set(history) == {"objective", "residual", "step_size", "seconds"}
    assert len({len(column) for column in history.values()}) == 1
    assert (np.diff(history["objective"]) <= 0).all()
    assert (np.diff(history["seconds"]) >= 0).all()
    assert report["objective_first"] == history["objective"][0]
    assert report["objective_last"] == history["objective"][-1]
    assert report["certificate"] == history["residual"][-1]
    assert report["iterations"] <= 12
    assert report["seconds"] > 0
    assert report["peak_memory_bytes"] > 0
    assert report["device"] == "cpu"
    assert report["versions"]["napari_deqmd"] == napari_deqmd.__version__
    assert report["stopped_by"] == result.stopped_by


def test_a_run_that_converges_says_so(measured):
    result = reconstruct(measured, PSF, method="md-tv", tol=1e-2)
    assert result.stopped_by == "converged"
    assert result.report["iterations"] < 200
    assert reconstruct(measured, PSF, method="md-tv", max_iter=1).stopped_by == "max_iter"


def test_on_step_follows_seed():
    names = list(inspect.signature(reconstruct).parameters)
    assert names[names.index("seed") + 1] == "on_step"


def test_on_step_sees_every_step_and_can_stop(measured):
    seen = []

    def stop_at_five(progress):
        seen.append(progress)
        return False if len(seen) == 5 else None

    result = reconstruct(measured, PSF, method="md-tv", on_step=stop_at_five)
    assert result.stopped_by == "user"
    assert len(seen) == 5 == len(result.history["objective"])
    iterate = seen[-1].step.iterate[0, 0].numpy() * result.report["peak"]
    inner = tuple(
        slice((n - m) // 2, (n + m) // 2) for n, m in zip(iterate.shape, measured.shape, strict=True)
    )
    np.testing.assert_allclose(result.image, iterate[inner], rtol=1e-6)  # the current iterate is kept
    assert seen[0].items == 1
    assert seen[0].index == ()


def test_a_false_of_numpy_stops(measured):
    result = reconstruct(measured, PSF, on_step=lambda progress: np.float64(1) < 0, **QUICK)
    assert (result.stopped_by, len(result.history["objective"])) == ("user", 1)


def test_stopping_in_a_stack_keeps_what_is_done():
    counts, psf = stack_of("TYX")
    result = reconstruct(counts, psf, axes="TYX", on_step=lambda progress: progress.item == 0, **QUICK)
    assert result.stopped_by == "user"
    assert result.image[0].any()
    assert len(result.report["items"]) == 2
    assert [item["stopped_by"] for item in result.report["items"]] == ["max_iter", "user"]


def test_a_job_can_be_driven_by_hand(measured):
    job = Reconstruction(measured, PSF, ReconstructionConfig(**QUICK))
    assert (job.items, job.max_iter, job.device) == (1, 8, "cpu")
    assert not job.image.any()
    with pytest.raises(UserError, match="run the job first"):
        job.result()
    steps = job.steps()
    progress = next(steps)
    assert job.photons is not None
    preview = job.preview(progress)
    assert preview.shape == measured.shape
    assert preview.dtype == np.float32
    preview[:] = -1  # a copy: nothing of the run hangs on it
    progress = list(steps)[-1]
    assert job.result().image.min() >= 0
    np.testing.assert_array_equal(job.result().image, job.preview(progress))
    np.testing.assert_array_equal(job.image, job.result().image)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"peak": 77.0, "background": 5.0}, (77.0, 5.0)),
        ({"peak": 77.0}, (77.0, None)),
        ({"background": 5.0}, (None, 5.0)),
        ({}, (None, None)),
    ],
)
def test_what_is_given_is_used_and_the_rest_is_estimated(given, expected, measured):
    report = reconstruct(measured, PSF, **given, **QUICK).report
    peak, background = expected
    assert report["peak"] == peak if peak is not None else 40 < report["peak"] < 120
    assert report["background"] == background if background is not None else 3 < report["background"] < 12


def test_the_result_does_not_depend_on_camera_units(measured):
    """Offset and gain are taken off first: the answer is in photo-electrons."""
    electrons = np.round(measured)
    one = reconstruct(electrons, PSF, **QUICK)
    two = reconstruct(100 + 2 * electrons, PSF, offset=100, gain=2, **QUICK)
    np.testing.assert_allclose(two.image, one.image, rtol=1e-4, atol=1e-3)


def test_a_configuration_gives_the_same_bits_again(measured, model):
    first = reconstruct(measured, PSF, model=model, peak=70, max_iter=10)
    text = json.dumps(first.report["config"])
    config = ReconstructionConfig.from_dict(json.loads(text))
    assert config == first.config
    job = Reconstruction(measured, PSF, config)
    for _ in job.steps():
        pass
    assert job.result().image.tobytes() == first.image.tobytes()
    np.testing.assert_array_equal(job.result().history["objective"], first.history["objective"])


def test_the_model_is_named_in_the_report(measured, model):
    report = reconstruct(measured, PSF, model=model, max_iter=2).report
    assert report["model"]["name"] == "tiny"
    assert len(report["model"]["sha256"]) == 64
    assert reconstruct(measured, PSF, **QUICK).report["model"] is None


def test_a_path_names_a_model_too(measured, model, tmp_path, monkeypatch):
    by_name = reconstruct(measured, PSF, model=model, max_iter=3).image
    monkeypatch.setenv("DEQMD_MODELS", str(tmp_path / "nowhere"))
    by_path = reconstruct(measured, PSF, model=tmp_path / "tiny.safetensors", max_iter=3)
    np.testing.assert_array_equal(by_path.image, by_name)


def test_a_2d_model_reconstructs_a_stack(model):
    counts, psf = stack_of("ZYX")
    assert reconstruct(counts, psf, model=model, max_iter=3).image.shape == counts.shape


@pytest.mark.parametrize("method", ["deq-md", "md-tv"])
def test_with_all_orientations_an_image_and_the_image_turned_are_restored_alike(measured, model, method):
    def turned_by(turns, **options):
        counts = np.ascontiguousarray(np.rot90(measured, turns))
        options |= {"model": model, "method": method, "peak": 80, "background": 6, "max_iter": 5}
        return np.rot90(reconstruct(counts, PSF, **options).image, -turns)

    def differ(**options):
        straight, turned = (turned_by(turns, **options) for turns in (0, 1))
        return np.linalg.norm(turned - straight) / np.linalg.norm(straight)

    assert differ() > 30 * differ(orientations=4)


def test_all_orientations_also_in_half_precision(measured, model, monkeypatch):
    on_a_processor(monkeypatch, "AVX512")
    options = {"model": model, "peak": 80, "background": 6, "max_iter": 10, "orientations": 4}
    full = reconstruct(measured, PSF, **options)
    half = reconstruct(measured, PSF, precision="bfloat16", **options)
    assert full.config.orientations == 4
    one = reconstruct(measured, PSF, **options | {"orientations": 1})
    size = np.linalg.norm(full.image)
    assert np.linalg.norm(half.image - full.image) < 0.02 * size
    assert np.linalg.norm(one.image - full.image) > 1e-4 * size


@pytest.mark.parametrize(
    ("method", "peak", "told"), [("b-pnp", 80, 0), ("b-pnp", 4000, 1), ("b-red", 4000, 0)]
)
def test_a_strength_that_b_pnp_cannot_have_is_told(measured, method, peak, told):
    found = reconstruct(measured, PSF, method=method, peak=peak, background=6, max_iter=2)
    assert sum("whatever the strength" in sentence for sentence in found.report["warnings"]) == told


def on_a_processor(monkeypatch, capability):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)


def test_half_precision_is_close(measured, model, monkeypatch):
    on_a_processor(monkeypatch, "AVX512")
    options = {"model": model, "peak": 80, "background": 6, "max_iter": 10}
    full = reconstruct(measured, PSF, **options).image
    half = reconstruct(measured, PSF, precision="bfloat16", **options).image
    assert np.linalg.norm(half - full) < 0.05 * np.linalg.norm(full)


@pytest.mark.parametrize("method", ["deq-md", "rl"])
def test_half_precision_on_a_processor_without_is_told(measured, model, monkeypatch, method):
    on_a_processor(monkeypatch, "AVX2")
    options = {"model": model, "method": method, "max_iter": 1, "precision": "bfloat16"}
    told = pytest.warns(UserWarning, match="use float32") if method == "deq-md" else nullcontext()
    with told:
        reconstruct(measured, PSF, **options)


@pytest.mark.parametrize("method", ["md-tv", "rl-accelerated"])
def test_light_near_the_border_stays_and_makes_no_rim(method):
    """Structures run through the border: the outer pixels hold the truth's light, where wrapping does not."""
    wide = scene("filaments", 96, seed=4)
    blurred = ndimage.gaussian_filter(wide, 1.5, mode="constant")
    inner = (slice(24, 72), slice(20, 68))
    truth = wide[inner]
    seen = blurred[inner] / blurred[inner].max()
    peak = 400.0
    counts = np.random.default_rng(0).poisson(peak * seen + 20)
    psf = make_psf("gaussian", sigma=1.5)
    options = {"peak": peak, "background": 20.0, "method": method, "max_iter": 40}
    rim = np.ones(truth.shape, bool)
    rim[4:-4, 4:-4] = False
    expected = truth * peak / blurred[inner].max()
    extended = reconstruct(counts, psf, **options).image
    periodic = reconstruct(counts, psf, boundary="periodic", **options).image
    assert extended.shape == counts.shape
    assert extended[rim].sum() == pytest.approx(expected[rim].sum(), rel=0.15)
    assert extended[rim].max() < 1.3 * max(expected.max(), extended[~rim].max())
    error = [np.linalg.norm((image - expected)[rim]) for image in (extended, periodic)]
    assert error[0] < error[1]


@pytest.mark.parametrize("boundary", ["extended", "periodic"])
@pytest.mark.parametrize("shape", [(15, 18), (16, 16)])
def test_a_psf_larger_than_the_image_is_no_error(boundary, shape):
    counts = np.random.default_rng(0).poisson(20 * ndimage.gaussian_filter(np.eye(*shape), 1) + 3)
    psf = make_psf("gaussian", sigma=6.0)
    assert psf.shape[0] > shape[0]
    options = {"boundary": boundary, "peak": 20.0, "background": 3.0, **QUICK}
    if boundary == "extended":
        with pytest.warns(UserWarning, match="larger than the image"):
            result = reconstruct(counts, psf, **options)
    else:
        result = reconstruct(counts, psf, **options)
    assert np.isfinite(result.image).all()


def spoiled(value: float) -> np.ndarray:
    image = np.arange(600, dtype=np.float32).reshape(20, 30)
    image[3, 4] = value
    return image


RAMP = spoiled(0.0)
BAD = {
    "nan": ({"image": spoiled(np.nan)}, "NaN"),
    "inf": ({"image": spoiled(np.inf)}, "infinite"),
    "negative": ({"image": spoiled(-5)}, "negative"),
    "constant": ({"image": np.full((20, 30), 7)}, "constant"),
    "rgb": ({"image": np.arange(1800).reshape(20, 30, 3)}, "RGB"),
    "bool": ({"image": RAMP > 9}, "bool"),
    "complex": ({"image": RAMP * 1j}, "complex"),
    "empty": ({"image": np.zeros((0, 30))}, "empty"),
    "one line": ({"image": np.arange(9)}, "two dimensions"),
    "axes untold": ({"image": np.ones((2, 2, 20, 30)) * RAMP}, "axes"),
    "wrong axes": ({"axes": "ZYX"}, "axes"),
    "unknown axes": ({"axes": "QX"}, "Axes"),
    "voxel size": ({"voxel_size": (0.3, 0.1, 0.1)}, "voxel size"),
    "peak": ({"peak": 0}, "peak"),
    "gain": ({"gain": 0}, "gain"),
    "offset beyond the image": ({"offset": 1e6}, "offset"),
    "offset beyond the image, peak and background given": (
        {"offset": 1e6, "peak": 50.0, "background": 1.0},
        "No pixel is above the offset",
    ),
    "method": ({"method": "wiener"}, "method"),
    "model": ({"method": "deq-md", "model": "no-such-model"}, "no-such-model"),
    "device": ({"device": "quantum"}, "quantum"),
    "no device": ({"device": None}, "None"),
    "peaks of channels": ({"peak": np.array([50.0, 60.0])}, "peak"),
    "an image to start from": ({"start": RAMP}, "result.iterates"),
    "all-zero psf": ({"psf": np.zeros((5, 5))}, "PSF"),
    "nan psf": ({"psf": np.full((5, 5), np.nan)}, "PSF"),
    "3d psf for an image": ({"psf": PSF_3D}, "PSF"),
    "2d psf for a stack": ({"image": np.ones((4, 1, 1)) * RAMP, "axes": "ZYX"}, "PSF"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_sentence_before_any_work(name):
    changes, word = BAD[name]
    arguments = {"image": RAMP, "psf": PSF, **QUICK, **changes}
    with pytest.raises(UserError) as caught:
        reconstruct(**arguments, on_step=lambda progress: pytest.fail("it began"))
    assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_channel_without_contrast_is_told_before_the_others_are_computed():
    """Its peak cannot be estimated: nobody should wait for the first channel to hear that."""
    counts = np.stack([RAMP, np.full_like(RAMP, 5)])
    with pytest.raises(UserError, match="Channel 1: Every pixel"):
        reconstruct(counts, PSF, axes="CYX", on_step=lambda progress: pytest.fail("it began"), **QUICK)


def test_a_frame_without_light_is_dark_and_ends():
    """A shutter that closed: with the peak known from the others, the answer is no light."""
    counts = np.stack([RAMP, np.zeros_like(RAMP)])
    result = reconstruct(counts, PSF, axes="TYX", **QUICK)
    assert result.image[1].max() < 1e-3 * result.image[0].max()
    assert result.report["items"][1]["stopped_by"] == "converged"


def test_a_model_for_stacks_is_refused_for_an_image(tmp_path, monkeypatch):
    monkeypatch.setenv("DEQMD_MODELS", str(tmp_path))
    options = {"channels": 4, "depth": 2}
    save_model(
        build("red", options), tmp_path / "deep.safetensors", {"family": "red", "options": options, "ndim": 3}
    )
    with pytest.raises(UserError, match="3D"):
        reconstruct(RAMP, PSF, model="deep")


def test_too_little_memory_is_told_first(monkeypatch):
    monkeypatch.setattr("napari_deqmd.scale.memory.available_bytes", lambda device: 10_000)
    with pytest.raises(UserError, match="needs about"):
        Reconstruction(RAMP, PSF, ReconstructionConfig(**QUICK))


# --- simulate ---


def test_simulated_counts_have_the_mean_and_the_variance_of_poisson():
    clean = np.full((160, 160), 0.999)
    clean[80, 80] = 1.0
    counts = simulate(clean, PSF, 50, background=10, offset=100, gain=2.0, seed=1)
    electrons = (counts - 100) / 2
    assert counts.dtype == np.float32
    assert counts.shape == clean.shape
    assert electrons.mean() == pytest.approx(60, rel=0.01)
    assert electrons.var() == pytest.approx(60, rel=0.05)
    np.testing.assert_array_equal(electrons, np.round(electrons))


def test_the_brightest_pixel_of_the_blurred_image_has_the_peak():
    clean = scene(side=48)
    mean = np.mean([simulate(clean, PSF, 200, background=4, seed=i) for i in range(40)], axis=0)
    blurred = ndimage.gaussian_filter(clean.astype(float), 1.2, mode="reflect")
    expected = 200 * blurred / blurred.max() + 4
    assert np.abs(mean - expected).max() < 6 * np.sqrt(204 / 40)
    assert mean.mean() == pytest.approx(expected.mean(), rel=0.01)


def test_the_seed_decides_the_noise():
    one, two, other = (simulate(scene(), PSF, 30, seed=seed) for seed in (7, 7, 8))
    np.testing.assert_array_equal(one, two)
    assert (one != other).any()


def test_stacks_are_simulated_item_by_item_on_one_scale():
    clean = np.stack([scene(), 0.5 * scene()])
    both = simulate(clean, PSF, 1e6, axes="TYX")
    assert both.shape == clean.shape
    assert both[1].sum() / both[0].sum() == pytest.approx(0.5, rel=1e-3)
    last = simulate(np.moveaxis(np.stack([clean] * 3), 0, 1), PSF_3D[1:2].sum(0), 1e6, axes="TCYX")
    assert last.shape == (2, 3, 40, 40)


@pytest.mark.parametrize("boundary", ["extended", "periodic"])
def test_simulating_and_reconstructing_share_the_blur(boundary):
    """Hardly any noise: the model of the reconstruction explains the simulated image."""
    clean = scene()
    counts = simulate(clean, PSF, 1e5, background=1e4, boundary=boundary)
    result = reconstruct(
        counts, PSF, peak=1e5, background=1e4, boundary=boundary, method="rl-accelerated", max_iter=60
    )
    mode = "wrap" if boundary == "periodic" else "reflect"
    again = ndimage.gaussian_filter(result.image.astype(float), 1.2, mode=mode) + 1e4
    inside = (slice(5, -5),) * 2
    assert np.abs(again - counts)[inside].max() < 0.02 * counts.max()


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"peak": 0}, "peak"),
        ({"peak": "auto"}, "peak"),
        ({"background": -1}, "background"),
        ({"background": "auto"}, "background"),
        ({"gain": 0}, "gain"),
        ({"boundary": "mirror"}, "boundary"),
        ({"seed": -1}, "seed"),
        ({"image": -scene()}, "negative"),
        ({"image": np.zeros((8, 8))}, "constant"),
        ({"psf": np.zeros((3, 3))}, "PSF"),
    ],
)
def test_simulate_tells_what_is_wrong(changes, word):
    with pytest.raises(UserError, match=word):
        simulate(**{"image": scene(), "psf": PSF, "peak": 30, **changes})


def test_the_core_runs_on_torch_numpy_and_scipy_only():
    """Also what a run imports late; `test_package` looks at the imports alone."""
    code = """
import sys
from contextlib import nullcontext
for name in ("PIL", "dask", "magicgui", "napari", "pyqtgraph", "qtpy", "safetensors", "skimage", "tifffile", "tqdm"):
    sys.modules[name] = None  # an import of it raises ImportError
import torch
from napari_deqmd.core.config import ReconstructionConfig
from napari_deqmd.core.methods import regularizer_of, solve
from napari_deqmd.core.operators import Blur
from napari_deqmd.core.photons import estimate_photons
from napari_deqmd.core.problem import Problem
electrons = torch.poisson(torch.rand(1, 1, 12, 12) * 30)
estimate_photons(electrons[0, 0].numpy())
blur, peak = Blur(torch.ones(3, 3) / 9, (12, 12)), torch.tensor([30.0])
for method in ("md-tv", "rl-accelerated"):
    config = ReconstructionConfig(method=method, max_iter=5)
    prior = regularizer_of(config, None, "cpu")
    problem = Problem.from_electrons(electrons, blur, prior, peak=peak, background=peak / 30)
    print([step.stopped_by for step in solve(problem, config)][-1])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["max_iter", "max_iter"]


class TestReadNoise:
    """A dim image under three electrons of read noise."""

    @pytest.fixture
    def dim(self):
        rng = np.random.default_rng(0)
        sharp = np.zeros((96, 96), np.float32)
        sharp[10:86, 30] = sharp[48, 8:88] = sharp[70:74, 60:80] = 1
        y, x = np.mgrid[-6:7, -6:7]
        psf = np.exp(-(y**2 + x**2) / (2 * 1.5**2)).astype(np.float32)
        clean = simulate(sharp, psf, peak=12, background=1, seed=1)
        counts = 2 * (clean + 3 * rng.standard_normal(clean.shape)) + 100
        return sharp, psf, np.clip(np.rint(counts), 0, None)

    @pytest.mark.parametrize("method", ["rl", "md-tv"])
    def test_known_read_noise_makes_it_better(self, dim, method):
        sharp, psf, counts = dim

        def correlation(read_noise):
            result = reconstruct(
                counts, psf, 12, 1, 100, 2, method=method, max_iter=25, device="cpu", read_noise=read_noise
            )
            assert result.report["read_noise"] == read_noise
            return np.corrcoef(result.image.ravel(), sharp.ravel())[0, 1], result.image

        (without, _), (known, image) = correlation(0.0), correlation(3.0)
        assert known > without + 0.02
        # What the clipped noise adds to the dark is not taken for light.
        dark = image[:25, 50:]
        assert dark.mean() < 0.7

    def test_automatic_background_is_the_light_s(self, dim):
        _, psf, counts = dim
        result = reconstruct(
            counts, psf, offset=100, gain=2, method="rl", max_iter=1, device="cpu", read_noise=3
        )
        assert result.report["background"] == pytest.approx(1, abs=0.8)
        assert result.report["peak"] == pytest.approx(12, rel=0.3)
        assert not any("below the offset" in sentence for sentence in result.report["warnings"])

    def test_refused(self, dim):
        with pytest.raises(UserError, match="read_noise is -1"):
            reconstruct(dim[2], dim[1], read_noise=-1)


def test_a_last_axis_that_is_probably_z_is_told():
    stack = np.random.default_rng(0).poisson(20, (40, 44, 9))
    with pytest.warns(UserWarning, match="40 x 44 x 9 and taken to be ZYX: if its last axis is Z"):
        reconstruct(stack, PSF_3D, method="rl", max_iter=1)
