"""Contender: one side of a comparison, as its studies tell."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from optuna.trial import TrialState

from hpolab.analysis.wording import listed, short
from hpolab.display import Displayed
from hpolab.errors import InvalidArgument
from hpolab.search_space.space import SearchSpace
from hpolab.studies.recipe import read_recipe
from hpolab.studies.trials import best_trial

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from optuna import Study
    from optuna.trial import FrozenTrial

__all__ = [
    "TEST_KEY",
    "TUNED_KEY",
    "Contender",
    "contender_of",
    "random_draws",
    "required_space",
    "stored_scores",
]

TEST_KEY = "hpolab:test"
"""A contender's scores on the test data, by number of the trial and index of the seed."""

TUNED_KEY = "hpolab:tuned"
"""The number of trials that a contender's finished tuning was asked for."""

_RANDOM = ("random", "RandomSampler")


@dataclass(frozen=True, repr=False)
class Contender(Displayed):
    """One side of a comparison and what its study has found.

    Attributes:
        name: Its name, such as "adamw".
        study: Its study.
        values: The trials' values in order of number, (n,), NaN where a trial has none.
        default_value: The value of the default configuration, trial 0; None if it has none.
        best_value: The best value; None if no trial is complete.
        best_params: The best configuration, in the trainer's units; None if no trial is complete.
        test_scores: Scores of the best configuration on the test data, one for each fresh seed; NaN
            where the training diverged or failed.
        test_rows: What each test row contributes to these scores, (n_seeds, n_rows); None if that
            is not known.
        n_trials: The number of trials that its tuning was asked for and has finished; None if
            nobody knows.
        repeats: Its further tunings, each a contender of the same name with a study of its own; the
            attributes above are those of the first.
        test_metrics: All other metrics of these trainings on the test data: name -> one for each
            fresh seed, NaN where there is none.
    """

    name: str
    study: Study = field(repr=False)
    values: NDArray[np.float64] = field(repr=False)
    default_value: float | None
    best_value: float | None
    best_params: Mapping[str, Any] | None
    test_scores: tuple[float, ...] = ()
    n_trials: int | None = None
    repeats: tuple[Contender, ...] = ()
    test_rows: NDArray[np.float64] | None = field(default=None, repr=False, compare=False)
    test_metrics: Mapping[str, tuple[float, ...]] = field(
        default_factory=dict, repr=False, compare=False
    )

    @property
    def test_score(self) -> float | None:
        """The mean of the `test_scores`; None if there are none."""
        return math.fsum(self.test_scores) / len(self.test_scores) if self.test_scores else None

    @property
    def tunings(self) -> tuple[Contender, ...]:
        """All its tunings, itself the first."""
        return (replace(self, repeats=()), *self.repeats)

    def values_by(self, parameter: str) -> tuple[list[Any], NDArray[np.float64]]:
        """Return a parameter's values, in the trainer's units, and the values of the trials.

        Those of all its tunings; complete trials without the parameter are left out.
        """
        rows = [
            (required_space(tuning.study).from_trial(trial.params).get(parameter), trial.value)
            for tuning in self.tunings
            for trial in tuning.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        ]
        rows = [row for row in rows if row[0] is not None]
        return [row[0] for row in rows], np.array([row[1] for row in rows])

    def mean_score(self, n: int) -> float:
        """Return the mean score on the first n seeds, or the best value; NaN if there is none."""
        if n:
            return math.fsum(self.test_scores[:n]) / n if len(self.test_scores) >= n else math.nan
        return math.nan if self.best_value is None else self.best_value

    def is_copy_of(self, other: Contender) -> bool:
        """Whether another tuning has the same values and scores."""
        return np.array_equal(self.values, other.values, equal_nan=True) and np.array_equal(
            self.test_scores, other.test_scores, equal_nan=True
        )

    def _in_one_line(self) -> str:
        n = f"{len(self.values)} trials"
        tunings = f"{len(self.tunings)} tunings of {n}" if self.repeats else n
        best = (
            "none complete"
            if self.best_params is None
            else (f"best {short(self.best_value)} with {listed(self.best_params)}")
        )
        return f"{self.name}, {tunings}, {best}"


def random_draws(study: Study) -> NDArray[np.float64] | None:
    """Return the values of trials that random search has drawn; None if they are not independent.

    Whether a trial is pruned depends on those before it.
    """
    recipe = read_recipe(study)
    if recipe is None or recipe.sampler.name not in _RANDOM:
        return None
    finished = [t for t in study.get_trials(deepcopy=False) if t.state.is_finished()]
    if any(trial.state == TrialState.PRUNED for trial in finished):
        return None
    values = [
        math.nan if trial.value is None else trial.value
        for trial in finished
        if "fixed_params" not in trial.system_attrs
    ]
    return np.array(values) if values else None


def contender_of(name: str, study: Study) -> Contender:
    """Return a contender with one tuning, as its study tells."""
    finished = [t for t in study.get_trials(deepcopy=False) if t.state.is_finished()]
    values = [trial.value if trial.state == TrialState.COMPLETE else None for trial in finished]
    best = best_trial(study)
    scores = {} if best is None else stored_scores(study, best)
    return Contender(
        name=name,
        study=study,
        values=np.array(values, dtype=np.float64),
        default_value=values[0] if values else None,
        best_value=None if best is None else best.value,
        best_params=None if best is None else required_space(study).from_trial(best.params),
        test_scores=tuple(math.nan if score is None else score for score in scores.values()),
        n_trials=study.user_attrs.get(TUNED_KEY),
    )


def stored_scores(study: Study, best: FrozenTrial) -> dict[int, float | None]:
    """Return a trial's scores on the test data by the index of the seed; None for one lost."""
    stored = study.user_attrs.get(TEST_KEY, {}).get(str(best.number), {})
    return {int(index): score for index, score in stored.items()}


def required_space(study: Study) -> SearchSpace:
    """Return the search space that a study was run with.

    Raises:
        InvalidArgument: If it has none.
    """
    recipe = read_recipe(study)
    if recipe is None or recipe.search_space is None:
        raise InvalidArgument(
            f"`studies` must have been run with a search space of hpolab's, got "
            f"{study.study_name!r} without one."
        )
    return SearchSpace.from_dict(recipe.search_space)
