"""Numerics on torch: operators, likelihood, mirror map, regularizers, solvers. No Qt, no napari, no file formats."""
