"""What the names of image files say."""

from __future__ import annotations

from pathlib import Path

from napari_deqmd.io.ngff import MARKS

TIFFS = (".tif", ".tiff")
SUFFIXES = (*TIFFS, ".zarr")


def image_path(path: Path | str) -> Path:
    """Return the path of an image: for a file that marks an OME-Zarr its folder."""
    source = Path(path).expanduser()
    return source.parent if source.name in MARKS else source


def is_ome(path: Path) -> bool:
    """Tell whether a file's name asks for OME-TIFF."""
    return path.name.lower().endswith((".ome.tif", ".ome.tiff"))


def ending(path: Path | str) -> str:
    """Return what a name must end in to be read or written like this one, such as ``.ome.tif``."""
    name = Path(path).name
    found = next((suffix for suffix in SUFFIXES if name.lower().endswith(suffix)), "")
    double = f".ome{found}"
    return double if found and name.lower().endswith(double) else found
