"""The parts of the Reconstruct form, in the order of work."""
