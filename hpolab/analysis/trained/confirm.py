"""confirm(): the best configurations of a study against the baseline, on fresh seeds and test data.

The seeds that a configuration was chosen by are not those that it is judged by, so the choice does
not flatter it. `hpolab.analysis.statistics` says why the number of seeds, which is decided on the
way, does not flatter it either.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna

from hpolab import _optuna
from hpolab.analysis.confirmation import CONFIRMED, Configuration, Confirmation
from hpolab.analysis.judge import Judged, Scored, judge, mean_of, share_of_seeds
from hpolab.analysis.needed import Needed, needed
from hpolab.analysis.trained.choosing import choose
from hpolab.analysis.trained.confirm_plan import (
    PLAN_KEY,
    Plan,
    make_way,
    open_places,
    seeds_of,
    store_plan,
)
from hpolab.analysis.trained.trainings import (
    FitAndEvaluate,
    TrainingQueue,
    check_min_difference,
    check_n_seeds,
    metric_of,
    outcomes_of,
)
from hpolab.errors import InvalidArgument, InvalidType, check_count, one_of
from hpolab.fingerprint import data_fingerprint
from hpolab.keywords import checks_keywords
from hpolab.objectives.base import Objective
from hpolab.running.run import RunOptions
from hpolab.studies.recipe import study_seed
from hpolab.studies.trials import sign_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from typing import Unpack

    from numpy.typing import ArrayLike, NDArray
    from optuna import Study
    from optuna.storages import BaseStorage

    from hpolab.analysis.statistics import Seeds
    from hpolab.analysis.trained.trainings import Outcome

__all__ = ["confirm", "load_confirmation", "studies_of_confirmations"]

_MIN_SEEDS = 6


@checks_keywords(RunOptions)
def confirm(
    study: Study,
    objective: Objective,
    *,
    test: Any,
    study_name: str | None = None,
    top_k: int = 5,
    trials: Collection[int] | None = None,
    baseline: Mapping[str, Any] | None = None,
    n_seeds: int = 10,
    min_seeds: int | None = None,
    min_difference: float | None = None,
    metric: str | tuple[str, str] | None = None,
    groups: ArrayLike | None = None,
    seed: int | None = None,
    **run_options: Unpack[RunOptions],
) -> Confirmation:
    """Train the best configurations of a study and the baseline again, and score them on test data.

    Each configuration is trained by `Objective.fit` with the same fresh seeds, which no trial of
    the study had, and scored by `Objective.evaluate`. Improvements over the baseline are paired.

    If the objective has `Objective.row_scores`, rows and seeds are both taken as drawn at random
    (crossed random effects), so the verdict is about new data like ``test``, and new seeds. It also
    says what holds on these rows alone, and how much of the variance comes from either. Otherwise
    it is about these test rows, and says so. The training data are the same in all trainings:
    nothing is said about others.

    There are three answers: a configuration is better (or worse), practically the same (its
    interval lies within ``min_difference`` of zero), or it is not known yet; then the verdict says
    what would have to be added, at least. Intervals and p-values hold for all configurations
    together, and agree. The best of several is partly lucky: `Confirmation.expected` is shrunken
    for that (Andrews, Kitagawa and McCloskey 2024, "Inference on winners"). Intervals assume about
    normal differences between seeds; `Confirmation.notes` says what speaks against it.

    Seeds are added until the intervals can answer whether the improvements that the tuning shows
    are real: until they are so narrow that improvements of that size would be found in 80 % of
    cases on these rows, or ``n_seeds`` is reached. Only the spread of the scores decides, never
    which configuration is ahead, so intervals hold what they estimate in 95 % of cases, and in 5 %
    at most a difference is found where there is none. More seeds after a look at the result would
    void that: another confirmation needs another ``study_name`` and another ``seed``.

    A configuration whose training diverges on a seed has no mean, as leaving the seed out would
    flatter it. It gets no further seeds and cannot be better. The same holds if its training fails,
    but failed trainings are tried once more when `confirm` is called again.

    If the seed changes nothing, as in a closed form, and scores by row are not known, there is no
    chance to judge by and nothing is claimed.

    The trainings are trials of a study of their own in the same storage, run by `run`: called again
    after a crash, `confirm` resumes where it was and ends with the same result.

    Args:
        study: The tuning study, of one objective value.
        objective: The objective that it was tuned with; it must have `fit` and `evaluate`.
        test: Test data, as the objective's `evaluate` takes it. Nothing else may have seen it.
        study_name: The name of the study that holds the trainings; by default the tuning study's
            name with ``-confirm``.
        top_k: How many of the best configurations to train, the baseline not counted. Equal
            ones count once; trials that violate a constraint do not count.
        trials: The numbers of the trials to train instead of the ``top_k`` best, such as those
            that `recommend` names.
        baseline: The configuration to compare with, as params of the search space; by default its
            defaults, which `run` tries as trial 0.
        n_seeds: The largest number of seeds, 2 or above.
        min_seeds: The smallest, from 2 to ``n_seeds``; 6 by default, or ``n_seeds`` if that is
            less.
        min_difference: The smallest improvement that matters, above 0, in the metric's unit. What
            is surely less is called practically the same. It decides the number of seeds instead
            of the improvements that the tuning shows.
        metric: By default the metric that was tuned. Another one of those that `evaluate` returns
            is given with its direction: ``("log_loss", "minimize")``; its scores by row are not
            known.
        groups: The group of each test row, (n,), such as its patient, where rows of a group are
            not independent: new data are then new groups.
        seed: The fresh seeds are derived from it; by default the study's seed.
        **run_options: As in `run`: workers, time limit, callbacks. ``timeout_seconds`` is the whole
            confirmation's; one that was not finished in time is resumed by calling again.

    Raises:
        InvalidArgument: If an argument is out of its range, ``objective`` cannot fit or evaluate,
            its `row_scores` do not have the metric as their mean, the study has no complete trial
            but the baseline's, or the time was not enough.
        InvalidType: If ``study`` or ``objective`` is of the wrong type.
        RecipeMismatch: If there is such a confirmation already, of other configurations or with
            other settings.
        TooManyFailures: If the first training failed; from its error.

    Example:
        >>> import numpy as np
        >>> from hpolab import Objective, SearchSpace, make_study, run
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
        >>> confirmation.winner.improvement.estimate > 1
        True
    """
    min_seeds = _check_counts(top_k, n_seeds, min_seeds, min_difference)
    _check_objective(study, objective)
    name, direction = _metric(metric, objective)
    fuse = run_options.get("fuse")
    if fuse is not None:
        objective.check_fuse(fuse)
    named = None if groups is None else _checked_groups(groups)
    seed = study_seed(study) if seed is None else seed
    chosen = choose(study, objective, top_k, trials, baseline, name)
    plan = Plan(
        study_name=study.study_name,
        configurations=tuple(each.as_planned() for each in chosen),
        baseline_name="the default" if baseline is None else "the baseline",
        metric=name,
        direction=direction,
        n_seeds=n_seeds,
        min_seeds=min_seeds,
        min_difference=min_difference,
        seed=seed,
        test=data_fingerprint(test),
        groups=None if named is None else data_fingerprint(named),
        unit=objective.scored_unit if named is None else "group",
    )
    place = f"{study.study_name}{CONFIRMED}" if study_name is None else study_name
    storage = _optuna.storage_of(study)
    make_way(place, storage, plan)
    confirmation_study = TrainingQueue.make_study(
        place, storage=storage, direction=direction, seed=seed
    )
    store_plan(confirmation_study, plan, objective.search_space)
    places = range(len(chosen))
    queue = TrainingQueue(
        study=confirmation_study,
        queued={place: chosen[place].queued for place in places},
        train=FitAndEvaluate(
            dict.fromkeys(places, objective),
            {place: chosen[place].params for place in places},
            test,
            name,
            groups=named,
        ),
        seed_of=plan.seed_of,
    )
    queue.run(plan.due, **run_options)
    return load_confirmation(confirmation_study)


@checks_keywords()
def load_confirmation(study: Study) -> Confirmation:
    """Return what a confirmation has found, from the study that holds its trainings.

    Args:
        study: The study that `confirm` has made.

    Raises:
        InvalidArgument: If `confirm` has not made ``study``, or not finished it: intervals hold
            what they estimate at the planned number of seeds, not before.
    """
    if PLAN_KEY not in study.user_attrs:
        raise InvalidArgument(
            f"`study` must be one that `confirm` has made, got {study.study_name!r}."
        )
    plan = Plan.from_dict(study.user_attrs[PLAN_KEY])
    trials = study.get_trials(deepcopy=False)
    outcomes = plan.ordered(outcomes_of(trials))
    seeds = seeds_of(plan, outcomes)
    n_open = len(open_places(outcomes, seeds)) + sum(len(each.pending) for each in outcomes)
    if n_open:
        raise InvalidArgument(
            f"`study` must be a finished confirmation, got {study.study_name!r}, which lacks "
            f"{n_open} trainings: call `confirm` again to resume it."
        )
    return _confirmation(plan, outcomes, seeds, plan.metric or metric_of(trials))


def studies_of_confirmations(study_name: str, storage: BaseStorage) -> list[str]:
    """Return the names of the studies that hold a tuning study's confirmations.

    Args:
        study_name: The tuning study's name.
        storage: An open storage.
    """
    summaries = optuna.get_all_study_summaries(storage, include_best_trial=False)
    plans = {each.study_name: each.user_attrs.get(PLAN_KEY) for each in summaries}
    return [name for name, plan in plans.items() if plan and plan["study_name"] == study_name]


def _confirmation(
    plan: Plan, outcomes: Sequence[Outcome], seeds: Seeds, metric: str
) -> Confirmation:
    scored = [None if each.lost else _scored(each, seeds) for each in outcomes]
    is_enough = seeds.n >= 2
    baseline, *configurations = (
        Configuration(
            params=planned["params"],
            trial=planned["trial"],
            tuning_value=planned["value"],
            scores={plan.seed_of(i): outcome.scores[i] for i in sorted(outcome.scores)},
            lost={plan.seed_of(i): outcome.lost[i] for i in sorted(outcome.lost)},
            mean=mean_of(found, n_spent=seeds.n_spent) if found and is_enough else None,
            tuning_improvement=plan.tuning_improvement(place) if place else None,
            metrics={
                each: {plan.seed_of(i): value for i, value in values.items()}
                for each, values in outcome.further_metrics(metric).items()
            },
        )
        for place, (planned, outcome, found) in enumerate(
            zip(plan.configurations, outcomes, scored, strict=True)
        )
    )
    whole = Confirmation(
        study_name=plan.study_name,
        metric=metric,
        direction=plan.direction,
        baseline=baseline,
        configurations=tuple(configurations),
        baseline_name=plan.baseline_name,
        n_seeds=seeds.n,
        unit=plan.unit,
        min_difference=plan.min_difference,
    )
    compared = {place: each for place, each in enumerate(scored[1:]) if each is not None}
    if scored[0] is None or not compared or not is_enough:
        return whole
    return _judged(whole, scored[0], compared, seeds, outcomes[0].n_rows)


def _judged(
    whole: Confirmation,
    baseline: Scored,
    compared: Mapping[int, Scored],
    seeds: Seeds,
    n_rows: int | None,
) -> Confirmation:
    """Return a confirmation with its improvements, and what they are worth."""
    judged = judge(
        baseline,
        compared,
        maximize=whole.direction == "maximize",
        n_spent=seeds.n_spent,
        min_difference=whole.min_difference,
    )
    sign = sign_of(whole.direction)
    configurations = list(whole.configurations)
    for place, scored in compared.items():
        ahead = sign * (scored.by_seed - baseline.by_seed)
        configurations[place] = replace(
            configurations[place],
            improvement=judged.improvements[place],
            on_these_rows=judged.on_these_rows[place],
            share_of_seeds=share_of_seeds(int((ahead > 0).sum()), int((ahead == 0).sum()), seeds.n),
        )
    found = replace(
        whole,
        configurations=tuple(configurations),
        n_rows=n_rows if judged.parts else None,
        expected=judged.expected,
        parts=judged.parts.get(judged.best),
    )
    return replace(found, needed=_needed(found, judged))


def _needed(found: Confirmation, judged: Judged) -> Needed | None:
    """Return what would tell whether the best of those in doubt is better."""
    if found.winner is not None or not found.undecided:
        return None
    if found.is_below_what_matters:
        return None
    place = found.configurations.index(found.undecided[0])
    return needed(
        judged.improvements[place],
        judged.parts.get(place),
        n_seeds=found.n_seeds,
        n_rows=found.n_rows,
        n_compared=len(found.configurations),
        rows=f"test {found.unit}s",
    )


def _scored(outcome: Outcome, seeds: Seeds) -> Scored:
    return Scored(np.array(outcome.first(seeds.n)), outcome.first_rows(seeds.n))


def _checked_groups(groups: ArrayLike) -> NDArray[Any]:
    """Return the group of each row as an array, (n,); refuse what cannot be groups."""
    named = np.asarray(groups)
    try:
        n_groups = len(np.unique(named)) if named.ndim == 1 else 0
    except TypeError:  # such as names and None, which have no order
        n_groups = 0
    if n_groups < 2:
        raise InvalidArgument(
            "`groups` must be names or numbers of two groups or more, all of one kind and one for "
            f"each test row, got {n_groups or 'no such'} groups of shape {named.shape}."
        )
    return named


def _check_counts(
    top_k: int, n_seeds: int, min_seeds: int | None, min_difference: float | None
) -> int:
    """Refuse bad numbers; return the smallest number of seeds."""
    check_count("top_k", top_k)
    check_n_seeds(n_seeds)
    check_min_difference(min_difference)
    if min_seeds is None:
        return min(_MIN_SEEDS, n_seeds)
    check_count("min_seeds", min_seeds)
    if not 2 <= min_seeds <= n_seeds:
        raise InvalidArgument(
            f"`min_seeds` must be from 2 to `n_seeds`, which is {n_seeds}, got {min_seeds}."
        )
    return min_seeds


def _metric(metric: Any, objective: Objective) -> tuple[str | None, str]:
    """Return the metric's name, None for the one that was tuned, and its direction."""
    if metric is None:
        return None, objective.direction
    if not isinstance(metric, tuple | list) or len(metric) != 2:
        raise InvalidArgument(
            "`metric` must be given with its direction, such as ('log_loss', 'minimize'), got "
            f"{metric!r}."
        )
    name, direction = metric
    return name, one_of("metric", direction, ("minimize", "maximize"))


def _check_objective(study: Study, objective: Objective) -> None:
    """Refuse, before anything is trained, what cannot be confirmed."""
    if not isinstance(study, optuna.Study):
        raise InvalidType(f"`study` must be an optuna.Study, got {type(study).__name__}.")
    if not isinstance(objective, Objective):
        raise InvalidType(
            "`objective` must be an objective of hpolab's, which can train outside a trial, got "
            f"{type(objective).__name__}: a function of a trial cannot."
        )
    why_not = objective.why_not_confirmed()
    if why_not is not None:
        raise InvalidArgument(why_not)
    objective.check_direction(study)
    objective.check()
    objective.compare_facts(study)
