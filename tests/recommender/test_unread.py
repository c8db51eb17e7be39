"""Parameters and columns that a recommender's trainer does not read."""

from __future__ import annotations

import pytest

from hpolab import (
    InvalidArgument,
    RecommenderObjective,
    leave_last_out,
    make_taste_clusters,
    recommender_space,
)

SPLITS = leave_last_out(make_taste_clusters(n_users=40, n_items=30, n_per_user=10).interactions)


@pytest.mark.parametrize("loss", ["softmax", "mse"])
def test_negatives_beside_a_loss_that_takes_none_are_refused(loss):
    space = recommender_space("mf", loss=loss) | {"n_negatives": (1, 8)}
    objective = RecommenderObjective("mf", SPLITS, search_space=space)
    with pytest.raises(InvalidArgument, match="got 'n_negatives', which no loss reads"):
        objective.check()


@pytest.mark.parametrize(
    ("trainer", "name"), [("ease", "l3"), ("mf", "n_layers"), ("rating_bias", "l2")]
)
def test_parameters_of_no_or_another_trainer_are_refused(trainer, name):
    space = recommender_space(trainer) | {name: (1.0, 2.0)}
    objective = RecommenderObjective(trainer, SPLITS, search_space=space, metric="mrr")
    with pytest.raises(InvalidArgument, match=f"parameters of trainer '{trainer}', got '{name}'"):
        objective.check()
