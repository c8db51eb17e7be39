"""Ensembles of folds: against single models of all rows, seed by seed."""

from __future__ import annotations

import numpy as np
import optuna
import pytest
import torch

from hpolab import (
    InvalidArgument,
    InvalidType,
    TooManyFailures,
    average,
    fold_ensemble,
    load_ensemble,
)

LABELS = np.arange(60) % 2


def fit(params, seed, rows):
    """Four numbers with noise of the fit's own, and a drift that more rows take off."""
    return params["level"] + np.random.default_rng(seed).normal(size=4) - 1 / len(rows)


def error(predictions):
    return float(np.abs(predictions - 1.0).mean())


def run(**settings):
    settings = {"metric": error, "direction": "minimize", "labels": LABELS, **settings}
    return fold_ensemble(settings.pop("fit", fit), {"level": 1.0}, **settings)


def test_averaging_takes_off_the_noise_of_a_fit():
    found = run(n_seeds=20)
    assert (found.n_folds, found.n_seeds) == (5, 20)
    assert found.is_better
    assert found.improvement.estimate == pytest.approx(found.single.mean - found.ensemble.mean)
    assert found.ensemble.mean < 0.6 * found.member.mean
    assert (
        "On these test rows, the average of 5 folds' models is better than one model of all rows"
        in str(found)
    )


def test_what_is_fitted_is_what_the_folds_say():
    seen = []

    def note(params, seed, rows):
        seen.append((seed, tuple(rows)))
        return np.zeros(4)

    run(fit=note, folds=3, n_seeds=2)
    lengths = [len(rows) for _, rows in seen]
    assert lengths == [60, 40, 40, 40] * 2
    assert len({seed for seed, _ in seen}) == 8
    left_out = [set(range(60)) - set(rows) for _, rows in seen[1:4]]
    assert set().union(*left_out) == set(range(60))
    assert seen[1][1] != seen[5][1]  # drawn anew for each seed


def test_no_difference_is_not_claimed():
    found = run(fit=lambda params, seed, rows: np.full(4, float(params["level"])), n_seeds=3)
    assert not found.is_better
    assert "there is nothing to test" in found.verdict
    assert "the average of 5 folds' models is as good as one model" in found.verdict


def test_study_remembers_it():
    study = optuna.create_study()
    assert load_ensemble(study) is None
    found = run(study=study, n_seeds=3)
    assert found.metric == "error"
    assert load_ensemble(study) == found


def test_ensemble_stored_by_version_0_1_is_read():
    study = optuna.create_study()
    found = run(study=study, n_seeds=3)
    stored = dict(study.user_attrs["hpolab:ensemble"])
    improvement = stored.pop("improvement")
    ends = {name: improvement[name] for name in ("low", "high")}
    stored |= {"lead": {"mean": improvement["estimate"], **ends}}
    stored |= {"p_value": improvement["p_value"]}
    study.set_user_attr("hpolab:ensemble", stored)
    assert load_ensemble(study) == found


def test_killed_ensemble_goes_on_where_it_was_and_another_function_is_trained_anew():
    study, seeds = optuna.create_study(), []

    def count(params, seed, rows):
        seeds.append(seed)
        if len(seeds) == 9:
            raise KeyboardInterrupt
        return fit(params, seed, rows)

    def again(params, seed, rows):
        seeds.append(seed)
        return fit(params, seed, rows)

    with pytest.raises(KeyboardInterrupt):
        run(fit=count, study=study, n_seeds=3)
    found = run(fit=count, study=study, n_seeds=3)
    assert len(seeds) == 9 + 2 * 6  # the first seed is trained once: a single model and five folds
    assert found == run(n_seeds=3)
    run(fit=count, study=study, n_seeds=4)
    assert len(seeds) == 9 + 3 * 6
    assert run(fit=again, study=study, n_seeds=3) == found
    assert len(seeds) == 9 + 6 * 6


def test_training_that_fails_ends_it_with_its_error():
    def broken(params, seed, rows):
        raise KeyError("no such column")

    with pytest.raises(TooManyFailures, match="no such column"):
        run(fit=broken)


def test_average_keeps_the_form():
    maps = [{"a": [np.ones(2), np.zeros(1)]}, {"a": [np.zeros(2), np.ones(1)]}]
    assert average(maps)["a"][0].tolist() == [0.5, 0.5]
    assert average([torch.ones(2), torch.zeros(2)]).tolist() == [0.5, 0.5]


@pytest.mark.parametrize(
    ("predictions", "error", "message"),
    [
        ([np.zeros(2), np.zeros(3)], InvalidArgument, r"one shape.*\(2,\), \(3,\)"),
        ([{"a": np.zeros(1)}, {"b": np.zeros(1)}], InvalidArgument, "the same names"),
        (["yes", "no"], InvalidType, "must be arrays.*got str: give `combine`"),
    ],
)
def test_what_cannot_be_averaged_is_refused(predictions, error, message):
    with pytest.raises(error, match=message):
        average(predictions)


ONE_CLASS = [(np.arange(0, 60, 2), np.arange(2, 4)), (np.arange(30), np.arange(30, 60))]


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"folds": ONE_CLASS[1:]}, InvalidArgument, "`folds` must be two or more"),
        (
            {"folds": [(np.arange(0, 40, 2), np.arange(40, 60, 2)), ONE_CLASS[1]]},
            InvalidArgument,
            "must be fitted on two classes or more, got fold 0 with 0 alone",
        ),
        (
            {"folds": [(np.arange(0, 40, 2), np.arange(40, 60)), ONE_CLASS[1]]},
            InvalidArgument,
            r"must fit every class that they score, got fold 0 without \[1\]",
        ),
        ({"labels": [0] * 57 + [1] * 3}, InvalidArgument, "each class at least as often"),
        ({"labels": None}, InvalidArgument, "`n_rows` or `labels` must be given"),
        ({"n_rows": 10}, InvalidArgument, r"`labels` must have the shape \(10,\), got \(60,\)"),
        ({"n_seeds": 1}, InvalidArgument, "`n_seeds` must be 2 or above, for an interval, got 1"),
        ({"direction": "up"}, InvalidArgument, "`direction` must be one of"),
        ({"metric": 3}, InvalidType, "`metric` must be a function, got int"),
    ],
)
def test_bad_input_is_refused_before_anything_is_fitted(settings, error, message):
    def never(params, seed, rows):
        raise AssertionError("fitted")

    with pytest.raises(error, match=message):
        run(fit=never, **settings)
