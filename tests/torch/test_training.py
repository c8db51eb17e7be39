"""A training and its evaluation: which epoch counts, on which split, in whatever batches."""

from __future__ import annotations

import pytest
import torch
from optuna.trial import TrialState
from torch import nn

from hpolab.studies.trials import METRICS_KEY


def test_value_is_the_best_epoch_s_metric_on_score(regression, run_trial):
    objective = regression(metrics=["mae"])
    trial = run_trial(objective)
    assert trial.value == trial.user_attrs[METRICS_KEY]["rmse"]
    assert trial.value not in trial.intermediate_values.values()


def test_without_score_the_value_is_the_best_epoch_s_on_valid(regression, run_trial):
    trial = run_trial(regression(score=None, metrics=["mae"]))
    assert trial.value == min(trial.intermediate_values.values())
    assert list(trial.user_attrs[METRICS_KEY]) == ["rmse", "mae"]


def test_training_stops_when_patience_runs_out(regression, run_trial):
    trial = run_trial(regression(max_epochs=20, patience=2, min_delta=100.0))
    assert sorted(trial.intermediate_values) == [0, 1, 2]


@pytest.mark.parametrize("batch_size", [2, 4, 5, 8, 10, 20, 40])
def test_batch_norm_trains_whatever_rows_are_left_over(
    regression, run_trial, batch_norm, splits, batch_size
):
    assert len(splits["train"][1]) % batch_size == 1
    trial = run_trial(regression(batch_norm, batch_size=batch_size))
    assert trial.state == TrialState.COMPLETE


class Cache(nn.Module):
    """Keeps a tensor for as many rows as it has seen, as rotary embeddings do."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 1)
        self.ones = torch.ones(0, 1)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if len(self.ones) < len(inputs):
            self.ones = torch.ones(len(inputs), 1)
        return self.linear(inputs) * self.ones[: len(inputs)]


def test_module_may_train_on_what_it_cached_in_evaluation(regression, run_trial):
    assert run_trial(regression(lambda params: Cache())).state == TrialState.COMPLETE


def test_eval_batch_size_changes_no_value(regression, run_trial):
    whole, parts = (run_trial(regression(eval_batch_size=n)) for n in (1024, 7))
    assert parts.value == pytest.approx(whole.value, rel=1e-6)
