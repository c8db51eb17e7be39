"""SklearnObjective: what each fidelity reports, prunes, returns and fits, and what is refused."""

from __future__ import annotations

import math
import subprocess
import sys
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from optuna.distributions import FloatDistribution
from optuna.pruners import WilcoxonPruner
from sklearn.datasets import load_diabetes, load_digits, load_iris
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge, SGDClassifier
from sklearn.model_selection import (
    GroupKFold,
    KFold,
    LeaveOneGroupOut,
    RepeatedStratifiedKFold,
    ShuffleSplit,
    StratifiedKFold,
    TimeSeriesSplit,
    cross_val_score,
)
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from hpolab import (
    InvalidArgument,
    InvalidType,
    SearchSpace,
    SklearnObjective,
    load_study,
    make_study,
    run,
)
from hpolab.studies.trials import METRICS_KEY

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Self

    from optuna import Study
    from optuna.trial import FrozenTrial

IRIS = load_iris(return_X_y=True)
DIGITS = tuple(part[:300] for part in load_digits(return_X_y=True))
DIABETES = tuple(part[:150] for part in load_diabetes(return_X_y=True))
CV = StratifiedKFold(4, shuffle=True, random_state=3)
NOTHING = SearchSpace({})
C = SearchSpace({"C": FloatDistribution(1e-4, 1e2, log=True)}, defaults={"C": 1.0})


def same(trials: list[FrozenTrial], others: list[FrozenTrial]) -> bool:
    ours, theirs = (
        [
            (t.state, t.params, t.intermediate_values, t.value, t.user_attrs.get(METRICS_KEY))
            for t in each
        ]
        for each in (trials, others)
    )
    return ours == theirs


# Folds


@pytest.mark.parametrize("metric", ["roc_auc", "neg_log_loss", None])
def test_scoring_is_the_metric_by_its_name_in_scikit_learn(metric: str | None) -> None:
    data = load_iris(return_X_y=True)
    two = (data[0][:100], data[1][:100])
    by_both = [
        SklearnObjective(LogisticRegression(), *two, **{word: metric})
        for word in ("metric", "scoring")
    ]
    assert by_both[0].metric == by_both[1].metric
    assert by_both[0].facts == by_both[1].facts


def test_metric_and_scoring_together_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="`metric` and `scoring` are two words for one"):
        SklearnObjective(
            LogisticRegression(), *load_iris(return_X_y=True), metric="accuracy", scoring="f1_macro"
        )


def test_folds_are_stratified_shuffled_and_the_same_for_each_trial_and_objective(
    fits_of: Callable[..., list[list[int]]],
) -> None:
    rows = np.arange(90).reshape(-1, 1)
    labels = np.repeat([0, 1, 2], 30)

    def fits(**options: Any) -> list[list[int]]:
        return fits_of((rows, labels), **options)

    assert fits(folds=3) == fits(folds=3) != fits(folds=3, seed=1)
    assert [np.bincount(labels[rows]).tolist() for rows in fits(folds=3)] == [[20] * 3] * 3
    assert fits(folds=3)[0] != sorted(labels[:60])
    unseeded = ShuffleSplit(3, test_size=0.1)
    assert fits(folds=unseeded) == fits(folds=unseeded)
    assert unseeded.random_state is None
    assert fits(folds=RepeatedStratifiedKFold(n_splits=3, n_repeats=2))[5]


def test_regression_folds_are_shuffled(
    run_trial: Callable[..., FrozenTrial], reports: Callable[[FrozenTrial], list[float]]
) -> None:
    trial = run_trial(SklearnObjective(Ridge(), DIABETES, folds=3))
    assert reports(trial) != cross_val_score(Ridge(), *DIABETES, cv=3).tolist()
    assert len(reports(trial)) == 3


def test_groups_stay_whole(
    run_trial: Callable[..., FrozenTrial],
    reports: Callable[[FrozenTrial], list[float]],
    fits_of: Callable[..., list[list[int]]],
) -> None:
    groups = np.repeat(np.arange(30), 5)
    rows = np.arange(150).reshape(-1, 1)
    for folds in (5, GroupKFold(5), LeaveOneGroupOut()):
        for fit in fits_of((rows, IRIS[1]), folds=folds, groups=groups.tolist()):
            assert len(fit) == 5 * len(set(groups[fit]))
    regression = SklearnObjective(Ridge(), DIABETES, folds=3, groups=groups)
    expected = cross_val_score(Ridge(), *DIABETES, cv=GroupKFold(3), groups=groups)
    assert reports(run_trial(regression)) == expected.tolist()


def test_time_goes_on(
    run_trial: Callable[..., FrozenTrial], reports: Callable[[FrozenTrial], list[float]]
) -> None:
    splitter = TimeSeriesSplit(4)
    trial = run_trial(SklearnObjective(Ridge(), DIABETES, folds=splitter))
    assert reports(trial) == cross_val_score(Ridge(), *DIABETES, cv=splitter).tolist()


def test_folds_may_be_pairs_of_indices_or_masks(run_trial: Callable[..., FrozenTrial]) -> None:
    pairs = list(KFold(3).split(DIABETES[0]))
    masks = [tuple(np.isin(np.arange(150), part) for part in pair) for pair in pairs]
    values = {run_trial(SklearnObjective(Ridge(), DIABETES, folds=f)).value for f in (pairs, masks)}
    assert values == {cross_val_score(Ridge(), *DIABETES, cv=KFold(3)).mean()}
    assert run_trial(SklearnObjective(Ridge(), DIABETES, folds=iter(pairs))).value in values


def test_wilcoxon_prunes_a_configuration_that_is_worse_on_each_fold(
    plain_study: Callable[..., Study],
) -> None:
    study = plain_study(pruner=WilcoxonPruner())
    objective = SklearnObjective(SVC(), DIGITS, folds=10)
    study.enqueue_trial({"C": 1.0, "gamma": "scale"})
    study.enqueue_trial({"C": 1.0, "gamma": 8.0})
    study.enqueue_trial({"C": 2.0, "gamma": "scale"})
    study.optimize(objective, n_trials=3)
    assert [t.state.name for t in study.trials] == ["COMPLETE", "PRUNED", "COMPLETE"]
    assert list(study.trials[1].intermediate_values) == [0, 1, 2, 3]


# Seeds, copies, refits


def seeds(model: Any) -> set[Any]:
    return {v for k, v in model.get_params().items() if k.endswith("random_state")}


def test_every_random_state_that_is_none_is_seeded() -> None:
    model = make_pipeline(StandardScaler(), BaggingClassifier(DecisionTreeClassifier(), 2))
    objective = SklearnObjective(model, IRIS, search_space=NOTHING)
    assert seeds(objective.fit({}, seed=7)) == {7}
    assert seeds(model) == {None}
    kept = SklearnObjective(DecisionTreeClassifier(random_state=3), IRIS, search_space=NOTHING)
    assert seeds(kept.fit({}, seed=7)) == {3}


@pytest.mark.parametrize(
    ("model", "fidelity"),
    [
        (SGDClassifier(), "folds"),
        (SGDClassifier(), "epochs"),
        (RandomForestClassifier(10, max_depth=2), "trees"),
        (SGDClassifier(), "rows"),
    ],
)
def test_the_seed_decides_a_training_and_nothing_else_does(model: Any, fidelity: str) -> None:
    steps = {"max_steps": 3} if fidelity in ("epochs", "trees") else {}
    objective = SklearnObjective(model, IRIS, folds=3, fidelity=fidelity, **steps)
    params = objective.search_space.defaults()
    state = np.random.get_state()[1].copy()

    def probe(seed: int) -> tuple[float, list[int]]:
        value = objective.train(params, objective.reporter(seed=seed))
        return value, objective.fit(params, seed=seed).predict(IRIS[0]).tolist()

    assert probe(1) == probe(1) != probe(2)
    assert np.array_equal(np.random.get_state()[1], state)


def test_the_estimator_given_is_left_as_it_is() -> None:
    model = LogisticRegression(C=5.0, n_jobs=None)
    objective = SklearnObjective(model, IRIS, search_space=C)
    model.set_params(C=1e-9)
    assert objective.fit({"C": 2.0}, seed=0).C == 2.0
    assert not hasattr(model, "coef_")
    assert model.C == 1e-9
    assert SklearnObjective(RandomForestClassifier(5, n_jobs=2), IRIS).fit({}, seed=0).n_jobs == 2


def test_a_fitted_model_is_evaluated_under_the_name_of_its_metric() -> None:
    def hits(model: Any, X: Any, y: Any) -> float:
        return float((model.predict(X) == y).sum())

    for metric, name, scale in [
        ("accuracy", "accuracy", 1),
        (None, "score", 1),
        (hits, "hits", 150),
    ]:
        objective = SklearnObjective(SVC(), IRIS, metric=metric)
        model = objective.fit({"C": 1.0, "gamma": "scale"}, seed=0)
        assert objective.evaluate(model, IRIS) == {name: model.score(*IRIS) * scale}
    with pytest.raises(InvalidArgument, match="`data` inputs and targets"):
        objective.evaluate(model, (IRIS[0], IRIS[1][:5]))
    with pytest.raises(InvalidArgument, match="`seed` must be 0 or above"):
        objective.fit({"C": 1.0}, seed=-1)


def test_conditional_parameters_reach_the_estimator(plain_study: Callable[..., Study]) -> None:
    space = SearchSpace.choice(
        "svc__kernel",
        {"rbf": {"svc__gamma": (1e-3, 1.0, "log")}, "linear": {"svc__C": 2.0}},
    )
    objective = SklearnObjective(make_pipeline(StandardScaler(), SVC()), IRIS, search_space=space)
    study = plain_study()
    study.optimize(objective, n_trials=6)
    assert {t.params["svc__kernel"] for t in study.trials} == {"rbf", "linear"}


# In a study


class Interrupted(RandomForestClassifier):
    """A forest that never converges, whose user presses Ctrl-C in its nth fit."""

    n_fits, interrupt_at = 0, -1

    def fit(self, X: Any, y: Any, **options: Any) -> Self:
        Interrupted.n_fits += 1
        if Interrupted.n_fits == Interrupted.interrupt_at:
            raise KeyboardInterrupt
        warnings.warn("not there yet", ConvergenceWarning, stacklevel=1)
        return super().fit(X, y, **options)


@pytest.mark.parametrize(
    ("fidelity", "options"),
    [("folds", {}), ("rows", {}), ("trees", {"max_steps": 3})],
)
def test_stopped_study_ends_as_the_uninterrupted_one(
    tmp_path: Path, fidelity: str, options: dict[str, Any]
) -> None:
    def objective() -> SklearnObjective:
        model = Interrupted(3)
        return SklearnObjective(
            model, IRIS, folds=3, fidelity=fidelity, checkpoint_seconds=0, **options
        )

    Interrupted.n_fits, Interrupted.interrupt_at = 0, -1
    whole = make_study("s", storage="memory://", sampler="tpe", direction="maximize", seed=1)
    run(whole, objective(), n_trials=3, show_progress_bar=False)
    n_fits = Interrupted.n_fits
    Interrupted.n_fits, Interrupted.interrupt_at = 0, n_fits // 2 + 1
    url = f"sqlite:///{tmp_path}/s.db"
    study = make_study("s", storage=url, sampler="tpe", direction="maximize", seed=1)
    with pytest.raises(KeyboardInterrupt):
        run(study, objective(), n_trials=3, show_progress_bar=False)
    resumed = load_study("s", storage=url)
    assert any(not t.state.is_finished() for t in resumed.trials)
    run(resumed, objective(), n_trials=3, show_progress_bar=False)
    assert same(whole.trials, resumed.trials)
    if fidelity != "trees":  # no finished fold is fitted again, of rows no finished part
        rehearsal = 1  # of the run that resumes
        assert Interrupted.n_fits <= n_fits + rehearsal + (3 if fidelity == "rows" else 1)


@pytest.mark.usefixtures("warm_workers")
def test_workers_share_a_study(run_trial: Callable[..., FrozenTrial], tmp_path: Path) -> None:
    study = make_study("s", storage=f"sqlite:///{tmp_path}/s.db", direction="maximize", seed=0)
    objective = SklearnObjective(make_pipeline(StandardScaler(), SVC()), IRIS, folds=3)
    run(study, objective, n_trials=4, n_workers=2, show_progress_bar=False)
    assert sum(t.state.is_finished() for t in study.trials) == 4
    assert study.trials[0].params == {"svc__C": 1.0, "svc__gamma": "scale"}
    expected = run_trial(objective)
    assert study.trials[0].value == expected.value


# What is refused before a trial

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"train": (IRIS[0], IRIS[1][:9])}, r"`train` inputs .* one length, got 150 and 9"),
    ({"train": (IRIS[0][:0], IRIS[1][:0])}, r"`train` must hold at least one row"),
    (
        {"estimator": Ridge(), "train": (IRIS[0][:3], [1.0, math.nan, 2.0])},
        r"`train` targets must be finite, got 1 NaN",
    ),
    (
        {"train": (IRIS[0][:4], np.array(["a", None, "b", None], dtype=object))},
        r"`train` targets must not be missing, got 2",
    ),
    (
        {"train": (IRIS[0][:3], pd.Series(["a", pd.NA, "b"], dtype="string"))},
        r"`train` targets must not be missing, got 1",
    ),
    ({"train": (IRIS[0][:50], IRIS[1][:50])}, r"targets must take at least two values, got only 0"),
    ({"train": (IRIS[0], IRIS[0][:, 0])}, r"targets must be labels for a classifier, .* regressor"),
    (
        {"train": (IRIS[0][:53], IRIS[1][:53])},
        r"`train` must hold each class at least as often as .* folds, 5, got 1 3 times",
    ),
    ({"folds": TimeSeriesSplit(3)}, r"`folds` must fit every class .* fold 0 without"),
    ({"folds": 1}, r"`folds` must be 2 or above and at most the 150 rows, got 1"),
    ({"folds": 0}, r"`folds` must be 1 or above, got 0"),
    ({"folds": []}, r"`folds` must hold at least one pair"),
    ({"folds": [([0, 1], [1, 2])]}, r"`folds` must keep .* apart, got 1 rows .* such as row 1"),
    ({"folds": [([0, 150], [1])]}, r"`folds` must hold rows of 0 \.\. 149, got 0 \.\. 150"),
    ({"folds": [([0.5], [1])]}, r"`folds` must hold row indices, .* float64"),
    ({"folds": GroupKFold(3)}, r"`folds` must be able to split the 150 rows, got GroupKFold"),
    ({"folds": 9, "groups": np.arange(150) % 3}, r"`folds` must be at most .* groups, 3, got 9"),
    ({"groups": [1, 2]}, r"`groups` must have one value for each of the 150 rows"),
    ({"sample_weight": [1.0]}, r"`sample_weight` must have one value for each of the 150 rows"),
    ({"sample_weight": np.full(150, -1.0)}, r"`sample_weight` must be finite, 0 or above"),
    (
        {"estimator": KNeighborsClassifier(), "sample_weight": np.ones(150)},
        r"`sample_weight` must be None .* KNeighborsClassifier",
    ),
    ({"metric": "acuracy"}, r"`metric` .* got 'acuracy'\. Did you mean 'accuracy'\?"),
    ({"fidelity": "epoch"}, r"`fidelity` .* got 'epoch'\. Did you mean 'epochs'\?"),
    ({"search_space": SearchSpace({"c": 1.0})}, r"`search_space` .* got 'c'\."),
    ({"search_space": SearchSpace({"max_itr": 9})}, r"got 'max_itr'\. Did you mean 'max_iter'"),
    (
        {"estimator": make_pipeline(StandardScaler(), SVC()), "search_space": C},
        r"parameters of Pipeline, got 'C'\. Did you mean 'svc__C'\?",
    ),
    (
        {"search_space": SearchSpace.choice("C", {"a": SearchSpace({"gama": (0.0, 1.0)})})},
        r"got 'gama'",
    ),
    (
        {"estimator": DummyClassifier()},
        r"`estimator` must be one of LogisticRegression, .* got DummyClassifier",
    ),
    ({"seed": -1}, r"`seed` must be 0 or above, got -1"),
    ({"patience": 2}, r"`patience` must be None under fidelity='folds'"),
    ({"max_steps": 2, "fidelity": "rows"}, r"`max_steps` must be None under fidelity='rows'"),
    ({"batch_size": 5, "fidelity": "trees"}, r"`batch_size` must be None under fidelity='trees'"),
    ({"fractions": (0.5, 1), "fidelity": "epochs"}, r"`fractions` must be None under"),
    ({"fractions": (0.5, 0.9), "fidelity": "rows"}, r"`fractions` must be above 0 and end with 1"),
    ({"fractions": (0.5, 0.6, 1), "fidelity": "rows"}, r"`fractions` must grow"),
    ({"fractions": (0.01, 1), "fidelity": "rows"}, r"`fractions` must leave at least 3 rows"),
    ({"fidelity": "epochs"}, r"`fidelity` must not be 'epochs' .* got SVC"),
    ({"fidelity": "trees"}, r"`fidelity` must not be 'trees' .* got SVC"),
    (
        {"fidelity": "trees", "estimator": AdaBoostClassifier(), "search_space": NOTHING},
        r"`fidelity` must not be 'trees' .* got AdaBoostClassifier",
    ),
    (
        {"fidelity": "trees", "estimator": RandomForestClassifier(5)},
        r"`max_steps` must be at most the 5 trees",
    ),
    (
        {
            "fidelity": "trees",
            "estimator": GradientBoostingClassifier(),
            "search_space": SearchSpace({"n_estimators": (1, 9)}),
        },
        r"`search_space` must not tune 'n_estimators'",
    ),
    (
        {"fidelity": "trees", "estimator": GradientBoostingClassifier(n_iter_no_change=3)},
        r"`estimator` must not stop early itself .* n_iter_no_change=3",
    ),
    (
        {"fidelity": "trees", "estimator": HistGradientBoostingClassifier(early_stopping=True)},
        r"`estimator` must not stop early itself .* early_stopping=True",
    ),
    (
        {"fidelity": "epochs", "estimator": SGDClassifier(), "max_steps": 0},
        r"`max_steps` must be 1 or above, got 0",
    ),
    (
        {
            "fidelity": "epochs",
            "estimator": OneVsRestClassifier(SGDClassifier()),
            "search_space": NOTHING,
            "sample_weight": np.ones(150),
        },
        r"`sample_weight` must be None .* `partial_fit` takes none",
    ),
]


@pytest.mark.parametrize(("options", "message"), REFUSED)
def test_bad_arguments_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        SklearnObjective(**{"estimator": SVC(), "train": IRIS, **options})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"estimator": SVC}, r"`estimator` must be an estimator, got the class SVC: take SVC\(\)"),
        ({"estimator": object()}, r"`estimator` must be a scikit-learn estimator, .* no `fit`"),
        ({"train": IRIS[0]}, r"`y` must be given where `train` is not a pair \(X, y\), got None"),
        ({"folds": "five"}, r"`folds` must be an int, a splitter .* got str"),
        ({"folds": 2.5}, r"`folds` must be an int, a splitter .* got float"),
        ({"folds": [1, 2]}, r"`folds` must hold \(train, valid\) pairs .* got int"),
        ({"sample_weight": ["a"] * 150}, r"`sample_weight` must hold numbers"),
        ({"metric": ["accuracy"]}, r"`metric` must be .* got list"),
        ({"search_space": ["C"]}, r"`search_space` must be a SearchSpace or a dict .* got list"),
    ],
)
def test_arguments_of_a_wrong_type_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidType, match=message):
        SklearnObjective(**{"estimator": SVC(), "train": IRIS, **options})


def test_a_missing_package_is_named_with_its_extra() -> None:
    code = (
        "import sys\nsys.modules['sklearn'] = None\n"
        "try:\n    from hpolab import SklearnObjective\n"
        "except ImportError as error:\n    print(error)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.startswith("`SklearnObjective` needs scikit-learn")
    assert "hpolab[sklearn]" in shown.stdout
