"""study_overview: a study as a table, for the last line of a cell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import optuna

from hpolab.analysis.results import Result
from hpolab.analysis.wording import short
from hpolab.errors import InvalidType, check_count
from hpolab.keywords import checks_keywords
from hpolab.running.run import budget_of
from hpolab.search_space.space import UNKNOWN_SPACE, SearchSpace
from hpolab.studies.export import trainer_params
from hpolab.studies.frame import trials_frame
from hpolab.studies.metric_names import metric_names
from hpolab.studies.recipe import read_recipe
from hpolab.studies.trials import Tally, ranked, tally
from hpolab.tables import TextTable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pandas as pd
    from optuna import Study
    from optuna.trial import FrozenTrial

__all__ = ["StudyOverview", "study_overview"]


@dataclass(frozen=True, repr=False)
class StudyOverview(Result):
    """How far a study is and what it has found: `str()` of it is a table, a notebook shows it.

    Attributes:
        study: The study.
        metrics: What its values are called.
        directions: "minimize" or "maximize", one for each.
        tally: How many trials it has of each state.
        n_trials: The budget that it was last run with; None if it has none.
        best: The best trials, the best one first; of several values those that no other beats.
    """

    study: Study
    metrics: tuple[str, ...]
    directions: tuple[str, ...]
    tally: Tally
    n_trials: int | None
    best: tuple[FrozenTrial, ...]

    def table(self) -> TextTable:
        """Return the best trials with their values and parameters, by the trainer's names."""
        params = [self._tuned(trial) for trial in self.best]
        names = list(dict.fromkeys(name for each in params for name in each))
        rows = [
            [
                str(trial.number),
                *(short(value) for value in trial.values),
                *(short(of.get(name)) for name in names),
            ]
            for trial, of in zip(self.best, params, strict=True)
        ]
        return TextTable(["trial", *self.metrics, *names], rows, may_be_cut=True)

    def to_frame(self) -> pd.DataFrame:
        """Return all trials as a pandas frame: `trials_frame`.

        Raises:
            MissingExtra: If pandas is not installed.
        """
        return trials_frame(self.study)

    def _records(self) -> Iterable[Mapping[str, Any]]:
        return [self._tuned(trial) for trial in self.best]

    def _in_one_line(self) -> str:
        best = ""
        if len(self.metrics) == 1 and self.best:
            first = self.best[0]
            best = f"; best {self.metrics[0]} {short(first.value)}, of trial {first.number}"
        return f"{self.study.study_name!r}, {self._counts()}{best}"

    def _parts(self) -> list[str | TextTable]:
        aims = zip(self.metrics, self.directions, strict=True)
        aim = ", ".join(f"{metric} {direction}d" for metric, direction in aims)
        head = f"Study {self.study.study_name!r}: {self._counts()}; {aim}."
        if not self.best:
            return [f"{head} No trial is complete yet."]
        which = "The best trials" if len(self.metrics) == 1 else "Trials that no other beats"
        return [f"{head}\n{which}:", self.table()]

    def _counts(self) -> str:
        n = self.tally
        of = f" of {self.n_trials:,}" if self.n_trials is not None else ""
        states = {
            "complete": n.complete,
            "pruned": n.pruned,
            "failed": n.failed,
            "running": n.running,
            "waiting": n.waiting,
        }
        named = ", ".join(f"{number:,} {state}" for state, number in states.items() if number)
        return f"{n.finished:,}{of} trials finished" + (f" ({named})" if named else "")

    def _tuned(self, trial: FrozenTrial) -> dict[str, Any]:
        """Return what a trial has tried, in the trainer's names and units."""
        params = trainer_params(self.study, trial)
        recipe = read_recipe(self.study)
        stored = None if recipe is None else recipe.search_space
        space = UNKNOWN_SPACE if stored is None else SearchSpace.from_dict(stored)
        names = map(space.trainer_name, trial.params)
        return {name: params[name] for name in names if name in params}


@checks_keywords()
def study_overview(study: Study, *, n_best: int = 5) -> StudyOverview:
    """Sum a study up as a table: how far it is, and its best trials by the trainer's names.

    ``print`` shows it in a terminal, the last line of a cell in a notebook.

    Args:
        study: Any study. It is only read.
        n_best: How many of the best trials to show, 1 or above.

    Raises:
        InvalidType: If ``study`` is no study.
        InvalidArgument: If ``n_best`` is below 1.

    Example:
        >>> from hpolab import FunctionObjective, make_study, run
        >>> objective = FunctionObjective(
        ...     lambda params, reporter: params["x"] ** 2, search_space={"x": (0.0, 1.0)},
        ...     metric="error", direction="minimize", max_steps=1,
        ... )
        >>> study = make_study("squares", storage="memory://", objective=objective, seed=0)
        >>> run(study, objective, n_trials=3)
        >>> print(study_overview(study, n_best=2))
        Study 'squares': 3 of 3 trials finished (3 complete); error minimized.
        The best trials:
        <BLANKLINE>
        trial     error        x
        ────────────────────────
            2  0.014991  0.12244
            1  0.063439  0.25187
    """
    if not isinstance(study, optuna.Study):
        raise InvalidType(f"`study` must be an optuna.Study, got {type(study).__name__}.")
    check_count("n_best", n_best)
    trials = study.get_trials(deepcopy=False)
    counts = tally(trials)
    return StudyOverview(
        study=study,
        metrics=metric_names(study),
        directions=tuple(each.name.lower() for each in study.directions),
        tally=counts,
        n_trials=budget_of(study.user_attrs, counts.finished),
        best=tuple(_best(study, trials)[:n_best]),
    )


def _best(study: Study, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    if len(study.directions) > 1:
        return list(study.best_trials)
    return ranked(trials, study.direction)
