"""napari dock widgets: forms, wiring, plots."""
