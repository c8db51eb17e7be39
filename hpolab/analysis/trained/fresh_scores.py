"""Scores of contenders' best configurations on test data, trained again on fresh seeds."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from hpolab.analysis.contender import TEST_KEY, stored_scores
from hpolab.analysis.trained.trainings import (
    FitAndEvaluate,
    QueuedParams,
    TrainingQueue,
    metric_of,
    outcomes_of,
)
from hpolab.seeding import derive_seed
from hpolab.studies.trials import best_trial

if TYPE_CHECKING:
    from collections.abc import Mapping

    from optuna import Study
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

    from hpolab.analysis.comparison import Comparison
    from hpolab.analysis.trained.trainings import Key, Outcome
    from hpolab.objectives.base import Objective
    from hpolab.running.run import RunOptions

__all__ = ["FreshScores", "with_metrics", "with_rows"]

_UNIT_KEY = "hpolab:scored_unit"
"""Of the study of these trainings: what was scored one by one on the test data."""


@dataclass(frozen=True)
class FreshScores:
    """Scores of the contenders' best configurations on the test data, on the same fresh seeds.

    Attributes:
        study_name: The study of these trainings.
        objectives: Contender -> its objective.
        studies: Contender -> the study that has found its configuration.
        test: The test data, as `evaluate` takes them.
        n_seeds: The number of fresh seeds.
        seed: What the fresh seeds are derived from.
    """

    study_name: str
    objectives: Mapping[str, Objective]
    studies: Mapping[str, Study]
    test: Any
    n_seeds: int
    seed: int

    def run(self, storage: BaseStorage, run_options: RunOptions) -> None:
        """Train what is not scored yet, and store the scores with the contenders' studies."""
        best = {name: best_trial(study) for name, study in self.studies.items()}
        # More trials may bring another best one, which is trained beside the earlier.
        keys: dict[Key, tuple[str, FrozenTrial]] = {
            f"{name}/{trial.number}": (name, trial) for name, trial in best.items() if trial
        }
        if all(self._n_scored(*of_key) >= self.n_seeds for of_key in keys.values()):
            return
        queue = TrainingQueue(
            study=TrainingQueue.make_study(
                self.study_name,
                storage=storage,
                direction=next(iter(self.objectives.values())).direction,
                seed=self.seed,
            ),
            queued={
                key: QueuedParams(trial.params, trial.distributions)
                for key, (_, trial) in keys.items()
            },
            train=FitAndEvaluate(
                {key: self.objectives[name] for key, (name, _) in keys.items()},
                {
                    key: self.objectives[name].search_space.from_trial(trial.params)
                    for key, (name, trial) in keys.items()
                },
                self.test,
            ),
            seed_of=partial(_test_seed, self.seed),
        )
        queue.run(partial(self._due, keys), **run_options)
        units = {objective.scored_unit for objective in self.objectives.values()}
        if len(units) == 1:
            queue.study.set_user_attr(_UNIT_KEY, units.pop())
        outcomes = queue.outcomes()
        for key, (name, trial) in keys.items():
            self._store(name, trial, outcomes[key])

    def _n_scored(self, name: str, trial: FrozenTrial) -> int:
        stored = stored_scores(self.studies[name], trial)
        return sum(score is not None for score in stored.values())

    def _due(
        self, keys: Mapping[Key, tuple[str, FrozenTrial]], outcomes: Mapping[Key, Outcome]
    ) -> list[tuple[Key, int]]:
        # Scores of an earlier version are stored with the contender's study alone.
        stored = {key: stored_scores(self.studies[name], t) for key, (name, t) in keys.items()}
        return [
            (key, index)
            for key in keys
            for index in range(self.n_seeds)
            if stored[key].get(index) is None and not outcomes[key].is_known(index)
        ]

    def _store(self, name: str, trial: FrozenTrial, outcome: Outcome) -> None:
        study = self.studies[name]
        found = {**dict.fromkeys(outcome.lost), **outcome.scores}
        scores = {**stored_scores(study, trial), **found}
        asked = {str(index): scores[index] for index in sorted(scores)}
        stored = study.user_attrs.get(TEST_KEY, {})
        if stored.get(str(trial.number)) != asked:
            study.set_user_attr(TEST_KEY, {**stored, str(trial.number): asked})


def with_rows(comparison: Comparison, trainings: Study) -> Comparison:
    """Return a comparison whose contenders have the scores by row of their first tuning.

    Args:
        comparison: A comparison.
        trainings: The study that holds its trainings on fresh seeds.
    """
    outcomes = outcomes_of(trainings.get_trials(deepcopy=False))
    contenders, counted = {}, set()
    for name, each in comparison.contenders.items():
        best = best_trial(each.study)
        key = "" if best is None else f"{name}/{best.number}"
        rows = outcomes[key].first_rows(len(each.test_scores)) if key in outcomes else None
        contenders[name] = replace(each, test_rows=rows)
        if rows is not None:
            counted.add(outcomes[key].n_rows)
    return replace(
        comparison,
        contenders=contenders,
        n_rows=counted.pop() if len(counted) == 1 else None,
        unit=trainings.user_attrs.get(_UNIT_KEY, comparison.unit),
    )


def with_metrics(comparison: Comparison, trainings: Study, repeat: int) -> Comparison:
    """Return a comparison whose contenders have all metrics of one of their tunings.

    Args:
        comparison: A comparison.
        trainings: The study that holds the trainings of that tuning on fresh seeds.
        repeat: Which of the tunings.
    """
    trials = trainings.get_trials(deepcopy=False)
    outcomes, score = outcomes_of(trials), metric_of(trials)
    contenders = dict(comparison.contenders)
    for name, each in comparison.contenders.items():
        if repeat >= len(each.tunings):
            continue
        tuning = each.tunings[repeat]
        best = best_trial(tuning.study)
        key = "" if best is None else f"{name}/{best.number}"
        found = outcomes[key].further_metrics(score) if key in outcomes else {}
        columns = {
            metric: tuple(of_seeds.get(i, math.nan) for i in range(len(tuning.test_scores)))
            for metric, of_seeds in found.items()
        }
        if repeat == 0:
            contenders[name] = replace(each, test_metrics=columns)
            continue
        repeats = list(each.repeats)
        repeats[repeat - 1] = replace(repeats[repeat - 1], test_metrics=columns)
        contenders[name] = replace(each, repeats=tuple(repeats))
    return replace(comparison, contenders=contenders)


def _test_seed(seed: int, index: int) -> int:
    return derive_seed(seed, index, "test")
