"""Importances: which evaluator finds them, and that they rank without a claim."""

from __future__ import annotations

import numpy as np
import pytest
from optuna.importance import FanovaImportanceEvaluator

from hpolab import influence
from hpolab.analysis.importances import Draws, Measure, of_the_best, resample


def test_another_evaluator_is_taken(study_of, draw, planted):
    params = draw(40)
    evaluator = FanovaImportanceEvaluator(n_trees=8, seed=0)
    found = influence(study_of(planted(params), params), evaluator=evaluator, n_resamples=10)
    assert found["lr"].importance.share > 0.5


def test_shares_sum_to_one_and_lie_in_their_range(study_of, draw, planted):
    params = draw(30)
    study = study_of(planted(params), params)
    measure = Measure(study, of_the_best(30), ("lr", "layers"))
    draws = Draws(n=60, confidence=0.95, seed=0)
    found = resample(measure, study.trials, draws, np.random.default_rng(0))
    assert sum(each.share for each in found.values()) == pytest.approx(1.0)
    assert all(each.low <= each.mean <= each.high for each in found.values())


def test_share_claims_nothing(study_of, draw, planted):
    params = draw(30)
    found = influence(study_of(planted(params), params), n_resamples=10)["lr"].importance
    assert not hasattr(found, "is_significant")
    assert "over resamples" in str(found)
