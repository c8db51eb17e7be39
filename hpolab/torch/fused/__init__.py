"""Several trials of one architecture trained as one model."""
