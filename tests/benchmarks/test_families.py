"""Decibels against seconds: iterates are the solver's, means are of all images at all times, rows outlive a cut."""

import json
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_deqmd.benchmarks import families
from napari_deqmd.benchmarks.families import RL, RL_FROM_DATA, Curve, Extent, Trace, curves, methods, trace
from napari_deqmd.benchmarks.families_report import draw, markdown
from napari_deqmd.benchmarks.fluorescence import Job, plan
from napari_deqmd.benchmarks.fluorescence_cases import QUICK, cases
from napari_deqmd.cli import main

TINY = Extent((30.0,), ("nuclei",), 24, ("nuclei",), (8, 12, 12), 32, 100.0, 4)


def traced(method, psnr, *, image="a", seconds=(1.0, 2.0, 4.0), iterations=(0, 1, 3)):
    return Trace(f"{method}{image}", "cells", image, 30.0, method, iterations, seconds, psnr)


def at(curve, seconds):
    return curve.gain[np.searchsorted(curve.seconds, seconds, side="right") - 1]


class TestCurves:
    def test_gains_are_over_the_best_iterate_of_both_starts(self):
        found = curves(
            [
                traced(RL, (20, 24, 22)),
                traced(RL_FROM_DATA, (21, 25, 23)),
                traced("m", (20, 26, 27)),
            ]
        )
        assert [curve.method for curve in found] == [RL, "m"]
        assert [curve.end for curve in found] == [-3, 2]
        assert [at(found[1], seconds) for seconds in (1.5, 3.0)] == [-5, 1]

    def test_means_hold_between_iterates_and_after_an_end(self):
        lucy = [traced(RL, (20, 20, 20), image=image) for image in "ab"]
        model = [
            traced("m", (20, 22, 23)),
            traced("m", (20, 24, 25), image="b", seconds=(0.5, 1.0, 8.0), iterations=(0, 1, 8)),
        ]
        curve = curves(lucy + model)[1]
        assert [at(curve, seconds) for seconds in (0.7, 1.5, 3.0, 5.0, 8.0)] == [0, 2, 3, 3.5, 4]
        assert curve.iterations == 5.5
        assert curve.seconds[-1] == pytest.approx(8)

    def test_a_method_that_is_not_through_is_left_out(self):
        rows = [traced(RL, (20, 20, 20), image=image) for image in "ab"] + [traced("m", (20, 21, 22))]
        assert [curve.method for curve in curves(rows)] == [RL]
        assert curves(rows[1:]) == []
        assert curves([]) == []

    def test_soon_is_when_it_stays_near_its_end(self):
        seconds = np.array([1.0, 2.0, 3.0, 4.0])
        assert Curve("m", seconds, np.array([1.0, 2.0, 1.5, 2.05]), 4).soon == 4
        assert Curve("m", seconds, np.array([1.0, 1.96, 1.97, 2.05]), 4).soon == 2
        assert Curve("m", seconds, np.full(4, 2.0), 4).soon == 1


@pytest.fixture(scope="module")
def case():
    return families.cases(None, TINY)["images"][0]


class TestTrace:
    def test_it_ends_where_the_method_does(self, case):
        for method in methods(["default"], max_iter=4):
            if method.name == RL_FROM_DATA:
                continue
            row, _ = Job(case, method).run()
            found = trace(Job(case, method))
            assert found.psnr[-1] == pytest.approx(row.psnr, abs=1e-4)
            assert found.iterations[-1] == row.iterations
            assert len(found.iterations) == len(found.seconds) == len(found.psnr) > 2

    def test_seconds_are_the_solvers_alone(self, case):
        method = methods([], max_iter=4)[0]
        busy = 0.05

        def restored(job, x, whole=Job.restored):
            began = time.process_time()
            while time.process_time() - began < busy:
                pass
            return whole(job, x)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Job, "restored", restored)
            found = trace(Job(case, method))
        assert list(found.seconds) == sorted(found.seconds)
        assert found.seconds[-1] < busy

    def test_bundled_models_say_so(self, tmp_path):
        names = [method.name for method in methods(["default"], max_iter=4)]
        assert names[-1] == "fluorescence-2d, bundled"

    def test_images_are_not_those_that_models_are_told_by(self):
        own = [case for found in families.cases(None, families.QUICK).values() for case in found]
        theirs = list(cases(None, QUICK))
        assert not any(
            a.given.electrons.shape == b.given.electrons.shape
            and torch.equal(a.given.electrons, b.given.electrons)
            for a in own
            for b in theirs
        )


class TestReport:
    def test_a_row_a_method(self):
        curve = Curve("m", np.array([1.0, 2.0]), np.array([0.5, 1.25]), 7.0)
        method = replace(methods(["default"], max_iter=1)[-1], name="m")
        text = markdown({"images": [curve], "stacks": []}, [method], figure="x.png", missing=3, threads=2)
        assert "| m | 368,859 | +1.25 | 2.00 | 2.00 | 7 |" in text
        assert text.index("## Images") > text.index("Threads: 2.")
        assert "## Stacks" in text
        assert "**3 measurements are still to be made.**" in text
        assert "(x.png)" in text

    def test_a_line_a_method_in_its_colour(self):
        curve = Curve("m", np.array([1.0, 2.0]), np.array([0.5, 1.25]), 7.0)
        other, lucy = replace(curve, method="n"), replace(curve, method=RL)
        figure = draw({"images": [lucy, curve, other], "stacks": [other], "large": []})
        left, middle, right = figure.axes
        assert [text.get_text() for text in figure.legends[0].get_texts()] == [RL, "m", "n"]
        shown = [line.get_color() for line in left.lines if len(line.get_xdata()) == 2]
        assert shown[:3] == ["gray", "C0", "C1"]
        assert middle.lines[0].get_color() == "C1"
        assert left.get_ylim()[1] > 1.25
        assert [axes.get_title() for axes in (left, middle, right)] == ["images", "stacks", "large"]


class TestCommand:
    def test_report_figure_and_going_on(self, tmp_path, monkeypatch, capsys):
        monkeypatch.setattr(families, "QUICK", TINY)
        words = ["benchmark", "families", "--quick", "--out", str(tmp_path / "out")]
        assert main(words) == 0
        report = tmp_path / "out" / "families.md"
        assert capsys.readouterr().out.strip() == str(report)
        assert "| fluorescence-2d, bundled | 368,859 |" in report.read_text(encoding="utf-8")
        assert (tmp_path / "out" / "families.png").read_bytes().startswith(b"\x89PNG")
        monkeypatch.setattr(families, "trace", None)  # calling it would fail
        assert main([*words, "--json"]) == 0
        printed = json.loads(capsys.readouterr().out)
        assert printed["benchmark"] == "families"
        assert len(printed["rows"]) == (2 + 1 + 1) * 5

    def test_a_cut_run_says_what_is_missing(self, tmp_path, monkeypatch, capsys):
        def stop(job, whole=trace):
            if job.method.name.startswith("TV"):
                raise KeyboardInterrupt
            return whole(job)

        monkeypatch.setattr(families, "QUICK", TINY)
        monkeypatch.setattr(families, "trace", stop)
        assert main(["benchmark", "families", "--quick", "--out", str(tmp_path)]) == 130
        assert "the same command goes on" in capsys.readouterr().err
        text = (tmp_path / "families.md").read_text(encoding="utf-8")
        assert "**18 measurements are still to be made.**" in text

    def test_no_such_data(self, tmp_path, capsys):
        words = ["--data", str(tmp_path), "--out", str(tmp_path / "out")]
        assert main(["benchmark", "families", "--quick", *words]) == 1
        assert "has no folder fluorescence/train" in capsys.readouterr().err
        assert list(tmp_path.iterdir()) == []


def test_every_plot_has_its_images():
    found = families.cases(None, TINY)
    assert list(found) == ["images", "stacks", "32 x 32"]
    assert [len(ones) for ones in found.values()] == [2, 1, 1]
    assert {case.given.electrons.ndim for case in found["stacks"]} == {5}
    assert [job.case for job in plan(found["32 x 32"], methods([], max_iter=1)[:1])] == found["32 x 32"]
