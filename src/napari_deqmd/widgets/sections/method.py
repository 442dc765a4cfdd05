"""Which method, with which prior."""

from __future__ import annotations

from typing import Any, Literal

from magicgui.widgets import create_widget
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QCheckBox, QComboBox, QSpinBox, QWidget

from napari_deqmd.core.config import BOUNDARIES, METHODS, ORIENTATIONS, PRECISIONS, SOLVERS
from napari_deqmd.core.typed import number
from napari_deqmd.widgets.form import default
from napari_deqmd.widgets.models import ModelCombo
from napari_deqmd.widgets.sections.parts import (
    PlainSpin,
    SectionBox,
    folded,
    form_layout,
    hint,
    label_of,
    named,
    taught,
)

_NAMES = {
    "deq-md": "Learned prior",
    "b-red": "Bregman denoiser, RED",
    "b-pnp": "Bregman denoiser, plug-and-play",
    "md-tv": "Total variation",
    "rl-accelerated": "Richardson-Lucy, accelerated",
    "rl": "Richardson-Lucy",
}
_ABOUT = {
    "deq-md": "Learned prior on a Poisson model: the sharpest for few photons.",
    "b-red": "A denoiser of Poisson-like noise as the prior (B-RED): to compare with.",
    "b-pnp": "The same denoiser plugged into the iteration (B-PnP): slow, to compare with.",
    "md-tv": "Total variation: no learned prior, flattens fine texture.",
    "rl-accelerated": "Fast Richardson-Lucy: amplifies noise when it runs long.",
    "rl": "Classic Richardson-Lucy: amplifies noise when it runs long.",
}
_ADVANCED: dict[str, tuple[str, Any, dict[str, Any], str]] = {
    "solver": ("Solver", Literal[SOLVERS], {}, "How the objective is minimised: both end at the same image."),
    "boundary": (
        "Border",
        Literal[BOUNDARIES],
        {},
        "'extended' lets the object reach beyond the field of view, as light from outside does; 'periodic' wraps.",
    ),
    "upper": (
        "Upper limit",
        float,
        {"min": 1.0, "max": 1000.0, "step": 1.0},
        "Largest brightness allowed, as a multiple of the peak; in stacks more, as much as the PSF spreads along z.",
    ),
    "tol": ("Tolerance", str, {}, "The certificate below which the run counts as converged."),
    "device": ("Device", str, {}, "'auto' takes a GPU if there is one; or cpu, cuda, cuda:1, mps."),
    "precision": (
        "Precision",
        Literal[PRECISIONS],
        {},
        "Arithmetic of the network; 'auto' is float32. bfloat16 is faster on some devices, and converges less far.",
    ),
    "orientations": (
        "Views",
        Literal[ORIENTATIONS],
        {},
        "In how many orientations the prior looks at every plane, a quarter turn apart; their average counts. 4 takes "
        "four times as long an iteration, and what the network believes of one direction only averages out.",
    ),
}


class MethodSection(SectionBox):
    """Method, model, strength, iterations; the rest is folded away."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__("4 · Method", parent)
        self.method_combo = named(QComboBox(), "method")
        self.method_combo.addItems(METHODS)
        self.method_combo.setCurrentText(default("method"))
        self.model_combo = named(ModelCombo(), "model")
        self.strength_spin = named(PlainSpin(0.0, 100.0, default("strength")), "strength")
        self.max_iter_spin = named(QSpinBox(), "max_iter")
        self.max_iter_spin.setRange(1, 100_000)
        self.max_iter_spin.setValue(default("max_iter"))
        self.row(
            "Method",
            self.method_combo,
            "<br>".join(f"<b>{name}</b>: {text}" for name, text in _ABOUT.items()),
        )
        for row, method in enumerate(METHODS):
            told = f"<p><b>{_NAMES[method]}</b></p><p>{_ABOUT[method]}</p>"
            self.method_combo.setItemData(row, told, Qt.ItemDataRole.ToolTipRole)
        self.about = hint("method_about")
        self.form.addRow(self.about)
        self.row(
            "Model", self.model_combo, "The learned prior: what it was trained on decides what it believes."
        )
        self.pair(
            (
                "Strength",
                self.strength_spin,
                "How much the prior counts against the data. 1 is as trained; more is smoother, less is noisier. "
                "Distrust detail that appears only at one strength.",
            ),
            (
                "Iterations",
                self.max_iter_spin,
                "At most this many; the run stops by itself when it has converged. Richardson-Lucy gets noisier the "
                "longer it runs: try 10 to 50.",
            ),
        )
        self.advanced = {name: _advanced(name) for name in _ADVANCED}
        form = form_layout()
        for name, (label, _annotation, _options, tooltip) in _ADVANCED.items():
            form.addRow(label_of(label, tooltip), taught(self.advanced[name].native, tooltip))
        fold = folded(
            form,
            "advanced",
            "How the image is computed rather than which one it is, and how closely: the defaults do for nearly all.",
        )
        self.warm_check = named(QCheckBox("Start from the last result"), "warm_start")
        self.warm_check.setChecked(True)
        self.warm_check.setToolTip(
            "<p>Where only method, model or numbers of this section changed since the last run of an image, Run starts "
            "from its result instead of the image. Untick it to compare settings: a learned prior that is not convex "
            "may end at another image when it starts elsewhere. Richardson-Lucy always starts anew.</p>"
        )
        fold.addWidget(self.warm_check)
        self.column.addWidget(fold)
        self.method_combo.currentTextChanged.connect(self._follow_method)
        self._follow_method(self.method_combo.currentText())

    def values(self) -> dict[str, Any]:
        """Return keyword arguments of `ReconstructionConfig`."""
        advanced: dict[str, Any] = {name: widget.value for name, widget in self.advanced.items()}
        advanced["tol"] = number(advanced["tol"], "Tolerance")
        return advanced | {
            "method": self.method_combo.currentText(),
            "model": self.model_combo.currentText() if self.model_combo.isEnabled() else default("model"),
            "strength": self.strength_spin.value(),
            "max_iter": self.max_iter_spin.value(),
        }

    def _follow_method(self, method: str) -> None:
        self.about.setText(_ABOUT.get(method, ""))
        self.model_combo.setEnabled(method == "deq-md")
        self.strength_spin.setEnabled(not method.startswith("rl"))


def _advanced(name: str) -> Any:
    _label, annotation, options, _tooltip = _ADVANCED[name]
    value = default(name)
    widget = create_widget(
        value=f"{value:g}" if name == "tol" else value, annotation=annotation, name=name, options=options
    )
    widget.native.setObjectName(name)
    return widget
