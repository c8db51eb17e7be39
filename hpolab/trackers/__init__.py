"""Trackers: a study and its trials as runs in MLflow, Weights & Biases and TensorBoard."""
