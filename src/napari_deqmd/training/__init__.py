"""Learned regularizers: scenes, data, pretraining, equilibrium training, model files."""
