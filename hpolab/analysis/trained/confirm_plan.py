"""The plan of a confirmation: all that its result depends on, stored with its study and kept."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import optuna
from optuna.study import get_all_study_names
from optuna.trial import TrialState

from hpolab.analysis.statistics import Seeds, seeds_to_run
from hpolab.errors import RecipeMismatch
from hpolab.seeding import derive_seed
from hpolab.studies.trials import sign_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optuna import Study
    from optuna.storages import BaseStorage

    from hpolab.analysis.trained.trainings import Key, Outcome
    from hpolab.search_space.space import SearchSpace

__all__ = ["PLAN_KEY", "Plan", "make_way", "open_places", "seeds_of", "store_plan"]

PLAN_KEY = "hpolab:confirm"
"""Where a confirmation's study keeps its plan."""


@dataclass(frozen=True)
class Plan:
    """Everything that a confirmation's result depends on; stored with its study.

    Attributes:
        study_name: The tuning study.
        configurations: Params, trial number and tuning value of each, the baseline's first.
        baseline_name: What to call the baseline.
        metric: The test score; None for the metric that was tuned.
        direction: "minimize" or "maximize".
        n_seeds: The largest number of seeds.
        min_seeds: The smallest.
        min_difference: The improvement to find; None for those of the tuning.
        seed: The fresh seeds are derived from it.
        test: The test data's fingerprint; None of a plan that an older version has stored.
        groups: The fingerprint of the groups of test rows, if there are any.
        unit: What is scored one by one.
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
    test: str | None = None
    groups: str | None = None
    unit: str = "row"

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Plan:
        """Return a stored plan."""
        return cls(**{**values, "configurations": tuple(values["configurations"])})

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as a study stores it."""
        stored: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return stored

    @property
    def sign(self) -> float:
        """1 where a higher score is better, -1 otherwise."""
        return sign_of(self.direction)

    def seed_of(self, index: int) -> int:
        """Return a fresh seed by its index."""
        return derive_seed(self.seed, "confirm", index)

    def ordered(self, outcomes: Mapping[Key, Outcome]) -> list[Outcome]:
        """Return the outcomes in the order of the configurations, the baseline's first."""
        return [outcomes[place] for place in range(len(self.configurations))]

    def due(self, outcomes: Mapping[Key, Outcome]) -> list[tuple[Key, int]]:
        """Return the trainings to enqueue next: (configuration, index of the seed)."""
        ordered = self.ordered(outcomes)
        return open_places(ordered, seeds_of(self, ordered))

    def tuning_improvement(self, place: int) -> float | None:
        """Return by how much a configuration was better than the baseline in tuning."""
        value, baseline = (self.configurations[i]["value"] for i in (place, 0))
        return None if value is None or baseline is None else self.sign * (value - baseline)

    def improvement_to_find(self, place: int) -> float:
        """Return the improvement that the seeds must suffice for; 0 if none is known."""
        return self.min_difference or self.tuning_improvement(place) or 0.0


def seeds_of(plan: Plan, outcomes: Sequence[Outcome]) -> Seeds:
    """Return how many seeds the configurations take that have lost none."""
    baseline, *others = outcomes
    left = [place for place, each in enumerate(others, start=1) if not each.lost]
    compared = [baseline, *(outcomes[place] for place in left)]
    if baseline.lost or not left:  # nothing is left to compare
        return Seeds(max((each.n for each in outcomes if not each.lost), default=0), 1)
    n = min(each.n for each in compared)
    scores = [each.first(n) for each in compared]
    # Those lost keep their share of the 5 %, and any number of seeds suffices for them.
    scores += [scores[0]] * (len(others) - len(left))
    to_find = [plan.improvement_to_find(place) for place in left]
    to_find += [math.inf] * (len(others) - len(left))
    return seeds_to_run(scores, to_find, min_seeds=plan.min_seeds, n_seeds=plan.n_seeds)


def open_places(outcomes: Sequence[Outcome], seeds: Seeds) -> list[tuple[Key, int]]:
    """Return the trainings that are missing: (configuration, index of the seed)."""
    return [
        (place, index)
        for index in range(seeds.n)
        for place, outcome in enumerate(outcomes)
        if not outcome.lost and not outcome.is_known(index)
    ]


def store_plan(study: Study, plan: Plan, search_space: SearchSpace) -> None:
    """Store the plan, or compare it with the plan that the confirmation was begun with.

    Raises:
        RecipeMismatch: If they differ, or the study has trials and no plan.
    """
    asked, stored = plan.to_dict(), study.user_attrs.get(PLAN_KEY)
    if stored is not None:
        if "unit" not in stored:  # of an older version, which knew nothing of rows
            stored = {**stored, "groups": asked["groups"], "unit": asked["unit"]}
        if stored.get("test") is None:  # of an older version still
            stored = {**stored, "test": asked["test"]}
        whole = _with_fixed_values(stored, asked, search_space)
        if whole == asked and stored != study.user_attrs[PLAN_KEY]:
            study.set_user_attr(PLAN_KEY, stored)
        stored = whole
    if stored == asked:
        return
    if stored is None and not study.get_trials(deepcopy=False):
        study.set_user_attr(PLAN_KEY, asked)
        return
    differ = [
        f"{name}: stored {_shown(name, (stored or {}).get(name))}, asked for {_shown(name, value)}"
        for name, value in asked.items()
        if (stored or {}).get(name) != value
    ]
    raise RecipeMismatch(
        f"Study {study.study_name!r} has another confirmation; nothing was changed.\n  "
        + "\n  ".join(differ),
        "\nMore seeds, or other configurations, after a look at the result would make its "
        "intervals wrong. Take another `study_name`, and another `seed` for fresh seeds.",
    )


def make_way(study_name: str, storage: BaseStorage, plan: Plan) -> None:
    """Delete a confirmation of another plan that no training has succeeded of: it was a mistake."""
    if study_name not in get_all_study_names(storage):
        return
    study = optuna.load_study(study_name=study_name, storage=storage)
    stored = study.user_attrs.get(PLAN_KEY)
    states = {trial.state for trial in study.get_trials(deepcopy=False)}
    is_other = stored is not None and stored != plan.to_dict()
    if is_other and states <= {TrialState.WAITING, TrialState.FAIL}:
        optuna.delete_study(study_name=study_name, storage=storage)


def _with_fixed_values(
    stored: Mapping[str, Any], asked: Mapping[str, Any], search_space: SearchSpace
) -> dict[str, Any]:
    """Return a stored plan with fixed values that its version did not list among the params.

    A value that the plan does list is compared as any other.
    """
    fixed = set(search_space.trainer_names()) - set(search_space.names().values())
    configurations = [dict(each) for each in stored["configurations"]]
    for mine, other in zip(configurations, asked["configurations"], strict=False):
        unlisted = (fixed & other["params"].keys()) - mine["params"].keys()
        mine["params"] = mine["params"] | {name: other["params"][name] for name in unlisted}
    return {**stored, "configurations": configurations}


def _shown(name: str, value: Any) -> str:
    if name != "configurations" or value is None:
        return repr(value)
    return ", ".join("no trial" if c["trial"] is None else f"trial {c['trial']}" for c in value)
