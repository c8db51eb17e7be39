"""SklearnObjective: a scikit-learn estimator, its data and a search space make an objective."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import clone, is_classifier
from sklearn.utils.validation import has_fit_parameter

from hpolab.errors import InvalidArgument, InvalidType, check_count, one_of
from hpolab.fingerprint import data_fingerprint
from hpolab.identity import estimator_settings, function_settings, plain_fact
from hpolab.keywords import checks_keywords, given_as
from hpolab.objectives.base import ROW_GROUP, Objective
from hpolab.objectives.folds import digest_of_folds, folds_of, make_folds
from hpolab.search_space.space import SearchSpace
from hpolab.seeding import check_seed
from hpolab.sklearn.by_row import is_by_group, row_scores
from hpolab.sklearn.data import open_rows
from hpolab.sklearn.estimators import (
    find_scorer,
    is_pairwise,
    n_threads_of,
    open_pair,
    pair_of,
    seeded,
)
from hpolab.sklearn.fidelity import FIDELITIES, Epochs, Folds, RowParts, Trees, grown_argument
from hpolab.sklearn.rehearsal import rehearse
from hpolab.sklearn.scoring import can_score, check_parts
from hpolab.sklearn.space import estimator_space, space_around
from hpolab.sklearn.training import CrossValidation, SklearnTask, last_step
from hpolab.sklearn.unread import refuse_unread, trained_of
from hpolab.trial.reporter import ReporterOptions, options_of_reporter

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
    from typing import Unpack

    from numpy.typing import ArrayLike, NDArray

    from hpolab.sklearn.fidelity import Fidelity
    from hpolab.trial.reporter import Reporter

__all__ = ["SklearnObjective"]

_DEFAULT_STEPS = {"epochs": 20, "trees": 10}
_DEFAULT_FOLDS = 5
_DEFAULT_FRACTIONS = (1 / 9, 1 / 3, 1.0)

# What can judge the reports of each fidelity.
_PRUNERS = {
    "folds": "race",
    "fold_means": "median",
    "epochs": "median",
    "trees": "median",
    "rows": "hyperband",
}


class SklearnOptions(ReporterOptions, total=False):
    """What else `SklearnObjective` takes by name."""

    cv: Any
    scoring: str | Callable[[Any, Any, Any], float] | None
    max_steps: int | None
    batch_size: int | None
    fractions: Sequence[float] | None


class SklearnObjective(Objective):
    """Cross-validates a scikit-learn estimator in each trial.

    A trial sets its parameters on a copy of the estimator and returns the mean score over the
    folds, which are the same rows for every trial. Every ``random_state`` of the estimator that is
    None, in the steps of a Pipeline too, is seeded by the trial; ``n_jobs`` stays as it is. A fit
    that does not converge counts all the same, without its warning; how many did is stored with
    the trial, as `n_unconverged` beside `fold_std` in its metrics. A fit that meets NaN or
    infinity in its own weights or predictions is one that diverged.

    What is reported, and so pruned, is the ``fidelity``:

    - "folds": each fold's own score, at the fold's number. `pruner="race"` compares them fold by
      fold with the best trial's, and gives up what will hardly end better. (`"wilcoxon"` asks
      whether it is significantly worse, for which it takes four folds at least, and ten to be of
      use. A median of the scores at a step is a weak rule here, as folds differ in difficulty.)
    - "fold_means": the mean over the folds so far, for every other pruner: median, patient.
    - "epochs": the mean over all folds after each epoch of ``partial_fit``; the transformers of a
      Pipeline are fitted once. The value is the best epoch's.
    - "trees": the mean over all folds as the trees of a `warm_start` ensemble grow to the
      estimator's `n_estimators` (`max_iter` for histogram gradient boosting, whose own early
      stopping "auto" is then off). The value is the best step's.
    - "rows": the mean over all folds, fitted on growing parts of their rows, each within the next,
      scored on the same. A step counts the smallest part: 1, 3, 9 for a ninth, a third and the
      whole, the rungs of `pruner="hyperband"`. Those of "asha" are 1, 4, 16: give it
      ``fractions=(1 / 16, 1 / 4, 1)``. The value is that of the last part.

    Take it for a study that prunes, stops and resumes like every other of hpolab's, and whose
    workers are processes. Take ``optuna_integration.OptunaSearchCV`` where code wants an estimator,
    with ``fit``, ``predict`` and ``best_params_``, in place of ``GridSearchCV``. That one prunes
    epochs of ``partial_fit`` only, of an estimator that is no Pipeline; asks the splitter for its
    folds again every epoch, so that one that shuffles without ``random_state`` scores rows it has
    been fitted on; leaves folds whose fit failed out of a trial's mean; knows no conditional
    parameters; and runs its workers as threads. Given a `study` it adds `n_trials` to it each time.

    The objective can be pickled if the estimator, the data and any callables can.

    Args:
        estimator: Any estimator or Pipeline; it is left as it is.
        train: (inputs, targets) with n rows each, as arrays, sparse matrices, data frames of
            pandas or polars, or lists; or the inputs alone, beside ``y``. A precomputed kernel or
            distances, (n, n), are cut by rows and columns.
        y: The targets, where ``train`` is the inputs alone.
        folds: How many (stratified for classifiers, shuffled, and whole groups where there are
            any), 5 by default; a splitter of scikit-learn; or (train, valid) pairs of row indices.
            ``cv``, scikit-learn's word, is taken too.
        groups: (n,) what group a row belongs to.
        sample_weight: (n,) given to ``fit``, or to that of a Pipeline's last step; scores are not
            weighted.
        search_space: What is suggested, by the estimator's own names, ``step__name`` in a
            Pipeline. None takes `estimator_space(estimator)`, for the usual estimators.
        metric: A scorer's name as `sklearn.metrics.get_scorer_names` lists it, or (estimator,
            inputs, targets) -> number, more is better; None takes ``estimator.score``. It must tell
            models apart on each fold, which an AUC does not where one class is. ``scoring``,
            scikit-learn's word, is taken too.
        fidelity: "folds", "fold_means", "epochs", "trees" or "rows".
        seed: Seeds the folds, so that a resumed study has the same.
        **settings: Of a fidelity: ``max_steps``, epochs (20) or steps in which trees grow (10) of
            a full training; ``batch_size`` for "epochs", rows given to one call of
            ``partial_fit``, all by default; ``fractions`` for "rows", the growing parts, of which
            the last is 1. And ``patience``, for "epochs" and "trees" alone, and the others of
            `ReporterSettings`. A trial that is taken up again has the scores of its checkpoint;
            epochs and trees are trained again from the start, to the same values.

    Raises:
        InvalidArgument: If an argument is out of its range or set of names, targets are missing or
            constant, rows cannot be split so, a class is missing in a fold, the metric says nothing
            of a fold, the search space has a parameter that the estimator has not, or the estimator
            cannot be trained by this fidelity.
        InvalidType: If an argument is of the wrong type.

    Example:
        >>> import optuna
        >>> from sklearn.datasets import load_iris
        >>> from sklearn.pipeline import make_pipeline
        >>> from sklearn.preprocessing import StandardScaler
        >>> from sklearn.svm import SVC
        >>> objective = SklearnObjective(
        ...     make_pipeline(StandardScaler(), SVC()), *load_iris(return_X_y=True), folds=10
        ... )
        >>> list(objective.search_space.distributions())
        ['svc__C', 'svc__gamma']
        >>> study = optuna.create_study(
        ...     direction="maximize",
        ...     sampler=optuna.samplers.RandomSampler(seed=0),
        ...     pruner=optuna.pruners.WilcoxonPruner(),
        ... )
        >>> study.optimize(objective, n_trials=2)
        >>> study.best_value > 0.9
        True
        >>> model = objective.fit_best(study)
        >>> objective.evaluate(model, load_iris(return_X_y=True))["score"] > 0.9
        True
    """

    @checks_keywords(SklearnOptions)
    def __init__(
        self,
        estimator: Any,
        train: Any,
        y: Any = None,
        *,
        folds: int | Any | Iterable[tuple[ArrayLike, ArrayLike]] | None = None,
        groups: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        search_space: SearchSpace | Mapping[str, Any] | None = None,
        metric: str | Callable[[Any, Any, Any], float] | None = None,
        fidelity: str = "folds",
        seed: int = 0,
        **settings: Unpack[SklearnOptions],
    ) -> None:
        _check_estimator(estimator)
        one_of("fidelity", fidelity, FIDELITIES)
        _check_options(fidelity, settings)
        check_seed(seed)
        self._estimator = clone(estimator)
        metric = given_as("metric", metric, "scoring", settings)
        self._scorer = find_scorer(self._estimator, metric)
        classifier = is_classifier(estimator)
        self.n_threads = n_threads_of(estimator)
        train = pair_of(train, y)
        rows = open_rows(train, sample_weight=sample_weight, groups=groups, classifier=classifier)
        folds = folds_of(folds, settings)
        made = make_folds(
            _DEFAULT_FOLDS if folds is None else folds,
            np.asarray(rows.targets),
            labels=rows.labels,
            groups=rows.groups,
            seed=seed,
            inputs=rows.inputs,
        )
        self._task = SklearnTask(rows, made, self._scorer, seed, is_pairwise(self._estimator))
        self._check_task(metric)
        self._fidelity = _make_fidelity(fidelity, len(made), settings)
        if search_space is None:
            search_space = self._usual_space(fidelity)
        elif not isinstance(search_space, SearchSpace) and isinstance(search_space, Mapping):
            search_space = space_around(estimator, search_space)
        super().__init__(
            search_space=search_space,
            direction="maximize",
            max_steps=self._fidelity.max_steps,
            metric=_metric_name(metric),
            **options_of_reporter(settings),
        )
        self.default_pruner = _PRUNERS[fidelity]
        if is_by_group(metric, estimator, np.asarray(rows.targets)):
            self.scored_unit = ROW_GROUP
        self.facts = {
            "estimator": type(last_step(estimator)[1]).__name__,
            "metric": self.metric,
            "folds": digest_of_folds(made),
            "fidelity": fidelity,
        }
        self._fidelity_name = fidelity
        self._metric_given = metric
        self._settings_facts = {
            "train": data_fingerprint((rows.inputs, rows.targets)),
            "groups": plain_fact(rows.groups),
            "sample_weight": plain_fact(rows.sample_weight),
            "fidelity settings": plain_fact(
                {name: settings.get(name) for name in ("batch_size", "fractions")}
            ),
            "seed": seed,
        }
        self._check_search_space()
        self._fidelity.check(self._task, self._new_model(self.search_space.defaults(), seed=0))
        if sample_weight is not None and not has_fit_parameter(
            last_step(estimator)[1], "sample_weight"
        ):
            raise InvalidArgument(
                "`sample_weight` must be None for an estimator whose `fit` takes none, got one for "
                f"{type(last_step(estimator)[1]).__name__}."
            )

    def _training_in_words(self) -> str:
        rows = self._task.rows
        shape = " x ".join(f"{n:,}" for n in np.shape(rows.inputs)) or f"{len(rows.targets):,} rows"
        return f"{self.facts['estimator']} on {shape}, {len(self._task.folds)} folds"

    def train(self, params: Mapping[str, Any], reporter: Reporter) -> float:
        """Cross-validate one configuration; see the class for what is reported and returned."""
        return self._fidelity.train(self._training(params, reporter))

    @checks_keywords()
    def fit(self, params: Mapping[str, Any], seed: int = 0) -> Any:
        """Return an estimator with ``params``, fitted on all rows.

        Under "epochs" and "trees" the folds are trained again first, to find the number of epochs
        or trees with the best score: the one that a trial of these parameters and this seed has.

        Args:
            params: A trial's params, such as ``study.best_params``, or the estimator's own.
            seed: Seeds everything random, 0 or above.

        Raises:
            Diverged: If scikit-learn, or a score, meets NaN or infinity in it.
            InvalidArgument: If ``seed`` is below 0, or a trial's parameter is missing.
        """
        check_seed(seed)
        params = self._configuration(params)
        return self._fidelity.fit(self._training(params, self.reporter(seed=seed)))

    @checks_keywords()
    def evaluate(self, model: Any, data: Any, y: Any = None) -> dict[str, float]:
        """Return the score of a fitted estimator under the metric's name.

        Args:
            model: From `fit` or `fit_best`.
            data: (inputs, targets), or the inputs alone, beside ``y``.
            y: The targets, where ``data`` is the inputs alone.
        """
        data = data if y is None else (data, y)
        return {self.metric: float(self._scorer(model, *open_pair("data", data)))}

    @checks_keywords()
    def row_scores(self, model: Any, data: Any, y: Any = None) -> NDArray[np.float64] | None:
        """Return what each row contributes to the score; see `Objective.row_scores`.

        Where the score is no mean over rows and has no closed form, as of a scorer of the user's
        own, they are those of random groups of rows: predictions are made once, and scored without
        each group.
        """
        data = data if y is None else (data, y)
        inputs, targets = open_pair("data", data)
        return row_scores(model, inputs, targets, scorer=self._scorer, metric=self._metric_given)

    def check(self) -> None:
        """Fit and score the space's defaults on a few rows.

        Raises:
            InvalidArgument: If the default lies outside the space, it cannot be set, fitted or
                scored, or the scorer reads what the estimator has not with a choice of the space.
        """
        super().check()
        model = self._new_model(self.search_space.defaults(), seed=0)
        rehearse(self._task, model, self.metric)
        names = self.search_space.names()
        for name, choice in self._unscored_choices(self.search_space, model):
            raise InvalidArgument(
                f"`search_space` must leave out {names[name]}={choice!r}, with which the estimator "
                f"cannot be scored by {self.metric!r}, got it among the choices."
            )

    def _known_facts(self) -> dict[str, Any]:
        tuned = self.search_space.trainer_names()
        return {
            **super()._known_facts(),
            **self._settings_facts,
            "estimator settings": estimator_settings(self._estimator, leave_out=tuned),
            "metric settings": function_settings(self._metric_given)
            if callable(self._metric_given)
            else self.metric,
        }

    def _functions(self) -> dict[str, Any]:
        # Of the user's own, such as what a FunctionTransformer calls, or a class of a step.
        settings = self._estimator.get_params(deep=True)
        parts = [self._estimator, *(settings[name] for name in sorted(settings))]
        codes = [type(each) if hasattr(each, "get_params") else each for each in parts]
        functions: dict[str, Any] = {"estimator": partial(list, *filter(callable, codes))}
        return functions | ({"metric": self._metric_given} if callable(self._metric_given) else {})

    def _training(self, params: Mapping[str, Any], reporter: Reporter) -> CrossValidation:
        return CrossValidation(self._task, self._new_model(params, reporter.seed), reporter)

    def _new_model(self, params: Mapping[str, Any], seed: int) -> Any:
        return seeded(clone(self._estimator).set_params(**params), seed)

    def _known_names(self) -> list[str]:
        return list(self._estimator.get_params(deep=True))

    def _trained(self) -> Mapping[str, tuple[Collection[Any], Collection[str]]]:
        return trained_of(self.search_space, self._estimator)

    def _check_task(self, metric: Any) -> None:
        """Refuse folds of which a part says nothing, and a kernel that is not square."""
        task, rows = self._task, self._task.rows
        if task.pairwise and np.shape(rows.inputs) != (len(rows), len(rows)):
            raise InvalidArgument(
                "`train` inputs must be the rows' own kernel or distances for this estimator, of "
                f"shape {(len(rows), len(rows))}, got {np.shape(rows.inputs)}."
            )
        for i, fold in enumerate(task.folds):
            if rows.sample_weight is not None and not rows.sample_weight[fold.train].any():
                raise InvalidArgument(
                    "`sample_weight` must be above 0 somewhere in the fitted rows of each fold, "
                    f"got 0 for all {len(fold.train)} of fold {i}."
                )
        check_parts(
            "folds",
            {f"fold {i}": fold.valid for i, fold in enumerate(task.folds)},
            np.asarray(rows.targets),
            model=self._estimator,
            scorer=self._scorer,
            metric=metric,
            name=_metric_name(metric),
        )

    def _usual_space(self, fidelity: str) -> SearchSpace:
        """Return the estimator's usual space without what cannot be trained or scored here."""
        grown = grown_argument(last_step(self._estimator)[1]) if fidelity == "trees" else None
        space = estimator_space(
            self._estimator,
            n_rows=self._fidelity.n_fitted(self._task),
            fixed=[] if grown is None else [grown],
        )
        if not space.distributions():
            raise InvalidArgument(
                "`search_space` must be given where the usual space has nothing to tune, got None "
                f"for {self._estimator!r}."
            )
        left_out = list(self._unscored_choices(space, self._estimator))
        for name in dict.fromkeys(name for name, _ in left_out):
            choices = getattr(space.distributions()[name], "choices", ())
            space = space.override(
                **{name: [each for each in choices if (name, each) not in left_out]}
            )
        return space

    def _unscored_choices(self, space: SearchSpace, model: Any) -> Iterator[tuple[str, Any]]:
        """Yield (name, choice) with which the scorer misses a method that ``model`` has."""
        targets = self._task.rows.labels
        if targets is None or not can_score(self._scorer, model, targets):
            return
        names = space.names()
        for name, distribution in space.distributions().items():
            for choice in getattr(distribution, "choices", ()):
                try:
                    other = clone(model).set_params(**{names[name]: choice})
                except (TypeError, ValueError):
                    continue
                if not can_score(self._scorer, other, targets):
                    yield name, choice

    def _check_search_space(self) -> None:
        known = self._estimator.get_params(deep=True)
        for name in self.search_space.trainer_names():
            if name not in known:
                raise InvalidArgument(
                    f"`search_space` must hold parameters of {type(self._estimator).__name__}, got "
                    f"{name!r}.{_near(name, known)}"
                )
        refuse_unread(self.search_space, self._estimator)
        if self._fidelity_name == "trees":
            prefix, learner = last_step(self._estimator)
            grown = f"{prefix}{grown_argument(learner)}"
            if grown in self.search_space.names().values():
                raise InvalidArgument(
                    f"`search_space` must not tune {grown!r} under fidelity='trees', which grows "
                    "it in every trial: set it on the estimator."
                )


def _check_estimator(estimator: Any) -> None:
    if isinstance(estimator, type):
        raise InvalidType(
            f"`estimator` must be an estimator, got the class {estimator.__name__}: take "
            f"{estimator.__name__}()."
        )
    for method in ("fit", "get_params", "set_params"):
        if not hasattr(estimator, method):
            raise InvalidType(
                f"`estimator` must be a scikit-learn estimator, got {type(estimator).__name__}, "
                f"which has no `{method}`."
            )


# What some fidelities read, and others do not.
_OF_FIDELITIES = ("max_steps", "batch_size", "fractions", "patience")


def _check_options(fidelity: str, settings: Mapping[str, Any]) -> None:
    """Refuse an option that the fidelity does not read."""
    read = {
        "epochs": {"max_steps", "batch_size", "patience"},
        "trees": {"max_steps", "patience"},
        "rows": {"fractions"},
    }.get(fidelity, set())
    for name in _OF_FIDELITIES:
        value = settings.get(name)
        if value is not None and name not in read:
            raise InvalidArgument(
                f"`{name}` must be None under fidelity={fidelity!r}, which does not read it, got "
                f"{value!r}."
            )


def _make_fidelity(name: str, n_folds: int, settings: SklearnOptions) -> Fidelity:
    if name in ("folds", "fold_means"):
        return Folds(n_folds, mean=name == "fold_means")
    if name == "rows":
        fractions = settings.get("fractions")
        return _open_parts(_DEFAULT_FRACTIONS if fractions is None else fractions)
    n_steps = settings.get("max_steps")
    n_steps = _DEFAULT_STEPS[name] if n_steps is None else n_steps
    check_count("max_steps", n_steps)
    if name == "trees":
        return Trees(n_steps)
    batch_size = settings.get("batch_size")
    if batch_size is not None:
        check_count("batch_size", batch_size)
    return Epochs(n_steps, batch_size)


def _open_parts(fractions: Sequence[float]) -> RowParts:
    opened = tuple(map(float, fractions))
    if not opened or min(opened) <= 0 or opened[-1] != 1:
        raise InvalidArgument(f"`fractions` must be above 0 and end with 1, got {opened}.")
    steps = tuple(round(fraction / opened[0]) for fraction in opened)
    if sorted(set(steps)) != list(steps):
        raise InvalidArgument(
            f"`fractions` must grow, by about the first of them or more each time, got {opened}."
        )
    return RowParts(steps[-1], opened, steps)


def _near(name: str, known: Iterable[str]) -> str:
    last = name.rpartition("__")[2]
    same = [each for each in known if each.rpartition("__")[2] == last]
    near = same[:3] or get_close_matches(name, list(known), n=3, cutoff=0.5)
    return f" Did you mean {' or '.join(map(repr, near))}?" if near else ""


def _metric_name(metric: Any) -> str:
    if isinstance(metric, str):
        return metric
    return "score" if metric is None else str(getattr(metric, "__name__", "metric"))
