"""compare: equal budgets, own spaces, resuming as a whole, and what the trials say."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState

from hpolab import (
    Comparison,
    Contender,
    Diverged,
    FunctionObjective,
    InvalidArgument,
    InvalidType,
    Objective,
    RecipeMismatch,
    SearchSpace,
    StudyNotFound,
    compare,
    load_comparison,
    load_study,
    make_study,
    optimizer_space,
    sweep,
)
from hpolab.analysis.wording import compared

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hpolab import Reporter


BEST_LR = {"adam": 1e-3, "sgd": 1e-1}


class Slope(Objective):
    """The best learning rate is an optimizer's own, and the test score has the seed's noise."""

    def __init__(self, space: SearchSpace, **settings: Any) -> None:
        super().__init__(
            search_space=space, direction="maximize", max_steps=1, metric="score", **settings
        )
        self.fits: list[int] = []  # shared by copies

    def train(self, params: Mapping[str, Any], reporter: Reporter) -> float:
        return self._score(params)

    def fit(self, params: Mapping[str, Any], seed: int) -> Any:
        self.fits.append(seed)
        return params, seed

    def evaluate(self, model: Any, data: Any) -> dict[str, float]:
        params, seed = model
        return {"score": self._score(params) + data * (seed % 100), "other": -1.0}

    def _score(self, params: Mapping[str, Any]) -> float:
        return -abs(math.log10(params["lr"] / BEST_LR[params["optimizer"]]))


OPTIMIZER = optimizer_space("adam") | SearchSpace({"hidden": (4, 8)})


def test_each_optimizer_gets_its_own_space_the_same_trials_and_its_default_first():
    comparison = compare(
        Slope(OPTIMIZER), ["adam", "sgd"], study_name="c", n_trials=12, storage="memory://", seed=3
    )
    assert list(comparison.contenders) == ["adam", "sgd"]
    for name, contender in comparison.contenders.items():
        assert len(contender.values) == 12
        assert contender.best_params["optimizer"] == name
        assert 4 <= contender.best_params["hidden"] <= 8
        default = optimizer_space(name).defaults()
        assert contender.default_value == Slope(OPTIMIZER)._score(default)
        assert contender.best_value == max(contender.values)
        tuned, values = contender.values_by("lr")
        assert len(tuned) == len(values) == 12
        assert tuned[0] == default["lr"]
    assert "beta2" not in comparison.contenders["sgd"].best_params


def test_choice_of_optimizers_is_taken_apart():
    space = optimizer_space(["adam", "sgd"]).override(**{"sgd.lr": (0.05, 0.5)})
    comparison = compare(Slope(space), ["sgd"], study_name="c", n_trials=3, storage="memory://")
    rates, _ = comparison.contenders["sgd"].values_by("lr")
    assert all(0.05 <= rate <= 0.5 for rate in rates)  # the user's own range


def test_comparison_goes_on_where_it_was_and_scores_each_seed_once(tmp_path):
    url = f"sqlite:///{tmp_path}/s.db"
    objective = Slope(OPTIMIZER)
    compare(objective, ["adam", "sgd"], study_name="c", n_trials=2, storage=url)
    part = compare(
        objective,
        ["adam", "sgd"],
        study_name="c",
        n_trials=4,
        storage=url,
        test=0.01,
        n_test_seeds=2,
    )
    assert len(objective.fits) == 4
    whole = compare(
        objective,
        ["adam", "sgd"],
        study_name="c",
        n_trials=4,
        storage=url,
        test=0.01,
        n_test_seeds=3,
    )
    for name in ("adam", "sgd"):
        assert whole.contenders[name].test_scores[:2] == part.contenders[name].test_scores
        assert len(set(whole.contenders[name].test_scores)) == 3
    stored = load_comparison("c", storage=url)
    assert str(stored) == str(whole)
    assert len(load_study("c-adam", storage=url).trials) == 4


def test_comparison_with_a_pruner_object_goes_on_and_is_read(tmp_path):
    url = f"sqlite:///{tmp_path}/s.db"
    pruner = optuna.pruners.MedianPruner(n_warmup_steps=3)
    for n_trials in (2, 4):
        found = compare(
            Slope(OPTIMIZER),
            ["adam"],
            study_name="c",
            n_trials=n_trials,
            storage=url,
            pruner=pruner,
            test=0.0,
        )
    assert len(load_comparison("c", storage=url).contenders["adam"].values) == 4
    assert isinstance(found.contenders["adam"].study.pruner, optuna.pruners.MedianPruner)


class Fragile(Slope):
    """SGD's training diverges on every other seed."""

    def fit(self, params: Mapping[str, Any], seed: int) -> Any:
        self.fits.append(seed)
        if params["optimizer"] == "sgd" and len(self.fits) % 2:
            raise Diverged("nan in epoch 3")
        return params, seed


def test_leader_is_compared_with_each_rival_on_the_test_data():
    comparison = compare(
        Slope(OPTIMIZER),
        ["adam", "sgd"],
        study_name="c",
        n_trials=6,
        storage="memory://",
        test=1e-4,
        seed=1,
    )
    leader, other = comparison.ranking()
    ((rival, effect),) = comparison.improvements().items()
    assert rival == other.name
    difference = np.mean(leader.test_scores) - np.mean(other.test_scores)
    assert effect.estimate == pytest.approx(difference)
    assert comparison.verdict in str(comparison)
    found = compared(effect, f"that found for {rival}")
    assert comparison.verdict.startswith(
        f"On this test data (3 seeds), the configuration found for {leader.name} by one tuning "
        f"{found}. This is about these configurations"
    )
    assert "`n_repeats`" in comparison.verdict


@pytest.mark.parametrize(
    ("contenders", "verdict"),
    [
        (["adam", "sgd"], ""),
        (
            ["sgd"],
            "The configuration found for sgd has no score on 2 of 4 seeds, so it cannot be "
            "compared on the test data.",
        ),
    ],
)
def test_comparison_ends_though_a_training_diverges_on_a_fresh_seed(contenders, verdict):
    comparison = compare(
        Fragile(OPTIMIZER),
        contenders,
        study_name="c",
        n_trials=2,
        storage="memory://",
        test=0.0,
        n_test_seeds=4,
    )
    assert np.isnan(comparison.contenders["sgd"].test_scores).sum() == 2
    assert comparison.improvements() == {}
    assert comparison.verdict == verdict


def test_spaces_and_objectives_can_be_contenders():
    narrow = OPTIMIZER.override(lr=(1e-3, 2e-3))
    by_space = compare(
        Slope(OPTIMIZER),
        {"wide": OPTIMIZER, "narrow": narrow},
        study_name="c",
        n_trials=3,
        storage="memory://",
    )
    by_objective = compare(
        None,
        {"wide": Slope(OPTIMIZER), "narrow": Slope(narrow)},
        study_name="c",
        n_trials=3,
        storage="memory://",
    )
    for name in ("wide", "narrow"):
        one, other = by_space.contenders[name], by_objective.contenders[name]
        assert one.values.tolist() == other.values.tolist()


@pytest.mark.parametrize("place", ["sqlite:///{}/s.db", "memory://"])
def test_contenders_may_have_one_parameter_on_two_scales(place, tmp_path):
    """A database keeps one kind of distribution a name in each study, also of test trainings."""
    linear = OPTIMIZER.override(lr=FloatDistribution(1e-3, 2e-3))

    def found():
        return compare(
            Slope(OPTIMIZER),
            {"log": OPTIMIZER, "linear": linear},
            study_name="c",
            n_trials=3,
            storage=place.format(tmp_path),
            test=0.01,
            n_test_seeds=3,
        )

    first = found()
    assert [len(each.test_scores) for each in first.contenders.values()] == [3, 3]
    if place.startswith("sqlite"):
        assert str(found()) == str(first)


def test_a_dict_of_ranges_tunes_these_alone_on_the_objectives_scale():
    ranges = {"lr": (1e-3, 2e-3)}
    found = compare(
        Slope(OPTIMIZER), {"narrow": ranges}, study_name="c", n_trials=3, storage="memory://"
    )
    trials = found.contenders["narrow"].study.trials
    tuned = OPTIMIZER.fixed().defaults()
    assert [set(trial.params) for trial in trials] == [{"lr"}] * 3
    assert trials[0].distributions["lr"] == FloatDistribution(1e-3, 2e-3, log=True)
    best = found.contenders["narrow"].best_params
    assert best is not None
    assert {**tuned, "lr": best["lr"]} == best


def test_a_dict_with_a_new_name_adds_it():
    found = compare(
        Slope(OPTIMIZER),
        {"more": {"width": (1, 4)}},
        study_name="c",
        n_trials=2,
        storage="memory://",
    )
    assert set(found.contenders["more"].study.trials[1].params) == {"width"}


def test_studies_that_are_there_make_a_comparison():
    made = compare(
        Slope(OPTIMIZER), ["adam", "sgd"], study_name="c", n_trials=3, storage="memory://"
    )
    studies = {name: each.study for name, each in made.contenders.items()}
    assert str(Comparison.of("again", studies)) == str(made)


def told(values: list[float | None], direction: str = "maximize") -> Comparison:
    """Return a comparison of two contenders, the other one with negated values."""
    contenders = {}
    for name, sign in (("a", 1), ("b", -1)):
        study = optuna.create_study(direction=direction)
        numbers = [math.nan if v is None else sign * v for v in values]
        contenders[name] = Contender(name, study, np.array(numbers), None, None, None)
    return Comparison("c", direction, contenders)


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_best_so_far_passes_over_trials_without_a_value(direction):
    curve = told([None, 1.0, 3.0, None, 2.0, 0.0], direction).best_so_far("a")
    expected = [1, 3, 3, 3, 3] if direction == "maximize" else [1, 1, 1, 1, 0]
    assert math.isnan(curve[0])
    assert curve[1:].tolist() == expected


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
@pytest.mark.parametrize("budget", [1, 2, 4])
def test_best_of_a_budget_is_the_mean_over_all_subsets(direction, budget):
    values = [0.3, 0.1, 0.4, 0.15, 0.9]
    best = max if direction == "maximize" else min
    subsets = [best(subset) for subset in itertools.combinations(values, budget)]
    mean, quantiles = told(values, direction).best_of_budget("a", budget, [0.0, 1.0])
    assert mean == pytest.approx(np.mean(subsets))
    assert sorted(quantiles.tolist()) == [min(subsets), max(subsets)]


def test_pruned_and_failed_trials_count_in_the_budget_but_have_no_value():
    def train(params: Mapping[str, Any], reporter: Reporter) -> float:
        if reporter.trial.number % 3 == 1:
            raise optuna.TrialPruned
        return params["x"]

    objective = FunctionObjective(
        train, search_space=SearchSpace({"x": (0.0, 1.0)}), direction="maximize", max_steps=1
    )
    comparison = compare(None, {"one": objective}, study_name="c", n_trials=6, storage="memory://")
    values = comparison.contenders["one"].values
    assert np.isnan(values).tolist() == [False, True, False] * 2
    states = [trial.state for trial in comparison.contenders["one"].study.trials]
    assert states.count(TrialState.PRUNED) == 2


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: compare(Slope(OPTIMIZER), ["adma"], study_name="c", n_trials=1),
            InvalidArgument,
            "Did you mean",
        ),
        (
            lambda: compare(Slope(OPTIMIZER), [], study_name="c", n_trials=1),
            InvalidArgument,
            "must be several",
        ),
        (
            lambda: compare(
                Slope(SearchSpace({"lr": (0.1, 1.0)})), ["adam"], study_name="c", n_trials=1
            ),
            InvalidArgument,
            "search space with an 'optimizer'",
        ),
        (
            lambda: compare(None, {"a": OPTIMIZER}, study_name="c", n_trials=1),
            InvalidType,
            "SearchSpace for 'a'",
        ),
        (
            lambda: compare(3, {"a": OPTIMIZER}, study_name="c", n_trials=1),
            InvalidType,
            "`objective` must be",
        ),
        (lambda: load_comparison("none", storage="memory://"), StudyNotFound, "No comparison"),
        (lambda: Comparison.of("c", {}), InvalidArgument, "must be several of one direction"),
        (
            lambda: Comparison.of(
                "c", {d[:3]: optuna.create_study(direction=d) for d in ("minimize", "maximize")}
            ),
            InvalidArgument,
            "got 2 with 2 directions",
        ),
        (
            lambda: Comparison.of("c", {"a": optuna.create_study(study_name="plain")}),
            InvalidArgument,
            "got 'plain' without one",
        ),
        (lambda: told([1.0]).best_of_budget("a", 2), InvalidArgument, "at most the 1 trials"),
        (lambda: told([1.0]).best_so_far("z"), InvalidArgument, "`name` must be one of 'a', 'b'"),
    ],
)
def test_bad_arguments_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_comparison_begun_otherwise_is_refused_by_its_own_name():
    storage = InMemoryStorage()
    narrow, log = (
        {"lr": FloatDistribution(0.01, 0.1)},
        {"lr": FloatDistribution(0.01, 0.1, log=True)},
    )
    spaces = [SearchSpace(parameters) for parameters in (narrow, log)]
    objectives = [
        FunctionObjective(
            lambda params, reporter: params["lr"],
            search_space=space,
            direction="minimize",
            max_steps=1,
        )
        for space in spaces
    ]
    settings = {"study_name": "c", "n_trials": 1, "storage": storage}
    compare(None, {"a": objectives[0]}, **settings)
    with pytest.raises(
        RecipeMismatch, match=r"Comparison 'c' exists, and contender 'a'.*"
    ) as refused:
        compare(None, {"a": objectives[1]}, **settings)
    assert "'lr': stored Float" in str(refused.value)
    assert "`compare(…, study_name='c-2')`" in str(refused.value)
    with pytest.raises(RecipeMismatch, match="seed: stored"):
        compare(None, {"a": objectives[0]}, **settings, seed=7)


def test_test_scores_are_read_as_version_0_1_has_stored_them():
    objective, storage = Slope(OPTIMIZER), InMemoryStorage()
    settings = {"study_name": "c", "n_trials": 2, "storage": storage, "test": 0.01}
    study = compare(objective, ["adam"], **settings | {"test": None}).contenders["adam"].study
    stored = {str(study.best_trial.number): {"0": 0.5, "1": None}}
    study.set_user_attr("hpolab:test", stored)
    assert load_comparison("c", storage=storage).contenders["adam"].test_scores[0] == 0.5
    found = compare(objective, ["adam"], **settings)
    assert found.contenders["adam"].test_scores[0] == 0.5
    assert len(objective.fits) == 2  # the seed that diverged once more, and the third
    assert str(compare(objective, ["adam"], **settings)) == str(found)
    assert len(objective.fits) == 2


@pytest.mark.usefixtures("warm_workers")
def test_options_of_run_reach_every_study(tmp_path):
    seen = []
    compare(
        Slope(OPTIMIZER),
        ["adam", "sgd"],
        study_name="c",
        n_trials=2,
        storage="memory://",
        test=0.01,
        callbacks=[lambda study, trial: seen.append(study.study_name)],
    )
    assert seen == ["c-adam"] * 2 + ["c-sgd"] * 2 + ["c-test-seeds"] * 6
    url = f"sqlite:///{tmp_path}/s.db"
    settings = {"n_trials": 2, "test": 0.01}
    one = compare(Slope(OPTIMIZER), ["adam"], study_name="c", storage="memory://", **settings)
    two = compare(Slope(OPTIMIZER), ["adam"], study_name="c", storage=url, n_workers=2, **settings)
    assert two.contenders["adam"].test_scores == one.contenders["adam"].test_scores


@pytest.mark.parametrize(
    ("wrong", "right"), [("n_jobs", "n_workers"), ("name", "study_name"), ("timeout", "timeout_s")]
)
def test_wrong_keyword_names_the_right_one_before_a_study_is_made(wrong, right):
    storage = InMemoryStorage()
    settings = {"study_name": "c", "n_trials": 1, "storage": storage, wrong: 2}
    with pytest.raises(InvalidType, match=f"`compare` has no argument `{wrong}`.*{right}"):
        compare(Slope(OPTIMIZER), ["adam"], **settings)
    assert not optuna.get_all_study_names(storage)


def test_training_that_fails_on_a_fresh_seed_is_tried_once_more_when_called_again():
    class Broken(Slope):
        def fit(self, params, seed):
            model = super().fit(params, seed)
            if len(self.fits) == 2:
                raise OSError("disk full")
            return model

    objective = Broken(OPTIMIZER)
    settings = {"study_name": "c", "n_trials": 1, "storage": InMemoryStorage(), "test": 0.01}
    first = compare(objective, ["adam"], **settings).contenders["adam"]
    assert [math.isnan(score) for score in first.test_scores] == [False, True, False]
    second = compare(objective, ["adam"], **settings).contenders["adam"]
    assert not any(map(math.isnan, second.test_scores))
    assert len(objective.fits) == 4


def test_frame_has_a_row_for_each_contender():
    found = compare(
        Slope(OPTIMIZER),
        ["adam", "sgd"],
        study_name="c",
        n_trials=2,
        storage="memory://",
        test=0.01,
    )
    frame = found.to_frame()
    assert frame["contender"].tolist() == [each.name for each in found.ranking()]
    assert frame["leader_is_better_by"].isna().tolist() == [True, False]
    assert found.ranking()[0].name in found._repr_html_()


@pytest.mark.parametrize("settings", [{"test": 0.01, "n_test_seeds": 3}, {}])
def test_frame_has_what_the_table_shows(settings):
    found = compare(
        Slope(OPTIMIZER),
        ["adam", "sgd"],
        study_name="c",
        n_trials=3,
        storage="memory://",
        **settings,
    )
    frame = found.to_frame().set_index("contender")
    for name, each in found.contenders.items():
        row = frame.loc[name]
        assert row["best_value"] == each.best_value
        gain = abs(each.best_value - each.default_value)
        assert row["unconfirmed_gain"] == pytest.approx(gain)
        if settings:
            assert row["test_score"] == pytest.approx(each.test_score)
            error = np.std(each.test_scores, ddof=1) / math.sqrt(3)
            assert row["test_score_error"] == pytest.approx(error)
    tuned = {
        name
        for each in ("adam", "sgd")
        for name in (optimizer_space(each) | SearchSpace({"hidden": (4, 8)})).names().values()
    }
    shown = {each.removeprefix("params_") for each in frame.columns if each.startswith("params_")}
    assert shown == tuned  # and nothing that is fixed, such as `eps`
    assert "eps" in found.contenders["adam"].best_params
    assert ("test_score" in frame) == bool(settings)
    assert "n_repeats" not in frame


def test_studies_of_a_comparison_are_plain_studies(tmp_path):
    url = f"sqlite:///{tmp_path}/s.db"
    compare(Slope(OPTIMIZER), ["adam"], study_name="c", n_trials=2, storage=url)
    study = make_study("c-adam", storage=url, objective=Slope(OPTIMIZER))
    assert len(study.trials) == 2


LINE = SearchSpace({"x": (0.0, 1.0)})


def identity(params: Mapping[str, Any], reporter: Reporter) -> float:
    return params["x"]


def negative(params: Mapping[str, Any], reporter: Reporter) -> float:
    return -params["x"]


def line(function: Any = identity, space: SearchSpace = LINE, **options: Any) -> FunctionObjective:
    return FunctionObjective(
        function, search_space=space, direction="minimize", max_steps=1, **options
    )


@pytest.mark.parametrize(
    "other",
    [line(negative), line(facts={"data": "b"}), line(metric="loss")],
    ids=["function", "data", "metric"],
)
def test_comparison_of_other_functions_or_data_is_refused_before_a_trial(other):
    storage = InMemoryStorage()
    contenders = {"a": LINE, "b": LINE.override(x=(0.5, 1.0))}
    compare(line(), contenders, study_name="cmp", n_trials=2, storage=storage)
    with pytest.raises(RecipeMismatch, match="Comparison 'cmp' exists"):
        compare(other, contenders, study_name="cmp", n_trials=3, storage=storage)
    assert [len(load_study(f"cmp-{key}", storage=storage).trials) for key in "ab"] == [2, 2]


@pytest.mark.parametrize(
    "mistake",
    [
        {"a": LINE, "b": {"xx": (0.0, 1.0, "log")}},
        {"a": LINE, "typo": SearchSpace({"x": (0.5, 1.0, "log")})},
        {"a": SearchSpace({"x": (0.5, 1.0, "log")}), "b": LINE},
    ],
    ids=["name", "contender", "scale"],
)
def test_corrected_comparison_runs_after_a_first_mistake(mistake, monkeypatch):
    storage = InMemoryStorage()
    with monkeypatch.context() as patch:
        # It is refused once its studies are made.
        patch.setattr("hpolab.analysis.trained.compare.run", lambda *_, **__: 1 / 0)
        with pytest.raises((ZeroDivisionError, InvalidArgument)):
            compare(line(), mistake, study_name="cmp", n_trials=2, storage=storage)
    right = {"a": LINE, "b": LINE.override(x=(0.5, 1.0))}
    compare(line(), right, study_name="cmp", n_trials=2, storage=storage)
    found = load_comparison("cmp", storage=storage)
    assert [(name, len(each.values)) for name, each in found.contenders.items()] == [
        ("a", 2),
        ("b", 2),
    ]


def test_contender_that_cannot_train_is_refused_before_the_others_are_run():
    class Picky(Objective):
        def train(self, params: Mapping[str, Any], reporter: Reporter) -> float:
            return params["x"]

        def check(self) -> None:
            super().check()
            if self.search_space.defaults()["x"] > 0.9:
                raise InvalidArgument("`x` must be below 0.9")

    storage = InMemoryStorage()
    objective = Picky(search_space=LINE, direction="minimize", max_steps=1)
    contenders = {"a": LINE, "b": LINE.override(x=(0.95, 1.0))}
    with pytest.raises(InvalidArgument, match="below"):
        compare(objective, contenders, study_name="cmp", n_trials=2, storage=storage)
    assert optuna.get_all_study_names(storage) == []


@pytest.mark.parametrize(("name", "meant"), [("lrr", "lr"), ("learning_rate", "lr")])
def test_misspelt_parameter_of_a_contender_is_refused(name, meant):
    objective = line(space=SearchSpace({"x": (0.0, 1.0), "lr": (1e-4, 1e-2)}))
    with pytest.raises(InvalidArgument, match=f"got '{name}' for 'b'. Did you mean '{meant}'"):
        compare(
            objective, {"a": {"x": (0.0, 1.0)}, "b": {name: (1e-4, 1e-2)}},
            study_name="cmp", n_trials=2, storage="memory://",
        )  # fmt: skip


def test_scores_on_other_test_data_are_not_taken_for_these():
    storage = InMemoryStorage()
    space = SearchSpace({"optimizer": "adam", "lr": (1e-4, 1e-2)})
    options = {"study_name": "cmp", "n_trials": 2, "storage": storage, "n_test_seeds": 2}
    objective = Slope(space)
    compare(objective, {"a": space}, test=0.0, **options)
    n_fits = len(objective.fits)
    compare(objective, {"a": space}, test=0.0, **options)
    assert len(objective.fits) == n_fits
    with pytest.raises(RecipeMismatch, match=r"`test`: stored '0\.0 "):
        compare(objective, {"a": space}, test=1.0, **options)


def compared_line(storage: InMemoryStorage, study_name: str, part: str) -> None:
    compare(line(), {part: LINE}, study_name=study_name, n_trials=1, storage=storage)


def swept_line(storage: InMemoryStorage, study_name: str, part: str) -> None:
    sweep(line(), {part: {"x": [0.5]}}, study_name=study_name, storage=storage)


@pytest.mark.parametrize("other", [compared_line, swept_line])
@pytest.mark.parametrize("whole", [compared_line, swept_line])
def test_study_of_another_comparison_or_sweep_is_not_taken_for_ones_own(other, whole):
    storage = InMemoryStorage()
    other(storage, "a", "b-c")
    before = [study.user_attrs for study in optuna.get_all_study_summaries(storage)]
    with pytest.raises(RecipeMismatch):
        whole(storage, "a-b", "c")
    assert [study.user_attrs for study in optuna.get_all_study_summaries(storage)] == before
