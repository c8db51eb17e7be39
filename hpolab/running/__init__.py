"""Running a study: the budget, the workers that spend it, and copies of studies."""
