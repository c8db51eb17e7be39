"""StagedObjective: an expensive training, once, and post-processing tuned on what it made."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any

from hpolab import _optuna
from hpolab.display import Displayed
from hpolab.errors import Diverged, InvalidArgument, InvalidType, check_count, one_of
from hpolab.identity import function_name, function_settings, plain_fact
from hpolab.keywords import checks_keywords
from hpolab.objectives.base import UNNAMED, Objective
from hpolab.search_space.prior import without_priors
from hpolab.search_space.space import SearchSpace, as_space
from hpolab.seeding import check_seed
from hpolab.staged.artifacts import ArtifactCache, default_cache, fingerprint
from hpolab.staged.post import PostStage, StudyPlace
from hpolab.studies.export import POST_KEY, in_short
from hpolab.studies.study import post_study_name
from hpolab.trial.reporter import ReporterOptions, options_of_reporter, training_seed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Unpack

    from optuna import Study
    from optuna.trial import FrozenTrial

    from hpolab.search_space.space import SearchSpace
    from hpolab.staged.post import Tuned
    from hpolab.trial.reporter import Reporter

__all__ = ["Staged", "StagedObjective"]


_POST_TRIALS = 50


@dataclass(frozen=True, repr=False)
class Staged(Displayed):
    """What `StagedObjective.fit` returns.

    Attributes:
        artifact: What the training made.
        post_params: The post-processing parameters that were tuned on it.
    """

    artifact: Any
    post_params: Mapping[str, Any]

    def _in_one_line(self) -> str:
        shape = getattr(self.artifact, "shape", None)
        of = "" if shape is None else f" of shape {tuple(shape)}"
        params = in_short(self.post_params, digits=4)
        return f"{params} for an artifact, {type(self.artifact).__name__}{of}"


class StagedOptions(ReporterOptions, total=False):
    """What else `StagedObjective` takes by name."""

    n_post_trials: int
    post_sampler: Any
    cache: ArtifactCache | str | PathLike[str] | None


class StagedObjective(Objective):
    """Trains once a trial, and tunes post-processing parameters on what the training made.

    Decision thresholds, temperatures of a calibration, the settings of a post-processing, weights
    of an ensemble: parameters that need no new training. In one flat search with those of the
    training each trial of them costs a training; here ``make_artifact`` makes an *artifact*, such
    as a model's predictions, and a study of its own tunes them on it. The trial's value is what
    the tuned ones reach.

    The best of many is an overestimate, also of thresholds. So the post-processing parameters are
    tuned on one part of the data and the trial's value comes from another; with ``cross_fit`` from
    each part in turn, with what was tuned on the others.

    An artifact is kept under what it was made from: params, seed, the fingerprint of ``data`` and
    ``facts``. Killed in the training, a trial goes on from its checkpoint, if ``make_artifact``
    gives its state to the reporter; killed behind it, with the artifact and with what the study of
    post-processing has. Changed code does not show in the key: give a ``facts={"version": 2}``
    with it.

    The studies of post-processing are ordinary ones in the same storage, named after the study and
    the trial: ``detector-trial7-post``; of a cross-fit, what scores part "a",
    ``detector-trial7-post-a``.

    Each trial records, beside its metrics, the value "at default" of the post-processing
    parameters, and "in tuning", on the parts that they were tuned on: the difference to the value
    is their optimism.

    Args:
        make_artifact: (params, reporter) -> artifact: anything that can be pickled, but None. It
            calls ``reporter.report(value, step)`` while it trains, with values that get better in
            the same ``direction``, and seeds all that is random from ``reporter.seed``. A keyword
            of `artifact`, such as ``rows``, is passed on to it.
        score_artifact: (artifact, post params, part) -> number, or numbers by name, ``metric``
            among them. It must not change the artifact.
        search_space: The parameters of the training.
        post_space: The post-processing parameters.
        metric: The name of the metric that is optimized, where ``score_artifact`` returns several.
        direction: "minimize" or "maximize".
        max_steps: Reports of a full training, 1 or above.
        parts: What ``score_artifact`` calls the parts of the data: the one to tune on and the one
            to score. With one part alone both are the same and values are optimistic.
        cross_fit: Whether each of two or more parts is scored, with what was tuned on the others.
        tune: "each" tunes the post-processing parameters in every trial; "best" scores trials at
            the default ones, which chooses nothing, and leaves the tuning to `tune`, of the best
            artifact.
        data: What the training sees, for the artifacts' key: arrays, numbers, strings, and dicts
            or lists of these. Only its fingerprint is kept.
        facts: What the values depend on besides; see `Objective`.
        **settings: ``n_post_trials``, post-processing trials for each study of them, the default's
            included, 50 by default; ``post_sampler``, their sampler, as for `make_study`;
            ``cache``, where artifacts are kept: a folder or an `ArtifactCache`, by default one of
            1 GiB beside the storage's file, for trials alone, and `fit` then keeps nothing. And
            ``patience`` and the others of `ReporterSettings`.

    Raises:
        InvalidArgument: If an argument is out of its range, or a name stands in both spaces.
        InvalidType: If ``make_artifact`` or ``score_artifact`` is no function, or a space is none.

    Example:
        >>> import numpy as np
        >>> from hpolab import make_study, run
        >>> from hpolab import SearchSpace
        >>> truth = np.arange(200) % 2
        >>> rows = {"tune": slice(0, 100), "score": slice(100, 200)}
        >>> def train(params, reporter):
        ...     noise = np.random.default_rng(reporter.seed).normal(size=200)
        ...     return truth + params["noise"] * noise
        >>> def score(predictions, post_params, part):
        ...     said = predictions[rows[part]] > post_params["threshold"]
        ...     return (said == truth[rows[part]]).mean()
        >>> objective = StagedObjective(
        ...     train, score, search_space=SearchSpace({"noise": (0.1, 1.0)}),
        ...     post_space=SearchSpace({"threshold": (-1.0, 2.0)}, defaults={"threshold": 0.0}),
        ...     direction="maximize", max_steps=1, n_post_trials=15,
        ... )
        >>> study = make_study("noisy", storage="memory://", objective=objective, seed=0)
        >>> run(study, objective, n_trials=3)
        >>> tuned = objective.tune(study)
        >>> tuned.study_name, list(tuned.post_params), tuned.value > tuned.default_value
        ('noisy-trial1-post', ['threshold'], True)
    """

    @checks_keywords(StagedOptions)
    def __init__(
        self,
        make_artifact: Callable[..., Any],
        score_artifact: Callable[[Any, Mapping[str, Any], Any], float | Mapping[str, float]],
        *,
        search_space: SearchSpace | Mapping[str, Any],
        post_space: SearchSpace | Mapping[str, Any],
        metric: str = UNNAMED,
        direction: str,
        max_steps: int,
        parts: Sequence[Any] = ("tune", "score"),
        cross_fit: bool = False,
        tune: str = "each",
        data: Any = None,
        facts: Mapping[str, Any] | None = None,
        **settings: Unpack[StagedOptions],
    ) -> None:
        super().__init__(
            search_space=search_space,
            direction=direction,
            max_steps=max_steps,
            metric=metric,
            **options_of_reporter(settings),
        )
        functions = {"make_artifact": make_artifact, "score_artifact": score_artifact}
        for argument, function in functions.items():
            if not callable(function):
                raise InvalidType(
                    f"`{argument}` must be a function, got {type(function).__name__}."
                )
        opened_post_space = _checked_space(post_space, self.search_space)
        n_post_trials = settings.get("n_post_trials", _POST_TRIALS)
        check_count("n_post_trials", n_post_trials)
        cache = settings.get("cache")
        self.tune_each = one_of("tune", tune, ("each", "best")) == "each"
        self.post = PostStage(
            score=score_artifact,
            search_space=opened_post_space,
            parts=_checked_parts(parts, cross_fit),
            cross_fit=cross_fit,
            n_trials=n_post_trials,
            sampler=settings.get("post_sampler", "tpe"),
            direction=self.direction,
            metric=self.metric,
        )
        self._make_artifact = make_artifact
        self._cache = ArtifactCache(cache) if isinstance(cache, str | PathLike) else cache
        self._given_facts = {"data": fingerprint(data), **(facts or {})}
        self.facts = self._given_facts | self._facts_of_post()

    def _training_in_words(self) -> str:
        post = ", ".join(self.post.search_space.trainer_names())
        return f"{function_name(self._make_artifact)}, then post-processing of {post}"

    def train(self, params: Mapping[str, Any], reporter: Reporter) -> float:
        """Train, or take the artifact that is there, tune on it, and return the honest value."""
        study = None if reporter.trial is None else reporter.trial.study
        artifact = self._fetch(params, reporter, self._cache_of(study), {})
        defaults = self.post.search_space.defaults()
        metrics = self._metrics(artifact, dict.fromkeys(self.post.scored, defaults))
        if self.tune_each:
            tuned = self._tune_each(artifact, reporter)
            untuned = metrics[self.metric]
            metrics = self._metrics(artifact, {p: each.post_params for p, each in tuned.items()})
            metrics |= {
                "at default": untuned,
                "in tuning": _mean([each.value for each in tuned.values()]),
            }
        reporter.record(**metrics)
        return metrics[self.metric]

    def artifact(
        self,
        params: Mapping[str, Any],
        seed: int,
        *,
        cache: ArtifactCache | None = None,
        **more: Any,
    ) -> Any:
        """Return the artifact of params and a seed: from the cache if it has it, trained if not.

        Args:
            params: A trial's params, such as ``study.best_params``, or the trainer's.
            seed: Seeds everything random, 0 or above.
            cache: Where to look and to keep it; by default the objective's own, if it was given.
            **more: What is passed on to ``make_artifact`` by name, such as the rows to train on. It
                is part of the key.

        Raises:
            CacheMismatch: If another version has written the cache.
            Diverged: If the training reaches NaN or infinity.
            InvalidArgument: If ``seed`` is below 0.
            InvalidType: If the artifact is None or cannot be pickled.
        """
        check_seed(seed)
        params = self._configuration(params)
        return self._fetch(params, self.reporter(seed=seed), cache or self._cache, more)

    @checks_keywords()
    def fit(self, params: Mapping[str, Any], seed: int = 0) -> Staged:
        """Train outside any trial and tune the post-processing on the artifact, in memory.

        Raises:
            CacheMismatch: If another version has written the cache.
            Diverged: If the training, or each post-processing trial, reaches NaN or infinity.
            InvalidArgument: If ``seed`` is below 0, or ``score_artifact`` changes the
                artifact.
        """
        return self.tuned(self.artifact(params, seed), seed=seed)

    def fit_trial(
        self, study: Study, trial: int | FrozenTrial, *, seed: int | None = None
    ) -> Staged:
        """Return a trial's artifact with what was tuned on it; see `Objective.fit_trial`.

        The artifact is taken from the cache if it is there. With a ``seed`` of its own both stages
        are run anew, in memory.
        """
        if seed is not None:
            staged: Staged = super().fit_trial(study, trial, seed=seed)
            return staged
        found = self._complete_trial(study, trial)
        artifact = self._artifact_of(study, found)
        return Staged(artifact, self._tune_trial(study, found, artifact).post_params)

    def tuned(self, artifact: Any, *, seed: int = 0) -> Staged:
        """Tune the post-processing on an artifact, of one training or an average of several.

        Args:
            artifact: As `train` returns it.
            seed: Seeds the study, which is in memory.
        """
        place = StudyPlace("memory://", "post", seed)
        tuned = self.post.tune(artifact, self.post.delivered_on, place)
        return Staged(artifact, tuned.post_params)

    @checks_keywords()
    def evaluate(self, model: Staged, data: Any) -> dict[str, float]:
        """Return the metrics of a model that `fit` made, on the part that is called ``data``."""
        return self.post.metrics(model.artifact, model.post_params, data)

    def tune(self, study: Study, trial: int | FrozenTrial | None = None) -> Tuned:
        """Return the post-processing parameters to go with a trial, tuned now if they are not yet.

        Of a cross-fit, each part of which was scored with others, these are tuned on all parts.

        Args:
            study: The study of the trainings.
            trial: A complete trial of it, or its number; by default the best one.

        Raises:
            InvalidArgument: If there is no such complete trial.
        """
        trial = self._best_trial(study) if trial is None else trial
        found = self._complete_trial(study, trial)
        return self._tune_trial(study, found, self._artifact_of(study, found))

    def check(self) -> None:
        """Refuse spaces without a default configuration, and a cache of another version."""
        super().check()
        self.post.search_space.to_trial(self.post.search_space.defaults())
        if self._cache is not None:
            self._cache.check()

    def _artifact_of(self, study: Study, trial: FrozenTrial) -> Any:
        seed = training_seed(study, trial.number)
        cache = self._cache_of(study)
        return self._repeating(trial).artifact(self.params_of(trial), seed, cache=cache)

    def _tune_trial(self, study: Study, trial: FrozenTrial, artifact: Any) -> Tuned:
        place = self._place(study, trial.number, training_seed(study, trial.number))
        return self.post.tune(artifact, self.post.delivered_on, place)

    def _fetch(
        self,
        params: Mapping[str, Any],
        reporter: Reporter,
        cache: ArtifactCache | None,
        more: Mapping[str, Any],
    ) -> Any:
        def make() -> Any:
            made = self._make_artifact(dict(params), reporter, **more)
            if made is None:
                raise InvalidType("`make_artifact` must return an artifact, got None.")
            return made

        return make() if cache is None else cache.fetch(self._key(params, reporter, more), make)

    def _key(self, params: Mapping[str, Any], reporter: Reporter, more: Mapping[str, Any]) -> str:
        watch = self.settings
        length = [self.max_steps, watch.patience, watch.min_delta, watch.timeout_seconds]
        facts = json.loads(json.dumps(self._given_facts))
        return fingerprint([dict(params), reporter.seed, length, facts, dict(more)])

    def _tune_each(self, artifact: Any, reporter: Reporter) -> dict[Any, Tuned]:
        """Return what is tuned for each part that is scored; a trial remembers it."""
        trial, tuned = reporter.trial, {}
        study, number = (None, None) if trial is None else (trial.study, trial.number)
        try:
            for part in self.post.scored:
                suffix = f"-{part}" if self.post.cross_fit else ""
                place = self._place(study, number, reporter.seed, suffix)
                tuned[part] = self.post.tune(artifact, self.post.tuned_on(part), place)
        except Diverged as error:
            reporter.diverged(math.nan, "in the post-processing stage", cause=error)
        if trial is not None:
            chosen = {str(part): dict(each.post_params) for part, each in tuned.items()}
            trial.set_user_attr(POST_KEY, chosen)
        return tuned

    def _metrics(self, artifact: Any, post_params: Mapping[Any, Any]) -> dict[str, float]:
        """Return the means over parts, each scored with its own params: part -> params."""
        found = [self.post.metrics(artifact, post_params[part], part) for part in post_params]
        return {name: _mean([metrics[name] for metrics in found]) for name in found[0]}

    def _cache_of(self, study: Study | None) -> ArtifactCache | None:
        if self._cache is not None or study is None:
            return self._cache
        return default_cache(study)

    def _place(
        self, study: Study | None, number: int | None, seed: int, suffix: str = ""
    ) -> StudyPlace:
        if study is None or number is None:
            return StudyPlace("memory://", "post", seed)
        name = post_study_name(study.study_name, number, suffix)
        return StudyPlace(_optuna.storage_of(study), name, seed)

    def _known_facts(self) -> dict[str, Any]:
        functions = {name: function_settings(each) for name, each in self._functions().items()}
        sampler = plain_fact(self.post.sampler)
        return super()._known_facts() | functions | {"post_sampler": sampler}

    def _functions(self) -> dict[str, Any]:
        return {"make_artifact": self._make_artifact, "score_artifact": self.post.score}

    def _facts_of_post(self) -> dict[str, Any]:
        return {
            # A prior decides what is tried first, not what a value means.
            "post_space": without_priors(self.post.search_space.to_dict()),
            "n_post_trials": self.post.n_trials,
            "parts": [str(part) for part in self.post.parts],
            "cross_fit": self.post.cross_fit,
            "tune": "each" if self.tune_each else "best",
        }


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _checked_space(post_space: Any, search_space: SearchSpace) -> SearchSpace:
    space = as_space("post_space", post_space)
    both = sorted(space.defaults().keys() & search_space.defaults().keys())
    if both:
        raise InvalidArgument(
            f"`post_space` must have no parameter of `search_space`, got {both[0]!r} in both."
        )
    return space


def _checked_parts(parts: Any, cross_fit: bool) -> tuple[Any, ...]:
    if isinstance(parts, str) or not isinstance(parts, list | tuple):
        raise InvalidType(f"`parts` must be a list of parts, got {parts!r}.")
    if len({str(part) for part in parts}) < len(parts):
        raise InvalidArgument(f"`parts` must differ from each other, got {list(parts)}.")
    if cross_fit and len(parts) < 2:
        raise InvalidArgument(f"`parts` must be two or more for `cross_fit`, got {list(parts)}.")
    if not cross_fit and len(parts) not in (1, 2):
        raise InvalidArgument(
            "`parts` must be the one to tune on and the one to score, or take `cross_fit`, got "
            f"{list(parts)}."
        )
    return tuple(parts)
