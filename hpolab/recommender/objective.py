"""RecommenderObjective: trains a recommender and ranks the items held out of its training."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from hpolab.display import Displayed
from hpolab.errors import (
    InvalidArgument,
    InvalidType,
    MissingExtra,
    RecipeMismatch,
    check_count,
    hint,
    needs,
    one_of,
)
from hpolab.fingerprint import data_fingerprint
from hpolab.keywords import checks_keywords
from hpolab.objectives.base import Objective
from hpolab.objectives.epochs import train_epochs
from hpolab.objectives.names import refuse_settings
from hpolab.recommender.ranking import LOWER_IS_BETTER, RankingTask
from hpolab.recommender.saved import read_saved, write_saved
from hpolab.recommender.space import RECOMMENDER_LOSSES, RECOMMENDERS, recommender_space
from hpolab.recommender.trainer import RecommenderTrainer
from hpolab.search_space.reach import values_beside, values_of
from hpolab.seeding import check_seed
from hpolab.studies.export import in_short
from hpolab.torch.horizon import check_schedule
from hpolab.torch.names import names_of_others, names_of_training, of_others
from hpolab.torch.optimizers import optimizer_space
from hpolab.trial.reporter import ReporterOptions

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from pathlib import Path
    from typing import Unpack

    from numpy.typing import NDArray
    from optuna import Study

    from hpolab.recommender.interactions import Interactions
    from hpolab.recommender.ranking import Ranking, RankingEstimate
    from hpolab.recommender.splits import Splits
    from hpolab.recommender.trainer import RecommenderTraining
    from hpolab.search_space.space import SearchSpace
    from hpolab.trial.reporter import Reporter

__all__ = ["Recommender", "RecommenderObjective"]

BASELINES = ("popularity", "ease", "als")
"""A second's work each on 100,000 interactions: what a tuned model must beat to be worth it."""

_PATIENCE = 15

# EASE inverts a matrix of items by items: of more than these, its time and memory are no aside.
_MOST_ITEMS_OF_EASE = 5000

# Where each trainer's class is; all others are models of torch.
_CLASSES = {
    "popularity": ("classical", "Popularity"),
    "ease": ("classical", "Ease"),
    "item_knn": ("classical", "ItemKnn"),
    "als": ("implicit", "Als"),
    "bpr_implicit": ("implicit", "BprImplicit"),
    "logistic_mf": ("implicit", "LogisticMf"),
}


@dataclass(frozen=True, repr=False)
class Recommender(Displayed):
    """A trained recommender.

    Attributes:
        name: Its trainer's name.
        params: What it was trained with.
        n_epochs: Epochs that its weights have seen.
        train: What it was trained on.
        training: The training, at its best epoch.
    """

    name: str
    params: Mapping[str, Any]
    n_epochs: int
    train: Interactions
    training: RecommenderTraining

    def scores(self, users: NDArray[Any]) -> NDArray[Any]:
        """Return the scores of all items for user codes (b,): (b, n_items)."""
        return self.training.scores(users)

    @checks_keywords()
    def recommend(self, user_ids: Any, k: int = 10) -> NDArray[Any]:
        """Return the ids of the best items for some users, the best first, (b, k), or (k,) for one.

        Items that a user has in `train` are left out. A user who is not known, or of whom neither a
        row nor a side feature is there, gets the items that most users have taken.

        Args:
            user_ids: (b,) ids, as they were given; or one id.
            k: How many, 1 to n_items.

        Raises:
            InvalidArgument: If ``k`` is out of its range, or larger than what a user has left, or
                an id is missing.
            InvalidType: If the ids are text where those of `train` are numbers, or the like.
        """
        check_count("k", k)
        if isinstance(user_ids, str | bytes) or not hasattr(user_ids, "__iter__"):
            one: NDArray[Any] = self.recommend([user_ids], k)[0]
            return one
        users = self.train.encode_users(user_ids)
        known = self._has_something_known(users)
        table = np.empty((len(users), self.train.n_items))
        table[~known] = np.bincount(self.train.items, minlength=self.train.n_items)
        if known.any():
            table[known] = self.scores(users[known])
            seen = self.train.matrix()[users[known]].tocoo()
            table[np.flatnonzero(known)[seen.row], seen.col] = -np.inf
        best = np.argsort(-table, axis=1, kind="stable")[:, :k]
        n_left = np.isfinite(table).sum(axis=1)
        if k > n_left.min(initial=self.train.n_items):
            user = self.train.user_ids[users[n_left.argmin()]].item() if len(users) else None
            raise InvalidArgument(
                f"`k` must be at most the number of items that each user has not seen, got {k}, "
                f"where user {user!r} has {n_left.min(initial=self.train.n_items)} left."
            )
        ids: NDArray[Any] = self.train.item_ids[best]
        return ids

    def save(self, path: str | Path) -> None:
        """Write the recommender to a file, with what it was trained on, for `load`.

        Written beside, then moved: an earlier one is there until the new one is whole.

        Args:
            path: The file.

        Raises:
            InvalidType: If ids are objects that are neither numbers, dates nor text.
        """
        facts = {"name": self.name, "params": dict(self.params), "n_epochs": self.n_epochs}
        write_saved(path, facts=facts, state=self.training.to_bytes(), train=self.train)

    @classmethod
    def load(
        cls, path: str | Path, *, trainer: RecommenderTrainer | None = None, device: str = "cpu"
    ) -> Recommender:
        """Read a recommender that `save` wrote; nothing is unpickled.

        Args:
            path: The file.
            trainer: What trained it, where that is a trainer of your own.
            device: Where a model of torch shall live.

        Raises:
            DataNotFound: If there is no such file.
            InvalidArgument: If hpolab did not write it, or it was trained by another trainer.
            MissingExtra: If its trainer needs a package that is not installed.
        """
        facts, state, train = read_saved(path)
        name, params, n_epochs = facts["name"], facts["params"], facts["n_epochs"]
        if trainer is None and name not in RECOMMENDERS:
            raise InvalidArgument(
                f"`trainer` must be the RecommenderTrainer that trained it, {name!r}, got None."
            )
        opened = open_trainer(name, device) if trainer is None else trainer
        if opened.name != name:
            raise InvalidArgument(f"`trainer` must be of {name!r}, got one of {opened.name!r}.")
        length = params.get("schedule_epochs", max(n_epochs, 1))
        with opened.seeded(0):
            training = opened.start(params, train, seed=0, max_epochs=length)
        training.from_bytes(state)
        return cls(name, params, n_epochs, train, training)

    def _has_something_known(self, users: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return of which users, -1 for an unknown one, there is something to learn from."""
        known = users >= 0
        if self.train.user_features is None:
            known[known] = np.isin(users[known], self.train.users)
        return known

    def _in_one_line(self) -> str:
        params = in_short(self.params, digits=4)
        epochs = "1 epoch" if self.n_epochs == 1 else f"{self.n_epochs} epochs"
        return f"{self.name}, {params}; {epochs} on {self.train._in_one_line()}"


class RecommenderObjective(Objective):
    """Trains a recommender; a trial's value is a ranking metric over all users.

    Each epoch the held-out items of `valid` are ranked among all items that their users have not
    seen; that metric is reported, pruned on and stops the training early. At the end the best
    epoch's model ranks `score` (`valid` again where there is none), which is the trial's value.
    All of ``metrics`` are stored with the trial, each with its standard error over users.

    Args:
        trainer: One of `RECOMMENDERS`, or a `RecommenderTrainer`.
        splits: What trains, steers, ranks and tests; nothing here reads `test`.
        search_space: By default `recommender_space` of the trainer.
        metric: What is tuned: one of `RANKING_METRICS` with its cut. A steadier one than that
            which is reported in the end may choose better: NDCG@100 for NDCG@10.
        metrics: What is stored besides.
        max_epochs: Of the longest training, 1 or above; a closed form has one.
        n_sampled: Rank each held-out item among so many sampled items in place of all: for
            comparison with published figures only. See `RankingTask`.
        device: Where models of torch live.
        eval_users: Rank only so many users of `valid` after each epoch, drawn once and the same in
            all trials, 1 or above; None ranks all of them. They choose a trial's best epoch and
            prune it; its value at the end is that of all users. For large data and models whose
            scores are dear, such as "deepfm" and "neumf".
        references: Recommenders, of `RECOMMENDERS`, whose metrics at their
            defaults stand beside the trials in reports; () for none.
        **settings: ``patience`` (15 epochs by default) and the others of `ReporterSettings`.

    Raises:
        InvalidArgument: If an argument is out of its range, or the trainer or a metric is unknown.
        InvalidType: If ``trainer`` is neither a name nor a `RecommenderTrainer`.
        MissingExtra: If the trainer's package is not installed.

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
        metrics: Sequence[str] = ("hr@10", "ndcg@10"),
        max_epochs: int = 200,
        n_sampled: int | None = None,
        eval_users: int | None = None,
        device: str = "cpu",
        references: Sequence[str] = BASELINES,
        **settings: Unpack[ReporterOptions],
    ) -> None:
        check_count("max_epochs", max_epochs)
        settings.setdefault("patience", _PATIENCE)
        self._trainer = open_trainer(trainer, device)
        if search_space is None:
            search_space = recommender_space(self._trainer.name)
        self.splits = splits
        self._n_sampled = n_sampled
        self._references = tuple(one_of("references", name, RECOMMENDERS) for name in references)
        self._valid = self._task(splits.valid)
        self._score = self._valid if splits.score is None else self._task(splits.score)
        self._each_epoch = self._epoch_task(eval_users)
        self._metrics = tuple(dict.fromkeys([metric, *metrics]))
        for name in self._metrics:
            self._valid.check_metric(name)
        super().__init__(
            search_space=search_space,
            direction="minimize" if metric in LOWER_IS_BETTER else "maximize",
            max_steps=min(max_epochs, self._trainer.max_epochs or max_epochs),
            metric=metric,
            **settings,
        )
        check_schedule(self.search_space, self.max_steps)
        # Without the protocol the value of a metric means nothing.
        self.facts = {"metric": metric, **splits.facts, **self._score.facts}
        if self._each_epoch is not self._valid:
            self.facts["eval_users"] = eval_users
        self._check_search_space()
        self._data_facts = {
            name: None if (rows := getattr(splits, name)) is None else _fingerprint_of(rows)
            for name in ("train", "valid", "score")
        }

    def _training_in_words(self) -> str:
        return f"{self._trainer.name} on {self.splits._in_one_line()}"

    def train(self, params: Mapping[str, Any], reporter: Reporter) -> float:
        """Train one model; see the class for what is reported and returned."""
        with self._trainer.seeded(reporter.seed):
            training = self._fit(params, self.splits.train, reporter)
            estimates = self._score.estimate(training.scores, self._metrics)
        reporter.record(**_flat(estimates))
        return estimates[self.metric].mean

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
            training = self._fit(params, self.splits.train, reporter)
        n_epochs = 0 if reporter.best_step is None else reporter.best_step + 1
        return Recommender(self._trainer.name, dict(params), n_epochs, self.splits.train, training)

    def refit(self, params: Mapping[str, Any], seed: int, *, n_epochs: int) -> Recommender:
        """Train on `train`, `valid` and `score` together, for a number of epochs known by now.

        Args:
            params: As in `fit`.
            seed: Seeds everything random, 0 or above.
            n_epochs: The `n_epochs` of the model that `fit` returned, 1 or above.
        """
        check_count("n_epochs", n_epochs)
        params = self._configuration(params)
        rows = self.splits.train.join(self.splits.valid)
        if self.splits.score is not None:
            rows = rows.join(self.splits.score)
        with self._trainer.seeded(seed):
            training = self._trainer.start(dict(params), rows, seed=seed, max_epochs=self.max_steps)
            for _ in range(n_epochs):
                training.epoch()
        return Recommender(self._trainer.name, dict(params), n_epochs, rows, training)

    @checks_keywords()
    def evaluate(self, model: Recommender, data: Interactions) -> dict[str, float]:
        """Return all metrics of a model: name -> value, and its standard error; see `estimates`."""
        return _flat(self.estimates(model, data))

    @checks_keywords()
    def estimates(self, model: Recommender, data: Interactions) -> dict[str, RankingEstimate]:
        """Return all metrics of a model with their standard errors over users.

        Args:
            model: From `fit` or `refit`.
            data: The split to rank; what comes before it in the order `train`, `valid`, `score`,
                `test` is seen.
        """
        return self._task(data).estimate(model.scores, self._metrics)

    @checks_keywords()
    def ranking(self, model: Recommender, data: Interactions) -> Ranking:
        """Return the ranks that a model gives to held-out items, as in `estimates`.

        `Ranking.difference` compares two models on the same users.
        """
        return self._task(data).rank(model.scores, metrics=self._metrics)

    @checks_keywords()
    def row_scores(self, model: Recommender, data: Interactions) -> NDArray[np.float64]:
        """Return the metric of each user with an item to find, in the order of their codes.

        Of coverage, which no user has alone, they are its jackknife over users.

        Args:
            model: From `fit` or `refit`.
            data: As in `estimates`.
        """
        ranking = self._task(data).rank(model.scores, metrics=[self.metric])
        return ranking.by_user(self.metric)

    def baselines(
        self, data: Interactions, names: Sequence[str] = BASELINES
    ) -> dict[str, dict[str, RankingEstimate]]:
        """Return the metrics of simple recommenders at their defaults, to stand beside a model's.

        Args:
            data: The split to rank.
            names: Which ones, of `RECOMMENDERS`.
        """
        return {name: self.estimates(self._baseline(name), data) for name in names}

    def references(self) -> dict[str, dict[str, float] | str]:
        """Return the metrics of simple recommenders on what gives trials their value."""
        return {name: self._reference(name) for name in self._references}

    def check(self) -> None:
        """Start a training with the space's defaults: are they complete, and in their ranges?"""
        super().check()
        self._check_names()
        with self._trainer.seeded(0):
            self._trainer.start(
                self.search_space.defaults(), self.splits.train, seed=0, max_epochs=self.max_steps
            )

    def _known_names(self) -> list[str]:
        name = self._trainer.name
        if name not in RECOMMENDERS:  # a trainer of the user's own
            return []
        known = recommender_space(name).trainer_names()
        if name not in RECOMMENDER_LOSSES:
            return known
        of_losses = recommender_space(name, loss=RECOMMENDER_LOSSES[name]).trainer_names()
        return [*known, *of_losses, *names_of_training()]

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

    def _check_names(self) -> None:
        known = self._known_names()
        for name in self.search_space.trainer_names() if known else ():
            if name not in known:
                raise InvalidArgument(
                    f"`search_space` must hold parameters of trainer {self._trainer.name!r}, got "
                    f"{name!r}.{hint(name, known)}"
                )
        if known:
            self._check_read()

    def _check_read(self) -> None:
        """Refuse names that another loss, optimizer or schedule reads than the space has."""
        name = self._trainer.name
        if name not in RECOMMENDER_LOSSES:
            return
        others = names_of_others(self.search_space)
        own = recommender_space(name).without(optimizer_space("adam").defaults()).trainer_names()
        others = {each: owners for each, owners in others.items() if each not in own}
        if others:
            raise InvalidArgument(of_others(self.search_space, others, f"trainer {name!r}"))
        losses = values_beside(self.search_space, "loss").get("n_negatives", {})
        if any(values <= {"softmax"} for values in losses.values()):
            raise InvalidArgument(
                "`search_space` must hold names that something reads, got 'n_negatives', which no "
                "loss reads but those that sample: the loss 'softmax' takes all items."
            )
        for each in ("accumulation_steps", "max_grad_norm"):
            if each in self.search_space.trainer_names():
                raise InvalidArgument(
                    "`search_space` must hold names that something reads, got "
                    f"{each!r}, which a TorchObjective reads, but no recommender's trainer."
                )

    def check_facts(self, study: Study) -> None:
        """Refuse a study whose values depend on other facts; see `Objective.check_facts`."""
        with _naming_parts():
            super().check_facts(study)

    def compare_facts(self, study: Study) -> None:
        """Refuse a study whose values depend on other facts; see `Objective.compare_facts`."""
        with _naming_parts():
            super().compare_facts(study)

    def _known_facts(self) -> dict[str, Any]:
        return super()._known_facts() | self._data_facts | {"trainer": self._trainer.name}

    def _reference(self, name: str) -> dict[str, float] | str:
        n_items = self.splits.train.n_items
        if name == "ease" and n_items > _MOST_ITEMS_OF_EASE:
            return f"left out: it inverts a matrix of all {n_items:,} items"
        try:
            model = self._baseline(name)
        except MissingExtra as error:
            return f"left out: {error}"
        return _flat(self._score.estimate(model.scores, self._metrics))

    def _baseline(self, name: str) -> Recommender:
        """Return a recommender at its defaults."""
        objective = RecommenderObjective(
            name, self.splits, metric=self.metric, metrics=self._metrics
        )
        return objective.fit(objective.search_space.defaults(), seed=0)

    def _fit(
        self, params: Mapping[str, Any], rows: Interactions, reporter: Reporter
    ) -> RecommenderTraining:
        training = self._trainer.start(
            dict(params), rows, seed=reporter.seed, max_epochs=self.max_steps
        )

        def read() -> float:
            return self._each_epoch.estimate(training.scores, [self.metric])[self.metric].mean

        train_epochs(training, reporter, self.max_steps, read)
        return training

    def _epoch_task(self, n_users: int | None) -> RankingTask:
        """Return the task that is ranked after each epoch: `valid`, or some users of it."""
        if n_users is None:
            return self._valid
        check_count("eval_users", n_users)
        valid = self.splits.valid
        users = np.unique(valid.users)
        if n_users >= len(users):
            return self._valid
        # Always the same ones: trials are compared by them.
        drawn = np.random.default_rng(0).choice(users, size=n_users, replace=False)
        rows = valid.rows(np.flatnonzero(np.isin(valid.users, drawn)))
        return RankingTask(seen=self.splits.train, held_out=rows, n_sampled=self._n_sampled)

    def _task(self, data: Interactions) -> RankingTask:
        before: list[Interactions] = [self.splits.train]
        for part in (self.splits.valid, self.splits.score):
            if data is part:
                break
            if part is not None:
                before.append(part)
        return RankingTask(seen=before, held_out=data, n_sampled=self._n_sampled)


@contextmanager
def _naming_parts() -> Iterator[None]:
    """Say of which columns the sizes are by which data differ, as where ratings were not read."""
    try:
        yield
    except RecipeMismatch as error:
        if "parts)" not in error.found:
            raise
        raise RecipeMismatch(
            f"{error.found}\n  (The parts are users, items, ratings, timestamps, then codes and "
            "weights of side features; None where data were read without them.)",
            str(error).removeprefix(error.found),
        ) from error


def _fingerprint_of(rows: Interactions) -> str:
    features = (rows.user_features, rows.item_features)
    codes = [None if each is None else (each.codes, each.weights) for each in features]
    return data_fingerprint((rows.users, rows.items, rows.ratings, rows.timestamps, *codes))


def open_trainer(trainer: str | RecommenderTrainer, device: str = "cpu") -> RecommenderTrainer:
    """Return a trainer by its name, or as it is.

    Raises:
        InvalidArgument: If there is no such trainer.
        InvalidType: If it is neither a name nor a `RecommenderTrainer`.
    """
    if isinstance(trainer, RecommenderTrainer):
        return trainer
    if not isinstance(trainer, str):
        raise InvalidType(
            f"`trainer` must be a name or a RecommenderTrainer, got {type(trainer).__name__}."
        )
    one_of("trainer", trainer, RECOMMENDERS)
    if trainer in _CLASSES:
        file, name = _CLASSES[trainer]
        module = import_module(f"hpolab.recommender.{file}")
        opened: RecommenderTrainer = getattr(module, name)()
        return opened
    with needs(f"`trainer={trainer!r}`", "PyTorch", "recommender"):
        from hpolab.recommender.training import TorchRecommenderTrainer

    return TorchRecommenderTrainer(trainer, device=device)


def _flat(estimates: Mapping[str, RankingEstimate]) -> dict[str, float]:
    """Return metrics with their standard errors as metrics of their own."""
    return {
        key: value
        for name, estimate in estimates.items()
        for key, value in ((name, estimate.mean), (f"{name} (error)", estimate.standard_error))
    }
