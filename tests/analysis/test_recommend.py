"""Recommendations: which configuration, what speaks against it, and how it leaves the library."""

from __future__ import annotations

import json

import numpy as np
import optuna
import pytest
import yaml
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial

from hpolab import (
    InvalidArgument,
    InvalidType,
    Objective,
    SearchSpace,
    confirm,
    import_runs,
    make_study,
    recommend,
    run,
)
from hpolab.analysis.wording import compared


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_best_is_the_peak_and_robust_is_on_the_plateau(plateau_and_peak, direction):
    study = plateau_and_peak(direction)
    found = recommend(study)
    assert found.best.trial == study.best_trial.number == 22
    assert "a peak or a lucky run" in found.best.risk
    assert 10**-3.3 <= found.robust.params["lr"] <= 10**-2.7
    assert "on a plateau" in found.robust.risk
    assert "Not confirmed" in found.best.risk


def test_hybrid_is_the_geometric_middle_on_a_log_scale_and_not_yet_tried(plateau_and_peak):
    found = recommend(plateau_and_peak())
    middle = np.sqrt(found.best.params["lr"] * found.robust.params["lr"])
    assert found.hybrid.params["lr"] == pytest.approx(middle)
    assert (found.hybrid.tried, found.hybrid.trial, found.hybrid.value) == (False, None, None)
    assert found.hybrid.risk.startswith("Not yet tried.")


def test_hybrid_takes_choices_of_the_best_and_stays_on_the_steps(study_of_rows):
    rows = [(1.0, {"dropout": 0.1, "layers": 2, "optimizer": "adam"})]
    good = {"dropout": 0.6, "layers": 7, "optimizer": "sgd"}
    rows += [(0.9 + n / 1000, {**good, "layers": 6 + n % 3}) for n in range(6)]
    found = recommend(study_of_rows(rows))
    assert found.best.params["optimizer"] == "adam"
    assert found.robust.params["optimizer"] == "sgd"
    assert found.hybrid.params["optimizer"] == "adam"
    assert found.hybrid.params["dropout"] in (pytest.approx(0.3), pytest.approx(0.4))
    assert found.hybrid.params["layers"] in (4, 5)


def test_hybrid_that_was_tried_says_which_trial_it_is(study_of_rows):
    found = recommend(study_of_rows([(0.9, {"lr": 0.01}), (0.8, {"lr": 0.1}), (0.7, {"lr": 1.0})]))
    assert found.best == found["best"]
    assert found.hybrid.params == found.best.params
    assert (found.hybrid.tried, found.hybrid.trial) == (True, 0)


def test_changes_against_the_baseline_are_percents_or_words(study_of_rows):
    before = {"lr": 0.01, "layers": 4, "optimizer": "sgd", "dropout": 0.0}
    after = {"lr": 0.012, "layers": 4, "optimizer": "adam", "dropout": 0.1}
    found = recommend(study_of_rows([(0.5, before), (0.6, after)]), baseline=0)
    assert [str(change) for change in found.best.changes] == [
        "lr +20.0 %",
        "optimizer sgd → adam",
        "dropout 0 → 0.1",
    ]
    assert found.best.improvement == pytest.approx(0.1)
    assert "It changes 3 parameters of the baseline at once." in found.best.risk


@pytest.mark.parametrize("baseline", [1, {"lr": 0.01}])
def test_baseline_is_a_trial_or_params(study_of_rows, baseline):
    study = study_of_rows([(0.9, {"lr": 0.1}), (0.8, {"lr": 0.01}), (0.7, {"lr": 1.0})])
    found = recommend(study, baseline=baseline)
    assert found.baseline == {"lr": 0.01}
    assert found.best.improvement == pytest.approx(0.1)


def test_improvement_within_the_noise_is_said_to_be(study_of_rows):
    rng = np.random.default_rng(0)
    rows = [(float(rng.normal()), {"lr": float(10 ** rng.uniform(-4, 0))}) for _ in range(40)]
    found = recommend(study_of_rows(rows), baseline=0)
    assert "within the noise of one run each" in found.best.risk
    assert found.noise.deviation == pytest.approx(1.0, rel=0.4)


def test_improvement_beyond_the_noise_is_said_to_be(study_of_rows):
    rng = np.random.default_rng(0)
    rows = [(0.0, {"lr": 1.0})]
    rows += [(1 + rng.normal(scale=0.01), {"lr": float(lr)}) for lr in np.geomspace(1e-3, 1e-2, 30)]
    assert (
        "more than the noise of one run each"
        in recommend(study_of_rows(rows), baseline=0).best.risk
    )


def test_what_another_run_of_it_reached_is_said(study_of_rows):
    rows = [(0.95, {"lr": 0.1}), (0.7, {"lr": 0.1}), (0.8, {"lr": 0.01}), (0.8, {"lr": 0.001})]
    assert "When run again, it reached 0.7." in recommend(study_of_rows(rows)).best.risk


def test_what_is_not_complete_is_not_recommended(study_of_rows):
    study = study_of_rows([(0.5, {"lr": 0.1})])
    study.add_trial(create_trial(state=TrialState.FAIL))
    found = recommend(study)
    assert found.best.trial == found.robust.trial == found.hybrid.trial == 0
    assert found.noise is None
    assert "Nothing near it was tried" in found.best.risk


SPACE = SearchSpace(
    {"lr": FloatDistribution(1e-3, 1e-1, log=True), "beta2": (0.9, 0.999), "epochs": 3},
    defaults={"lr": 0.01, "beta2": 0.99},
    one_minus=["beta2"],
)


class Bowl(Objective):
    """Best at lr 0.03 and beta2 0.99; the seed moves the score of a fit."""

    def train(self, params, reporter):
        return self.fit(params, reporter.seed)

    def fit(self, params, seed):
        miss = abs(np.log10(params["lr"] / 0.03)) + abs(np.log10((1 - params["beta2"]) / 0.01))
        own = np.random.default_rng([seed, int(1e9 * params["lr"])])
        return float(1 - miss + own.normal(scale=0.02))

    def evaluate(self, model, data):
        return {"points": model}


@pytest.fixture
def bowl():
    objective = Bowl(search_space=SPACE, direction="maximize", max_steps=1)
    study = make_study("bowl", storage="memory://", objective=objective, sampler="random", seed=0)
    run(study, objective, n_trials=40, show_progress_bar=False)
    return study, objective


def test_params_are_in_trainer_units_and_the_baseline_is_the_default(bowl):
    study, _ = bowl
    found = recommend(study)
    best = study.best_trial
    assert found.best.params["beta2"] == pytest.approx(1 - best.params["one_minus_beta2"])
    assert found.best.params["epochs"] == 3
    assert found.baseline == SPACE.defaults()
    assert found.best.improvement == pytest.approx(best.value - study.trials[0].value)
    assert {change.name for change in found.best.changes} == {"lr", "beta2"}


def test_confirmed_candidates_have_their_means_and_intervals(bowl):
    study, objective = bowl
    confirmation = confirm(study, objective, test=None, top_k=3, show_progress_bar=False)
    found = recommend(study, confirmation)
    means = {each.trial: each.mean for each in confirmation.configurations}
    best = max(means, key=lambda trial: means[trial].mean)
    assert found.trained_again
    assert found.best.trial == best
    assert found.best.value == means[best].mean
    assert found.best.expected == means[best]
    assert found.robust.trial in means
    assert "Trained again on" in found.best.risk
    effect = next(e.improvement for e in confirmation.configurations if e.trial == best)
    assert effect.is_better
    assert f"It {compared(effect, 'the default', n_compared=3)}" in found.best.risk
    assert "Not confirmed" not in str(found)


def test_default_is_recommended_where_nothing_beats_it():
    space = SearchSpace({"lr": (0.0, 1.0)}, defaults={"lr": 0.5})

    class Tent(Objective):
        def train(self, params, reporter):
            return self.fit(params, reporter.seed)

        def fit(self, params, seed):
            return -abs(params["lr"] - 0.5) + np.random.default_rng(seed).normal(scale=1e-6)

        def evaluate(self, model, data):
            return {"points": float(model)}

    objective = Tent(search_space=space, direction="maximize", max_steps=1)
    study = make_study("tent", storage="memory://", objective=objective, sampler="random")
    run(study, objective, n_trials=8, show_progress_bar=False)
    confirmation = confirm(study, objective, test=None, top_k=2, show_progress_bar=False)
    best = recommend(study, confirmation).best
    assert best.params == {"lr": 0.5}
    assert best.risk.startswith("It is the baseline.")


def test_confirmation_of_another_study_is_refused(study_of_rows, bowl):
    study, objective = bowl
    confirmation = confirm(study, objective, test=None, top_k=1, show_progress_bar=False)
    with pytest.raises(InvalidArgument, match="must be of the study 'no-name"):
        recommend(study_of_rows([(0.5, {"lr": 0.1})]), confirmation)


def test_exports_are_read_back_as_they_were(bowl):
    found = recommend(bowl[0])
    three = {name: found[name].params for name in ("best", "robust", "hybrid")}
    assert yaml.safe_load(found.to_yaml()) == three
    assert json.loads(found.to_json()) == three
    assert yaml.safe_load(found.to_yaml("robust")) == found.robust.params
    assert json.loads(found.to_json("hybrid")) == found.hybrid.params
    scope = {}
    exec(found.to_python(), scope)
    assert {name: scope[name] for name in three} == three


def test_overrides_are_lines_with_the_names_of_the_command(study_of_rows):
    found = recommend(study_of_rows([(0.9, {"lr": 0.0005134333170096499, "layers": 3})]))
    prefixes = {"lr": "models.optimizer.lr"}
    assert found.to_overrides(prefixes=prefixes) == "models.optimizer.lr=0.000513\nlayers=3"
    exact = found.to_overrides(prefixes=prefixes, digits=None)
    assert exact.splitlines()[0] == "models.optimizer.lr=0.0005134333170096499"
    with pytest.raises(InvalidArgument, match="`prefixes` must be one of"):
        found.to_overrides(prefixes={"lrr": "x"})


CONFIG = """
seed: 1
models:
  optimizer: {_target_: torch.optim.AdamW, lr: 1e-2}
  layers: 4
"""


PREFIXES = {"lr": "models.optimizer.lr", "layers": "models.layers"}


def test_baseline_is_read_from_a_yaml_file_under_the_prefixes(study_of_rows, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG)
    study = study_of_rows([(0.9, {"lr": 0.012, "layers": 4}), (0.5, {"lr": 0.01, "layers": 4})])
    found = recommend(study, baseline=path, prefixes=PREFIXES)
    assert found.baseline == {"lr": 0.01, "layers": 4}
    assert found.best.improvement == pytest.approx(0.4)
    assert [str(change) for change in found.best.changes] == ["lr +20.0 %"]
    assert found.to_overrides() == "models.optimizer.lr=0.012\nmodels.layers=4"
    assert found.to_overrides(prefixes={"layers": None}) == "lr=0.012"
    assert recommend(study, baseline=str(path), prefixes=PREFIXES).baseline == found.baseline


def test_yaml_baseline_may_lack_what_the_space_fixes(bowl, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("lr: 3e-3\nbeta2: 0.99")
    study, _ = bowl
    defaults = SPACE.defaults()
    assert recommend(study, baseline=path).baseline == {**defaults, "lr": 0.003, "beta2": 0.99}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("models: {optimizer: {lr: 0.1}}", "must have 'models.layers', got 'optimizer' at models"),
        ("models: 3", "must have 'models.optimizer.lr', got 3 at models"),
        ("{}", "must have 'models.optimizer.lr', got nothing at its top"),
        ("models: {optimizer: {lr: '${lr}'}}", r"must have a plain value at .*got '\$\{lr\}'"),
        ("models: {optimizer: {lr: {a: 1}}}", "must have a plain value at"),
        ("- 1", "must be a YAML file of names and values, got a list"),
        ("a: [", "must be a YAML file that can be read"),
        (None, "must be a YAML file that can be read.*No such file"),
    ],
)
def test_yaml_that_is_no_baseline_is_refused(study_of_rows, text, message, tmp_path):
    path = tmp_path / "config.yaml"
    if text is not None:
        path.write_text(text)
    study = study_of_rows([(0.9, {"lr": 0.012, "layers": 4})])
    with pytest.raises(InvalidArgument, match=message):
        recommend(study, baseline=path, prefixes=PREFIXES)


def test_prefix_of_no_parameter_is_refused(study_of_rows):
    with pytest.raises(InvalidArgument, match="`prefixes` must be one of 'lr', got 'layers'"):
        recommend(study_of_rows([(0.9, {"lr": 0.012})]), prefixes=PREFIXES)


def test_rounding_keeps_a_decay_rate_below_one(bowl):
    found = recommend(bowl[0])
    words = dict(line.split("=") for line in found.to_overrides().splitlines())
    assert 1 - float(words["beta2"]) == pytest.approx(1 - found.best.params["beta2"], rel=0.01)


def test_enqueued_hybrid_is_tried_next(bowl):
    study, objective = bowl
    found = recommend(study)
    assert not found.hybrid.tried
    assert found.enqueue(study)
    run(study, objective, n_trials=41, show_progress_bar=False)
    params = SPACE.from_trial(study.trials[40].params)
    assert params == pytest.approx(found.hybrid.params)
    assert not found.enqueue(study)


@pytest.mark.parametrize(
    ("params", "message"),
    [({"lr": 5.0}, "hold 'lr' = "), ({"rate": 0.1}, "must be one of 'rate', got 'lr'")],
)
def test_study_that_cannot_hold_it_is_left_as_it_is(study_of_rows, params, message):
    found = recommend(study_of_rows([(0.9, {"lr": 0.01})]))
    ranges = {name: FloatDistribution(0.1, 9.0) for name in params}
    other = optuna.create_study()
    other.add_trial(create_trial(value=0.0, params=params, distributions=ranges))
    with pytest.raises(InvalidArgument, match=message):
        found.enqueue(other)
    assert len(other.trials) == 1


def test_space_of_a_recipe_refuses_what_it_cannot_hold(bowl):
    study, _ = bowl
    narrow = Bowl(search_space=SPACE.override(lr=(0.09, 0.1)), direction="maximize", max_steps=1)
    other = make_study("narrow", storage="memory://", objective=narrow)
    with pytest.raises(InvalidArgument, match="'lr' must be in"):
        recommend(study).enqueue(other)
    assert other.trials == []


def test_study_is_only_read(bowl):
    study, _ = bowl
    before = [(t.params, t.value, t.user_attrs) for t in study.trials]
    recommend(study)
    assert [(t.params, t.value, t.user_attrs) for t in study.trials] == before


def test_table_shows_all_three_and_what_speaks_against_them(bowl):
    shown = str(recommend(bowl[0]))
    for words in (
        "baseline",
        "best",
        "robust",
        "hybrid",
        "beta2",
        "not yet tried",
        "Not confirmed",
    ):
        assert words in shown


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"baseline": 7}, InvalidArgument, "number of a complete trial"),
        ({"baseline": 0.5}, InvalidType, "a dict or a path, got float"),
        ({"confirmation": 3}, InvalidType, "must be a Confirmation, got int"),
    ],
)
def test_bad_input_is_refused(study_of_rows, arguments, error, message):
    with pytest.raises(error, match=message):
        recommend(study_of_rows([(0.5, {"lr": 0.1})]), **arguments)


def test_study_without_a_complete_trial_is_refused():
    with pytest.raises(InvalidArgument, match="must have a complete trial"):
        recommend(optuna.create_study())


def test_each_of_the_three_writes_itself_as_the_whole_does(bowl):
    found = recommend(bowl[0], prefixes={"beta2": "opt.beta2"})
    for name in ("best", "robust", "hybrid"):
        each = found[name]
        assert each.to_overrides() == found.to_overrides(name)
        assert each.to_overrides(digits=None) == found.to_overrides(name, digits=None)
        assert each.to_yaml() == found.to_yaml(name)
        assert each.to_json() == found.to_json(name)
        assert each.to_python() == found.to_python(name)
    assert "opt.beta2=" in found.hybrid.to_overrides()
    assert "model.beta2=" in found.hybrid.to_overrides(prefixes={"beta2": "model.beta2"})
    with pytest.raises(InvalidArgument, match="`prefixes` must be one of"):
        found.hybrid.to_overrides(prefixes={"beta3": "model.beta2"})


RUNS = [
    {"id": "base", "lr": 0.1, "hmean": 0.7},
    {"id": "3", "lr": 0.2, "hmean": 0.8},
    {"id": "2", "lr": 0.3, "hmean": 0.9},
    {"id": "lost", "lr": 0.4, "hmean": None},
]


def imported(rows=RUNS, **options):
    return import_runs(rows, study_name="runs", value="hmean", direction="maximize", **options)


@pytest.mark.parametrize(
    ("asked", "lr"),
    [("base", 0.1), ("run base", 0.1), ("3", 0.2), ("run 3", 0.2), (0, 0.1), (2, 0.3)],
)
def test_baseline_is_an_imported_run_by_its_id(asked, lr):
    assert recommend(imported(), baseline=asked).baseline == {"lr": lr}


def test_baseline_is_an_imported_row_by_its_label():
    rows = [{"lr": each, "hmean": each} for each in (0.1, 0.2, 0.3)]
    assert recommend(imported(rows), baseline="row 2").baseline == {"lr": 0.2}
    assert recommend(imported(rows), baseline="2").baseline == {"lr": 0.2}
    with pytest.raises(InvalidArgument, match="trial 2 is row 3, and row 2 is trial 1"):
        recommend(imported(rows), baseline=2)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("bse", "no such run and no such file. Did you mean 'base'"),
        ("lost", "a run with a value, got 'lost'"),
    ],
)
def test_baseline_that_is_no_run_is_refused(asked, message):
    with pytest.raises(InvalidArgument, match=message):
        recommend(imported(), baseline=asked)


def test_baseline_that_is_one_trial_and_another_run_is_refused():
    rows = [{"id": str(n), "lr": n / 10, "hmean": n / 10} for n in (1, 2, 3)]
    with pytest.raises(InvalidArgument, match="trial 1 is run 2, and run 1 is trial 0"):
        recommend(imported(rows), baseline=1)


def test_baseline_that_is_a_run_and_a_file_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base").write_text("lr: 0.2")
    with pytest.raises(InvalidArgument, match="which is a run and a file: give 0 for the run"):
        recommend(imported(), baseline="base")
    assert recommend(imported(), baseline=tmp_path / "base").baseline == {"lr": 0.2}


def test_baseline_of_a_study_that_was_not_imported_is_no_run(study_of_rows):
    with pytest.raises(InvalidArgument, match="or a YAML file, got 'base', and there is no such"):
        recommend(study_of_rows([(0.5, {"lr": 0.1})]), baseline="base")
