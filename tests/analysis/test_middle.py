"""What is half way between two configurations is one that may be trained, as a person writes it."""

from __future__ import annotations

import pytest

from hpolab import as_yaml, import_runs
from hpolab.analysis.candidates import Source
from hpolab.analysis.middle import between


def middle_of_runs(one, other, tried):
    """Return what is half way between two values of runs that tried all of these."""
    rows = [{"x": x, "y": n, "hmean": 0.5} for n, x in enumerate([one, other, *tried])]
    study = import_runs(rows, study_name="runs", value="hmean", direction="maximize")
    source = Source.of(study)
    best, robust = source.tried()[:2]
    return between(source.ranges, best, robust, grids=source.grids())["x"]


@pytest.mark.parametrize(
    ("one", "other", "tried", "middle"),
    [
        (64, 128, [256, 64, 256, 64], 64),
        (128, 64, [256, 64, 256, 64], 128),
        (64, 256, [128, 64], 128),
        (32, 512, [64], 128),  # a power of two that was left out
        (0.1, 0.3, [0.1, 0.3, 0.2, 0.2], 0.2),
        (0.1, 0.3, [0.1, 0.3, 0.1, 0.3], 0.1),
        (1e-4, 1e-2, [1e-3, 1e-4, 1e-3, 1e-2], 1e-3),
        (10, 30, [11, 17, 23, 29, 12], 20),  # a range, of which any whole number may be taken
    ],
)
def test_hybrid_of_imported_runs_takes_values_of_their_grid(one, other, tried, middle):
    assert middle_of_runs(one, other, tried) == middle


def test_hybrid_is_written_as_a_person_would():
    rows = [{"x": 0.1, "hmean": 0.9}, {"x": 0.2, "hmean": 0.8}, {"x": 0.37, "hmean": 0.1}]
    source = Source.of(import_runs(rows, study_name="runs", value="hmean", direction="maximize"))
    best, robust = source.tried()[:2]
    middle = between(source.ranges, best, robust, grids=source.grids())
    assert as_yaml(middle) == "x: 0.15"


def test_a_trial_beside_by_rounding_alone_is_the_trial():
    rows = [{"x": each, "hmean": each} for each in (0.1, 0.2, 0.15000000000000002, 0.9)]
    source = Source.of(import_runs(rows, study_name="runs", value="hmean", direction="maximize"))
    assert source.find([], {"x": 0.15}).trial == 2
