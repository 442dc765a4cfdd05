"""How much memory a reconstruction will need, and how much there is."""

from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scipy.fft import next_fast_len

from napari_deqmd.core.config import LEARNED
from napari_deqmd.core.errors import UserError

FLOAT = 4

MEMINFO = Path("/proc/meminfo")
STATUS = Path("/proc/self/status")
CGROUP = Path("/sys/fs/cgroup")

# Pixels of a stack whose network graph is alive at once (`napari_deqmd.core.regularizers.base.PIECE`), whole planes.
_PIECE, _PIECE_CPU = 2**22, 2**17

# float32 arrays of the object's size that are alive at the worst moment of a step, by method and solver; of the
# image's size: counts, electrons, expected images, result with the iterate it is cut from. Measured as the resident
# peak of runs of 1 to 5 GB.
_OBJECTS = {"rl": 4, "rl-accelerated": 5, "b-pnp": 17, "plain": 17, "accelerated": 37}
_IMAGES = 9
# float32 values per pixel in the graph of a regularizer: the bundled three-scale network, the 5 x 64 one, and TV.
_GRAPH = {"deq-md": 300, "b-red": 560, "b-pnp": 560, "md-tv": 3}
_CHANNELS = 24
# Orientations in which a prior for planes sees a stack.
_VIEWS = 3

# Bytes beside the pixels of an image from which peak and background are estimated, in electrons; of those looked at.
_ESTIMATED, _SAMPLED, _SAMPLE = 5, 28, 2**23

# The C library gives blocks above 32 MiB back when they are freed; of smaller ones it keeps nearly as much again.
_GIVEN_BACK = 2**25
_KEPT = 1.85


def predict_bytes(
    shape: Sequence[int],
    psf_shape: Sequence[int],
    *,
    method: str = "deq-md",
    solver: str = "accelerated",
    boundary: str = "extended",
    orientations: int = 1,
    device: str = "cpu",
) -> int:
    """Predict the memory of one reconstruction, beyond what the program takes anyway.

    Parameters
    ----------
    shape : sequence of int
        Spatial shape of the image, ``(Y, X)`` or ``(Z, Y, X)``; items along T and C run one after the other.
    psf_shape : sequence of int
        Shape of the prepared PSF.
    method, solver, boundary : str
        As in `ReconstructionConfig`.
    orientations : int
        As in it.
    device : str
        Resolved torch device.

    Returns
    -------
    int
        Bytes.
    """
    pixels = math.prod(shape)
    grown = _grown(shape, psf_shape, boundary)
    objects = math.prod(grown)
    fast = [next_fast_len(size, real=True) for size in grown] if boundary == "extended" else grown
    # Spectra of complex64: the OTF and its conjugate, and one in work; beside them a padded image in work.
    spectra = 3 * 2 * math.prod(fast[:-1]) * (fast[-1] // 2 + 1) + 2 * math.prod(fast)
    arrays: float = _OBJECTS[method if method in _OBJECTS else solver] * objects + _IMAGES * pixels + spectra
    piece = objects
    if method in LEARNED:
        # Of a stack the largest plane of all orientations.
        views, plane = (_VIEWS, objects // min(grown)) if len(shape) == 3 else (1, objects)
        most = _PIECE_CPU if device == "cpu" else _PIECE
        piece = min(orientations * views * objects, plane * max(1, most // plane))
    graph: float = _GRAPH.get(method, 0) * piece
    if device == "cpu":
        arrays *= _kept(objects)
        graph *= 1.0 if piece < objects else _kept(piece * (_CHANNELS if method in LEARNED else 1))
    return int(FLOAT * (arrays + graph))


def predict_run_bytes(
    shape: Sequence[int],
    psf_shape: Sequence[int],
    read: Sequence[int],
    *,
    items: int = 1,
    itemsize: int = 4,
    **options: Any,
) -> int:
    """Predict the memory of a run over all images along T and C: what is held of all, and what one takes, or a tile.

    Parameters
    ----------
    shape, psf_shape : sequence of int
        As in `predict_bytes`.
    read : sequence of int
        Pixels that are reconstructed at once: all of `shape`, or what a tile reads.
    items, itemsize : int
        How many images there are along T and C, and bytes of a pixel of theirs.
    **options
        As in `predict_bytes`.

    Returns
    -------
    int
        Bytes, of the device.
    """
    running = predict_bytes(read, psf_shape, **options)
    if options.get("device", "cpu") != "cpu":
        return running  # what is held lies in the processor's memory
    pixels = math.prod(shape)
    objects = math.prod(_grown(shape, psf_shape, options.get("boundary", "extended")))
    held = itemsize * pixels + FLOAT * (pixels + objects)
    # What one takes as a whole has its own counts, result and object.
    others = items - (tuple(read) == tuple(shape))
    estimating = (itemsize + _ESTIMATED) * items * pixels + _SAMPLED * min(items * pixels, _SAMPLE)
    return max(estimating, others * held + running)


def _grown(shape: Sequence[int], psf_shape: Sequence[int], boundary: str) -> list[int]:
    """Return the shape of the object."""
    if boundary == "periodic":
        return list(shape)
    return [size + psf - 1 for size, psf in zip(shape, psf_shape, strict=True)]


def _kept(values: int) -> float:
    return _KEPT if FLOAT * values < _GIVEN_BACK else 1.0


def available_bytes(device: str = "cpu") -> int | None:
    """Return the free memory of a torch device in bytes, or ``None`` where that cannot be known."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.mem_get_info(device)[0])
    if device != "cpu":
        return None
    free = [_meminfo(), _cgroup()]
    known = [value for value in free if value is not None]
    return min(known) if known else _psutil()


def advice(method: str, *first: str) -> str:
    """Return what to do where memory does not suffice, for a method: `first` what else there is."""
    choices = [*first, "crop the image"]
    if method != "rl":
        choices.append("choose method rl, which needs the least")
    return ", or ".join(filter(None, (", ".join(choices[:-1]), choices[-1])))


def peak_memory(device: str = "cpu") -> int:
    """Return the most bytes this process has held: on the device, or resident; 0 where that cannot be known."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.max_memory_allocated(device))
    # Linux: getrusage would also count what the parent held when it started this process.
    if (high_water := _kilobytes(STATUS, "VmHWM:")) is not None:
        return high_water
    try:
        resource = importlib.import_module("resource")
    except ImportError:
        return 0
    largest = int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    return largest if sys.platform == "darwin" else 1024 * largest


def parse_bytes(text: str) -> int:
    """Read a size such as ``4GB``, ``512 MiB`` or ``2e9``.

    Raises
    ------
    UserError
        It is not a positive size.
    """
    units = {"": 1, "B": 1}
    for power, letter in enumerate("KMGT", start=1):
        units |= {letter: 1000**power, f"{letter}B": 1000**power, f"{letter}IB": 1024**power}
    cleaned = text.strip().upper()
    number = cleaned.rstrip("KMGTIB ")
    unit = cleaned[len(number) :].strip()
    try:
        size = float(number) * units[unit]
    except (ValueError, KeyError):
        size = math.nan
    if not (math.isfinite(size) and size >= 1):
        raise UserError(f"Cannot read the memory size {text!r}: write it like 4GB or 512MB.")
    return int(size)


def format_bytes(size: float) -> str:
    """Write a size for people: ``1.5 GB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.5:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"


def _meminfo() -> int | None:
    return _kilobytes(MEMINFO, "MemAvailable:")


def _kilobytes(path: Path, name: str) -> int | None:
    """Read a line ``name 123 kB`` of a file of the proc file system, in bytes."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith(name)]
    return 1024 * int(found[0]) if found else None


def _cgroup() -> int | None:
    """Return what a container's limit leaves; page cache it would give back counts as free."""
    try:
        limit = int((CGROUP / "memory.max").read_text())
        used = int((CGROUP / "memory.current").read_text())
        stat = dict(line.split() for line in (CGROUP / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return None
    return max(0, limit - used + int(stat.get("inactive_file", 0)))


def _psutil() -> int | None:
    """Ask psutil, which napari brings, where the system has no files that say it."""
    try:
        psutil = importlib.import_module("psutil")
    except ImportError:
        return None
    return int(psutil.virtual_memory().available)
