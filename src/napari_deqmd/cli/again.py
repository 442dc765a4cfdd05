"""``deqmd reconstruct --from SIDECAR``: what ran before runs again, and says what is not as it was."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from napari_deqmd.core.caution import caution
from napari_deqmd.core.config import DTYPES, ZARR_VERSIONS, ReconstructionConfig
from napari_deqmd.core.errors import UserError
from napari_deqmd.io.names import ending, image_path
from napari_deqmd.io.sidecar import other_versions, read_sidecar

READING = ("axes", "voxel_size", "level", "part")
"""What says how the input is read, instead of what its file says; the part has no option."""

_NOT_SETTINGS = ("axes", "voxel_size")
_SECTIONS = dict.fromkeys(("config", "input", "psf", "output", "maps", "model", "versions"), dict)
_GIVEN = {"axes": str, "voxel_size": list, "level": int, "part": dict}


def take_over(arguments: Namespace) -> dict[str, Any]:
    """Fill the arguments with what a sidecar says, except for those that were given; return the sidecar.

    Raises
    ------
    UserError
        It is not the sidecar of a reconstruction, or what it names is not to be had.
    """
    source = Path(arguments.sidecar).expanduser()
    content = read_sidecar(source)
    try:
        _require_kinds(content, _SECTIONS)
        config = ReconstructionConfig.from_dict(content["config"]).to_dict()
        psf, given = str(content["psf"]["source"]), content["input"].get("given", {})
        _require_kinds(given, _GIVEN)
        output = content.get("output", {})
        _require_choices(output, {"dtype": DTYPES, "zarr_version": ZARR_VERSIONS})
        known = {name: value for name, value in config.items() if name not in _NOT_SETTINGS}
        known |= {"psf": psf, "dtype": output.get("dtype", "float32")}
        known["zarr_version"] = output.get("zarr_version", ZARR_VERSIONS[-1])
        known |= {name: given.get(name) for name in READING}
        known["output"] = _beside(image_path(arguments.image), str(output.get("name", "result.tif")))
        known |= {name: str(one["source"]) for name, one in content.get("maps", {}).items()}
        cut = content.get("items_total") != 1 or content.get("tiles") is not None
        if content.get("stopped_by") == "user" and not cut:
            known["max_iter"] = max(1, content["iterations"])
        if known["voxel_size"] is not None:
            known["voxel_size"] = tuple(known["voxel_size"])
    except UserError as error:
        raise UserError(f"{source} is damaged, or from another version: {error}") from None
    except (AttributeError, KeyError, TypeError, ValueError):
        raise UserError(
            f"{source} does not describe a reconstruction: name the .json beside a result."
        ) from None
    for name, value in known.items():
        if name not in arguments.told:
            setattr(arguments, name, value)
    _require(arguments, content)
    return content


def compare(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Warn, before the run, where versions, input or PSF are not what they were."""
    if changed := other_versions(earlier.get("versions")):
        caution(f"the earlier result was made by {', '.join(changed)}.", stacklevel=2)
    if earlier.get("started_from"):
        caution(
            "the earlier result went on from another one: this run starts at the data and may end elsewhere.",
            stacklevel=2,
        )
    for name, what in (("input", "The input's pixels are"), ("psf", "The PSF is")):
        recorded = earlier[name].get("sha256")
        if recorded is not None and recorded != now[name]["sha256"]:
            caution(f"{what} not that of the earlier result: this one will be another.", stacklevel=2)
    maps = [
        {name: one.get("sha256") for name, one in content.get("maps", {}).items()}
        for content in (earlier, now)
    ]
    if maps[0] != maps[1]:
        caution(
            "The maps of the camera's pixels are not those of the earlier result: this one will be another.",
            stacklevel=2,
        )


def compare_models(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Warn where the model has other weights than it had."""
    models = [one.get("model") or {} for one in (earlier, now)]
    if all(models) and models[0].get("sha256") != models[1].get("sha256"):
        caution(
            f"The model {models[1].get('name')} has not the weights of the earlier result's "
            f"{models[0].get('name')}: this one is another.",
            stacklevel=2,
        )


def is_same(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> bool | None:
    """Tell whether all pixels are as they were; ``None`` where that was not recorded."""
    recorded = earlier.get("output", {}).get("sha256")
    return None if recorded is None else bool(recorded == now["output"]["sha256"])


def _require_kinds(content: Mapping[str, Any], kinds: Mapping[str, type]) -> None:
    for name, kind in kinds.items():
        if not isinstance(content.get(name), kind | None):
            raise UserError(f"its {name} is {content[name]!r}, so name the .json beside another result.")


def _require_choices(content: Mapping[str, Any], choices: Mapping[str, Sequence[str]]) -> None:
    for name, known in choices.items():
        if content.get(name, known[0]) not in known:
            raise UserError(f"its {name} is {content[name]!r}: name the .json beside another result.")


def _beside(image: Path, earlier: str) -> str:
    return str(image.with_name(f"{image.name.split('.')[0]}-deconvolved{ending(earlier)}"))


def _require(arguments: Namespace, content: Mapping[str, Any]) -> None:
    """Find PSF and model before anything is read."""
    from napari_deqmd.core.config import LEARNED
    from napari_deqmd.psf.theory import KINDS
    from napari_deqmd.training.models import find_model

    source = str(arguments.psf)
    if source.partition(":")[0].strip() not in KINDS and not Path(source).expanduser().exists():
        raise UserError(
            f"The PSF {source} of the earlier result is not there any more: bring it back, or run anew with --psf."
        )
    if arguments.method not in LEARNED:
        return
    name = (content.get("model") or {}).get("name")
    if arguments.model == "default" and "model" not in arguments.told and name is not None:
        # What is the default may change from version to version.
        arguments.model = str(name)
    try:
        find_model(arguments.model, method=arguments.method)
    except UserError as error:
        raise UserError(
            f"The model {arguments.model} of the earlier result is not to be had: import it, or name another by "
            "--model."
        ) from error
