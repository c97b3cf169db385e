"""`step` and `epoch`: training as pure functions, for a loop of one's own."""
