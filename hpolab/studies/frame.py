"""trials_frame: a study's trials as a data frame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hpolab.errors import InvalidArgument, needs
from hpolab.keywords import checks_keywords
from hpolab.studies.export import delivered_params
from hpolab.studies.trials import METRICS_KEY

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    from optuna import Study
    from optuna.trial import FrozenTrial

__all__ = ["trials_frame"]


@checks_keywords()
def trials_frame(study: Study) -> pd.DataFrame:
    """Return the trials of a study as a table: a row a trial, its number as the index.

    The columns are `state` ("complete", "pruned", "failed", "running", "waiting"), `value` (of a
    pruned trial its last report; `value_0`, `value_1` where a study has several),
    `duration_seconds`, the parameters under the trainer's names and in its units, fixed ones
    included, and the metrics that the trials have recorded. What a trial does not have is missing
    (NaN). Where a name is taken already, " (parameter)" or " (metric)" is put behind it.

    Args:
        study: Any study.

    Raises:
        MissingExtra: If pandas is not installed.

    Example:
        >>> from hpolab import FunctionObjective, SearchSpace, make_study, run
        >>> objective = FunctionObjective(
        ...     lambda params, reporter: params["rho"],
        ...     search_space=SearchSpace({"rho": (0.5, 0.999), "size": 4}, one_minus=["rho"]),
        ...     direction="maximize", max_steps=1,
        ... )
        >>> study = make_study("rho", storage="memory://", objective=objective, seed=0)
        >>> run(study, objective, n_trials=3)
        >>> list(trials_frame(study))
        ['state', 'value', 'duration_seconds', 'rho', 'size']
    """
    with needs("`trials_frame`", "pandas", "frames"):
        import pandas as pd

    trials = study.get_trials(deepcopy=False)
    rows = []
    for trial in trials:
        row = _outcome(trial, len(study.directions))
        _add(row, _params(study, trial), "parameter")
        _add(row, trial.user_attrs.get(METRICS_KEY, {}), "metric")
        rows.append(row)
    index = pd.Index([trial.number for trial in trials], name="number")
    return pd.DataFrame(rows, index=index)


def _outcome(trial: FrozenTrial, n_values: int) -> dict[str, Any]:
    duration = trial.duration
    values = trial.values or [None] * n_values
    names = ["value"] if n_values == 1 else [f"value_{place}" for place in range(n_values)]
    return {
        "state": _STATES.get(trial.state.name, trial.state.name.lower()),
        **dict(zip(names, values, strict=True)),
        "duration_seconds": None if duration is None else duration.total_seconds(),
    }


_STATES = {"FAIL": "failed"}


def _params(study: Study, trial: FrozenTrial) -> Mapping[str, Any]:
    # One that waits, or has failed as it was suggested, has not all of its parameters yet.
    try:
        return delivered_params(study, trial)
    except InvalidArgument:
        return trial.params


def _add(row: dict[str, Any], values: Mapping[str, Any], kind: str) -> None:
    for name, value in values.items():
        row[f"{name} ({kind})" if name in row else name] = value
