"""Train, Stop and Save; how far it is, what it gains, and how a patch changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qtpy.QtWidgets import QHBoxLayout, QLineEdit, QProgressBar, QPushButton, QWidget

from napari_deqmd.widgets.clock import duration
from napari_deqmd.widgets.patches import Patches
from napari_deqmd.widgets.plot import TrainPlot
from napari_deqmd.widgets.resources import describe_device
from napari_deqmd.widgets.sections.parts import RunState, SectionBox, hint, named, resource_hint

# Sentences about the images that are shown; the card has all.
_MOST_NOTES = 3


class TrainRunSection(SectionBox):
    """The run of a fine-tuning, and the place where it gets its name."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__("5 · Training", parent)
        self.run_button = named(QPushButton("Train"), "train_run")
        self.run_button.setToolTip(
            "<p>Adapt the base model to the images. A part of them is held back to tell whether that helps.</p>"
        )
        self.stop_button = named(QPushButton("Stop"), "train_stop")
        self.stop_button.setToolTip("Stop, and keep the best so far.")
        buttons = QHBoxLayout()
        buttons.addWidget(self.run_button)
        buttons.addWidget(self.stop_button)
        self.column.addLayout(buttons)
        self.progress = named(QProgressBar(), "train_progress")
        self.progress.setToolTip("How much of the time is over.")
        self.progress.setFormat("")
        self.column.addWidget(self.progress)
        self.status = hint("train_status")
        self.status.setText("Ready.")
        self.column.addWidget(self.status)
        self.device_label = resource_hint(
            "train_device_label",
            "Where the training computes. Reconstruct chooses its device by itself, whatever its model was trained on.",
        )
        self.name_device()
        self.column.addWidget(self.device_label)
        self.notes = hint("train_notes")
        self.notes.hide()
        self.column.addWidget(self.notes)
        self.plot = named(TrainPlot(), "train_plot")
        self.plot.setToolTip(
            "<p>Loss: of the patches of each step. Held-out: how well patches are restored that are never trained on; "
            "the dashed line is the base model.</p>"
        )
        self.column.addWidget(self.plot, stretch=2)
        self.patches = named(Patches(), "train_patches")
        self.patches.setToolTip(
            "<p>A patch that is never trained on: as measured, as the base model restores it, and as the model in "
            "training does. The last two share one contrast.</p>"
        )
        self.column.addWidget(self.patches, stretch=1)
        self.name_edit = named(QLineEdit(), "model_name")
        self.name_edit.setPlaceholderText("name of the new model")
        self.name_edit.setToolTip("<p>Letters, digits, dots and dashes; not the name of a bundled model.</p>")
        self.save_button = named(QPushButton("Save"), "train_save")
        self.save_button.setToolTip(
            "<p>Save the best weights with their card among your own models: Reconstruct offers them at once.</p>"
        )
        self.save_button.setEnabled(False)
        self.use_button = named(QPushButton("Use in Reconstruct"), "train_use")
        self.use_button.setToolTip(
            "<p>Choose the model that was saved last in Reconstruct, which is opened.</p>"
        )
        self.use_button.setEnabled(False)
        saving = QHBoxLayout()
        saving.addWidget(self.name_edit, stretch=1)
        saving.addWidget(self.save_button)
        saving.addWidget(self.use_button)
        self.column.addLayout(saving)
        self.show_state(RunState.IDLE)

    def show_state(self, state: RunState) -> None:
        """Enable what makes sense now."""
        self.run_button.setEnabled(state is RunState.IDLE)
        self.stop_button.setEnabled(state is RunState.RUNNING)

    def reset(self, minutes: float) -> None:
        """Prepare for a run."""
        self._minutes = minutes
        self.save_button.setEnabled(False)
        self.progress.setRange(0, max(1, round(60_000 * minutes)))
        self.progress.setValue(0)
        self.progress.setFormat("starting…")
        self.say(())
        self.plot.clear_steps()
        self.patches.show_patches(None, None, None)
        self.patches.name_last("Now")

    def name_device(self) -> None:
        """Say where it computes, and why; before torch is loaded that is not known in full."""
        self.device_label.setText(describe_device("auto")[1])

    def say(self, notes: Sequence[str]) -> None:
        """Show what was found in the images."""
        more = len(notes) - _MOST_NOTES
        shown = [*notes[:_MOST_NOTES], *([f"… and {more} more."] if more > 0 else [])]
        self.notes.setText("\n".join(shown))
        self.notes.setVisible(bool(shown))

    def show_steps(self, steps: Sequence[Any]) -> None:
        """Show more steps."""
        last = steps[-1]
        self.plot.add(steps)
        self.progress.setValue(min(self.progress.maximum(), round(1000 * last.seconds)))
        self.progress.setFormat(
            f"step {last.step} · {duration(last.seconds)} of {duration(60 * self._minutes)}"
        )

    def show_end(self, text: str, *, complete: bool) -> None:
        """Say how it ended."""
        if complete:
            self.progress.setValue(self.progress.maximum())
        elif self.progress.value() == 0:
            self.progress.setFormat("")
        self.status.setText(text)
