"""RecommenderObjective: trains a recommender and ranks the items held out of its training."""

from __future__ import annotations

import copy
import json
from contextlib import contextmanager
from dataclasses import replace
from functools import reduce
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from hpolab.errors import (
    HpolabError,
    InvalidArgument,
    RecipeMismatch,
    check_count,
    error_text,
    one_of,
)
from hpolab.fingerprint import data_fingerprint
from hpolab.identity import is_ours
from hpolab.keywords import checks_keywords
from hpolab.objectives.base import Objective, Reference
from hpolab.objectives.epochs import train_epochs
from hpolab.objectives.names import refuse_settings
from hpolab.objectives.packed_rows import RowScores
from hpolab.recommender.interactions import Interactions
from hpolab.recommender.metrics import LOWER_IS_BETTER
from hpolab.recommender.protocol import Protocol, is_rating
from hpolab.recommender.ranking import Ranking
from hpolab.recommender.rating import RATING_METRICS
from hpolab.recommender.recent import knows_days
from hpolab.recommender.space import RECOMMENDER_LOSSES, RECOMMENDERS, recommender_space
from hpolab.recommender.trained import Recommender
from hpolab.recommender.trainers import open_trainer
from hpolab.recommender.unread import check_loss, known_names, refuse_unread, warn_of_unread
from hpolab.search_space.reach import values_of
from hpolab.seeding import check_seed
from hpolab.studies.recipe import FACTS_KEY
from hpolab.surroundings import held_values
from hpolab.torch.build import check_optimizers, warn_of_schedules
from hpolab.torch.horizon import check_schedule
from hpolab.trial.reporter import ReporterOptions

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from typing import Unpack

    from numpy.typing import NDArray
    from optuna import Study

    from hpolab.recommender.protocol import Judged
    from hpolab.recommender.ranking import RankingEstimate
    from hpolab.recommender.splits import Splits
    from hpolab.recommender.trainer import RecommenderTrainer
    from hpolab.search_space.space import SearchSpace
    from hpolab.trial.reporter import Reporter

__all__ = ["RecommenderObjective"]

BASELINES = ("popularity", "ease", "als")
"""A second's work each on 100,000 interactions: what a tuned model must beat to be worth it."""

_RATING_BASELINES = ("rating_bias",)
_OF_LATE = "last_days_popularity"

_WITHOUT_TIES = (*RECOMMENDER_LOSSES, "als", "bpr_implicit", "logistic_mf")
"""Trainers no two of whose scores for a user are equal, but by chance."""

_PATIENCE = 15

# EASE inverts a matrix of items by items: of more than these, its time and memory are no aside.
_MOST_ITEMS_OF_EASE = 5000


class RecommenderObjective(Objective):
    """Trains a recommender; a trial's value is a metric over all users whom the model knows.

    Each epoch the held-out items of `valid` are ranked among all items that their users have not
    seen; that metric is reported, pruned on and stops the training early. At the end the best
    epoch's model ranks `score` (`valid` again where there is none), which is the trial's value.
    All of ``metrics`` are stored with the trial, each with its standard error over users. Users
    with fewer rows in `train` than `Splits.min_history` are left out; their metrics are stored
    apart, as "ndcg@10 (cold users)".

    With the metric "rmse" or "mae" ratings are predicted in place of ranks, by a trainer that
    learns from them: "mf", "fm" and "deepfm" with the loss "mse", and "rating_bias".

    Args:
        trainer: One of `RECOMMENDERS`, or a `RecommenderTrainer`.
        splits: What trains, steers, ranks and tests; nothing here reads `test`.
        search_space: By default `recommender_space` of the trainer.
        metric: What is tuned: one of `RANKING_METRICS` with its cut, or of `RATING_METRICS`. A
            steadier one than that which is reported in the end may choose better: NDCG@100 for
            NDCG@10.
        metrics: What is stored besides. None for HR@10 and NDCG@10, or RMSE and MAE.
        max_epochs: Of the longest training, 1 or above; a closed form has one.
        n_sampled: Rank each held-out item among so many sampled items in place of all: for
            comparison with published figures only. See `RankingTask`.
        device: Where models of torch live.
        eval_users: Rank only so many users of `valid` after each epoch, drawn once and the same in
            all trials, 1 or above; None ranks all of them. They choose a trial's best epoch and
            prune it; its value at the end is that of all users. For large data and models whose
            scores are dear, such as "deepfm" and "neumf".
        references: Recommenders, of `RECOMMENDERS`, whose metrics at their
            defaults stand beside the trials in reports; None for popularity, EASE and ALS, and
            where there are timestamps the popularity of the last days; of ratings for
            "rating_bias"; () for none.
        **settings: ``patience`` (15 epochs by default) and the others of `ReporterSettings`.

    Raises:
        InvalidArgument: If an argument is out of its range, or the trainer or a metric is unknown.
        InvalidType: If ``trainer`` is neither a name nor a `RecommenderTrainer`.
        MissingExtra: If the trainer's package is not installed.

    Warns:
        UserWarning: If the interactions have ratings or weights that the trainer does not read.

    Example:
        >>> from hpolab import make_study, run
        >>> from hpolab import make_taste_clusters
        >>> from hpolab import leave_last_out
        >>> splits = leave_last_out(make_taste_clusters(n_users=60, n_items=40).interactions)
        >>> objective = RecommenderObjective("ease", splits, metric="ndcg@10")
        >>> study = make_study("ease", storage="memory://", objective=objective, seed=0)
        >>> run(study, objective, n_trials=3)
        >>> model = objective.fit({"l2": 10.0}, seed=0)
        >>> model.recommend([0, 1], k=5).shape
        (2, 5)
    """

    scored_unit = "user"

    @checks_keywords(ReporterOptions)
    def __init__(
        self,
        trainer: str | RecommenderTrainer,
        splits: Splits,
        *,
        search_space: SearchSpace | Mapping[str, Any] | None = None,
        metric: str = "ndcg@10",
        metrics: Sequence[str] | None = None,
        max_epochs: int = 200,
        n_sampled: int | None = None,
        eval_users: int | None = None,
        device: str = "cpu",
        references: Sequence[str] | None = None,
        **settings: Unpack[ReporterOptions],
    ) -> None:
        check_count("max_epochs", max_epochs)
        settings.setdefault("patience", _PATIENCE)
        self._trainer = open_trainer(trainer, device)
        if search_space is None:
            search_space = _own_space(self._trainer.name, metric)
        self.splits = splits
        if metrics is None:
            metrics = RATING_METRICS if is_rating(metric) else ("hr@10", "ndcg@10")
        self._metrics = tuple(dict.fromkeys([metric, *metrics]))
        if references is None:
            references = baselines_for(splits.train, metric)
        self._references = tuple(one_of("references", name, RECOMMENDERS) for name in references)
        self._protocol = Protocol(splits, self._metrics, n_sampled=n_sampled)
        scored = splits.valid if splits.score is None else splits.score
        self._valid = self._protocol.held_out(splits.valid)
        self._score = self._valid if scored is splits.valid else self._protocol.held_out(scored)
        self._cold = self._protocol.cold(scored)
        self._each_epoch = self._protocol.some_of(self._valid, splits.valid, eval_users)
        for name in self._metrics:
            self._valid.task.check_metric(name)
        super().__init__(
            search_space=search_space,
            direction="minimize" if metric in (*LOWER_IS_BETTER, *RATING_METRICS) else "maximize",
            max_steps=min(max_epochs, self._trainer.max_epochs or max_epochs),
            metric=metric,
            **settings,
        )
        check_schedule(self.search_space, self.max_steps)
        # Without the protocol the value of a metric means nothing.
        self.facts = {
            "metric": metric,
            **splits.facts,
            **self._protocol.facts(self._score, scored),
        }
        if self._each_epoch is not self._valid:
            self.facts["eval_users"] = eval_users
        self._check_search_space()
        warn_of_unread(splits.train, self.search_space, self._trainer)
        self._data_facts = {
            name: None if (rows := getattr(splits, name)) is None else _fingerprint_of(rows)
            for name in ("train", "valid", "score")
        }

    def _training_in_words(self) -> str:
        return f"{self._trainer.name} on {self.splits._in_one_line()}"

    def train(self, params: Mapping[str, Any], reporter: Reporter) -> float:
        """Train one model; see the class for what is reported and returned."""
        with self._trainer.seeded(reporter.seed):
            model = self._fit(params, reporter)
            found = self._reference_of(self._score.judge(model.training, self._metrics))
            recorded = dict(found.metrics)
            if self._cold is not None:
                cold = self._cold.judge(model.training, self._metrics)
                of_cold = {f"{name} (cold users)": cold.estimate(name) for name in self._metrics}
                recorded |= _flat(of_cold)
        value = found.metrics[self.metric]
        reporter.record(**recorded)
        if found.rows is not None:
            reporter.record_rows(value, RowScores.of(found.rows).as_text())
        return value

    @checks_keywords()
    def fit(self, params: Mapping[str, Any], seed: int = 0) -> Recommender:
        """Train with ``params`` outside any trial and return the best epoch's model.

        It is the model of a trial that has these parameters and this seed and is not pruned.

        Args:
            params: A trial's params, such as ``study.best_params``, or the trainer's.
            seed: Seeds everything random, 0 or above.

        Raises:
            Diverged: If the training reaches NaN or infinity.
            InvalidArgument: If ``seed`` is below 0, or a parameter is missing or out of its range.
        """
        check_seed(seed)
        params = self._configuration(params)
        reporter = self.reporter(seed=seed)
        with self._trainer.seeded(seed):
            return self._fit(params, reporter)

    @checks_keywords()
    def refit(
        self, params: Mapping[str, Any], seed: int = 0, *, n_epochs: int, include_test: bool = False
    ) -> Recommender:
        """Train on `train`, `valid` and `score` together, for a number of epochs known by now.

        Args:
            params: As in `fit`.
            seed: Seeds everything random, 0 or above.
            n_epochs: The `n_epochs` of the model that `fit` returned, 1 or above.
            include_test: Whether to train on `test`, too, as for production. Nothing is left then
                to judge the model by: what it is expected to reach is what a model without `test`
                has reached there.

        Raises:
            InvalidArgument: If ``seed`` or ``n_epochs`` is out of its range, or a parameter is
                missing or out of its range.
        """
        check_seed(seed)
        check_count("n_epochs", n_epochs)
        params = self._configuration(params)
        parts = [self.splits.train, self.splits.valid, self.splits.score]
        if include_test:
            parts.append(self.splits.test)
        given = [part for part in parts if part is not None]
        rows = reduce(Interactions.join, given[1:], given[0])
        with self._trainer.seeded(seed):
            training = self._trainer.start(dict(params), rows, seed=seed, max_epochs=self.max_steps)
            for _ in range(n_epochs):
                training.epoch()
        return Recommender(
            self._trainer.name, dict(params), n_epochs, rows, training, dict(self.facts)
        )

    @checks_keywords()
    def evaluate(self, model: Recommender, data: Interactions) -> dict[str, float]:
        """Return all metrics of a model: name -> value, and its standard error; see `estimates`."""
        return _flat(self.estimates(model, data))

    @checks_keywords()
    def estimates(
        self, model: Recommender, data: Interactions, *, users: str = "warm"
    ) -> dict[str, RankingEstimate]:
        """Return all metrics of a model with their standard errors over users.

        Args:
            model: From `fit` or `refit`.
            data: The split to rank; what comes before it in the order `train`, `valid`, `score`,
                `test` is seen. A model that reads a user's rows as it scores reads all of these:
                see `RecommenderTraining.with_history`.
            users: "warm" for those with `Splits.min_history` rows in what the model was trained on,
                and for all where there is none such; "cold" for the others; "all" for both.

        Raises:
            InvalidArgument: If ``data`` has no row of a cold user, where they are asked for.
        """
        one_of("users", users, ("warm", "cold", "all"))
        judged = self._judged(model, data, users)
        return {name: judged.estimate(name) for name in self._metrics}

    @checks_keywords()
    def ranking(self, model: Recommender, data: Interactions) -> Ranking:
        """Return the ranks that a model gives to held-out items, as in `estimates`.

        `Ranking.difference` compares two models on the same users.

        Raises:
            InvalidArgument: If the metric is of ratings: `row_scores` are what to compare there.
        """
        judged = self._judged(model, data)
        if not isinstance(judged, Ranking):
            raise InvalidArgument(
                f"`metric` must be a ranking metric to be ranked by, got {self.metric!r}."
            )
        return judged

    @checks_keywords()
    def row_scores(self, model: Recommender, data: Interactions) -> NDArray[np.float64]:
        """Return the metric of each user with an item to find, in the order of their codes.

        Of coverage, RMSE and MAE, which no user has alone, they are its jackknife over users.

        Args:
            model: From `fit` or `refit`.
            data: As in `estimates`.
        """
        held_out = self._protocol.held_out(data, model.train)
        return held_out.judge(model.training, [self.metric]).by_user(self.metric)

    @checks_keywords()
    def baselines(
        self,
        data: Interactions,
        names: Sequence[str] | None = None,
        *,
        beside: Recommender | None = None,
    ) -> dict[str, dict[str, RankingEstimate]]:
        """Return the metrics of simple recommenders at their defaults, to stand beside a model's.

        Args:
            data: The split to rank.
            names: Which ones, of `RECOMMENDERS`; None for the class's ``references``.
            beside: A model, from `fit` or `refit`. Each metric is followed by what the model has
                more than the simple one, as "ndcg@10 (difference)", with the standard error of the
                differences user by user, which is smaller than the two models' own errors suggest.
        """
        if names is None:
            names = baselines_for(self.splits.train, self.metric)
        mine = None if beside is None else self._judged(beside, data)
        found: dict[str, dict[str, RankingEstimate]] = {}
        for name in names:
            theirs = self._judged(self._baseline(name), data)
            found[name] = {}
            for metric in self._metrics:
                found[name][metric] = theirs.estimate(metric)
                if mine is not None:
                    difference = mine.difference(theirs, metric)  # type: ignore[arg-type]  # of one task, so of one class
                    found[name][f"{metric} (difference)"] = difference
        return found

    def references(self) -> dict[str, dict[str, float] | str]:
        """Return the metrics of simple recommenders on what gives trials their value.

        One that cannot be trained, such as EASE with too many items, says why.
        """
        return {
            name: found if isinstance(found, str) else dict(found.metrics)
            for name, found in self.scored_references().items()
        }

    def scored_references(self) -> dict[str, Reference | str]:
        """Return `references` with the metric of each user; see `Objective`."""
        return {name: self._reference(name) for name in self._references}

    def reference_names(self) -> Sequence[str]:
        """Return the names of the `references`; see `Objective`."""
        return self._references

    def references_key(self) -> str:
        """Return what the `references` depend on: data, protocol, metrics, and which they are."""
        # What is left out for want of a package is not once that is installed.
        extras = [find_spec(name) is not None for name in ("implicit", "torch")]
        return data_fingerprint(
            [
                json.dumps({**self.facts, **self._data_facts}, sort_keys=True, default=str),
                json.dumps([self._references, self._metrics, extras]),
            ]
        )

    def check(self) -> None:
        """Start a training with the space's defaults: are they complete, and in their ranges?"""
        super().check()
        refuse_unread(self.search_space, self._trainer.name)
        warn_of_schedules(self.search_space)
        with self._trainer.seeded(0):
            self._trainer.start(
                self.search_space.defaults(), self.splits.train, seed=0, max_epochs=self.max_steps
            )

    def _known_names(self) -> list[str]:
        return known_names(self._trainer.name)

    def _trained(self) -> dict[str, tuple[Collection[Any], Collection[str]]]:
        name = self._trainer.name
        found: dict[str, tuple[Collection[Any], Collection[str]]] = {
            "trainer": ([name], RECOMMENDERS)
        }
        if name in RECOMMENDER_LOSSES:
            found["loss"] = (values_of(self.search_space, "loss"), RECOMMENDER_LOSSES[name])
        return found

    def _check_search_space(self) -> None:
        refuse_settings(self.search_space, "max_epochs")
        check_loss(self.search_space, self._trainer, self.metric)
        check_optimizers(self.search_space)

    def check_facts(self, study: Study) -> None:
        """Refuse a study whose values depend on other facts; see `Objective.check_facts`."""
        with _explained():
            super().check_facts(study)

    def compare_facts(self, study: Study) -> None:
        """Refuse a study whose values depend on other facts; see `Objective.compare_facts`."""
        with _explained():
            super().compare_facts(study)

    def _facts_beside(self, study: Study) -> Mapping[str, Any]:
        # Up to 0.1 equal scores had their mean rank. Sums of products of real numbers have none.
        stored = study.user_attrs.get(FACTS_KEY, {}).get("ties")
        if stored == "mid rank" and self._trainer.name in _WITHOUT_TIES:
            return {**self.facts, "ties": stored}
        return self.facts

    def _known_facts(self) -> dict[str, Any]:
        known = super()._known_facts() | self._data_facts | {"trainer": self._trainer.name}
        if not is_ours(type(self._trainer)):
            known["the trainer's class"] = type(self._trainer).__qualname__
            known["what the trainer holds"] = held_values(self._trainer)
        return known

    def _functions(self) -> dict[str, Any]:
        if is_ours(type(self._trainer)):
            return super()._functions()
        return {**super()._functions(), "trainer.start": type(self._trainer).start}

    def _reference(self, name: str) -> Reference | str:
        n_items = self.splits.train.n_items
        if name == "ease" and n_items > _MOST_ITEMS_OF_EASE:
            return f"left out: it inverts a matrix of all {n_items:,} items"
        try:
            model = self._baseline(name)
            return self._reference_of(self._score.judge(model.training, self._metrics))
        except (HpolabError, ImportError, MemoryError) as error:
            return f"left out: {error_text(error)}"

    def _reference_of(self, judged: Judged) -> Reference:
        """Return all metrics, and what each user contributes to the optimized one."""
        rows = judged.by_user(self.metric)
        metrics = _flat({name: judged.estimate(name) for name in self._metrics})
        return Reference(metrics, rows if np.isfinite(rows).all() else None)

    def _judged(self, model: Recommender, data: Interactions, users: str = "warm") -> Judged:
        """Return how a model does on some users' held-out rows; see `estimates`."""
        held_out = self._protocol.held_out(data, model.train, users=users)
        return held_out.judge(model.training, self._metrics)

    def _baseline(self, name: str) -> Recommender:
        """Return a recommender at its defaults."""
        objective = RecommenderObjective(
            name, self._read_splits(name), metric=self.metric, metrics=self._metrics
        )
        return objective.fit(objective.search_space.defaults(), seed=0)

    def _read_splits(self, name: str) -> Splits:
        """Return the splits without the columns that a trainer does not read."""
        trainer, train = open_trainer(name), self.splits.train
        plain = replace(
            train,
            ratings=train.ratings if trainer.reads_ratings else None,
            weights=train.weights if trainer.reads_weights else None,
        )
        # Not `replace`, which would say once more whom the splits leave out.
        splits = copy.copy(self.splits)
        object.__setattr__(splits, "train", plain)
        return splits

    def _fit(self, params: Mapping[str, Any], reporter: Reporter) -> Recommender:
        train = self.splits.train
        training = self._trainer.start(
            dict(params), train, seed=reporter.seed, max_epochs=self.max_steps
        )

        def read() -> float:
            return self._each_epoch.judge(training, [self.metric]).estimate(self.metric).mean

        train_epochs(training, reporter, self.max_steps, read)
        n_epochs = 0 if reporter.best_step is None else reporter.best_step + 1
        return Recommender(
            self._trainer.name, dict(params), n_epochs, train, training, dict(self.facts)
        )


def baselines_for(train: Interactions, metric: str) -> tuple[str, ...]:
    """Return the simple recommenders that any other should beat on such data."""
    if is_rating(metric):
        return _RATING_BASELINES
    return (BASELINES[0], _OF_LATE, *BASELINES[1:]) if knows_days(train) else BASELINES


def _own_space(trainer: str, metric: str) -> SearchSpace:
    """Return a trainer's space, of a metric of ratings with the loss that learns from them."""
    if is_rating(metric) and "mse" in RECOMMENDER_LOSSES.get(trainer, ()):
        return recommender_space(trainer, loss="mse")
    return recommender_space(trainer)


# What a difference of facts shows -> what it means.
_MEANINGS = {
    "parts)": "The parts are users, items, ratings, timestamps, then codes and weights of side "
    "features; None where data were read without them.",
    "'ties': stored 'mid rank'": "An earlier version of hpolab ranked these trials by another "
    "rule: where candidates score the same, metrics are now their expected values over all orders, "
    "which older ones are not. The study opens and reports as before; go on in a new one.",
}


@contextmanager
def _explained() -> Iterator[None]:
    """Say what differences of facts mean, where they do not speak for themselves."""
    try:
        yield
    except RecipeMismatch as error:
        said = [meaning for sign, meaning in _MEANINGS.items() if sign in error.found]
        if not said:
            raise
        raise RecipeMismatch(
            "\n  ".join([error.found, *(f"({meaning})" for meaning in said)]),
            str(error).removeprefix(error.found),
        ) from error


def _fingerprint_of(rows: Interactions) -> str:
    features = (rows.user_features, rows.item_features)
    codes = [None if each is None else (each.codes, each.weights) for each in features]
    columns = [rows.users, rows.items, rows.ratings, rows.timestamps, *codes]
    # Studies of before there were weights have the others alone.
    return data_fingerprint((*columns, *([] if rows.weights is None else [rows.weights])))


def _flat(estimates: Mapping[str, RankingEstimate]) -> dict[str, float]:
    """Return metrics with their standard errors as metrics of their own."""
    return {
        key: value
        for name, estimate in estimates.items()
        for key, value in ((name, estimate.mean), (f"{name} (error)", estimate.standard_error))
    }
