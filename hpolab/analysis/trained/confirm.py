"""confirm(): the best configurations of a study against the baseline, on fresh seeds and test data.

Which seeds a configuration was chosen by and which it is judged by are different ones, so what the
choice overestimates is gone; `hpolab.analysis.statistics` says why the number of seeds, which is
decided on the way, does not bring it back.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import optuna
from optuna.trial import TrialState, create_trial

from hpolab import _optuna
from hpolab.analysis.confirmation import CONFIRMED, Configuration, Confirmation
from hpolab.analysis.statistics import (
    Estimate,
    Seeds,
    differences,
    holm,
    intervals,
    n_seeds_to_find,
    p_values,
    seeds_to_run,
    spread,
)
from hpolab.errors import (
    Diverged,
    InvalidArgument,
    InvalidType,
    RecipeMismatch,
    check_count,
    one_of,
)
from hpolab.objectives.base import Objective
from hpolab.running.run import run
from hpolab.seeding import derive_seed
from hpolab.studies.recipe import FACTS_KEY, check_facts, study_seed
from hpolab.studies.study import make_study
from hpolab.studies.trials import ranked
from hpolab.trial.lease import ERROR_KEY
from hpolab.trial.reporter import METRICS_KEY, REASON_KEY, Reporter, give_up

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    import numpy as np
    from numpy.typing import ArrayLike, NDArray
    from optuna import Study, Trial
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

__all__ = ["confirm", "load_confirmation"]

_PLAN_KEY = "hpolab:confirm"
_PLACE_KEY = "hpolab:place"
_METRIC_KEY = "hpolab:metric"
_SEED_KEY = "hpolab:seed"
_TWIN_KEY = "hpolab:twin"

_MIN_SEEDS = 6


def confirm(
    study: Study,
    objective: Objective,
    *,
    test: Any,
    top_k: int = 5,
    trials: Collection[int] | None = None,
    n_seeds: int = 10,
    min_seeds: int | None = None,
    baseline: Mapping[str, Any] | None = None,
    min_difference: float | None = None,
    metric: str | None = None,
    direction: str | None = None,
    name: str | None = None,
    n_workers: int = 1,
    seed: int | None = None,
    show_progress_bar: bool | None = None,
) -> Confirmation:
    """Train the best configurations of a study and the baseline again, and score them on test data.

    Each configuration is trained by `Objective.fit` with the same fresh seeds, which no trial of
    the study had, and scored by `Objective.evaluate`. The leads over the baseline are paired, seed
    by seed; their p-values are corrected for the number of configurations (Holm).

    Seeds are added until the intervals can answer whether the leads that the tuning shows are
    real: until they are so narrow that leads of that size would be found in 80 % of cases, or
    ``n_seeds`` is reached. Only the spread of the scores decides on that, never who leads, so the
    intervals hold what they estimate in 95 % of cases, and a difference is claimed where there is
    none in 5 % at most. More seeds after a look at the result would void that: another
    confirmation has another ``name`` and another ``seed``.

    A configuration whose training diverges on a seed has no mean: leaving the seed out would
    flatter it. It gets no further seeds and cannot be better. The same holds for one whose
    training fails, but what has failed is tried once more when `confirm` is called again.

    Seeds tell of the chance in training, not of that in which rows `test` has. Where the seed
    changes nothing, as in a closed form, there is no chance to judge by and nothing is claimed.

    The trainings are trials of a study of their own in the same storage, run by `run`: started
    again after a crash, `confirm` goes on where it was and ends with the same result.

    Args:
        study: The tuning study, of one objective value.
        objective: What it was tuned with; it must have `fit` and `evaluate`.
        test: Test data, as the objective's `evaluate` takes it. Nothing else may have seen it.
        top_k: How many of the best configurations to train, without counting the baseline. Equal
            ones count once; trials that violate a constraint do not.
        trials: The numbers of the trials to train in place of the ``top_k`` best, such as those
            that `recommend` names.
        n_seeds: The largest number of seeds, 2 or above.
        min_seeds: The least, from 2 to ``n_seeds``; 6 by default, or ``n_seeds`` if that is less.
        baseline: What to compare with, as params of the search space; by default its defaults,
            which `run` tries as trial 0.
        min_difference: The lead worth knowing about, above 0: what decides on the number of seeds
            in place of the tuning's leads.
        metric: One of the metrics that `evaluate` returns; by default the one that was tuned.
        direction: "minimize" or "maximize", needed with ``metric``.
        name: The name of the study that the trainings are stored in; by default the study's name
            with ``-confirm``.
        n_workers: Processes to train in, as for `run`.
        seed: What the seeds are derived from; by default the study's seed.
        show_progress_bar: None shows it where standard error is a terminal.

    Raises:
        InvalidArgument: If an argument is out of its range, ``objective`` cannot fit or evaluate,
            or the study has no complete trial but the baseline's.
        InvalidType: If ``study`` or ``objective`` is of the wrong type.
        RecipeMismatch: If there is such a confirmation already, of other configurations or with
            other settings.
        TooManyFailures: If the first training failed; from its error.

    Example:
        >>> import numpy as np
        >>> from hpolab import make_study, run
        >>> from hpolab import Objective
        >>> from hpolab import SearchSpace
        >>> class Thrower(Objective):
        ...     def train(self, params, reporter):
        ...         return self.fit(params, reporter.seed)
        ...     def fit(self, params, seed):
        ...         return params["skill"] * np.random.default_rng(seed).normal(1.0, 0.1)
        ...     def evaluate(self, model, data):
        ...         return {"points": model + data}
        >>> space = SearchSpace({"skill": (0.0, 5.0)}, defaults={"skill": 1.0})
        >>> objective = Thrower(search_space=space, direction="maximize", max_steps=1)
        >>> study = make_study("throws", storage="memory://", objective=objective, seed=0)
        >>> run(study, objective, n_trials=10)
        >>> confirmation = confirm(study, objective, test=10.0, top_k=2)
        >>> confirmation.winner.lead.mean > 1
        True
    """
    min_seeds = _check_counts(top_k, n_seeds, min_seeds)
    _check_metric(metric, direction, min_difference)
    _check_objective(study, objective)
    seed = study_seed(study) if seed is None else seed
    rows = _choose(study, objective, top_k, trials, baseline, metric)
    plan = _Plan(
        study_name=study.study_name,
        configurations=tuple(row.as_planned() for row in rows),
        baseline_name="the default" if baseline is None else "the baseline",
        metric=metric,
        direction=direction or objective.direction,
        n_seeds=n_seeds,
        min_seeds=min_seeds,
        min_difference=min_difference,
        seed=seed,
    )
    confirmation_study = make_study(
        f"{study.study_name}{CONFIRMED}" if name is None else name,
        storage=_optuna.storage_of(study),
        direction=plan.direction,
        sampler="manual",
        pruner="none",
        seed=seed,
    )
    _store_plan(confirmation_study, plan)
    training = _Training(objective, test, tuple(row.params for row in rows), plan)
    # What has failed before is tried once more: its cause may be mended by now.
    forgiven = _failed(confirmation_study)
    while _enqueue(confirmation_study, plan, rows, forgiven):
        run(
            confirmation_study,
            training,
            n_workers=n_workers,
            max_failures=1,  # what the first training cannot do, the next ones cannot either
            show_progress_bar=show_progress_bar,
        )
    return load_confirmation(confirmation_study)


def load_confirmation(study: Study) -> Confirmation:
    """Return what a confirmation has found, from the study that its trainings are stored in.

    Args:
        study: The study that `confirm` has made.

    Raises:
        InvalidArgument: If `confirm` has not made ``study``, or not finished it: intervals hold
            what they estimate at the planned number of seeds, not before.
    """
    if _PLAN_KEY not in study.user_attrs:
        raise InvalidArgument(
            f"`study` must be one that `confirm` has made, got {study.study_name!r}."
        )
    plan = _Plan.from_dict(study.user_attrs[_PLAN_KEY])
    trials = study.get_trials(deepcopy=False)
    outcomes = _outcomes(trials, len(plan.configurations))
    seeds = _seeds(plan, outcomes)
    n_open = len(_open_places(outcomes, seeds)) + sum(len(each.pending) for each in outcomes)
    if n_open:
        raise InvalidArgument(
            f"`study` must be a finished confirmation, got {study.study_name!r}, which lacks "
            f"{n_open} trainings: call `confirm` again to go on."
        )
    metric = next((t.user_attrs[_METRIC_KEY] for t in trials if _METRIC_KEY in t.user_attrs), "")
    return _confirmation(plan, outcomes, seeds, plan.metric or metric)


@dataclass(frozen=True)
class _Row:
    """A configuration that was chosen: for the trainer, and as a trial stores it."""

    params: dict[str, Any]
    trial_params: dict[str, Any]
    distributions: dict[str, BaseDistribution]
    trial: int | None
    value: float | None

    def as_planned(self) -> dict[str, Any]:
        return {"params": self.params, "trial": self.trial, "value": self.value}


@dataclass(frozen=True)
class _Plan:
    """All that a confirmation's result depends on; stored with its study.

    Attributes:
        study_name: The tuning study.
        configurations: Params, trial number and tuning value of each, the baseline's first.
        baseline_name: What to call the baseline.
        metric: The test score; None for the first that `evaluate` returns.
        direction: "minimize" or "maximize".
        n_seeds: The largest number of seeds.
        min_seeds: The least.
        min_difference: The lead in question; None for the tuning's.
        seed: What the seeds are derived from.
    """

    study_name: str
    configurations: tuple[dict[str, Any], ...]
    baseline_name: str
    metric: str | None
    direction: str
    n_seeds: int
    min_seeds: int
    min_difference: float | None
    seed: int

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> _Plan:
        return cls(**{**values, "configurations": tuple(values["configurations"])})

    def to_dict(self) -> dict[str, Any]:
        stored: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return stored

    @property
    def sign(self) -> float:
        return 1.0 if self.direction == "maximize" else -1.0

    def seed_of(self, index: int) -> int:
        return derive_seed(self.seed, "confirm", index)

    def tuning_lead(self, place: int) -> float | None:
        value, baseline = (self.configurations[i]["value"] for i in (place, 0))
        return None if value is None or baseline is None else self.sign * (value - baseline)

    def lead_in_question(self, place: int) -> float:
        """Return the lead that shall be found; 0 where none is known."""
        return self.min_difference or self.tuning_lead(place) or 0.0


@dataclass(frozen=True)
class _Training:
    """Trains and scores one configuration with one seed: the objective of a confirmation's study.

    It is no `Objective`: nothing is suggested, and the trial's value is a score on test data.
    """

    objective: Objective
    test: Any
    params: tuple[Mapping[str, Any], ...]
    plan: _Plan

    def __call__(self, trial: Trial) -> float:
        place, index = trial.user_attrs[_PLACE_KEY]
        if _has_twin(trial):
            trial.set_user_attr(_TWIN_KEY, True)
            raise optuna.TrialPruned("another trial trains the same configuration and seed")
        with Reporter(trial) as reporter:
            try:
                model = self.objective.fit(dict(self.params[place]), self.plan.seed_of(index))
                metrics = self.objective.evaluate(model, self.test)
            except Diverged as error:
                give_up(trial, str(error), error)
            reporter.record(**metrics)
        metric = one_of("metric", self.plan.metric or next(iter(metrics)), metrics)
        trial.set_user_attr(_METRIC_KEY, metric)
        return float(metrics[metric])


def _has_twin(trial: Trial) -> bool:
    """Tell whether another caller of `confirm` has enqueued the same training before."""
    place = trial.user_attrs[_PLACE_KEY]
    return any(
        other.number < trial.number
        and other.user_attrs.get(_PLACE_KEY) == place
        and other.state != TrialState.FAIL
        and _TWIN_KEY not in other.user_attrs
        for other in trial.study.get_trials(deepcopy=False)
    )


@dataclass
class _Outcome:
    """What the trials of one configuration have come to, by the index of the seed."""

    scores: dict[int, float] = field(default_factory=dict)
    lost: dict[int, str] = field(default_factory=dict)
    pending: set[int] = field(default_factory=set)

    def first(self, n: int) -> list[float]:
        return [self.scores[index] for index in range(n)]

    @property
    def n(self) -> int:
        """Seeds that have a score, without a gap before them."""
        return next(i for i in range(len(self.scores) + 1) if i not in self.scores)


def _failed(study: Study) -> set[int]:
    trials = study.get_trials(deepcopy=False, states=(TrialState.FAIL,))
    return {trial.number for trial in trials}


def _outcomes(
    trials: Iterable[FrozenTrial], n_configurations: int, forgiven: Collection[int] = ()
) -> list[_Outcome]:
    """Sort trials by configuration; failed ones whose number is forgiven count as never run."""
    outcomes = [_Outcome() for _ in range(n_configurations)]
    for trial in trials:
        if _PLACE_KEY not in trial.user_attrs or trial.number in forgiven:
            continue
        place, index = trial.user_attrs[_PLACE_KEY]
        outcome = outcomes[place]
        if trial.state == TrialState.COMPLETE and trial.value is not None:
            outcome.scores[index] = trial.value
        elif not trial.state.is_finished():
            outcome.pending.add(index)
        elif _TWIN_KEY not in trial.user_attrs:
            attrs = trial.user_attrs
            outcome.lost[index] = attrs.get(REASON_KEY) or attrs.get(ERROR_KEY) or "failed"
    for outcome in outcomes:
        for index in outcome.scores.keys() | outcome.pending:
            outcome.lost.pop(index, None)
        outcome.pending -= outcome.scores.keys()
    return outcomes


def _seeds(plan: _Plan, outcomes: Sequence[_Outcome]) -> Seeds:
    """Return how many seeds the configurations take that have lost none."""
    baseline, *others = outcomes
    left = [place for place, each in enumerate(others, start=1) if not each.lost]
    compared = [baseline, *(outcomes[place] for place in left)]
    if baseline.lost or not left:  # nothing is left to compare
        return Seeds(max((each.n for each in outcomes if not each.lost), default=0), 1)
    n = min(each.n for each in compared)
    scores = [each.first(n) for each in compared]
    # Those lost keep their share of the 5 %; a lead of theirs is in nobody's way.
    scores += [scores[0]] * (len(others) - len(left))
    leads = [plan.lead_in_question(place) for place in left]
    leads += [math.inf] * (len(others) - len(left))
    return seeds_to_run(scores, leads, min_seeds=plan.min_seeds, n_seeds=plan.n_seeds)


def _open_places(outcomes: Sequence[_Outcome], seeds: Seeds) -> list[tuple[int, int]]:
    """Return what is to be trained and is not enqueued: (configuration, index of the seed)."""
    return [
        (place, index)
        for index in range(seeds.n)
        for place, outcome in enumerate(outcomes)
        if not outcome.lost and index not in outcome.scores and index not in outcome.pending
    ]


def _enqueue(study: Study, plan: _Plan, rows: Sequence[_Row], forgiven: Collection[int]) -> bool:
    """Enqueue the trainings that are due; tell whether any is to be run."""
    trials = study.get_trials(deepcopy=False)
    outcomes = _outcomes(trials, len(rows), forgiven)
    places = _open_places(outcomes, _seeds(plan, outcomes))
    for place, index in places:
        row = rows[place]
        study.add_trial(
            create_trial(
                state=TrialState.WAITING,
                params=row.trial_params,
                distributions=row.distributions,
                user_attrs={_PLACE_KEY: [place, index], _SEED_KEY: plan.seed_of(index)},
            )
        )
    return bool(places) or any(outcome.pending for outcome in outcomes)


def _confirmation(
    plan: _Plan, outcomes: Sequence[_Outcome], seeds: Seeds, metric: str
) -> Confirmation:
    leads = [_leads(plan, outcomes, place, seeds) for place in range(1, len(outcomes))]
    # What has lost a seed keeps its share of the 5 %: how many are compared was fixed before.
    corrected = holm(
        [1.0 if each is None else float(p_values(each, n_spent=seeds.n_spent)) for each in leads]
    )
    baseline, *others = (
        Configuration(
            params=planned["params"],
            trial=planned["trial"],
            tuning_value=planned["value"],
            scores={plan.seed_of(i): outcome.scores[i] for i in sorted(outcome.scores)},
            lost={plan.seed_of(i): outcome.lost[i] for i in sorted(outcome.lost)},
            mean=_mean(outcome, seeds),
        )
        for planned, outcome in zip(plan.configurations, outcomes, strict=True)
    )
    configurations = tuple(
        replace(
            each,
            tuning_lead=plan.tuning_lead(place),
            lead=None if lead is None else _estimate(lead, seeds),
            p_value=None if lead is None or _is_fixed(baseline, each) else p,
        )
        for place, (each, lead, p) in enumerate(zip(others, leads, corrected, strict=True), start=1)
    )
    return Confirmation(
        study_name=plan.study_name,
        metric=metric,
        direction=plan.direction,
        baseline=baseline,
        configurations=configurations,
        baseline_name=plan.baseline_name,
        n_seeds=seeds.n,
        n_seeds_needed=_seeds_needed(configurations, leads, seeds),
    )


def _leads(
    plan: _Plan, outcomes: Sequence[_Outcome], place: int, seeds: Seeds
) -> NDArray[np.float64] | None:
    """Return by how much a configuration is better than the baseline, (n,), seed by seed."""
    baseline, outcome = outcomes[0], outcomes[place]
    if baseline.lost or outcome.lost:
        return None
    return plan.sign * differences(outcome.first(seeds.n), baseline.first(seeds.n))


def _is_fixed(baseline: Configuration, other: Configuration) -> bool:
    """Tell whether neither score depends on the seed, so that there is no chance to test."""
    return all(len(set(each.scores.values())) == 1 for each in (baseline, other))


def _mean(outcome: _Outcome, seeds: Seeds) -> Estimate | None:
    if outcome.lost or seeds.n < 2:
        return None
    return _estimate(outcome.first(seeds.n), seeds)


def _estimate(sample: ArrayLike, seeds: Seeds) -> Estimate:
    return Estimate(*map(float, intervals(sample, n_spent=seeds.n_spent)))


def _seeds_needed(
    configurations: Sequence[Configuration],
    leads: Sequence[NDArray[np.float64] | None],
    seeds: Seeds,
) -> int | None:
    """Return how many seeds would find the largest lead in doubt, if it is the true one."""
    undecided = [
        lead
        for each, lead in zip(configurations, leads, strict=True)
        if lead is not None and each.p_value is not None and not each.differs
    ]
    if not undecided or any(each.is_better for each in configurations):
        return None
    largest = max(undecided, key=lambda each: float(each.mean()))
    return n_seeds_to_find(
        float(largest.mean()),
        float(spread(largest, n_spent=seeds.n_spent)),
        n_comparisons=len(configurations),
    )


def _choose(
    study: Study,
    objective: Objective,
    top_k: int,
    numbers: Collection[int] | None,
    baseline: Mapping[str, Any] | None,
    metric: str | None,
) -> list[_Row]:
    """Return the baseline and the best configurations, or those named, that differ from it."""
    space = objective.search_space
    trial_params = space.to_trial(space.defaults() if baseline is None else baseline)
    candidates = ranked(study.get_trials(deepcopy=False), study.direction)
    same = [trial for trial in candidates if trial.params == trial_params]
    tried = min(same, key=lambda trial: trial.number, default=None)
    distributions = space.distributions()
    rows = [
        _Row(
            # As its trial has trained it: a default may be rounded on its way to the trial.
            params=space.from_trial(trial_params),
            trial_params=trial_params,
            distributions={name: distributions[name] for name in trial_params},
            trial=None if tried is None else tried.number,
            value=None if tried is None else _value(tried, metric),
        )
    ]
    chosen = [trial_params]
    most = top_k if numbers is None else len(candidates)
    for trial in candidates if numbers is None else _named(candidates, numbers):
        if len(rows) <= most and trial.params not in chosen:
            chosen.append(trial.params)
            rows.append(
                _Row(
                    params=space.from_trial(trial.params),
                    trial_params=trial.params,
                    distributions=trial.distributions,
                    trial=trial.number,
                    value=_value(trial, metric),
                )
            )
    if len(rows) == 1:
        raise InvalidArgument(
            "`study` must have a complete trial of another configuration than the baseline, got "
            f"none in {study.study_name!r}."
        )
    return rows


def _named(candidates: Sequence[FrozenTrial], numbers: Collection[int]) -> list[FrozenTrial]:
    known = [trial.number for trial in candidates]
    for number in numbers:
        if number not in known:
            raise InvalidArgument(
                "`trials` must be numbers of complete trials that violate no constraint, got "
                f"{number!r}."
            )
    return [trial for trial in candidates if trial.number in numbers]


def _value(trial: FrozenTrial, metric: str | None) -> float | None:
    """Return what a trial of the tuning has of a metric; by default its value."""
    if metric is None:
        return trial.value
    value: float | None = trial.user_attrs.get(METRICS_KEY, {}).get(metric)
    return value


def _check_counts(top_k: int, n_seeds: int, min_seeds: int | None) -> int:
    """Refuse bad counts; return the least number of seeds."""
    check_count("top_k", top_k)
    check_count("n_seeds", n_seeds)
    if n_seeds < 2:
        raise InvalidArgument(f"`n_seeds` must be 2 or above, for an interval, got {n_seeds}.")
    if min_seeds is None:
        return min(_MIN_SEEDS, n_seeds)
    check_count("min_seeds", min_seeds)
    if not 2 <= min_seeds <= n_seeds:
        raise InvalidArgument(
            f"`min_seeds` must be from 2 to `n_seeds`, which is {n_seeds}, got {min_seeds}."
        )
    return min_seeds


def _check_metric(metric: str | None, direction: str | None, min_difference: float | None) -> None:
    if (metric is None) != (direction is None):
        raise InvalidArgument(
            "`direction` must be given with `metric`, and without it left out, got "
            f"metric={metric!r}, direction={direction!r}."
        )
    if direction is not None:
        one_of("direction", direction, ("minimize", "maximize"))
    if min_difference is not None and not min_difference > 0:
        raise InvalidArgument(f"`min_difference` must be above 0, or None, got {min_difference}.")


def _check_objective(study: Study, objective: Objective) -> None:
    """Refuse, before anything is trained, what cannot be confirmed."""
    if not isinstance(study, optuna.Study):
        raise InvalidType(f"`study` must be an optuna.Study, got {type(study).__name__}.")
    if not isinstance(objective, Objective):
        raise InvalidType(
            "`objective` must be an objective of hpolab's, which can train outside a trial, got "
            f"{type(objective).__name__}: a function of a trial cannot."
        )
    for method in ("fit", "evaluate"):
        if getattr(type(objective), method) is getattr(Objective, method):
            raise InvalidArgument(
                f"`objective` must have `fit` and `evaluate` to be confirmed, got a "
                f"{type(objective).__name__} without `{method}`."
            )
    objective.check_direction(study)
    objective.check()
    if FACTS_KEY in study.user_attrs:
        check_facts(study, objective.facts)


def _store_plan(study: Study, plan: _Plan) -> None:
    """Store the plan, or compare it with the one that the confirmation was begun with.

    Raises:
        RecipeMismatch: If they differ, or the study has trials and no plan.
    """
    asked, stored = plan.to_dict(), study.user_attrs.get(_PLAN_KEY)
    if stored == asked:
        return
    if stored is None and not study.get_trials(deepcopy=False):
        study.set_user_attr(_PLAN_KEY, asked)
        return
    differ = [
        f"{name}: stored {_shown(name, (stored or {}).get(name))}, asked for {_shown(name, value)}"
        for name, value in asked.items()
        if (stored or {}).get(name) != value
    ]
    raise RecipeMismatch(
        f"Study {study.study_name!r} has another confirmation; nothing was changed.\n  "
        + "\n  ".join(differ)
        + "\nMore seeds, or other configurations, after a look at the result would make its "
        "intervals wrong. Take another `name`, and another `seed` for fresh seeds."
    )


def _shown(name: str, value: Any) -> str:
    if name != "configurations" or value is None:
        return repr(value)
    return ", ".join("no trial" if c["trial"] is None else f"trial {c['trial']}" for c in value)
