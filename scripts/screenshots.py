"""Make the pictures of docs/images from a real window: run it again after each change of the widgets.

    python scripts/screenshots.py [--only welcome|reconstruct|stack|compare|psf|train ...] [-o FOLDER]

Training takes minutes: its pictures are made only when it is named. Without a display the script starts itself again
under xvfb-run. The settings of whoever runs it are left alone.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

WINDOW = (1400, 1000)
SCREEN = "1400x1020x24"
# The animation: pixels across, pictures, and milliseconds each is shown.
ANIMATION = (760, 14, 350)


def main() -> int:
    """Open samples and widgets, use them as a user would, and take pictures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=SCENES, help="some of them (all but train)")
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parents[1] / "docs" / "images")
    parser.add_argument(
        "--width", type=int, default=1100, help="pixels of the pictures; 0 keeps the window's"
    )
    parser.add_argument("--minutes", type=float, default=3.0, help="time for the fine-tuning")
    arguments = parser.parse_args()
    if sys.platform == "linux" and not os.environ.get("DISPLAY") and shutil.which("xvfb-run"):
        os.execvp("xvfb-run", ["xvfb-run", "-a", "-s", f"-screen 0 {SCREEN}", sys.executable, *sys.argv])
    arguments.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"NAPARI_CONFIG": f"{folder}/napari.yaml", "XDG_CONFIG_HOME": folder}
        for name in arguments.only or [name for name in SCENES if name != "train"]:
            SCENES[name](arguments)
    return 0


class Stage:
    """A viewer with a sample and a widget, and the hands of a user."""

    def __init__(self, arguments: argparse.Namespace, widget: str, sample: str | None) -> None:
        import napari

        self.arguments = arguments
        self.viewer = napari.Viewer(show=True)
        self.viewer.window.resize(*WINDOW)
        if sample is not None:
            self.viewer.open_sample("napari-deqmd", sample)
        _, self.widget = self.viewer.window.add_plugin_dock_widget("napari-deqmd", widget)
        self.pump(0.5)
        self.viewer.reset_view()
        self.pump(2)

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

    def press(self, name: str, seconds: float = 1200) -> None:
        """Press a button, and wait until it can be pressed again."""
        self.find(name).click()
        self.pump(seconds, until=self.find(name).isEnabled)
        self.pump(2)

    def look(self) -> Any:
        """Return what the window looks like."""
        return self.viewer.screenshot(canvas_only=False, flash=False)

    def picture(self, name: str, image: Any = None) -> None:
        """Save what the window looks like."""
        path = self.arguments.output / f"{name}.png"
        shrink(self.look() if image is None else image, self.arguments.width).save(path, optimize=True)
        print(path)

    def close(self) -> None:
        """Leave."""
        self.viewer.close()
        self.pump(0.2)


def take_welcome(arguments: argparse.Namespace) -> None:
    """Show an empty viewer."""
    stage = Stage(arguments, "Reconstruct", None)
    stage.picture("welcome")
    stage.close()


def take_reconstruct(arguments: argparse.Namespace) -> None:
    """Run on the 2D sample, and look."""
    stage = Stage(arguments, "Reconstruct", "sample_2d")
    find, pump = stage.find, stage.pump
    stage.press("estimate")
    stage.picture("sample_2d_before")
    frames = [stage.look()]
    find("run").click()
    pump(120, until=lambda: find("progress").value() > 0 or find("run").isEnabled())
    while not find("run").isEnabled():
        pump(0.3)
        frames.append(stage.look())
    pump(1)
    frames.append(stage.look())
    stage.picture("sample_2d_during", frames[len(frames) // 3])
    animate(frames, arguments.output / "run.gif")
    stage.viewer.canvas.grid.enabled = True
    stage.viewer.reset_view()
    pump(2)
    stage.picture("sample_2d_after")
    print(find("status").text())
    stage.close()


def take_stack(arguments: argparse.Namespace) -> None:
    """Mark a region of the 3D sample, and preview it."""
    import numpy as np

    stage = Stage(arguments, "Reconstruct", "sample_3d")
    viewer, find = stage.viewer, stage.find
    image = viewer.layers["Nuclei"]
    corners = np.array([[69, 64], [69, 112], [117, 112], [117, 64]]) - 0.5
    viewer.add_shapes(
        [corners * image.scale[1:]],
        name="Region",
        units=image.units[1:],
        edge_color="#ffa94d",
        edge_width=0.15,
        face_color="transparent",
    )
    find("roi").setCurrentText("Region")
    find("max_iter").setValue(60)
    stage.press("preview")
    viewer.layers.move(list(viewer.layers).index(viewer.layers["Region"]), len(viewer.layers))
    stage.pump(1)
    stage.picture("sample_3d_preview")
    print(find("status").text())
    stage.close()


def take_compare(arguments: argparse.Namespace) -> None:
    """Compare all methods with the truth of the sample."""
    from qtpy.QtCore import Qt

    stage = Stage(arguments, "Compare", "sample_2d")
    find = stage.find
    methods = find("compare_methods")
    for row in range(methods.count()):
        wanted = methods.item(row).text() in ("rl-accelerated", "md-tv", "deq-md")
        methods.item(row).setCheckState(Qt.CheckState.Checked if wanted else Qt.CheckState.Unchecked)
    find("compare_reference").setCurrentText("Filaments truth")
    stage.press("compare_run")
    find("compare_table").selectRow(3)
    find("compare_profile").click()
    stage.pump(3)
    stage.viewer.reset_view()
    stage.pump(1)
    stage.picture("compare")
    print(find("compare_status").text())
    stage.close()


def take_psf(arguments: argparse.Namespace) -> None:
    """Make the PSF of a microscope for the 3D sample."""
    import numpy as np

    stage = Stage(arguments, "PSF", "sample_3d")
    viewer = stage.viewer
    stage.find("make_psf_kind").setCurrentText("Confocal")
    stage.find("make_psf_na").setValue(1.2)
    stage.find("make_psf_ni").setValue(1.333)
    stage.find("make_psf_ns").setValue(1.333)
    stage.press("make_psf")
    viewer.layers["Nuclei"].visible = False
    psf = viewer.layers["Confocal PSF"]
    psf.gamma = 0.4
    middle, size = psf.extent.world.mean(axis=0), float(np.ptp(psf.extent.world[:, 1]))
    viewer.dims.set_point(0, middle[0])
    viewer.scene.camera.center = tuple(middle)
    viewer.scene.camera.zoom = 500 / size
    stage.pump(1)
    stage.picture("psf")
    stage.close()


def take_training(arguments: argparse.Namespace) -> None:
    """Train on nothing but a noisy image."""
    stage = Stage(arguments, "Train", "sample_2d")
    find, pump = stage.find, stage.pump
    seconds = 60 * arguments.minutes + 600
    find("train_psf_source").setCurrentText("Layer")
    find("minutes").setValue(arguments.minutes)
    find("train_run").click()
    pump(seconds, until=lambda: len(find("train_plot").scores) > 2 or find("train_run").isEnabled())
    pump(0.5)
    stage.picture("train_during")
    pump(seconds, until=find("train_run").isEnabled)
    find("model_name").setText("my-filaments")
    pump(1)
    stage.picture("train_after")
    print(find("train_status").text())
    stage.close()


SCENES: dict[str, Callable[[argparse.Namespace], None]] = {
    "welcome": take_welcome,
    "reconstruct": take_reconstruct,
    "stack": take_stack,
    "compare": take_compare,
    "psf": take_psf,
    "train": take_training,
}


def shrink(pixels: Any, width: int, colors: int = 160, palette: Any = None) -> Any:
    """Keep the pictures of the repository small: fewer pixels, and fewer colours, or those of another picture."""
    from PIL import Image

    image = Image.fromarray(pixels[..., :3])
    if 0 < width < image.width:
        image = image.resize((width, round(image.height * width / image.width)), Image.Resampling.LANCZOS)
    plain = {"method": Image.Quantize.MEDIANCUT, "dither": Image.Dither.NONE}
    if palette is not None:
        return image.quantize(palette=palette, **plain)
    return image.quantize(colors, kmeans=3, **plain)


def animate(frames: Sequence[Any], path: Path) -> None:
    """Write some of the pictures, the first ones denser, as an animation that rests at its end."""
    width, count, pause = ANIMATION
    last = len(frames) - 1
    chosen = sorted({round(last * (place / (count - 1)) ** 1.5) for place in range(count)})
    # With a palette for each the window would flicker.
    palette = shrink(frames[last], width, colors=128)
    first, *rest = [shrink(frames[place], width, palette=palette) for place in chosen]
    pauses = [3 * pause, *[pause] * (len(rest) - 1), 8 * pause]
    first.save(path, save_all=True, append_images=rest, duration=pauses, loop=0, optimize=True)
    print(path, f"{path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    sys.exit(main())
