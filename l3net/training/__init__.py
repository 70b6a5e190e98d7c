"""Training: the step, the loop around it, checkpoints, several devices."""
