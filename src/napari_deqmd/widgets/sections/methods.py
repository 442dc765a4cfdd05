"""Which methods are compared, and what all of them are told."""

from __future__ import annotations

import dataclasses
from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QAbstractItemView,
    QCheckBox,
    QListWidget,
    QListWidgetItem,
    QSpinBox,
    QWidget,
)

from napari_deqmd.core.config import METHODS, ReconstructionConfig
from napari_deqmd.core.errors import UserError
from napari_deqmd.widgets.choices import OptionalCombo
from napari_deqmd.widgets.comparison import Contender
from napari_deqmd.widgets.form import default
from napari_deqmd.widgets.models import INSTALLED, about
from napari_deqmd.widgets.sections.parts import PlainSpin, SectionBox, named, taught
from napari_deqmd.widgets.sections.score_table import SCALED

# Richardson-Lucy is stopped early by everyone who uses it: at its 200th iteration it would be a straw man.
_RL_ITERATIONS = 10
_CHECKED = (("rl-accelerated", ""), ("md-tv", ""), ("deq-md", default("model")))
_LEARNED = "deq-md"
# Lines of the list.
_ROWS = 4


class MethodsSection(SectionBox):
    """The methods with their check boxes, and what all of them are told.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    """

    def __init__(self, viewer: Any, parent: QWidget | None = None) -> None:
        super().__init__("4 · Methods", parent)
        self.list = named(QListWidget(), "compare_methods")
        self.list.setSelectionMode(QAbstractItemView.SelectionMode.NoSelection)
        self.list.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.row(
            "Compare",
            self.list,
            "The methods that are run, one after the other, on the same image with the same PSF and photon numbers.",
        )
        self.rl_spin = named(QSpinBox(), "compare_rl_iterations")
        self.rl_spin.setRange(1, 10_000)
        self.rl_spin.setValue(_RL_ITERATIONS)
        self.max_iter_spin = named(QSpinBox(), "compare_max_iter")
        self.max_iter_spin.setRange(1, 100_000)
        self.max_iter_spin.setValue(default("max_iter"))
        self.strength_spin = named(PlainSpin(0.0, 100.0, default("strength")), "compare_strength")
        self.row(
            "RL iterations",
            self.rl_spin,
            "Richardson-Lucy ends here: the longer it runs the sharper and the noisier it gets. About 10 accelerated "
            "ones, or 40 classic ones, are the best there is at few photons.",
        )
        self.pair(
            (
                "Iterations",
                self.max_iter_spin,
                "At most this many for methods with a prior, which stop by themselves when they have converged.",
            ),
            (
                "Strength",
                self.strength_spin,
                "How much a prior counts against the data; 1 is as it was trained.",
            ),
        )
        self.reference_combo = named(OptionalCombo(viewer), "compare_reference")
        self.row(
            "Reference",
            self.reference_combo,
            "What the image should be, if you have that: a long exposure, or a sample's truth, of the same shape. "
            + SCALED,
        )
        self.frc_check = named(QCheckBox("Resolution from two halves of the photons"), "compare_frc")
        taught(
            self.frc_check,
            "Deals the photo-electrons out to two independent images of half the exposure, reconstructs both, and "
            "shows up to which detail they agree (Fourier ring correlation): two more runs for each method. A prior "
            "makes both halves alike, so this is an upper bound on what the eye may trust. With a reference the "
            "agreement with that is shown instead, at no cost.",
        )
        self.form.addRow(self.frc_check)
        INSTALLED.changed.connect(self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """List the methods and the installed models again."""
        from napari_deqmd.training.models import DEFAULTS, list_models, methods_of

        before = {
            item.data(Qt.ItemDataRole.UserRole): item.checkState()
            for item in (self.list.item(row) for row in range(self.list.count()))
            if item is not None
        }
        cards = {info.name: info.card for info in list_models() if _LEARNED in methods_of(info.card)}
        # What is the default for images and stacks alike need not be listed twice.
        bundled = set(DEFAULTS.values())
        own = [name for name in cards if len(bundled) > 1 or name not in bundled]
        models = {default("model"): cards.get(DEFAULTS[2], {}), **{name: cards[name] for name in own}}
        self.list.clear()
        for key in [(method, "") for method in reversed(METHODS) if method != _LEARNED] + [
            (_LEARNED, model) for model in models
        ]:
            item = QListWidgetItem(label_of_method(*key))
            item.setData(Qt.ItemDataRole.UserRole, key)
            item.setFlags(Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsUserCheckable)
            item.setCheckState(
                before.get(key, Qt.CheckState.Checked if key in _CHECKED else Qt.CheckState.Unchecked)
            )
            item.setToolTip(about(models[key[1]]) if key[1] else "")
            self.list.addItem(item)
        rows = min(max(self.list.count(), _ROWS), _ROWS + 2)
        self.list.setFixedHeight(rows * max(self.list.sizeHintForRow(0), 18) + 2 * self.list.frameWidth() + 2)

    def contenders(self, values: dict[str, Any]) -> list[Contender]:
        """Return what is checked, with the settings they share.

        Raises
        ------
        UserError
            Nothing is checked, or a setting is outside its domain.
        """
        shared = ReconstructionConfig(**values)
        chosen = [
            item.data(Qt.ItemDataRole.UserRole)
            for item in (self.list.item(row) for row in range(self.list.count()))
            if item is not None and item.checkState() == Qt.CheckState.Checked
        ]
        if not chosen:
            raise UserError("No method is chosen: check at least one in the list.")
        return [
            Contender(
                label_of_method(method, model),
                dataclasses.replace(
                    shared,
                    method=method,
                    model=model or default("model"),
                    strength=self.strength_spin.value(),
                    max_iter=(self.rl_spin if method.startswith("rl") else self.max_iter_spin).value(),
                ),
            )
            for method, model in chosen
        ]


def label_of_method(method: str, model: str = "") -> str:
    """Return how a method is called in the comparison."""
    return method if model in ("", default("model")) else f"{method} · {model}"
