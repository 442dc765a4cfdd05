"""What the form sends, and how it reads numbers."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from napari.components import ViewerModel
from qtpy.QtCore import QLocale, Qt
from qtpy.QtTest import QTest

from napari_deqmd.core.config import ReconstructionConfig
from napari_deqmd.core.errors import UserError
from napari_deqmd.io.stack import Stack, write_stack
from napari_deqmd.widgets.form import Place, PsfChoice, collect, config_from
from napari_deqmd.widgets.layers import LayerImage
from napari_deqmd.widgets.region import whole
from napari_deqmd.widgets.sections.method import MethodSection
from napari_deqmd.widgets.sections.parts import PlainSpin
from napari_deqmd.widgets.sections.photons import PhotonsSection

IMAGE = LayerImage(data=np.ones((9, 32, 32)), name="cells", axes="ZYX", voxel_size=(0.3, 0.1, 0.1))


def test_keys_are_arguments_of_reconstruct(qtbot) -> None:
    from napari_deqmd import reconstruct

    sections = (PhotonsSection(ViewerModel()), MethodSection())
    for section in sections:
        qtbot.addWidget(section)
    sent = collect(sections).keys() | {"axes", "voxel_size"}
    assert sent <= inspect.signature(reconstruct).parameters.keys()
    assert sent <= {field.name for field in dataclasses.fields(ReconstructionConfig)}


def test_an_untouched_form_is_the_default_configuration(qtbot) -> None:
    sections = (PhotonsSection(ViewerModel()), MethodSection())
    for section in sections:
        qtbot.addWidget(section)
    assert config_from(collect(sections)) == ReconstructionConfig()


def test_theoretical_psf_has_the_image_dimensions() -> None:
    psf = PsfChoice(theory="gaussian:sigma=2,1,1").load(IMAGE)
    assert psf.ndim == 3
    assert psf.shape[0] > psf.shape[1]
    assert str(PsfChoice(theory="gaussian:sigma=2,1,1")) == "gaussian:sigma=2,1,1"


def test_psf_of_a_microscope_takes_the_images_voxels() -> None:
    choice = PsfChoice(theory="confocal:na=1.2,wavelength=0.52")
    stack = dataclasses.replace(IMAGE, data=np.ones((40, 32, 32)))
    assert (
        choice.load(stack).shape[0]
        < choice.load(dataclasses.replace(stack, voxel_size=(0.1, 0.1, 0.1))).shape[0]
    )
    with pytest.raises(UserError, match="voxel size"):
        choice.load(dataclasses.replace(IMAGE, voxel_size=None))


def test_psf_of_another_voxel_size_is_resampled() -> None:
    psf = LayerImage(data=np.ones((5, 5, 5)), name="beads", axes="ZYX", voxel_size=(0.3, 0.2, 0.1))
    assert PsfChoice(layer=psf).load(IMAGE).shape == (5, 9, 5)
    unknown = dataclasses.replace(psf, voxel_size=None)
    assert PsfChoice(layer=unknown).load(IMAGE).shape == (5, 5, 5)
    nanometres = dataclasses.replace(psf, voxel_size=(300, 100, 100))
    with pytest.raises(UserError, match="check their units"):
        PsfChoice(layer=nanometres).load(IMAGE)


def test_psf_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "psf.tif"
    tifffile.imwrite(path, np.ones((5, 7, 7), dtype=np.float32))
    choice = PsfChoice(path=str(path))
    with pytest.warns(UserWarning, match="The PSF has no voxel size"):
        assert choice.load(IMAGE).shape == (5, 7, 7)
    assert str(choice) == str(path)


def test_a_psf_layer_of_one_plane_is_resampled_for_a_plane() -> None:
    plane = LayerImage(data=np.ones((32, 32)), name="cells", axes="YX", voxel_size=(0.1, 0.1))
    psf = LayerImage(data=np.ones((1, 5, 5)), name="beads", axes="ZYX", voxel_size=(0.3, 0.2, 0.1))
    assert PsfChoice(layer=psf).load(plane).shape == (9, 5)
    series = LayerImage(data=np.ones((1, 1, 5, 5)), name="beads", axes="TZYX", voxel_size=(0.3, 0.2, 0.1))
    assert PsfChoice(layer=series).load(plane).shape == (9, 5)
    assert PsfChoice(layer=series).load(IMAGE).shape == (1, 9, 5)


def test_channels_of_a_psf_are_no_planes(tmp_path: Path) -> None:
    path = tmp_path / "psf.ome.tif"
    write_stack(path, Stack(np.ones((3, 7, 7), np.float32), "CYX"))
    layer = LayerImage(data=np.ones((3, 7, 7)), name="beads", axes="CYX", voxel_size=(0.1, 0.1))
    for choice in (PsfChoice(path=str(path)), PsfChoice(layer=layer)):
        for read in (choice.load, choice.measured):
            with pytest.raises(UserError, match="has the axes CYX"):
                read(IMAGE)


def test_a_psf_file_of_other_voxels_is_told(tmp_path: Path) -> None:
    path = tmp_path / "psf.ome.tif"
    write_stack(path, Stack(np.ones((5, 5, 5), np.float32), "ZYX", (0.3, 0.2, 0.1)))
    with pytest.warns(UserWarning, match="was resampled"):
        assert PsfChoice(path=str(path)).load(IMAGE).shape == (5, 9, 5)


def test_psf_from_a_broken_file(tmp_path: Path) -> None:
    path = tmp_path / "psf.tif"
    path.write_bytes(b"II*\0nothing")
    with pytest.raises(UserError):
        PsfChoice(path=str(path)).load(IMAGE)


def test_a_microscopes_psf_is_as_tall_as_the_part_that_is_meant():
    stack = LayerImage(data=np.zeros((2, 12, 80, 70)), name="a", axes="CZYX", voxel_size=(0.3, 0.13, 0.13))
    part = dataclasses.replace(stack, region=whole(stack.data.shape).narrow(1, slice(2, 9)))
    choice = PsfChoice(theory="widefield:na=1.4,wavelength=0.52,ni=1.515")
    assert stack.spatial_shape == (12, 80, 70)
    assert choice.load(stack).shape[0] == 23
    assert choice.load(part).shape[0] == 13
    assert choice.load(Place("ZYX", (0.3, 0.13, 0.13))).shape[0] not in (13, 23)


@pytest.mark.parametrize("country", ["de_DE", "fr_FR", "en_US"])
@pytest.mark.parametrize(
    ("typed", "value"),
    [(None, 2.2), ("1.2", 1.2), ("1,2", 1.2), ("1e3", 1000), ("1234.5", 1234.5), ("1e", 2.2)],
)
def test_numbers_are_written_with_a_point_or_a_comma(
    qtbot: Any, country: str, typed: str | None, value: float
) -> None:
    spin = PlainSpin(1e-4, 1e6, 2.2)
    qtbot.addWidget(spin)
    spin.setLocale(QLocale(country))
    assert spin.text() == "2.2"
    for _ in range(2):
        if typed is not None:
            spin.selectAll()
            QTest.keyClicks(spin.lineEdit(), typed)
        QTest.keyClick(spin, Qt.Key.Key_Return)
        assert spin.value() == value
    spin.selectAll()
    QTest.keyClicks(spin.lineEdit(), "2x")
    assert spin.lineEdit().text() == "2"
