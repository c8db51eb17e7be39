"""How a study marks what was imported into it: runs that another tool made."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from optuna import Study
    from optuna.trial import FrozenTrial

__all__ = ["IMPORT_KEY", "ROW_KEY", "RUN_KEY", "imported_baseline", "run_label"]

IMPORT_KEY = "hpolab:import"
"""Of a study: where its runs are from."""

RUN_KEY = "hpolab:run"
"""The id of the foreign run that a trial was imported from; its params are the trainer's own."""

ROW_KEY = "hpolab:row"
"""Of a run that no column names: its row in the table, from 1. Its id is made of its cells then."""


def run_label(trial: FrozenTrial, study_attrs: Mapping[str, Any]) -> str | None:
    """Return what to call an imported run: "run 8", or "row 3" where no column names the runs.

    Args:
        trial: The trial.
        study_attrs: The user attributes of its study.

    Returns:
        None for any other trial, and for a row if the table was imported again with its rows in
        another order: two runs may have the same row then.
    """
    mark = study_attrs.get(IMPORT_KEY)
    if mark is None or RUN_KEY not in trial.user_attrs:
        return None
    if mark.get("run_id") is not None:
        return f"run {trial.user_attrs[RUN_KEY]}"
    row = trial.user_attrs.get(ROW_KEY)
    return None if row is None or mark.get("is_reordered") else f"row {row}"


def imported_baseline(study: Study) -> FrozenTrial | None:
    """Return the trial of the run that was named the baseline, None where none was."""
    mark = study.user_attrs.get(IMPORT_KEY)
    if mark is None or mark["baseline"] is None:
        return None
    trials = study.get_trials(deepcopy=False)
    return next((t for t in trials if t.user_attrs.get(RUN_KEY) == mark["baseline"]), None)
