"""LightGBM: the objective, its search space, and a pruning callback."""
