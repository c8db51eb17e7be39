"""Importances: which evaluator finds them, and what chance alone reaches."""

from __future__ import annotations

import numpy as np
import pytest
from optuna.importance import FanovaImportanceEvaluator

from hpolab import influence
from hpolab.analysis.importances import Draws, Measure, judge, of_the_best


def test_another_evaluator_is_taken(study_of, draw, planted):
    params = draw(40)
    evaluator = FanovaImportanceEvaluator(n_trees=8, seed=0)
    found = influence(study_of(planted(params), params), evaluator=evaluator, n_resamples=10)
    assert found["lr"].importance.share > 0.5


def test_tests_that_share_a_chance_of_a_false_alarm_take_a_part_of_it_each():
    draws = Draws(n=50, confidence=0.95, level=0.05, seed=0)
    assert draws.shared_by(4) == Draws(n=50, confidence=0.95, level=0.0125, seed=0)


def test_share_that_shuffled_values_reach_is_no_importance(study_of, draw, noise):
    study = study_of(noise(30).tolist(), draw(30))
    measure = Measure(study, of_the_best(30), ("lr", "layers"))
    draws = Draws(n=60, confidence=0.95, level=0.05, seed=0)
    found = judge(measure, study.trials, draws, np.random.default_rng(0))
    assert sum(each.share for each in found.values()) == pytest.approx(1.0)
    assert not any(each.is_significant for each in found.values())
