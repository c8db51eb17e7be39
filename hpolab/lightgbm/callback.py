"""LightGBMPruning: LightGBM's evaluations reported to a trial, over folds too.

Not optuna-integration's ``LightGBMPruningCallback``: in a loop over folds that one reports each
fold under the steps of the first, which Optuna ignores (issue 3203), and it talks to the trial
itself, so NaN reaches the pruner and there is neither patience nor a lease.
"""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any, NamedTuple, final

import optuna

from hpolab import _optuna
from hpolab.errors import InvalidArgument, InvalidType, check_count, needs, one_of
from hpolab.keywords import checks_keywords
from hpolab.studies.quick_pruners import quick
from hpolab.studies.trials import sign_of
from hpolab.trial.reporter import Reporter

with needs("`LightGBMPruning`", "LightGBM", "lightgbm"):
    from lightgbm.callback import EarlyStopException

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lightgbm.callback import CallbackEnv

__all__ = ["LightGBMPruning"]

# What LightGBM calls the data it trains on, in `cv` and elsewhere.
_TRAINING = ("train", "training")

# What LightGBM before 4.6 calls the data in `cv`; its name there begins the metric's.
_CV = "cv_agg"


@final
class LightGBMPruning:
    """Reports a metric to the trial every few rounds, and ends training when it says so.

    For ``lgb.train``, ``lgb.cv`` (the mean over the folds is reported) and the scikit-learn API
    (``fit(callbacks=[...])``). The step reported is the round, counted from 0. A pruned trial
    leaves training as `optuna.TrialPruned`; when the reporter's patience or time has run out,
    training ends as it does by ``lgb.early_stopping``, with ``best_iteration`` set.

    **Folds one after another.** Give one callback to the training of each fold, and ``n_folds``.
    One fold's value says nothing beside another's, and a trial's mean is known only at its end, so
    trials are compared on the folds that both have finished. The first fold is reported by rounds.
    After it, each finished fold reports the mean of the best values so far, under the step
    ``n_rounds * folds finished``; so equal steps of two trials mean the same folds, and each step
    comes once. Rounds of later folds are not reported: they would put trials that learn slowly
    before the pruner at their weakest once a fold, and tell nothing that the fold's end does not
    tell better. A pruner that judges a trial by its best report (`median`) is asked about the mean
    alone, or an easy first fold would hide all that follow. Every trial must train for the same
    number of rounds, or be stopped earlier.

    A fold's end is reported in the next one's first round, where a trial whose time is up is
    pruned: its mean would be of fewer folds than others'. `WilcoxonPruner` wants values that do
    not depend on one another: report each fold's own value, by ``reporter.report(value, fold)``.

    ``cross_val_score`` and its like take a pruned trial for a failed fit: give them
    ``error_score="raise"``, and leave ``n_jobs`` at 1.

    Args:
        reporter: The trial's reporter.
        metric: The metric's name, as LightGBM evaluates it, such as "auc" or a ``feval``'s own.
            Whether more is better is LightGBM's word, and must be the reporter's direction.
        valid_name: The validation data's name, such as "valid_0"; None for the only one.
        n_folds: Trainings of the trial, 1 or above.
        every: Rounds between two reports, 1 or above.

    Raises:
        InvalidType: If ``reporter`` is not a `Reporter`, or a count is no int.
        InvalidArgument: If a count is below 1, or the reporter has patience with several folds;
            from the first round, if the metric or the data is not evaluated, LightGBM improves the
            metric in the other direction, or there are more trainings than ``n_folds``.

    Example:
        >>> import lightgbm as lgb, numpy as np
        >>> from hpolab import Reporter
        >>> rng = np.random.default_rng(0)
        >>> X = rng.normal(size=(90, 3))
        >>> y = X[:, 0] + 0.1 * rng.normal(size=90)
        >>> def objective(trial):
        ...     params = {"learning_rate": trial.suggest_float("learning_rate", 0.05, 0.3)}
        ...     params |= {"objective": "regression", "metric": "l2", "verbosity": -1}
        ...     pruning = LightGBMPruning(Reporter(trial), "l2", n_folds=3)
        ...     for valid in np.split(np.arange(90), 3):
        ...         train_set = lgb.Dataset(np.delete(X, valid, 0), np.delete(y, valid))
        ...         valid_set = lgb.Dataset(X[valid], y[valid], reference=train_set)
        ...         _ = lgb.train(params, train_set, 20, [valid_set], callbacks=[pruning])
        ...     return np.mean(pruning.best_values)
        >>> study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        >>> study.optimize(objective, n_trials=2)
        >>> list(study.trials[0].intermediate_values)
        [9, 19, 20, 40]
    """

    @checks_keywords()
    def __init__(
        self,
        reporter: Reporter,
        metric: str,
        *,
        valid_name: str | None = None,
        n_folds: int = 1,
        every: int = 10,
    ) -> None:
        if not isinstance(reporter, Reporter):
            # Optuna's own callback takes the trial itself.
            raise InvalidType(
                f"`reporter` must be a Reporter, such as Reporter(trial), "
                f"got {type(reporter).__name__}."
            )
        check_count("n_folds", n_folds)
        check_count("every", every)
        patience = reporter.settings.patience
        if n_folds > 1 and patience is not None:
            raise InvalidArgument(
                "`reporter` must have no patience with several folds, which it would count as one "
                f"training, got patience={patience}: add `lgb.early_stopping` to each fold's "
                "callbacks."
            )
        # Behind LightGBM's log and record (10, 20), before its early stopping (30), which may
        # leave the round. LightGBM looks for both names in the object itself.
        self.order = 25
        self.before_iteration = False
        self._reporter = reporter
        self._metric = metric
        self._valid_name = valid_name
        self._n_folds = n_folds
        self._every = every
        self._n_rounds = 0
        self._watched = ("", "")
        self._folds: list[_Best | None] = []

    @property
    def best_values(self) -> list[float]:
        """The metric's best value in each training so far: what early stopping would keep."""
        return [math.nan if best is None else best.value for best in self._folds]

    def __call__(self, env: CallbackEnv) -> None:
        """Take a round's evaluation; LightGBM calls it."""
        evaluated = [_as_evaluation(result) for result in env.evaluation_result_list or ()]
        if env.iteration == env.begin_iteration:
            self._begin(env, evaluated)
        value = next(e.value for e in evaluated if (e.data, e.metric) == self._watched)
        self._keep_if_best(value, env)
        n_done = env.iteration - env.begin_iteration + 1
        if n_done % self._every == 0:
            self._report(value, n_done - 1)

    def _begin(self, env: CallbackEnv, evaluated: Sequence[_Evaluation]) -> None:
        fold = len(self._folds)
        if fold == self._n_folds:
            raise InvalidArgument(
                f"`n_folds` must count the trainings of a trial that have this callback, got "
                f"{self._n_folds} and one training more."
            )
        watched = self._choose(evaluated)
        self._check_direction(watched)
        self._watched = (watched.data, watched.metric)
        if fold == 0:
            self._n_rounds = env.end_iteration - env.begin_iteration
        else:
            self._report_finished_folds()
        self._folds.append(None)

    def _choose(self, evaluated: Sequence[_Evaluation]) -> _Evaluation:
        """Return what is to be watched, or refuse."""
        names = list(dict.fromkeys(e.data for e in evaluated))
        held_out = [name for name in names if name not in _TRAINING]
        if not names or (self._valid_name is None and not held_out):
            raise InvalidArgument(
                f"`metric` must be evaluated on validation data, got {self._metric!r} and a "
                "training without: give `lgb.train` its `valid_sets`, `fit` its `eval_set`, and "
                "either a metric."
            )
        if self._valid_name is None and len(held_out) > 1:
            raise InvalidArgument(
                "`valid_name` must be given where several sets are evaluated, one of "
                f"{', '.join(map(repr, held_out))}, got None."
            )
        wanted = held_out[0] if self._valid_name is None else self._valid_name
        name = one_of("valid_name", wanted, names)
        there = {e.metric: e for e in evaluated if e.data == name}
        return there[one_of("metric", self._metric, there)]

    def _check_direction(self, watched: _Evaluation) -> None:
        direction = "maximize" if watched.more_is_better else "minimize"
        if direction != self._reporter.direction:
            raise InvalidArgument(
                f"`metric` must be one to {self._reporter.direction}, as the study does, got "
                f"{watched.metric!r}, which LightGBM means to {direction}."
            )

    def _keep_if_best(self, value: float, env: CallbackEnv) -> None:
        best = self._folds[-1]
        sign = sign_of(self._reporter.direction)
        if math.isfinite(value) and (best is None or sign * (value - best.value) > 0):
            self._folds[-1] = _Best(value, env.iteration, env.evaluation_result_list)

    def _report(self, value: float, step: int) -> None:
        fold = len(self._folds) - 1
        if fold == 0:
            self._reporter.report(value, step)
            best = self._folds[0]
            if self._reporter.should_stop and best is not None:
                raise EarlyStopException(best.iteration, best.evaluated)
        elif not math.isfinite(value):
            self._reporter.diverged(value, f"at round {step} of fold {fold}")

    def _report_finished_folds(self) -> None:
        n_finished = len(self._folds)
        mean = sum(self.best_values) / n_finished
        step = self._n_rounds * n_finished
        self._reporter.report(mean, step)
        self._prune_by_mean(mean, step)
        if self._reporter.should_stop:
            raise optuna.TrialPruned(f"time was up after fold {n_finished} of {self._n_folds}")

    def _prune_by_mean(self, mean: float, step: int) -> None:
        """Ask the pruner again, about the last report alone.

        `MedianPruner` takes a trial's best report of all for its value at the last step. For
        others this changes nothing: `SuccessiveHalvingPruner` has just passed this step's rung.
        """
        trial = self._reporter.trial
        if trial is None:
            return
        alone = copy.copy(_optuna.reread(trial.study, trial.number))
        alone.intermediate_values = {step: mean}
        if quick(trial.study.pruner).prune(trial.study, alone):
            raise optuna.TrialPruned(f"pruned at step {step} with value {mean}")


class _Evaluation(NamedTuple):
    data: str
    metric: str
    value: float
    more_is_better: bool


class _Best(NamedTuple):
    value: float
    iteration: int
    evaluated: Any


def _as_evaluation(result: Sequence[Any]) -> _Evaluation:
    data, metric, value, more_is_better = tuple(result)[:4]
    if data == _CV:
        data, _, metric = metric.partition(" ")
    return _Evaluation(data, metric, float(value), bool(more_is_better))
