"""Results that take trainings: comparison, confirmation, sweeps, ensembles, imported runs."""
