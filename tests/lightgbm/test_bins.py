"""The bins of `LightGBMObjective`: made once, shared, and no other than fresh ones."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cloudpickle
import lightgbm as lgb
import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits

from hpolab import LightGBMObjective, SearchSpace, make_study, run

if TYPE_CHECKING:
    from optuna import Study

CANCER = load_breast_cancer(return_X_y=True)
DIABETES = load_diabetes(return_X_y=True)
DIGITS = tuple(part[:200] for part in load_digits(n_class=3, return_X_y=True))
RNG = np.random.default_rng(0)

# Each draws rows and columns, so that a model shows every random choice.
DRAWN = {"bagging_fraction": 0.7, "bagging_freq": 1, "feature_fraction": 0.6}
PARAMS = {"min_data_in_leaf": 4, "num_leaves": 9, "learning_rate": 0.2, **DRAWN}
OTHERS = [
    {"min_data_in_leaf": 90, "num_leaves": 3, "learning_rate": 0.3},
    {"min_data_in_leaf": 1, "num_leaves": 40, "extra_trees": True, "lambda_l1": 1.0},
]


def with_category() -> tuple[Any, Any]:
    """Rows with a categorical column 0 of 40 codes, some missing, and a rare column 1."""
    codes = RNG.integers(0, 40, 600).astype(float)
    rare = (np.arange(600) % 60 == 0).astype(float)
    noise = RNG.normal(size=600)
    labels = np.sin(codes) + 5 * rare + 0.3 * noise
    codes[::11] = np.nan
    return np.column_stack([codes, rare, noise]), labels


CATEGORY = with_category()
WEIGHT = RNG.uniform(0.1, 3.0, len(CANCER[1]))
QUERY_OF_ROW = np.arange(len(DIABETES[1])) // 10
GRADES = (DIABETES[1] // 90).astype(int)

CASES: dict[str, dict[str, Any]] = {
    "binary": {"train": CANCER, "objective": "binary"},
    "regression": {"train": DIABETES, "objective": "regression"},
    "multiclass": {"train": DIGITS, "objective": "multiclass"},
    "weight": {"train": CANCER, "objective": "binary", "weight": WEIGHT},
    "categorical": {"train": CATEGORY, "objective": "regression", "categorical": [0]},
    "linear_tree": {
        "train": DIABETES,
        "objective": "regression",
        "params": {"linear_tree": True},
    },
    "ranking": {
        "train": (DIABETES[0], GRADES),
        "objective": "lambdarank",
        "groups": QUERY_OF_ROW,
    },
    # A sample of rows so small that its draw shapes the bins of 569 rows as well.
    "sample": {
        "train": CANCER,
        "objective": "binary",
        "params": {"bin_construct_sample_cnt": 60},
    },
    "max_bin": {"train": CANCER, "objective": "binary", "params": {"max_bin": 12}},
}


def make(case: str, **options: Any) -> LightGBMObjective:
    settings = {"folds": 3, "max_rounds": 10, "seed": 3, **CASES[case], **options}
    return LightGBMObjective(
        settings.pop("train"), search_space=SearchSpace({"num_leaves": (3, 30)}), **settings
    )


def trees(booster: lgb.Booster) -> str:
    """Return a model's text without its parameters."""
    return booster.model_to_string().partition("\nparameters:")[0]


def fresh_settings(case: str, seed: int) -> dict[str, Any]:
    given = CASES[case]
    n_classes = {"num_class": 3} if given["objective"] == "multiclass" else {}
    return {
        "objective": given["objective"],
        "seed": seed,
        "data_random_seed": 3,
        "feature_pre_filter": False,
        "deterministic": True,
        "force_col_wise": True,
        "num_threads": 1,
        "verbosity": -1,
        **given.get("params", {}),
        **n_classes,
        **PARAMS,
    }


def fresh_dataset(case: str, settings: dict[str, Any]) -> lgb.Dataset:
    given = CASES[case]
    groups = given.get("groups")
    return lgb.Dataset(
        *given["train"],
        weight=given.get("weight"),
        group=None if groups is None else np.bincount(groups),
        categorical_feature=given.get("categorical", "auto"),
        params=settings,
    ).construct()


def used(objective: LightGBMObjective) -> LightGBMObjective:
    """Return an objective on whose bins other trainings have run."""
    for params in OTHERS:
        objective.fit(params, seed=1, n_rounds=3)
        objective.fit_folds(params, seed=1, n_rounds=3)
    return objective


def traveled(objective: LightGBMObjective) -> LightGBMObjective:
    return cloudpickle.loads(cloudpickle.dumps(objective))


LIVES = [used, lambda o: traveled(traveled(used(o)))]
LIFE_NAMES = ["used", "used and traveled"]


@pytest.mark.parametrize("live", LIVES, ids=LIFE_NAMES)
@pytest.mark.parametrize("case", CASES)
def test_shared_bins_give_the_very_model_that_fresh_ones_give(case, live):
    settings = fresh_settings(case, seed=8)
    fresh = lgb.train(settings, fresh_dataset(case, settings), 6)
    model = live(make(case)).fit(PARAMS, seed=8, n_rounds=6)
    assert trees(model.booster) == trees(fresh)
    assert model.booster.num_trees() > 0


@pytest.mark.parametrize("live", LIVES, ids=LIFE_NAMES)
@pytest.mark.parametrize("case", CASES)
def test_folds_on_shared_bins_give_the_very_models_that_fresh_ones_give(case, live):
    n_rows = len(CASES[case]["train"][1])
    # Parts of whole queries.
    part = (np.arange(n_rows) // 10) % 3
    pairs = [(np.flatnonzero(part != k), np.flatnonzero(part == k)) for k in range(3)]
    models = live(make(case, folds=pairs)).fit_folds(PARAMS, seed=8, n_rounds=4).models
    settings = fresh_settings(case, seed=8)
    for (train, _), model in zip(pairs, models, strict=True):
        subset = fresh_dataset(case, settings).subset(train.tolist())
        assert trees(model.booster) == trees(lgb.train(settings, subset, 4))


@pytest.mark.parametrize("case", CASES)
def test_curve_on_shared_bins_is_the_one_on_fresh_bins(case):
    curves = []
    for objective in (make(case), used(traveled(used(make(case))))):
        reporter = objective.reporter(seed=5)
        curves.append((objective.train(PARAMS, reporter), reporter.best_step))
    assert curves[0] == curves[1]


@pytest.mark.parametrize("travel", [lambda o: o, traveled], ids=["here", "traveled"])
def test_sample_of_rows_that_bins_are_made_of_is_one_for_all_seeds_of_trials(travel):
    rows = np.random.default_rng(4).normal(size=(210_000, 2))
    labels = rows[:, 0] + rows[:, 1] ** 2
    objective = LightGBMObjective((rows, labels), objective="regression", folds=2, max_rounds=5)
    objective.fit({}, seed=1, n_rounds=1)
    model = travel(objective).fit({"num_leaves": 7}, seed=2, n_rounds=2)
    settings = fresh_settings("regression", seed=2) | {"data_random_seed": 0, "num_leaves": 7}
    for name in PARAMS.keys() - {"num_leaves"}:
        del settings[name]
    fresh = lgb.train(settings, lgb.Dataset(rows, labels, params=settings), 2)
    assert trees(model.booster) == trees(fresh)
    other = settings | {"data_random_seed": 1}
    other_bins = lgb.train(other, lgb.Dataset(rows, labels, params=other), 2)
    assert trees(other_bins) != trees(fresh)  # or the sample would not show


def test_hold_out_is_binned_by_its_training_rows_alone():
    objective = make("regression", folds=[(np.arange(300), np.arange(300, 442))])
    settings = fresh_settings("regression", seed=8)
    features, labels = DIABETES
    train = lgb.Dataset(features[:300], labels[:300], params=settings)
    fresh = lgb.train(settings, train, 4)
    (model,) = used(objective).fit_folds(PARAMS, seed=8, n_rounds=4).models
    assert trees(model.booster) == trees(fresh)


def test_small_min_data_in_leaf_still_splits_what_a_large_one_could_not():
    objective = make("categorical")
    objective.fit({"min_data_in_leaf": 250}, seed=0, n_rounds=1)
    model = objective.fit({"min_data_in_leaf": 5}, seed=0, n_rounds=3)
    assert model.importance()["Column_1"] > 0


# How often


@pytest.fixture
def binnings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rows of each table of raw features that LightGBM has found bins for."""
    found: list[int] = []
    construct = lgb.Dataset._lazy_init

    def counting(self: lgb.Dataset, **parts: Any) -> Any:
        data = parts["data"]
        if parts["reference"] is None and not isinstance(data, (str, Path)) and data.shape[1] > 1:
            found.append(data.shape[0])
        return construct(self, **parts)

    monkeypatch.setattr(lgb.Dataset, "_lazy_init", counting)
    return found


def study_of(objective: LightGBMObjective, n_trials: int) -> Study:
    study = make_study(
        "s", storage="memory://", direction=objective.direction, sampler="random", pruner="none"
    )
    run(study, objective, n_trials=n_trials, show_progress_bar=False)
    return study


@pytest.mark.parametrize(
    ("folds", "expected"), [(3, [569]), (None, [455])], ids=["folds", "hold-out"]
)
def test_study_bins_its_features_once(binnings, folds, expected):
    space = SearchSpace({"min_data_in_leaf": (2, 60), "num_leaves": (3, 30)})
    objective = LightGBMObjective(
        CANCER, objective="binary", folds=folds, search_space=space, max_rounds=5
    )
    study = study_of(objective, 5)
    assert len({trial.value for trial in study.trials}) > 2
    assert binnings == expected


@pytest.mark.parametrize("name", ["max_bin", "min_data_in_bin"])
def test_each_setting_of_bins_is_binned_once(binnings, name):
    space = SearchSpace({name: [4, 40], "num_leaves": (3, 30)})
    objective = LightGBMObjective(
        CANCER, objective="binary", folds=2, search_space=space, max_rounds=5
    )
    study = study_of(objective, 8)
    assert {trial.params[name] for trial in study.trials} == {4, 40}
    assert binnings == [569, 569]


def test_settings_that_shape_no_bins_share_them(binnings):
    space = SearchSpace(
        {"max_bin": 20, "min_data_in_leaf": (2, 60), "lambda_l2": (0.1, 1.0), "max_depth": (2, 6)}
    )
    objective = LightGBMObjective(
        CANCER, objective="binary", folds=2, search_space=space, max_rounds=5
    )
    study_of(objective, 4)
    assert binnings == [569]


def test_copy_of_an_objective_bins_no_setting_anew(binnings):
    objective = make("binary")
    objective.fit({"max_bin": 15}, seed=0, n_rounds=1)
    objective.fit({"max_bin": 63}, seed=0, n_rounds=1)
    copy = traveled(objective)
    binnings.clear()
    for max_bin in (15, 63):
        there = copy.fit_folds({"max_bin": max_bin, **PARAMS}, seed=0, n_rounds=3)
        here = objective.fit_folds({"max_bin": max_bin, **PARAMS}, seed=0, n_rounds=3)
        assert [trees(m.booster) for m in there.models] == [trees(m.booster) for m in here.models]
    assert binnings == []
    copy.fit({"max_bin": 31}, seed=0, n_rounds=1)
    assert binnings == [569]


def test_objective_remembers_only_some_settings_of_bins_and_stays_right(binnings):
    objective = make("binary")
    first = objective.fit({"max_bin": 10, **PARAMS}, seed=0, n_rounds=2)
    for max_bin in range(11, 23):
        objective.fit({"max_bin": max_bin}, seed=0, n_rounds=1)
    again = objective.fit({"max_bin": 10, **PARAMS}, seed=0, n_rounds=2)
    assert trees(again.booster) == trees(first.booster)
    assert binnings == [569] * 14


def test_threads_of_one_study_share_bins(binnings):
    objective = make("binary")
    study = make_study("s", storage="memory://", sampler="random", direction="minimize")
    study.optimize(objective, n_trials=4, n_jobs=2)
    assert all(trial.value is not None for trial in study.trials)
    assert binnings == [569]


ANOTHER_PROCESS = """
import hashlib, pickle, sys
import lightgbm as lgb
import numpy as np

made = []
construct = lgb.Dataset._lazy_init

def counting(self, **parts):
    is_data = isinstance(parts["data"], np.ndarray) and parts["data"].shape[1] > 1
    if is_data and parts["reference"] is None:  # scores are of data sets of one column
        made.append(parts["data"].shape)
    return construct(self, **parts)

lgb.Dataset._lazy_init = counting
objective = pickle.load(open(sys.argv[1], "rb"))
models = objective.fit_folds({"num_leaves": 9, "bagging_fraction": 0.5, "bagging_freq": 1}, seed=4)
texts = [m.booster.model_to_string().partition("\\nparameters:")[0] for m in models.models]
sys.stdout.write(f"{made} {hashlib.sha256(repr(texts).encode()).hexdigest()}")
"""


def hash_of(models: Any) -> str:
    texts = [trees(model.booster) for model in models.models]
    return hashlib.sha256(repr(texts).encode()).hexdigest()


def test_another_process_trains_the_very_models_on_the_bins_it_was_sent(
    tmp_path: Path, python: Any
) -> None:
    objective = make("sample")
    objective.check()
    (tmp_path / "objective").write_bytes(cloudpickle.dumps(objective))
    there = python.output_of(ANOTHER_PROCESS, str(tmp_path / "objective"))
    params = {"num_leaves": 9, "bagging_fraction": 0.5, "bagging_freq": 1}
    assert there == f"[] {hash_of(objective.fit_folds(params, seed=4))}"


# A Dataset that is binned already


def freed(case: str = "binary", **params: Any) -> lgb.Dataset:
    given = CASES[case]
    groups = given.get("groups")
    return lgb.Dataset(
        *given["train"],
        weight=given.get("weight"),
        group=None if groups is None else np.bincount(groups),
        categorical_feature=given.get("categorical", "auto"),
        params={"verbosity": -1, "feature_pre_filter": False, "data_random_seed": 3, **params},
    ).construct()


def from_file(case: str, folder: Path, **params: Any) -> lgb.Dataset:
    freed(case, **params).save_binary(folder / "data.bin")
    return lgb.Dataset(folder / "data.bin", params={"verbosity": -1, **params})


@pytest.mark.parametrize(
    ("kept", "travel"),
    [("freed", traveled), ("file", lambda o: o)],
    ids=["freed, traveled", "from a file"],
)
@pytest.mark.parametrize("case", [name for name in CASES if name != "sample"])
def test_binned_dataset_trains_the_very_model_that_its_raw_data_trains(
    case, kept, travel, tmp_path
):
    params = CASES[case].get("params", {})
    dataset = freed(case, **params) if kept == "freed" else from_file(case, tmp_path, **params)
    given = LightGBMObjective(
        dataset, objective=CASES[case]["objective"], folds=3, max_rounds=10, seed=3
    )
    raw = make(case)
    here, there = (o.fit(PARAMS, seed=8, n_rounds=5) for o in (raw, travel(given)))
    assert trees(here.booster) == trees(there.booster)
    curves = [o.train(PARAMS, o.reporter(seed=2)) for o in (raw, travel(given))]
    assert curves[0] == curves[1]


def test_binned_dataset_is_never_binned_again(binnings):
    dataset = freed()
    binnings.clear()
    objective = LightGBMObjective(dataset, objective="binary", folds=3, max_rounds=5)
    study_of(objective, 3)
    traveled(objective).fit({}, seed=0, n_rounds=1)
    assert binnings == []
