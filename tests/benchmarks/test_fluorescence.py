"""The fluorescence benchmark: images are what they say, oracles are oracles, rows outlive a cut, tables add up."""

import json
from dataclasses import replace

import numpy as np
import pytest
import tifffile
import torch

from napari_deqmd.benchmarks import fluorescence_cases
from napari_deqmd.benchmarks.conditions import bars, conditions, estimated
from napari_deqmd.benchmarks.fluorescence import (
    FIXED,
    ORACLE,
    TRUE_NUMBERS,
    Job,
    Record,
    Row,
    bundled_models,
    methods,
    plan,
    run,
    tv_name,
)
from napari_deqmd.benchmarks.fluorescence_cases import AS_IS, Case, Extent, cases, variations
from napari_deqmd.benchmarks.fluorescence_report import (
    ORACLE_WEIGHT,
    decibels,
    figures,
    gains,
    markdown,
    panels,
    robustness,
    with_oracle_weight,
)
from napari_deqmd.benchmarks.restoration import oracle_richardson_lucy, psnr, restore, scaled
from napari_deqmd.cli import main
from napari_deqmd.core.errors import UserError
from napari_deqmd.core.regularizers import TotalVariation
from napari_deqmd.psf.theory import make_psf

TINY = Extent((30.0,), ("nuclei",), (), (), 24, (), 3)


@pytest.fixture(scope="module")
def image():
    """A small image at a peak of 30, with what the program finds in it."""
    condition = conditions(peaks=(30.0,), side=24, kinds=("nuclei",))[0]
    return Case(condition, estimated(condition.measurement))


@pytest.fixture(scope="module")
def classical():
    return {method.name: method for method in methods([], max_iter=30)}


class TestImages:
    def test_one_scene_at_every_peak_whatever_else_is_drawn(self):
        low, high = conditions(peaks=(10.0, 300.0), side=24, kinds=("nuclei",))[:2]
        assert (low.peak, high.peak) == (10, 300)
        assert torch.equal(low.measurement.truth, high.measurement.truth)
        both = conditions(peaks=(300.0,), side=24, kinds=("filaments", "nuclei"))
        again = next(one for one in both if (one.label, one.image) == (high.label, high.image))
        assert torch.equal(again.measurement.electrons, high.measurement.electrons)

    def test_counts_are_those_of_the_truth(self):
        found = conditions(peaks=(1e6,), side=24, kinds=("nuclei",))[0].measurement
        assert found.background.item() == pytest.approx(0.04e6)
        assert found.electrons.min() > 0.03e6
        signal = (found.electrons - found.background) / found.peak
        assert np.percentile(signal, 99.8) == pytest.approx(1, rel=0.01)

    @pytest.mark.parametrize("below", [".", "set"])
    def test_only_held_back_files_are_used_in_whichever_folder(self, tmp_path, below):
        folder = tmp_path / "fluorescence" / "train" / below
        folder.mkdir(parents=True)
        yy, xx = np.mgrid[:120, :120]
        for name, period in (("BPAE_actin", 5), ("BPAE_mito", 9)):
            spots = np.clip(np.sin(yy / period) * np.sin(xx / period), 0.3, 1).astype(np.float32)
            tifffile.imwrite(folder / f"{name}.tif", spots)
        found = conditions(tmp_path, peaks=(30.0,), side=24, kinds=())
        assert [(one.label, one.image) for one in found] == [("fluorescence", "BPAE_actin")]
        assert found[0].measurement.electrons.shape == (1, 1, 24, 24)

    def test_bars_have_neither_true_numbers_nor_a_scale(self, tmp_path, classical):
        case = bars_case(tmp_path)
        assert not case.condition.known
        taken = {method.name for method in classical.values() if method.takes(case)}
        assert ORACLE in taken
        assert not any(name.endswith(TRUE_NUMBERS) for name in taken)
        row, _ = Job(case, classical[ORACLE]).run()
        measurement = replace(case.given, truth=0.2 * case.given.truth)
        again, _ = Job(replace(case, given=measurement), classical[ORACLE]).run()
        assert again.psnr == pytest.approx(row.psnr, abs=1e-3)
        assert again.nrmse == pytest.approx(row.nrmse, abs=1e-4)

    def test_scaled_is_the_closest_multiple(self):
        rng = torch.Generator().manual_seed(0)
        x, truth = torch.rand((2, 2, 1, 8, 8), generator=rng)
        best = psnr(scaled(x, truth), truth)
        for factor in (0.98, 1.02):
            assert (psnr(factor * scaled(x, truth), truth) < best).all()

    def test_variations_change_what_is_told_and_not_the_image(self):
        found = {case.variation: case for case in variations("nuclei", 24)}
        usual = found[AS_IS]
        doubled, narrow = found["peak told × 2"], found["PSF told 10 % too narrow"]
        assert torch.equal(doubled.given.electrons, usual.given.electrons)
        assert torch.equal(doubled.given.peak, 2 * usual.given.peak)
        assert torch.allclose(doubled.given.truth * 2, usual.given.truth)
        assert torch.equal(narrow.given.electrons, usual.given.electrons)
        assert spread(narrow.given.psf) == pytest.approx(0.9 * spread(usual.given.psf), rel=0.01)
        assert {case.start for case in found.values()} == {"data", "flat", "random"}
        assert spread(found["PSF of sigma 4"].given.psf) > 2 * spread(usual.given.psf)
        assert {case.condition.peak for case in found.values()} == {3.0, 100.0, 3000.0}
        assert {tuple(case.given.electrons.shape) for case in found.values()} == {(1, 1, 24, 24)}


class TestMethods:
    def test_the_oracle_is_never_below_its_iterates(self, image, classical):
        for name in ("RL", "RL accelerated"):
            oracle, _ = Job(image, classical[f"{name}, oracle stop"]).run()
            fixed, _ = Job(image, classical[f"{name}, {FIXED} iterations"]).run()
            assert oracle.psnr >= fixed.psnr
            assert oracle.iterations <= 30
            assert fixed.iterations == FIXED
            assert oracle.seconds > 0

    def test_true_numbers_are_told_only_where_the_name_says_so(self, image, classical):
        wrong = replace(image.given, background=image.given.background + 20)
        case = replace(image, given=wrong)
        told, _ = Job(case, classical[ORACLE]).run()
        true, _ = Job(case, classical[ORACLE + TRUE_NUMBERS]).run()
        assert true.psnr > told.psnr + 1
        assert true.psnr == pytest.approx(
            oracle_richardson_lucy(image.condition.measurement, max_iter=30).item(), abs=1e-4
        )

    def test_figures_are_of_the_returned_image(self, image, classical):
        row, restored = Job(image, classical[tv_name(0.032)]).run()
        truth = image.given.truth[0, 0].numpy()
        error = np.sqrt(np.mean((restored - truth) ** 2))
        assert row.psnr == pytest.approx(20 * np.log10(truth.max() / error), abs=1e-3)
        assert row.nrmse == pytest.approx(error / np.sqrt(np.mean(truth**2)), rel=1e-4)
        assert 0 < row.ssim < 1
        values, iterations = restore(image.given, TotalVariation(weight=0.032), max_iter=30)
        assert (values.item(), iterations.item()) == (pytest.approx(row.psnr, abs=1e-4), row.iterations)

    def test_starts_differ(self, image, classical):
        jobs = [
            Job(replace(image, start=start), classical[tv_name(0.032)])
            for start in ("data", "flat", "random")
        ]
        assert len({round(job.run()[0].psnr, 5) for job in jobs}) == 3

    def test_bundled_models_take_images_and_robustness(self, image):
        found = [method for method in methods(bundled_models()) if method.identity]
        both = {"bregman-2d", "fluorescence-2d"}
        assert {method.name for method in found} >= both | {name + TRUE_NUMBERS for name in both}
        varied = [method.name for method in found if method.takes(replace(image, variation="x"))]
        assert varied == [method.name for method in found if not method.true_numbers and method.ndim == 2]

    def test_a_model_for_stacks_takes_no_images(self, image, classical):
        assert not replace(classical[ORACLE], ndim=3).takes(image)


class TestRecord:
    @pytest.fixture
    def jobs(self, classical):
        return plan(list(cases(None, TINY)), [classical[ORACLE], classical[f"RL, {FIXED} iterations"]])

    def test_what_is_on_record_is_not_run_again(self, jobs, tmp_path):
        first = next(run(jobs, Record(tmp_path)))
        rest = list(run(jobs, Record(tmp_path)))
        assert len(rest) == len(jobs) - 1
        assert first not in rest
        assert Record(tmp_path).rows(jobs) == [first, *rest]
        assert list(run(jobs, Record(tmp_path))) == []

    def test_a_cut_line_is_made_again(self, jobs, tmp_path):
        list(run(jobs, Record(tmp_path)))
        path = tmp_path / "rows.jsonl"
        path.write_text(path.read_text()[:-40])
        assert len(Record(tmp_path).rows(jobs)) == len(jobs) - 1
        assert len(list(run(jobs, Record(tmp_path)))) == 1
        assert len(Record(tmp_path).rows(jobs)) == len(jobs)

    def test_a_lost_image_of_the_figure_is_made_again(self, image, classical, tmp_path, monkeypatch):
        monkeypatch.setattr(fluorescence_cases, "SHOWN", ((image.condition.label, image.condition.image),))
        job = Job(image, classical[ORACLE])
        list(run([job], Record(tmp_path)))
        assert job in Record(tmp_path)
        next((tmp_path / "rows-images").iterdir()).unlink()
        assert job not in Record(tmp_path)

    def test_an_image_cut_while_it_is_written_is_made_again(self, image, classical, tmp_path, monkeypatch):
        def cut(draft, target):
            raise KeyboardInterrupt

        monkeypatch.setattr(fluorescence_cases, "SHOWN", ((image.condition.label, image.condition.image),))
        job = Job(image, classical[ORACLE])
        with monkeypatch.context() as patch:
            patch.setattr("napari_deqmd.core.files.os.replace", cut)
            with pytest.raises(KeyboardInterrupt):
                list(run([job], Record(tmp_path)))
        assert job not in Record(tmp_path)
        list(run([job], Record(tmp_path)))
        assert Record(tmp_path).image(job).shape == (24, 24)

    def test_rows_of_another_version(self, jobs, tmp_path):
        (tmp_path / "rows.jsonl").write_text('{"key": "a", "speed": 1}\n')
        with pytest.raises(UserError, match="choose another folder"):
            Record(tmp_path)

    def test_a_key_is_of_all_that_matters(self, image, classical):
        job = Job(image, classical[ORACLE])
        given = image.given
        others = [
            Job(replace(image, given=replace(given, peak=2 * given.peak)), job.method),
            Job(replace(image, given=replace(given, psf=given.psf.flip(-1) + 1)), job.method),
            Job(replace(image, given=replace(given, electrons=given.electrons + 1)), job.method),
            Job(replace(image, start="flat"), job.method),
            Job(image, replace(job.method, identity="other weights")),
            Job(image, classical[ORACLE + TRUE_NUMBERS]),
        ]
        assert len({job.key, *(other.key for other in others)}) == 1 + len(others)
        assert Job(image, classical[ORACLE]).key == job.key


def made(method, decibel, *, label="simulated cells", image="a", peak=30.0, variation="", seconds=1.0):
    key = f"{label}{image}{peak}{variation}{method}"
    return Row(key, label, image, peak, variation, method, decibel, 0.9, 0.1, 10, seconds)


def cells(lines):
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: row[1:] for row in rows}


class TestTables:
    def test_the_best_weight_is_of_every_image(self):
        rows = [
            made(tv_name(weight), decibel, image=image)
            for image, values in (("a", (20, 21, 22)), ("b", (25, 24, 23)))
            for weight, decibel in zip((0.016, 0.032, 0.064), values, strict=True)
        ]
        found = [(row.image, row.method, row.psnr) for row in with_oracle_weight(rows)]
        assert found == [
            ("a", tv_name(0.032), 21),
            ("a", ORACLE_WEIGHT, 22),
            ("b", tv_name(0.032), 24),
            ("b", ORACLE_WEIGHT, 25),
        ]

    def test_means_and_what_is_not_through(self):
        rows = [made(ORACLE, 30, image="a"), made(ORACLE, 32, image="b"), made("m", 40, image="a")]
        rows += [made(ORACLE, 20, peak=100.0), made("m", 21, peak=100.0)]
        lines = cells(decibels(rows))
        assert lines["image, peak"] == [ORACLE, "m"]
        assert lines["simulated cells, 30"] == ["31.00", "–"]
        assert lines["simulated cells, 100"] == ["20.00", "21.00"]
        assert lines["**simulated, all**"] == ["27.33", "–"]

    def test_all_figures(self):
        lines = list(figures([made("m", 30, seconds=1.0), made("m", 31, image="b", seconds=2.0)]))
        assert lines[2] == "| simulated | m | 2 | 30.50 | 0.900 | 0.100 | 10 | 1.50 |"

    def test_gains_are_over_what_was_told_the_same(self):
        rows = []
        for image, told, true, model, informed in (("a", 30, 31, 30.6, 30.9), ("b", 30, 31, 29.0, 33.0)):
            rows += [made(ORACLE, told, image=image), made(ORACLE + TRUE_NUMBERS, true, image=image)]
            rows += [made("m", model, image=image), made("m" + TRUE_NUMBERS, informed, image=image)]
        assert list(gains(rows))[2:] == [
            "| simulated | m | 2 | -0.20 | 1 | 1 | -1.00 |",
            "| simulated | m, true numbers | 2 | +0.95 | 1 | 1 | -0.10 |",
        ]

    def test_changes_are_shown_where_the_image_is_the_same(self):
        rows = [
            made("m", 30, variation=AS_IS),
            made("m", 28.5, variation="told wrong"),
            made("m", 20, variation="other image", image="b"),
        ]
        assert list(robustness(rows))[2:] == [
            f"| simulated cells | {AS_IS} | 30.00 |",
            "| simulated cells | told wrong | 28.50 (-1.50) |",
            "| simulated cells | other image | 20.00 |",
        ]

    def test_the_report_holds_every_table(self):
        rows = [made(ORACLE, 30), made("m", 31), made("m", 28.5, variation=AS_IS)]
        text = markdown(rows, figure="x.png")
        assert "(x.png)" in text
        assert "| simulated cells, 30 | 30.00 | 31.00 |" in text
        assert "| simulated | m | 1 | +1.00 | 1 | 0 | +1.00 |" in text
        assert "28.50" in text.split("## Robustness")[1]
        assert "28.50" not in text.split("## Robustness")[0]
        assert "Robustness" not in markdown(rows[:2])


def test_panels_show_the_best_weight_and_the_truth(image, classical, tmp_path, monkeypatch):
    monkeypatch.setattr(fluorescence_cases, "SHOWN", ((image.condition.label, image.condition.image),))
    chosen = [method for name, method in classical.items() if name == ORACLE or name.startswith("TV")]
    jobs, record = plan([image], chosen), Record(tmp_path)
    rows = list(run(jobs, record))
    ((raw, lucy, variation, truth),) = panels(jobs, record)
    assert raw[0] == "simulated nuclei, peak 30"
    assert lucy[0] == f"{ORACLE}: {rows[0].psnr:.2f} dB"
    assert variation[0] == f"{ORACLE_WEIGHT}: {max(row.psnr for row in rows[1:]):.2f} dB"
    assert np.array_equal(truth[1], image.given.truth[0, 0].numpy())
    assert {panel.shape for _, panel in (raw, lucy, variation, truth)} == {(24, 24)}


class TestCommand:
    def test_report_figure_and_going_on(self, tmp_path, monkeypatch, capsys):
        monkeypatch.setattr(fluorescence_cases, "QUICK", replace(TINY, scenes=("filaments",)))
        words = ["benchmark", "fluorescence", "--quick", "--model", "default", "--out", str(tmp_path / "out")]
        assert main(words) == 0
        report = tmp_path / "out" / "fluorescence.md"
        assert capsys.readouterr().out.strip() == str(report)
        assert "fluorescence-2d" in report.read_text(encoding="utf-8")
        assert (tmp_path / "out" / "fluorescence.png").read_bytes().startswith(b"\x89PNG")
        monkeypatch.setattr(Job, "run", None)  # calling it would fail
        assert main([*words, "--json"]) == 0
        printed = json.loads(capsys.readouterr().out)
        assert printed["benchmark"] == "fluorescence"
        assert len(printed["rows"]) == 2 * (5 + 4 + 2)
        assert {row["label"] for row in printed["rows"]} == {"simulated filaments"}

    def test_interrupted_says_how_to_go_on(self, tmp_path, monkeypatch, capsys):
        def stop(job, whole=Job.run):
            if job.method.name.startswith("TV"):
                raise KeyboardInterrupt
            return whole(job)

        monkeypatch.setattr(fluorescence_cases, "QUICK", TINY)
        monkeypatch.setattr(Job, "run", stop)
        words = ["--quick", "--model", "default", "--out", str(tmp_path)]
        assert main(["benchmark", "fluorescence", *words]) == 130
        assert "the same command goes on" in capsys.readouterr().err
        report = (tmp_path / "fluorescence.md").read_text(encoding="utf-8")
        assert "**17 measurements are still to be made.**" in report
        assert ORACLE in report

    def test_no_such_data(self, tmp_path, capsys):
        words = ["--data", str(tmp_path), "--out", str(tmp_path / "out")]
        assert main(["benchmark", "fluorescence", "--quick", *words]) == 1
        assert "has no folder fluorescence/train" in capsys.readouterr().err
        assert list(tmp_path.iterdir()) == []


def bars_case(folder):
    sharp = np.zeros((12, 16, 16), np.float32)
    sharp[4:8, 4:12, 6] = sharp[6, 8, 2:14] = 3
    psf = make_psf("gaussian", ndim=3, sigma=1.0)
    counts = 100 * np.random.default_rng(0).poisson(50 * (sharp > 0) + 2).astype(np.float32)
    for name, array in (("actual", sharp), ("data", counts), ("kernel", psf)):
        tifffile.imwrite(folder / f"{name}.tif", array)
    condition = bars(folder)
    return Case(condition, condition.measurement)


def spread(psf):
    kernel = psf[0, 0].sum(0)
    where = torch.arange(len(kernel)) - len(kernel) // 2
    return float((kernel * where**2).sum().sqrt())
