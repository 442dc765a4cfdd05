"""What went wrong, in one sentence a user can act on."""

from __future__ import annotations

import logging
import traceback

from napari.utils.notifications import show_error, show_warning

from napari_deqmd.core.errors import UserError

_LOGGER = logging.getLogger("napari_deqmd")
_LONGEST = 160
_NO_MEMORY = ("out of memory", "not enough memory", "can't allocate memory", "unable to allocate")


def sentence(error: BaseException) -> str:
    """Return one sentence for an error of any kind.

    Parameters
    ----------
    error : BaseException
        A `UserError` is its own sentence; memory that ran out is recognised on every device without importing torch.

    Returns
    -------
    str
    """
    text = " ".join(str(error).split())
    if isinstance(error, UserError):
        return text
    if isinstance(error, MemoryError) or any(words in text.lower() for words in _NO_MEMORY):
        return "There is not enough memory for this: crop the image, or close other data and programs."
    if isinstance(error, OSError):
        return f"The file system refused: {text[:_LONGEST]}."
    if len(text) > _LONGEST:
        text = text[:_LONGEST] + "…"
    return f"It failed unexpectedly ({type(error).__name__}: {text or 'no message'}); the console has the details."


def note(error: BaseException) -> str:
    """Return the sentence, and log the traceback of what is not the user's doing."""
    if not isinstance(error, UserError):
        # As text: a handler that keeps records would keep the run's tensors with the traceback's frames.
        _LOGGER.error("Unexpected error\n%s", "".join(traceback.format_exception(error)))
    return sentence(error)


def tell(text: str, *, expected: bool) -> None:
    """Show a napari notification: a warning for what a user can put right, an error otherwise."""
    (show_warning if expected else show_error)(text)
