"""LightGBMObjective: data, LightGBM's objective and metric, and a search space."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import lightgbm as lgb
import numpy as np
import optuna

from hpolab.cores import n_threads_asked
from hpolab.errors import InvalidArgument, check_count, one_of
from hpolab.fingerprint import data_fingerprint
from hpolab.identity import function_settings, plain_fact
from hpolab.keywords import checks_keywords
from hpolab.lightgbm.arguments import (
    LightGBMOptions,
    open_objective,
    read_data,
    refuse_checkpoints,
    same_in_all_trials,
    usual_rounds,
)
from hpolab.lightgbm.bins import Bins
from hpolab.lightgbm.boosting import Boosting, predict_raw, train_booster
from hpolab.lightgbm.by_row import is_by_group, row_scores
from hpolab.lightgbm.defaults import default_space, is_forest
from hpolab.lightgbm.metrics import Metrics
from hpolab.lightgbm.model import FoldModels, LightGBMModel
from hpolab.lightgbm.names import all_names, canonical, main_name, of_bins, of_objective
from hpolab.lightgbm.parts import blind_metrics, check_scored, check_trained
from hpolab.lightgbm.splits import check_fold, split_rows
from hpolab.lightgbm.table import class_weights
from hpolab.lightgbm.unread import BOOSTINGS, refuse_unread
from hpolab.logs import get_logger
from hpolab.objectives.base import ROW_GROUP, Objective
from hpolab.objectives.epochs import train_steps
from hpolab.objectives.folds import Fold, digest_of_folds, folds_of
from hpolab.search_space.reach import values_of
from hpolab.search_space.space import SearchSpace, as_space
from hpolab.seeding import check_seed
from hpolab.studies.trials import METRICS_KEY
from hpolab.trial.reporter import (
    Reporter,
    ReporterSettings,
    options_of_reporter,
    training_seed,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from typing import Self, Unpack

    from numpy.typing import NDArray
    from optuna import Study
    from optuna.trial import FrozenTrial

    from hpolab.lightgbm.boosting import ObjectiveFunction
    from hpolab.lightgbm.metrics import MetricFunction
    from hpolab.lightgbm.table import LabeledTable

__all__ = ["LightGBMObjective"]

_logger = get_logger(__name__)

# LightGBM's default: reports are this far apart at this learning rate, others in proportion.
_LEARNING_RATE = 0.1

# The part of `train` that steers trials where nothing else is said.
_HOLD_OUT = 0.2


# What `params_of` adds to a trial's own.
_OF_PARAMS = ("objective", "metric", "num_class", "num_iterations")

# What changes how long a training takes, and no model.
_OF_THE_MACHINE = {"num_threads", "device_type", "force_col_wise", "force_row_wise"}

# In as many rounds a default that can split has done so.
_ROUNDS_TO_SPLIT = 5

_PATIENCE = 10
_REPORT_EVERY = 5


class LightGBMObjective(Objective):
    """Trains LightGBM in each trial, on a hold-out or on folds that advance together.

    Features are binned once and shared by all trials, folds and worker processes. The boosters of
    all folds advance side by side, so that what a trial reports is the mean of the metric over
    folds: a pruner and early stopping decide on that, and the number of rounds is one for all.

    A report stands for equal progress, rounds x learning rate, not for equal rounds: at
    ``learning_rate`` 0.01 it comes after ten times as many rounds as at 0.1. Pruners compare trials
    at equal steps, and at equal rounds a small learning rate always looks bad.

    ``make_study(objective=...)`` takes the sampler `lightgbm`, which tries the default first, then
    moves one or two parameters at a time around the best, then takes turns with TPE. In a minute
    that found more than TPE alone on some tables and about as much on others; see the benchmarks.
    Trials are short and stop early by themselves, and pruning them by their curves has cost more
    good trials than it saved time, so no pruner is taken. Between folds it pays:
    ``fidelity="folds"`` trains one fold after the other, and the pruner `race` stops trials
    unlikely to become the best, mostly after one.

    A requeued trial starts over: LightGBM cannot resume a booster exactly where it
    was, and trials are short. It ends as it would have, since all that is random is seeded.

    Args:
        train: (features, labels), the features alone beside ``y``, or a ``lightgbm.Dataset``.
            Features are a data frame of pandas or polars, an array (n, d) or a sparse matrix;
            labels (n,) of numbers, or classes of any kind. A Dataset that is binned already keeps
            its bins.
        y: The labels, where ``train`` is the features alone.
        valid: What steers trials: a fraction of `train` drawn once, or data like `train`. Not
            with ``folds``. A fifth by default. Where data or `train` alone has weights, the rows of
            both weigh the same in the mean.
        folds: A number of folds, a splitter of scikit-learn or pairs of rows (train, valid), the
            same in all trials. Numbers make stratified folds of classes, and keep groups whole.
            ``cv``, scikit-learn's word, is taken too.
        score: Data like `train` that is read once, at a trial's end, by the mean of the folds'
            boosters: the trial's value. None takes the best report, which is a little optimistic,
            as it has chosen the number of rounds.
        search_space: What is suggested, by LightGBM's names; None takes
            ``lightgbm_space(n_rows=...)``.
        objective: What LightGBM calls its objective, the loss: a name, such as "regression",
            "binary", "multiclass", "quantile", "lambdarank", or a function (predictions, Dataset)
            -> (gradient, Hessian).
        metric: What is optimized: LightGBM's name, such as "auc" or "ndcg@10", or a function
            (predictions, Dataset) -> (name, value, whether more is better). None takes the
            objective's own. The direction is what LightGBM says it is.
        metrics: More metrics, recorded with each trial.
        params: Further parameters of LightGBM, the same in all trials, such as
            ``{"alpha": 0.9}`` for quantiles. ``num_threads`` is 1 unless given: beside any other
            busy process two threads of LightGBM are slower than one.
        max_rounds: Boosting rounds of a full training, at most. None takes as many as 40 million
            rows pass through, from 500 on 80,000 training rows or more to 5,000 on 8,000 or less;
            on many columns fewer, down to 1,000 (1,153 for 2,400 rows of 100 columns).
        seed: Seeds the hold-out or the folds, and the sample of rows that bins are made of.
        **settings: About the rows of `train`: ``categorical``, categorical features by name or
            position, besides those that are by type; ``weight`` (n,), also in its metrics;
            ``groups`` (n,), what each row belongs to: kept whole by folds, for rankings its query;
            ``class_weight``, "balanced" or class -> weight, for training alone, not for metrics.
            About reports: ``fidelity``, "rounds" (the default), the mean over folds after some
            rounds of all, or "folds", the best value of one fold after the other, for the pruner
            `race`; ``report_every``, rounds between two reports at learning rate 0.1, 5 by
            default; ``patience`` (10 reports by default), ``min_delta`` and ``timeout_seconds`` as
            in `ReporterSettings`. There are no checkpoints.

    Raises:
        InvalidArgument: If an argument is out of its range, labels are missing, constant or not
            what the objective takes, a class is missing in a fold, a metric says nothing of rows
            that are scored, such as an AUC where one class is, or LightGBM knows no such
            objective, metric or parameter.
        InvalidType: If an argument or a column is of the wrong type.

    Example:
        >>> from sklearn.datasets import load_breast_cancer
        >>> from hpolab import make_study, run
        >>> from hpolab import LightGBMObjective
        >>> X, y = load_breast_cancer(return_X_y=True)
        >>> objective = LightGBMObjective(
        ...     X, y, objective="binary", metric="auc", folds=3, max_rounds=50
        ... )
        >>> study = make_study("cancer", storage="memory://", objective=objective)
        >>> run(study, objective, n_trials=3)
        >>> study.best_value > 0.97
        True
        >>> model = objective.fit_best(study)
        >>> model.predict(X).shape
        (569,)
        >>> params = objective.params_of(study.best_trial)  # all that `lgb.train` needs
        >>> params["objective"], params["metric"], params["bagging_freq"]
        ('binary', ['auc'], 1)
    """

    default_sampler = "lightgbm"

    @checks_keywords(LightGBMOptions)
    def __init__(
        self,
        train: Any,
        y: Any = None,
        *,
        valid: Any = None,
        folds: Any = None,
        score: Any = None,
        search_space: SearchSpace | Mapping[str, Any] | None = None,
        objective: str | ObjectiveFunction,
        metric: str | MetricFunction | None = None,
        metrics: Sequence[str | MetricFunction] = (),
        params: Mapping[str, Any] | None = None,
        max_rounds: int | None = None,
        seed: int = 0,
        **settings: Unpack[LightGBMOptions],
    ) -> None:
        refuse_checkpoints(settings)
        report_every = settings.get("report_every", _REPORT_EVERY)
        fidelity = one_of("fidelity", settings.get("fidelity", "rounds"), ("rounds", "folds"))
        if max_rounds is not None:
            check_count("max_rounds", max_rounds)
        check_count("report_every", report_every)
        check_seed(seed)
        name, self._function = open_objective(objective)
        self._data = read_data(train if y is None else (train, y), name, settings)
        self._given = canonical(
            "params", params or {}, allowed=["num_class"] if self._function else []
        )
        self._fixed = same_in_all_trials(self._given, self._data.bin_params)
        self._table, self._folds = self._split(valid, folds_of(folds, settings), seed)
        self._score = None if score is None else self._data.read("score", score)
        self._metrics = self._open_metrics(metric, metrics)
        self._fidelity = fidelity
        self.default_pruner = "none" if fidelity == "rounds" else "race"
        if fidelity == "folds" and len(self._folds) < 2:
            raise InvalidArgument("`fidelity` must be 'rounds' without folds, got 'folds'.")
        n_rows = len(self._folds[0].train)
        n_columns = len(self._data.columns.names)
        usual = usual_rounds(n_rows, n_columns)
        self._max_rounds = usual if max_rounds is None else max_rounds
        self._report_every = report_every
        watch = options_of_reporter({"patience": _PATIENCE, **settings})
        # Between folds there is no patience: it ends the curve of each.
        self._curve = ReporterSettings(**watch)
        if fidelity == "folds":
            watch["patience"] = None
        if search_space is None:
            search_space = default_space(n_rows, self._fixed)
        super().__init__(
            search_space=self._with_task(search_space),
            direction=self._metrics.direction,
            metric=self._metrics.optimized,
            max_steps=len(self._folds) if fidelity == "folds" else self._n_steps(_LEARNING_RATE),
            **watch,
        )
        self._check_search_space()
        if is_by_group(self._metrics, ranked=self._data.labels.ranking):
            self.scored_unit = "group" if self._data.labels.ranking else ROW_GROUP
        self.n_threads = n_threads_asked(self._given.get("num_threads"))
        self.facts = {
            "objective": name,
            "metric": self.metric,
            "folds": digest_of_folds(self._folds),
            "fidelity": fidelity,
            "value_of": "valid" if score is None else "score",
        }
        self._metric_function = metric if callable(metric) else None
        data = {"train": train if y is None else (train, y), "valid": valid, "score": score}
        rows = {name: settings.get(name) for name in ("weight", "groups")}
        of_model = {k: v for k, v in self._given.items() if k not in _OF_THE_MACHINE}
        self._settings_facts = {
            **{name: data_fingerprint(each) for name, each in {**data, **rows}.items()},
            "categorical": list(self._data.columns.categorical),
            "params": plain_fact(of_model),
            "class_weight": plain_fact(settings.get("class_weight")),
            "max_rounds": self._max_rounds,
            "report_every": self._report_every,
            "seed": seed,
        }
        self._bins = Bins(
            self._table,
            self._data.columns,
            self._folds,
            train_weight=self._train_weight(settings.get("class_weight")),
            seed=seed,
            given=self._data.given,
        )
        # A Dataset does not pickle; the bins have it and know how to travel. What came has been
        # encoded.
        self._data = replace(self._data, given=None, inputs=None)

    def _training_in_words(self) -> str:
        n = f"{len(self._table):,} rows x {len(self._data.columns.names):,} columns"
        folds = f"{len(self._folds)} folds" if len(self._folds) > 1 else "a hold-out"
        return f"{self.facts['objective']} on {n}, {folds}"

    def train(self, params: Mapping[str, Any], reporter: Reporter) -> float:
        """Train the boosters of one trial; see `Objective.train`."""
        settings = self._settings(params, reporter.seed)[0]
        train = self._train_rounds if self._fidelity == "rounds" else self._train_folds
        best = train(settings, reporter)
        reporter.record(rounds=best.n_rounds, **best.values)
        return best.values[self.metric]

    @checks_keywords()
    def fit(
        self, params: Mapping[str, Any] | FrozenTrial, seed: int = 0, *, n_rounds: int | None = None
    ) -> LightGBMModel:
        """Train with ``params`` on all rows, those that steer trials included.

        Args:
            params: A trial, such as ``study.best_trial``, with the rounds that it has found; or
                params, a trial's or LightGBM's own: ``study.best_params`` has no rounds.
            seed: Seeds everything random, 0 or above.
            n_rounds: Boosting rounds; None takes the ``num_iterations`` of ``params``, or trains
                as in a trial before, and takes the number that was best there.

        Raises:
            Diverged: If the metric becomes NaN or infinite.
            InvalidArgument: If ``seed`` or ``n_rounds`` is out of its range, or ``params`` are of
                another objective or metric.
        """
        settings, n_rounds = self._fitting(params, seed, n_rounds)
        return self._model(self._bins.whole(settings), settings, n_rounds)

    @checks_keywords()
    def fit_folds(
        self,
        params: Mapping[str, Any] | FrozenTrial | Study,
        seed: int | None = None,
        *,
        n_rounds: int | None = None,
    ) -> FoldModels:
        """Train a model for each fold, with predictions for the rows that it has not seen.

        Args:
            params: A study, for its best trial with the rounds that it has found; or a trial or
                params, as in `fit`.
            seed: Seeds everything random, 0 or above. None for the best trial's own, with which
                the models repeat it; 0 with params.
            n_rounds: As in `fit`, for each of the models.

        Raises:
            Diverged: If the metric becomes NaN or infinite.
            InvalidArgument: As in `fit`, or if `train` is a Dataset that kept no raw data to
                predict, or a study has no complete trial or was run with another objective.
        """
        if self._table.features is None:
            raise InvalidArgument(
                "`train` must hold raw data to be predicted, got a Dataset that is binned: give "
                "`free_raw_data=False` to it."
            )
        if isinstance(params, optuna.Study):
            best = self._best_trial(params)
            self._complete_trial(params, best)
            seed = training_seed(params, best.number) if seed is None else seed
            params = self.params_of(best)
        is_given = n_rounds is not None
        settings, n_rounds = self._fitting(params, seed or 0, n_rounds)
        is_given |= not isinstance(params, Mapping) or "num_iterations" in map(main_name, params)
        if not is_given:
            _logger.info(
                f"`fit_folds` got params without rounds, and found {n_rounds} by training once "
                "more; `fit_folds(study)` has those of its best trial."
            )
        models = [
            self._model(dataset, settings, n_rounds) for dataset, _ in self._bins.folds(settings)
        ]
        return self._fold_models(models, settings)

    def _fold_models(
        self, models: Sequence[LightGBMModel], settings: Mapping[str, Any]
    ) -> FoldModels:
        """Return the models with what they predict of the rows of their folds, and its metrics."""
        values, predictions, valids = [], [], []
        for model, (_, valid) in zip(models, self._folds, strict=True):
            rows = self._table.rows(valid)
            raw = predict_raw(model.booster, rows.features, model.booster.current_iteration())
            values.append(self._metrics.evaluate(rows, raw, settings))
            predictions.append(np.asarray(model.booster.predict(rows.features)))
            valids.append(np.asarray(valid))
        sums = np.zeros((len(self._table), *predictions[0].shape[1:]))
        counts = np.zeros((len(self._table), *[1] * (sums.ndim - 1)))
        for valid, predicted in zip(valids, predictions, strict=True):
            sums[valid] += predicted
            counts[valid] += 1
        with np.errstate(invalid="ignore"):  # 0 / 0: no model has left the row out
            return FoldModels(models, sums / counts, self.metric, tuple(values), tuple(valids))

    def params_of(self, trial: FrozenTrial | Mapping[str, Any]) -> dict[str, Any]:
        """Return all of LightGBM's parameters for a trial; see `Objective.params_of`.

        With those of the trial come the objective, the metric, all that is the same in each trial,
        and ``num_iterations``, where a trial has found it by early stopping.
        """
        if isinstance(trial, Mapping):
            trial = self._renamed(trial)
        tuned, _ = self._tuned(super().params_of(trial))
        params = {**self._objective_settings, **tuned, **self._metrics.settings}
        if self._function is not None:
            params["objective"] = self._function
        recorded = getattr(trial, "user_attrs", {}).get(METRICS_KEY, {})
        rounds = {"num_iterations": int(recorded["rounds"])} if "rounds" in recorded else {}
        return params | rounds

    def with_search_space(self, search_space: SearchSpace | Mapping[str, Any]) -> Self:
        """Return the same objective with another search space; the data is shared."""
        return super().with_search_space(self._with_task(search_space))

    @checks_keywords()
    def evaluate(self, model: LightGBMModel, data: Any, y: Any = None) -> dict[str, float]:
        """Return all metrics of a model on data like `train`: name -> value.

        A further metric that says nothing of these rows is NaN. The targets may be given as ``y``
        where ``data`` is the inputs alone.

        Raises:
            InvalidArgument: If the optimized one says nothing of them.
        """
        data = data if y is None else (data, y)
        rows, raw, settings = self._predicted(model, data)
        scored = replace(rows, features=None)
        blind = blind_metrics(scored, self._metrics.named_by_lightgbm(), settings)
        if self.metric in blind:
            check_scored("data", {"the rows": scored}, self._metrics, settings)
        values = self._metrics.evaluate(rows, raw, settings)
        return {name: math.nan if name in blind else value for name, value in values.items()}

    @checks_keywords()
    def row_scores(
        self, model: LightGBMModel, data: Any, y: Any = None
    ) -> NDArray[np.float64] | None:
        """Return what each row contributes to the metric; see `Objective.row_scores`.

        Where rows are ranked, or a Dataset says which belong together, they are those of queries or
        groups. Of metrics without a closed form, as of a function of the user's own, they are those
        of random groups of rows.
        """
        data = data if y is None else (data, y)
        rows, raw, settings = self._predicted(model, data)
        return row_scores(rows, raw, metrics=self._metrics, settings=settings)

    def check(self) -> None:
        """Bin the features, and boost the space's defaults for one round.

        Raises:
            InvalidArgument: If LightGBM refuses the parameters.

        Warns:
            UserWarning: If it finds no split, so that the model is a constant.
        """
        super().check()
        settings = self._settings(self.search_space.defaults(), seed=0)[0]
        try:
            boosting = self._boosting(self._bins.folds(settings)[:1], settings)
            boosting.advance_to(1)
            if not boosting.has_splits():
                boosting.advance_to(_ROUNDS_TO_SPLIT)  # a fraction of rows or columns may hide one
            if not boosting.has_splits():
                _warn_of_constant_models(settings, len(self._folds[0].train))
        except lgb.basic.LightGBMError as error:
            raise InvalidArgument(
                f"`search_space` or `params` is refused by LightGBM: {error}"
            ) from error

    def _predicted(
        self, model: LightGBMModel, data: Any
    ) -> tuple[LabeledTable, NDArray[np.float64], dict[str, Any]]:
        """Return the rows of data, a model's raw predictions, and what says what these mean."""
        rows = self._data.read("data", data)
        raw = predict_raw(model.booster, rows.features, model.booster.current_iteration())
        # A parameter such as `reg_sqrt`, which says what raw predictions are, may be a trial's own.
        return rows, raw, {**of_objective(model.booster.params), **self._objective_settings}

    def _known_names(self) -> frozenset[str]:
        return all_names()

    def _trained(self) -> dict[str, tuple[Collection[Any], Collection[str]]]:
        names = {main_name(each): each for each in self.search_space.trainer_names()}
        trained: set[Any] = set()
        for name, default in (("boosting", "gbdt"), ("data_sample_strategy", "bagging")):
            given = {self._fixed.get(name, default)}
            trained |= values_of(self.search_space, names[name]) if name in names else given
        return {"boosting": (trained & {*BOOSTINGS}, BOOSTINGS)}

    def _known_facts(self) -> dict[str, Any]:
        functions: dict[str, Any] = {"objective function": None, "metric function": None}
        functions |= {name: function_settings(each) for name, each in self._functions().items()}
        return super()._known_facts() | self._settings_facts | functions

    def _functions(self) -> dict[str, Any]:
        functions: dict[str, Any] = {}
        if self._function is not None:
            functions["objective function"] = self._function
        if self._metric_function is not None:
            functions["metric function"] = self._metric_function
        return functions

    def _train_rounds(self, settings: Mapping[str, Any], reporter: Reporter) -> _Best:
        pairs = self._bins.folds(settings)
        best, boosting = self._boost(pairs, settings, reporter)
        if self._score is not None:
            raw = boosting.raw_predictions(self._score.features, best.n_rounds)
            return _Best(best.n_rounds, self._metrics.evaluate(self._score, raw, settings))
        return best

    def _train_folds(self, settings: Mapping[str, Any], reporter: Reporter) -> _Best:
        bests, raws = [], []
        for fold in reporter.steps(len(self._folds)):
            pairs = self._bins.folds(settings)[fold : fold + 1]
            best, boosting = self._boost(pairs, settings, self._watch())
            bests.append(best)
            reporter.report(best.values[self.metric], fold)
            if self._score is not None:
                raws.append(boosting.raw_predictions(self._score.features, best.n_rounds))
        n_rounds = round(float(np.mean([best.n_rounds for best in bests])))
        if self._score is not None:
            mean = np.mean(raws, axis=0)
            return _Best(n_rounds, self._metrics.evaluate(self._score, mean, settings))
        names = self._metrics.names
        return _Best(n_rounds, {n: float(np.mean([b.values[n] for b in bests])) for n in names})

    def _boost(
        self,
        pairs: Sequence[tuple[lgb.Dataset, lgb.Dataset]],
        settings: Mapping[str, Any],
        reporter: Reporter,
    ) -> tuple[_Best, Boosting]:
        """Boost the folds together until the rounds or the reporter's patience run out."""
        boosting = self._boosting(pairs, settings)
        # A forest, whose trees are averaged, has none.
        own = _LEARNING_RATE if is_forest(settings) else settings.get("learning_rate")
        learning_rate = _LEARNING_RATE if own is None else own
        interval = self._interval(learning_rate)
        values: dict[str, float] = {}

        def advance(step: int) -> float:
            values.update(boosting.advance_to(min((step + 1) * interval, self._max_rounds)))
            return values[self.metric]

        def keep(step: int) -> _Best:
            return _Best(boosting.n_rounds, dict(values))

        best = train_steps(reporter, self._n_steps(learning_rate), advance, keep)
        assert best is not None, "the first report is always an improvement"
        if self._score is not None and settings.get("boosting") == "dart":
            # Later rounds have changed the weights of earlier trees.
            boosting = self._boosting(pairs, settings)
            boosting.advance_to(best.n_rounds)
        return best, boosting

    def _boosting(
        self, pairs: Sequence[tuple[lgb.Dataset, lgb.Dataset]], settings: Mapping[str, Any]
    ) -> Boosting:
        return Boosting(pairs, settings, self._metrics, self._function)

    def _interval(self, learning_rate: float) -> int:
        return max(1, round(self._report_every * _LEARNING_RATE / learning_rate))

    def _n_steps(self, learning_rate: float) -> int:
        return math.ceil(self._max_rounds / self._interval(learning_rate))

    def _fitting(
        self, params: Mapping[str, Any] | FrozenTrial, seed: int, n_rounds: int | None
    ) -> tuple[dict[str, Any], int]:
        """Return LightGBM's parameters and the number of rounds of a training outside trials."""
        if not isinstance(params, Mapping):
            params = self.params_of(params)
        params = self._configuration(self._renamed(params))
        settings, known = self._settings(params, check_seed(seed))
        n_rounds = known if n_rounds is None else n_rounds
        if n_rounds is not None:
            check_count("n_rounds", n_rounds)
            return settings, n_rounds
        if self._fidelity == "folds":
            return settings, self._train_folds(settings, self._watch()).n_rounds
        best, _ = self._boost(self._bins.folds(settings), settings, self._watch())
        return settings, best.n_rounds

    def _renamed(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return params under the search space's names, where LightGBM has others for them."""
        names = {main_name(name): name for name in self.search_space.defaults()}
        known = {name: names.get(main_name(name), name) for name in params}
        found = {name if known[name] in params else known[name]: v for name, v in params.items()}
        return found if len(found) == len(params) else dict(params)  # twice: refused later

    def _watch(self) -> Reporter:
        """Return a reporter for one curve outside any trial."""
        curve = self._curve
        return Reporter(
            None, direction=self.direction, patience=curve.patience, min_delta=curve.min_delta
        )

    def _model(
        self, dataset: lgb.Dataset, settings: Mapping[str, Any], n_rounds: int
    ) -> LightGBMModel:
        booster = train_booster(dataset, settings, n_rounds, self._function)
        return LightGBMModel(booster, self._data.columns, self._data.labels.classes)

    def _settings(self, params: Mapping[str, Any], seed: int) -> tuple[dict[str, Any], int | None]:
        """Return all of LightGBM's parameters for one training, and its rounds where given."""
        tuned, n_rounds = self._tuned(params)
        settings = {
            **self._objective_settings,
            **tuned,
            **self._metrics.settings,
            "seed": seed % 2**31,
            "verbosity": -1,
        }
        return settings, n_rounds

    def _tuned(self, params: Mapping[str, Any]) -> tuple[dict[str, Any], int | None]:
        """Return params without what the objective decides, and the rounds where they are given.

        Raises:
            InvalidArgument: If they are of another objective or metric.
        """
        found = canonical("search_space", params, allowed=_OF_PARAMS)
        decided = {**self._objective_settings, **self._metrics.settings}
        if self._function is not None:
            decided["objective"] = self._function
        for name in ("objective", "num_class", "metric"):
            given = found.pop(name, decided.get(name))
            if _listed(given) != _listed(decided.get(name)):
                raise InvalidArgument(
                    f"`params` must be of this objective, whose {name} is {decided.get(name)!r}, "
                    f"got {given!r}."
                )
        return found, found.pop("num_iterations", None)

    def _with_task(self, search_space: SearchSpace | Mapping[str, Any]) -> SearchSpace:
        """Return a space with what makes this task's models, so that its params need no more."""
        opened = as_space("search_space", search_space)
        known = {main_name(name) for name in opened.defaults()} | _OF_THE_MACHINE
        known |= {"objective"} if self._function is not None else set()
        names = {"objective", "num_class", *self._given} - known
        task = {name: v for name, v in self._objective_settings.items() if name in names}
        plain = {n: v for n, v in task.items() if isinstance(v, bool | int | float | str | None)}
        return opened | SearchSpace(plain)

    @property
    def _objective_settings(self) -> dict[str, Any]:
        """What LightGBM is told of the objective, and all that is the same in each trial."""
        labels = self._data.labels
        settings = {"objective": "none" if self._function else labels.objective, **self._fixed}
        return settings | ({} if labels.n_classes is None else {"num_class": labels.n_classes})

    def _split(self, valid: Any, folds: Any, seed: int) -> tuple[LabeledTable, list[Fold]]:
        """Return all rows, and those to train on and to validate on."""
        table, labels = self._data.table, self._data.labels
        if folds is not None and valid is not None:
            raise InvalidArgument("`valid` must be None where `folds` are given, got both.")
        if valid is None or (isinstance(valid, Real) and not isinstance(valid, Integral)):
            return table, split_rows(
                table,
                labels,
                valid=_HOLD_OUT if valid is None else float(valid),
                folds=folds,
                seed=seed,
                inputs=self._data.inputs,
            )
        if self._data.given is not None:
            raise InvalidArgument(
                "`valid` must be a fraction where `train` is a Dataset that is binned, got data."
            )
        other = self._data.read("valid", valid)
        rows = np.arange(len(table) + len(other))
        joined, fold = table.joined(other), Fold(rows[: len(table)], rows[len(table) :])
        check_fold("valid", fold, joined, labels)
        return joined, [fold]

    def _train_weight(self, class_weight: str | Mapping[Any, float] | None) -> Any:
        if class_weight is None:
            return self._table.weight
        weight = class_weights(class_weight, self._data.labels, self._table.labels)
        if self._table.weight is not None:
            weight = weight * self._table.weight
        for fold in self._folds:
            check_trained("class_weight", self._table.labels[fold.train], weight[fold.train])
        return weight

    def _open_metrics(self, metric: Any, more: Sequence[Any]) -> Metrics:
        """Return the metrics, of which each part that is scored must have a value."""
        labels, objective = self._data.labels, self._objective_settings
        table = replace(self._table, features=None)  # which are not read, and may be large
        parts = [table.rows(fold.valid) for fold in self._folds]
        found = Metrics.find(metric, more, objective, labels, parts[0])
        if len(parts) == 1:
            check_scored("valid", {"data": parts[0]}, found, objective)
        else:
            named = {f"fold {i}": part for i, part in enumerate(parts)}
            check_scored("folds", named, found, objective)
        if self._score is not None:
            scored = replace(self._score, features=None)
            check_scored("score", {"data": scored}, found, objective)
        return found

    def _check_search_space(self) -> None:
        defaults = self.search_space.defaults()
        canonical("search_space", defaults, allowed=("objective", "metric", "num_class"))
        params, _ = self._tuned(defaults)
        for name in self.search_space.names().values():
            params |= dict.fromkeys(canonical("search_space", {name: None}))
        refuse_unread(self.search_space, self._fixed | self._objective_settings)
        for name in params.keys() & self._fixed.keys():
            if params[name] is None or params[name] != self._fixed[name]:
                raise InvalidArgument(
                    f"`params` must leave out what `search_space` suggests, got {name!r} in both."
                )
        if self._data.given is not None and of_bins(params):
            raise InvalidArgument(
                "`search_space` must leave the bins of a Dataset that is binned as they are, got "
                f"{', '.join(map(repr, of_bins(params)))}."
            )


@dataclass(frozen=True)
class _Best:
    """The best report of a training: after how many rounds, and all metrics there."""

    n_rounds: int
    values: Mapping[str, float]


def _warn_of_constant_models(settings: Mapping[str, Any], n_rows: int) -> None:
    least = settings.get("min_data_in_leaf", 20)
    drawn = settings.get("bagging_fraction", 1.0) if settings.get("bagging_freq", 0) > 0 else 1.0
    why = f", as it wants {least} rows in each leaf" if 2 * least > drawn * n_rows else ""
    warnings.warn(
        f"With its default parameters LightGBM finds no split among the {n_rows} rows that it "
        f"trains on{why}: the model is a constant. Lower `min_data_in_leaf` or "
        "`min_sum_hessian_in_leaf`, by `params` or `search_space`.",
        UserWarning,
        stacklevel=4,
    )


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value
