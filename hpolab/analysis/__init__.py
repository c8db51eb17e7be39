"""What a study says: statistics, influence and recommendations, as functions of trials."""
