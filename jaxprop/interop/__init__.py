"""Other people's networks and formats: Flax, and exported StableHLO."""
