"""Make the pictures of docs/images from a real window: run it again after each change of the widgets.

    python scripts/screenshots.py [-o FOLDER] [--sample sample_2d] [--method deq-md]

Without a display it starts itself again under xvfb-run.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

WINDOW = (1400, 880)
SCREEN = "1400x900x24"


def main() -> int:
    """Open a sample and the widget, run it, and take a picture before, during and after."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parents[1] / "docs" / "images")
    parser.add_argument("--sample", default="sample_2d")
    parser.add_argument("--method", default="deq-md")
    parser.add_argument("--max-iter", type=int, default=200)
    parser.add_argument("--during", type=int, default=8, help="take the second picture at this iteration")
    parser.add_argument(
        "--width", type=int, default=1100, help="pixels of the pictures; 0 keeps the window's"
    )
    arguments = parser.parse_args()
    if sys.platform == "linux" and not os.environ.get("DISPLAY") and shutil.which("xvfb-run"):
        os.execvp("xvfb-run", ["xvfb-run", "-a", "-s", f"-screen 0 {SCREEN}", sys.executable, *sys.argv])
    arguments.output.mkdir(parents=True, exist_ok=True)
    take_pictures(arguments)
    return 0


def take_pictures(arguments: argparse.Namespace) -> None:
    """Do what a user does, and look."""
    import napari
    from qtpy.QtWidgets import QApplication, QWidget

    viewer = napari.Viewer(show=True)
    viewer.window.resize(*WINDOW)
    viewer.open_sample("napari-deqmd", arguments.sample)
    viewer.reset_view()
    _, widget = viewer.window.add_plugin_dock_widget("napari-deqmd", "Reconstruct")

    def find(name: str) -> Any:
        return widget.findChild(QWidget, name)

    def pump(seconds: float = 0.0, until: Callable[[], bool] = lambda: False) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and not until():
            QApplication.processEvents()
            time.sleep(0.005)

    def picture(name: str) -> None:
        path = arguments.output / f"{arguments.sample}_{name}.png"
        viewer.screenshot(str(path), canvas_only=False, flash=False)
        shrink(path, arguments.width)
        print(path)

    find("psf_source").setCurrentText("Layer")
    find("method").setCurrentText(arguments.method)
    find("max_iter").setValue(arguments.max_iter)
    find("estimate").click()
    pump(30, until=find("estimate").isEnabled)
    pump(2)
    picture("before")
    find("run").click()
    pump(120, until=lambda: find("progress").value() >= arguments.during or find("run").isEnabled())
    pump(0.5)
    picture("during")
    pump(1200, until=find("run").isEnabled)
    viewer.canvas.grid.enabled = True
    viewer.reset_view()
    pump(2)
    picture("after")
    print(find("status").text())
    viewer.close()
    pump(0.2)


def shrink(path: Path, width: int) -> None:
    """Keep the pictures of the repository small."""
    from PIL import Image

    with Image.open(path) as picture:
        image = picture.convert("RGB")
    if 0 < width < image.width:
        image = image.resize((width, round(image.height * width / image.width)), Image.Resampling.LANCZOS)
    image.quantize(256, method=Image.Quantize.MAXCOVERAGE).save(path, optimize=True)


if __name__ == "__main__":
    sys.exit(main())
