"""LightGBMModel and FoldModels: what `fit` and `fit_folds` return."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import lightgbm as lgb
import numpy as np
import optuna
import pandas as pd
import polars as pl
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.metrics import (
    average_precision_score,
    log_loss,
    mean_absolute_error,
    mean_pinball_loss,
    ndcg_score,
    roc_auc_score,
    root_mean_squared_error,
)
from sklearn.model_selection import ShuffleSplit, TimeSeriesSplit

from hpolab import (
    DataNotFound,
    FoldModels,
    InvalidArgument,
    InvalidType,
    LightGBMModel,
    LightGBMObjective,
    SearchSpace,
    make_study,
    run,
)

if TYPE_CHECKING:
    from pathlib import Path

X, Y = load_breast_cancer(return_X_y=True)
X = X[:, :12]
N = len(Y)
DIABETES = load_diabetes(return_X_y=True)
DIGITS = tuple(part[:200] for part in load_digits(n_class=3, return_X_y=True))
RNG = np.random.default_rng(0)
FRAME = pd.DataFrame(
    {
        "a color": pd.Series(RNG.choice(["red", "blue", "ökru"], 300), dtype="category"),
        'size, "{[:]}"': RNG.normal(size=300),
        "kind\n": RNG.choice([10, 20, 30], 300),
        "a_color": RNG.normal(size=300),
        "range": pd.cut(pd.Series(RNG.normal(size=300)), 4),
    }
)
TARGET = np.array(["yes", "no", "é"])[(FRAME["kind\n"] // 10 - 1)]
PARAMS = {"num_leaves": 7, "bagging_fraction": 0.7, "bagging_freq": 1}


def make(train: Any = (X, Y), **options: Any) -> LightGBMObjective:
    settings: dict[str, Any] = {
        "objective": "binary",
        "max_rounds": 30,
        "search_space": SearchSpace({"num_leaves": (3, 30)}),
    }
    return LightGBMObjective(train, **settings | options)


def mixed() -> LightGBMObjective:
    return make((FRAME, TARGET), objective="multiclass", categorical=["kind\n"])


def trees(model: LightGBMModel) -> str:
    return model.booster.model_to_string().partition("\nparameters:")[0]


MODELS = {
    "two classes": (lambda: make((X, np.array(["ill", "well"])[Y])), X),
    "booleans": (lambda: make((X, Y == 1)), X),
    "numbers": (lambda: make(DIABETES, objective="regression"), DIABETES[0]),
    "many classes": (lambda: make(DIGITS, objective="multiclass"), DIGITS[0]),
    "categories and odd names": (mixed, FRAME),
    "linear trees": (
        lambda: make(DIABETES, objective="regression", params={"linear_tree": True}),
        DIABETES[0],
    ),
    "forest": (
        lambda: make(params={"boosting": "rf", "bagging_fraction": 0.5, "bagging_freq": 1}),
        X,
    ),
}


# fit


def test_fit_trains_on_all_rows_with_the_rounds_that_were_best_in_a_trial():
    objective = make(folds=3, search_space=SearchSpace({"num_leaves": (3, 30)}), max_rounds=200)
    recorded: dict[str, float] = {}
    reporter = objective.reporter(seed=5)
    reporter.record = recorded.update  # type: ignore[method-assign]
    objective.train(PARAMS, reporter)
    model = objective.fit(PARAMS, seed=5)
    assert model.booster.num_trees() == recorded["rounds"] < 200
    everywhere = objective.fit(PARAMS, seed=5, n_rounds=int(recorded["rounds"]))
    assert trees(model) == trees(everywhere)
    first_tree = model.booster.dump_model()["tree_info"][0]["tree_structure"]
    # A tree's root counts the rows that were drawn for it.
    assert first_tree["internal_count"] == pytest.approx(0.7 * N, rel=0.1)


@pytest.mark.parametrize("steered", [{"valid": 0.5}, {"valid": (X, Y)}], ids=["part", "data"])
def test_fit_trains_on_the_rows_that_steer_as_well(steered):
    model = make(**steered).fit({}, seed=0, n_rounds=1)
    root = model.booster.dump_model()["tree_info"][0]["tree_structure"]
    assert root["internal_count"] == (2 * N if isinstance(steered["valid"], tuple) else N)


def test_fit_repeats_from_its_seed():
    objective = make(folds=2)
    first, again, other = (objective.fit(PARAMS, seed) for seed in (1, 1, 2))
    assert trees(first) == trees(again)
    assert trees(first) != trees(other)


def test_seed_may_be_any_that_hpolab_derives():
    assert make().fit(PARAMS, seed=2**32 - 1, n_rounds=2).predict(X).shape == (N,)


@pytest.mark.parametrize("n_rounds", [1, 7])
def test_rounds_may_be_given(n_rounds):
    objective = make(DIGITS, objective="multiclass", folds=2)
    assert objective.fit({}, seed=0, n_rounds=n_rounds).booster.current_iteration() == n_rounds
    models = objective.fit_folds({}, seed=0, n_rounds=n_rounds).models
    assert [model.booster.current_iteration() for model in models] == [n_rounds] * 2


def test_rounds_of_folds_as_fidelity_are_their_mean():
    objective = make(folds=3, fidelity="folds", max_rounds=200)
    recorded: dict[str, float] = {}
    reporter = objective.reporter(seed=5)
    reporter.record = recorded.update  # type: ignore[method-assign]
    objective.train(PARAMS, reporter)
    assert objective.fit(PARAMS, seed=5).booster.num_trees() == recorded["rounds"]


def test_model_keeps_no_training_data():
    model = make().fit({}, seed=0, n_rounds=2)
    assert not hasattr(model.booster, "train_set")
    assert len(pickle.dumps(model)) < 50_000


# Saving


@pytest.mark.parametrize("kind", MODELS)
def test_saved_model_comes_back_the_same(kind, tmp_path: Path):
    construct, features = MODELS[kind]
    model = construct().fit(PARAMS, seed=0, n_rounds=5)
    model.save(tmp_path / "model.txt")
    loaded = LightGBMModel.load(str(tmp_path / "model.txt"))
    assert (loaded.predict(features) == model.predict(features)).all()
    assert (loaded.classes, loaded.columns) == (model.classes, model.columns)
    # Gains are rounded in LightGBM's files.
    assert loaded.importance() == pytest.approx(model.importance(), rel=1e-4)
    assert [path.name for path in tmp_path.iterdir()] == ["model.txt"]


@pytest.mark.parametrize("kind", MODELS)
def test_saved_model_is_lightgbm_s_own_file(kind, tmp_path: Path):
    construct, features = MODELS[kind]
    model = construct().fit(PARAMS, seed=0, n_rounds=5)
    model.save(tmp_path / "model.txt")
    plain = lgb.Booster(model_file=tmp_path / "model.txt")
    encoded = model.columns.encode("features", features)
    assert (plain.predict(encoded) == model.predict(features)).all()


@pytest.mark.parametrize("kind", MODELS)
def test_saved_and_pickled_models_are_evaluated_the_same(kind, tmp_path: Path):
    construct, features = MODELS[kind]
    objective = construct()
    labels = {
        "two classes": np.array(["ill", "well"])[Y],
        "booleans": Y == 1,
        "many classes": DIGITS[1],
        "categories and odd names": TARGET,
        "forest": Y,
    }.get(kind, DIABETES[1])
    model = objective.fit(PARAMS, seed=0, n_rounds=5)
    model.save(tmp_path / "model.txt")
    expected = objective.evaluate(model, (features, labels))
    loaded = LightGBMModel.load(tmp_path / "model.txt")
    assert objective.evaluate(loaded, (features, labels)) == pytest.approx(expected, rel=1e-12)
    traveled = pickle.loads(pickle.dumps(model))
    assert objective.evaluate(traveled, (features, labels)) == expected


def test_saving_again_replaces_the_model(tmp_path: Path):
    objective = make()
    path = tmp_path / "model.txt"
    for n_rounds in (3, 5):
        objective.fit({}, seed=0, n_rounds=n_rounds).save(path)
        assert LightGBMModel.load(path).booster.num_trees() == n_rounds


def test_file_that_hpolab_did_not_write_is_refused(tmp_path: Path):
    make().fit({}, seed=0, n_rounds=2).booster.save_model(tmp_path / "plain.txt")
    with pytest.raises(InvalidArgument, match=r"`path` must name a model that `save` wrote"):
        LightGBMModel.load(tmp_path / "plain.txt")
    with pytest.raises(DataNotFound, match=r"`path` must name a file, got '.*nowhere"):
        LightGBMModel.load(tmp_path / "nowhere")


# Predicting


def test_frame_is_matched_by_name_whatever_its_order_and_library():
    model = mixed().fit({}, seed=0, n_rounds=5)
    expected = model.predict(FRAME)
    assert (model.predict(FRAME[FRAME.columns[::-1]]) == expected).all()
    assert (model.predict(FRAME.astype({"a color": "str"}).iloc[::-1])[::-1] == expected).all()
    as_polars = pl.DataFrame(
        {
            name: (column.astype(str) if column.dtype == "category" else column).to_list()
            for name, column in FRAME.items()
        }
    )
    assert (model.predict(as_polars) == expected).all()


def test_one_row_is_predicted_like_many():
    model = mixed().fit({}, seed=0, n_rounds=5)
    assert (model.predict(FRAME.iloc[[7]]) == model.predict(FRAME)[7]).all()


@pytest.mark.parametrize(
    ("error", "message", "features"),
    [
        (InvalidArgument, r"without \['a color'\] and with \[\] besides", FRAME.iloc[:, 1:]),
        (InvalidArgument, r"without \[\] and with \['more'\] besides", FRAME.assign(more=1)),
        (InvalidType, r"must be a data frame like .*'a color'.* got ndarray", np.zeros((3, 5))),
        (InvalidType, r"numbers in column 'a_color', as in", FRAME.assign(a_color="x")),
    ],
    ids=["missing", "extra", "array", "strings"],
)
def test_columns_that_differ_from_training_are_refused(error, message, features):
    model = mixed().fit({}, seed=0, n_rounds=1)
    with pytest.raises(error, match=message):
        model.predict(features)


@pytest.mark.parametrize(
    ("error", "message", "features"),
    [
        (InvalidArgument, r"`features` must have the 12 columns trained on, got 5", X[:, :5]),
        (InvalidArgument, r"must have the 12 columns .* got 13", pd.DataFrame(X).assign(more=1)),
        (InvalidArgument, r"must be of shape \(rows, columns\), got \(12,\)", X[0]),
        (InvalidType, r"`features` must hold numbers, got an array of", X.astype(str)),
    ],
    ids=["few", "many", "one row", "strings"],
)
def test_arrays_that_differ_from_training_are_refused(error, message, features):
    model = make().fit({}, seed=0, n_rounds=1)
    with pytest.raises(error, match=message):
        model.predict(features)


def test_model_of_an_array_takes_a_frame_by_position():
    model = make().fit({}, seed=0, n_rounds=3)
    assert (model.predict(pd.DataFrame(X)) == model.predict(X)).all()


def test_lightgbm_s_own_options_of_prediction_pass():
    model = make().fit({}, seed=0, n_rounds=3)
    chances = 1 / (1 + np.exp(-model.predict(X, raw_score=True)))
    assert chances == pytest.approx(model.predict(X), rel=1e-12)
    assert model.predict(X, pred_contrib=True).shape == (N, 13)


# Importance


def test_importance_names_features_the_largest_first():
    informative = np.column_stack([RNG.normal(size=N), Y + RNG.normal(size=N) * 0.1])
    frame = pd.DataFrame(informative, columns=["no: thing", "it, all"])
    model = make((frame, Y)).fit({}, seed=0, n_rounds=5)
    gain, split = model.importance(), model.importance("split")
    assert list(gain) == ["it, all", "no: thing"]
    assert sorted(gain.values()) == sorted(model.booster.feature_importance("gain"))
    assert sum(split.values()) == model.booster.feature_importance("split").sum()
    with pytest.raises(InvalidArgument, match="`kind` must be one of 'gain', 'split', got 'gian'"):
        model.importance("gian")


def test_names_that_lightgbm_would_confuse_stay_apart():
    frame = pd.DataFrame(X[:, :4], columns=["a b", "a_b", "a_b_0", "a,b"])
    model = make((frame, Y)).fit({}, seed=0, n_rounds=5)
    assert set(model.importance()) == set(frame.columns)
    assert (model.predict(frame) == model.predict(frame.iloc[:, ::-1])).all()


# Evaluating


def test_binary_metrics_are_scikit_learn_s():
    objective = make(metric="auc", metrics=["binary_logloss", "average_precision"])
    rows = X[::2], np.array([0, 1])[Y[::2]]
    model = objective.fit({}, seed=0, n_rounds=5)
    chances = model.predict(rows[0])
    found = objective.evaluate(model, rows)
    assert found["auc"] == pytest.approx(roc_auc_score(rows[1], chances), rel=1e-9)
    assert found["binary_logloss"] == pytest.approx(log_loss(rows[1], chances), rel=1e-6)
    precision = average_precision_score(rows[1], chances)
    assert found["average_precision"] == pytest.approx(precision, rel=1e-6)


def test_metrics_of_numbers_are_scikit_learn_s():
    objective = make(DIABETES, objective="quantile", metrics=["rmse", "mae"], params={"alpha": 0.8})
    model = objective.fit({}, seed=0, n_rounds=10)
    predicted = model.predict(DIABETES[0])
    found = objective.evaluate(model, DIABETES)
    expected = {
        "quantile": mean_pinball_loss(DIABETES[1], predicted, alpha=0.8),
        "rmse": root_mean_squared_error(DIABETES[1], predicted),
        "l1": mean_absolute_error(DIABETES[1], predicted),
    }
    assert found == pytest.approx(expected, rel=1e-6)
    assert np.mean(DIABETES[1] < predicted) == pytest.approx(0.8, abs=0.05)


def test_log_loss_of_many_classes_is_scikit_learn_s():
    objective = make((FRAME, TARGET), objective="multiclass", metrics=["multi_error"])
    model = objective.fit({}, seed=0, n_rounds=5)
    chances = model.predict(FRAME)
    found = objective.evaluate(model, (FRAME, TARGET))
    expected = log_loss(TARGET, chances, labels=list(model.classes))
    assert found["multi_logloss"] == pytest.approx(expected, rel=1e-6)
    predicted = np.array(model.classes)[chances.argmax(axis=1)]
    assert found["multi_error"] == pytest.approx(np.mean(predicted != TARGET))


def test_ndcg_is_scikit_learn_s():
    queries = np.arange(440) // 11
    features, grades = DIABETES[0][:440], (DIABETES[1][:440] // 120).astype(int)
    objective = make((features, grades), objective="lambdarank", groups=queries, metric="ndcg@5")
    model = objective.fit({}, seed=0, n_rounds=20)
    rows = lgb.Dataset(features, grades, group=np.bincount(queries))
    scores = model.predict(features).reshape(40, 11)
    # LightGBM's gain of a grade is 2**grade - 1.
    gains = (2.0**grades - 1).reshape(40, 11)
    expected = np.mean([ndcg_score([g], [s], k=5) for g, s in zip(gains, scores, strict=True)])
    assert objective.evaluate(model, rows)["ndcg@5"] == pytest.approx(expected, rel=1e-2)


def test_weights_of_a_dataset_count():
    weight = RNG.uniform(0.1, 3.0, N)
    objective = make()
    model = objective.fit({}, seed=0, n_rounds=5)
    expected = log_loss(Y, model.predict(X), sample_weight=weight)
    found = objective.evaluate(model, lgb.Dataset(X, Y, weight=weight))
    assert found["binary_logloss"] == pytest.approx(expected, rel=1e-6)


def test_metrics_of_a_trial_s_validation_rows_are_those_that_evaluate_finds():
    pairs = [(np.arange(400), np.arange(400, N))]
    objective = make(folds=pairs, patience=None, max_rounds=5)
    (model,) = objective.fit_folds(PARAMS, seed=1, n_rounds=5).models
    found = objective.evaluate(model, (X[400:], Y[400:]))["binary_logloss"]
    assert objective.train(PARAMS, objective.reporter(seed=1)) == pytest.approx(found, rel=1e-12)


def test_one_class_may_be_all_that_is_evaluated():
    objective = make()
    model = objective.fit({}, seed=0, n_rounds=5)
    rows = Y == 1
    expected = -np.log(model.predict(X[rows])).mean()
    found = objective.evaluate(model, (X[rows], Y[rows]))["binary_logloss"]
    assert found == pytest.approx(expected, rel=1e-6)


def test_unknown_class_is_refused_in_evaluation():
    objective = make((X, np.array(["ill", "well"])[Y]))
    model = objective.fit({}, seed=0, n_rounds=1)
    with pytest.raises(InvalidArgument, match="`data` labels must be of the classes trained on"):
        objective.evaluate(model, (X, Y))


# Folds


@pytest.mark.parametrize("kind", ["two classes", "numbers", "many classes"])
def test_out_of_fold_predictions_are_each_by_the_model_that_has_not_seen_the_row(kind):
    features = MODELS[kind][1]
    part = np.arange(len(features)) % 3
    pairs = [(np.flatnonzero(part != k), np.flatnonzero(part == k)) for k in range(3)]
    labels = {"two classes": Y, "numbers": DIABETES[1], "many classes": DIGITS[1]}[kind]
    name = {"two classes": "binary", "numbers": "regression", "many classes": "multiclass"}[kind]
    found = make((features, labels), objective=name, folds=pairs).fit_folds(PARAMS, 3, n_rounds=5)
    assert isinstance(found, FoldModels)
    expected = np.concatenate(
        [
            model.predict(features[rows])
            for model, (_, rows) in zip(found.models, pairs, strict=True)
        ]
    )
    order = np.concatenate([rows for _, rows in pairs])
    assert (found.out_of_fold[order] == expected).all()
    # A model of other rows than the fold's would have another root.
    counts = [
        m.booster.dump_model()["tree_info"][0]["tree_structure"]["internal_count"]
        for m in found.models
    ]
    assert counts == pytest.approx([0.7 * 2 / 3 * len(features)] * 3, rel=0.15)


def test_rows_that_are_never_validated_are_nan():
    objective = make(DIABETES, objective="regression", folds=TimeSeriesSplit(3))
    found = objective.fit_folds({}, seed=0, n_rounds=3).out_of_fold
    n_first = int(np.isnan(found).sum())
    assert n_first == 442 - 3 * 110
    assert np.isnan(found[:n_first]).all()


def test_rows_that_are_validated_often_get_the_mean():
    splitter = ShuffleSplit(4, test_size=0.5, random_state=0)
    pairs = list(splitter.split(X))
    found = make(folds=pairs).fit_folds({}, seed=0, n_rounds=3)
    row = int(np.bincount(np.concatenate([valid for _, valid in pairs])).argmax())
    having = [m for m, (_, valid) in zip(found.models, pairs, strict=True) if row in valid]
    assert len(having) > 1
    expected = np.mean([model.predict(X[[row]]) for model in having])
    assert found.out_of_fold[row] == pytest.approx(expected, rel=1e-12)


def test_fold_models_predict_by_their_mean():
    found = make(DIGITS, objective="multiclass", folds=3).fit_folds({}, seed=0, n_rounds=3)
    expected = np.mean([model.predict(DIGITS[0]) for model in found.models], axis=0)
    assert (found.predict(DIGITS[0]) == expected).all()
    assert found.out_of_fold.shape == (200, 3)


def test_fold_models_train_as_many_rounds_as_a_trial_found_best():
    objective = make(folds=3, max_rounds=200)
    n_trees = objective.fit(PARAMS, seed=5).booster.num_trees()
    models = objective.fit_folds(PARAMS, seed=5).models
    assert [model.booster.num_trees() for model in models] == [n_trees] * 3


def test_hold_out_is_one_fold():
    found = make(valid=0.25).fit_folds({}, seed=0, n_rounds=3)
    assert len(found.models) == 1
    assert int(np.isfinite(found.out_of_fold).sum()) == 143


def test_fold_models_need_raw_data():
    dataset = lgb.Dataset(X, Y, params={"verbosity": -1}).construct()
    with pytest.raises(InvalidArgument, match=r"`train` must hold raw data .*free_raw_data=False"):
        make(dataset, folds=3).fit_folds({}, seed=0, n_rounds=1)


def test_model_of_a_binned_dataset_predicts_arrays_under_its_names():
    names = [f"f{i}" for i in range(12)]
    dataset = lgb.Dataset(X, Y, feature_name=names, params={"verbosity": -1}).construct()
    model = make(dataset, folds=3).fit({}, seed=0, n_rounds=3)
    raw = make((X, Y), folds=3).fit({}, seed=0, n_rounds=3)
    assert (model.predict(X) == raw.predict(X)).all()
    assert set(model.importance()) == set(names)


def tuned(**options: Any) -> tuple[LightGBMObjective, optuna.Study]:
    objective = make(metric="auc", folds=3, **options)
    study = make_study("folds", objective=objective, storage="memory://")
    run(study, objective, n_trials=3)
    return objective, study


@pytest.mark.parametrize("options", [{}, {"fidelity": "folds"}], ids=["rounds", "folds"])
def test_folds_of_a_study_are_those_of_its_best_trial(options: dict[str, Any]) -> None:
    objective, study = tuned(**options)
    found = objective.fit_folds(study)
    n_rounds = objective.params_of(study.best_trial)["num_iterations"]
    assert [each.booster.current_iteration() for each in found.models] == [n_rounds] * 3
    if not options:  # else each fold of a trial has rounds of its own
        assert found.mean_value == study.best_value


def test_folds_tell_their_own_metrics_and_rows() -> None:
    objective, study = tuned()
    found = objective.fit_folds(study)
    assert sorted(np.concatenate(found.rows)) == list(range(N))
    for rows, values in zip(found.rows, found.values, strict=True):
        auc = roc_auc_score(Y[rows], found.out_of_fold[rows])
        assert values["auc"] == pytest.approx(auc, abs=1e-9)
    # Pooled, it ranks rows of different models against each other: another number.
    assert roc_auc_score(Y, found.out_of_fold) != found.mean_value
    gains = [each.importance() for each in found.models]
    for name, gain in found.importance().items():
        assert gain == pytest.approx(np.mean([each[name] for each in gains]))


def test_folds_without_rounds_say_what_they_took(caplog: pytest.LogCaptureFixture) -> None:
    objective, study = tuned()
    optuna.logging.enable_propagation()
    caplog.set_level("INFO")
    objective.fit_folds(study)
    objective.fit_folds(study.best_params, n_rounds=3)
    objective.fit_folds(objective.params_of(study.best_trial))
    assert "without rounds" not in caplog.text
    objective.fit_folds(study.best_params)
    assert "got params without rounds" in caplog.text
    optuna.logging.disable_propagation()


def test_folds_survive_saving(tmp_path: Path) -> None:
    objective = mixed()
    found = objective.fit_folds({}, n_rounds=3)
    found.save(tmp_path / "folds")
    loaded = FoldModels.load(tmp_path / "folds")
    assert np.array_equal(loaded.predict(FRAME), found.predict(FRAME))
    assert np.array_equal(loaded.out_of_fold, found.out_of_fold, equal_nan=True)
    assert (loaded.mean_value, loaded.values) == (found.mean_value, found.values)
    assert all(map(np.array_equal, loaded.rows, found.rows))
    with pytest.raises(DataNotFound, match="`folder` must be one that"):
        FoldModels.load(tmp_path)


def test_trial_brings_its_rounds_to_a_fit() -> None:
    objective, study = tuned()
    n_rounds = objective.params_of(study.best_trial)["num_iterations"]
    assert objective.fit(study.best_trial).booster.current_iteration() == n_rounds


@pytest.mark.parametrize("function", ["fit", "params_of"])
def test_study_in_the_place_of_params_is_shown_the_way(function: str) -> None:
    objective, study = tuned()
    with pytest.raises(InvalidType, match=r"got a Study: `fit_best\(study\)`"):
        getattr(objective, function)(study)
