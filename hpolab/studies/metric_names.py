"""What a study's values are called: the metric's name, where a user has given one."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from optuna.exceptions import ExperimentalWarning

from hpolab.studies.facts import stored_facts
from hpolab.studies.imported import IMPORT_KEY

if TYPE_CHECKING:
    from optuna import Study

__all__ = ["UNNAMED", "metric_names"]

UNNAMED = "value"
"""What a study's value is called where nobody has named its metric."""


def metric_names(study: Study) -> tuple[str, ...]:
    """Return the name of each of a study's values.

    It is what ``study.set_metric_names`` was given, what the objective calls its metric, or the
    column that imported values are from. Where there is none of these, it is "value", or "value 0",
    "value 1" and so on if trials have several values.

    Example:
        >>> import optuna
        >>> metric_names(optuna.create_study())
        ('value',)
        >>> metric_names(optuna.create_study(directions=["minimize", "maximize"]))
        ('value 0', 'value 1')
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        given = study.metric_names
    n_values = len(study.directions)
    if given is not None and len(given) == n_values:
        return tuple(given)
    if n_values > 1:
        return tuple(f"{UNNAMED} {place}" for place in range(n_values))
    attrs = study.user_attrs
    imported = attrs.get(IMPORT_KEY)
    named = [
        stored_facts(attrs).get("metric"),
        imported.get("value") if isinstance(imported, dict) else None,
    ]
    return (next((name for name in named if isinstance(name, str) and name), UNNAMED),)
