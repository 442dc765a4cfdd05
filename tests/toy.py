"""A recipe that trains next to nothing."""

TOY = """
name = "toy"
description = "A toy."
family = "red"
[options]
channels = 4
depth = 2
[pretraining]
steps = 2
batch = 2
[pretraining.draws]
mix = { simulated = 1 }
patch = [16, 16]
pool = 1
side = 16
[equilibrium]
steps = 1
batch = 2
[equilibrium.draws]
mix = { simulated = 1 }
patch = [28, 28]
pool = 1
side = 28
[equilibrium.solve]
first = 2
again = 1
"""
