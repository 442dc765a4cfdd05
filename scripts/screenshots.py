"""Make the pictures of docs/images from a real window: run it again after each change of the widgets.

    python scripts/screenshots.py [--only reconstruct|train] [-o FOLDER] [--sample sample_2d] [--method deq-md]

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
    """Open a sample and the widgets, run them, and take pictures before, during and after."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=["reconstruct", "train"], help="one widget (both)")
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parents[1] / "docs" / "images")
    parser.add_argument("--sample", default="sample_2d")
    parser.add_argument("--method", default="deq-md")
    parser.add_argument("--max-iter", type=int, default=200)
    parser.add_argument("--during", type=int, default=8, help="take the second picture at this iteration")
    parser.add_argument(
        "--width", type=int, default=1100, help="pixels of the pictures; 0 keeps the window's"
    )
    parser.add_argument("--minutes", type=float, default=3.0, help="time for the fine-tuning")
    arguments = parser.parse_args()
    if sys.platform == "linux" and not os.environ.get("DISPLAY") and shutil.which("xvfb-run"):
        os.execvp("xvfb-run", ["xvfb-run", "-a", "-s", f"-screen 0 {SCREEN}", sys.executable, *sys.argv])
    arguments.output.mkdir(parents=True, exist_ok=True)
    for name in [arguments.only] if arguments.only else ["reconstruct", "train"]:
        {"reconstruct": take_pictures, "train": take_training_pictures}[name](
            Stage(arguments, name.capitalize())
        )
    return 0


class Stage:
    """A viewer with a sample and a widget, and the hands of a user."""

    def __init__(self, arguments: argparse.Namespace, widget: str) -> None:
        import napari

        self.arguments = arguments
        self.viewer = napari.Viewer(show=True)
        self.viewer.window.resize(*WINDOW)
        self.viewer.open_sample("napari-deqmd", arguments.sample)
        self.viewer.reset_view()
        _, self.widget = self.viewer.window.add_plugin_dock_widget("napari-deqmd", widget)

    def find(self, name: str) -> Any:
        """Return a control."""
        from qtpy.QtWidgets import QWidget

        return self.widget.findChild(QWidget, name)

    def pump(self, seconds: float = 0.0, until: Callable[[], bool] = lambda: False) -> None:
        """Let the window live for some time, or until something is true."""
        from qtpy.QtWidgets import QApplication

        end = time.monotonic() + seconds
        while time.monotonic() < end and not until():
            QApplication.processEvents()
            time.sleep(0.005)

    def picture(self, name: str) -> None:
        """Save what the window looks like."""
        path = self.arguments.output / f"{name}.png"
        self.viewer.screenshot(str(path), canvas_only=False, flash=False)
        shrink(path, self.arguments.width)
        print(path)

    def close(self) -> None:
        """Leave."""
        self.viewer.close()
        self.pump(0.2)


def take_pictures(stage: Stage) -> None:
    """Do with Reconstruct what a user does, and look."""
    arguments, find, pump = stage.arguments, stage.find, stage.pump
    find("psf_source").setCurrentText("Layer")
    find("method").setCurrentText(arguments.method)
    find("max_iter").setValue(arguments.max_iter)
    find("estimate").click()
    pump(30, until=find("estimate").isEnabled)
    pump(2)
    stage.picture(f"{arguments.sample}_before")
    find("run").click()
    pump(120, until=lambda: find("progress").value() >= arguments.during or find("run").isEnabled())
    pump(0.5)
    stage.picture(f"{arguments.sample}_during")
    pump(1200, until=find("run").isEnabled)
    stage.viewer.canvas.grid.enabled = True
    stage.viewer.reset_view()
    pump(2)
    stage.picture(f"{arguments.sample}_after")
    print(find("status").text())
    stage.close()


def take_training_pictures(stage: Stage) -> None:
    """Do with Train what a user does who has nothing but noisy images, and look."""
    find, pump = stage.find, stage.pump
    find("train_psf_source").setCurrentText("Layer")
    find("minutes").setValue(stage.arguments.minutes)
    find("train_run").click()
    pump(
        60 * stage.arguments.minutes + 600,
        until=lambda: len(find("train_plot").scores) > 2 or find("train_run").isEnabled(),
    )
    pump(0.5)
    stage.picture("train_during")
    pump(60 * stage.arguments.minutes + 600, until=find("train_run").isEnabled)
    find("model_name").setText("my-filaments")
    pump(1)
    stage.picture("train_after")
    print(find("train_status").text())
    stage.close()


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
