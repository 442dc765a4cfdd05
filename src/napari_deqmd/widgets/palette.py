"""Colours that stay apart and are seen on napari's dark and light ground alike: the contrast is 3 or more."""

BLUE, ORANGE, GREEN, RED = "#2982e5", "#cd6400", "#2c944a", "#e54a4f"
MAGENTA, OLIVE, VIOLET, TEAL, BROWN, GRAY = "#cb4fc2", "#998000", "#7f6aff", "#15918a", "#ab7649", "#7c8289"
