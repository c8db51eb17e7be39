"""What an influence says: what is significant, what is not, and why it may be neither."""

from __future__ import annotations

import pytest

from hpolab import import_runs, influence


def test_runs_made_elsewhere_have_a_caveat():
    rows = [{"a": i % 2, "y": i % 2 + 0.01 * (i % 3)} for i in range(12)]
    study = import_runs(rows, study_name="foreign", value="y", direction="maximize")
    summary = influence(study).verdict[-1]
    assert summary.startswith("Significant")
    assert "may be another parameter that was changed at the same time" in summary


@pytest.mark.parametrize(
    ("n", "words"),
    [(0, "0 complete trials, too few"), (1, "1 complete"), (19, "too few for importances")],
)
def test_too_few_trials_are_said_to_be_too_few(study_of, draw, noise, n, words):
    found = influence(study_of(noise(n).tolist(), draw(n)))
    assert words in str(found)
    assert "No effect of a parameter" in found.verdict[-1]


def test_repeated_configurations_are_no_single_runs(study_of, draw, noise):
    params = [each for each in draw(6) for _ in range(2)]
    found = influence(study_of(noise(12).tolist(), params))
    assert found.n_repeated == 12
    assert "at one run each" not in found.verdict[-1]
