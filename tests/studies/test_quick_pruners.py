"""Pruners that read each finished trial once decide as Optuna's, which read all each time."""

from __future__ import annotations

import copy
import math
import random
from functools import partial

import numpy as np
import optuna
import pytest
from optuna.pruners import (
    HyperbandPruner,
    MedianPruner,
    PatientPruner,
    PercentilePruner,
    SuccessiveHalvingPruner,
    WilcoxonPruner,
)
from optuna.samplers import RandomSampler
from optuna.trial import TrialState

from hpolab.studies.quick_pruners import percentile, quick

PRUNERS = {
    "median": MedianPruner,
    "median_warmup": partial(MedianPruner, n_startup_trials=2, n_warmup_steps=2, interval_steps=2),
    "percentile": partial(PercentilePruner, 30.0, n_min_trials=4),
    "halving": partial(SuccessiveHalvingPruner, min_resource=1, reduction_factor=2),
    "halving_guessed": SuccessiveHalvingPruner,
    "halving_bootstrap": partial(SuccessiveHalvingPruner, min_resource=1, bootstrap_count=3),
    "hyperband": partial(HyperbandPruner, max_resource=9),
    "hyperband_guessed": HyperbandPruner,
    "patient": lambda: PatientPruner(MedianPruner(), patience=1),
    "patient_alone": lambda: PatientPruner(None, patience=1),
    "wilcoxon": WilcoxonPruner,
}


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.filterwarnings("ignore:.*WilcoxonPruner")
@pytest.mark.filterwarnings("ignore:All-NaN slice")
@pytest.mark.filterwarnings("ignore:invalid value encountered")
@pytest.mark.parametrize("direction", ["minimize", "maximize"])
@pytest.mark.parametrize("name", PRUNERS)
def test_decides_at_each_report_as_optunas_own(name, direction):
    """Several trials run at once; some report NaN, some fail, some violate a constraint."""
    study = optuna.create_study(
        sampler=RandomSampler(seed=0), direction=direction, pruner=PRUNERS[name](), study_name="s"
    )
    twin = quick(study.pruner)
    assert (twin is study.pruner) == (name == "patient_alone") or type(twin) is PatientPruner
    rng = random.Random(0)
    running: list[tuple[optuna.Trial, int]] = []
    n_asked, n_decisions, n_pruned = 0, 0, 0
    while n_asked < 120 or running:
        if len(running) < 4 and n_asked < 120:
            running.append((study.ask(), rng.choice([3, 6, 9])))
            n_asked += 1
        trial, n_steps = place = rng.choice(running)
        step = len(study.get_trials(deepcopy=False)[trial.number].intermediate_values)
        value = (
            rng.choice([math.nan, math.inf])
            if rng.random() < 0.01
            else rng.choice([rng.random(), round(rng.random(), 1)])
        )
        trial.report(value, step)
        frozen = copy.copy(study.get_trials(deepcopy=False)[trial.number])
        theirs = study.pruner.prune(study, frozen)
        assert twin.prune(study, frozen) == theirs
        n_decisions += 1
        if theirs:
            n_pruned += 1
            running.remove(place)
            study.tell(trial, state=TrialState.PRUNED)
        elif step + 1 == n_steps:
            running.remove(place)
            if rng.random() < 0.1:
                study.tell(trial, state=TrialState.FAIL)
                continue
            if rng.random() < 0.1:
                trial.set_constraint("c", 1.0)
            study.tell(trial, value if math.isfinite(value) else 0.5)
    assert n_decisions > 200
    assert n_pruned or name == "wilcoxon"


@pytest.mark.parametrize("percent", [0, 3.7, 25, 50, 61.8, 99.99, 100])
def test_percentile_is_numpys_to_the_last_bit(percent):
    rng = np.random.default_rng(0)
    for n_values in range(1, 60):
        values = np.sort(rng.normal(size=n_values) * 10.0 ** rng.integers(-8, 8))
        assert percentile(values, percent) == np.nanpercentile(values, percent)
