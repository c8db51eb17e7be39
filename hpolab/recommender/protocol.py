"""Who is judged on what: held-out rows as a task, for users whom a model knows and for the rest."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from hpolab.errors import InvalidArgument, check_count
from hpolab.recommender.interactions import Interactions
from hpolab.recommender.pairs import are_among, distinct_pairs, pairs_of
from hpolab.recommender.ranking import RankingTask
from hpolab.recommender.rating import RATING_METRICS, RatingTask
from hpolab.recommender.trained import known_users

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from hpolab.recommender.ranking import Ranking
    from hpolab.recommender.rating import RatingErrors
    from hpolab.recommender.splits import Splits
    from hpolab.recommender.trainer import RecommenderTraining


__all__ = ["HeldOut", "Judged", "Protocol", "is_rating"]

Judged: TypeAlias = "Ranking | RatingErrors"


def is_rating(metric: str) -> bool:
    """Tell whether a metric is of predicted ratings; others are of rankings."""
    return metric in RATING_METRICS


@dataclass(frozen=True)
class HeldOut:
    """Held-out rows, and how models are judged on them.

    Attributes:
        task: The rows as a task.
        history: What was seen before, by which a model scores that reads a user's rows as it
            scores: see `RecommenderTraining.with_history`.
        trained_on: What the model was trained on.
    """

    task: RankingTask | RatingTask
    history: Interactions
    trained_on: Interactions

    def judge(self, training: RecommenderTraining, metrics: Sequence[str]) -> Judged:
        """Return how a model does: its ranks, or the errors of its ratings.

        A user of whom nothing is known is ranked as served: by how many took each item.

        Args:
            training: The model.
            metrics: What will be asked for.
        """
        if isinstance(self.task, RatingTask):
            return self.task.errors(training.predict)
        reading = training
        if self.history is not self.trained_on:
            reading = training.with_history(self.history)
        rows = self.trained_on if reading is training else self.history
        is_known, popularity = known_users(training, rows), _counts(self.trained_on)

        def scores(users: NDArray[Any]) -> NDArray[Any]:
            table = reading.scores(users)
            if not is_known[users].all():
                table = np.array(table)
                table[~is_known[users]] = popularity
            return table

        return self.task.rank(scores, metrics=metrics)


class Protocol:
    """Makes tasks of splits, all by one rule.

    Args:
        splits: What is held out.
        metrics: What will be computed: all of ratings, or all of rankings.
        n_sampled: As in `RankingTask`.

    Raises:
        InvalidArgument: If metrics are of both kinds, or ratings are to be sampled.
    """

    def __init__(self, splits: Splits, metrics: Sequence[str], *, n_sampled: int | None) -> None:
        for name in metrics:
            meant = name.partition("@")[0].lower()
            if is_rating(meant) and not is_rating(name):
                raise InvalidArgument(
                    f"`metric` must be {meant!r} for the errors of predicted ratings, got {name!r}."
                )
        self._splits = splits
        self._n_sampled = n_sampled
        self._is_rating = is_rating(metrics[0])
        others = [name for name in metrics if is_rating(name) != self._is_rating]
        if others:
            raise InvalidArgument(
                "`metrics` must be of ratings, such as 'rmse', or of rankings, such as 'ndcg@10', "
                f"as a model is trained for one of them, got {metrics[0]!r} and {others[0]!r}."
            )
        if self._is_rating and n_sampled is not None:
            raise InvalidArgument(
                f"`n_sampled` must be None for the metric {metrics[0]!r}, which ranks nothing, got "
                f"{n_sampled}."
            )

    def held_out(
        self, data: Interactions, trained_on: Interactions | None = None, *, users: str = "warm"
    ) -> HeldOut:
        """Return the task of some held-out rows.

        What a model has seen is what it was trained on, and the splits before the one that holds
        the rows, in the order `train`, `valid`, `score`, `test`.

        Args:
            data: The rows, of a split or new ones.
            trained_on: What the model has learned from; None for `train`.
            users: "warm" for those with `Splits.min_history` rows in ``trained_on``, and for all
                where there is none such; "cold" for the others; "all" for both.

        Raises:
            InvalidArgument: If these users have no row that the model has not seen, or ``data`` has
                other users or items than the splits.

        Warns:
            UserWarning: If no user is warm, or rows are left out as the model has seen them.
        """
        self._splits.train.check_same_ids(data, "data")
        is_warm = np.isin(data.users, self._splits.warm_users(trained_on))
        if users == "warm" and not is_warm.any():
            needed = self._splits.min_history
            few = "an interaction" if needed == 1 else f"{needed} interactions"
            warnings.warn(
                f"None of the {len(np.unique(data.users)):,} users has {few} in the rows that "
                "the model was trained on. All of them are scored, so the metrics are mostly luck: "
                "`leave_last_out` holds out rows of users whom a model can know.",
                stacklevel=5,
            )
            users = "all"
        asked = {"warm": is_warm, "cold": ~is_warm, "all": np.ones(len(data), bool)}[users]
        seen = self._seen(data, trained_on)
        is_new = ~_are_rows_of(data, seen)
        rows = data.rows(np.flatnonzero(asked & is_new))
        n_seen = int((asked & ~is_new).sum())
        if not len(rows):
            raise InvalidArgument(
                f"`data` must hold rows of {users} users that the model has not seen, got "
                f"{int(asked.sum()):,} rows of them, {n_seen:,} seen: a model that was trained on "
                "rows knows them by heart."
            )
        if n_seen:
            warnings.warn(
                f"{n_seen:,} of {int(asked.sum()):,} held-out rows are left out, as they are in "
                "`train` or an earlier split, too: a model knows them by heart.",
                stacklevel=5,
            )
        history = reduce(Interactions.join, seen)
        if self._is_rating:
            return HeldOut(RatingTask(held_out=rows), history, seen[0])
        task = RankingTask(seen=history, held_out=rows, n_sampled=self._n_sampled)
        return HeldOut(task, history, seen[0])

    def cold(self, data: Interactions) -> HeldOut | None:
        """Return the task of the users whom a model of `train` does not know; None if all are."""
        is_cold = ~np.isin(data.users, self._splits.warm_users())
        is_new = ~_are_rows_of(data, self._seen(data, None))
        if is_cold.all() or not (is_cold & is_new).any():
            return None
        return self.held_out(data, users="cold")

    def some_of(self, held_out: HeldOut, data: Interactions, n_users: int | None) -> HeldOut:
        """Return the task of some of the warm users of a split, for a quicker look.

        Args:
            held_out: The task of all of them.
            data: The split.
            n_users: How many, drawn once; None for all.

        Raises:
            InvalidArgument: If ``n_users`` is below 1.
        """
        if n_users is None:
            return held_out
        check_count("eval_users", n_users)
        warm = np.intersect1d(data.users, self._splits.warm_users())
        users = warm if len(warm) else np.unique(data.users)
        if n_users >= len(users):
            return held_out
        # Always the same ones: trials are compared by them.
        drawn = np.random.default_rng(0).choice(users, size=n_users, replace=False)
        rows = data.rows(np.flatnonzero(np.isin(data.users, drawn)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of all users it has been said
            return self.held_out(rows, users="all")

    def facts(self, held_out: HeldOut, data: Interactions) -> dict[str, Any]:
        """Return what a reader of a split's metrics must know."""
        counts = {
            **held_out.task.facts,
            "n_cold_users": len(np.setdiff1d(data.users, self._splits.warm_users())),
            # The task was made without them.
            "n_held_out_seen": int(_are_rows_of(data, self._seen(data, None)).sum()),
        }
        if self._splits.min_history != 1:
            counts["min_history"] = self._splits.min_history
        # Without zeros they are what earlier versions stored.
        return {name: value for name, value in counts.items() if value != 0}

    def _seen(self, data: Interactions, trained_on: Interactions | None) -> list[Interactions]:
        """Return what a model has seen before it is judged on some rows."""
        splits = self._splits
        seen = [splits.train if trained_on is None else trained_on]
        for part in (splits.valid, splits.score):
            if part is None:
                continue
            if data is part or _are_rows_of(data, [part]).all():
                break
            seen.append(part)
        return seen


def _are_rows_of(data: Interactions, parts: Sequence[Interactions]) -> NDArray[np.bool_]:
    """Return which rows (n,) are in any of some parts, by their users and items."""
    return are_among(pairs_of(data), distinct_pairs(*parts))


def _counts(rows: Interactions) -> NDArray[np.int64]:
    return np.bincount(rows.items, minlength=rows.n_items)
