"""The paper's benchmark: images are what it says, weights are chosen on others, colour is one image, rows go on."""

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from skimage import io as skio

from benchmarks.test_fluorescence import made
from napari_deqmd.benchmarks import paper_cases
from napari_deqmd.benchmarks.conditions import by_colour
from napari_deqmd.benchmarks.fluorescence import Job, Method, Record, plan, run
from napari_deqmd.benchmarks.paper import (
    FACTORS,
    PAPERS_RULE,
    methods,
    planned,
    resolved,
    searched,
    swept,
    until_still,
)
from napari_deqmd.benchmarks.paper_cases import QUICK, SET3C, TEST, VALIDATION, PaperCase, cases, counted
from napari_deqmd.benchmarks.paper_report import endings, markdown, panels
from napari_deqmd.cli import main
from napari_deqmd.core.errors import UserError
from napari_deqmd.core.regularizers import TotalVariation, build
from napari_deqmd.core.solvers import mirror_descent
from napari_deqmd.psf.theory import make_psf
from napari_deqmd.training.models import save_model
from napari_deqmd.training.recipe_files import suffix

TINY = replace(QUICK, side=16, max_iter=3, long=4)
MINIMISE = partial(mirror_descent, max_iter=6)


def photograph(seed=0, side=20):
    rough = np.random.default_rng(seed).random((3, 5, 5)).astype(np.float32)
    return np.kron(rough, np.ones((side // 5, side // 5), np.float32))


@pytest.fixture
def case():
    psf = make_psf("gaussian", sigma=1.0)
    condition = counted("Set3C gaussian", photograph(), psf, 60.0, image_name="leaf, noise 0")
    return PaperCase(condition, condition.measurement)


@pytest.fixture
def data(tmp_path):
    for part, names in ((SET3C, ("a", "b")), (TEST, ("c", "d")), (VALIDATION, ("e",))):
        (tmp_path / part).mkdir(parents=True)
        for name in names:
            image = np.moveaxis(photograph(ord(name)), 0, -1)
            skio.imsave(tmp_path / part / f"{name}.png", (255 * image).astype(np.uint8), check_contrast=False)
    return tmp_path


class TestImages:
    def test_the_protocol_is_the_papers(self, case):
        problem = case.given.problem(TotalVariation())
        assert problem.upper == 1
        assert not problem.shifted
        assert problem.likelihood.operator.object_shape == (20, 20)  # periodic
        assert case.given.background.item() == 0
        # Photons are those of the blurred image, of every channel.
        expected = 60 * problem.likelihood.operator.forward(case.given.truth)
        deviance = (case.given.electrons - expected) / expected.sqrt()
        assert deviance.square().mean().item() == pytest.approx(1, abs=0.15)

    def test_seeds_draw_other_photons_of_the_same_image(self, data):
        found = list(cases(data, replace(TINY, seeds=2)))
        assert {one.condition.label for one in found} == {
            "validation gaussian",
            "Set3C gaussian",
            "BSDS gaussian",
        }
        first, second = (one for one in found if one.condition.image.startswith("a,"))
        assert torch.equal(first.given.truth, second.given.truth)
        assert not torch.equal(first.given.electrons, second.given.electrons)
        others = list(cases(data, replace(TINY, seeds=2), seed=1))
        again = next(one for one in others if one.condition.image == "a, noise 1")
        assert torch.equal(again.given.electrons, second.given.electrons)
        assert {tuple(one.given.truth.shape) for one in found} == {(1, 3, 16, 16)}

    def test_variations_are_told_wrong_things_of_one_image(self, data, monkeypatch):
        monkeypatch.setattr(paper_cases, "kernel", lambda text, data: np.full((3, 3), 1 / 9, np.float32))
        found = {one.variation: one for one in paper_cases.variations({"a": photograph()}, data, 0)}
        usual, doubled = found[paper_cases.AS_IS], found["peak told × 2"]
        assert torch.equal(doubled.given.electrons, usual.given.electrons)
        assert doubled.given.peak.item() == 200
        assert doubled.condition.upper == 0.5
        fine = found["2 × finer"].given
        assert tuple(fine.electrons.shape[2:]) == (10, 10)
        assert fine.problem(TotalVariation()).likelihood.operator.object_shape == (20, 20)
        colour = build("red", {"channels": 4, "depth": 2, "colours": 3})
        gray = Method("TV", MINIMISE, TotalVariation(), robust=True)
        for method in (gray, Method("deq", MINIMISE, colour, robust=True, colours=3, strength=1e-3)):
            for one in found.values():
                row, image = Job(one, method).run()
                assert image.shape == (3, 20, 20)
                assert row.psnr > 10

    def test_no_such_folder_is_told(self, tmp_path):
        with pytest.raises(UserError, match="has no folder natural/set3c"):
            list(cases(tmp_path, TINY))


class TestMethods:
    def test_gray_methods_take_the_channels_one_by_one(self, case):
        assert tuple(by_colour(case.given).electrons.shape) == (3, 1, 20, 20)
        row, image = Job(case, Method("TV", MINIMISE, TotalVariation())).run()
        one = by_colour(case.given)[1:2]
        *_, end = MINIMISE(one.problem(TotalVariation()))
        assert np.allclose(image[1], end.iterate[0, 0].numpy(), atol=1e-5)
        error = np.sqrt(np.mean((image - case.given.truth[0].numpy()) ** 2))
        assert row.psnr == pytest.approx(
            -20 * np.log10(error), abs=1e-3
        )  # relative to white, not the maximum

    def test_a_wrong_peak_leaves_psnr_relative_to_the_same_white(self, case):
        given = paper_cases.retold(case.given, 2 * case.given.peak)
        told = replace(case, given=given, condition=replace(case.condition, upper=0.5))
        method = Method("ML", partial(mirror_descent, max_iter=1), TotalVariation(weight=0.0))
        assert Job(told, method).run()[0].psnr == pytest.approx(Job(case, method).run()[0].psnr, abs=0.5)

    def test_the_papers_rule_calls_a_small_step_convergence(self, case):
        problem = by_colour(case.given).problem(TotalVariation())
        steps = list(until_still(partial(mirror_descent, max_iter=50, tol=1e-9), problem))
        assert steps[-1].stopped_by == "max_iter"

        def creeping(problem, start):
            for step in mirror_descent(problem, start, max_iter=50):
                yield replace(step, iterate=0 * step.iterate + 1 + 1e-6 * step.iteration)

        steps = list(until_still(creeping, problem))
        assert (len(steps), steps[-1].stopped_by) == (2, "converged")

    def test_the_bundled_denoiser_and_a_model_are_compared(self):
        found = {method.name: method for method in methods(["fluorescence-2d"], TINY)}
        for name in (
            "b-red × 1",
            "b-pnp × 1",
            "b-pnp, two stages",
            "fluorescence-2d",
            "fluorescence-2d, plain",
        ):
            assert name in found
        assert "fluorescence-2d" + PAPERS_RULE in found
        assert found["fluorescence-2d, 4 orientations"].regularizer.orientations == 4
        assert found["fluorescence-2d"].regularizer.orientations == 1
        assert found["b-red × 1"].regularizer is found["b-pnp × 1"].regularizer

    def test_models_for_one_kernel_and_one_peak_are_one_method_each_on_its_images(self, tmp_path, data):
        options = {"channels": 4, "depth": 2, "colours": 3}
        for psf, peak in (("gaussian:sigma=1.2", 100.0), ("gaussian:sigma=1.2", 60.0), ("levin:7", 60.0)):
            name = f"deq{suffix(psf, peak)}"
            job = {"psf": psf, "ranges": {"peak": [peak, peak]}}
            card = {"family": "red", "options": options, "ndim": 2, "recipe": {"equilibrium": job}}
            save_model(build("red", options), tmp_path / f"{name}.safetensors", card)
        extent = replace(TINY, peaks=(100.0, 60.0), crops=0)
        compared = methods([str(path) for path in sorted(tmp_path.glob("deq-*.safetensors"))], extent)
        jobs = [job for job in planned(plan(list(cases(data, extent)), compared)) if job.method.name == "deq"]
        assert {(job.case.condition.label, job.case.condition.peak) for job in jobs} == {
            ("Set3C gaussian", 100.0),
            ("Set3C gaussian", 60.0),
        }
        told = {job.case.condition.peak: job.method.identity for job in jobs}
        assert len(jobs) == 4
        assert len(set(told.values())) == 2

    def test_variations_are_of_the_image_that_a_models_kernel_made(self, monkeypatch, tmp_path):
        monkeypatch.setattr(paper_cases, "kernel", lambda text, data: np.full((3, 3), 1 / 9, np.float32))
        found = list(paper_cases.variations({"a": photograph()}, tmp_path, 0))
        for kernel, count in (("gaussian:sigma=1.2", len(found)), ("levin:7", 0)):
            method = Method("deq", MINIMISE, TotalVariation(), robust=True, trained_for=(kernel, 100.0))
            assert sum(method.takes(one) for one in found) == count

    def test_a_colour_model_is_not_for_gray_images(self, tmp_path):
        regularizer = build("red", {"channels": 4, "depth": 2, "colours": 3})
        card = {"family": "red", "options": {"channels": 4, "depth": 2, "colours": 3}, "ndim": 2}
        path = tmp_path / "colour.safetensors"
        save_model(regularizer, path, card)
        assert "colour" in {method.name for method in methods([str(path)], TINY)}
        with pytest.raises(UserError, match="colour is a model for colour images"):
            methods([str(path)], replace(TINY, colours=1))


class TestWeights:
    ROWS = (
        made("TV × 0.5", 20, label="validation levin"),
        made("TV × 1", 24, label="validation levin"),
        made("TV × 2", 23, label="validation levin"),
        made("TV × 0.5", 50, label="validation gaussian"),  # another kernel
        made("TV × 0.5", 50, label="validation levin", peak=60),  # another peak
        made("TV × 0.5", 21, label="Set3C levin", image="b"),
        made("TV × 1", 22, label="Set3C levin", image="b"),
        made("TV × 2", 23, label="Set3C levin", image="b"),
        made("m", 30, label="Set3C levin", image="b"),
    )

    def test_validation_chooses_and_is_in_no_table(self):
        assert searched(self.ROWS[:3], "TV") == "TV × 1"
        found = [(row.method, row.psnr) for row in resolved(self.ROWS)]
        assert found == [("TV, searched weight", 22), ("TV, oracle weight", 23), ("m", 30)]

    def test_the_report_says_which(self):
        text = markdown(self.ROWS, figure="x.png", missing=2)
        assert "TV has: levin, 30: 1; gaussian, 30: 0.5; levin, 60: 0.5." in text
        assert "| Set3C levin, 30 | 22.00 | 23.00 | 30.00 |" in text
        assert "validation levin" not in text


def test_the_figure_shows_an_image_and_its_middle(case, tmp_path, monkeypatch):
    monkeypatch.setattr(paper_cases, "SHOWN", ("leaf", "gaussian", 60.0))
    jobs = plan([replace(case, first=True)], [Method("m", MINIMISE, TotalVariation(), identity="m")])
    list(run(jobs, record := Record(tmp_path)))
    whole, middle = panels(jobs, record)
    assert [caption for caption, _ in whole][::2] == ["Set3C gaussian, peak 60", "truth"]
    assert np.array_equal(middle[1][1], whole[1][1][5:15, 5:15])
    assert whole[1][1].shape == (20, 20, 3)


def test_the_command_goes_on_where_it_was(data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(paper_cases, "QUICK", TINY)
    monkeypatch.setattr(paper_cases, "SHOWN", ("a", "gaussian", 100.0))
    words = ["benchmark", "paper", "--data", str(data), "--quick", "--out", str(tmp_path / "out"), "--json"]
    assert main(words) == 0
    first = json.loads(capsys.readouterr().out)
    assert {row["label"] for row in first["rows"]} == {
        "validation gaussian",
        "Set3C gaussian",
        "BSDS gaussian",
    }
    report = (tmp_path / "out" / "paper.md").read_text(encoding="utf-8")
    assert "b-pnp" in report
    for picture in ("paper.png", "paper-convergence.png"):
        assert f"]({picture})" in report
        assert (tmp_path / "out" / picture).read_bytes().startswith(b"\x89PNG")
    monkeypatch.setattr(Job, "trace", None)
    monkeypatch.setattr(Job, "run", None)  # calling it would fail
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == first["rows"]


def test_how_much_is_measured_can_be_said(data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(paper_cases, "QUICK", replace(TINY, max_iter=1, long=2))
    words = ["benchmark", "paper", "--data", str(data), "--quick", "--out", str(tmp_path / "out"), "--json"]
    assert main([*words, "--seed", "5", "--seeds", "2", "--crops", "0"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert {row["label"].split()[0] for row in rows} == {"validation", "Set3C"}
    noise = {row["image"].split(", ")[1] for row in rows if row["label"].startswith("Set3C")}
    assert noise == {"noise 5", "noise 6"}
    assert main([*words, "--seed", "5", "--seeds", "2", "--crops", "0", "--side", "12"]) == 0
    smaller = json.loads(capsys.readouterr().out)["rows"]
    assert len(smaller) == len(rows)
    assert not {row["key"] for row in smaller} & {row["key"] for row in rows}
    for wrong, sentence in (
        (["--crops", "-1"], "give 1 seed or more, and 0 crops or more"),
        (["--side", "13"], "give an even number from 8 on"),
        (["--side", "1000"], "has 1000 pixels a side: give a smaller side"),
    ):
        assert main([*words, *wrong]) == 1
        assert sentence in capsys.readouterr().err


def test_gray_images_and_some_methods_only(data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(paper_cases, "QUICK", TINY)
    monkeypatch.setattr(paper_cases, "SHOWN", ("a", "gaussian", 100.0))
    words = ["benchmark", "paper", "--data", str(data), "--quick", "--out", str(tmp_path / "out"), "--json"]
    assert main([*words, "--gray", "--only", "TV", "RL, oracle stop"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {row["method"].partition(" ×")[0] for row in found["rows"]} == {"TV", "RL, oracle stop"}
    images = [np.load(path) for path in (tmp_path / "out" / "rows-images").glob("*.npy")]
    assert images
    assert {image.shape for image in images} == {(16, 16)}
    assert found["figure"]
    assert main([*words, "--only", "TV", "NLM"]) == 1
    assert "no method 'NLM'" in capsys.readouterr().err
    assert {tuple(one.given.truth.shape) for one in cases(data, replace(TINY, colours=1))} == {(1, 1, 16, 16)}


def test_validation_is_for_what_is_searched(data):
    jobs = planned(plan(list(cases(data, TINY)), methods([], TINY)))
    tuning = {job.method.name for job in jobs if job.case.condition.label.startswith("validation")}
    assert tuning == {f"{name} × {factor:g}" for name in ("TV", "b-red", "b-pnp") for factor in FACTORS}


def test_a_searched_strength_weighs_the_regularizer(case):
    weak, strong = (
        Job(case, replace(method, steps=MINIMISE)).problem().strength
        for method in swept(Method("TV", MINIMISE, TotalVariation()))
        if method.strength in (0.25, 4)
    )
    assert (weak, strong) == (0.25, 4)


def test_how_runs_ended_is_told(case):
    sure = Job(case, Method("TV", partial(mirror_descent, max_iter=300, tol=3e-2), TotalVariation())).run()[0]
    cut = Job(case, Method("TV", partial(mirror_descent, max_iter=2), TotalVariation())).run()[0]
    assert (sure.stopped_by, cut.stopped_by, sure.rose) == ("converged", "max_iter", 0)
    assert sure.certificate < 3e-2 < cut.certificate

    def climbing(problem, start):
        yield from reversed(list(mirror_descent(problem, start, max_iter=5)))

    assert Job(case, Method("up", climbing, TotalVariation())).run()[0].rose == 5  # the start is a step
    assert f"| TV | 2 | 1 | {(sure.certificate + cut.certificate) / 2:.1e}" in "\n".join(endings([sure, cut]))


def test_a_run_is_followed_beyond_its_end(case):
    method = Method("TV", partial(mirror_descent, max_iter=60), TotalVariation())
    found = Job(case, method).trace()
    *_, end = method.steps(Job(case, method).problem(), None)
    assert found.objectives[-1] == pytest.approx(end.objective)
    assert (np.diff(found.objectives) <= 1e-9 * found.objectives[0]).all()
    assert found.distances[-1] < found.distances[0]
    assert set(found.seen) <= set(found.iterations)
    loose = replace(method, steps=partial(mirror_descent, max_iter=60, tol=0.5))
    assert len(Job(case, loose).trace().iterations) == len(found.iterations)
    rule = replace(method, steps=partial(until_still, method.steps))
    assert len(Job(case, rule).trace().iterations) == len(found.iterations)


def test_kernels_and_peaks_are_chosen(data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(paper_cases, "QUICK", replace(TINY, max_iter=1, long=2))
    words = ["benchmark", "paper", "--data", str(data), "--quick", "--out", str(tmp_path / "out"), "--json"]
    told = ["--only", "RL, oracle stop", "--kernel", "uniform:size=3", "uniform:size=5", "--peak", "30"]
    assert main([*words, *told]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert {row["label"] for row in rows} == {
        f"{name} uniform:size={side}" for name in ("Set3C", "BSDS") for side in (3, 5)
    }
    assert {row["peak"] for row in rows} == {30}
    for wrong, sentence in (
        (["--peak", "-3"], "photo-electrons above 0"),
        (["--seed", "-1"], "no seed of noise"),
    ):
        assert main([*words, *wrong]) == 1
        assert sentence in capsys.readouterr().err
