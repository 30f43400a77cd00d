"""Training: optimiser, loop, checkpoints."""
