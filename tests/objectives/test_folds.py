"""Folds: groups and classes of a hold-out, one word for the number of folds, a digest of rows."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.model_selection import KFold

from hpolab import InvalidArgument
from hpolab.objectives.folds import Fold, digest_of_folds, folds_of, hold_out, make_folds

LABELS = np.repeat([0, 1], [60, 20])
GROUPS = np.repeat(np.arange(16), 5)


def test_every_row_is_scored_once_and_never_fitted_in_the_same_fold():
    folds = make_folds(4, LABELS, labels=LABELS, groups=None, seed=0)
    assert sorted(np.concatenate([fold.valid for fold in folds])) == list(range(80))
    for fold in folds:
        assert sorted(np.concatenate(fold)) == list(range(80))
        assert np.bincount(LABELS[fold.valid]).tolist() == [15, 5]


def test_a_splitter_of_the_user_s_is_seeded_and_left_as_it_was():
    splitter = KFold(4, shuffle=True)
    made = [
        digest_of_folds(make_folds(splitter, LABELS, labels=None, groups=None, seed=seed))
        for seed in (0, 0, 1)
    ]
    assert made[0] == made[1] != made[2]
    assert splitter.random_state is None


def test_hold_out_has_each_class_in_proportion_and_groups_whole():
    fold = hold_out(0.25, 80, labels=LABELS, groups=None, seed=0)
    assert np.bincount(LABELS[fold.valid]).tolist() == [15, 5]
    fold = hold_out(0.25, 80, labels=None, groups=GROUPS, seed=0)
    assert not set(GROUPS[fold.train]) & set(GROUPS[fold.valid])
    assert len(fold.valid) == 20


@pytest.mark.parametrize("fraction", [0.0, 1.0, 1.5])
def test_hold_out_of_nothing_or_of_all_is_refused(fraction):
    with pytest.raises(InvalidArgument, match=f"between 0 and 1, got {fraction}"):
        hold_out(fraction, 80, labels=None, groups=None, seed=0)


def test_both_words_for_the_folds_at_once_are_refused():
    assert folds_of(3, {}) == folds_of(None, {"cv": 3}) == 3
    with pytest.raises(InvalidArgument, match="got folds=3 and cv=4"):
        folds_of(3, {"cv": 4})


def test_digest_tells_other_rows_and_another_order_apart():
    one, other = (Fold(np.arange(n), np.arange(n, 5)) for n in (2, 3))
    made = {digest_of_folds(folds) for folds in ([one], [other], [one, other], [other, one])}
    assert len(made) == 4
