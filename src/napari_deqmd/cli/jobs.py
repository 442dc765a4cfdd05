"""``deqmd reconstruct`` and ``simulate``."""

from __future__ import annotations

import dataclasses
from argparse import Namespace
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_deqmd.cli import again
from napari_deqmd.cli.console import ProgressLine, print_json, say
from napari_deqmd.cli.outputs import check_apart
from napari_deqmd.core.caution import caution
from napari_deqmd.core.config import ReconstructionConfig
from napari_deqmd.core.errors import UserError
from napari_deqmd.core.pixels import CAMERA, PixelMaps
from napari_deqmd.io.names import image_path
from napari_deqmd.io.sidecar import check_result, fingerprint, origin, versions, write_result
from napari_deqmd.io.stack import Stack, read_stack
from napari_deqmd.psf_files import load_psf

if TYPE_CHECKING:
    from napari_deqmd.api import Result

_REPORTED = (
    "seconds", "iterations", "stopped_by", "objective_first", "objective_last", "objective_estimated", "certificate",
    "peak", "background", "device", "peak_memory_bytes",
)  # fmt: skip


def reconstruct(arguments: Namespace) -> None:
    """Deconvolve a stack: read, run, write image and sidecar."""
    earlier = None if arguments.sidecar is None else again.take_over(arguments)
    if arguments.output is None:
        raise UserError("There is no name for the result: give one with -o.")
    if Path(arguments.model).expanduser().is_file():
        arguments.model = str(Path(arguments.model).expanduser().resolve())
    names = {field.name for field in dataclasses.fields(ReconstructionConfig)}
    maps = _maps(arguments)
    values = {name: value for name, value in vars(arguments).items() if name in names}
    config = ReconstructionConfig(**values | maps.typical | {"axes": None, "voxel_size": None})
    stack, target = _read(arguments)
    detector = " and ".join(f"{name} {text}" for name, text in stack.metadata.get("detector", {}).items())
    if detector and earlier is None and not {"gain", "offset"} <= set(arguments.told):
        caution(
            f"the file says of its detector {detector}, without a unit, so that is not used: --gain takes counts per "
            "photo-electron, and --offset counts.",
            stacklevel=1,
        )
    psf = load_psf(arguments.psf, stack)
    config = dataclasses.replace(config, axes=stack.axes, voxel_size=stack.voxel_size)
    content = _provenance(arguments, stack, psf)
    content["maps"] = {
        name: {
            "source": _lasting(getattr(arguments, name)),
            "shape": values.shape,
            "sha256": fingerprint(values),
        }
        for name, values in maps.given.items()
    }
    if earlier is not None:
        again.compare(earlier, content)
    result = run(stack, psf, config, maps=maps, memory=arguments.memory, scheduler=arguments.scheduler)
    content = result.report | content
    content["versions"] = content["versions"] | versions()
    if earlier is not None:
        again.compare_models(earlier, content)
    written = write_result(
        target,
        dataclasses.replace(stack, data=result.image),
        content,
        dtype=arguments.dtype,
        zarr_version=arguments.zarr_version,
        overwrite=arguments.overwrite,
    )
    for sentence in result.report["warnings"]:
        say(f"note: {sentence}")
    extra: dict[str, Any] = {} if earlier is None else {"same_result": again.is_same(earlier, written)}
    if arguments.json:
        found = _channels(result.report)
        extra |= {"channels": found} if len(found) > 1 else {}
        print_json({name: result.report[name] for name in _REPORTED} | {"output": str(target)} | extra)
        return
    print(f"{target}: {summary(result)}")
    if extra.get("same_result") is not None:
        print(
            "the same result, bit for bit" if extra["same_result"] else "another result than the earlier one"
        )


def run(
    stack: Stack,
    psf: NDArray[np.float32],
    config: ReconstructionConfig,
    *,
    maps: PixelMaps | None = None,
    memory: str | None = None,
    scheduler: str | None = None,
) -> Result:
    """Run a reconstruction with progress on stderr; Ctrl-C ends it at once."""
    from napari_deqmd.api import Reconstruction
    from napari_deqmd.scale.memory import parse_bytes

    limit = None if memory is None else parse_bytes(memory)
    job = Reconstruction(stack.data, psf, config, maps=maps, memory=limit, scheduler=scheduler)
    with closing(ProgressLine(job.items, job.max_iter)) as line, closing(job.steps()) as steps:
        for progress in steps:
            line.update(progress)
    return job.result()


def summary(result: Result) -> str:
    """Say in one line how a reconstruction went."""
    report = result.report
    peak, background = (
        _span([channel[name] for channel in _channels(report)]) for name in ("peak", "background")
    )
    ending = {
        "converged": "converged",
        "max_iter": "not yet converged, stopped",
        "diverged": "stopped at the last good iterate because numbers became infinite,",
    }.get(result.stopped_by, result.stopped_by)
    return (
        f"{ending} after {report['iterations']} iterations in {report['seconds']:.1f} s on {report['device']} "
        f"(peak {peak}, background {background} photo-electrons, "
        f"certificate {report['certificate']:.1e})"
    )


def _channels(report: Mapping[str, Any]) -> list[dict[str, float]]:
    """Return peak and background of every channel: the report's own are those of the last."""
    found = {
        item["index"].get("C"): {name: item[name] for name in ("peak", "background")}
        for item in report["items"]
    }
    return list(found.values())


def _span(values: Sequence[float]) -> str:
    low, high = f"{min(values):.4g}", f"{max(values):.4g}"
    return low if low == high else f"{low} to {high}"


def simulate(arguments: Namespace) -> None:
    """Blur a clean image, add noise, write counts and sidecar."""
    stack, target = _read(arguments)
    psf = load_psf(arguments.psf, stack)
    from napari_deqmd import api

    settings = {
        name: getattr(arguments, name)
        for name in ("peak", "background", "offset", "gain", "boundary", "seed")
    }
    counts = api.simulate(stack.data, psf, axes=stack.axes, **settings)
    content = _provenance(arguments, stack, psf) | {"settings": settings, "versions": versions()}
    write_result(target, dataclasses.replace(stack, data=counts), content, overwrite=arguments.overwrite)
    if arguments.json:
        print_json(settings | {"output": str(target)})
    else:
        print(f"{target}: {counts.min():.4g} to {counts.max():.4g} counts")


def _read(arguments: Namespace) -> tuple[Stack, Path]:
    """Read the input, once it is known that the output can be written."""
    target = check_result(arguments.output, overwrite=arguments.overwrite)
    check_apart(arguments, target)
    stack = read_stack(
        arguments.image, axes=arguments.axes, voxel_size=arguments.voxel_size, level=arguments.level
    )
    part = getattr(arguments, "part", None)
    stack = (stack.part(part) if part else stack).load()
    check_result(target, overwrite=arguments.overwrite, size=4 * stack.data.size)
    return stack, target


def _maps(arguments: Namespace) -> PixelMaps:
    """Read what files say of single pixels."""
    given = {name: getattr(arguments, name) for name in (*CAMERA, "mask")}
    return PixelMaps(
        **{name: read_stack(path).load().data for name, path in given.items() if isinstance(path, str)}
    )


def _provenance(arguments: Namespace, stack: Stack, psf: NDArray[np.float32]) -> dict[str, Any]:
    return origin(
        stack,
        psf,
        path=str(image_path(arguments.image).resolve()),
        psf_source=_lasting(arguments.psf),
        given={name: getattr(arguments, name, None) for name in again.READING},
    )


def _lasting(psf: str) -> str:
    """Return the text of ``--psf`` as it can be used from another folder."""
    path = Path(psf).expanduser()
    return str(path.resolve()) if path.exists() else psf
