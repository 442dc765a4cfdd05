"""What to do with an empty viewer."""

from __future__ import annotations

from typing import Any

from qtpy.QtWidgets import QGridLayout, QLabel, QPushButton, QWidget

from napari_deqmd.widgets.sections.parts import SectionBox, named, taught

_PLUGIN = "napari-deqmd"


class Welcome(SectionBox):
    """Three ways to an image, each with what comes next; gone as soon as there is one.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    """

    def __init__(self, viewer: Any, parent: QWidget | None = None) -> None:
        super().__init__("Start here", parent)
        self.setObjectName("welcome")
        self._viewer = viewer
        self.open_2d = named(QPushButton("Open a sample (2D)"), "welcome_2d")
        self.open_3d = named(QPushButton("Open a sample (3D)"), "welcome_3d")
        self.open_file = named(QPushButton("Open a file…"), "welcome_file")
        grid = QGridLayout()
        grid.setHorizontalSpacing(8)
        grid.setVerticalSpacing(6)
        grid.setColumnStretch(1, 1)
        for row, (button, text, tooltip) in enumerate(
            (
                (
                    self.open_2d,
                    "Filaments and cells, blurred and noisy: press Run and watch.",
                    "A simulated image with its PSF and its truth as hidden layers; offset and gain are filled in.",
                ),
                (
                    self.open_3d,
                    "Nuclei, with the PSF of a stack filled in: press Run.",
                    "A simulated stack with its PSF and its truth as hidden layers. A stack takes longer than a plane: "
                    "try Preview first.",
                ),
                (
                    self.open_file,
                    "Your TIFF: say what blurs it (2) and what the camera counts (3).",
                    "Axes, voxel size and optics are taken from the file where it names them; look at them before you "
                    "press Run.",
                ),
            )
        ):
            taught(button, tooltip)
            about = QLabel(text)
            about.setWordWrap(True)
            about.setStyleSheet("font-size: 11px;")
            grid.addWidget(button, row, 0)
            grid.addWidget(about, row, 1)
        self.column.addLayout(grid)
        self.open_2d.clicked.connect(lambda: self._open("sample_2d"))
        self.open_3d.clicked.connect(lambda: self._open("sample_3d"))

    def _open(self, sample: str) -> None:
        self._viewer.open_sample(_PLUGIN, sample)
        self._viewer.reset_view()
