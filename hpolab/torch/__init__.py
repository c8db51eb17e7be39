"""PyTorch: the objective, optimizers and schedules with their spaces, and a Lightning callback."""
