"""LightGBM's spaces: names, defaults and ranges, each held to LightGBM itself and its source."""

from __future__ import annotations

import subprocess
import sys

import lightgbm
import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution
from optuna_integration.lightgbm import LightGBMTuner

from hpolab import (
    LIGHTGBM_ORDER,
    LIGHTGBM_PRESETS,
    LIGHTGBM_STAGES,
    InvalidArgument,
    InvalidType,
    SearchSpace,
    StepwiseSampler,
    lightgbm_space,
)

# LightGBM's own names for those that its scikit-learn classes rename.
NATIVE = {
    "num_leaves": "num_leaves",
    "learning_rate": "learning_rate",
    "min_child_samples": "min_data_in_leaf",
    "colsample_bytree": "feature_fraction",
    "subsample": "bagging_fraction",
}
LOWER_END = {"lambda_l1", "lambda_l2", "path_smooth"}
TUNER = {
    # optuna_integration/lightgbm/_lightgbm_tuner/optimize.py, `_OptunaObjective._preprocess`.
    "bagging_fraction": (0.4, 1.0),
}


def data(n_rows: int = 300) -> lightgbm.Dataset:
    rng = np.random.default_rng(0)
    columns = rng.normal(size=(n_rows, 5))
    params = {"feature_pre_filter": False, "verbose": -1}
    return lightgbm.Dataset(columns, columns[:, 0] > columns[:, 1], params=params)


def bounds(space: SearchSpace, name: str) -> tuple[float, float]:
    distribution = space.distributions()[name]
    return distribution.low, distribution.high


@pytest.mark.parametrize("n_rows", [None, 1, 300, 30_000, 10**7])
@pytest.mark.parametrize("preset", LIGHTGBM_PRESETS)
def test_defaults_are_lightgbms_own(preset, n_rows):
    space = lightgbm_space(preset, n_rows=n_rows)
    own = lightgbm.LGBMModel().get_params()
    expected = {native: own[name] for name, native in NATIVE.items()} | {"max_bin": 255}
    if preset == "fast":
        expected["max_bin"] = 63
    if preset == "flaml" and n_rows == 1:
        expected["num_leaves"] = 4
    for name, value in space.defaults().items():
        if name in expected:
            assert value == expected[name]
        elif name in LOWER_END:
            assert value == bounds(space, name)[0]
        else:
            assert (name, value) in {
                ("bagging_freq", 1),
                ("extra_trees", False),
                ("linear_tree", False),
            }
    assert space.to_trial(space.defaults())


@pytest.mark.parametrize("preset", LIGHTGBM_PRESETS)
def test_every_range_has_a_source(preset):
    space = lightgbm_space(preset)
    assert space.sources().keys() == space.distributions().keys()
    assert all(space.sources().values())


@pytest.mark.parametrize("preset", LIGHTGBM_PRESETS)
def test_lightgbm_trains_with_every_draw(preset):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(5):
        params = lightgbm_space(preset, n_rows=300).suggest(study.ask())
        booster = lightgbm.train({**params, "objective": "binary", "verbose": -1}, data(), 2)
        told = booster.params
        assert all(told[name] == value for name, value in params.items())


def test_names_are_lightgbms_and_no_aliases():
    known = lightgbm.basic._ConfigAliases._get_all_param_aliases()
    names = {name for preset in LIGHTGBM_PRESETS for name in lightgbm_space(preset).defaults()}
    assert names <= known.keys()


@pytest.mark.parametrize("name", TUNER)
def test_ranges_are_the_tuners(name):
    assert bounds(lightgbm_space(), name) == TUNER[name]


def test_flaml_preset_is_flamls_space():
    # flaml/automl/model.py, LGBMEstimator.search_space; whole numbers' upper ends are exclusive.
    space = lightgbm_space("flaml", n_rows=5000)
    assert bounds(space, "num_leaves") == (4, 4999)
    assert bounds(space, "min_data_in_leaf") == (2, 128)
    assert bounds(space, "learning_rate") == (1 / 1024, 1.0)
    assert bounds(space, "feature_fraction") == (0.01, 1.0)
    assert bounds(space, "lambda_l1") == bounds(space, "lambda_l2") == (1 / 1024, 1024)
    assert space.distributions()["max_bin"] == CategoricalDistribution(
        [7, 15, 31, 63, 127, 255, 511, 1023]
    )


@pytest.mark.parametrize("name", ["num_leaves", "min_data_in_leaf"])
@pytest.mark.parametrize("preset", ["default", "wide"])
def test_more_rows_allow_more(preset, name):
    highs = [bounds(lightgbm_space(preset, n_rows=n), name)[1] for n in (100, 40_000, 10**8)]
    assert highs == sorted(set(highs))
    assert bounds(lightgbm_space(preset), name)[1] == highs[0]


@pytest.mark.parametrize("preset", ["default", "fast", "wide"])
def test_presets_nest(preset):
    wide, space = lightgbm_space("wide", n_rows=10**5), lightgbm_space(preset, n_rows=10**5)
    for name, distribution in space.distributions().items():
        if isinstance(distribution, CategoricalDistribution):
            assert distribution == wide.distributions()[name]
        else:
            assert bounds(wide, name)[0] <= distribution.low
            assert distribution.high <= bounds(wide, name)[1]


def test_fixed_values_of_wide_can_be_opened():
    space = lightgbm_space("wide").override(linear_tree=[False, True], bagging_freq=(1, 7))
    assert {"linear_tree", "bagging_freq"} <= space.distributions().keys()


def test_stages_are_the_tuners():
    class Recorder(LightGBMTuner):
        def _tune_params(self, names, n_trials, sampler, step_name):
            stages.append((tuple(names), n_trials))

        best_params = {"feature_fraction": 0.7}  # noqa: RUF012

    stages: list[tuple[tuple[str, ...], int]] = []
    Recorder(
        {"objective": "binary", "metric": "binary_logloss", "verbose": -1},
        data(),
        valid_sets=[data()],
        show_progress_bar=False,
    ).run()
    renamed = {"min_child_samples": "min_data_in_leaf", "bagging_freq": None}
    expected = [
        (tuple(new for name in names if (new := renamed.get(name, name))), n_trials)
        for names, n_trials in stages
    ]
    ours = [((n,) if isinstance(n, str) else n, count) for n, count, _ in LIGHTGBM_STAGES]
    assert ours == expected


@pytest.mark.parametrize("arguments", [{"order": LIGHTGBM_ORDER}, {"stages": LIGHTGBM_STAGES}])
def test_order_and_stages_name_the_spaces_parameters(arguments):
    space = lightgbm_space()
    study = optuna.create_study(sampler=StepwiseSampler(**arguments))
    study.enqueue_trial(space.to_trial(space.defaults()))
    study.optimize(lambda trial: space.suggest(trial)["learning_rate"], n_trials=3)
    first = {"order": "num_leaves", "stages": "feature_fraction"}
    (names,) = (first[name] for name in arguments)
    assert study.trials[1].params[names] != study.trials[0].params[names]


def test_it_does_not_import_lightgbm():
    code = (
        "import sys; from hpolab import lightgbm_space; lightgbm_space(); "
        "print('lightgbm' in sys.modules)"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"preset": "defualt"}, InvalidArgument, "Did you mean 'default'"),
        ({"n_rows": 0}, InvalidArgument, "`n_rows` must be 1 or above, got 0"),
        ({"n_rows": 1e5}, InvalidType, "`n_rows` must be an int, got float"),
    ],
)
def test_bad_argument_is_refused(arguments, error, match):
    with pytest.raises(error, match=match):
        lightgbm_space(**arguments)
