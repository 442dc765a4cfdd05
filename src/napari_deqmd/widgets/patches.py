"""Small pictures of one held-out patch: as measured, and as restored before and now."""

from __future__ import annotations

from typing import Any

import numpy as np
from qtpy.QtCore import QSize, Qt
from qtpy.QtGui import QImage, QPixmap
from qtpy.QtWidgets import QHBoxLayout, QLabel, QSizePolicy, QVBoxLayout, QWidget

_SIDE = 104


class Patches(QWidget):
    """Three pictures side by side; the last two share one contrast."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._pictures: list[_Picture] = []
        self._captions: list[QLabel] = []
        self.arrays: tuple[np.ndarray | None, ...] = (None, None, None)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(6)
        for text in ("Measured", "Before", "Now"):
            column = QVBoxLayout()
            column.setSpacing(1)
            picture, caption = _Picture(), QLabel(text)
            caption.setAlignment(Qt.AlignmentFlag.AlignHCenter)
            caption.setStyleSheet("font-size: 11px;")
            column.addWidget(picture, stretch=1)
            column.addWidget(caption)
            row.addLayout(column, stretch=1)
            self._pictures.append(picture)
            self._captions.append(caption)

    def show_patches(
        self, measured: np.ndarray | None, before: np.ndarray | None, now: np.ndarray | None
    ) -> None:
        """Show ``(Y, X)`` images, or nothing where there is none."""
        self.arrays = (measured, before, now)
        restored = [image for image in (before, now) if image is not None]
        top = max((float(np.percentile(image, 99.8)) for image in restored), default=1.0)
        self._pictures[0].show_image(measured, None if measured is None else float(measured.max()))
        self._pictures[1].show_image(before, top)
        self._pictures[2].show_image(now, top)

    def name_last(self, caption: str) -> None:
        """Say what the last picture is."""
        self._captions[2].setText(caption)


class _Picture(QLabel):
    """A square picture that fits its place."""

    def __init__(self) -> None:
        super().__init__()
        self._pixmap = QPixmap()
        self.setMinimumSize(_SIDE // 2, 3 * _SIDE // 4)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Expanding)
        self.setAlignment(Qt.AlignmentFlag.AlignCenter)

    def sizeHint(self) -> QSize:  # noqa: N802 (Qt's name)
        return QSize(_SIDE, _SIDE)

    def show_image(self, image: np.ndarray | None, top: float | None) -> None:
        if image is None:
            self._pixmap = QPixmap()
        else:
            gray = np.ascontiguousarray(np.clip(image / (top or 1.0), 0, 1) * 255, dtype=np.uint8)
            height, width = gray.shape
            pixels = gray.tobytes()  # Qt does not keep them
            self._pixmap = QPixmap.fromImage(
                QImage(pixels, width, height, width, QImage.Format.Format_Grayscale8)
            )
        self._fit()

    def resizeEvent(self, event: Any) -> None:  # noqa: N802 (Qt's name)
        super().resizeEvent(event)
        self._fit()

    def _fit(self) -> None:
        if self._pixmap.isNull():
            self.clear()
        else:
            self.setPixmap(
                self._pixmap.scaled(
                    self.size(),
                    Qt.AspectRatioMode.KeepAspectRatio,
                    Qt.TransformationMode.SmoothTransformation,
                )
            )
