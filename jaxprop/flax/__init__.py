"""Flax in and out: a module as f(x, θ), our networks as modules, its checkpoints as θ."""
