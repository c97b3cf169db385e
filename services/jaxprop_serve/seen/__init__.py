"""What an operator sees: counts, metrics, logs."""
