"""scikit-learn: the objective, search spaces of estimators, and training by epochs."""
