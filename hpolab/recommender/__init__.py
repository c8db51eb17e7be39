"""Recommenders: interactions, splits, ranking metrics, trainers, and the objective."""
