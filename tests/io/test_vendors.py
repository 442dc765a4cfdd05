"""Other vendors' formats: bioio reads them, in the tests a stand-in for it."""

import sys
from collections import namedtuple
from types import SimpleNamespace

import numpy as np
import pytest

from napari_deqmd.core.errors import UserError
from napari_deqmd.io.stack import read_stack

Sizes = namedtuple("Sizes", "Z Y X")
XML = """<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0"><Pixels ID="Pixels:0">
<Channel ID="Channel:0" EmissionWavelength="520"/></Pixels></Image></OME>"""


@pytest.fixture
def nd2(tmp_path):
    path = tmp_path / "cells.nd2"
    path.write_bytes(b"\xda\xce\xbe\x0a")
    return path


@pytest.fixture
def bioio(monkeypatch):
    def install(**changes):
        image = {
            "dask_data": np.arange(60).reshape(1, 1, 3, 4, 5),
            "dims": SimpleNamespace(order="TCZYX"),
            "physical_pixel_sizes": Sizes(0.3, 0.1, 0.1),
            "channel_names": ["GFP"],
            "ome_metadata": SimpleNamespace(to_xml=lambda: XML),
        } | changes
        module = SimpleNamespace(BioImage=lambda path: SimpleNamespace(**image))
        monkeypatch.setitem(sys.modules, "bioio", module)

    return install


def test_axes_sizes_names_and_optics(nd2, bioio):
    bioio()
    stack = read_stack(nd2)
    assert (stack.axes, stack.voxel_size, stack.channel_names) == ("ZYX", (0.3, 0.1, 0.1), ("GFP",))
    assert np.array_equal(stack.load().data, np.arange(60).reshape(3, 4, 5))
    assert stack.metadata["optics"] == {"wavelength": 520}


def test_what_a_plugin_does_not_know(nd2, bioio):
    bioio(physical_pixel_sizes=Sizes(None, None, None), channel_names=None, ome_metadata=None)
    stack = read_stack(nd2, axes="TYX")
    assert (stack.axes, stack.voxel_size, stack.channel_names) == ("TYX", None, ())


def test_colour(nd2, bioio):
    bioio(dims=SimpleNamespace(order="TCZYXS"))
    with pytest.raises(UserError, match=r"colour \(RGB\)"):
        read_stack(nd2)


def test_without_bioio(nd2, monkeypatch):
    monkeypatch.setitem(sys.modules, "bioio", None)
    with pytest.raises(UserError, match=r"cells\.nd2 is no TIFF: install what reads it"):
        read_stack(nd2)


def test_without_the_plugin(nd2, monkeypatch):
    def refuse(path):
        raise ValueError("no plugin\nfor it")

    monkeypatch.setitem(sys.modules, "bioio", SimpleNamespace(BioImage=refuse))
    with pytest.raises(UserError, match=r"cannot be read \(no plugin for it\): install the plugin"):
        read_stack(nd2)


def test_a_tiff_by_any_other_name(tmp_path):
    import tifffile

    tifffile.imwrite(tmp_path / "image.lsm", np.ones((4, 5), np.uint8))
    assert read_stack(tmp_path / "image.lsm").data.shape == (4, 5)
