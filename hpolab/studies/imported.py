"""How a study marks what was imported into it: runs that another tool made."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

__all__ = ["IMPORT_KEY", "RUN_KEY", "imported_baseline"]

IMPORT_KEY = "hpolab:import"
"""Of a study: where its runs are from."""

RUN_KEY = "hpolab:run"
"""The id of the foreign run that a trial was imported from; its params are the trainer's own."""


def imported_baseline(study: Study) -> FrozenTrial | None:
    """Return the trial of the run that was named the baseline, None where none was."""
    mark = study.user_attrs.get(IMPORT_KEY)
    if mark is None or mark["baseline"] is None:
        return None
    trials = study.get_trials(deepcopy=False)
    return next((t for t in trials if t.user_attrs.get(RUN_KEY) == mark["baseline"]), None)
