"""Point spread functions: theoretical and measured."""
