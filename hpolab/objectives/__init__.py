"""The contract of an objective, and what objectives of several families share."""
