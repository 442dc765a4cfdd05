"""One configuration: every bad value is one sentence, and it survives a sidecar."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from napari_deqmd.core.config import ReconstructionConfig
from napari_deqmd.core.errors import UserError

BAD = [
    ("method", "wiener"),
    ("method", None),
    ("solver", "fast"),
    ("boundary", "reflect"),
    ("precision", "float16"),
    ("orientations", 2),
    ("orientations", 0),
    ("orientations", 4.0),
    ("orientations", "all"),
    ("gain", 0.0),
    ("gain", -1.0),
    ("gain", math.nan),
    ("gain", "2"),
    ("offset", math.inf),
    ("offset", None),
    ("peak", 0.0),
    ("peak", -3),
    ("peak", math.nan),
    ("peak", "automatic"),
    ("peak", True),
    ("peak", np.array([50.0, 60.0])),
    ("background", np.ones((40, 40))),
    ("background", -0.1),
    ("background", math.inf),
    ("background", None),
    ("strength", -1.0),
    ("strength", math.nan),
    ("upper", 0.0),
    ("upper", math.inf),
    ("tol", 0.0),
    ("tol", -1e-4),
    ("max_iter", 0),
    ("max_iter", -5),
    ("max_iter", 2.5),
    ("max_iter", "many"),
    ("max_iter", True),
    ("max_iter", math.nan),
    ("seed", "today"),
    ("seed", 1.5),
    ("seed", -1),
    ("axes", "XY"),
    ("axes", "ZZYX"),
    ("axes", "QYX"),
    ("axes", "zyx"),
    ("axes", "YXC"),
    ("axes", ""),
    ("axes", ("Y", "X")),
    ("voxel_size", (0.1, 0.0)),
    ("voxel_size", (0.1, -0.1)),
    ("voxel_size", (math.nan, 0.1)),
    ("voxel_size", ("0.1", 0.1)),
    ("voxel_size", 0.1),
]


@pytest.mark.parametrize(("name", "value"), BAD)
def test_a_bad_value_is_one_sentence(name, value):
    with pytest.raises(UserError) as caught:
        ReconstructionConfig(**{name: value})
    sentence = str(caught.value)
    assert name.split("_")[0] in sentence.lower()
    assert sentence.endswith(".")
    assert "\n" not in sentence


def test_b_pnp_needs_a_strength():
    with pytest.raises(UserError, match="strength of 0 leaves b-pnp no step"):
        ReconstructionConfig(method="b-pnp", strength=0)
    assert ReconstructionConfig(method="b-red", strength=0).strength == 0


GOOD = [
    ("axes", "TCZYX"),
    ("axes", "ZCYX"),
    ("axes", "YX"),
    ("voxel_size", (0.3, 0.1, 0.1)),
    ("background", 0.0),
    ("background", "auto"),
    ("peak", 3),
    ("strength", 0),
    ("offset", -20.0),
    ("max_iter", 1),
]


@pytest.mark.parametrize(("name", "value"), GOOD)
def test_a_good_value_is_kept(name, value):
    assert getattr(ReconstructionConfig(**{name: value}), name) == value


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.uint16, np.int64])
def test_numbers_of_numpy_are_numbers(kind):
    """``peak=image.max()`` is what a user writes."""
    config = ReconstructionConfig(
        peak=kind(60),
        background=kind(2),
        gain=kind(2),
        max_iter=20 if kind in (np.float32, np.float64) else kind(20),
    )
    assert (config.peak, config.background, config.gain, config.max_iter) == (60, 2, 2, 20)
    assert json.loads(json.dumps(config.to_dict()))["peak"] == 60


def test_a_sidecar_gives_the_configuration_back():
    config = ReconstructionConfig(
        axes="CZYX", voxel_size=(0.3, 0.1, 0.1), peak=40.0, background="auto", method="md-tv", max_iter=7
    )
    assert ReconstructionConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_a_sidecar_of_another_version_is_refused():
    values = ReconstructionConfig().to_dict() | {"frobnication": 3}
    with pytest.raises(UserError, match="frobnication"):
        ReconstructionConfig.from_dict(values)


def test_it_is_frozen_and_hashable():
    arrays = ReconstructionConfig(voxel_size=np.array([0.1, 0.2]), tile=np.array([32, 16]))  # type: ignore[arg-type]
    assert (arrays.voxel_size, arrays.tile) == ((0.1, 0.2), (32, 16))
    config = ReconstructionConfig(voxel_size=[0.1, 0.2], axes="YX")  # type: ignore[arg-type]
    assert config.voxel_size == (0.1, 0.2)
    assert hash(config) == hash(ReconstructionConfig(voxel_size=(0.1, 0.2), axes="YX"))
    with pytest.raises(AttributeError):
        config.peak = 3.0  # type: ignore[misc]
