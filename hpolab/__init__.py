"""Studies that prune, resume exactly and stay in budget, on top of Optuna."""
