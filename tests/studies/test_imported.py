"""How a study marks what was imported into it."""

from __future__ import annotations

import optuna
import pytest
from optuna.trial import create_trial

from hpolab.studies.imported import IMPORT_KEY, RUN_KEY, imported_baseline


@pytest.mark.parametrize(
    ("mark", "number"),
    [(None, None), ({"baseline": None}, None), ({"baseline": "b"}, 1), ({"baseline": "c"}, None)],
)
def test_the_baseline_is_the_trial_of_the_run_that_was_named(mark, number):
    study = optuna.create_study()
    study.add_trials([create_trial(value=1.0, user_attrs={RUN_KEY: run}) for run in "ab"])
    if mark is not None:
        study.set_user_attr(IMPORT_KEY, mark)
    baseline = imported_baseline(study)
    assert (None if baseline is None else baseline.number) == number
