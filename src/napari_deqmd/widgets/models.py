"""The installed models: in every combo box, as soon as they change."""

from __future__ import annotations

import html
from typing import Any

from qtpy.QtCore import QObject, Qt, Signal
from qtpy.QtWidgets import QComboBox, QSizePolicy, QWidget

from napari_deqmd.widgets.form import default


class _Installed(QObject):
    changed = Signal()


#: Emit ``changed`` after a model was installed.
INSTALLED = _Installed()


class ModelCombo(QComboBox):
    """Names of the installed models, the default first; each shows its card as a tooltip."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(8)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self._cards: dict[str, dict[str, Any]] = {}
        self._lesson = ""
        self.currentTextChanged.connect(lambda: self.setToolTip(self._lesson))
        INSTALLED.changed.connect(self.refresh)
        self.refresh()

    @property
    def card(self) -> dict[str, Any]:
        """The card of the chosen model; empty if its file is gone."""
        return self._cards.get(self.currentText(), {})

    def setToolTip(self, text: str | None) -> None:  # noqa: N802 (Qt's name)
        """Teach what a model is, and show the card of the chosen one."""
        self._lesson = text or ""
        super().setToolTip(self._lesson + about(self.card))

    def refresh(self) -> None:
        """List the installed models again."""
        from napari_deqmd.training.models import DEFAULTS, list_models, methods_of

        chosen = self.currentText() or default("model")
        self._cards = {info.name: info.card for info in list_models() if "deq-md" in methods_of(info.card)}
        names = list(self._cards)
        if DEFAULTS[2] in self._cards:
            self._cards[default("model")] = self._cards[DEFAULTS[2]]
        self.blockSignals(True)
        self.clear()
        for name in dict.fromkeys([default("model"), *names]):
            self.addItem(name)
            self.setItemData(self.count() - 1, about(self._cards.get(name, {})), Qt.ItemDataRole.ToolTipRole)
        self.setCurrentIndex(max(0, self.findText(chosen)))
        self.blockSignals(False)
        self.setToolTip(self._lesson)
        if self.currentText() != chosen:
            self.currentTextChanged.emit(self.currentText())


def about(card: dict[str, Any]) -> str:
    """Return what a reader wants to know of a card, as rich text; what is odd in one is left out."""
    results = card.get("results")
    lines = [f"<b>{_text(card, 'name')}</b>" if _text(card, "name") else "", _text(card, "description")]
    if isinstance(results, dict):
        measured = {name: value for name, value in results.items() if isinstance(value, int | float)}
        if _text(results, "score") and {"base", "fine-tuned"} <= measured.keys():
            before, after = measured["base"], measured["fine-tuned"]
            lines.append(
                f"{_text(results, 'score')} of held-out patches: {before:.4g} before, {after:.4g} after."
            )
        elif _text(results, "what") and measured:
            each = ", ".join(f"{html.escape(name)} {value:.4g}" for name, value in measured.items())
            lines.append(f"{_text(results, 'what')}: {each}.")
    lines.append(_text(card, "limits"))
    return "".join(f"<p>{line}</p>" for line in lines if line)


def _text(card: dict[str, Any], name: str) -> str:
    value = card.get(name)
    return html.escape(value) if isinstance(value, str) else ""
