"""`fuse="auto"` measures what is fastest, if the study is long enough."""

from __future__ import annotations

import logging


def test_auto_takes_a_size_and_spends_the_budget(caplog, objective_of, study_of):
    with caplog.at_level(logging.INFO, logger="hpolab"):
        study = study_of(objective_of(max_epochs=30), 20, "auto")
    assert len(study.trials) == 20
    assert "as fast as" in caplog.text  # which way, the clock says


def test_auto_measures_nothing_in_a_short_study(caplog, objective_of, study_of):
    with caplog.at_level(logging.INFO, logger="hpolab"):
        study = study_of(objective_of(), 20, "auto")
    assert len(study.trials) == 20
    assert "too few steps to measure" in caplog.text
